//! Reading: where the hot tail reaches, from memory, or much at once from the system's cache; else a range of a segment's
//! file.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ottla_rt::DiskFile;

use super::cold::{ColdRange, Surroundings};
use super::{PartitionLog, log_path};
use crate::error::ReadError;
use crate::hot_tail::HotRead;
use crate::scan::InvalidBatchBytes;
use crate::segment::{Segment, SegmentError};

/// So much of the hot tail is better sent from the system's cache than from memory: writing to a socket copies it once more.
const FROM_CACHE_BYTES: usize = 64 << 10;

/// So old at most is what is sent from there: the system has it from this process, which wrote it. What is older it may have
/// read again from the disk, and nobody has verified that; memory still has the same bytes.
const FROM_CACHE_MS: i64 = 60_000;

/// Some bytes of a log: in memory, or where they are in a file.
#[derive(Clone)]
pub enum ReadChunk {
    Memory(Bytes),
    File { file: Arc<dyn DiskFile>, position: u64, len: u32 },
}

impl ReadChunk {
    pub fn len(&self) -> usize {
        match self {
            ReadChunk::Memory(bytes) => bytes.len(),
            ReadChunk::File { len, .. } => *len as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a read gives: whole batches from the one that holds the offset on.
pub struct LogRead {
    pub chunks: Vec<ReadChunk>,
    pub bytes: usize,
    pub log_start_offset: i64,
    pub log_end_offset: i64,
    /// Where its last batch ends: no record is at or beyond it.
    pub end_offset: i64,
}

impl LogRead {
    /// The bytes of all chunks together; blocks where they are in a file.
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        if let [ReadChunk::Memory(bytes)] = self.chunks.as_slice() {
            return Ok(bytes.clone());
        }
        let mut all = Vec::with_capacity(self.bytes);
        for chunk in &self.chunks {
            match chunk {
                ReadChunk::Memory(bytes) => all.extend_from_slice(bytes),
                ReadChunk::File { file, position, len } => {
                    let start = all.len();
                    all.resize(start + *len as usize, 0);
                    file.read_exact_at(&mut all[start..], *position)?;
                }
            }
        }
        Ok(Bytes::from(all))
    }
}

/// The range of the active segment that has the same bytes, if it is worth it, needs no disk and was written lately. An older
/// segment may have been written anew by compaction.
fn in_cache(active: &Segment, hot: &HotRead) -> Option<ReadChunk> {
    let age_ms = active.shared().world.clock.wall_ms().saturating_sub(hot.appended_ms);
    if !(0..=FROM_CACHE_MS).contains(&age_ms) {
        return None;
    }
    let place = hot.place.filter(|place| hot.bytes >= FROM_CACHE_BYTES && place.segment == active.base_offset)?;
    let file = active.file().ok()?;
    let resident = file.is_resident(place.position, hot.bytes);
    resident.then(|| ReadChunk::File { file, position: place.position, len: hot.bytes as u32 })
}

impl PartitionLog {
    /// Batches from the one with `offset` on, below `upper_bound_offset` (exclusive, and an end of a batch), at most
    /// `max_bytes`, but the whole first batch if `min_one_batch`. What is in files was checked; a read ends before a
    /// damaged batch, and the one that begins there fails.
    ///
    /// May block for the disk when what is wanted is in a file; [`PartitionLog::is_hot`] tells beforehand.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        min_one_batch: bool,
        upper_bound_offset: i64,
    ) -> Result<LogRead, ReadError> {
        self.retry_replaced(|| self.read_range(offset, max_bytes, min_one_batch, upper_bound_offset))
    }

    /// Looks once.
    pub(super) fn read_range(
        &self,
        offset: i64,
        max_bytes: usize,
        min_one_batch: bool,
        upper_bound_offset: i64,
    ) -> Result<LogRead, ReadError> {
        self.check_readable()?;
        let (read, segments) = {
            let view = self.view.read();
            let log_end_offset = self.log_end_offset();
            let log_start_offset = self.log_start_offset();
            if self.lies_outside(offset) {
                return Err(self.out_of_range(offset));
            }
            let end_offset = upper_bound_offset.min(log_end_offset);
            let mut read =
                LogRead { chunks: Vec::new(), bytes: 0, log_start_offset, log_end_offset, end_offset: offset };
            if offset >= end_offset {
                return Ok(read);
            }
            if let Some(hot) = view.hot.read(offset, end_offset, max_bytes, min_one_batch) {
                let active = view.segments.last().map(Arc::clone);
                drop(view);
                read.bytes = hot.bytes;
                read.chunks = match active.and_then(|active| in_cache(&active, &hot)) {
                    Some(chunk) => vec![chunk],
                    None => hot.chunks.into_iter().map(ReadChunk::Memory).collect(),
                };
                read.end_offset = hot.next_offset;
                return Ok(read);
            }
            let first = view.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1);
            // The size of the active segment belongs to this log end offset: it is taken under the same lock.
            let segments: Vec<(Arc<Segment>, u64)> =
                view.segments[first..].iter().map(|segment| (Arc::clone(segment), segment.size())).collect();
            (read, segments)
        };
        self.read_segments(read, &segments, offset, max_bytes, min_one_batch, upper_bound_offset)
    }

    /// Whether a read at this offset needs no disk.
    pub fn is_hot(&self, offset: i64) -> bool {
        let view = self.view.read();
        offset >= self.log_end_offset() || view.hot.start_offset().is_some_and(|start| start <= offset)
    }

    fn read_segments(
        &self,
        mut read: LogRead,
        segments: &[(Arc<Segment>, u64)],
        offset: i64,
        max_bytes: usize,
        min_one_batch: bool,
        upper_bound_offset: i64,
    ) -> Result<LogRead, ReadError> {
        for (index, (segment, size)) in segments.iter().enumerate() {
            let failed = |error| self.read_failed(segment, offset, error);
            let file = segment.file().map_err(|error| failed(error.into()))?;
            let marked = segment.locate_marked(&file, offset, *size).map_err(|error| failed(error.into()))?;
            let first = match marked {
                Some(first) => Some(first),
                None => segment.locate(offset, *size).map_err(failed)?,
            };
            // Compaction can leave a segment without the offset asked for: the next one has what follows.
            let Some(first) = first else { continue };
            let first_size = first.header.size_in_bytes() as u64;
            let wanted = match max_bytes as u64 {
                wanted if wanted >= first_size => wanted,
                _ if min_one_batch => first_size,
                _ => return Ok(read),
            };
            let wanted = first.position.saturating_add(wanted).min(*size);
            let end = segment.written_headers(&file, first.position, wanted).map_err(|error| failed(error.into()))?;
            if end == first.position {
                let reason = InvalidBatchBytes::OtherHeaders;
                return Err(failed(SegmentError::Damaged { position: first.position, reason }));
            }
            let range = ColdRange {
                segment,
                file: &file,
                surroundings: Surroundings {
                    file: &*file,
                    size: *size,
                    end_offset: segments.get(index + 1).map_or(read.log_end_offset, |(next, _)| next.base_offset),
                    epochs: &self.epochs_from(first.header.last_offset()),
                    epochs_from: read.log_start_offset,
                },
                first,
                end,
                upper_bound_offset,
            };
            let good = range.verify().map_err(failed)?;
            let len = good.end - first.position;
            if len > 0 {
                read.chunks.push(ReadChunk::File { file, position: first.position, len: len as u32 });
                read.bytes = len as usize;
                read.end_offset = good.end_offset;
            }
            return Ok(read);
        }
        Ok(read)
    }

    pub(super) fn check_readable(&self) -> Result<(), ReadError> {
        if self.is_deleted() {
            return Err(ReadError::Deleted(self.topic_partition.clone()));
        }
        if self.is_offline() {
            return Err(ReadError::DirectoryOffline(self.topic_partition.clone()));
        }
        Ok(())
    }

    fn lies_outside(&self, offset: i64) -> bool {
        offset < self.log_start_offset() || offset > self.log_end_offset()
    }

    fn out_of_range(&self, offset: i64) -> ReadError {
        ReadError::OffsetOutOfRange {
            topic_partition: self.topic_partition.clone(),
            offset,
            log_start_offset: self.log_start_offset(),
            log_end_offset: self.log_end_offset(),
        }
    }

    /// What a failed search for `offset` means: retention or a truncation took the bytes away, or the disk is at fault.
    pub(super) fn read_failed(&self, segment: &Segment, offset: i64, error: SegmentError) -> ReadError {
        if self.is_deleted() {
            return ReadError::Deleted(self.topic_partition.clone());
        }
        let is_gone = !self.has_segment(segment);
        match error {
            SegmentError::Io(_) | SegmentError::Damaged { .. } if is_gone => self.out_of_range(offset),
            SegmentError::Damaged { position, .. } if position >= segment.size() || self.lies_outside(offset) => {
                self.out_of_range(offset)
            }
            SegmentError::Io(error) => {
                self.storage_failed("read", &log_path(segment), &error);
                ReadError::DirectoryOffline(self.topic_partition.clone())
            }
            SegmentError::Damaged { position, reason } => {
                self.tell_damage(segment, position, offset, reason);
                let path = log_path(segment);
                ReadError::Damaged { topic_partition: self.topic_partition.clone(), path, position, offset, reason }
            }
        }
    }
}
