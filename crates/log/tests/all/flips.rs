//! Bits flipped in the files of a log: whatever is served afterwards is what was written.
//!
//! A few dozen batches in closed segments and an active one, with all that stands beside them; one bit of one file is
//! flipped, the log is opened and everything is read. Each batch has to come as it was written, byte for byte, or has to
//! be refused; after a kill the end may be cut, but nothing before it. A bit in an index, a snapshot, a sum or the leader
//! epochs may cost time, never a record, and no reader of committed records may be given others, or fewer.

use std::collections::BTreeMap;
use std::path::Path;

use ottla_log::{Finding, LogManager, PartitionLog, ReadError, VerifyReport};
use ottla_record::{BATCH_OVERHEAD, Records};
use ottla_rt::memory::SeededEntropy;
use ottla_rt::{OpenMode, random_u64};

use crate::flip_images::{self, Image, Kind, Written, last_sequences, with_transactions};
use crate::support::{Machine, committed_values, partition};

/// When the bit was flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// While no node was running.
    Before,
    /// Under a log that is open.
    Running,
}

/// What came of the flips.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub flips: u64,
    /// By the kind of file.
    pub files: BTreeMap<&'static str, u64>,
    /// By what the node was.
    pub nodes: BTreeMap<Kind, u64>,
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

/// Flips so many bits, one at a time.
pub async fn run(seed: u64, flips: u64) -> Counts {
    let random = SeededEntropy::new(seed);
    let below = |bound: usize| (random_u64(&random) % bound.max(1) as u64) as usize;
    let images = flip_images::all().await;
    for image in &images {
        assert_eq!(findings_of(&image.machine()), 0, "{:?}: nothing is wrong before", image.kind);
    }
    let mut counts = Counts::default();
    let mut number = 0;
    while counts.flips < flips {
        number += 1;
        let image = &images[below(images.len())];
        let when = if image.kind != Kind::Killed && below(2) == 0 { When::Running } else { When::Before };
        let kinds = [
            "closed log",
            "closed log",
            "closed log",
            "active log",
            "active log",
            "index",
            "timeindex",
            "snapshot",
            "epochs",
            "txnindex",
            "txnsum",
            "headersum",
        ];
        let kind = kinds[below(kinds.len())];
        let candidates: Vec<usize> = (0..image.files.len()).filter(|index| image.kind_of(*index) == kind).collect();
        if candidates.is_empty() {
            continue;
        }
        let index = candidates[below(candidates.len())];
        let flip = Flip { image, when, index, kind, bit: below(image.files[index].1.len() * 8) };
        let what = format!(
            "seed {seed}, flip {number}: {:?}, {when:?}, bit {} of {} ({} bytes)",
            image.kind,
            flip.bit,
            image.files[index].0.display(),
            image.files[index].1.len()
        );
        let reads = [below(1_000), below(1_000), below(1_000), below(1_000)];
        if flip.check(reads, &what, &mut counts).await {
            counts.flips += 1;
            *counts.files.entry(kind).or_default() += 1;
            *counts.nodes.entry(image.kind).or_default() += 1;
        }
    }
    counts
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

/// One flip.
struct Flip<'a> {
    image: &'a Image,
    when: When,
    /// Of the file.
    index: usize,
    kind: &'static str,
    bit: usize,
}

impl Flip<'_> {
    fn is_in_log(&self) -> bool {
        self.kind.ends_with("log")
    }

    /// Whether a check of the directory has to find it.
    fn is_to_be_found(&self) -> bool {
        let image = self.image.kind;
        match self.kind {
            "snapshot" | "txnsum" | "headersum" => true,
            // Which epoch is right above the recovery point, only the cluster's metadata knows.
            "closed log" | "active log" => image != Kind::Killed,
            // Kafka leaves no sum beside its own, nor a node that was killed beside the last one.
            "txnindex" => image == Kind::Stopped,
            _ => false,
        }
    }

    /// Whether what it changed cannot be told from what Kafka may have written.
    fn is_beyond_telling(&self) -> bool {
        self.kind == "txnindex" && self.image.kind == Kind::Kafka && self.when == When::Before
    }

    /// Flips the bit and looks at everything; false if the bit was no longer there.
    async fn check(&self, reads: [usize; 4], what: &str, counts: &mut Counts) -> bool {
        let image = self.image;
        let machine = image.machine();
        let (path, _) = &image.files[self.index];
        let mut found = None;
        let manager: LogManager = if self.when == When::Running {
            let manager = machine.open().await;
            // The start may have removed the file, or its end.
            let bytes = machine.memory.disk.mount().read_file(path, u64::MAX).unwrap_or_default();
            if self.bit / 8 >= bytes.len() {
                return false;
            }
            machine.flip_in(path, self.bit);
            manager
        } else {
            machine.flip_in(path, self.bit);
            let findings = findings_of(&machine);
            counts.found_by_check += u64::from(findings > 0);
            assert!(findings > 0 || !self.is_to_be_found(), "{what}: the check finds nothing");
            found = Some(findings);
            machine.open().await
        };
        let Some(log) = manager.get(&partition(0)) else {
            assert!(self.is_in_log(), "{what}: offline");
            counts.offline += 1;
            return true;
        };
        log.forget_epochs_above(image.leader_epoch);
        let refused = read_all(image, &log, reads[0] + 1, what) + look_up(image, &log, reads, what);
        let refused_of_committed =
            if self.is_beyond_telling() { 0 } else { read_committed(image, &log, reads[1] + 1, what) };
        if self.kind == "snapshot" {
            assert_eq!(last_sequences(&log), image.last_sequences, "{what}");
        }
        let end = image.written.last().unwrap().header.next_offset();
        if log.log_end_offset() < end {
            assert!(image.kind == Kind::Killed && self.is_in_log(), "{what}: cut to {}", log.log_end_offset());
            counts.cut += 1;
        } else if refused > 0 {
            assert!(self.is_in_log() || self.kind == "epochs", "{what}: {refused} reads refused");
            assert!(found != Some(0) || image.kind == Kind::Killed, "{what}: refused, and the check finds nothing");
            counts.refused += 1;
        } else if refused_of_committed > 0 {
            // One that a start finds is made anew.
            assert!(self.kind == "txnindex" && self.when == When::Running, "{what}: committed records refused");
            counts.refused += 1;
        } else {
            counts.unchanged += 1;
        }
        if !self.is_in_log() {
            log.note_high_watermark(log.log_end_offset());
            assert_eq!(log.last_stable_offset(), image.last_stable_offset, "{what}");
        }
        drop((manager, log));
        machine.memory.disk.kill();
        true
    }
}

/// Reads as a consumer of committed records does; returns how many reads were refused.
fn read_committed(image: &Image, log: &PartitionLog, max_bytes: usize, what: &str) -> usize {
    log.note_high_watermark(log.log_end_offset());
    let stable = log.last_stable_offset();
    let (mut refused, mut next) = (0, 0);
    while next < stable {
        match log.read_committed(next, max_bytes, true, stable) {
            Ok(found) => {
                let end = found.read.end_offset;
                assert!(end > next, "{what}: nothing at {next}");
                let given = committed_values(&found.read.to_bytes().unwrap(), found.aborted, next);
                let from = image.committed.partition_point(|(offset, _)| *offset < next);
                let to = image.committed.partition_point(|(offset, _)| *offset < end);
                assert!(given == image.committed[from..to], "{what}: other committed records from {next} to {end}");
                next = end;
            }
            Err(ReadError::Damaged { .. }) => {
                refused += 1;
                // A last batch that seems to end later than it does is the end.
                let batch = image.written.iter().find(|written| written.header.last_offset() >= next);
                next = batch.map_or(stable, |batch| batch.header.next_offset());
            }
            Err(ReadError::DamagedTransactionIndex { .. }) => return refused + 1,
            Err(error) => panic!("{what}: {error}"),
        }
    }
    refused
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
                let has_all = image.kind != Kind::Compacted;
                let mut records = Records::new(&expected.header, body);
                assert!(!has_all || records.any(|record| record.unwrap().offset == offset));
            }
            Err(ReadError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("{what}: {error}"),
        }
        if image.times.is_empty() {
            continue;
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
    if image.times.is_empty() {
        return refused;
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
    let image = with_transactions(true).await;
    let (path, whole) = image.active();
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
