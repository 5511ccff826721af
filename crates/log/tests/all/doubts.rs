//! What a failed sync may have dropped although the next process on the machine still sees it.

use std::sync::Arc;

use ottla_log::{LogManager, PartitionLog};
use ottla_rt::memory::{Failure, Fault, Operation, PowerLoss};

use crate::support::*;

/// Each value is some pages long, so that a failed sync has something to choose from.
fn append_pages(log: &PartitionLog, count: usize) {
    for number in 0..count {
        append(log, &Batch::of(&[&format!("{number:09000}")])).unwrap();
    }
}

fn values(log: &PartitionLog) -> Vec<(i64, String)> {
    text(&values_from(log, log.log_start_offset(), 1 << 20))
}

/// A flush that fails.
async fn fail_to_flush(machine: &Machine, manager: &LogManager, log: &Arc<PartitionLog>) {
    machine.memory.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on(".log"));
    manager.request_flush(log);
    log.wait_flushed(log.log_end_offset()).await.unwrap_err();
    assert!(!manager.directories()[0].online);
}

/// The power goes. What a start found and called durable is there.
async fn check_durable(machine: &Machine, expected: &[(i64, String)], what: &str) {
    machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
    let (manager, log) = machine.start().await;
    assert!(manager.offline_partitions().is_empty(), "{what}: {:?}", manager.offline_partitions());
    assert!(values(&log) == expected, "{what}: {} of {}", log.log_end_offset(), expected.len());
}

#[test]
fn the_next_process_makes_it_durable() {
    block_on(async {
        for seed in 0..30 {
            let machine = Machine::with_config(seed, |config| config.segment_bytes = 50_000);
            let (manager, log) = machine.start().await;
            append_pages(&log, 3);
            flush(&manager, &log).await;
            append_pages(&log, 12);
            fail_to_flush(&machine, &manager, &log).await;
            drop((manager, log));
            machine.memory.disk.kill();
            let (manager, log) = machine.start().await;
            assert_eq!((log.flushed_offset(), log.log_end_offset()), (15, 15), "the cache has everything");
            let found = values(&log);
            drop((manager, log));
            check_durable(&machine, &found, &format!("seed {seed}")).await;
        }
    });
}

#[test]
fn a_start_whose_own_sync_fails_leaves_it_to_the_next() {
    block_on(async {
        for seed in 0..30 {
            let machine = Machine::new(seed);
            let (manager, log) = machine.start().await;
            append_pages(&log, 5);
            drop((manager, log));
            machine.memory.disk.kill();
            for fails in [true, true, false] {
                if fails {
                    machine.memory.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on(".log"));
                }
                let manager = machine.open().await;
                assert_eq!(manager.directories()[0].online, !fails);
                drop(manager);
                machine.memory.disk.kill();
            }
            let (manager, log) = machine.start().await;
            let found = values(&log);
            assert_eq!(found.len(), 5);
            drop((manager, log));
            check_durable(&machine, &found, &format!("seed {seed}")).await;
        }
    });
}

#[test]
fn a_cut_whose_sync_fails() {
    block_on(async {
        for seed in 0..30 {
            let machine = Machine::with_config(seed, |config| config.segment_bytes = 50_000);
            let (manager, log) = machine.start().await;
            append_pages(&log, 12);
            machine.memory.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on(".log"));
            log.truncate_to(8).unwrap_err();
            assert!(!manager.directories()[0].online);
            drop((manager, log));
            machine.memory.disk.kill();
            let (manager, log) = machine.start().await;
            let found = values(&log);
            assert_eq!(found.len(), 8);
            drop((manager, log));
            check_durable(&machine, &found, &format!("seed {seed}")).await;
        }
    });
}

#[test]
fn a_log_that_stays_offline_stays_in_doubt() {
    block_on(async {
        for seed in 0..30 {
            let machine = Machine::new(seed);
            let (manager, log) = machine.start().await;
            append_pages(&log, 3);
            flush(&manager, &log).await;
            manager.checkpoint().await;
            append_pages(&log, 5);
            fail_to_flush(&machine, &manager, &log).await;
            drop((manager, log));
            machine.memory.disk.kill();
            // This start cannot read the log, and ends as well as it can.
            machine.memory.disk.inject(Fault::nth(Operation::Read, 0, Failure::Io).on(".log"));
            let manager = machine.open().await;
            assert_eq!(manager.offline_partitions().len(), 1);
            assert!(manager.directories()[0].online);
            let other = machine.try_create(&manager, 1).await.unwrap();
            append_pages(&other, 1);
            flush(&manager, &other).await;
            manager.shutdown(1).await;
            drop((manager, other));
            let (manager, log) = machine.start().await;
            let found = values(&log);
            assert_eq!(found.len(), 8);
            drop((manager, log));
            check_durable(&machine, &found, &format!("seed {seed}")).await;
        }
    });
}

#[test]
fn nothing_is_written_anew_without_a_reason() {
    block_on(async {
        let machine = Machine::with_config(1, |config| config.segment_bytes = 50_000);
        let (manager, log) = machine.start().await;
        append_pages(&log, 12);
        flush(&manager, &log).await;
        append_pages(&log, 2);
        drop((manager, log));
        machine.memory.disk.kill();
        // No start after a kill writes to a log, and syncs do.
        machine
            .memory
            .disk
            .inject(Fault { count: u64::MAX, ..Fault::nth(Operation::Write, 0, Failure::Io).on(".log") });
        let manager = machine.open().await;
        assert!(manager.directories()[0].online);
        assert_eq!(manager.get(&partition(0)).unwrap().flushed_offset(), 14);
        machine.memory.disk.clear_faults();
        drop(manager);
        // Without the note all that is above the recovery point is in doubt.
        machine.memory.disk.kill();
        machine.memory.disk.mount().remove_file("/data/ottla.doubts".as_ref()).unwrap();
        machine.memory.disk.inject(Fault::nth(Operation::Write, 0, Failure::Io).on(".log"));
        let manager = machine.open().await;
        assert_eq!(manager.offline_partitions().len(), 1);
    });
}
