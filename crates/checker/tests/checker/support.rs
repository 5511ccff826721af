//! A recorder with a clock that counts, and a check that compares everything that was found.

use std::sync::atomic::{AtomicU64, Ordering};

use ottla_checker::{Finding, Key, OperationId, Place, Process, Recorder, Report, Value, Verdict, check};

/// Each look at its clock is one second later.
pub fn recorder() -> Recorder {
    let now = AtomicU64::new(0);
    Recorder::new(move || now.fetch_add(1, Ordering::Relaxed) * 1_000_000_000)
}

/// Exactly these findings, and the verdict that follows from them.
#[track_caller]
pub fn expect(recorder: &Recorder, expected: &[Finding]) -> Report {
    let report = check(&recorder.finish()).unwrap();
    let found: Vec<_> = report.findings().cloned().collect();
    assert_eq!(found, expected, "{report}");
    report
}

#[track_caller]
pub fn expect_invalid(recorder: &Recorder, expected: &[Finding]) -> Report {
    let report = expect(recorder, expected);
    assert_eq!(report.verdict, Verdict::Invalid, "{report}");
    report
}

#[track_caller]
pub fn expect_valid(recorder: &Recorder, expected: &[Finding]) -> Report {
    let report = expect(recorder, expected);
    assert_eq!(report.verdict, Verdict::Valid, "{report}");
    report
}

/// Somebody reads this from the beginning, in one poll.
pub fn read_all(recorder: &Recorder, records: &[(Key, i64, u64)]) -> OperationId {
    recorder.client().poll().polled(records.iter().copied()).ok()
}

/// Somebody's sends end with an unknown outcome, and without offsets.
pub fn sent_by_someone(recorder: &Recorder, key: Key, values: impl IntoIterator<Item = u64>) {
    for value in values {
        recorder.client().send(key, value).info("timed out");
    }
}

pub fn place(operation: OperationId, offset: i64, value: u64) -> Place {
    Place { operation, offset, value: Value(value) }
}

pub fn values(values: &[u64]) -> Vec<Value> {
    values.iter().copied().map(Value).collect()
}

pub fn process(number: u32) -> Process {
    Process(number)
}
