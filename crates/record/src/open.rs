//! A batch with its records at hand, as consumers and tools need it.

use bytes::Bytes;

use crate::compression::{DecompressError, DecompressionLimits, decompress};
use crate::header::{BATCH_OVERHEAD, BatchError, BatchHeader, whole_batch};
use crate::records::Records;

/// Why a batch could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Decompress(#[from] DecompressError),
}

/// A batch whose records are decompressed; records borrow from it.
#[derive(Clone, Debug)]
pub struct OpenBatch {
    header: BatchHeader,
    body: Bytes,
}

impl OpenBatch {
    /// Opens the batch that `bytes` begin with. An uncompressed one is not copied; the CRC is [`crate::verify_crc`]'s.
    pub fn open(bytes: &Bytes, limits: &DecompressionLimits) -> Result<OpenBatch, OpenError> {
        let header = BatchHeader::parse(bytes)?;
        let size = whole_batch(bytes, &header)?.len();
        let codec = header.attributes.codec().ok_or(DecompressError::UnknownCodec(header.attributes.codec_id()))?;
        let body = decompress(codec, &bytes.slice(BATCH_OVERHEAD..size), limits)?;
        Ok(OpenBatch { header, body })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    pub fn records(&self) -> Records<'_> {
        Records::new(&self.header, &self.body)
    }

    /// Keeps a key, a value or a header of one of the records beyond the batch's life, without copying it. It keeps the
    /// whole batch in memory.
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.body.slice_ref(part)
    }
}
