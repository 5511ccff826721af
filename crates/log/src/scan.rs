//! Walks the batches of a `.log` file in bounded memory, whatever lengths its bytes declare.

use std::io;

use ottla_record::{BATCH_OVERHEAD, BatchError, BatchHeader, EndTransactionMarker};
use ottla_rt::DiskFile;

const BLOCK_BYTES: usize = 64 * 1024;
/// A look-up scans about one index interval.
const LOOKUP_BLOCK_BYTES: usize = 8 * 1024;
/// A control batch has 78 bytes; later versions of its record may have more.
const MAX_MARKER_BYTES: usize = 1024;
/// Where the bytes begin that a batch's CRC covers.
const CRC_COVERS_FROM: u64 = 21;

/// Why the bytes at a position are not a batch of this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatchBytes {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("its offsets begin at {base_offset} with a last delta of {last_offset_delta}")]
    Offsets { base_offset: i64, last_offset_delta: i32 },
}

/// What stands at the next position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    Batch { position: u64, header: BatchHeader },
    End,
    Invalid { position: u64, reason: InvalidBatchBytes },
}

/// Whether batches are read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Only that headers are plausible and follow each other.
    Headers,
    /// The CRC too.
    Checksums,
}

pub(crate) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    position: u64,
    end: u64,
    block: Vec<u8>,
    block_start: u64,
    block_bytes: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, start: u64, end: u64) -> Scanner<'a> {
        Scanner { file, position: start, end, block: Vec::new(), block_start: 0, block_bytes: BLOCK_BYTES }
    }

    /// The same for a scan that ends soon.
    pub(crate) fn for_lookup(file: &'a dyn DiskFile, start: u64, end: u64) -> Scanner<'a> {
        Scanner { block_bytes: LOOKUP_BLOCK_BYTES, ..Scanner::new(file, start, end) }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The batch at the current position; the position moves behind it. An invalid one stays where it is.
    pub(crate) fn next(&mut self, verify: Verify) -> io::Result<Scanned> {
        let position = self.position;
        let available = self.end.saturating_sub(position);
        if available == 0 {
            return Ok(Scanned::End);
        }
        let invalid = |reason| Ok(Scanned::Invalid { position, reason });
        let header = match BatchHeader::parse(self.bytes(position, available.min(BATCH_OVERHEAD as u64) as usize)?) {
            Ok(header) => header,
            Err(error) => return invalid(error.into()),
        };
        let size = header.size_in_bytes();
        if size as u64 > available {
            return invalid(BatchError::Truncated { needed: size, available: available as usize }.into());
        }
        if header.base_offset < 0
            || header.last_offset_delta < 0
            || header.base_offset > i64::MAX - i64::from(header.last_offset_delta) - 1
        {
            return invalid(InvalidBatchBytes::Offsets {
                base_offset: header.base_offset,
                last_offset_delta: header.last_offset_delta,
            });
        }
        if verify == Verify::Checksums {
            let computed = self.checksum(position + CRC_COVERS_FROM, position + size as u64)?;
            if computed != header.crc {
                return invalid(BatchError::CrcMismatch { stored: header.crc, computed }.into());
            }
        }
        self.position = position + size as u64;
        Ok(Scanned::Batch { position, header })
    }

    /// The marker in the control batch at `position`, which was scanned just now. `None` for one that ends no transaction.
    pub(crate) fn marker(&mut self, position: u64, header: &BatchHeader) -> io::Result<Option<EndTransactionMarker>> {
        let count = header.size_in_bytes().min(MAX_MARKER_BYTES);
        match EndTransactionMarker::of_batch(self.bytes(position, count)?) {
            Ok(marker) => Ok(marker),
            Err(reason) => {
                tracing::warn!(base_offset = header.base_offset, %reason, "a control batch is passed over");
                Ok(None)
            }
        }
    }

    fn checksum(&mut self, mut position: u64, end: u64) -> io::Result<u32> {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        while position < end {
            let count = (end - position).min(self.block_bytes as u64) as usize;
            digest.update(self.bytes(position, count)?);
            position += count as u64;
        }
        Ok(digest.finalize() as u32)
    }

    /// These bytes of the file; the block around them is kept.
    fn bytes(&mut self, position: u64, count: usize) -> io::Result<&[u8]> {
        debug_assert!(count <= self.block_bytes);
        let inside =
            position >= self.block_start && position + count as u64 <= self.block_start + self.block.len() as u64;
        if !inside {
            let len = (self.end - position).min(self.block_bytes as u64) as usize;
            self.block.resize(len, 0);
            self.block_start = position;
            if let Err(error) = self.file.read_exact_at(&mut self.block, position) {
                self.block.clear();
                return Err(error);
            }
        }
        let start = (position - self.block_start) as usize;
        Ok(&self.block[start..start + count])
    }
}
