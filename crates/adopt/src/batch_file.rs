//! Batch after batch of a segment or a snapshot, each checked, one in memory at a time.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ottla_record::{BATCH_OVERHEAD, BatchError, BatchHeader, CURRENT_MAGIC, LOG_OVERHEAD, MAGIC_OFFSET, verify_crc};
use ottla_rt::{Disk, DiskFile, OpenMode};

/// Kafka's quorum writes batches of 8 MiB at most.
const MAX_BATCH_BYTES: usize = 64 << 20;
/// What a torn write can leave behind; more than that is damage.
const MAX_TORN_BYTES: u64 = 64 << 20;
/// How many times the bytes behind a bad batch are summed up in the search for a good one.
const CHECKSUM_PASSES: usize = 8;

/// Why there is no batch at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBatch {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("it is of {size} bytes, {MAX_BATCH_BYTES} is the most")]
    TooLarge { size: usize },
    #[error("it begins with offset {found} where {expected} belongs")]
    Offset { expected: i64, found: i64 },
}

/// A file of batches.
pub(crate) struct BatchFile {
    file: Arc<dyn DiskFile>,
    length: u64,
    position: u64,
}

impl BatchFile {
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> io::Result<BatchFile> {
        let file = disk.open(path, OpenMode::Read)?;
        let length = file.len()?;
        Ok(BatchFile { file, length, position: 0 })
    }

    /// Where the next batch begins, or after a bad one where that does.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The bytes that were not read.
    pub(crate) fn remaining(&self) -> u64 {
        self.length - self.position
    }

    /// The next batch; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> io::Result<Option<Result<(BatchHeader, Bytes), BadBatch>>> {
        let remaining = self.remaining();
        if remaining == 0 {
            return Ok(None);
        }
        let head_length = usize::try_from(remaining).unwrap_or(usize::MAX).min(BATCH_OVERHEAD);
        let mut batch = vec![0; head_length];
        self.file.read_exact_at(&mut batch, self.position)?;
        let header = match BatchHeader::parse(&batch) {
            Ok(header) => header,
            Err(error) => return Ok(Some(Err(error.into()))),
        };
        let size = header.size_in_bytes();
        if size as u64 > remaining {
            let available = usize::try_from(remaining).unwrap_or(usize::MAX);
            return Ok(Some(Err(BatchError::Truncated { needed: size, available }.into())));
        }
        if size > MAX_BATCH_BYTES {
            return Ok(Some(Err(BadBatch::TooLarge { size })));
        }
        batch.resize(size, 0);
        self.file.read_exact_at(&mut batch[BATCH_OVERHEAD..], self.position + BATCH_OVERHEAD as u64)?;
        if let Err(error) = verify_crc(&batch) {
            return Ok(Some(Err(error.into())));
        }
        self.position += size as u64;
        Ok(Some(Ok((header, batch.into()))))
    }

    /// Whether the bytes from the bad batch on hold a good one that was written later: then they are no torn write. In
    /// doubt they are not.
    pub(crate) fn good_batch_follows(&self, expected_offset: i64) -> io::Result<bool> {
        let rest = self.remaining();
        if rest > MAX_TORN_BYTES {
            return Ok(true);
        }
        let mut bytes = vec![0; usize::try_from(rest).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, self.position)?;
        let mut budget = bytes.len().saturating_mul(CHECKSUM_PASSES);
        for place in 1..bytes.len() {
            let candidate = &bytes[place..];
            if candidate.get(MAGIC_OFFSET) != Some(&CURRENT_MAGIC.to_be_bytes()[0]) {
                continue;
            }
            let Ok(header) = BatchHeader::parse(candidate) else { continue };
            let size = header.size_in_bytes();
            // Lengths that no batch of this log can have are chance.
            if size > candidate.len() || size <= LOG_OVERHEAD || header.base_offset < expected_offset {
                continue;
            }
            if size > budget {
                return Ok(true);
            }
            budget -= size;
            if verify_crc(candidate).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
