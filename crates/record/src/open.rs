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

/// A place between two records of a batch; the default is before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCursor {
    position: usize,
    index: i32,
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

    /// The records from where another walk stood.
    pub fn records_from(&self, cursor: RecordCursor) -> Records<'_> {
        let mut records = self.records();
        records.rest = self.body.get(cursor.position..).unwrap_or_default();
        records.index = cursor.index;
        records
    }

    /// Where a walk of this batch's records stands.
    pub fn cursor(&self, records: &Records<'_>) -> RecordCursor {
        RecordCursor { position: self.body.len().saturating_sub(records.rest.len()), index: records.index }
    }

    /// Keeps a key, a value or a header of one of the records beyond the batch's life, without copying it. It keeps the
    /// whole batch in memory.
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.body.slice_ref(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::BatchBuilder;
    use crate::compression::Compression;
    use crate::header::Codec;

    #[test]
    fn a_walk_goes_on_where_it_stood() {
        let mut builder = BatchBuilder::new(Compression::new(Codec::None));
        for value in ["a", "bb", "ccc"] {
            builder.append(0, None, Some(value.as_bytes()), &[]).unwrap();
        }
        let batch = OpenBatch::open(&builder.finish().unwrap(), &DecompressionLimits::default()).unwrap();
        let mut read = Vec::new();
        let mut cursor = RecordCursor::default();
        loop {
            let mut records = batch.records_from(cursor);
            let Some(record) = records.next() else { break };
            read.push(record.unwrap().value.unwrap());
            cursor = batch.cursor(&records);
        }
        assert_eq!(read, [&b"a"[..], b"bb", b"ccc"]);
    }
}
