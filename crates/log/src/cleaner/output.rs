//! A segment as the cleaner writes it: log, indexes, transaction index, and the sum over its headers.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use ottla_record::BatchHeader;
use ottla_rt::{Disk, DiskFile, OpenMode};

use super::error::CleanError;
use crate::directory::Shared;
use crate::header_sum::HeaderSummer;
use crate::names;
use crate::segment::{MAX_RELATIVE_OFFSET, Segment};
use crate::transactions::AbortedTransaction;

/// Where positions in a segment end.
const MAX_SEGMENT_BYTES: u64 = i32::MAX as u64;

pub(super) struct CleanedSegment {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// Not in the file yet.
    buffer: Vec<u8>,
    buffer_bytes: usize,
    size: u64,
    interval_bytes: u64,
    headers: HeaderSummer,
    aborted: Vec<AbortedTransaction>,
}

impl CleanedSegment {
    /// Begins the files of a segment, named `.cleaned`.
    pub(super) fn create(
        shared: &Arc<Shared>,
        directory: &Arc<Path>,
        base_offset: i64,
        interval_bytes: u64,
        buffer_bytes: usize,
    ) -> io::Result<CleanedSegment> {
        let segment = Arc::new(Segment::create_cleaned(shared, directory, base_offset)?);
        let file = match segment.file() {
            Ok(file) => file,
            Err(error) => {
                segment.discard()?;
                return Err(error);
            }
        };
        // An error the system finds while it writes back can vanish with the last handle.
        segment.pin(&file);
        Ok(CleanedSegment {
            shared: Arc::clone(shared),
            segment,
            file,
            buffer: Vec::new(),
            buffer_bytes,
            size: 0,
            interval_bytes,
            headers: HeaderSummer::new(),
            aborted: Vec::new(),
        })
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn append(&mut self, batch: &[u8], header: &BatchHeader) -> Result<(), CleanError> {
        let base_offset = self.segment.base_offset;
        if self.size + batch.len() as u64 > MAX_SEGMENT_BYTES
            || header.last_offset() - base_offset > MAX_RELATIVE_OFFSET
        {
            return Err(CleanError::TooLarge { base_offset });
        }
        self.segment
            .note_batch(self.size, header, self.interval_bytes)
            .map_err(CleanError::io("write index", self.segment.path(names::OFFSET_INDEX_SUFFIX)))?;
        self.headers.add(header);
        self.size += batch.len() as u64;
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= self.buffer_bytes {
            self.write_buffer()?;
        }
        Ok(())
    }

    /// The transaction's marker stays, so its entry does.
    pub(super) fn index_aborted(&mut self, aborted: AbortedTransaction) {
        self.aborted.push(aborted);
    }

    fn write_buffer(&mut self) -> Result<(), CleanError> {
        let position = self.size - self.buffer.len() as u64;
        self.file
            .write_all_at(&[IoSlice::new(&self.buffer)], position)
            .map_err(CleanError::io("write", self.segment.path(names::LOG_SUFFIX)))?;
        self.buffer.clear();
        Ok(())
    }

    /// Completes the files. They are durable when this returns, and so are their names.
    pub(super) fn finish(&mut self, directory: &Path) -> Result<(), CleanError> {
        self.write_buffer()?;
        self.segment.set_size(self.size);
        let disk = &*self.shared.world.disk;
        let indexes = self
            .segment
            .close_indexes()
            .map_err(CleanError::io("write index", self.segment.path(names::OFFSET_INDEX_SUFFIX)))?;
        let path = self.segment.path(names::HEADER_SUM_SUFFIX);
        let headers = std::mem::take(&mut self.headers).finish();
        write_and_sync(disk, &path, &headers.format()).map_err(CleanError::io("write", path))?;
        self.segment.set_header_sum(headers);
        if !self.aborted.is_empty() {
            let path = self.segment.path(names::TRANSACTION_INDEX_SUFFIX);
            self.write_transactions().map_err(CleanError::io("write", path))?;
        }
        for file in indexes.iter().chain([&self.file]) {
            file.sync_data().map_err(CleanError::io("sync", self.segment.path(names::LOG_SUFFIX)))?;
        }
        self.segment.unpin();
        disk.sync_dir(directory).map_err(CleanError::io("sync", directory))
    }

    fn write_transactions(&self) -> io::Result<()> {
        for aborted in &self.aborted {
            self.segment.recover_aborted(aborted)?;
        }
        self.segment.transaction_index_file(OpenMode::ReadWrite)?.sync_data()?;
        match self.segment.write_transaction_sum()? {
            Some(file) => file.sync_data(),
            None => Ok(()),
        }
    }
}

fn write_and_sync(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = disk.open(path, OpenMode::CreateOrOpen)?;
    file.set_len(0)?;
    file.write_all_at(&[IoSlice::new(bytes)], 0)?;
    file.sync_data()
}
