//! Planted: operations that would each have happened before themselves.

use ottla_checker::{Anomaly, Because, Cycle, CycleStep, Finding, Key, OperationId, Step, Value, Verdict};

use crate::support::{expect, expect_invalid, expect_valid, read_all, recorder};

fn cycle(anomaly: Anomaly, steps: &[(OperationId, Because)]) -> Finding {
    let to = |at: usize| steps[(at + 1) % steps.len()].0;
    let steps =
        steps.iter().enumerate().map(|(at, (from, because))| CycleStep { from: *from, to: to(at), because: *because });
    Finding::Cycle(Cycle { anomaly, steps: steps.collect() })
}

fn ww(key: Key, before: u64, after: u64) -> Because {
    Because::Ww { key, before: Value(before), after: Value(after) }
}

fn wr(key: Key, value: u64) -> Because {
    Because::Wr { key, value: Value(value) }
}

#[test]
fn g0() {
    let recorder = recorder();
    let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
    let (mut one, mut other) = (recorder.client(), recorder.client());
    let first = one.transact([Step::send(x, 1), Step::send(y, 1)]);
    let second = other.transact([Step::send(x, 2), Step::send(y, 2)]);
    let first = first.sent(0).sent(1).ok();
    let second = second.sent(1).sent(0).ok();
    read_all(&recorder, &[(x, 0, 1), (x, 1, 2), (y, 0, 2), (y, 1, 1)]);
    expect_valid(&recorder, &[cycle(Anomaly::G0, &[(first, ww(x, 1, 2)), (second, ww(y, 2, 1))])]);
}

#[test]
fn a_record_of_no_known_place_orders_nothing() {
    let recorder = recorder();
    let (x, y, z) = (recorder.key("x", 0), recorder.key("y", 0), recorder.key("z", 0));
    let steps = |value| [Step::send(z, value), Step::send(x, value), Step::send(y, value)];
    let first = recorder.client().transact(steps(1)).info("timed out");
    let second = recorder.client().transact(steps(2)).info("timed out");
    read_all(&recorder, &[(x, 0, 1), (x, 1, 2), (y, 0, 2), (y, 1, 1)]);
    let expected = [cycle(Anomaly::G0, &[(first, ww(x, 1, 2)), (second, ww(y, 2, 1))])];
    // Nothing was acknowledged.
    assert_eq!(expect(&recorder, &expected).verdict, Verdict::Unknown);
}

/// Two operations after each other, `same_process` or not, and a transaction beside both that writes before the first and
/// after the second.
fn g0_by_time(same_process: bool, anomaly: Anomaly, because: Because) {
    let recorder = recorder();
    let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
    let (mut one, mut other) = (recorder.client(), recorder.client());
    let beside = other.transact([Step::send(x, 1), Step::send(y, 4)]);
    let first = one.send(x, 2).sent(1).ok();
    if !same_process {
        one.renew();
    }
    let second = one.send(y, 3).sent(0).ok();
    let beside = beside.sent(0).sent(1).ok();
    read_all(&recorder, &[(x, 0, 1), (x, 1, 2), (y, 0, 3), (y, 1, 4)]);
    expect_valid(&recorder, &[cycle(anomaly, &[(beside, ww(x, 1, 2)), (first, because), (second, ww(y, 3, 4))])]);
}

#[test]
fn g0_process() {
    g0_by_time(true, Anomaly::G0Process, Because::Process);
}

#[test]
fn g0_realtime() {
    g0_by_time(false, Anomaly::G0Realtime, Because::Realtime);
}

#[test]
fn g1c() {
    let recorder = recorder();
    let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
    let (mut one, mut other) = (recorder.client(), recorder.client());
    let first = one.transact([Step::send(x, 1), Step::poll()]);
    let second = other.transact([Step::send(y, 2), Step::poll()]);
    let first = first.sent(0).polled([(y, 0, 2)]).ok();
    let second = second.sent(0).polled([(x, 0, 1)]).ok();
    // Once: the order of writes adds nothing to it.
    expect_invalid(&recorder, &[cycle(Anomaly::G1c, &[(first, wr(x, 1)), (second, wr(y, 2))])]);
}

#[test]
fn g1c_by_the_order_of_writes_is_usual() {
    let recorder = recorder();
    let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
    let (mut one, mut other) = (recorder.client(), recorder.client());
    let first = one.transact([Step::send(x, 1), Step::send(y, 3)]);
    let second = other.transact([Step::poll(), Step::send(y, 2)]);
    let first = first.sent(0).sent(2).ok();
    let second = second.polled([(x, 0, 1)]).sent(1).ok();
    read_all(&recorder, &[(y, 1, 2), (y, 2, 3)]);
    expect_valid(&recorder, &[cycle(Anomaly::G1c, &[(first, wr(x, 1)), (second, ww(y, 2, 3))])]);
}

/// A transaction is given what was sent after its own record had been read, in the order of a process or of time.
fn g1c_by_time(same_process: bool, anomaly: Anomaly, because: Because) {
    let recorder = recorder();
    let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
    let (mut one, mut other) = (recorder.client(), recorder.client());
    let beside = other.transact([Step::send(x, 1), Step::poll()]);
    let first = one.poll().polled([(x, 0, 1)]).ok();
    if !same_process {
        one.renew();
    }
    let second = one.send(y, 2).sent(0).ok();
    let beside = beside.sent(0).polled([(y, 0, 2)]).ok();
    expect_invalid(&recorder, &[cycle(anomaly, &[(beside, wr(x, 1)), (first, because), (second, wr(y, 2))])]);
}

#[test]
fn g1c_process() {
    g1c_by_time(true, Anomaly::G1cProcess, Because::Process);
}

#[test]
fn g1c_realtime() {
    g1c_by_time(false, Anomaly::G1cRealtime, Because::Realtime);
}

#[test]
fn a_circle_within_a_circle_is_told_once() {
    let recorder = recorder();
    let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
    let (mut one, mut other) = (recorder.client(), recorder.client());
    // The second begins after the first ended, and still the first is given its record: the order of time adds to a circle
    // that is there without it only where it joins more operations.
    let first = one.transact([Step::send(x, 1), Step::poll()]).sent(0).polled([(y, 0, 2)]).ok();
    let second = other.transact([Step::send(y, 2), Step::poll()]).sent(0).polled([(x, 0, 1)]).ok();
    expect_invalid(&recorder, &[cycle(Anomaly::G1c, &[(first, wr(x, 1)), (second, wr(y, 2))])]);
}

#[test]
fn nothing_comes_after_an_unknown_outcome() {
    let recorder = recorder();
    let (x, y) = (recorder.key("x", 0), recorder.key("y", 0));
    let (mut one, mut other) = (recorder.client(), recorder.client());
    let beside = other.transact([Step::send(x, 1), Step::poll()]);
    // As in `g1c_realtime`, but this may have taken effect later.
    one.transact([Step::poll()]).polled([(x, 0, 1)]).info("timed out");
    one.send(y, 2).sent(0).ok();
    beside.sent(0).polled([(y, 0, 2)]).ok();
    read_all(&recorder, &[(x, 0, 1)]);
    expect_valid(&recorder, &[]);
}
