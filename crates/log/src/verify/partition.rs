//! One partition's directory: its segments from the first to the last, and what stands beside them.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_record::{BATCH_OVERHEAD, BatchError, BatchHeader, MAGIC_OFFSET};
use ottla_rt::{DirEntry, Disk, DiskFile, OpenMode};

use super::finding::{Issue, Sink, Weight};
use super::indexes::IndexCheck;
use super::transactions::TransactionCheck;
use crate::checkpoint::{self, CheckpointError};
use crate::cleaned_headers::HeaderComparison;
use crate::epochs::{EpochEntry, KnownEpochs, NO_EPOCH};
use crate::forgotten_epochs::ForgottenEpochs;
use crate::header_sum::{self, HeaderSum};
use crate::identity;
use crate::names;
use crate::producers::parse_snapshot;
use crate::scan::{InvalidBatchBytes, Scanned, Scanner, Verify};
use crate::segment::{MAX_RELATIVE_OFFSET, out_of_place};

const MAX_SNAPSHOT_BYTES: u64 = 256 * 1024 * 1024;
/// Behind damage the next batch is looked for in steps of this size.
const SEARCH_BYTES: u64 = 1024 * 1024;

/// What the files of the log directory say of a partition.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Whoever wrote last has stopped in order: nothing is torn.
    pub(super) clean: bool,
    /// Somebody is writing: ends may be.
    pub(super) in_use: bool,
    pub(super) recovery_point: Option<i64>,
    pub(super) log_start_offset: Option<i64>,
    /// Below it a cleaner has been.
    pub(super) cleaned_to: Option<i64>,
}

/// A segment to be walked.
struct SegmentFile<'a> {
    path: &'a Path,
    file: &'a Arc<dyn DiskFile>,
    base_offset: i64,
    size: u64,
    is_last: bool,
}

/// What is checked of a segment besides its batches and sparse indexes.
struct Others {
    transactions: TransactionCheck,
    headers: Option<HeaderComparison>,
}

struct Walk<'a, 'b> {
    known: Known,
    epochs: Option<KnownEpochs>,
    /// Where the offsets seen so far end; `None` before the first segment.
    end_offset: Option<i64>,
    last_epoch: i32,
    /// What was between the last good batch and the next is not known.
    after_damage: bool,
    sink: &'a mut Sink<'b>,
}

pub(super) fn verify(disk: &dyn Disk, path: &Path, known: Known, sink: &mut Sink<'_>) {
    let entries = match disk.read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return sink.problem(path, None, None, Issue::Unreadable(error)),
    };
    sink.summary.partitions += 1;
    let metadata = path.join(names::PARTITION_METADATA);
    match identity::read_partition_metadata(disk, path) {
        Ok(Some(Ok(_)) | None) => {}
        Ok(Some(Err(reason))) => sink.problem(&metadata, None, None, Issue::PartitionMetadata(reason)),
        Err(error) => sink.problem(&metadata, None, None, Issue::Unreadable(error)),
    }
    let forgotten = read_forgotten_epochs(disk, path, sink);
    let epochs = read_epochs(disk, path, sink).map(|entries| KnownEpochs { entries, forgotten });
    let bases: Vec<(i64, u64)> = entries
        .iter()
        .filter_map(|entry| names::parse_offset_file(&entry.name, names::LOG_SUFFIX).map(|base| (base, entry.len)))
        .collect();
    if bases.is_empty() && known.recovery_point.is_some() {
        sink.problem(path, None, known.recovery_point, Issue::NoSegment);
    }
    let mut walk = Walk { known, epochs, end_offset: None, last_epoch: NO_EPOCH, after_damage: false, sink };
    for (index, (base_offset, size)) in bases.iter().enumerate() {
        walk.segment(disk, path, *base_offset, *size, index + 1 == bases.len());
    }
    let (end_offset, sink) = (walk.end_offset, walk.sink);
    check_bounds(path, known, end_offset, sink);
    let bases: BTreeSet<i64> = bases.into_iter().map(|(base, _)| base).collect();
    check_others(disk, path, &entries, &bases, end_offset, sink);
}

fn read_epochs(disk: &dyn Disk, path: &Path, sink: &mut Sink<'_>) -> Option<Vec<EpochEntry>> {
    let path = path.join(names::LEADER_EPOCH_CHECKPOINT);
    match checkpoint::read_epochs(disk, &path) {
        Ok(entries) => {
            sink.summary.checkpoints += u64::from(entries.is_some());
            entries.filter(|entries| !entries.is_empty())
        }
        Err(CheckpointError::Malformed(reason)) => {
            sink.problem(&path, None, None, Issue::Checkpoint(reason));
            None
        }
        Err(CheckpointError::Io(error)) => {
            sink.problem(&path, None, None, Issue::Unreadable(error));
            None
        }
    }
}

fn read_forgotten_epochs(disk: &dyn Disk, path: &Path, sink: &mut Sink<'_>) -> Arc<ForgottenEpochs> {
    let name = path.join(names::FORGOTTEN_EPOCHS);
    let issue = match ForgottenEpochs::read(disk, path) {
        Ok(Ok(forgotten)) => {
            sink.summary.checkpoints += u64::from(!forgotten.is_empty());
            return Arc::new(forgotten);
        }
        Ok(Err(reason)) => Issue::Sum(reason),
        Err(error) => Issue::Unreadable(error),
    };
    sink.problem(&name, None, None, issue);
    Arc::default()
}

fn check_bounds(path: &Path, known: Known, end_offset: Option<i64>, sink: &mut Sink<'_>) {
    let Some(found) = end_offset else { return };
    if let Some(durable) = known.recovery_point
        && found < durable
    {
        sink.problem(path, None, Some(found), Issue::EndsBelowRecoveryPoint { durable, found });
    }
    if let Some(stopped) = known.recovery_point.filter(|_| known.clean && !known.in_use)
        && found > stopped.max(known.log_start_offset.unwrap_or(0))
    {
        sink.problem(path, None, Some(found), Issue::EndsAboveStop { stopped, found });
    }
    if let Some(start) = known.log_start_offset
        && found < start
    {
        sink.problem(path, None, Some(found), Issue::EndsBelowStart { start, found });
    }
}

/// Snapshots, and files that are of no segment.
fn check_others(
    disk: &dyn Disk,
    path: &Path,
    entries: &[DirEntry],
    bases: &BTreeSet<i64>,
    end_offset: Option<i64>,
    sink: &mut Sink<'_>,
) {
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        let file = path.join(&entry.name);
        if let Some(snapshot) = names::parse_offset_file(&entry.name, names::SNAPSHOT_SUFFIX) {
            check_snapshot(disk, &file, snapshot, end_offset, sink);
            continue;
        }
        let index = [
            names::OFFSET_INDEX_SUFFIX,
            names::TIME_INDEX_SUFFIX,
            names::TRANSACTION_INDEX_SUFFIX,
            names::TRANSACTION_SUM_SUFFIX,
            names::HEADER_SUM_SUFFIX,
        ]
        .iter()
        .find_map(|suffix| names::parse_offset_file(&entry.name, suffix));
        if let Some(base) = index {
            if !bases.contains(&base) {
                sink.note(&file, None, Some(base), Issue::WithoutSegment);
            }
            continue;
        }
        let leftovers = [names::DELETED_SUFFIX, names::CLEANED_SUFFIX, names::SWAP_SUFFIX, names::TEMPORARY_SUFFIX];
        if leftovers.iter().any(|suffix| entry.name.ends_with(suffix)) {
            sink.note(&file, None, None, Issue::Leftover);
        }
    }
}

fn check_snapshot(disk: &dyn Disk, path: &Path, snapshot: i64, end_offset: Option<i64>, sink: &mut Sink<'_>) {
    sink.summary.snapshots += 1;
    match disk.read_file(path, MAX_SNAPSHOT_BYTES) {
        Ok(bytes) => {
            if let Err(reason) = parse_snapshot(&bytes) {
                sink.problem(path, None, Some(snapshot), Issue::Snapshot(reason));
            }
        }
        Err(error) => sink.problem(path, None, Some(snapshot), Issue::Unreadable(error)),
    }
    if let Some(end) = end_offset
        && snapshot > end
    {
        sink.note(path, None, Some(snapshot), Issue::SnapshotAboveEnd { snapshot, end });
    }
}

impl Walk<'_, '_> {
    fn segment(&mut self, disk: &dyn Disk, directory: &Path, base_offset: i64, size: u64, is_last: bool) {
        self.sink.summary.segments += 1;
        let path = names::offset_file(directory, base_offset, names::LOG_SUFFIX);
        match self.end_offset {
            Some(end) if base_offset < end && !self.after_damage => {
                self.sink.problem(&path, None, Some(base_offset), Issue::SegmentsOverlap(end));
            }
            Some(end) => self.hole(&path, None, end, base_offset),
            None => {}
        }
        self.end_offset = Some(self.end_offset.unwrap_or(base_offset).max(base_offset));
        let mut indexes = IndexCheck::open(
            disk,
            names::offset_file(directory, base_offset, names::OFFSET_INDEX_SUFFIX),
            names::offset_file(directory, base_offset, names::TIME_INDEX_SUFFIX),
            base_offset,
            self.sink,
        );
        let unfinished = is_last && (self.known.in_use || !self.known.clean);
        let mut others = Others {
            transactions: TransactionCheck::open(disk, directory, base_offset, unfinished, self.sink),
            headers: self.header_sum(disk, directory, base_offset, size),
        };
        let whole = match disk.open(&path, OpenMode::Read) {
            Ok(file) => {
                let segment = SegmentFile { path: &path, file: &file, base_offset, size, is_last };
                self.walk(&segment, &mut indexes, &mut others).unwrap_or_else(|error| {
                    self.sink.problem(&path, None, None, Issue::Unreadable(error));
                    false
                })
            }
            Err(error) => {
                self.sink.problem(&path, None, None, Issue::Unreadable(error));
                false
            }
        };
        self.after_damage |= !whole;
        indexes.finish(whole, self.sink);
        others.transactions.finish(whole, unfinished, self.sink);
    }

    /// The sums of the headers of a segment the cleaner wrote. One of another size was written anew since.
    fn header_sum(
        &mut self,
        disk: &dyn Disk,
        directory: &Path,
        base_offset: i64,
        size: u64,
    ) -> Option<HeaderComparison> {
        let path = names::offset_file(directory, base_offset, names::HEADER_SUM_SUFFIX);
        match disk.read_file(&path, header_sum::MAX_FILE_BYTES) {
            Ok(bytes) => match HeaderSum::parse(&bytes) {
                Ok(sum) => return sum.is_of(size).then(|| HeaderComparison::new(Arc::new(sum))),
                Err(reason) => self.sink.problem(&path, None, Some(base_offset), Issue::Sum(reason)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.sink.problem(&path, None, Some(base_offset), Issue::Unreadable(error)),
        }
        None
    }

    /// Walks the batches of a segment; whether its end was reached.
    fn walk(&mut self, segment: &SegmentFile<'_>, indexes: &mut IndexCheck, others: &mut Others) -> io::Result<bool> {
        let mut scanner = Scanner::new(&**segment.file, 0, segment.size);
        // Bytes that may be read to find batches behind damage: twice the segment, whatever lengths it declares.
        let mut search = segment.size.saturating_mul(2);
        loop {
            match scanner.next(Verify::Checksums)? {
                Scanned::Batch { position, header } => {
                    self.batch(segment, position, &header);
                    indexes.batch(position, &header, self.sink);
                    if others.transactions.names(&header, self.sink) {
                        let marker =
                            if header.attributes.is_control() { scanner.marker(position, &header)? } else { None };
                        others.transactions.batch(&header, marker, self.sink);
                    }
                    if let Some(headers) = &mut others.headers {
                        headers.add(&header);
                    }
                    self.sink.read(header.size_in_bytes() as u64);
                }
                Scanned::End => {
                    if let Some(position) = others.headers.take().and_then(HeaderComparison::finish) {
                        let issue = Issue::Batch(InvalidBatchBytes::OtherHeaders);
                        self.sink.problem(segment.path, Some(position), None, issue);
                    }
                    return Ok(true);
                }
                Scanned::Invalid { position, reason } => {
                    others.transactions.doubt();
                    // It is told, and the sums of what follows say nothing.
                    others.headers = None;
                    let offset = self.end_offset;
                    let next = match skip(segment, &mut scanner, position, reason)? {
                        Some(next) => Some(next),
                        None => next_batch(segment, position, offset.unwrap_or(0), &mut search)?,
                    };
                    let bytes = next.unwrap_or(segment.size) - position;
                    self.sink.read(bytes);
                    self.damage(segment, position, offset, bytes, reason, next.is_some());
                    let Some(next) = next else { return Ok(false) };
                    indexes.damaged_batch(position, self.sink);
                    indexes.skip_to(next, self.sink);
                    scanner = Scanner::new(&**segment.file, next, segment.size);
                }
            }
        }
    }

    fn damage(
        &mut self,
        segment: &SegmentFile<'_>,
        position: u64,
        offset: Option<i64>,
        bytes: u64,
        reason: InvalidBatchBytes,
        batches_follow: bool,
    ) {
        self.after_damage = true;
        let is_durable = self.known.recovery_point.is_some_and(|point| offset.is_none_or(|offset| offset < point));
        if segment.is_last && !batches_follow && !is_durable {
            let weight = if self.known.clean && !self.known.in_use { Weight::Problem } else { Weight::Note };
            self.sink.found(weight, segment.path, Some(position), offset, Issue::TornEnd { bytes, reason });
            return;
        }
        let issue = match reason {
            InvalidBatchBytes::Batch(BatchError::CrcMismatch { .. }) => Issue::Batch(reason),
            _ => Issue::NoBatch { bytes, reason },
        };
        self.sink.problem(segment.path, Some(position), offset, issue);
    }

    fn batch(&mut self, segment: &SegmentFile<'_>, position: u64, header: &BatchHeader) {
        self.sink.summary.batches += 1;
        self.sink.summary.records += u64::try_from(header.record_count).unwrap_or(0);
        let expected = self.end_offset.unwrap_or(segment.base_offset);
        let bound = segment.base_offset.saturating_add(MAX_RELATIVE_OFFSET + 1);
        let place = (Some(position), Some(expected));
        if header.base_offset < expected || header.last_offset() >= bound {
            let issue = Issue::Batch(out_of_place(header, expected, bound));
            self.sink.problem(segment.path, place.0, place.1, issue);
        } else if header.base_offset > expected {
            self.hole(segment.path, Some(position), expected, header.base_offset);
        }
        self.after_damage = false;
        let found = header.partition_leader_epoch;
        let checked = match &self.epochs {
            Some(epochs) => epochs.check(header),
            None if found < self.last_epoch => Err(InvalidBatchBytes::Epoch { found, expected: self.last_epoch }),
            None => Ok(()),
        };
        // Above the recovery point the file may not know yet.
        let untold = !self.known.clean && self.known.recovery_point.is_none_or(|point| expected >= point);
        if let Err(reason) = checked
            && !(untold && found >= self.last_epoch)
        {
            self.sink.problem(segment.path, place.0, place.1, Issue::Batch(reason));
        }
        self.last_epoch = self.last_epoch.max(found);
        if header.last_offset() < bound {
            self.end_offset = Some(expected.max(header.next_offset()));
        }
    }

    /// Offsets that no batch has.
    fn hole(&mut self, path: &Path, position: Option<u64>, from: i64, to: i64) {
        if from >= to || self.after_damage {
            return;
        }
        if self.known.cleaned_to.is_some_and(|cleaned_to| from < cleaned_to) {
            self.sink.summary.cleaned_holes += 1;
        } else {
            self.sink.problem(path, position, Some(from), Issue::Missing { from, to });
        }
    }
}

/// Where the next batch begins, if this one is only wrong in what its checksum covers.
fn skip(
    segment: &SegmentFile<'_>,
    scanner: &mut Scanner<'_>,
    position: u64,
    reason: InvalidBatchBytes,
) -> io::Result<Option<u64>> {
    if !matches!(reason, InvalidBatchBytes::Batch(BatchError::CrcMismatch { .. })) {
        return Ok(None);
    }
    if let Scanned::Batch { .. } = scanner.next(Verify::Headers)? {
        let next = scanner.position();
        let follows = Scanner::for_lookup(&**segment.file, next, segment.size).next(Verify::Checksums)?;
        if matches!(follows, Scanned::Batch { .. }) {
            return Ok(Some(next));
        }
        debug_assert!(next > position);
    }
    Ok(None)
}

/// Where the next good batch of this log begins behind `position`.
fn next_batch(
    segment: &SegmentFile<'_>,
    position: u64,
    least_offset: i64,
    may_read: &mut u64,
) -> io::Result<Option<u64>> {
    let mut start = position + 1;
    let mut window = Vec::new();
    while start + BATCH_OVERHEAD as u64 <= segment.size && *may_read > 0 {
        let len = (segment.size - start).min(SEARCH_BYTES);
        window.resize(len as usize, 0);
        segment.file.read_exact_at(&mut window, start)?;
        *may_read = may_read.saturating_sub(len);
        for (index, candidate) in window.windows(BATCH_OVERHEAD).enumerate() {
            if candidate[MAGIC_OFFSET] != 2 {
                continue;
            }
            let Ok(header) = BatchHeader::parse(candidate) else { continue };
            let at = start + index as u64;
            let size = header.size_in_bytes() as u64;
            let near = header.base_offset >= least_offset
                && header.last_offset() - segment.base_offset <= MAX_RELATIVE_OFFSET
                && header.last_offset_delta >= 0
                && header.partition_leader_epoch >= NO_EPOCH;
            if !near || at + size > segment.size || *may_read < size {
                continue;
            }
            *may_read -= size;
            if let Scanned::Batch { .. } = Scanner::new(&**segment.file, at, at + size).next(Verify::Checksums)? {
                return Ok(Some(at));
            }
        }
        // The next window begins with the last bytes of this one, which are too few for a header.
        start += (len + 1).saturating_sub(BATCH_OVERHEAD as u64).max(1);
    }
    Ok(None)
}
