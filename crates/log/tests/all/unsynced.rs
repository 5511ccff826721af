//! With page-cache durability a start serves what it finds before the disk has it, and owes the disk no less for that.

use std::sync::Arc;

use ottla_config::Durability;
use ottla_log::{LogManager, PartitionLog};
use ottla_rt::memory::{Failure, Fault, Operation, PowerLoss};

use crate::support::*;

fn page_cache(seed: u64) -> Machine {
    Machine::with_config(seed, |config| {
        config.durability = Durability::PageCache;
        config.segment_bytes = 50_000;
    })
}

/// Each value is some pages long, so that a power loss has something to choose from.
fn append_pages(log: &PartitionLog, values: std::ops::Range<usize>) {
    for value in values {
        append(log, &Batch::of(&[&format!("{value:09000}")])).unwrap();
    }
}

fn values(log: &PartitionLog) -> Vec<(i64, String)> {
    text(&values_from(log, log.log_start_offset(), 1 << 20))
}

/// No sync of the partition's files and directory succeeds.
fn fail_syncs(machine: &Machine) {
    for operation in [Operation::Sync, Operation::SyncDir] {
        let fault = Fault::nth(operation, 0, Failure::Io).on("orders-0");
        machine.memory.disk.inject(Fault { count: u64::MAX, ..fault });
    }
}

fn kill(machine: &Machine, process: (LogManager, Arc<PartitionLog>)) {
    drop(process);
    machine.memory.disk.kill();
}

#[test]
fn a_start_after_a_kill_syncs_nothing_of_a_log() {
    block_on(async {
        for known in [false, true] {
            let machine = page_cache(1);
            let (manager, log) = machine.start().await;
            append_pages(&log, 0..2);
            if known {
                flush(&manager, &log).await;
                manager.checkpoint().await;
            }
            append_pages(&log, 2..4);
            let expected = values(&log);
            kill(&machine, (manager, log));
            fail_syncs(&machine);
            let (manager, log) = machine.start().await;
            assert!(manager.directories()[0].online, "known: {known}");
            assert_eq!(values(&log), expected);
            assert_eq!((log.flushed_offset(), log.log_end_offset()), (if known { 2 } else { 0 }, 4));
            // Without page-cache durability it has to.
            drop((manager, log));
            machine.memory.disk.kill();
            let mut machine = machine;
            machine.config.durability = Durability::Fsync;
            assert!(!machine.open().await.directories()[0].online, "known: {known}");
        }
    });
}

#[test]
fn the_first_flush_makes_all_of_it_durable() {
    block_on(async {
        for seed in 0..30 {
            let machine = page_cache(seed);
            let (manager, log) = machine.start().await;
            append_pages(&log, 0..12);
            kill(&machine, (manager, log));
            // Two starts, since the second finds what the first owed.
            for value in 12..14 {
                let (manager, log) = machine.start().await;
                assert_eq!(log.log_end_offset(), value as i64);
                append_pages(&log, value..value + 1);
                kill(&machine, (manager, log));
            }
            let (manager, log) = machine.start().await;
            let expected = values(&log);
            flush(&manager, &log).await;
            manager.checkpoint().await;
            drop((manager, log));
            machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
            let (manager, log) = machine.start().await;
            assert!(manager.offline_partitions().is_empty(), "seed {seed}: {:?}", manager.offline_partitions());
            assert_eq!((log.flushed_offset(), log.log_end_offset()), (14, 14), "seed {seed}");
            assert!(values(&log) == expected, "seed {seed}");
        }
    });
}

/// The segment that ends at the recovery point is among what is owed, and retention may take it.
#[test]
fn what_is_deleted_before_the_first_flush_is_not_missed() {
    block_on(async {
        let machine = page_cache(1);
        let (manager, log) = machine.start().await;
        append_pages(&log, 0..3);
        log.roll().unwrap();
        flush(&manager, &log).await;
        manager.checkpoint().await;
        append_pages(&log, 3..5);
        kill(&machine, (manager, log));
        let (manager, log) = machine.start().await;
        assert_eq!((log.flushed_offset(), log.log_end_offset()), (3, 5));
        manager.delete_records(vec![(Arc::clone(&log), 3)]).await.pop().unwrap().unwrap();
        assert_eq!(log.segment_base_offsets().first(), Some(&3));
        flush(&manager, &log).await;
        assert!(manager.directories()[0].online);
        assert_eq!(log.flushed_offset(), 5);
    });
}

#[test]
fn a_power_loss_takes_the_end_and_nothing_durable() {
    block_on(async {
        for seed in 0..60 {
            let machine = page_cache(seed);
            let (manager, log) = machine.start().await;
            append_pages(&log, 0..3);
            flush(&manager, &log).await;
            manager.checkpoint().await;
            append_pages(&log, 3..7);
            kill(&machine, (manager, log));
            let (manager, log) = machine.start().await;
            append_pages(&log, 7..9);
            let expected = values(&log);
            if seed % 2 == 0 {
                // Recovery points move by flushes only.
                manager.checkpoint().await;
            }
            drop((manager, log));
            machine.memory.disk.lose_power(PowerLoss::Arbitrary { seed });
            let (manager, log) = machine.start().await;
            assert!(manager.offline_partitions().is_empty(), "seed {seed}: {:?}", manager.offline_partitions());
            let found = values(&log);
            assert!(found.len() >= 3, "seed {seed}: {}", found.len());
            assert!(found == expected[..found.len()], "seed {seed}");
        }
    });
}

#[test]
fn closed_segments_are_flushed_without_being_asked_for() {
    block_on(async {
        let machine = page_cache(1);
        let (manager, log) = machine.start().await;
        // Nothing runs between the appends and the kill: the flush of the roll never begins.
        append_pages(&log, 0..12);
        assert_eq!(log.segment_base_offsets(), [0, 5, 10]);
        assert_eq!(log.flushed_offset(), 0);
        kill(&machine, (manager, log));
        let (_manager, log) = machine.start().await;
        log.wait_flushed(10).await.unwrap();
    });
}

#[test]
fn what_a_failed_sync_left_is_settled_at_the_start() {
    block_on(async {
        for seed in 0..30 {
            let machine = page_cache(seed);
            let (manager, log) = machine.start().await;
            append_pages(&log, 0..4);
            machine.memory.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on(".log"));
            manager.request_flush(&log);
            log.wait_flushed(4).await.unwrap_err();
            kill(&machine, (manager, log));
            let (manager, log) = machine.start().await;
            assert_eq!((log.flushed_offset(), log.log_end_offset()), (4, 4), "seed {seed}");
            let expected = values(&log);
            drop((manager, log));
            machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
            let (_manager, log) = machine.start().await;
            assert!(values(&log) == expected, "seed {seed}");
        }
    });
}

#[test]
fn a_flush_of_what_was_left_that_fails_leaves_it_in_doubt() {
    block_on(async {
        for seed in 0..30 {
            let machine = page_cache(seed);
            let (manager, log) = machine.start().await;
            append_pages(&log, 0..4);
            kill(&machine, (manager, log));
            let (manager, log) = machine.start().await;
            machine.memory.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on(".log"));
            manager.request_flush(&log);
            log.wait_flushed(4).await.unwrap_err();
            assert!(!manager.directories()[0].online);
            kill(&machine, (manager, log));
            let (manager, log) = machine.start().await;
            assert_eq!(log.flushed_offset(), 4, "seed {seed}");
            let expected = values(&log);
            drop((manager, log));
            machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
            let (_manager, log) = machine.start().await;
            assert!(values(&log) == expected, "seed {seed}");
        }
    });
}

#[test]
fn a_cut_of_whole_batches_is_durable_before_anything_follows() {
    block_on(async {
        for (segment, cut_to) in [("00000000000000000000.log", 3), ("00000000000000000005.log", 8)] {
            let machine = page_cache(1);
            let (manager, log) = machine.start().await;
            append_pages(&log, 0..10);
            kill(&machine, (manager, log));
            // In the fourth batch of the segment, with others behind it.
            let position = machine.read(segment).len() * 3 / 5 + 4_000;
            machine.flip(segment, position * 8);
            let (manager, log) = machine.start().await;
            assert_eq!((log.flushed_offset(), log.log_end_offset()), (cut_to, cut_to), "{segment}");
            append_pages(&log, 100..101);
            drop((manager, log));
            machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
            let (_manager, log) = machine.start().await;
            assert_eq!(log.log_end_offset(), cut_to, "{segment}: nothing of what was cut comes back");
        }
    });
}

#[test]
fn a_torn_end_is_cut_and_appended_to() {
    block_on(async {
        for seed in 0..60 {
            let machine = page_cache(seed);
            let (manager, log) = machine.start().await;
            append_pages(&log, 0..4);
            kill(&machine, (manager, log));
            let whole = machine.read("00000000000000000000.log");
            machine
                .memory
                .disk
                .mount()
                .write_file_atomically(
                    "/data/orders-0/00000000000000000000.log".as_ref(),
                    &whole[..whole.len() - 2_000],
                )
                .unwrap();
            let (manager, log) = machine.start().await;
            assert_eq!((log.flushed_offset(), log.log_end_offset()), (0, 3));
            append_pages(&log, 3..5);
            let expected = values(&log);
            drop((manager, log));
            machine.memory.disk.lose_power(PowerLoss::Arbitrary { seed });
            let (manager, log) = machine.start().await;
            assert!(manager.offline_partitions().is_empty(), "seed {seed}: {:?}", manager.offline_partitions());
            let found = values(&log);
            assert!(found == expected[..found.len()], "seed {seed}");
        }
    });
}

#[test]
fn a_clean_stop_owes_nothing() {
    block_on(async {
        let machine = page_cache(1);
        let (manager, log) = machine.start().await;
        append_pages(&log, 0..4);
        kill(&machine, (manager, log));
        let (manager, log) = machine.start().await;
        manager.shutdown(1).await;
        let expected = values(&log);
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let (_manager, log) = machine.start().await;
        assert_eq!((log.flushed_offset(), log.log_end_offset()), (4, 4));
        assert_eq!(values(&log), expected);
    });
}

#[test]
fn a_cut_by_truncation_makes_durable_what_is_below_it() {
    block_on(async {
        let machine = page_cache(1);
        let (manager, log) = machine.start().await;
        append_pages(&log, 0..12);
        kill(&machine, (manager, log));
        let (manager, log) = machine.start().await;
        log.truncate_to(8).unwrap();
        assert_eq!((log.flushed_offset(), log.log_end_offset()), (8, 8));
        let expected = values(&log);
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let (_manager, log) = machine.start().await;
        assert_eq!(values(&log), expected);
    });
}
