//! The timestamps of a batch's records.

use bytes::Bytes;
use ottla_record::{
    BATCH_OVERHEAD, BatchError, BatchHeader, Codec, DecompressError, DecompressionLimits, RecordError, Records,
    decompress,
};

/// One record's timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordTime {
    pub(crate) timestamp: i64,
    pub(crate) offset: i64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordTimesError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Timestamps and offsets of the records of one whole batch.
pub(crate) fn timestamps(batch: &Bytes) -> Result<Vec<RecordTime>, RecordTimesError> {
    ottla_record::verify_crc(batch)?;
    let header = BatchHeader::parse(batch)?;
    let body = batch.slice(BATCH_OVERHEAD..header.size_in_bytes());
    let codec = header.attributes.codec().unwrap_or(Codec::None);
    let plain = if codec == Codec::None { body } else { decompress(codec, &body, &DecompressionLimits::default())? };
    let mut times = Vec::new();
    for record in Records::new(&header, &plain) {
        let record = record?;
        times.push(RecordTime { timestamp: record.timestamp, offset: record.offset });
    }
    Ok(times)
}
