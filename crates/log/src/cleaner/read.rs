//! The batches of a segment, whole and checked: what is damaged must not get a new checksum from the cleaner.

use std::sync::Arc;

use bytes::Bytes;
use ottla_record::{BATCH_OVERHEAD, BatchError, BatchHeader};
use ottla_rt::DiskFile;

use super::error::CleanError;
use crate::cleaned_headers::HeaderComparison;
use crate::names;
use crate::scan::InvalidBatchBytes;
use crate::segment::Segment;

pub(super) struct BatchReader {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    position: u64,
    size: u64,
    /// What is read at a time; a larger batch is read whole.
    io_bytes: usize,
    chunk: Bytes,
    chunk_start: u64,
    /// The least offset that can follow, and the one that cannot be reached.
    next_offset: i64,
    end_offset: i64,
    /// Of a segment that was cleaned before, when it is read from its start.
    headers: Option<HeaderComparison>,
}

impl BatchReader {
    /// Reads from `start` on, where a batch begins. The next segment begins at `end_offset`.
    pub(super) fn open(
        segment: &Arc<Segment>,
        start: u64,
        end_offset: i64,
        io_bytes: usize,
    ) -> Result<BatchReader, CleanError> {
        let file = segment.file().map_err(CleanError::io("open", segment.path(names::LOG_SUFFIX)))?;
        Ok(BatchReader {
            segment: Arc::clone(segment),
            file,
            position: start,
            size: segment.size(),
            io_bytes: io_bytes.max(BATCH_OVERHEAD),
            chunk: Bytes::new(),
            chunk_start: start,
            next_offset: segment.base_offset,
            end_offset,
            headers: None,
        })
    }

    /// Whoever reads to the end wants to know whether the headers are those the cleaner wrote: in a log with holes nothing
    /// else tells that offsets are right.
    pub(super) fn compare_headers(mut self) -> Result<BatchReader, CleanError> {
        let path = self.segment.path(names::HEADER_SUM_SUFFIX);
        let written = self.segment.header_sum().map_err(CleanError::io("read", path))?;
        self.headers = written.map(HeaderComparison::new);
        Ok(self)
    }

    /// Where the next batch begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn next(&mut self) -> Result<Option<(BatchHeader, Bytes)>, CleanError> {
        let left = self.size - self.position;
        if left == 0 {
            let Some(position) = self.headers.take().and_then(HeaderComparison::finish) else { return Ok(None) };
            let path = self.segment.path(names::LOG_SUFFIX);
            return Err(CleanError::Damaged { path, position, reason: InvalidBatchBytes::OtherHeaders });
        }
        let start = self.bytes(left.min(BATCH_OVERHEAD as u64) as usize)?;
        let header = BatchHeader::parse(&start).map_err(|error| self.damaged(error.into()))?;
        let needed = header.size_in_bytes();
        if needed as u64 > left {
            return Err(self.damaged(BatchError::Truncated { needed, available: left as usize }.into()));
        }
        let batch = self.bytes(needed)?;
        ottla_record::verify_crc(&batch).map_err(|error| self.damaged(error.into()))?;
        let in_place = header.last_offset_delta >= 0
            && header.base_offset >= self.next_offset
            && header.last_offset() < self.end_offset;
        if !in_place {
            return Err(self.damaged(InvalidBatchBytes::Offsets {
                base_offset: header.base_offset,
                last_offset_delta: header.last_offset_delta,
            }));
        }
        self.next_offset = header.next_offset();
        self.position += needed as u64;
        if let Some(headers) = &mut self.headers {
            headers.add(&header);
        }
        Ok(Some((header, batch)))
    }

    /// The next bytes; so many are there.
    fn bytes(&mut self, count: usize) -> Result<Bytes, CleanError> {
        let skipped = (self.position - self.chunk_start) as usize;
        if skipped + count > self.chunk.len() {
            let len = (count.max(self.io_bytes) as u64).min(self.size - self.position);
            let mut chunk = vec![0; len as usize];
            self.file
                .read_exact_at(&mut chunk, self.position)
                .map_err(CleanError::io("read", self.segment.path(names::LOG_SUFFIX)))?;
            self.chunk = chunk.into();
            self.chunk_start = self.position;
        }
        let skipped = (self.position - self.chunk_start) as usize;
        Ok(self.chunk.slice(skipped..skipped + count))
    }

    fn damaged(&self, reason: InvalidBatchBytes) -> CleanError {
        CleanError::Damaged { path: self.segment.path(names::LOG_SUFFIX), position: self.position, reason }
    }
}
