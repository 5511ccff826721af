//! Reading: where the hot tail reaches, from memory, or much at once from the system's cache; else a range of a segment's
//! file.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ottla_rt::DiskFile;

use super::{PartitionLog, log_path};
use crate::error::ReadError;
use crate::hot_tail::HotRead;
use crate::segment::{Segment, SegmentError};

/// So much of the hot tail is better sent from the system's cache than from memory: writing to a socket copies it once more.
const FROM_CACHE_BYTES: usize = 64 << 10;

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

/// What a read gives: batches from the one that holds the offset on. The last one may be cut off (clients expect it),
/// but never by the upper bound.
pub struct LogRead {
    pub chunks: Vec<ReadChunk>,
    pub bytes: usize,
    pub log_start_offset: i64,
    pub log_end_offset: i64,
    /// No record is at or beyond it.
    pub(super) end_offset: i64,
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

/// The range of the active segment that has the same bytes, if it is worth it and needs no disk. An older segment may have
/// been written anew by compaction.
fn in_cache(active: &Segment, hot: &HotRead) -> Option<ReadChunk> {
    let place = hot.place.filter(|place| hot.bytes >= FROM_CACHE_BYTES && place.segment == active.base_offset)?;
    let file = active.file().ok()?;
    let resident = file.is_resident(place.position, hot.bytes);
    resident.then(|| ReadChunk::File { file, position: place.position, len: hot.bytes as u32 })
}

impl PartitionLog {
    /// Batches from the one with `offset` on, below `upper_bound_offset` (exclusive, and an end of a batch), at most
    /// `max_bytes`, but the whole first batch if `min_one_batch`.
    ///
    /// May block for the disk when it has to look an offset up; [`PartitionLog::is_hot`] tells beforehand.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        min_one_batch: bool,
        upper_bound_offset: i64,
    ) -> Result<LogRead, ReadError> {
        self.retry_replaced(|| self.read_range(offset, max_bytes, min_one_batch, upper_bound_offset, false))
    }

    /// Looks once. `end_wanted`: the end it tells is not only a bound, but that of its last batch.
    pub(super) fn read_range(
        &self,
        offset: i64,
        max_bytes: usize,
        min_one_batch: bool,
        upper_bound_offset: i64,
        end_wanted: bool,
    ) -> Result<LogRead, ReadError> {
        self.check_readable()?;
        let (read, segments) = {
            let view = self.view.read();
            let log_end_offset = self.log_end_offset();
            let log_start_offset = self.log_start_offset();
            if offset < log_start_offset || offset > log_end_offset {
                return Err(self.out_of_range(offset));
            }
            let end_offset = upper_bound_offset.min(log_end_offset);
            let mut read = LogRead { chunks: Vec::new(), bytes: 0, log_start_offset, log_end_offset, end_offset };
            if offset >= end_offset {
                return Ok(read);
            }
            if let Some(hot) = view.hot.read(offset, end_offset, max_bytes, min_one_batch) {
                let active = view.segments.last().map(Arc::clone);
                drop(view);
                read.bytes = hot.bytes;
                read.end_offset = hot.next_offset;
                read.chunks = match active.and_then(|active| in_cache(&active, &hot)) {
                    Some(chunk) => vec![chunk],
                    None => hot.chunks.into_iter().map(ReadChunk::Memory).collect(),
                };
                return Ok(read);
            }
            let first = view.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1);
            // The size of the active segment belongs to this log end offset: it is taken under the same lock.
            let segments: Vec<(Arc<Segment>, u64)> =
                view.segments[first..].iter().map(|segment| (Arc::clone(segment), segment.size())).collect();
            (read, segments)
        };
        let mut read = self.read_segments(read, &segments, offset, max_bytes, min_one_batch, upper_bound_offset)?;
        if end_wanted {
            self.find_end(&mut read, &segments, offset)?;
        }
        Ok(read)
    }

    /// Brings the end of a read down to that of its last batch.
    fn find_end(&self, read: &mut LogRead, segments: &[(Arc<Segment>, u64)], offset: i64) -> Result<(), ReadError> {
        let Some(ReadChunk::File { position, len, .. }) = read.chunks.first() else { return Ok(()) };
        let end_position = position + u64::from(*len);
        // That of the segment read from: those before it end below the offset.
        for (segment, size) in segments {
            let found = segment.locate(offset, *size).map_err(|error| self.read_failed(segment, error))?;
            if found.is_some() {
                let end = segment.offset_at(end_position, *size);
                read.end_offset = read.end_offset.min(end.map_err(|error| self.read_failed(segment, error))?);
                return Ok(());
            }
        }
        Ok(())
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
            let first = segment.locate(offset, *size).map_err(|error| self.read_failed(segment, error))?;
            // Compaction can leave a segment without the offset asked for: the next one has what follows.
            let Some(first) = first else { continue };
            if first.header.next_offset() > upper_bound_offset {
                return Ok(read);
            }
            let segment_end = segments.get(index + 1).map_or(read.log_end_offset, |(next, _)| next.base_offset);
            let end = if upper_bound_offset >= segment_end {
                *size
            } else {
                let bound =
                    segment.locate(upper_bound_offset, *size).map_err(|error| self.read_failed(segment, error))?;
                bound.map_or(*size, |bound| bound.position)
            };
            let available = end.saturating_sub(first.position);
            let first_size = first.header.size_in_bytes() as u64;
            let len = match available.min(max_bytes as u64) {
                len if len >= first_size => len,
                _ if min_one_batch => first_size,
                _ => 0,
            };
            if len > 0 {
                let file = segment.file().map_err(|error| self.read_failed(segment, error.into()))?;
                read.chunks.push(ReadChunk::File { file, position: first.position, len: len as u32 });
                read.bytes = len as usize;
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

    fn out_of_range(&self, offset: i64) -> ReadError {
        ReadError::OffsetOutOfRange {
            topic_partition: self.topic_partition.clone(),
            offset,
            log_start_offset: self.log_start_offset(),
            log_end_offset: self.log_end_offset(),
        }
    }

    /// What a failed search means: retention took the segment away, or the disk is at fault.
    pub(super) fn read_failed(&self, segment: &Segment, error: SegmentError) -> ReadError {
        if self.is_deleted() {
            return ReadError::Deleted(self.topic_partition.clone());
        }
        let is_gone = !self.view.read().segments.iter().any(|other| std::ptr::eq(Arc::as_ptr(other), segment));
        match error {
            SegmentError::Io(_) | SegmentError::Damaged { .. } if is_gone => self.out_of_range(segment.base_offset),
            SegmentError::Io(error) => {
                self.storage_failed("read", &log_path(segment), &error);
                ReadError::DirectoryOffline(self.topic_partition.clone())
            }
            SegmentError::Damaged { position, reason } => {
                let path = log_path(segment);
                tracing::error!(
                    topic_partition = %self.topic_partition, path = %path.display(), position, %reason, "log is damaged"
                );
                ReadError::Damaged { topic_partition: self.topic_partition.clone(), path, position, reason }
            }
        }
    }
}
