//! Bits flipped in the files of a log: whatever is served afterwards is what was written.
//!
//! A few dozen batches in closed segments and an active one, with all that stands beside them; one bit of one file is
//! flipped, the log is opened and everything is read. Each batch has to come as it was written, byte for byte, or has to
//! be refused; after a kill the end may be cut, but nothing before it. A bit in an index, a snapshot or the leader epochs
//! may cost time, never a record.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ottla_log::{Finding, LogManager, PartitionLog, ReadError, VerifyReport};
use ottla_record::{BATCH_OVERHEAD, BatchHeader, Records, batches};
use ottla_rt::memory::{MemoryWorld, SeededEntropy};
use ottla_rt::{OpenMode, random_u64};

use crate::support::{Batch, Machine, append_with_epoch, flush, partition};

const BATCHES: i64 = 90;
const DIRECTORY: &str = "/data/orders-0";

/// How the node had stopped, and when the bit was flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Stopped in order, then flipped.
    Stopped,
    /// Killed with batches above the recovery point, then flipped.
    Killed,
    /// Flipped under a log that is open.
    Running,
}

/// What came of the flips.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub flips: u64,
    /// By the kind of file.
    pub files: BTreeMap<&'static str, u64>,
    /// The partition did not come up.
    pub offline: u64,
    /// Batches were refused.
    pub refused: u64,
    /// The end was cut, and said so.
    pub cut: u64,
    /// Everything was served as it was written.
    pub unchanged: u64,
    /// Flips that a check of the directory finds.
    pub found_by_check: u64,
}

/// A batch as it was written.
struct Written {
    header: BatchHeader,
    bytes: Bytes,
}

/// The files of a stopped node, and what is in its log.
struct Image {
    files: Vec<(PathBuf, Vec<u8>)>,
    written: Vec<Written>,
    /// Timestamps with offsets, both rising.
    times: Vec<(i64, i64)>,
    last_sequences: Vec<(i64, i32)>,
    leader_epoch: i32,
    active: String,
}

/// Flips so many bits, one at a time.
pub async fn run(seed: u64, flips: u64) -> Counts {
    let random = SeededEntropy::new(seed);
    let below = |bound: usize| (random_u64(&random) % bound.max(1) as u64) as usize;
    let (stopped, killed) = (image(false).await, image(true).await);
    for image in [&stopped, &killed] {
        assert_eq!(findings_of(&image.machine()), 0, "nothing is wrong before");
    }
    let mut counts = Counts::default();
    let mut number = 0;
    while counts.flips < flips {
        number += 1;
        let state = [State::Stopped, State::Killed, State::Running][below(3)];
        let image = if state == State::Killed { &killed } else { &stopped };
        let kinds = ["closed log", "active log", "index", "timeindex", "snapshot", "epochs"];
        // Half of them in what has no copy.
        let kind = kinds[[0, 0, 1, 2, 3, 4, 5, 0][below(8)]];
        let candidates: Vec<usize> = (0..image.files.len()).filter(|index| image.kind_of(*index) == kind).collect();
        let index = candidates[below(candidates.len())];
        let bit = below(image.files[index].1.len() * 8);
        let what = format!(
            "seed {seed}, flip {number}: {state:?}, bit {bit} of {} ({} bytes)",
            image.files[index].0.display(),
            image.files[index].1.len()
        );
        let reads = [below(1_000), below(1_000), below(1_000), below(1_000)];
        if check(image, state, index, bit, reads, kind, &what, &mut counts).await {
            counts.flips += 1;
            *counts.files.entry(kind).or_default() += 1;
        }
    }
    counts
}

/// A node that has written and stopped, or was killed.
async fn image(killed: bool) -> Image {
    let machine = Machine::with_config(7, |config| {
        config.segment_bytes = 4_000;
        config.index_interval_bytes = 300;
    });
    let (manager, log) = machine.start().await;
    let mut times = Vec::new();
    for number in 0..BATCHES {
        let values: Vec<String> =
            (0..=number % 3).map(|index| format!("{number}-{index}-{}", "x".repeat(60))).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let batch = Batch::of(&values).at(1_000 + number * 10).by_producer(number % 4, 0, sequence_of(number));
        let appended = append_with_epoch(&log, &batch, (number / 11) as i32).unwrap();
        times.extend((0..=number % 3).map(|index| (1_000 + number * 10 + index, appended.base_offset + index)));
        if number == BATCHES * 4 / 5 {
            flush(&manager, &log).await;
            manager.checkpoint().await;
        }
    }
    flush(&manager, &log).await;
    let leader_epoch = log.latest_epoch().unwrap();
    let last_sequences = last_sequences(&log);
    let bases = log.segment_base_offsets();
    let written = bases.iter().flat_map(|base| {
        let bytes = Bytes::from(machine.read(&format!("{base:020}.log")));
        batches(&bytes)
            .map(|batch| batch.unwrap())
            .map(|(header, batch)| Written { header, bytes: Bytes::copy_from_slice(batch) })
            .collect::<Vec<_>>()
    });
    let written: Vec<Written> = written.collect();
    assert_eq!(written.len() as i64, BATCHES);
    assert!(bases.len() >= 4);
    if !killed {
        manager.shutdown(-1).await;
    }
    drop((manager, log));
    machine.memory.disk.kill();
    let active = format!("{DIRECTORY}/{:020}.log", bases[bases.len() - 1]);
    Image { files: files_of(&machine.memory), written, times, last_sequences, leader_epoch, active }
}

/// The records before this batch of the same producer.
fn sequence_of(number: i64) -> i32 {
    (0..number).filter(|other| other % 4 == number % 4).map(|other| other as i32 % 3 + 1).sum()
}

fn last_sequences(log: &PartitionLog) -> Vec<(i64, i32)> {
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
    fn machine(&self) -> Machine {
        let machine = Machine::with_config(7, |config| {
            config.segment_bytes = 4_000;
            config.index_interval_bytes = 300;
        });
        let disk = machine.memory.disk.mount();
        for (path, bytes) in &self.files {
            disk.create_dir_all(path.parent().unwrap()).unwrap();
            let file = disk.open(path, OpenMode::CreateNew).unwrap();
            file.write_all_at(&[IoSlice::new(bytes)], 0).unwrap();
        }
        machine
    }

    fn kind_of(&self, index: usize) -> &'static str {
        let (path, bytes) = &self.files[index];
        if !path.starts_with(DIRECTORY) || bytes.is_empty() {
            return "other";
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("log") if path == Path::new(&self.active) => "active log",
            Some("log") => "closed log",
            Some("index") => "index",
            Some("timeindex") => "timeindex",
            Some("snapshot") => "snapshot",
            _ if path.ends_with("leader-epoch-checkpoint") => "epochs",
            _ => "other",
        }
    }
}

#[derive(Default)]
struct Findings(usize);

impl VerifyReport for Findings {
    fn finding(&mut self, _: Finding) {
        self.0 += 1;
    }
}

fn findings_of(machine: &Machine) -> usize {
    let mut findings = Findings::default();
    ottla_log::verify(&*machine.memory.disk.mount(), Path::new("/data"), false, &mut findings).unwrap();
    findings.0
}

/// Flips a bit and looks at everything; false if the bit was no longer there.
#[expect(clippy::too_many_arguments, reason = "one flip, told in full")]
async fn check(
    image: &Image,
    state: State,
    index: usize,
    bit: usize,
    reads: [usize; 4],
    kind: &'static str,
    what: &str,
    counts: &mut Counts,
) -> bool {
    let machine = image.machine();
    let (path, _) = &image.files[index];
    let opened = if state == State::Running { Some(machine.open().await) } else { None };
    let mut found = None;
    if state != State::Running {
        machine.flip_in(path, bit);
        let findings = findings_of(&machine);
        counts.found_by_check += u64::from(findings > 0);
        // Which epoch is right above the recovery point, only the cluster's metadata knows.
        let known = kind == "snapshot" || (kind.ends_with("log") && state == State::Stopped);
        assert!(findings > 0 || !known, "{what}: the check finds nothing");
        found = Some(findings);
    }
    let manager: LogManager = match opened {
        Some(manager) => {
            // The start may have removed the file, or its end.
            let bytes = machine.memory.disk.mount().read_file(path, u64::MAX).unwrap_or_default();
            if bit / 8 >= bytes.len() {
                return false;
            }
            machine.flip_in(path, bit);
            manager
        }
        None => machine.open().await,
    };
    let Some(log) = manager.get(&partition(0)) else {
        assert!(kind.ends_with("log"), "{what}: offline");
        counts.offline += 1;
        return true;
    };
    log.forget_epochs_above(image.leader_epoch);
    let refused = read_all(image, &log, reads[0] + 1, what) + look_up(image, &log, reads, what);
    if kind == "snapshot" {
        assert_eq!(last_sequences(&log), image.last_sequences, "{what}");
    }
    let end = image.written.last().unwrap().header.next_offset();
    if log.log_end_offset() < end {
        assert!(state == State::Killed && kind.ends_with("log"), "{what}: cut to {}", log.log_end_offset());
        counts.cut += 1;
    } else if refused > 0 {
        assert!(kind.ends_with("log") || kind == "epochs", "{what}: {refused} reads refused");
        assert!(found != Some(0) || state == State::Killed, "{what}: refused, and the check finds nothing");
        counts.refused += 1;
    } else {
        counts.unchanged += 1;
    }
    drop((manager, log));
    machine.memory.disk.kill();
    true
}

/// Reads the log from its start to its end; returns how many reads were refused.
fn read_all(image: &Image, log: &PartitionLog, max_bytes: usize, what: &str) -> usize {
    let mut refused = 0;
    let mut next = 0;
    while let Some(expected) = image.written.get(next) {
        let offset = expected.header.base_offset;
        if offset >= log.log_end_offset() {
            break;
        }
        match log.read(offset, max_bytes, true, i64::MAX) {
            Ok(read) => {
                let bytes = read.to_bytes().unwrap();
                assert!(!bytes.is_empty(), "{what}: nothing at {offset}");
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let expected = &image.written[next].bytes;
                    assert!(rest.starts_with(expected), "{what}: other bytes are served for batch {next}");
                    rest = &rest[expected.len()..];
                    next += 1;
                }
                assert_eq!(read.end_offset, image.written[next - 1].header.next_offset(), "{what}");
            }
            Err(ReadError::Damaged { .. }) => {
                refused += 1;
                next += 1;
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
    refused
}

/// Reads in the middle, and looks times up; returns how much of it was refused.
fn look_up(image: &Image, log: &PartitionLog, reads: [usize; 4], what: &str) -> usize {
    let mut refused = 0;
    let end = log.log_end_offset();
    for read in reads {
        let offset = read as i64 % end.max(1);
        match log.read(offset, 1, true, i64::MAX) {
            Ok(read) => {
                let expected = image.written.iter().find(|written| written.header.last_offset() >= offset).unwrap();
                assert_eq!(read.to_bytes().unwrap(), expected.bytes, "{what}: at {offset}");
                let body = &expected.bytes[BATCH_OVERHEAD..];
                assert!(Records::new(&expected.header, body).any(|record| record.unwrap().offset == offset));
            }
            Err(ReadError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("{what}: {error}"),
        }
        let timestamp = 1_000 + read as i64;
        let expected = image.times.iter().find(|(time, offset)| *time >= timestamp && *offset < end);
        match log.offset_for_timestamp(timestamp) {
            Ok(found) => {
                let found = found.map(|found| (found.timestamp, found.offset));
                assert_eq!(found, expected.copied(), "{what}: time {timestamp}");
            }
            Err(ReadError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("{what}: {error}"),
        }
    }
    match log.offset_of_max_timestamp() {
        Ok(found) => {
            let expected = image.times.iter().rfind(|(_, offset)| *offset < end);
            assert_eq!(found.map(|found| (found.timestamp, found.offset)), expected.copied(), "{what}");
        }
        Err(ReadError::Damaged { .. }) => refused += 1,
        Err(error) => panic!("{what}: {error}"),
    }
    refused
}

/// Cuts the last two batches of a killed node's log at every byte; returns how many cuts there were.
pub async fn cut_at_every_byte() -> u64 {
    let image = image(true).await;
    let (path, whole) = image.files.iter().find(|(path, _)| path == Path::new(&image.active)).unwrap();
    let last_two: usize = image.written.iter().rev().take(2).map(|written| written.bytes.len()).sum();
    let mut cuts = 0;
    for len in whole.len() - last_two..=whole.len() {
        let what = format!("cut to {len} of {} bytes", whole.len());
        let machine = image.machine();
        machine.memory.disk.mount().open(path, OpenMode::ReadWrite).unwrap().set_len(len as u64).unwrap();
        let manager = machine.open().await;
        let log = manager.get(&partition(0)).unwrap();
        let in_active = |written: &&Written| written.header.base_offset >= *log.segment_base_offsets().last().unwrap();
        let mut kept = 0;
        let mut end_offset = *log.segment_base_offsets().last().unwrap();
        for written in image.written.iter().filter(in_active) {
            if kept + written.bytes.len() > len {
                break;
            }
            kept += written.bytes.len();
            end_offset = written.header.next_offset();
        }
        assert_eq!(log.log_end_offset(), end_offset, "{what}: exactly the whole batches");
        assert_eq!(read_all(&image, &log, 1 << 20, &what), 0, "{what}");
        drop((manager, log));
        machine.memory.disk.kill();
        cuts += 1;
    }
    cuts
}
