//! When what was appended counts as durable.

use std::sync::Arc;

use ottla_config::Durability;
use ottla_log::{LogManager, LogSettings};
use ottla_rt::memory::{Failure, Fault, Operation, PowerLoss};

use crate::support::*;

#[test]
fn one_round_serves_every_partition() {
    block_on(async {
        let machine = Machine::new(1);
        let manager = machine.open().await;
        let mut logs = Vec::new();
        for number in 0..20 {
            logs.push(machine.try_create(&manager, number).await.unwrap());
        }
        for log in &logs {
            append(log, &Batch::of(&["a", "b"])).unwrap();
        }
        for log in &logs {
            manager.request_flush(log);
        }
        for log in &logs {
            log.wait_flushed(2).await.unwrap();
        }
        drop((manager, logs));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let manager = machine.open().await;
        assert!(manager.partitions().iter().all(|log| log.log_end_offset() == 2));
    });
}

#[test]
fn appends_go_on_while_a_round_runs() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        let latency = std::time::Duration::from_millis(5);
        machine.memory.disk.set_sync_latency(Some((latency, latency)));
        append(&log, &Batch::of(&["first"])).unwrap();
        manager.request_flush(&log);
        let waiting = tokio::spawn({
            let log = Arc::clone(&log);
            async move { log.wait_flushed(1).await }
        });
        tokio::task::yield_now().await;
        // The round is under way: this is for the next one.
        append(&log, &Batch::of(&["second"])).unwrap();
        manager.request_flush(&log);
        waiting.await.unwrap().unwrap();
        assert_eq!(log.flushed_offset(), 1);
        log.wait_flushed(2).await.unwrap();
        assert_eq!(log.flushed_offset(), 2);
    });
}

#[test]
fn page_cache_mode_waits_for_what_it_is_told_to() {
    block_on(async {
        for (flush_messages, expected) in [(i64::MAX, [None, None, None]), (2, [None, Some(2), Some(3)])] {
            let machine = Machine::with_config(1, |config| {
                config.durability = Durability::PageCache;
                config.flush_messages = flush_messages;
                config.flush_ms = 5_000;
            });
            let (manager, log) = machine.start().await;
            let found = [0, 1, 2].map(|_| append(&log, &Batch::of(&["v"])).unwrap().acknowledge_when_flushed);
            assert_eq!(found, expected);
            assert_eq!(log.flushed_offset(), 0);
            let start_ms = machine.memory.world().clock.wall_ms();
            manager.flush_overdue(start_ms + 4_999);
            tokio::task::yield_now().await;
            assert_eq!(log.flushed_offset(), 0);
            manager.flush_overdue(start_ms + 5_000);
            log.wait_flushed(3).await.unwrap();
        }
    });
}

#[test]
fn a_closed_segment_is_flushed_whatever_the_mode() {
    block_on(async {
        let machine = Machine::with_config(1, |config| {
            config.durability = Durability::PageCache;
            config.segment_bytes = 400;
        });
        let (_manager, log) = machine.start().await;
        for _ in 0..3 {
            append(&log, &Batch::sized(100)).unwrap();
        }
        assert_eq!(log.segment_base_offsets(), [0, 2]);
        log.wait_flushed(2).await.unwrap();
    });
}

#[test]
fn a_truncation_ends_the_wait_for_what_it_cut() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        append(&log, &Batch::of(&["a"])).unwrap();
        append(&log, &Batch::of(&["b"])).unwrap();
        manager.request_flush(&log);
        log.truncate_to(1).unwrap();
        assert!(log.wait_flushed(2).await.is_err());
        assert_eq!((log.log_end_offset(), log.flushed_offset()), (1, 1));
        append(&log, &Batch::of(&["c"])).unwrap();
        assert_eq!(log.flushed_offset(), 1);
        flush(&manager, &log).await;
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let (_manager, log) = machine.start().await;
        assert_eq!(text(&values_from(&log, 0, 100)), [(0, "a".to_owned()), (1, "c".to_owned())]);
    });
}

#[test]
fn a_disk_that_ignores_syncs_is_found_out() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        machine.memory.disk.ignore_syncs(Some(""));
        append(&log, &Batch::of(&["lost"])).unwrap();
        flush(&manager, &log).await;
        manager.checkpoint().await;
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let manager = machine.try_open().await;
        let kept = manager.ok().and_then(|manager| manager.get(&partition(0)).map(|log| log.log_end_offset()));
        assert_ne!(kept, Some(1), "this machine's tests can see what is not synced");
    });
}

#[test]
fn much_that_became_durable_is_worth_a_checkpoint() {
    block_on(async {
        let machine = Machine::new(1);
        let settings = LogSettings { checkpoint_bytes: 10_000, ..Machine::settings() };
        let config = machine.config.clone();
        let manager = LogManager::open(machine.memory.world(), settings, move |_| config.clone()).await.unwrap();
        let log = machine.try_create(&manager, 0).await.unwrap();
        let mut due = Box::pin(manager.checkpoint_due());
        for _ in 0..3 {
            // Not all at once, and not what is only appended.
            append(&log, &Batch::sized(6_000)).unwrap();
            assert!(ready_now(&mut due).is_none());
            flush(&manager, &log).await;
            assert!(ready_now(&mut due).is_none());
            append(&log, &Batch::sized(6_000)).unwrap();
            flush(&manager, &log).await;
            assert!(ready_now(&mut due).is_some());
            manager.checkpoint().await;
            due = Box::pin(manager.checkpoint_due());
        }
        drop(due);
        drop((manager, log));
        machine.memory.disk.kill();
        // Nothing is above the recovery point, so nothing is to be synced.
        machine.memory.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on(".log"));
        let manager = machine.open().await;
        assert!(manager.directories()[0].online);
        assert_eq!(manager.get(&partition(0)).unwrap().flushed_offset(), 6);
    });
}

/// What a future gives without waiting.
fn ready_now<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}
