//! Reading: where the hot tail reaches, from memory, or much at once from the system's cache; else a range of a segment's
//! file.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ottla_rt::DiskFile;

use super::cold::{ColdRange, Part};
use super::{PartitionLog, View, log_path};
use crate::error::ReadError;
use crate::hot_tail::{FROM_CACHE_BYTES, HotRead};
use crate::resident::Resident;
use crate::scan::InvalidBatchBytes;
use crate::segment::{Located, Segment, SegmentError};

/// So old at most is what is sent from there: the system has it from this process, which wrote it. What is older it may have
/// read again from the disk, and nobody has verified that.
const FROM_CACHE_MS: i64 = 60_000;

/// More than this is not looked through where other work waits: it takes about 0.2 ms.
const MOST_AT_ONCE: usize = 1 << 20;

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
    let file = active.file_if_open()?;
    let resident = file.is_resident(place.position, hot.bytes);
    resident.then(|| ReadChunk::File { file, position: place.position, len: hot.bytes as u32 })
}

/// What is asked of a log.
struct Wanted {
    offset: i64,
    max_bytes: usize,
    min_one_batch: bool,
    upper_bound_offset: i64,
}

impl Wanted {
    /// Where it ends in the segment that has its first batch; `None` when not even that one fits.
    fn end_in(&self, part: &Part, first: &Located) -> Option<u64> {
        let first_size = first.header.size_in_bytes() as u64;
        let bytes = match self.max_bytes as u64 {
            bytes if bytes >= first_size => bytes,
            _ if self.min_one_batch => first_size,
            _ => return None,
        };
        Some(first.position.saturating_add(bytes).min(part.size))
    }
}

/// Where what is wanted stands.
enum Place {
    /// In memory, or nowhere.
    Found(LogRead),
    /// In the first of these segments that has it.
    In(LogRead, Vec<Part>),
}

impl PartitionLog {
    /// Batches from the one with `offset` on, below `upper_bound_offset` (exclusive, and an end of a batch), at most
    /// `max_bytes`, but the whole first batch if `min_one_batch`. What is in files was checked; a read ends before a
    /// damaged batch, and the one that begins there fails.
    ///
    /// May block for the disk when what is wanted is in a file; [`PartitionLog::read_resident`] does not.
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
        let wanted = Wanted { offset, max_bytes, min_one_batch, upper_bound_offset };
        match self.place(&wanted, usize::MAX)? {
            Place::Found(read) => Ok(read),
            Place::In(read, parts) => self.read_parts(read, &parts, &wanted),
        }
    }

    /// The same at the end of the log, and for a reader that goes on where one has stopped lately, if all it needs is in
    /// memory or in the system's cache. `None` where that is not so, where there is so much that others would wait for it
    /// to be checked, and where something is wrong: [`PartitionLog::read`] tells what. Does not block.
    pub fn read_resident(
        &self,
        offset: i64,
        max_bytes: usize,
        min_one_batch: bool,
        upper_bound_offset: i64,
    ) -> Option<LogRead> {
        let wanted = Wanted { offset, max_bytes, min_one_batch, upper_bound_offset };
        let (mut read, parts) = match self.place(&wanted, 1).ok()? {
            Place::Found(read) => return Some(read),
            Place::In(read, parts) => (read, parts),
        };
        let part = parts.first()?;
        let file = part.segment.file_if_open().filter(|_| part.segment.knows_header_sum())?;
        let reader = Resident(&*file);
        let first = part.segment.locate_marked(&file, &reader, offset, part.size).ok()??;
        let Some(end) = wanted.end_in(part, &first) else { return Some(read) };
        let bytes = (end - first.position) as usize;
        if bytes > MOST_AT_ONCE || !file.is_resident(first.position, bytes) {
            return None;
        }
        self.take_good(&mut read, part, &file, &reader, first, &wanted).ok()?;
        Some(read)
    }

    /// Whether this offset is in the hot tail.
    pub fn is_hot(&self, offset: i64) -> bool {
        let view = self.view.read();
        offset >= self.log_end_offset() || view.hot.start_offset().is_some_and(|start| start <= offset)
    }

    /// With what is in memory, or so many of the segments that may have it.
    fn place(&self, wanted: &Wanted, segments: usize) -> Result<Place, ReadError> {
        self.check_readable()?;
        let offset = wanted.offset;
        let (mut read, hot, active) = {
            let view = self.view.read();
            let (log_start_offset, log_end_offset) = (self.log_start_offset(), self.log_end_offset());
            if self.lies_outside(offset) {
                return Err(self.out_of_range(offset));
            }
            let end_offset = wanted.upper_bound_offset.min(log_end_offset);
            let read = LogRead { chunks: Vec::new(), bytes: 0, log_start_offset, log_end_offset, end_offset: offset };
            if offset >= end_offset {
                return Ok(Place::Found(read));
            }
            match view.hot.read(offset, end_offset, wanted.max_bytes, wanted.min_one_batch) {
                Some(hot) => (read, hot, view.segments.last().map(Arc::clone)),
                None => return Ok(Place::In(read, self.parts_from(&view, offset, segments))),
            }
        };
        read.chunks = match (active.and_then(|active| in_cache(&active, &hot)), hot.chunks) {
            (Some(chunk), _) => vec![chunk],
            (None, Some(chunks)) => chunks.into_iter().map(ReadChunk::Memory).collect(),
            (None, None) => return Ok(Place::In(read, self.parts_from(&self.view.read(), offset, segments))),
        };
        read.bytes = hot.bytes;
        read.end_offset = hot.next_offset;
        Ok(Place::Found(read))
    }

    /// So many segments from the one on that has this offset.
    pub(super) fn parts_from(&self, view: &View, offset: i64, segments: usize) -> Vec<Part> {
        // The size of the active segment belongs to this log end offset: it is taken under the same lock.
        let log_end_offset = self.log_end_offset();
        let part = |(index, segment): (usize, &Arc<Segment>)| Part {
            segment: Arc::clone(segment),
            size: segment.size(),
            end_offset: view.segments.get(index + 1).map_or(log_end_offset, |next| next.base_offset),
        };
        let first = view.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1);
        view.segments.iter().enumerate().skip(first).take(segments).map(part).collect()
    }

    fn read_parts(&self, mut read: LogRead, parts: &[Part], wanted: &Wanted) -> Result<LogRead, ReadError> {
        for part in parts {
            let failed = |error| self.read_failed(&part.segment, wanted.offset, error);
            let file = part.segment.file().map_err(|error| failed(error.into()))?;
            let marked = part.segment.locate_marked(&file, &*file, wanted.offset, part.size);
            let first = match marked.map_err(|error| failed(error.into()))? {
                Some(first) => Some(first),
                None => part.segment.locate(wanted.offset, part.size).map_err(failed)?,
            };
            // Compaction can leave a segment without the offset asked for: the next one has what follows.
            let Some(first) = first else { continue };
            self.take_good(&mut read, part, &file, &*file, first, wanted).map_err(failed)?;
            return Ok(read);
        }
        Ok(read)
    }

    /// Takes in the good batches from the first one on.
    fn take_good(
        &self,
        read: &mut LogRead,
        part: &Part,
        file: &Arc<dyn DiskFile>,
        reader: &dyn DiskFile,
        first: Located,
        wanted: &Wanted,
    ) -> Result<(), SegmentError> {
        let Some(end) = wanted.end_in(part, &first) else { return Ok(()) };
        let end = part.segment.written_headers(file, reader, first.position, end)?;
        if end == first.position {
            return Err(SegmentError::Damaged { position: end, reason: InvalidBatchBytes::OtherHeaders });
        }
        let epochs = self.epochs_from(first.header.last_offset());
        let range = ColdRange {
            segment: &part.segment,
            file,
            surroundings: part.surroundings(reader, &epochs, read.log_start_offset),
            first,
            end,
            upper_bound_offset: wanted.upper_bound_offset,
        };
        let good = range.verify()?;
        let len = good.end - first.position;
        if len > 0 {
            read.chunks.push(ReadChunk::File { file: Arc::clone(file), position: first.position, len: len as u32 });
            read.bytes = len as usize;
            read.end_offset = good.end_offset;
        }
        Ok(())
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
