//! The files of stopped nodes, in which bits are flipped, and what is in their logs: one that stopped in order and one that
//! was killed, with transactions; one that the cleaner went over; one that Apache Kafka wrote.

#![allow(clippy::disallowed_methods, reason = "what Apache Kafka wrote is put in place as an operator would")]

use std::collections::BTreeMap;
use std::fs;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ottla_config::LogConfig;
use ottla_log::{AppendOrigin, BatchToAppend, Cleaning, EndTransaction, LogManager, PartitionLog, TransactionVersion};
use ottla_record::{BatchBuilder, BatchHeader, Compression, ControlType, batches};
use ottla_rt::OpenMode;
use ottla_rt::memory::MemoryWorld;
use ottla_types::LeaderEpoch;

use crate::support::{Batch, Machine, append_with_epoch, committed_values, flush, partition};

/// Of the history with transactions.
const ROUNDS: i64 = 90;
pub const DIRECTORY: &str = "/data/orders-0";

/// A batch as it was written.
pub struct Written {
    pub header: BatchHeader,
    pub bytes: Bytes,
}

/// How a node stopped, and what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Stopped,
    Killed,
    Compacted,
    /// Written by Apache Kafka.
    Kafka,
}

pub struct Image {
    pub kind: Kind,
    pub files: Vec<(PathBuf, Vec<u8>)>,
    pub written: Vec<Written>,
    /// Timestamps with offsets, both rising; none where that is not so.
    pub times: Vec<(i64, i64)>,
    pub last_sequences: Vec<(i64, i32)>,
    /// What a reader of committed records is given.
    pub committed: Vec<(i64, Vec<u8>)>,
    pub last_stable_offset: i64,
    pub leader_epoch: i32,
    active: String,
    config: fn(&mut LogConfig),
}

pub async fn all() -> Vec<Image> {
    let images = vec![with_transactions(false).await, with_transactions(true).await, compacted().await, kafka().await];
    for image in &images {
        assert!(image.written.len() > 20, "{:?}", image.kind);
    }
    images
}

fn small_segments(config: &mut LogConfig) {
    config.segment_bytes = 4_000;
    config.index_interval_bytes = 300;
}

/// A node that has written and stopped, or was killed.
pub async fn with_transactions(killed: bool) -> Image {
    let machine = Machine::with_config(7, small_segments);
    let (manager, log) = machine.start().await;
    let mut times = Vec::new();
    let mut sequences = BTreeMap::new();
    for number in 0..ROUNDS {
        let epoch = (number / 11) as i32;
        let mut write = |producer: i64, values: &[&str], at: i64, transactional: bool| {
            let sequence = sequences.entry(producer).or_insert(0);
            let mut batch = Batch::of(values).at(at).by_producer(producer, 0, *sequence);
            batch.transactional = transactional;
            *sequence += values.len() as i32;
            let base_offset = append_with_epoch(&log, &batch, epoch).unwrap().base_offset;
            times.extend((0..values.len() as i64).map(|index| (at + index, base_offset + index)));
        };
        let at = 1_000 + number * 10;
        let values: Vec<String> =
            (0..=number % 3).map(|index| format!("{number}-{index}-{}", "x".repeat(60))).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        write(number % 4, &values, at, false);
        // Transactions overlap, and reach over segments.
        let producer = 100 + number % 3;
        if number % 5 == 0 {
            write(producer, &["in a transaction"], at + 4, true);
        }
        if number % 7 == 3 {
            let result = if number % 2 == 0 { ControlType::Commit } else { ControlType::Abort };
            let base_offset = end_transaction(&log, producer, result, epoch, at + 5);
            times.push((at + 5, base_offset));
        }
        if number == ROUNDS * 4 / 5 {
            flush(&manager, &log).await;
            manager.checkpoint().await;
        }
    }
    flush(&manager, &log).await;
    let kind = if killed { Kind::Killed } else { Kind::Stopped };
    if !killed {
        manager.shutdown(-1).await;
    }
    let image = take(machine, manager, log, kind, small_segments).await;
    assert!(image.written.len() as i64 > ROUNDS);
    Image { times, ..image }
}

fn end_transaction(log: &PartitionLog, producer_id: i64, result: ControlType, epoch: i32, now_ms: i64) -> i64 {
    let end = EndTransaction {
        producer_id,
        producer_epoch: 0,
        coordinator_epoch: 0,
        result,
        transaction_version: TransactionVersion::LEGACY,
    };
    log.append_end_transaction_marker(&end, LeaderEpoch(epoch), now_ms).unwrap().base_offset
}

/// A node whose cleaner has left holes everywhere.
async fn compacted() -> Image {
    fn config(config: &mut LogConfig) {
        config.segment_bytes = 3_000;
        config.segment_ms = i64::MAX;
        config.index_interval_bytes = 300;
        config.cleanup_policy.compact = true;
        config.cleanup_policy.delete = false;
        config.min_cleanable_dirty_ratio = 0.0;
    }
    let machine = Machine::with_config(7, config);
    let (manager, log) = machine.start().await;
    for number in 0..150_i64 {
        let mut builder = BatchBuilder::new(Compression::NONE);
        for index in 0..=number % 3 {
            // Most keys come again.
            let key = if number % 4 == 0 { format!("once {number}") } else { format!("again {}", number % 40) };
            let value = format!("{number}-{index}-{}", "y".repeat(40));
            builder.append(1_000 + number * 10 + index, Some(key.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
        }
        let bytes = builder.finish().unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        let batch = BatchToAppend { bytes: &bytes, header: &header, origin: AppendOrigin::Client };
        log.append(batch, LeaderEpoch((number / 30) as i32), 1_000).unwrap();
    }
    log.roll().unwrap();
    flush(&manager, &log).await;
    log.note_high_watermark(log.log_end_offset());
    assert!(matches!(manager.clean_filthiest().await, Cleaning::Cleaned { .. }));
    // The active segment has something, too.
    for _ in 0..5 {
        append_with_epoch(&log, &Batch::sized(30), 5).unwrap();
    }
    flush(&manager, &log).await;
    manager.shutdown(-1).await;
    let image = take(machine, manager, log, Kind::Compacted, config).await;
    let holes = image.written.windows(2).filter(|pair| pair[1].header.base_offset > pair[0].header.next_offset());
    assert!(holes.count() > 10, "the cleaner left holes");
    image
}

/// A directory that Apache Kafka has left in order.
async fn kafka() -> Image {
    let machine = Machine::with_config(7, |_| {});
    machine.open().await.shutdown(-1).await;
    machine.memory.disk.kill();
    let disk = machine.memory.disk.mount();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/golden/transactions");
    disk.create_dir_all(Path::new(DIRECTORY)).unwrap();
    for entry in fs::read_dir(golden).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "expected.txt" {
            let file = disk.open(&Path::new(DIRECTORY).join(entry.file_name()), OpenMode::CreateNew).unwrap();
            file.write_all_at(&[IoSlice::new(&fs::read(entry.path()).unwrap())], 0).unwrap();
        }
    }
    // Where it ended, as Kafka's checkpoint has it.
    let ends = ottla_log::OffsetCheckpoint::from([(partition(0), 148)]);
    let checkpoint = Path::new("/data/recovery-point-offset-checkpoint");
    disk.write_file_atomically(checkpoint, ottla_log::format_offsets(&ends).as_bytes()).unwrap();
    let files = files_of(&machine.memory);
    let manager = machine.open().await;
    let log = manager.get(&partition(0)).unwrap();
    Image { files, ..take(machine, manager, log, Kind::Kafka, |_| {}).await }
}

/// Ends the node as it is, and tells what it had.
async fn take(
    machine: Machine,
    manager: LogManager,
    log: Arc<PartitionLog>,
    kind: Kind,
    config: fn(&mut LogConfig),
) -> Image {
    let bases = log.segment_base_offsets();
    assert!(bases.len() >= 4);
    let written = bases.iter().flat_map(|base| {
        let bytes = Bytes::from(machine.read(&format!("{base:020}.log")));
        batches(&bytes)
            .map(|batch| batch.unwrap())
            .map(|(header, batch)| Written { header, bytes: Bytes::copy_from_slice(batch) })
            .collect::<Vec<_>>()
    });
    let written: Vec<Written> = written.collect();
    let leader_epoch = log.latest_epoch().unwrap();
    drop((manager, log));
    machine.memory.disk.kill();
    let mut image = Image {
        kind,
        files: files_of(&machine.memory),
        written,
        times: Vec::new(),
        last_sequences: Vec::new(),
        committed: Vec::new(),
        last_stable_offset: 0,
        leader_epoch,
        active: format!("{DIRECTORY}/{:020}.log", bases[bases.len() - 1]),
        config,
    };
    // As it is found without any flip.
    let machine = image.machine();
    let manager = machine.open().await;
    let log = manager.get(&partition(0)).unwrap();
    log.note_high_watermark(log.log_end_offset());
    image.last_sequences = last_sequences(&log);
    image.last_stable_offset = log.last_stable_offset();
    let mut next = 0;
    while next < image.last_stable_offset {
        let found = log.read_committed(next, 1_000, true, image.last_stable_offset).unwrap();
        let bytes = found.read.to_bytes().unwrap();
        image.committed.extend(committed_values(&bytes, found.aborted, next));
        next = found.read.end_offset;
    }
    drop((manager, log));
    machine.memory.disk.kill();
    image
}

pub fn last_sequences(log: &PartitionLog) -> Vec<(i64, i32)> {
    log.active_producers().into_iter().map(|(id, entry)| (id, entry.last_sequence())).collect()
}

fn files_of(memory: &MemoryWorld) -> Vec<(PathBuf, Vec<u8>)> {
    let disk = memory.disk.mount();
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::from("/data")];
    while let Some(directory) = directories.pop() {
        for entry in disk.read_dir(&directory).unwrap() {
            let path = directory.join(&entry.name);
            if entry.is_dir {
                directories.push(path);
            } else {
                let bytes = disk.read_file(&path, u64::MAX).unwrap();
                files.push((path, bytes));
            }
        }
    }
    files
}

impl Image {
    /// A machine with these files.
    pub fn machine(&self) -> Machine {
        let machine = Machine::with_config(7, self.config);
        let disk = machine.memory.disk.mount();
        for (path, bytes) in &self.files {
            disk.create_dir_all(path.parent().unwrap()).unwrap();
            let file = disk.open(path, OpenMode::CreateNew).unwrap();
            file.write_all_at(&[IoSlice::new(bytes)], 0).unwrap();
        }
        machine
    }

    /// The active segment's log.
    pub fn active(&self) -> &(PathBuf, Vec<u8>) {
        self.files.iter().find(|(path, _)| path == Path::new(&self.active)).unwrap()
    }

    /// What a file is.
    pub fn kind_of(&self, index: usize) -> &'static str {
        let (path, bytes) = &self.files[index];
        if !path.starts_with(DIRECTORY) || bytes.is_empty() {
            return "other";
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("log") if path == Path::new(&self.active) => "active log",
            Some("log") => "closed log",
            Some("index") => "index",
            Some("timeindex") => "timeindex",
            Some("txnindex") => "txnindex",
            Some("txnsum") => "txnsum",
            Some("headersum") => "headersum",
            Some("snapshot") => "snapshot",
            _ if path.ends_with("leader-epoch-checkpoint") => "epochs",
            _ => "other",
        }
    }
}
