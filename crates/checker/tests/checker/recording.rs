//! The recorder: processes, dropped operations, many threads.

use ottla_checker::{Action, History, OperationId, Outcome, Process, Step, Verdict, check};

use crate::support::recorder;

#[test]
fn a_client_is_another_process_after_an_unknown_outcome() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    let mut client = recorder.client();
    let mut processes = vec![client.process()];
    client.send(x, 1).sent(0).ok();
    processes.push(client.process());
    client.send(x, 2).fail("refused");
    processes.push(client.process());
    client.send(x, 3).info("timed out");
    processes.push(client.process());
    drop(client.send(x, 4));
    processes.push(client.process());
    client.crash();
    processes.push(client.process());
    client.renew();
    processes.push(client.process());
    assert_eq!(processes, [0, 0, 0, 1, 2, 3, 4].map(Process));

    let history = recorder.finish();
    let outcomes: Vec<_> = history.operations().iter().map(|operation| operation.outcome).collect();
    assert_eq!(outcomes, [Outcome::Ok, Outcome::Fail, Outcome::Info, Outcome::Info, Outcome::Info]);
    let dropped = history.operation(OperationId(3));
    assert_eq!(dropped.completed, None);
    assert_eq!(dropped.steps(), [Step::send(x, 4)]);
    assert_eq!(history.operation(OperationId(4)).action, Action::Crash);
}

#[test]
fn what_is_under_way_at_the_end_is_unknown_and_what_comes_later_is_of_no_history() {
    let recorder = recorder();
    let x = recorder.key("x", 0);
    let mut client = recorder.client();
    let pending = client.send(x, 1);
    let history = recorder.finish();
    pending.sent(0).ok();
    client.send(x, 2).sent(1).ok();
    assert_eq!(history.operations().len(), 1);
    assert_eq!((history.operations()[0].outcome, history.operations()[0].completed), (Outcome::Info, None));
    assert!(recorder.finish().operations().is_empty());
}

#[test]
fn a_clock_that_goes_back_is_held() {
    let now = std::sync::atomic::AtomicU64::new(10);
    let recorder = ottla_checker::Recorder::new(move || now.fetch_sub(1, std::sync::atomic::Ordering::Relaxed));
    let x = recorder.key("x", 0);
    recorder.client().send(x, 1).sent(0).ok();
    let history = recorder.finish();
    let operation = &history.operations()[0];
    assert_eq!((operation.invoked.time_ns, operation.completed.unwrap().time_ns), (10, 10));
}

#[test]
fn threads_record_into_one_history() {
    const THREADS: u64 = 8;
    const SENDS: u64 = 500;
    let recorder = recorder();
    let keys: Vec<_> = (0..THREADS).map(|partition| recorder.key("x", partition as i32)).collect();
    std::thread::scope(|scope| {
        for (thread, key) in keys.iter().enumerate() {
            let mut client = recorder.client();
            scope.spawn(move || {
                client.assign([*key], true).ok();
                for number in 0..SENDS {
                    let value = thread as u64 * SENDS + number;
                    client.send(*key, value).sent(number as i64).ok();
                    client.poll().polled([(*key, number as i64, value)]).ok();
                }
            });
        }
    });
    let history = recorder.finish();
    assert_eq!(history.operations().len() as u64, THREADS * (2 * SENDS + 1));
    in_order(&history);
    let report = check(&history).unwrap();
    assert_eq!(report.verdict, Verdict::Valid, "{report}");
    assert_eq!((report.counts.acknowledged, report.counts.polled), (THREADS * SENDS, THREADS * SENDS));
}

/// Events have each a number of their own, and times in their order.
fn in_order(history: &History) {
    let ends = history.operations().iter().flat_map(|operation| {
        let invoked = operation.invoked;
        std::iter::once(invoked).chain(operation.completed)
    });
    let mut ends: Vec<_> = ends.map(|moment| (moment.event, moment.time_ns)).collect();
    ends.sort_unstable();
    for (number, pair) in ends.windows(2).enumerate() {
        assert_eq!(pair[0].0 as usize, number);
        assert!(pair[0].1 <= pair[1].1);
    }
}
