//! Walks the batches of a `.log` file in bounded memory, whatever lengths its bytes declare.

use std::io;

use ottla_record::{BATCH_OVERHEAD, BatchError, BatchHeader, EndTransactionMarker};
use ottla_rt::DiskFile;

use crate::epochs::NO_EPOCH;

const BLOCK_BYTES: usize = 64 * 1024;
/// The scrubber's reads go around the cache, so each is a request to the disk.
const SCRUB_BLOCK_BYTES: usize = 256 * 1024;
/// A look-up scans about one index interval.
const LOOKUP_BLOCK_BYTES: usize = 8 * 1024;
/// A control batch has 78 bytes; later versions of its record may have more.
const MAX_MARKER_BYTES: usize = 1024;
/// Behind a batch of this size only the next header is read, when only headers are wanted.
const SPARSE_BYTES: usize = 4 * 1024;
/// Where the bytes begin that a batch's CRC covers.
const CRC_COVERS_FROM: u64 = 21;

/// Why the bytes at a position are not a batch of this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatchBytes {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("its offsets begin at {base_offset} with a last delta of {last_offset_delta}")]
    Offsets { base_offset: i64, last_offset_delta: i32 },
    #[error("its offsets are {base_offset}..={last_offset} where only {least} up to {bound} (exclusive) can be")]
    OutOfPlace { base_offset: i64, last_offset: i64, least: i64, bound: i64 },
    #[error("its leader epoch is {found}, the leader epochs of the log have {expected} there")]
    Epoch { found: i32, expected: i32 },
    #[error("the headers of the batches around it are not those the log cleaner wrote")]
    OtherHeaders,
}

impl InvalidBatchBytes {
    /// Whether the batch has its place and size, and other content than was written.
    pub(crate) fn is_wrong_checksum(&self) -> bool {
        matches!(self, InvalidBatchBytes::Batch(BatchError::CrcMismatch { .. }))
    }
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
    last_size: usize,
    /// The file turned out to be shorter than the range.
    cut_short: bool,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, start: u64, end: u64) -> Scanner<'a> {
        Scanner {
            file,
            position: start,
            end,
            block: Vec::new(),
            block_start: 0,
            block_bytes: BLOCK_BYTES,
            last_size: 0,
            cut_short: false,
        }
    }

    /// The same for a scan that goes on behind this batch.
    pub(crate) fn behind(file: &'a dyn DiskFile, position: u64, header: &BatchHeader, end: u64) -> Scanner<'a> {
        let size = header.size_in_bytes();
        Scanner { last_size: size, ..Scanner::new(file, position + size as u64, end) }
    }

    /// The same for a scan that ends soon.
    pub(crate) fn for_lookup(file: &'a dyn DiskFile, start: u64, end: u64) -> Scanner<'a> {
        Scanner { block_bytes: LOOKUP_BLOCK_BYTES, ..Scanner::new(file, start, end) }
    }

    /// The same for the header of one batch.
    pub(crate) fn for_header(file: &'a dyn DiskFile, start: u64, end: u64) -> Scanner<'a> {
        Scanner { block_bytes: BATCH_OVERHEAD, ..Scanner::new(file, start, end) }
    }

    /// The same for a scan of everything that nobody waits for.
    pub(crate) fn for_scrub(file: &'a dyn DiskFile, start: u64, end: u64) -> Scanner<'a> {
        Scanner { block_bytes: SCRUB_BLOCK_BYTES, ..Scanner::new(file, start, end) }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The batch at the current position; the position moves behind it. An invalid one stays where it is.
    pub(crate) fn next(&mut self, verify: Verify) -> io::Result<Scanned> {
        match self.try_next(verify) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !self.cut_short => {
                // Bytes that were there are gone: that is said of the batch they belong to.
                self.cut_short = true;
                self.end = self.end.min(self.file.len()?);
                self.block.clear();
                self.try_next(verify)
            }
            next => next,
        }
    }

    fn try_next(&mut self, verify: Verify) -> io::Result<Scanned> {
        let position = self.position;
        let available = self.end.saturating_sub(position);
        if available == 0 {
            let reason = BatchError::Truncated { needed: BATCH_OVERHEAD, available: 0 }.into();
            return Ok(if self.cut_short { Scanned::Invalid { position, reason } } else { Scanned::End });
        }
        let invalid = |reason| Ok(Scanned::Invalid { position, reason });
        let sparse = verify == Verify::Headers && self.last_size >= SPARSE_BYTES;
        let block_bytes = if sparse { BATCH_OVERHEAD } else { self.block_bytes };
        let header = match BatchHeader::parse(self.header_bytes(position, block_bytes)?) {
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
        if header.partition_leader_epoch < NO_EPOCH {
            return invalid(InvalidBatchBytes::Epoch { found: header.partition_leader_epoch, expected: NO_EPOCH });
        }
        if verify == Verify::Checksums {
            let computed = self.checksum(position + CRC_COVERS_FROM, position + size as u64)?;
            if computed != header.crc {
                return invalid(BatchError::CrcMismatch { stored: header.crc, computed }.into());
            }
        }
        self.position = position + size as u64;
        self.last_size = size;
        Ok(Scanned::Batch { position, header })
    }

    /// The marker in the control batch at `position`, which was scanned just now. `None` for one that ends no transaction.
    pub(crate) fn marker(&mut self, position: u64, header: &BatchHeader) -> io::Result<Option<EndTransactionMarker>> {
        let count = header.size_in_bytes().min(MAX_MARKER_BYTES);
        match EndTransactionMarker::of_batch(&self.block_from(position, count, self.block_bytes)?[..count]) {
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
            let there = self.block_from(position, 1, self.block_bytes)?;
            let count = (end - position).min(there.len() as u64) as usize;
            digest.update(&there[..count]);
            position += count as u64;
        }
        Ok(digest.finalize() as u32)
    }

    /// The bytes of a header, or what is left of the range.
    fn header_bytes(&mut self, position: u64, block_bytes: usize) -> io::Result<&[u8]> {
        let count = (self.end - position).min(BATCH_OVERHEAD as u64) as usize;
        Ok(&self.block_from(position, count, block_bytes)?[..count])
    }

    /// At least `count` bytes from `position` on: what the block has, else a new block is read there.
    fn block_from(&mut self, position: u64, count: usize, block_bytes: usize) -> io::Result<&[u8]> {
        debug_assert!(count <= block_bytes);
        let inside =
            position >= self.block_start && position + count as u64 <= self.block_start + self.block.len() as u64;
        if !inside {
            let len = (self.end - position).min(block_bytes as u64) as usize;
            self.block.resize(len, 0);
            self.block_start = position;
            if let Err(error) = self.file.read_exact_at(&mut self.block, position) {
                self.block.clear();
                return Err(error);
            }
        }
        Ok(&self.block[(position - self.block_start) as usize..])
    }
}
