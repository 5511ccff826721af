//! Planted: records that are missing, in two places, or should not be there.

use ottla_checker::{Finding, Step, Value};

use crate::support::{expect, expect_invalid, expect_valid, read_all, recorder, sent_by_someone, values};

#[test]
fn a_clean_history_has_no_findings() {
    let recorder = recorder();
    let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
    let mut producer = recorder.client();
    producer.send(x, 1).sent(0).ok();
    producer.transact([Step::send(x, 2), Step::send(y, 3)]).sent(1).sent(0).ok();
    producer.transact([Step::send(x, 4), Step::send(y, 5)]).fail("aborted");
    producer.send(y, 6).info("timed out");
    let mut consumer = recorder.client();
    consumer.assign([x, y], true).ok();
    consumer.poll().ok();
    consumer.poll().polled([(x, 0, 1), (x, 1, 2), (y, 0, 3)]).ok();
    // Offset 1 holds the marker of the transaction, 2 and 3 an aborted record and its marker.
    consumer.poll().polled([(y, 4, 6)]).ok();
    expect_valid(&recorder, &[]);
}

#[test]
fn lost_write() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    let mut producer = recorder.client();
    let first = producer.send(x, 1).sent(0).ok();
    let second = producer.send(x, 2).sent(1).ok();
    sent_by_someone(&recorder, x, [3]);
    producer.send(x, 4).sent(3).ok();
    let reader = read_all(&recorder, &[(x, 2, 3)]);
    let lost = |value, offset, writer| Finding::LostWrite {
        key: x,
        value: Value(value),
        offset,
        writer,
        read_offset: 2,
        reader,
    };
    // 4 is beyond what anybody read: it may only be late.
    let unseen = Finding::Unseen { key: x, count: 3, values: values(&[1, 2, 4]) };
    expect_invalid(&recorder, &[lost(1, 0, first), lost(2, 1, second), unseen]);
}

#[test]
fn lost_write_where_another_is_at_its_offset() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    let mut producer = recorder.client();
    let writer = producer.send(x, 1).sent(0).ok();
    recorder.client().transact([Step::send(x, 2), Step::send(x, 3)]).sent(0).sent(2).ok();
    let reader = read_all(&recorder, &[(x, 0, 2), (x, 2, 3)]);
    expect_invalid(
        &recorder,
        &[
            Finding::LostWrite { key: x, value: Value(1), offset: 0, writer, read_offset: 2, reader },
            Finding::Unseen { key: x, count: 1, values: values(&[1]) },
            Finding::InconsistentOffsets { key: x, offset: 0, count: 2, values: values(&[1, 2]) },
        ],
    );
}

#[test]
fn a_transaction_of_which_one_record_was_seen_has_lost_the_other() {
    let history = |somebody_sees_the_other: bool| {
        let recorder = recorder();
        let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
        let steps = [Step::send(x, 1), Step::send(y, 2)];
        let writer = recorder.client().transact(steps).sent_nth(1, 0).info("timed out");
        sent_by_someone(&recorder, y, [3]);
        if somebody_sees_the_other {
            read_all(&recorder, &[(x, 0, 1)]);
        }
        let reader = read_all(&recorder, &[(y, 1, 3)]);
        (recorder, y, writer, reader)
    };
    let (recorder, ..) = history(false);
    expect(&recorder, &[]);
    let (recorder, y, writer, reader) = history(true);
    expect_invalid(
        &recorder,
        &[Finding::LostWrite { key: y, value: Value(2), offset: 0, writer, read_offset: 1, reader }],
    );
}

#[test]
fn unseen() {
    let recorder = recorder();
    let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
    let mut producer = recorder.client();
    producer.send(x, 1).sent(0).ok();
    producer.send(x, 2).sent(1).ok();
    // Without an offset, as with acks=0: the record is not in any order, but sent.
    producer.send(y, 3).ok();
    read_all(&recorder, &[(x, 0, 1)]);
    let report = expect_invalid(
        &recorder,
        &[
            Finding::Unseen { key: x, count: 1, values: values(&[2]) },
            Finding::Unseen { key: y, count: 1, values: values(&[3]) },
        ],
    );
    let course: Vec<_> = report.unseen_over_time.iter().map(|point| point.unseen).collect();
    assert_eq!(course, [1, 2, 3, 2]);
}

#[test]
fn what_was_polled_before_it_was_acknowledged_is_seen() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    let mut producer = recorder.client();
    let send = producer.send(x, 1);
    read_all(&recorder, &[(x, 0, 1)]);
    send.sent(0).ok();
    let report = expect_valid(&recorder, &[]);
    assert!(report.unseen_over_time.iter().all(|point| point.peak == 0));
}

#[test]
fn never_sent() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    let reader = read_all(&recorder, &[(x, 0, 9)]);
    read_all(&recorder, &[(x, 0, 9)]);
    expect_invalid(&recorder, &[Finding::NeverSent { key: x, value: Value(9), offset: 0, reader }]);
}

#[test]
fn aborted_read() {
    let recorder = recorder();
    let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
    let writer = recorder.client().transact([Step::send(x, 2), Step::send(y, 3)]).fail("aborted");
    let reader = read_all(&recorder, &[(x, 0, 2)]);
    expect_invalid(&recorder, &[Finding::AbortedRead { key: x, value: Value(2), offset: 0, writer, reader }]);
}

#[test]
fn precommitted_read() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    let mut client = recorder.client();
    let operation = client.transact([Step::send(x, 1), Step::poll()]).sent(0).polled([(x, 0, 1)]).ok();
    expect_invalid(&recorder, &[Finding::PrecommittedRead { key: x, value: Value(1), offset: 0, operation }]);
}

#[test]
fn duplicate() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    recorder.client().send(x, 1).sent(1).ok();
    sent_by_someone(&recorder, x, [2]);
    read_all(&recorder, &[(x, 2, 2), (x, 3, 1)]);
    expect_invalid(&recorder, &[Finding::Duplicate { key: x, value: Value(1), count: 2, offsets: vec![1, 3] }]);
}

#[test]
fn every_duplicate_is_found_where_offsets_are_inconsistent_too() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    for value in 0..5 {
        recorder.client().send(x, value).sent(0).ok();
        read_all(&recorder, &[(x, 1, value)]);
    }
    let duplicate = |value| Finding::Duplicate { key: x, value: Value(value), count: 2, offsets: vec![0, 1] };
    let inconsistent =
        |offset| Finding::InconsistentOffsets { key: x, offset, count: 5, values: values(&[0, 1, 2, 3, 4]) };
    let mut expected: Vec<_> = (0..5).map(duplicate).collect();
    expected.extend([inconsistent(0), inconsistent(1)]);
    expect_invalid(&recorder, &expected);
}

#[test]
fn polls_of_aborted_transactions_count_but_not_their_sends() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    recorder.client().send(x, 1).sent(1).ok();
    recorder.client().send(x, 2).sent(2).fail("aborted");
    let mut consumer = recorder.client();
    consumer.poll().polled([(x, 11, 1), (x, 12, 2)]).fail("aborted");
    expect_invalid(
        &recorder,
        &[
            Finding::Unseen { key: x, count: 1, values: values(&[1]) },
            Finding::Duplicate { key: x, value: Value(1), count: 2, offsets: vec![1, 11] },
        ],
    );
}

#[test]
fn inconsistent_offsets() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    recorder.client().send(x, 1).sent(0).ok();
    sent_by_someone(&recorder, x, [2]);
    read_all(&recorder, &[(x, 0, 1)]);
    read_all(&recorder, &[(x, 0, 2)]);
    expect_invalid(&recorder, &[Finding::InconsistentOffsets { key: x, offset: 0, count: 2, values: values(&[1, 2]) }]);
}

#[test]
fn the_offset_of_a_send_of_unknown_outcome_counts_once_it_is_known_to_have_happened() {
    let history = |seen: bool| {
        let recorder = recorder();
        let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
        recorder.client().transact([Step::send(x, 1), Step::send(y, 1)]).sent(0).info("timed out");
        recorder.client().send(x, 2).sent(0).ok();
        read_all(&recorder, &[(x, 0, 2)]);
        if seen {
            read_all(&recorder, &[(y, 5, 1)]);
        }
        (recorder, x)
    };
    let (recorder, _) = history(false);
    expect_valid(&recorder, &[]);
    let (recorder, x) = history(true);
    let report = ottla_checker::check(&recorder.finish()).unwrap();
    let inconsistent = Finding::InconsistentOffsets { key: x, offset: 0, count: 2, values: values(&[1, 2]) };
    assert!(report.findings().any(|found| *found == inconsistent), "{report}");
}
