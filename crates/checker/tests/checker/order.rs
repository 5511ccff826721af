//! Planted: polls and sends that do not follow the log.

use ottla_checker::{
    Anomaly, Because, Client, Cycle, CycleStep, Finding, Jump, Key, OperationId, Recorder, Step, Value,
};

use crate::support::{expect, expect_invalid, expect_valid, place, read_all, recorder, values};

/// Values 0, 1, 2, … at these offsets, which somebody reads.
fn with_records(records: u64) -> (Recorder, Key) {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    let all: Vec<_> = (0..records).map(|value| (x, value as i64, value)).collect();
    for (_, offset, value) in &all {
        recorder.client().send(x, *value).sent(*offset).ok();
    }
    read_all(&recorder, &all);
    (recorder, x)
}

/// From one record of `with_records` to another, by these operations.
fn jump(key: Key, from: (OperationId, u64), to: (OperationId, u64)) -> Jump {
    let place = |(operation, value): (OperationId, u64)| place(operation, value as i64, value);
    let skipped: Vec<_> = (from.1 + 1..to.1).collect();
    let delta = to.1 as i64 - from.1 as i64;
    Jump { key, from: place(from), to: place(to), delta, skipped: values(&skipped) }
}

fn polled(client: &mut Client, key: Key, records: &[u64]) -> OperationId {
    client.poll().polled(records.iter().map(|value| (key, *value as i64, *value))).ok()
}

#[test]
fn int_poll_skip() {
    let (recorder, x) = with_records(3);
    let at_once = recorder.client().poll().polled([(x, 0, 0), (x, 2, 2)]).ok();
    let steps = [Step::poll(), Step::poll()];
    let one_by_one = recorder.client().transact(steps).polled([(x, 0, 0)]).polled([(x, 2, 2)]).ok();
    expect_invalid(
        &recorder,
        &[
            Finding::IntPollSkip(jump(x, (at_once, 0), (at_once, 2))),
            Finding::IntPollSkip(jump(x, (one_by_one, 0), (one_by_one, 2))),
        ],
    );
}

#[test]
fn int_poll_skip_is_no_matter_where_the_partition_was_rebalanced() {
    let (recorder, x) = with_records(3);
    let mut consumer = recorder.client();
    consumer.poll().polled([(x, 0, 0), (x, 2, 2)]).rebalanced([x]).ok();
    expect_valid(&recorder, &[]);
}

#[test]
fn int_nonmonotonic_poll() {
    let (recorder, x) = with_records(3);
    let back = recorder.client().poll().polled([(x, 2, 2), (x, 0, 0)]).ok();
    let steps = [Step::poll(), Step::poll()];
    let again = recorder.client().transact(steps).polled([(x, 1, 1), (x, 2, 2)]).polled([(x, 2, 2)]).ok();
    expect_invalid(
        &recorder,
        &[
            Finding::IntNonmonotonicPoll(jump(x, (back, 2), (back, 0))),
            Finding::IntNonmonotonicPoll(jump(x, (again, 2), (again, 2))),
        ],
    );
}

#[test]
fn poll_skip() {
    let (recorder, x) = with_records(8);
    let mut consumer = recorder.client();
    let first = polled(&mut consumer, x, &[0, 1]);
    let second = polled(&mut consumer, x, &[3]);
    let third = polled(&mut consumer, x, &[7]);
    expect_invalid(
        &recorder,
        &[Finding::PollSkip(jump(x, (first, 1), (second, 3))), Finding::PollSkip(jump(x, (second, 3), (third, 7)))],
    );
}

/// What is between two polls that skip a record.
fn skip_after(between: impl FnOnce(&mut Client, Key, Key)) -> (Recorder, Key, OperationId, OperationId) {
    let (recorder, x) = with_records(3);
    let y = recorder.key("y", 0);
    let mut consumer = recorder.client();
    let first = polled(&mut consumer, x, &[0]);
    between(&mut consumer, x, y);
    let second = polled(&mut consumer, x, &[2]);
    (recorder, x, first, second)
}

#[test]
fn an_assignment_keeps_the_position_of_what_it_keeps() {
    let (recorder, x, first, second) = skip_after(|consumer, x, y| {
        consumer.assign([x, y], false).ok();
    });
    expect_invalid(&recorder, &[Finding::PollSkip(jump(x, (first, 0), (second, 2)))]);

    let (recorder, ..) = skip_after(|consumer, _, y| {
        consumer.assign([y], false).ok();
    });
    expect_valid(&recorder, &[]);
    let (recorder, ..) = skip_after(|consumer, x, _| {
        consumer.assign([x], true).ok();
    });
    expect_valid(&recorder, &[]);
    let (recorder, ..) = skip_after(|consumer, _, _| consumer.crash());
    expect_valid(&recorder, &[]);
    let (recorder, ..) = skip_after(|consumer, _, _| consumer.renew());
    expect_valid(&recorder, &[]);

    // What failed has changed nothing.
    let (recorder, x, first, second) = skip_after(|consumer, _, y| {
        consumer.assign([y], false).fail("refused");
    });
    expect_invalid(&recorder, &[Finding::PollSkip(jump(x, (first, 0), (second, 2)))]);
}

#[test]
fn whoever_subscribes_may_skip_and_go_back() {
    let (recorder, x, first, second) = skip_after(|consumer, x, _| {
        consumer.subscribe([x]).ok();
    });
    let report = expect_valid(&recorder, &[Finding::PollSkip(jump(x, (first, 0), (second, 2)))]);
    assert!(report.to_string().contains("(allowed)"), "{report}");

    let (recorder, x) = with_records(3);
    let mut consumer = recorder.client();
    consumer.subscribe([x]).ok();
    let first = polled(&mut consumer, x, &[0, 1]);
    let second = polled(&mut consumer, x, &[1, 2]);
    expect_valid(&recorder, &[Finding::NonmonotonicPoll(jump(x, (first, 1), (second, 1)))]);
}

#[test]
fn an_assignment_ends_what_a_subscription_allowed() {
    let (recorder, x) = with_records(3);
    let mut consumer = recorder.client();
    consumer.subscribe([x]).ok();
    consumer.assign([x], true).ok();
    let first = polled(&mut consumer, x, &[0]);
    let second = polled(&mut consumer, x, &[2]);
    expect_invalid(&recorder, &[Finding::PollSkip(jump(x, (first, 0), (second, 2)))]);
}

#[test]
fn an_aborted_transaction_is_read_again() {
    let records = |x, values: &[u64]| values.iter().map(|value| (x, *value as i64, *value)).collect::<Vec<_>>();

    let (recorder, x) = with_records(3);
    let mut consumer = recorder.client();
    polled(&mut consumer, x, &[0]);
    consumer.poll().polled(records(x, &[1, 2])).fail("aborted");
    consumer.poll().polled(records(x, &[1, 2])).fail("aborted");
    polled(&mut consumer, x, &[1, 2]);
    expect_valid(&recorder, &[]);

    let (recorder, x) = with_records(6);
    let mut consumer = recorder.client();
    let stood = polled(&mut consumer, x, &[0]);
    consumer.poll().polled(records(x, &[1, 2])).fail("aborted");
    // Both should have begun with 1.
    let failed = consumer.poll().polled(records(x, &[3, 4])).fail("aborted");
    let unknown = consumer.poll().polled(records(x, &[5])).info("timed out");
    expect_invalid(
        &recorder,
        &[Finding::PollSkip(jump(x, (stood, 0), (failed, 3))), Finding::PollSkip(jump(x, (stood, 0), (unknown, 5)))],
    );
}

#[test]
fn nonmonotonic_poll() {
    let (recorder, x) = with_records(4);
    let mut consumer = recorder.client();
    let first = polled(&mut consumer, x, &[0, 1, 2]);
    let second = polled(&mut consumer, x, &[1, 2, 3]);
    expect_invalid(&recorder, &[Finding::NonmonotonicPoll(jump(x, (first, 2), (second, 1)))]);
}

#[test]
fn a_duplicate_is_no_skip() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    for value in 0..3 {
        recorder.client().send(x, value).sent(value as i64).ok();
    }
    read_all(&recorder, &[(x, 0, 0), (x, 1, 1), (x, 2, 2), (x, 3, 0)]);
    let value = Value(0);
    expect_invalid(&recorder, &[Finding::Duplicate { key: x, value, count: 2, offsets: vec![0, 3] }]);
}

#[test]
fn int_send_skip_is_usual() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    // Where 3 is nobody told its sender, but somebody has seen it.
    let sender = recorder.client().transact([Step::send(x, 1), Step::send(x, 3)]).sent(1).ok();
    let other = recorder.client().send(x, 2).info("timed out");
    read_all(&recorder, &[(x, 1, 1), (x, 2, 2), (x, 3, 3)]);
    let because = |before, after| Because::Ww { key: x, before: Value(before), after: Value(after) };
    let steps = vec![
        CycleStep { from: sender, to: other, because: because(1, 2) },
        CycleStep { from: other, to: sender, because: because(2, 3) },
    ];
    expect_valid(
        &recorder,
        &[
            Finding::IntSendSkip(jump(x, (sender, 1), (sender, 3))),
            Finding::Cycle(Cycle { anomaly: Anomaly::G0, steps }),
        ],
    );
}

#[test]
fn int_nonmonotonic_send() {
    let recorder = recorder();
    let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
    let told = recorder.client().transact([Step::send(x, 2), Step::send(x, 1)]).sent(2).sent(1).ok();
    let seen = recorder.client().transact([Step::send(y, 2), Step::send(y, 1)]).info("timed out");
    read_all(&recorder, &[(x, 1, 1), (x, 2, 2), (y, 1, 1), (y, 2, 2)]);
    let back = |key, operation| Finding::IntNonmonotonicSend(jump(key, (operation, 2), (operation, 1)));
    expect_invalid(&recorder, &[back(x, told), back(y, seen)]);
}

#[test]
fn nonmonotonic_send() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    let mut producer = recorder.client();
    let first = producer.transact([Step::send(x, 3), Step::send(x, 4)]).sent(3).sent(4).ok();
    // What the consumer has does not matter to the producer.
    producer.assign([recorder.key("y", 0)], false).ok();
    let second = producer.transact([Step::send(x, 1), Step::send(x, 2)]).sent(1).sent(2).ok();
    read_all(&recorder, &[(x, 1, 1), (x, 2, 2), (x, 3, 3), (x, 4, 4)]);
    // The same by the order of writes.
    let steps = vec![
        CycleStep { from: first, to: second, because: Because::Process },
        CycleStep { from: second, to: first, because: Because::Ww { key: x, before: Value(2), after: Value(3) } },
    ];
    expect_invalid(
        &recorder,
        &[
            Finding::NonmonotonicSend(jump(x, (first, 4), (second, 1))),
            Finding::Cycle(Cycle { anomaly: Anomaly::G0Process, steps }),
        ],
    );
}

#[test]
fn what_others_send_in_between_is_no_matter() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    let mut producer = recorder.client();
    producer.send(x, 0).sent(0).ok();
    recorder.client().send(x, 1).sent(1).ok();
    producer.send(x, 2).sent(2).ok();
    read_all(&recorder, &[(x, 0, 0), (x, 1, 1), (x, 2, 2)]);
    expect(&recorder, &[]);
}
