//! `ottla-epochs`: the leader epochs of batches that the epoch file tells no more, as they were at an adoption.
//!
//! Kafka's epoch file only rises: where a leader writes in a lower epoch than one before it, Kafka takes the higher ones
//! out of the file, and the batches keep them. That comes of metadata that is older than the log: somebody went back to
//! Kafka without telling it the epochs, or gave new metadata to old logs. No checksum covers the epoch of a batch, so
//! readers compare it with the file ([`crate::epochs::check_epoch`]), and would be refused these.
//!
//! Entries go from the end of the file only, so the batch before the first one left behind them is of an epoch that is
//! not in the file: one look for each entry finds out, and only then headers are read, from there to the log's end.
//! Whoever adopts believes what is there; from then on a changed bit shows.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut};
use ottla_record::BatchHeader;
use ottla_rt::{Disk, DiskFile, OpenMode};

use crate::epochs::{EpochEntry, check_epoch};
use crate::index::{IndexEntry, OffsetEntry};
use crate::names;
use crate::scan::{Scanned, Scanner, Verify};
use crate::sum_file::{self, MalformedSum};

const VERSION: u16 = 1;
const ENTRY_BYTES: usize = 20;
/// A partition has as many as it has had leaders. Behind more of them the epoch file counts again.
const MOST_STRETCHES: usize = 50_000;
const MAX_FILE_BYTES: u64 = (6 + MOST_STRETCHES * ENTRY_BYTES) as u64;
/// More than the largest index Kafka makes by default.
const MAX_INDEX_BYTES: u64 = 64 * 1024 * 1024;

/// Offsets whose batches are of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStretch {
    pub start_offset: i64,
    /// Exclusive.
    pub end_offset: i64,
    pub epoch: i32,
}

/// What a partition's epoch file tells no more, in the order of the offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ForgottenEpochs(Vec<EpochStretch>);

impl ForgottenEpochs {
    pub(crate) fn epoch_at(&self, offset: i64) -> Option<i32> {
        let after = self.0.partition_point(|stretch| stretch.start_offset <= offset);
        let stretch = self.0.get(after.checked_sub(1)?)?;
        (offset < stretch.end_offset).then_some(stretch.epoch)
    }

    /// The partition's, if it has any.
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> io::Result<Result<ForgottenEpochs, MalformedSum>> {
        match disk.read_file(&directory.join(names::FORGOTTEN_EPOCHS), MAX_FILE_BYTES) {
            Ok(bytes) => Ok(ForgottenEpochs::parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ok(ForgottenEpochs::default())),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn format(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.0.len() * ENTRY_BYTES);
        for stretch in &self.0 {
            content.put_i64(stretch.start_offset);
            content.put_i64(stretch.end_offset);
            content.put_i32(stretch.epoch);
        }
        sum_file::seal(VERSION, &content)
    }

    fn parse(bytes: &[u8]) -> Result<ForgottenEpochs, MalformedSum> {
        let mut content = sum_file::unseal(VERSION, bytes)?;
        if !content.len().is_multiple_of(ENTRY_BYTES) {
            return Err(MalformedSum::Length(bytes.len()));
        }
        let mut stretches: Vec<EpochStretch> = Vec::with_capacity(content.len() / ENTRY_BYTES);
        while content.has_remaining() {
            let stretch = EpochStretch {
                start_offset: content.get_i64(),
                end_offset: content.get_i64(),
                epoch: content.get_i32(),
            };
            let from = stretches.last().map_or(0, |last| last.end_offset);
            if stretch.start_offset < from || stretch.end_offset <= stretch.start_offset {
                return Err(MalformedSum::Blocks(stretches.len()));
            }
            stretches.push(stretch);
        }
        Ok(ForgottenEpochs(stretches))
    }
}

/// Keeps them beside the log, where readers and `log verify` find them.
pub fn write_forgotten_epochs(disk: &dyn Disk, directory: &Path, stretches: &[EpochStretch]) -> io::Result<()> {
    let bytes = ForgottenEpochs(stretches.to_vec()).format();
    disk.write_file_atomically(&directory.join(names::FORGOTTEN_EPOCHS), &bytes)
}

/// The epochs of batches that the entries of the epoch file do not tell; empty where they tell all, as they should. Of the
/// segments, base offsets and bytes. Nothing is changed.
pub(crate) fn find(
    disk: &dyn Disk,
    directory: &Path,
    entries: &[EpochEntry],
    segments: &[(i64, u64)],
) -> io::Result<Vec<EpochStretch>> {
    let log = LogFiles { disk, directory, segments };
    // Whoever found some once finds them again: what came since may have changed them.
    let known = ForgottenEpochs::read(disk, directory)?.unwrap_or_default();
    let mut from = known.0.first().map(|first| first.start_offset);
    let mut previous = 0;
    for entry in entries {
        if from.is_some_and(|from| from <= previous) {
            break;
        }
        if let Some(last) = log.last_batch_before(entry.start_offset)?
            && last.last_offset() >= previous
            && check_epoch(entries, &last).is_err()
        {
            from = Some(previous);
            break;
        }
        previous = entry.start_offset;
    }
    from.map_or(Ok(Vec::new()), |from| log.stretches_from(from))
}

/// The segments of a partition that nobody uses.
struct LogFiles<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    segments: &'a [(i64, u64)],
}

impl LogFiles<'_> {
    fn open(&self, base_offset: i64) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(&names::offset_file(self.directory, base_offset, names::LOG_SUFFIX), OpenMode::Read)
    }

    /// The last batch that begins below an offset. Bytes that are none end a segment: whose fault they are, others say.
    fn last_batch_before(&self, offset: i64) -> io::Result<Option<BatchHeader>> {
        let below = self.segments.partition_point(|(base_offset, _)| *base_offset < offset);
        for &(base_offset, size) in self.segments[..below].iter().rev() {
            let file = self.open(base_offset)?;
            let entry = self.index_entry_before(base_offset, offset, size)?;
            let mut last = last_before(&*file, entry, size, offset)?;
            if last.is_none() && entry > 0 {
                last = last_before(&*file, 0, size, offset)?;
            }
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// Where a batch below the offset begins, as the index has it; 0 if it has none.
    fn index_entry_before(&self, base_offset: i64, offset: i64, size: u64) -> io::Result<u64> {
        let path = names::offset_file(self.directory, base_offset, names::OFFSET_INDEX_SUFFIX);
        let bytes = match self.disk.read_file(&path, MAX_INDEX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => return Ok(0),
            Err(error) => return Err(error),
        };
        let entries = bytes.chunks_exact(OffsetEntry::SIZE).map(OffsetEntry::decode);
        let below = entries.take_while(|entry| !entry.is_vacant() && entry.offset(base_offset) < offset).last();
        Ok(below.map_or(0, |entry| u64::from(entry.position)).min(size))
    }

    /// The epochs of all batches from the one with this offset on.
    fn stretches_from(&self, offset: i64) -> io::Result<Vec<EpochStretch>> {
        let first = self.segments.partition_point(|(base_offset, _)| *base_offset <= offset).saturating_sub(1);
        let mut stretches: Vec<EpochStretch> = Vec::new();
        for &(base_offset, size) in &self.segments[first..] {
            let file = self.open(base_offset)?;
            let mut scanner = Scanner::new(&*file, 0, size);
            while let Scanned::Batch { header, .. } = scanner.next(Verify::Headers)? {
                let (start_offset, epoch) = (header.base_offset, header.partition_leader_epoch);
                let expected = stretches.last().map_or(offset, |last| last.end_offset);
                // Below where is looked, or out of place: readers find that.
                if header.last_offset() < expected {
                    continue;
                }
                if let Some(last) = stretches.last_mut().filter(|last| last.epoch == epoch) {
                    last.end_offset = header.next_offset();
                } else if stretches.len() < MOST_STRETCHES {
                    let start_offset = start_offset.max(expected);
                    stretches.push(EpochStretch { start_offset, end_offset: header.next_offset(), epoch });
                } else {
                    return Ok(stretches);
                }
            }
        }
        Ok(stretches)
    }
}

fn last_before(file: &dyn DiskFile, position: u64, size: u64, offset: i64) -> io::Result<Option<BatchHeader>> {
    let mut scanner = Scanner::for_lookup(file, position, size);
    let mut last = None;
    while let Scanned::Batch { header, .. } = scanner.next(Verify::Headers)? {
        if header.base_offset >= offset {
            break;
        }
        last = Some(header);
    }
    Ok(last)
}
