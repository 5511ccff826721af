//! The journal: many small appends made durable by one sync, and what of it is there after every kind of end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ottla_log::{
    AppendError, AppendOrigin, BatchToAppend, Cleaning, FlushFailed, JournalSettings, LogError, LogManager,
    NewPartition, PartitionLog,
};
use ottla_record::{BatchBuilder, BatchHeader, Compression};
use ottla_rt::memory::{Failure, Fault, Operation, PowerLoss};
use ottla_types::{LeaderEpoch, Uuid};

use crate::support::*;

const BLOCK: u64 = 4096;
const FILES: [&str; 2] = ["/data/ottla.journal.0", "/data/ottla.journal.1"];

/// Two small appends are many, and a segment or a partition more or less does not matter.
fn machine() -> Machine {
    let mut machine = Machine::new(1);
    machine.journal = JournalSettings { from_partitions: 2, file_bytes: 1 << 20 };
    machine.hot_tail_bytes = 1 << 20;
    machine
}

/// Empty, and durable: a partition's first flush is none for the journal.
async fn partitions(machine: &Machine, manager: &LogManager, count: i32) -> Vec<Arc<PartitionLog>> {
    let mut logs = Vec::new();
    for number in 0..count {
        let log = machine.try_create(manager, number).await.unwrap();
        append(&log, &Batch::of(&["cut"])).unwrap();
        log.truncate_to(0).unwrap();
        logs.push(log);
    }
    logs
}

/// One round for all of them.
async fn flush_all(manager: &LogManager, logs: &[Arc<PartitionLog>]) -> Result<(), FlushFailed> {
    for log in logs {
        manager.request_flush(log);
    }
    for log in logs {
        log.wait_flushed(log.log_end_offset()).await?;
    }
    Ok(())
}

fn append_to_all(logs: &[Arc<PartitionLog>], value: &str) {
    for log in logs {
        append(log, &Batch::of(&[value])).unwrap();
    }
}

fn journal_bytes(machine: &Machine) -> [u64; 2] {
    let disk = machine.memory.disk.mount();
    let entries = disk.read_dir(Path::new("/data")).unwrap();
    FILES.map(|path| entries.iter().find(|entry| path.ends_with(&entry.name)).map_or(0, |entry| entry.len))
}

/// How long a journal file with so many small frames is: each has a block, and its parity, as the header has.
fn frames(count: u64) -> u64 {
    (1 + count) * 2 * BLOCK
}

/// Until the flusher has nothing to do at once: no clock is involved.
async fn settled(machine: &Machine, condition: impl Fn([u64; 2]) -> bool) {
    for _ in 0..10_000 {
        if condition(journal_bytes(machine)) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the journal stays at {:?} bytes", journal_bytes(machine));
}

async fn offline(manager: &LogManager) {
    for _ in 0..10_000 {
        if !manager.directories()[0].online {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the directory is still online");
}

fn append_keyed(log: &PartitionLog, key: &str, value: &str) {
    let mut builder = BatchBuilder::new(Compression::NONE);
    builder.append(1_000, Some(key.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
    let bytes = builder.finish().unwrap();
    let header = BatchHeader::parse(&bytes).unwrap();
    let batch = BatchToAppend { bytes: &bytes, header: &header, origin: AppendOrigin::Client };
    log.append(batch, LeaderEpoch(0), 1_000).unwrap();
}

/// Read to the end, over the holes of the cleaner.
fn values(log: &PartitionLog) -> Vec<(i64, String)> {
    text(&values_from(log, 0, 10_000))
}

fn contents(manager: &LogManager) -> Vec<Vec<String>> {
    let values =
        |log: &Arc<PartitionLog>| text(&values_from(log, 0, 10_000)).into_iter().map(|(_, value)| value).collect();
    manager.partitions().iter().map(values).collect()
}

#[test]
fn what_is_in_the_journal_only_survives_a_power_loss() {
    block_on(async {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 20).await;
        for value in ["first", "second", "third"] {
            append_to_all(&logs, value);
            flush_all(&manager, &logs).await.unwrap();
        }
        assert_eq!(journal_bytes(&machine)[0], frames(3), "it is the journal that is tested");
        drop((manager, logs));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let disk = machine.memory.disk.mount();
        let segment = Path::new("/data/orders-7/00000000000000000000.log");
        assert_eq!(disk.open(segment, ottla_rt::OpenMode::Read).unwrap().len().unwrap(), 0, "nothing else has it");

        let manager = machine.open().await;
        assert_eq!(contents(&manager), vec![vec!["first", "second", "third"]; 20]);
        assert_eq!(journal_bytes(&machine), [0, 0], "everything is where it belongs");
        // That is durable too.
        drop(manager);
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        assert_eq!(contents(&machine.open().await), vec![vec!["first", "second", "third"]; 20]);
    });
}

#[test]
fn a_round_of_few_appends_needs_no_journal() {
    block_on(async {
        let mut machine = machine();
        machine.journal.from_partitions = 5;
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 5).await;
        append_to_all(&logs[..4], "few");
        flush_all(&manager, &logs).await.unwrap();
        assert_eq!(journal_bytes(&machine), [0, 0]);
        // And large ones are no matter for it.
        append_to_all(&logs[..4], "many");
        append(&logs[4], &Batch::sized(100_000)).unwrap();
        flush_all(&manager, &logs).await.unwrap();
        assert_eq!(journal_bytes(&machine), [0, 0]);
        append_to_all(&logs, "small");
        flush_all(&manager, &logs).await.unwrap();
        assert!(journal_bytes(&machine)[0] > 0);
        drop((manager, logs));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let manager = machine.open().await;
        assert_eq!(contents(&manager)[0], ["few", "many", "small"]);
        assert_eq!(contents(&manager)[4].len(), 2);
    });
}

#[test]
fn it_is_gone_after_a_clean_stop_and_every_file_is_whole() {
    block_on(async {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 3).await;
        append_to_all(&logs, "first");
        flush_all(&manager, &logs).await.unwrap();
        assert!(journal_bytes(&machine)[0] > 0);
        manager.shutdown(-1).await;
        drop((manager, logs));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let disk = machine.memory.disk.mount();
        assert!(FILES.iter().all(|path| !disk.exists(Path::new(path)).unwrap()));
        assert!(disk.exists(Path::new("/data/.kafka_cleanshutdown")).unwrap());
        let points = disk.read_file(Path::new("/data/recovery-point-offset-checkpoint"), 1_000).unwrap();
        assert_eq!(String::from_utf8(points).unwrap(), "0\n3\norders 0 1\norders 1 1\norders 2 1\n");
        for number in 0..3 {
            let segment = PathBuf::from(format!("/data/orders-{number}/00000000000000000000.log"));
            assert!(disk.open(&segment, ottla_rt::OpenMode::Read).unwrap().len().unwrap() > 0);
        }
        assert_eq!(contents(&machine.open().await), vec![vec!["first"]; 3]);
    });
}

#[test]
fn recovery_points_stay_below_what_only_the_journal_has() {
    block_on(async {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 2).await;
        append_to_all(&logs, "journaled");
        flush_all(&manager, &logs).await.unwrap();
        let points = || {
            let disk = machine.memory.disk.mount();
            let bytes = disk.read_file(Path::new("/data/recovery-point-offset-checkpoint"), 1_000).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        manager.checkpoint().await;
        assert_eq!(points(), "0\n2\norders 0 0\norders 1 0\n");
        // The checkpoint had it settled, for the next one.
        settled(&machine, |bytes| bytes == [0, 0]).await;
        manager.checkpoint().await;
        assert_eq!(points(), "0\n2\norders 0 1\norders 1 1\n");
        // Appends after that go to the other file, and the first is used again.
        for expected in [1, 0, 1] {
            append_to_all(&logs, "more");
            flush_all(&manager, &logs).await.unwrap();
            assert!(journal_bytes(&machine)[expected] > 0 && journal_bytes(&machine)[1 - expected] == 0);
            manager.checkpoint().await;
            settled(&machine, |bytes| bytes == [0, 0]).await;
        }
        drop((manager, logs));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        assert_eq!(contents(&machine.open().await)[1].len(), 4);
    });
}

/// The journal lets a log start above its recovery point, and its file of epochs with it.
#[test]
fn epochs_of_a_log_that_starts_above_its_recovery_point_are_told_by_its_batches() {
    block_on(async {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 2).await;
        let append = |epoch| append_with_epoch(&logs[0], &Batch::of(&["value"]), epoch).unwrap();
        append(7);
        append(8);
        flush(&manager, &logs[0]).await;
        manager.checkpoint().await;
        append(8);
        append(8);
        append_with_epoch(&logs[1], &Batch::of(&["value"]), 8).unwrap();
        flush_all(&manager, &logs).await.unwrap();
        let started = manager.delete_records(vec![(Arc::clone(&logs[0]), 3)]).await;
        assert_eq!(*started[0].as_ref().unwrap(), 3);
        manager.checkpoint().await;
        let disk = machine.memory.disk.mount();
        let text = |path: &str| String::from_utf8(disk.read_file(Path::new(path), 1_000).unwrap()).unwrap();
        assert_eq!(text("/data/recovery-point-offset-checkpoint"), "0\n2\norders 0 2\norders 1 0\n");
        assert_eq!(text("/data/orders-0/leader-epoch-checkpoint"), "0\n1\n8 3\n");
        drop((manager, logs, disk));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let manager = machine.open().await;
        let log = &manager.partitions()[0];
        assert_eq!((log.log_start_offset(), log.epoch_at(3)), (3, Some(8)));
        assert_eq!(values_from(log, 3, 10_000).len(), 1);
    });
}

#[test]
fn its_size_is_bounded() {
    block_on(async {
        for loss in [PowerLoss::LoseUnsynced, PowerLoss::KeepUnsynced, PowerLoss::Arbitrary { seed: 5 }] {
            let mut machine = machine();
            machine.journal.file_bytes = 30_000;
            let manager = machine.open().await;
            let logs = partitions(&machine, &manager, 4).await;
            let (mut used, mut largest) = ([false, false], 0);
            for _ in 0..60 {
                append_to_all(&logs, "some value or other");
                flush_all(&manager, &logs).await.unwrap();
                let bytes = journal_bytes(&machine);
                largest = largest.max(bytes[0]).max(bytes[1]);
                used = [used[0] || bytes[0] > 0, used[1] || bytes[1] > 0];
            }
            assert!(used == [true, true] && largest <= 30_000, "{used:?}, {largest} bytes");
            drop((manager, logs));
            machine.memory.disk.lose_power(loss);
            let manager = machine.open().await;
            assert!(contents(&manager).iter().all(|values| values.len() == 60), "{loss:?}");
        }
    });
}

#[test]
fn a_failed_sync_of_it_acknowledges_nothing_and_is_never_tried_again() {
    block_on(async {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 3).await;
        append_to_all(&logs, "first");
        flush_all(&manager, &logs).await.unwrap();
        append_to_all(&logs, "lost");
        machine.memory.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on("ottla.journal"));
        for log in &logs {
            manager.request_flush(log);
        }
        for log in &logs {
            assert!(matches!(log.wait_flushed(2).await, Err(FlushFailed::DirectoryOffline(_))));
            assert_eq!(log.flushed_offset(), 1);
            assert!(matches!(append(log, &Batch::of(&["x"])), Err(AppendError::DirectoryOffline(_))));
            manager.request_flush(log);
        }
        tokio::task::yield_now().await;
        assert!(logs.iter().all(|log| log.flushed_offset() == 1), "not tried again");
        assert!(!manager.directories()[0].online);
        manager.shutdown(-1).await;
        let disk = machine.memory.disk.mount();
        assert!(!disk.exists(Path::new("/data/.kafka_cleanshutdown")).unwrap());
        drop((manager, logs));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        // What was acknowledged before is there.
        assert!(contents(&machine.open().await).iter().all(|values| values[0] == "first"));
    });
}

#[test]
fn a_failed_write_of_it_takes_the_directory_offline() {
    block_on(async {
        for operation in [Operation::Write, Operation::Create, Operation::SyncDir] {
            let machine = machine();
            let manager = machine.open().await;
            let logs = partitions(&machine, &manager, 3).await;
            append_to_all(&logs, "lost");
            let path = if operation == Operation::SyncDir { "/data" } else { "ottla.journal" };
            machine.memory.disk.inject(Fault::nth(operation, 0, Failure::Io).on(path));
            for log in &logs {
                manager.request_flush(log);
            }
            offline(&manager).await;
            assert!(append(&logs[0], &Batch::of(&["x"])).is_err(), "{operation:?}");
        }
    });
}

#[test]
fn without_space_for_it_the_files_are_synced() {
    block_on(async {
        for (operation, nth) in
            [(Operation::Write, 0), (Operation::Write, 1), (Operation::Create, 0), (Operation::Write, 3)]
        {
            let machine = machine();
            let manager = machine.open().await;
            let logs = partitions(&machine, &manager, 3).await;
            machine.memory.disk.inject(Fault::nth(operation, nth, Failure::NoSpace).on("ottla.journal"));
            for value in ["a", "b", "c"] {
                append_to_all(&logs, value);
                flush_all(&manager, &logs).await.unwrap();
            }
            assert!(manager.directories()[0].online);
            drop((manager, logs));
            machine.memory.disk.clear_faults();
            machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
            assert_eq!(contents(&machine.open().await), vec![vec!["a", "b", "c"]; 3], "{operation:?} {nth}");
        }
    });
}

#[test]
fn a_failed_settling_keeps_the_journal() {
    block_on(async {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 3).await;
        append_to_all(&logs, "first");
        flush_all(&manager, &logs).await.unwrap();
        machine.memory.disk.inject(Fault::nth(Operation::Sync, 1, Failure::Io).on(".log"));
        manager.checkpoint().await;
        offline(&manager).await;
        manager.shutdown(-1).await;
        drop((manager, logs));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        assert!(journal_bytes(&machine)[0] > 0);
        assert_eq!(contents(&machine.open().await), vec![vec!["first"]; 3]);
    });
}

#[test]
fn what_was_cut_is_not_replayed() {
    block_on(async {
        for loss in [PowerLoss::LoseUnsynced, PowerLoss::KeepUnsynced] {
            let machine = machine();
            let manager = machine.open().await;
            let logs = partitions(&machine, &manager, 3).await;
            for value in ["a", "b", "cut"] {
                append_to_all(&logs, value);
                flush_all(&manager, &logs).await.unwrap();
            }
            logs[1].truncate_to(2).unwrap();
            append(&logs[1], &Batch::of(&["new"])).unwrap();
            append(&logs[2], &Batch::of(&["d"])).unwrap();
            flush_all(&manager, &logs).await.unwrap();
            drop((manager, logs));
            machine.memory.disk.lose_power(loss);
            let found = contents(&machine.open().await);
            assert_eq!(found[0], ["a", "b", "cut"], "{loss:?}");
            assert_eq!(found[1], ["a", "b", "new"], "{loss:?}");
            assert_eq!(found[2], ["a", "b", "cut", "d"], "{loss:?}");
        }
    });
}

#[test]
fn a_cut_while_the_journal_cannot_be_written_is_refused_and_changes_nothing() {
    block_on(async {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 2).await;
        append_to_all(&logs, "a");
        flush_all(&manager, &logs).await.unwrap();
        machine.memory.disk.inject(Fault::nth(Operation::Write, 0, Failure::NoSpace).on("ottla.journal"));
        assert!(matches!(logs[0].truncate_to(0), Err(ottla_log::ChangeError::NoSpace(_))));
        assert_eq!((logs[0].log_end_offset(), logs[0].flushed_offset()), (1, 1));
        assert!(manager.directories()[0].online);
        logs[0].truncate_to(0).unwrap();
        append_to_all(&logs, "b");
        flush_all(&manager, &logs).await.unwrap();
        drop((manager, logs));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        assert_eq!(contents(&machine.open().await), [vec!["b"], vec!["a", "b"]]);
    });
}

#[test]
fn what_was_deleted_is_not_replayed_into_a_partition_of_its_name() {
    block_on(async {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 3).await;
        append_to_all(&logs, "old");
        append_to_all(&logs, "older");
        flush_all(&manager, &logs).await.unwrap();
        // Its name, and even its id: a replica that went away and came back.
        manager.delete(&partition(1)).await.unwrap();
        let again = machine.try_create(&manager, 1).await.unwrap();
        append(&again, &Batch::of(&["new"])).unwrap();
        flush(&manager, &again).await;
        // And one that is just gone.
        manager.delete(&partition(2)).await.unwrap();
        drop((manager, logs, again));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        assert_eq!(contents(&machine.open().await), [vec!["old", "older"], vec!["new"]]);
    });
}

#[test]
fn a_topic_of_the_same_name_begins_empty() {
    block_on(async {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 3).await;
        append_to_all(&logs, "old");
        flush_all(&manager, &logs).await.unwrap();
        let deleted: Vec<_> = logs.iter().map(|log| log.topic_partition().clone()).collect();
        assert!(manager.delete_all(&deleted).await.iter().all(Result::is_ok));
        let again = |number| NewPartition {
            topic_partition: partition(number),
            topic_id: Uuid([9; 16]),
            config: Arc::new(machine.config.clone()),
        };
        let made = manager.create((0..2).map(again).collect()).await;
        let logs: Vec<_> = made.into_iter().map(Result::unwrap).collect();
        // One by its file, and then both by the journal.
        append(&logs[0], &Batch::of(&["first"])).unwrap();
        flush(&manager, &logs[0]).await;
        for value in ["new", "newer"] {
            append_to_all(&logs, value);
            flush_all(&manager, &logs).await.unwrap();
        }
        drop((manager, logs));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        assert_eq!(contents(&machine.open().await), [vec!["first", "new", "newer"], vec!["new", "newer"]]);
    });
}

/// A deletion makes room, so it is not refused when the journal cannot be told of it; but a partition of that name and id
/// is not made before.
#[test]
fn a_deletion_that_finds_no_space_for_the_journal_is_told_to_it_later() {
    block_on(async {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 2).await;
        append_to_all(&logs, "old");
        flush_all(&manager, &logs).await.unwrap();
        let full = Fault { count: 2, ..Fault::nth(Operation::Write, 0, Failure::NoSpace).on("ottla.journal") };
        machine.memory.disk.inject(full);
        manager.delete(&partition(1)).await.unwrap();
        let refused = machine.try_create(&manager, 1).await.err().unwrap();
        assert!(matches!(refused, LogError::Io { .. }), "{refused}");
        assert!(manager.directories()[0].online);
        let again = machine.try_create(&manager, 1).await.unwrap();
        append(&again, &Batch::of(&["new"])).unwrap();
        flush(&manager, &again).await;
        drop((manager, logs, again));
        machine.memory.disk.clear_faults();
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        assert_eq!(contents(&machine.open().await), [["old"], ["new"]]);
    });
}

#[test]
fn a_segment_that_was_rolled_keeps_what_the_journal_had_of_it() {
    block_on(async {
        for flushed_after in [false, true] {
            let machine = machine();
            let manager = machine.open().await;
            let logs = partitions(&machine, &manager, 2).await;
            append_to_all(&logs, "a");
            flush_all(&manager, &logs).await.unwrap();
            append_to_all(&logs, "b");
            flush_all(&manager, &logs).await.unwrap();
            for log in &logs {
                log.roll().unwrap();
            }
            if flushed_after {
                append_to_all(&logs, "c");
                flush_all(&manager, &logs).await.unwrap();
                append_to_all(&logs, "d");
                flush_all(&manager, &logs).await.unwrap();
            }
            drop((manager, logs));
            machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
            let expected = if flushed_after { vec!["a", "b", "c", "d"] } else { vec!["a", "b"] };
            assert_eq!(contents(&machine.open().await), vec![expected; 2]);
        }
    });
}

/// A segment that the cleaner wrote anew is not overwritten with what the journal had of the old one.
#[test]
fn what_the_cleaner_replaced_is_not_replayed() {
    block_on(async {
        for loss in [PowerLoss::LoseUnsynced, PowerLoss::KeepUnsynced, PowerLoss::Arbitrary { seed: 8 }] {
            let mut machine = machine();
            machine.config.cleanup_policy.compact = true;
            machine.config.cleanup_policy.delete = false;
            machine.config.min_cleanable_dirty_ratio = 0.0;
            let manager = machine.open().await;
            let logs = partitions(&machine, &manager, 2).await;
            for value in 0..5 {
                for log in &logs {
                    append_keyed(log, "key", &format!("{value}"));
                }
                flush_all(&manager, &logs).await.unwrap();
            }
            assert_eq!(journal_bytes(&machine)[0], frames(5));
            logs[0].roll().unwrap();
            logs[0].note_high_watermark(logs[0].log_end_offset());
            // Syncs the closed segment's file; what the journal says of it stays.
            append_keyed(&logs[0], "other", "x");
            flush_all(&manager, &logs).await.unwrap();
            let before = logs[0].size();
            assert!(matches!(manager.clean_filthiest().await, Cleaning::Cleaned { .. }));
            assert!(logs[0].size() < before);
            let expected = values(&logs[0]);
            assert_eq!(expected, [(4, "4".to_owned()), (5, "x".to_owned())]);
            drop((manager, logs));
            machine.memory.disk.lose_power(loss);
            let manager = machine.open().await;
            let found = manager.partitions();
            assert_eq!(values(&found[0]), expected, "{loss:?}");
            assert_eq!(values(&found[1]).len(), 5, "{loss:?}");
        }
    });
}

#[test]
fn what_retention_took_is_passed_over() {
    block_on(async {
        let mut machine = machine();
        machine.config.segment_bytes = 300;
        machine.config.retention_bytes = 300;
        machine.config.file_delete_delay_ms = 0;
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 2).await;
        for number in 0..12 {
            append_to_all(&logs, &format!("{number:0100}"));
            flush_all(&manager, &logs).await.unwrap();
            for log in &logs {
                log.note_high_watermark(log.log_end_offset());
            }
        }
        assert!(journal_bytes(&machine)[0] > 0);
        manager.apply_retention(1_000).await;
        machine.memory.clock.advance(Duration::from_secs(1));
        manager.remove_deleted().await;
        let start = logs[0].log_start_offset();
        assert!(start > 6, "{start}");
        drop((manager, logs));
        machine.memory.disk.lose_power(PowerLoss::Arbitrary { seed: 3 });
        let manager = machine.open().await;
        for log in manager.partitions() {
            assert_eq!((log.log_start_offset(), log.log_end_offset()), (start, 12));
            assert_eq!(values_from(&log, start, 10_000).len() as i64, 12 - start);
        }
    });
}

/// Two partitions with three records each that only the journal has, a frame for each.
struct Journaled {
    machine: Machine,
    journal: Vec<u8>,
}

impl Journaled {
    async fn new() -> Journaled {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 2).await;
        for value in ["a", "b", "c"] {
            append_to_all(&logs, value);
            flush_all(&manager, &logs).await.unwrap();
        }
        drop((manager, logs));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let journal = machine.memory.disk.mount().read_file(Path::new(FILES[0]), 1 << 20).unwrap();
        assert_eq!(journal.len() as u64, frames(3));
        machine.memory.disk.kill();
        Journaled { machine, journal }
    }

    /// Starts with this in the journal, and the partitions' files as the power loss left them.
    async fn start(&self, journal: &[u8]) -> Result<Vec<Vec<String>>, LogError> {
        let disk = self.machine.memory.disk.mount();
        for number in 0..2 {
            let segment = PathBuf::from(format!("/data/orders-{number}/00000000000000000000.log"));
            disk.open(&segment, ottla_rt::OpenMode::ReadWrite).unwrap().set_len(0).unwrap();
        }
        disk.write_file_atomically(Path::new("/data/recovery-point-offset-checkpoint"), b"0\n0\n").unwrap();
        disk.write_file_atomically(Path::new(FILES[0]), journal).unwrap();
        drop(disk);
        self.machine.memory.disk.kill();
        let started = self.machine.try_open().await;
        let found = started.map(|manager| contents(&manager));
        self.machine.memory.disk.kill();
        found
    }
}

#[test]
fn no_flipped_byte_loses_anything() {
    block_on(async {
        let journaled = Journaled::new().await;
        let mut flipped = journaled.journal.clone();
        for index in 0..flipped.len() {
            // Every byte that says something, and of the zeros behind them some.
            if flipped[index] == 0 && index % 61 != 0 {
                continue;
            }
            flipped[index] ^= 1 << (index % 8);
            let found = journaled.start(&flipped).await.unwrap_or_else(|error| panic!("byte {index}: {error}"));
            assert_eq!(found, vec![["a", "b", "c"]; 2], "byte {index}");
            flipped[index] = journaled.journal[index];
        }
    });
}

#[test]
fn what_is_damaged_beyond_repair_is_told_from_a_torn_end() {
    block_on(async {
        let journaled = Journaled::new().await;
        let whole = &journaled.journal;
        let damage = |blocks: &[usize]| {
            let mut damaged = whole.clone();
            for block in blocks {
                damaged[block * BLOCK as usize + 5] ^= 1;
            }
            damaged
        };
        // The header, the first frame, the second, and one block of each.
        for (blocks, position) in
            [([0, 1], Some(0)), ([2, 3], Some(frames(0))), ([4, 5], Some(frames(1))), ([3, 5], None)]
        {
            match journaled.start(&damage(&blocks)).await {
                Err(LogError::JournalDamaged { path, position: found }) => {
                    assert_eq!((path.as_path(), Some(found)), (Path::new(FILES[0]), position), "{blocks:?}");
                }
                Err(error) => panic!("{blocks:?}: {error}"),
                Ok(found) => assert!(position.is_none() && found == vec![["a", "b", "c"]; 2], "{blocks:?}: {found:?}"),
            }
        }
        // Of the last frame both: that is what an unfinished write leaves, and what it says was never acknowledged then.
        assert_eq!(journaled.start(&damage(&[6, 7])).await.unwrap(), vec![["a", "b"]; 2]);
        for len in [frames(2), frames(2) + 7, frames(2) + BLOCK - 1] {
            assert_eq!(journaled.start(&whole[..len as usize]).await.unwrap(), vec![["a", "b"]; 2], "{len} bytes");
        }
        for len in [frames(2) + BLOCK, frames(3) - 1] {
            assert_eq!(journaled.start(&whole[..len as usize]).await.unwrap(), vec![["a", "b", "c"]; 2], "{len} bytes");
        }
        // Just begun.
        for len in [0, 20, BLOCK] {
            let empty = vec![Vec::<String>::new(); 2];
            assert_eq!(journaled.start(&vec![0; len as usize]).await.unwrap(), empty, "{len} bytes");
        }
    });
}

#[test]
fn damage_to_the_end_of_the_journal_is_nothing_where_the_files_have_it_all() {
    block_on(async {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 2).await;
        append_to_all(&logs, "a");
        flush_all(&manager, &logs).await.unwrap();
        append_to_all(&logs, "b");
        flush_all(&manager, &logs).await.unwrap();
        drop((manager, logs));
        // The process is gone, the machine is not.
        machine.memory.disk.kill();
        let disk = machine.memory.disk.mount();
        let mut journal = disk.read_file(Path::new(FILES[0]), 1 << 20).unwrap();
        journal[frames(1) as usize..].fill(0xee);
        disk.write_file_atomically(Path::new(FILES[0]), &journal).unwrap();
        assert_eq!(contents(&machine.open().await), vec![vec!["a", "b"]; 2]);
    });
}

#[test]
fn the_start_of_one_file_says_that_the_other_was_whole() {
    block_on(async {
        let mut machine = machine();
        machine.journal.file_bytes = frames(2);
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 2).await;
        for value in ["a", "b"] {
            append_to_all(&logs, value);
            flush_all(&manager, &logs).await.unwrap();
        }
        let whole = machine.memory.disk.mount().read_file(Path::new(FILES[0]), 1 << 20).unwrap();
        append_to_all(&logs, "c");
        flush_all(&manager, &logs).await.unwrap();
        assert_eq!((whole.len() as u64, journal_bytes(&machine)[1]), (frames(2), frames(1)));
        drop((manager, logs));
        machine.memory.disk.kill();
        // The first one as it was before it was settled.
        let disk = machine.memory.disk.mount();
        // What would be a torn end without the other.
        disk.write_file_atomically(Path::new(FILES[0]), &whole[..frames(1) as usize]).unwrap();
        let refused = machine.try_open().await.err().unwrap();
        assert!(matches!(refused, LogError::JournalDamaged { position, .. } if position == frames(1)), "{refused}");
        machine.memory.disk.kill();
        machine.memory.disk.mount().write_file_atomically(Path::new(FILES[0]), &whole).unwrap();
        assert_eq!(contents(&machine.open().await), vec![vec!["a", "b", "c"]; 2]);
    });
}

#[test]
fn a_newer_format_is_refused_and_a_journal_from_before_a_clean_stop_thrown_away() {
    block_on(async {
        let machine = machine();
        let manager = machine.open().await;
        let logs = partitions(&machine, &manager, 2).await;
        append_to_all(&logs, "a");
        flush_all(&manager, &logs).await.unwrap();
        drop((manager, logs));
        machine.memory.disk.kill();
        let disk = machine.memory.disk.mount();
        let (path, mark) = (Path::new(FILES[0]), Path::new("/data/.kafka_cleanshutdown"));
        let journal = disk.read_file(path, 1 << 20).unwrap();
        // Another program has used the directory since, and stopped cleanly.
        disk.write_file_atomically(mark, b"{\"version\":0,\"brokerEpoch\":7}").unwrap();
        for number in 0..2 {
            let segment = PathBuf::from(format!("/data/orders-{number}/00000000000000000000.log"));
            disk.open(&segment, ottla_rt::OpenMode::ReadWrite).unwrap().set_len(0).unwrap();
        }
        let manager = machine.open().await;
        assert_eq!(contents(&manager), vec![Vec::<String>::new(); 2]);
        assert_eq!(journal_bytes(&machine), [0, 0]);
        drop(manager);
        machine.memory.disk.kill();

        // A header of version 2, as its own checksum says.
        let mut newer = journal[..BLOCK as usize].to_vec();
        newer[11] = 2;
        let salted: Vec<u8> = [0_u8; 8].into_iter().chain(newer[..32].iter().copied()).collect();
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &salted) as u32;
        newer[32..36].copy_from_slice(&crc.to_be_bytes());
        let disk = machine.memory.disk.mount();
        disk.write_file_atomically(path, &newer).unwrap();
        let refused = machine.try_open().await.err().unwrap();
        assert!(matches!(refused, LogError::JournalVersion { version: 2, .. }), "{refused}");
    });
}
