//! What is told besides findings, and how.

use std::collections::BTreeMap;

use ottla_checker::{Anomaly, Options, Step, Verdict, check, check_with};

use crate::support::{expect_valid, process, read_all, recorder, sent_by_someone};

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_history_of_nothing_is_not_valid() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    recorder.client().assign([x], true).ok();
    assert_eq!(check(&recorder.finish()).unwrap().verdict, Verdict::Unknown);
    let recorder = crate::support::recorder();
    sent_by_someone(&recorder, recorder.key("x", 0), [1]);
    recorder.client().poll().ok();
    let report = check(&recorder.finish()).unwrap();
    assert_eq!(report.verdict, Verdict::Unknown);
    assert!(!report.is_valid());
    assert_eq!(report.counts.unknown, BTreeMap::from([("timed out".to_owned(), 1)]));
}

#[test]
fn worst_lag() {
    // The clock of the recorder moves by a second for each event.
    let recorder = recorder();
    let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
    let (mut one, mut other) = (recorder.client(), recorder.client());
    one.assign([x], false).ok(); // 0, 1
    one.poll().ok(); // 2, 3
    one.send(x, 1).sent(0).ok(); // 4, 5: not empty since 5
    one.poll().ok(); // 6, 7: behind by 1
    other.transact([Step::send(x, 3), Step::send(x, 4)]).sent(2).sent(3).ok(); // 8, 9
    one.poll().ok(); // 10, 11: behind by 5
    one.poll().polled([(x, 0, 1), (x, 1, 2)]).ok(); // 12, 13: 2 was not the last since 9, behind by 3
    one.assign([x, y], false).ok(); // 14, 15
    one.poll().ok(); // 16, 17: behind by 7
    one.assign([y], false).ok(); // 18, 19
    one.assign([x], false).ok(); // 20, 21
    one.poll().ok(); // 22, 23: behind by 17, as it was empty-handed at 5
    one.poll().polled([(x, 0, 1), (x, 1, 2), (x, 2, 3), (x, 3, 4)]).ok(); // 24, 25
    other.send(x, 2).info("timed out");
    let lag = check(&recorder.finish()).unwrap().worst_lag.unwrap();
    assert_eq!((lag.process, lag.key, lag.time_ns, lag.lag_ns), (process(0), x, 22 * SECOND, 17 * SECOND));
}

#[test]
fn whoever_rewinds_is_not_behind_before_it_was_at_the_end() {
    let history = |rewinds| {
        let recorder = recorder();
        let x = recorder.key("x", 0);
        for value in 0..3 {
            recorder.client().send(x, value).sent(value as i64).ok();
        }
        let mut consumer = recorder.client();
        consumer.assign([x], rewinds).ok();
        for value in 0..3 {
            consumer.poll().polled([(x, value as i64, value)]).ok();
        }
        check(&recorder.finish()).unwrap().worst_lag
    };
    assert_eq!(history(true), None);
    assert!(history(false).is_some());
}

#[test]
fn consume_counts_are_by_process_while_subscribed() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    let records: Vec<_> = (0..3).map(|value| (x, value as i64, value)).collect();
    for (_, offset, value) in &records {
        recorder.client().send(x, *value).sent(*offset).ok();
    }
    read_all(&recorder, &records);
    let mut consumer = recorder.client();
    consumer.subscribe([x]).ok();
    consumer.poll().polled(records[..2].to_vec()).ok();
    consumer.poll().polled(records[1..2].to_vec()).ok();
    let mut another = recorder.client();
    another.subscribe([x]).ok();
    another.poll().polled(records[1..].to_vec()).ok();
    another.assign([x], true).ok();
    another.poll().polled(records).ok();
    let report = check(&recorder.finish()).unwrap();
    assert_eq!(report.consume_counts, BTreeMap::from([(1, 3), (2, 1)]));
}

#[test]
fn findings_are_counted_beyond_those_kept() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    for value in 0..20 {
        recorder.client().send(x, value).sent(value as i64).ok();
    }
    sent_by_someone(&recorder, x, [20]);
    read_all(&recorder, &[(x, 20, 20)]);
    let options = Options { findings_per_anomaly: 3, ..Options::default() };
    let report = check_with(&recorder.finish(), &options).unwrap();
    assert_eq!(report.forbidden(Anomaly::LostWrite), 20);
    assert_eq!(report.findings().filter(|finding| finding.anomaly() == Anomaly::LostWrite).count(), 3);
    let unseen = &report.anomalies[1].shown[0].explanation;
    assert_eq!(
        unseen,
        "x-0: 20 acknowledged, given to nobody: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, …"
    );
    assert!(report.to_string().contains("- and 17 more"), "{report}");
}

#[test]
fn the_text_says_what_happened_around_a_finding() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    for value in 0..20 {
        recorder.client().send(x, value).sent(value as i64).ok();
    }
    let all: Vec<_> = (0..20).map(|value| (x, value as i64, value)).filter(|(_, offset, _)| *offset != 10).collect();
    let mut consumer = recorder.client();
    consumer.assign([x], true).ok();
    consumer.poll().polled(all).ok();
    let text = check(&recorder.finish()).unwrap().to_string();
    let expected = "
lost-write
- x-0: 10 at offset 10, sent by operation 10, was given to nobody, though operation 21 read on to 19
    operation 7 of process 7, ok, 14.000000 s to 15.000000 s: sent 7@7
    operation 8 of process 8, ok, 16.000000 s to 17.000000 s: sent 8@8
    operation 9 of process 9, ok, 18.000000 s to 19.000000 s: sent 9@9
    operation 10 of process 10, ok, 20.000000 s to 21.000000 s: sent 10@10
    operation 11 of process 11, ok, 22.000000 s to 23.000000 s: sent 11@11
    operation 12 of process 12, ok, 24.000000 s to 25.000000 s: sent 12@12
    operation 13 of process 13, ok, 26.000000 s to 27.000000 s: sent 13@13
    operation 21 of process 20, ok, 42.000000 s to 43.000000 s: polled 7@7, polled 8@8, polled 9@9, polled 11@11, polled 12@12, polled 13@13
";
    assert!(text.contains(expected), "{text}");
    assert!(text.starts_with("invalid: lost-write (1), unseen (1), int-poll-skip (1)\n"), "{text}");
    let skip = "operation 21 was given 9 at offset 9, then 11 at offset 11, leaving out 1: 10";
    assert!(text.contains(skip), "{text}");
}

#[test]
fn json_says_what_the_text_says() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    recorder.client().send(x, 1).sent(0).ok();
    sent_by_someone(&recorder, x, [2]);
    read_all(&recorder, &[(x, 1, 2)]);
    let mut json = Vec::new();
    check(&recorder.finish()).unwrap().write_json(&mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["verdict"], "invalid");
    assert_eq!(json["keys"], serde_json::json!(["x-0"]));
    assert_eq!(json["anomalies"][0]["anomaly"], "lost-write");
    assert_eq!(
        json["anomalies"][0]["shown"][0]["finding"],
        serde_json::json!({"key": 0, "value": 1, "offset": 0, "writer": 0, "read_offset": 1, "reader": 2})
    );
    assert_eq!(json["counts"]["operations"]["send"], serde_json::json!({"ok": 1, "fail": 0, "info": 1}));
}

#[test]
fn names_are_told_apart_and_all_listed() {
    let mut names: Vec<_> = Anomaly::ALL.iter().map(|anomaly| anomaly.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Anomaly::ALL.len());
    let allowed = |subscribed, orders_writes| {
        let allowed = Anomaly::ALL.into_iter().filter(move |anomaly| anomaly.is_allowed(subscribed, orders_writes));
        allowed.map(Anomaly::name).collect::<Vec<_>>()
    };
    assert_eq!(allowed(false, false), ["int-send-skip", "G0", "G0-process", "G0-realtime"]);
    assert_eq!(
        allowed(true, true),
        [
            "poll-skip",
            "nonmonotonic-poll",
            "int-send-skip",
            "G0",
            "G0-process",
            "G0-realtime",
            "G1c",
            "G1c-process",
            "G1c-realtime"
        ]
    );
}

#[test]
fn a_valid_report_is_short() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    recorder.client().send(x, 1).sent(0).ok();
    read_all(&recorder, &[(x, 0, 1)]);
    let text = expect_valid(&recorder, &[]).to_string();
    assert!(text.starts_with("valid\n2 processes, 1 keys, 3.000000 s; 1 records acknowledged, 1 polled\n"), "{text}");
    assert!(text.contains("\nno anomalies\n"), "{text}");
}
