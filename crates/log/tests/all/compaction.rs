//! The log cleaner: what it removes, what it keeps, and what it does not disturb.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use ottla_config::LogConfig;
use ottla_log::{
    AppendOrigin, BatchToAppend, CleanerSettings, Cleaning, LogManager, OffsetCheckpoint, PartitionLog, parse_offsets,
};
use ottla_record::{BatchBuilder, BatchHeader, Codec, Compression, DecompressionLimits, OpenBatch};
use ottla_rt::memory::{Failure, Fault, Operation, PowerLoss};
use ottla_types::LeaderEpoch;
use proptest::prelude::*;

use crate::support::*;

/// A record as it is read: offset, timestamp, key, value.
type Found = (i64, i64, Option<String>, Option<String>);

const NOW_MS: i64 = 1_767_225_600_000;

fn compacted(change: impl FnOnce(&mut LogConfig)) -> Machine {
    Machine::with_config(1, |config| {
        config.segment_bytes = 600;
        config.segment_ms = i64::MAX;
        config.index_interval_bytes = 100;
        config.cleanup_policy.compact = true;
        config.cleanup_policy.delete = false;
        config.min_cleanable_dirty_ratio = 0.0;
        config.delete_retention_ms = 1_000;
        change(config);
    })
}

/// One batch of records with keys; no value is a tombstone.
struct Keyed<'a> {
    records: &'a [(&'a str, Option<&'a str>)],
    codec: Codec,
    producer: Option<(i64, i16, i32)>,
}

fn keyed<'a>(records: &'a [(&'a str, Option<&'a str>)]) -> Keyed<'a> {
    Keyed { records, codec: Codec::None, producer: None }
}

impl Keyed<'_> {
    fn append(&self, log: &PartitionLog) -> i64 {
        let mut builder = BatchBuilder::new(Compression::new(self.codec));
        if let Some((id, epoch, sequence)) = self.producer {
            builder.set_producer(id, epoch, sequence);
        }
        for (index, (key, value)) in self.records.iter().enumerate() {
            let value = value.map(str::as_bytes);
            builder.append(NOW_MS + index as i64, Some(key.as_bytes()), value, &[]).unwrap();
        }
        let bytes = builder.finish().unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        let batch = BatchToAppend { bytes: &bytes, header: &header, origin: AppendOrigin::Client };
        log.append(batch, LeaderEpoch(0), NOW_MS).unwrap().base_offset
    }
}

fn put(log: &PartitionLog, key: &str, value: &str) -> i64 {
    keyed(&[(key, Some(value))]).append(log)
}

fn delete(log: &PartitionLog, key: &str) -> i64 {
    keyed(&[(key, None)]).append(log)
}

/// Everything below a new, empty segment is durable and replicated: it may be cleaned.
async fn settle(manager: &LogManager, log: &Arc<PartitionLog>) {
    log.roll().unwrap();
    flush(manager, log).await;
    log.note_high_watermark(log.log_end_offset());
}

/// From here on small segments are put together.
fn merge(machine: &Machine, log: &PartitionLog) {
    log.set_config(LogConfig { segment_bytes: 1 << 20, ..machine.config.clone() });
}

/// Every batch of the log.
fn batches(log: &PartitionLog) -> Vec<OpenBatch> {
    let mut found = Vec::new();
    let mut next = log.log_start_offset();
    while next < log.log_end_offset() {
        let before = next;
        let bytes = log.read(next, 300, true, i64::MAX).unwrap().to_bytes().unwrap();
        for batch in ottla_record::batches(&bytes) {
            let Ok((header, batch)) = batch else { break };
            ottla_record::verify_crc(batch).unwrap();
            found.push(OpenBatch::open(&Bytes::copy_from_slice(batch), &DecompressionLimits::default()).unwrap());
            next = header.next_offset();
        }
        if next == before {
            // What is left of the log is a hole.
            break;
        }
    }
    found
}

fn records(log: &PartitionLog) -> Vec<Found> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut found = Vec::new();
    for batch in batches(log) {
        for record in batch.records() {
            let record = record.unwrap();
            if record.offset >= log.log_start_offset() {
                found.push((record.offset, record.timestamp, record.key.map(text), record.value.map(text)));
            }
        }
    }
    found
}

fn short(log: &PartitionLog) -> Vec<(i64, String, Option<String>)> {
    records(log).into_iter().map(|(offset, _, key, value)| (offset, key.unwrap(), value)).collect()
}

fn cleaned(cleaning: Cleaning) -> i64 {
    match cleaning {
        Cleaning::Cleaned { cleaned_to, .. } => cleaned_to,
        other => panic!("{other:?}"),
    }
}

fn checkpoint(machine: &Machine) -> OffsetCheckpoint {
    let disk = machine.memory.disk.mount();
    parse_offsets(&disk.read_file("/data/cleaner-offset-checkpoint".as_ref(), 1 << 20).unwrap()).unwrap()
}

/// Nothing half done is in the partition's directory.
fn check_names(machine: &Machine) {
    for suffix in [".cleaned", ".swap"] {
        assert_eq!(machine.names_with(suffix), Vec::<String>::new());
    }
}

#[test]
fn the_newest_record_of_each_key_stays() {
    block_on(async {
        for codec in Codec::ALL {
            let machine = compacted(|_| {});
            let (manager, log) = machine.start().await;
            for round in 0..10 {
                let value = format!("value {round}");
                let records =
                    [("a", Some(value.as_str())), ("b", Some(&value)), (["c", "d", "e"][round % 3], Some(&value))];
                Keyed { codec, ..keyed(&records) }.append(&log);
            }
            settle(&manager, &log).await;
            let before = records(&log);
            merge(&machine, &log);
            let (segments, bytes) = (log.segment_base_offsets().len(), log.size());
            assert_eq!(cleaned(manager.clean_filthiest().await), 30, "{codec:?}");

            let offsets: Vec<i64> = records(&log).iter().map(|record| record.0).collect();
            // The newest of c, d and e came in the last three rounds.
            assert_eq!(offsets, [23, 26, 27, 28, 29], "{codec:?}");
            assert!(records(&log).iter().all(|record| before.contains(record)), "{codec:?}");
            assert!(log.segment_base_offsets().len() < segments && log.size() < bytes, "{codec:?}");
            assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 30));
            assert!(batches(&log).iter().all(|batch| batch.header().attributes.codec() == Some(codec)), "{codec:?}");
            check_names(&machine);
            assert_eq!(checkpoint(&machine), OffsetCheckpoint::from([(partition(0), 30)]));
            assert_eq!(manager.clean_filthiest().await, Cleaning::Nothing, "it is clean");
        }
    });
}

#[test]
fn only_what_is_closed_durable_and_replicated_is_cleaned() {
    block_on(async {
        let machine = compacted(|_| {});
        let (manager, log) = machine.start().await;
        for _ in 0..20 {
            put(&log, "key", "a value of some length");
        }
        let bases = log.segment_base_offsets();
        assert!(bases.len() > 3, "{bases:?}");
        flush(&manager, &log).await;
        assert_eq!(manager.clean_filthiest().await, Cleaning::Nothing, "nothing is replicated");
        // Within the third segment.
        log.note_high_watermark(bases[2] + 1);
        assert_eq!(cleaned(manager.clean_filthiest().await), bases[2]);
        let offsets: Vec<i64> = records(&log).iter().map(|record| record.0).collect();
        assert_eq!(offsets[0], bases[2] - 1, "the newest that was cleaned");
        assert_eq!(offsets[1..], (bases[2]..20).collect::<Vec<_>>()[..], "what follows is as it was");
        log.note_high_watermark(20);
        assert_eq!(cleaned(manager.clean_filthiest().await), *bases.last().unwrap(), "the active one is not");
    });
}

#[test]
fn a_log_waits_until_it_is_dirty_enough_or_its_time_has_come() {
    block_on(async {
        let machine = compacted(|config| config.min_cleanable_dirty_ratio = 0.5);
        let (manager, log) = machine.start().await;
        for number in 0..20 {
            put(&log, &format!("key {number}"), "value");
        }
        settle(&manager, &log).await;
        assert_eq!(cleaned(manager.clean_filthiest().await), 20, "all of it was dirty");
        put(&log, "key 1", "other");
        settle(&manager, &log).await;
        assert_eq!(manager.clean_filthiest().await, Cleaning::Nothing);
        let mut config = machine.config.clone();
        config.max_compaction_lag_ms = 10_000;
        log.set_config(config.clone());
        assert_eq!(manager.clean_filthiest().await, Cleaning::Nothing);
        machine.memory.clock.advance(Duration::from_secs(11));
        config.min_compaction_lag_ms = 12_000;
        config.max_compaction_lag_ms = 12_000;
        log.set_config(config.clone());
        assert_eq!(manager.clean_filthiest().await, Cleaning::Nothing, "too young");
        config.min_compaction_lag_ms = 10_000;
        config.max_compaction_lag_ms = 10_000;
        log.set_config(config);
        assert_eq!(cleaned(manager.clean_filthiest().await), 21);
    });
}

#[test]
fn tombstones_stay_until_their_horizon() {
    block_on(async {
        let machine = compacted(|_| {});
        let (manager, log) = machine.start().await;
        put(&log, "a", "value");
        put(&log, "b", "value");
        let tombstone = delete(&log, "a");
        settle(&manager, &log).await;
        cleaned(manager.clean_filthiest().await);
        let expected = [(1, "b".to_owned(), Some("value".to_owned())), (tombstone, "a".to_owned(), None)];
        assert_eq!(short(&log), expected);
        let of_tombstone = || batches(&log).into_iter().find(|batch| batch.header().base_offset == tombstone);
        let horizon_ms = of_tombstone().unwrap().header().delete_horizon_ms();
        assert_eq!(horizon_ms, Some(NOW_MS + 1_000));
        assert_eq!(records(&log)[1].1, NOW_MS, "its own time is as it was");

        // What is appended meanwhile makes the log dirty again.
        machine.memory.clock.advance(Duration::from_millis(999));
        put(&log, "c", "value");
        settle(&manager, &log).await;
        cleaned(manager.clean_filthiest().await);
        assert_eq!(of_tombstone().unwrap().header().delete_horizon_ms(), horizon_ms, "it is set once");
        machine.memory.clock.advance(Duration::from_millis(1));
        put(&log, "d", "value");
        settle(&manager, &log).await;
        cleaned(manager.clean_filthiest().await);
        let keys: Vec<String> = short(&log).into_iter().map(|(_, key, _)| key).collect();
        assert_eq!(keys, ["b", "c", "d"]);
    });
}

#[test]
fn sequences_of_active_producers_survive() {
    block_on(async {
        let machine = compacted(|_| {});
        let (manager, log) = machine.start().await;
        let idempotent = |sequence, value| Keyed { producer: Some((9, 0, sequence)), ..keyed(value) };
        idempotent(0, &[("a", Some("1")), ("b", Some("1"))]).append(&log);
        idempotent(2, &[("a", Some("2")), ("b", Some("2"))]).append(&log);
        for key in ["a", "b"] {
            put(&log, key, "3");
        }
        settle(&manager, &log).await;
        cleaned(manager.clean_filthiest().await);
        let offsets: Vec<i64> = records(&log).iter().map(|record| record.0).collect();
        assert_eq!(offsets, [4, 5]);
        let empty: Vec<(i64, i64, i32)> = batches(&log)
            .iter()
            .filter(|batch| batch.header().record_count == 0)
            .map(|batch| (batch.header().base_offset, batch.header().last_offset(), batch.header().last_sequence()))
            .collect();
        assert_eq!(empty, [(2, 3, 3)], "its last batch is kept, empty");

        // Also when the producers are known from the log alone.
        drop((manager, log));
        machine.memory.disk.kill();
        for name in machine.names_with(".snapshot") {
            machine.remove(&name);
        }
        let (manager, log) = machine.start().await;
        assert_eq!(idempotent(2, &[("a", Some("2")), ("b", Some("2"))]).append(&log), 2, "a duplicate");
        assert_eq!(idempotent(4, &[("a", Some("4"))]).append(&log), 6);
        settle(&manager, &log).await;
        cleaned(manager.clean_filthiest().await);
        assert!(batches(&log).iter().all(|batch| batch.header().base_offset != 2), "it has a newer batch");
    });
}

#[test]
fn a_small_map_takes_several_rounds() {
    block_on(async {
        let machine = compacted(|_| {});
        let (manager, log) = machine.start().await;
        // Room for nine keys.
        let settings = CleanerSettings { threads: 0, dedupe_buffer_bytes: 240, ..CleanerSettings::default() };
        manager.start_cleaner(settings);
        for round in 0..3 {
            for number in 0..20 {
                put(&log, &format!("key {number}"), &format!("value {round}"));
            }
        }
        settle(&manager, &log).await;
        let mut ends = Vec::new();
        while let Cleaning::Cleaned { cleaned_to, .. } = manager.clean_filthiest().await {
            ends.push(cleaned_to);
        }
        assert!(ends.len() > 5 && ends.is_sorted_by(|left, right| left < right), "{ends:?}");
        assert_eq!(ends.last(), Some(&60));
        let found: Vec<(i64, String, Option<String>)> =
            (0..20).map(|number| (40 + number, format!("key {number}"), Some("value 2".to_owned()))).collect();
        assert_eq!(short(&log), found);
    });
}

#[test]
fn who_reads_keeps_what_it_has() {
    block_on(async {
        let machine = compacted(|_| {});
        let (manager, log) = machine.start().await;
        for _ in 0..40 {
            put(&log, "key", "a value of some length");
        }
        settle(&manager, &log).await;
        drop((manager, log));
        // After a start nothing is in memory: reads are of files.
        machine.memory.disk.kill();
        let (manager, log) = machine.start().await;
        log.note_high_watermark(40);
        let held = log.read(0, 500, true, i64::MAX).unwrap();
        let expected = held.to_bytes().unwrap();
        assert_eq!(cleaned(manager.clean_filthiest().await), 40);
        assert_eq!(held.to_bytes().unwrap(), expected, "the file under it is as it was");
        assert_eq!(records(&log).len(), 1);
        assert_eq!(log.offset_of_max_timestamp().unwrap().unwrap().offset, 39);
    });
}

#[test]
fn compacted_and_deleted() {
    block_on(async {
        let machine = compacted(|config| {
            config.cleanup_policy.delete = true;
            config.retention_ms = 1_000;
        });
        let (manager, log) = machine.start().await;
        for number in 0..20 {
            put(&log, &format!("key {}", number % 10), "a value of some length");
        }
        settle(&manager, &log).await;
        cleaned(manager.clean_filthiest().await);
        assert_eq!(records(&log).len(), 10);
        manager.apply_retention(NOW_MS + 1_000).await;
        assert_eq!(records(&log).len(), 10);
        manager.apply_retention(NOW_MS + 1_001).await;
        assert_eq!((log.log_start_offset(), records(&log).len()), (20, 0));
        // The checkpoint is behind the log's start now, and nothing is wrong with that.
        for number in 0..20 {
            put(&log, &format!("key {}", number % 10), "a value of some length");
        }
        settle(&manager, &log).await;
        assert_eq!(cleaned(manager.clean_filthiest().await), 40);
        assert_eq!(records(&log).len(), 10);
    });
}

#[test]
fn replaced_segments_go_after_a_delay() {
    block_on(async {
        let machine = compacted(|config| config.file_delete_delay_ms = 500);
        let (manager, log) = machine.start().await;
        for _ in 0..40 {
            put(&log, "key", "a value of some length");
        }
        settle(&manager, &log).await;
        merge(&machine, &log);
        cleaned(manager.clean_filthiest().await);
        assert_eq!(log.segment_base_offsets(), [0, 40]);
        assert!(!machine.names_with(".deleted").is_empty());
        manager.remove_deleted().await;
        assert!(!machine.names_with(".deleted").is_empty());
        machine.memory.clock.advance(Duration::from_millis(501));
        manager.remove_deleted().await;
        assert_eq!(machine.names_with(".deleted"), Vec::<String>::new());
    });
}

#[test]
fn a_damaged_log_is_left_alone_and_the_others_are_cleaned() {
    block_on(async {
        let machine = compacted(|_| {});
        let manager = machine.open().await;
        let mut logs = Vec::new();
        for number in 0..2 {
            let log = machine.try_create(&manager, number).await.unwrap();
            // The damaged one is the dirtier, and comes first.
            for round in 0..20 + 20 * (1 - number) {
                put(&log, &format!("key {}", round % 3), "a value of some length");
            }
            settle(&manager, &log).await;
            logs.push(log);
        }
        // What is below the recovery point is not read at a start.
        manager.checkpoint().await;
        let name = format!("{:020}.log", logs[0].segment_base_offsets()[1]);
        let mut bytes = machine.read(&name);
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        machine.write(&name, &bytes);
        // Its open file is the one from before; a full cache closes it.
        drop((manager, logs));
        machine.memory.disk.kill();
        let manager = machine.open().await;
        let logs: Vec<_> = (0..2).map(|number| manager.get(&partition(number)).unwrap()).collect();
        for log in &logs {
            log.note_high_watermark(log.log_end_offset());
        }
        let mut outcomes = Vec::new();
        for _ in 0..3 {
            outcomes.push(manager.clean_filthiest().await);
        }
        outcomes.sort_by_key(|outcome| format!("{outcome:?}"));
        let expected = [
            Cleaning::Cleaned { topic_partition: partition(1), cleaned_to: 20 },
            Cleaning::Nothing,
            Cleaning::Uncleanable(partition(0)),
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(manager.uncleanable_partitions(), [partition(0)]);
        assert_eq!(machine.read(&name), bytes, "it is as it was");
        assert_eq!(records(&logs[1]).len(), 3);
        check_names(&machine);
        put(&logs[0], "key", "value");
        assert!(manager.directories()[0].online);
    });
}

#[test]
fn a_full_disk_puts_cleaning_off() {
    block_on(async {
        for operation in [Operation::Write, Operation::Rename, Operation::Create] {
            let machine = compacted(|_| {});
            let (manager, log) = machine.start().await;
            for _ in 0..40 {
                put(&log, "key", "a value of some length");
            }
            settle(&manager, &log).await;
            let before = records(&log);
            machine.memory.disk.inject(Fault::nth(operation, 0, Failure::NoSpace).on(".cleaned"));
            assert_eq!(manager.clean_filthiest().await, Cleaning::PutOff(partition(0)), "{operation:?}");
            check_names(&machine);
            assert_eq!(records(&log), before);
            assert!(manager.directories()[0].online);
            assert_eq!(cleaned(manager.clean_filthiest().await), 40, "{operation:?}: there is room again");
            assert_eq!(records(&log).len(), 1);
        }
    });
}

/// Whatever has no room, at whatever step: the log can be read, before and after a restart, and is cleaned later.
#[test]
fn a_full_disk_at_every_step_of_a_cleaning() {
    for keys in [1, 30] {
        for operation in [Operation::Open, Operation::Create, Operation::Write, Operation::SetLen, Operation::Rename] {
            let nths = 0..40;
            let struck = nths.filter(|nth| block_on(clean_on_a_full_disk(keys, operation, *nth))).count();
            assert!(struck > 0 || operation == Operation::SetLen, "{operation:?}");
        }
    }
}

/// Whether the disk was full.
async fn clean_on_a_full_disk(keys: usize, operation: Operation, nth: u64) -> bool {
    let what = format!("{keys} keys, {operation:?} {nth}");
    let machine = compacted(|_| {});
    let (manager, log) = machine.start().await;
    for number in 0..40 {
        put(&log, &format!("key {}", number % keys), "a value of some length");
    }
    settle(&manager, &log).await;
    let before = short(&log);
    // Group after group is cleaned, so what is superseded goes from the start on.
    let is_right = |found: &[_]| before.ends_with(found) && found.len() >= keys;
    machine.memory.disk.inject(Fault::nth(operation, nth, Failure::NoSpace));
    let cleaning = manager.clean_filthiest().await;
    let struck = !machine.memory.disk.struck().is_empty();
    machine.memory.disk.clear_faults();
    // One that is decided and not finished is left to the next start; nothing is served until then.
    if manager.directories()[0].online {
        assert!(!matches!(cleaning, Cleaning::Uncleanable(_)), "{what}");
        let found = short(&log);
        assert!(is_right(&found), "{what}, {cleaning:?}: {found:?}");
        check_names(&machine);
        manager.clean_filthiest().await;
        assert_eq!(short(&log), before[40 - keys..], "{what}: there is room again");
    }
    drop((manager, log));
    machine.memory.disk.kill();
    let (manager, log) = machine.start().await;
    assert!(manager.offline_partitions().is_empty(), "{what}: {:?}", manager.offline_partitions());
    check_names(&machine);
    let found = short(&log);
    assert!(is_right(&found), "{what}: {found:?}");
    struck
}

#[test]
fn a_failed_sync_while_cleaning_takes_the_directory_offline() {
    block_on(async {
        for operation in [Operation::Sync, Operation::SyncDir, Operation::Rename] {
            let machine = compacted(|_| {});
            let (manager, log) = machine.start().await;
            for _ in 0..40 {
                put(&log, "key", "a value of some length");
            }
            settle(&manager, &log).await;
            let before = records(&log);
            machine.memory.disk.inject(Fault::nth(operation, 0, Failure::Io));
            assert_eq!(manager.clean_filthiest().await, Cleaning::Uncleanable(partition(0)), "{operation:?}");
            assert!(!manager.directories()[0].online, "{operation:?}");
            drop((manager, log));
            machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
            let (manager, log) = machine.start().await;
            check_names(&machine);
            let after = records(&log);
            assert!(after == before || after == before[39..], "{operation:?}: {after:?}");
            log.note_high_watermark(40);
            manager.clean_filthiest().await;
            assert_eq!(records(&log), before[39..]);
        }
    });
}

/// Polls a future once, which runs a cleaning up to where the throttle has it wait.
fn poll_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

/// A byte a second.
const SLOW: f64 = 1.0;

fn throttled(rate: f64) -> CleanerSettings {
    CleanerSettings { threads: 0, io_max_bytes_per_second: rate, ..CleanerSettings::default() }
}

/// What happens to a log while it is cleaned.
async fn meanwhile(
    happens: impl AsyncFn(&Machine, &LogManager, &Arc<PartitionLog>),
) -> (Machine, LogManager, Arc<PartitionLog>, Cleaning) {
    let machine = compacted(|_| {});
    let (manager, log) = machine.start().await;
    for _ in 0..40 {
        put(&log, "key", "a value of some length");
    }
    settle(&manager, &log).await;
    manager.start_cleaner(throttled(SLOW));
    let cleaning = {
        let mut cleaning = std::pin::pin!(manager.clean_filthiest());
        // At this rate it waits after every step; settings, whatever they are, have it go on with the next one.
        while machine.names_with(".cleaned").is_empty() {
            assert_eq!(poll_once(cleaning.as_mut()), None, "it waits");
            manager.start_cleaner(throttled(SLOW));
        }
        happens(&machine, &manager, &log).await;
        manager.start_cleaner(throttled(f64::MAX));
        cleaning.await
    };
    (machine, manager, log, cleaning)
}

#[test]
fn a_cut_log_is_given_up() {
    block_on(async {
        let (machine, manager, log, cleaning) = meanwhile(async |_, _, log| log.truncate_to(30).unwrap()).await;
        assert_eq!(cleaning, Cleaning::PutOff(partition(0)));
        check_names(&machine);
        assert_eq!(records(&log).len(), 30);
        settle(&manager, &log).await;
        assert_eq!(cleaned(manager.clean_filthiest().await), 30);
        assert_eq!(records(&log).len(), 1);
        // What a cut takes away is not clean when it is written again.
        log.truncate_to(29).unwrap();
        assert!(checkpoint(&machine)[&partition(0)] <= 29);
    });
}

#[test]
fn a_log_that_is_no_longer_compacted_is_given_up() {
    block_on(async {
        let (machine, _manager, log, cleaning) = meanwhile(async |machine, _, log| {
            let mut config = machine.config.clone();
            config.cleanup_policy.compact = false;
            log.set_config(config);
        })
        .await;
        assert_eq!(cleaning, Cleaning::PutOff(partition(0)));
        check_names(&machine);
        assert_eq!(records(&log).len(), 40);
        drop(log);
        machine.memory.disk.kill();
        let (_manager, log) = machine.start().await;
        check_names(&machine);
        assert_eq!(records(&log).len(), 40);
    });
}

#[test]
fn a_deleted_log_is_given_up_and_its_name_is_free() {
    block_on(async {
        let (machine, manager, _log, cleaning) = meanwhile(async |machine, manager, _| {
            manager.delete(&partition(0)).await.unwrap();
            let log = machine.try_create(manager, 0).await.unwrap();
            put(&log, "new", "log");
        })
        .await;
        assert_eq!(cleaning, Cleaning::PutOff(partition(0)));
        check_names(&machine);
        let log = manager.get(&partition(0)).unwrap();
        assert_eq!(short(&log), [(0, "new".to_owned(), Some("log".to_owned()))]);
        assert!(manager.directories()[0].online);
    });
}

#[test]
fn retention_comes_first() {
    block_on(async {
        let (machine, manager, log, cleaning) = meanwhile(async |_, manager, log| {
            log.advance_log_start_offset(35).unwrap();
            manager.apply_retention(NOW_MS).await;
        })
        .await;
        assert_eq!(cleaning, Cleaning::PutOff(partition(0)));
        check_names(&machine);
        assert_eq!(records(&log).len(), 5);
        cleaned(manager.clean_filthiest().await);
        assert_eq!(records(&log).len(), 1);
    });
}

#[test]
fn appends_go_on_and_a_stop_is_noticed() {
    block_on(async {
        let (machine, manager, log, cleaning) = meanwhile(async |_, _, log| {
            put(log, "another", "key");
        })
        .await;
        assert_eq!(cleaning, Cleaning::Cleaned { topic_partition: partition(0), cleaned_to: 40 });
        assert_eq!(records(&log).len(), 2);
        for _ in 0..20 {
            put(&log, "key", "a value of some length");
        }
        settle(&manager, &log).await;
        manager.start_cleaner(throttled(SLOW));
        {
            let mut cleaning = std::pin::pin!(manager.clean_filthiest());
            assert_eq!(poll_once(cleaning.as_mut()), None);
            manager.shutdown(-1).await;
            assert_eq!(cleaning.await, Cleaning::PutOff(partition(0)));
        }
        check_names(&machine);
    });
}

#[test]
fn the_tasks_clean_by_themselves() {
    block_on(async {
        let machine = compacted(|_| {});
        let (manager, log) = machine.start().await;
        for _ in 0..40 {
            put(&log, "key", "a value of some length");
        }
        settle(&manager, &log).await;
        manager.start_cleaner(CleanerSettings { threads: 2, backoff_ms: 1, ..CleanerSettings::default() });
        while records(&log).len() > 1 {
            tokio::task::yield_now().await;
        }
        // They look again after a rest.
        put(&log, "another", "key");
        put(&log, "another", "key");
        settle(&manager, &log).await;
        while records(&log).len() > 2 {
            tokio::task::yield_now().await;
        }
        manager.shutdown(-1).await;
        assert_eq!(checkpoint(&machine), OffsetCheckpoint::from([(partition(0), 42)]));
        assert_eq!(manager.clean_filthiest().await, Cleaning::Nothing);
    });
}

#[test]
fn a_cleaned_log_is_recovered_by_a_node_that_does_not_know_it_is_compacted() {
    block_on(async {
        let mut machine = compacted(|_| {});
        let (manager, log) = machine.start().await;
        for number in 0..40 {
            put(&log, &format!("key {}", number % 7), "a value of some length");
        }
        settle(&manager, &log).await;
        manager.checkpoint().await;
        cleaned(manager.clean_filthiest().await);
        let expected = records(&log);
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        // A start knows the topics' settings only later, and the cleaner's checkpoint may be behind.
        machine.memory.disk.mount().remove_file("/data/cleaner-offset-checkpoint".as_ref()).unwrap();
        machine.config.cleanup_policy.compact = false;
        let (_manager, log) = machine.start().await;
        assert_eq!(log.log_end_offset(), 40);
        assert_eq!(records(&log), expected);
    });
}

/// Power goes at every single operation of a cleaning, and of the recovery after it.
#[test]
fn power_may_go_at_any_operation_of_a_cleaning() {
    block_on(async {
        for loss in 0..4_u64 {
            let mut operations = 0;
            loop {
                let machine = compacted(|_| {});
                let (manager, log) = machine.start().await;
                for number in 0..40 {
                    put(&log, &format!("key {}", number % 3), "a value of some length");
                    if number % 10 == 0 {
                        delete(&log, "gone");
                    }
                }
                settle(&manager, &log).await;
                manager.checkpoint().await;
                manager.checkpoint_high_watermarks().await;
                if loss % 2 == 0 {
                    merge(&machine, &log);
                } else {
                    // Several groups of several segments, and a file of a cleaning that was given up and could not remove it.
                    log.set_config(LogConfig { segment_bytes: 1_300, ..machine.config.clone() });
                    machine.write("00000000000000000001.log.cleaned", b"half written");
                }
                let (before, end) = (records(&log), log.log_end_offset());
                machine.memory.disk.power_off_after(operations);
                let cleaning = manager.clean_filthiest().await;
                let done = matches!(cleaning, Cleaning::Cleaned { .. });
                drop((manager, log));
                let after = |seed: u64| match loss {
                    0 => PowerLoss::LoseUnsynced,
                    1 => PowerLoss::KeepUnsynced,
                    _ => PowerLoss::Arbitrary { seed: seed * 31 + loss },
                };
                machine.memory.disk.lose_power(after(operations));
                // Also while the start mends what was left.
                machine.memory.disk.power_off_after(operations % 40);
                drop(machine.try_open().await);
                machine.memory.disk.lose_power(after(operations + 1_000));

                let (manager, log) = machine.start().await;
                eprintln!("power went at operation {operations}, {loss}: {cleaning:?}");
                check_names(&machine);
                assert_eq!(log.log_end_offset(), end);
                let found = records(&log);
                let newest = |records: &[Found]| -> BTreeMap<String, Found> {
                    records.iter().map(|record| (record.2.clone().unwrap(), record.clone())).collect()
                };
                assert_eq!(newest(&found), newest(&before));
                assert!(found.iter().all(|record| before.contains(record)), "nothing is made up");
                assert!(found.is_sorted_by(|left, right| left.0 < right.0), "nothing is there twice");
                // And goes on as ever.
                put(&log, "key 1", "newer");
                settle(&manager, &log).await;
                cleaned(manager.clean_filthiest().await);
                assert_eq!(records(&log).len(), 4);
                if done {
                    break;
                }
                operations += 1;
            }
            assert!(operations > 40, "a cleaning has many operations, not {operations}");
        }
    });
}

#[derive(Clone, Debug)]
enum Step {
    /// Keys and whether each has a value, in one batch.
    Append {
        records: Vec<(u8, bool)>,
        codec: usize,
        idempotent: bool,
    },
    Clean {
        map_slots: u8,
        merge: bool,
    },
    Advance(u16),
    Trim(u8),
    Restart,
    PowerLoss(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let batch = proptest::collection::vec((0..12_u8, proptest::bool::weighted(0.8)), 1..6);
    let step = prop_oneof![
        12 => (batch, 0..8_usize, any::<bool>())
            .prop_map(|(records, codec, idempotent)| Step::Append { records, codec, idempotent }),
        4 => (0..30_u8, any::<bool>()).prop_map(|(map_slots, merge)| Step::Clean { map_slots, merge }),
        2 => (0..1_500_u16).prop_map(Step::Advance),
        1 => (0..=100_u8).prop_map(Step::Trim),
        1 => Just(Step::Restart),
        1 => any::<u64>().prop_map(Step::PowerLoss),
    ];
    proptest::collection::vec(step, 1..50)
}

/// What was appended, and when the cleaner first met each tombstone.
#[derive(Default)]
struct Model {
    records: Vec<Found>,
    cleaned_to: i64,
    /// The earliest time at which each tombstone may go, by its offset.
    horizons: BTreeMap<i64, i64>,
}

impl Model {
    /// Tombstones have the horizon of their batch, set when the cleaner first meets them.
    fn note_horizons(&mut self, log: &PartitionLog, now_ms: i64) {
        for batch in batches(log) {
            let Some(horizon_ms) = batch.header().delete_horizon_ms() else { continue };
            for record in batch.records().map(Result::unwrap).filter(|record| record.value.is_none()) {
                let noted = *self.horizons.entry(record.offset).or_insert(now_ms + 1_000);
                assert_eq!(noted, horizon_ms, "it is set once");
            }
        }
    }

    /// Compares what is there with what may and must be there.
    fn check(&mut self, log: &PartitionLog, now_ms: i64) {
        let found = records(log);
        assert!(found.is_sorted_by(|left, right| left.0 < right.0));
        let start = log.log_start_offset();
        let by_offset: BTreeMap<i64, &Found> = self.records.iter().map(|record| (record.0, record)).collect();
        for record in &found {
            assert_eq!(Some(&record), by_offset.get(&record.0), "a record that was never appended");
        }
        let kept: BTreeSet<i64> = found.iter().map(|record| record.0).collect();
        let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
        for record in &self.records {
            if record.0 < self.cleaned_to {
                newest.insert(record.2.as_deref().unwrap(), record.0);
            }
        }
        for record in self.records.iter().filter(|record| record.0 >= start) {
            let is_kept = kept.contains(&record.0);
            if record.0 >= self.cleaned_to {
                let anywhere_newer = self.records.iter().any(|other| other.0 > record.0 && other.2 == record.2);
                // Behind the cleaned part nothing is removed, but what a lost checkpoint had covered.
                assert!(is_kept || anywhere_newer, "{record:?} is not cleaned");
                continue;
            }
            let is_newest = newest[record.2.as_deref().unwrap()] == record.0;
            if is_newest && record.3.is_some() {
                assert!(is_kept, "{record:?} is the newest of its key");
            }
            if is_newest && record.3.is_none() {
                let horizon_ms = self.horizons.get(&record.0).copied().unwrap_or(i64::MAX);
                assert!(is_kept || now_ms >= horizon_ms, "{record:?} went before its time");
            }
            assert!(is_newest || !is_kept, "{record:?} is superseded");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_the_newest_of_each_key(steps in steps()) {
        block_on(async {
            let machine = compacted(|_| {});
            let (mut manager, mut log) = machine.start().await;
            let (mut model, mut sequence, mut counter) = (Model::default(), 0, 0);
            for step in &steps {
                let now_ms = machine.memory.world().clock.wall_ms();
                match step {
                    Step::Append { records, codec, idempotent } => {
                        let keys: Vec<String> = records.iter().map(|(key, _)| format!("key {key}")).collect();
                        let values: Vec<Option<String>> = records
                            .iter()
                            .map(|(_, has_value)| {
                                counter += 1;
                                has_value.then(|| format!("value {counter}"))
                            })
                            .collect();
                        let batch: Vec<(&str, Option<&str>)> =
                            keys.iter().zip(&values).map(|(key, value)| (key.as_str(), value.as_deref())).collect();
                        let codec = Codec::ALL.get(*codec).copied().unwrap_or(Codec::None);
                        let producer = idempotent.then_some((7, 0, sequence));
                        sequence += if *idempotent { batch.len() as i32 } else { 0 };
                        let base = Keyed { codec, producer, ..keyed(&batch) }.append(&log);
                        for (index, (key, value)) in keys.into_iter().zip(values).enumerate() {
                            model.records.push((base + index as i64, NOW_MS + index as i64, Some(key), value));
                        }
                        flush(&manager, &log).await;
                        log.note_high_watermark(log.log_end_offset());
                    }
                    Step::Clean { map_slots, merge: merges } => {
                        if *merges {
                            merge(&machine, &log);
                        }
                        log.roll().unwrap();
                        flush(&manager, &log).await;
                        let bytes = 24 * (u64::from(*map_slots) + 2);
                        let settings = CleanerSettings { threads: 0, dedupe_buffer_bytes: bytes, ..CleanerSettings::default() };
                        manager.start_cleaner(settings);
                        if let Cleaning::Cleaned { cleaned_to, .. } = manager.clean_filthiest().await {
                            model.cleaned_to = cleaned_to;
                            model.note_horizons(&log, now_ms);
                        }
                    }
                    Step::Advance(by_ms) => machine.memory.clock.advance(Duration::from_millis(u64::from(*by_ms))),
                    Step::Trim(percent) => {
                        let offset = log.flushed_offset() * i64::from(*percent) / 100;
                        let outcome = manager.delete_records(vec![(Arc::clone(&log), offset)]).await;
                        assert!(outcome[0].is_ok());
                    }
                    Step::Restart => {
                        manager.shutdown(-1).await;
                        drop((manager, log));
                        (manager, log) = machine.start().await;
                    }
                    Step::PowerLoss(seed) => {
                        manager.checkpoint_high_watermarks().await;
                        drop((manager, log));
                        machine.memory.disk.lose_power(PowerLoss::Arbitrary { seed: *seed });
                        (manager, log) = machine.start().await;
                        log.note_high_watermark(log.log_end_offset());
                    }
                }
                assert_eq!(log.log_end_offset(), model.records.last().map_or(0, |record| record.0 + 1));
                model.check(&log, machine.memory.world().clock.wall_ms());
            }
            // The producer is known still, however little is left of what it wrote.
            if sequence > 0 && log.log_start_offset() == 0 {
                let last = Keyed { producer: Some((7, 0, sequence)), ..keyed(&[("last", Some("word"))]) };
                assert_eq!(last.append(&log), model.records.last().unwrap().0 + 1);
            }
        });
    }
}

#[test]
fn damaged_offsets_of_a_cleaned_segment_are_noticed() {
    block_on(async {
        let machine = compacted(|_| {});
        let (manager, log) = machine.start().await;
        for number in 0..40 {
            put(&log, if number == 20 { "lone" } else { "key" }, "a value of some length");
        }
        settle(&manager, &log).await;
        cleaned(manager.clean_filthiest().await);
        manager.checkpoint().await;
        assert_eq!(short(&log).iter().map(|record| record.0).collect::<Vec<_>>(), [20, 39]);
        // It says it is at 21, where a hole is as well; its CRC does not cover that.
        let base = log.segment_base_offsets().into_iter().filter(|base| *base <= 20).max().unwrap();
        let name = format!("{base:020}.log");
        let mut bytes = machine.read(&name);
        assert_eq!(bytes[..8], 20_i64.to_be_bytes());
        bytes[7] = 21;
        drop((manager, log));
        machine.memory.disk.kill();
        machine.write(&name, &bytes);
        let (manager, log) = machine.start().await;
        for _ in 0..20 {
            put(&log, "another", "a value of some length");
        }
        settle(&manager, &log).await;
        assert_eq!(manager.clean_filthiest().await, Cleaning::Uncleanable(partition(0)));
    });
}
