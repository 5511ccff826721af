//! What a broker checks before it appends what a producer sent, and the few things it changes.
//!
//! Follows Kafka's produce path step by step, because clients see which check fails first. Where Kafka would answer
//! with an internal error, or append a batch that no consumer can read, the batch is refused as invalid instead.

mod recompress;
mod rules;

use bytes::Bytes;
use ottla_types::{ErrorCode, TimestampType};

use recompress::recompress;
pub use rules::{AppendOrigin, TargetCompression, ValidationMode, ValidationRules};

use crate::builder::{BuildError, write_header};
use crate::compression::{DecompressError, with_decoder};
use crate::header::{
    BATCH_OVERHEAD, BatchError, BatchHeader, CURRENT_MAGIC, Codec, LOG_OVERHEAD, MAGIC_OFFSET, verify_crc,
};
use crate::records::RecordError;
use crate::walk::{Glimpse, WalkError, walk, walk_compressed};

/// The least a batch's length can be in any format; what declares less is not even an old batch.
const LEAST_LENGTH: i32 = 14;
/// No more rejected records than this are named; every one is counted.
const NAMED_RECORDS: usize = 256;
/// "No timestamp" of a record.
const NO_TIMESTAMP: i64 = -1;

/// A batch ready to be appended: only its base offset and leader epoch are still the log's to stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedBatch {
    /// Exactly one batch.
    pub bytes: Bytes,
    /// The header of `bytes`.
    pub header: BatchHeader,
    /// The greatest timestamp of a record; -1 without one.
    pub max_timestamp: i64,
    /// Which record has it first; the last one where records were not looked at or the log stamps them.
    pub offset_delta_of_max_timestamp: i32,
    /// What the response tells the producer: the log's time if the log stamps records, else -1.
    pub log_append_time_ms: i64,
    /// Whether the records were written anew, and not only the header.
    pub rebuilt: bool,
}

/// One record that made its batch be refused (KIP-467).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// The record's index within the batch.
    pub batch_index: i32,
    pub reason: RejectReason,
}

/// Why a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    #[error("compacted topics take no record without a key")]
    NoKey,
    #[error("timestamp {timestamp} is outside of the allowed range [{earliest}, {latest}]")]
    TimestampOutOfRange { timestamp: i64, earliest: i64, latest: i64 },
    #[error("producers must not set the timestamp type LogAppendTime")]
    LogAppendTimeFromProducer,
}

/// Why a partition's records were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    #[error("there is no record batch")]
    NoBatch,
    #[error("there is more than one record batch")]
    SeveralBatches,
    #[error("batch length {0} is below the least a batch can have")]
    LengthTooSmall(i32),
    #[error("batch has magic {0}, only magic 2 is supported")]
    UnsupportedMagic(i8),
    #[error("batch has magic {0}, which no format ever had")]
    UnknownMagic(i8),
    #[error("batch is corrupt: its CRC is {stored:#010x}, its bytes give {computed:#010x}")]
    CrcMismatch { stored: u32, computed: u32 },
    #[error("batch of {size} bytes is larger than the {limit} bytes allowed")]
    TooLarge { size: usize, limit: usize },
    #[error("zstd is not supported by this version of the produce request")]
    ZstdNotAllowed,
    #[error("there is no codec with id {0}")]
    UnknownCodec(u8),
    #[error("batch has base offset {0}, producers must send 0")]
    BaseOffsetNotZero(i64),
    #[error("batch declares {record_count} records but its last offset delta is {last_offset_delta}")]
    CountMismatch { record_count: i32, last_offset_delta: i32 },
    #[error("clients must not write control records")]
    ControlBatch,
    #[error("batch has a producer id but the sequence number {0}")]
    InvalidSequence(i32),
    #[error(transparent)]
    Malformed(#[from] RecordError),
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error("record {index} of {length} bytes is larger than the {limit} bytes allowed after decompression")]
    RecordTooLarge { index: i32, length: usize, limit: usize },
    #[error("{total} records were rejected")]
    Rejected {
        /// The first of them.
        records: Vec<RejectedRecord>,
        total: usize,
    },
    #[error(transparent)]
    Rebuild(#[from] BuildError),
}

impl InvalidBatch {
    /// The code of the produce response.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            InvalidBatch::LengthTooSmall(_) | InvalidBatch::UnknownMagic(_) | InvalidBatch::CrcMismatch { .. } => {
                ErrorCode::CorruptMessage
            }
            InvalidBatch::TooLarge { .. } => ErrorCode::MessageTooLarge,
            InvalidBatch::ZstdNotAllowed | InvalidBatch::UnknownCodec(_) => ErrorCode::UnsupportedCompressionType,
            InvalidBatch::Rejected { records, .. }
                if records.iter().any(|rejected| rejected.reason != RejectReason::NoKey) =>
            {
                ErrorCode::InvalidTimestamp
            }
            InvalidBatch::Rebuild(_) => ErrorCode::UnknownServerError,
            InvalidBatch::NoBatch
            | InvalidBatch::SeveralBatches
            | InvalidBatch::UnsupportedMagic(_)
            | InvalidBatch::BaseOffsetNotZero(_)
            | InvalidBatch::CountMismatch { .. }
            | InvalidBatch::ControlBatch
            | InvalidBatch::InvalidSequence(_)
            | InvalidBatch::Malformed(_)
            | InvalidBatch::Decompress(_)
            | InvalidBatch::RecordTooLarge { .. }
            | InvalidBatch::Rejected { .. } => ErrorCode::InvalidRecord,
        }
    }

    /// The records to name in the produce response.
    pub fn rejected_records(&self) -> &[RejectedRecord] {
        match self {
            InvalidBatch::Rejected { records, .. } => records,
            _ => &[],
        }
    }
}

/// Checks what a produce request brings for one partition, and makes it what the log shall append.
pub fn validate(records: &Bytes, rules: &ValidationRules) -> Result<ValidatedBatch, InvalidBatch> {
    let bytes = only_batch(records, rules)?;
    let header = BatchHeader::parse(&bytes).map_err(invalid_header)?;
    let codec = check_batch(&header, &bytes, rules)?;
    let target = rules.target_compression.for_source(codec);
    if target.codec() != codec && !header.attributes.is_control() {
        return recompress(&bytes, &header, codec, target, rules);
    }
    if rules.mode == ValidationMode::Fast && can_trust(&header, rules) {
        return Ok(with_timestamps(bytes, header, header.max_timestamp, header.last_offset_delta, rules));
    }
    let mut inspection = Inspection::new(&header, rules);
    let body = bytes.get(BATCH_OVERHEAD..).unwrap_or_default();
    if codec == Codec::None {
        walk(&header, body, usize::MAX, |index, record| inspection.see(index, record))
    } else {
        let limit = rules.max_decompressed_message_bytes;
        with_decoder(codec, body, &rules.limits, |decoder, piece| {
            walk_compressed(&header, decoder, piece, limit, |index, record| inspection.see(index, record))
        })
    }
    .map_err(|error| invalid_walk(error, rules))?;
    let summary = inspection.finish()?;
    if !summary.consecutive {
        // Kafka repairs such batches if they are compressed; of the others it would append what no consumer expects.
        return recompress(&bytes, &header, codec, target, rules);
    }
    Ok(with_timestamps(bytes, header, summary.max_timestamp, summary.index_of_max_timestamp, rules))
}

/// Finds the one batch there must be. What follows it and is not a whole batch is ignored, as Kafka ignores it.
fn only_batch(records: &Bytes, rules: &ValidationRules) -> Result<Bytes, InvalidBatch> {
    let size = next_batch(records)?.ok_or(InvalidBatch::NoBatch)?;
    let batch = records.slice(..size);
    let magic = magic_of(&batch);
    if magic != Some(CURRENT_MAGIC) {
        return Err(InvalidBatch::UnsupportedMagic(magic.unwrap_or(-1)));
    }
    if !rules.zstd_allowed
        && BatchHeader::parse(&batch).is_ok_and(|header| header.attributes.codec() == Some(Codec::Zstd))
    {
        return Err(InvalidBatch::ZstdNotAllowed);
    }
    match next_batch(records.get(size..).unwrap_or_default())? {
        Some(_) => Err(InvalidBatch::SeveralBatches),
        // Enough for a batch of an older format, but not for what its magic says it is.
        None if size < BATCH_OVERHEAD => {
            Err(InvalidBatch::LengthTooSmall(i32::try_from(size - LOG_OVERHEAD).unwrap_or_default()))
        }
        None => Ok(batch),
    }
}

/// The size of the batch at the front, of whatever format, if all of it is there.
fn next_batch(bytes: &[u8]) -> Result<Option<usize>, InvalidBatch> {
    let Some(&[_, _, _, _, _, _, _, _, a, b, c, d]) = bytes.first_chunk::<LOG_OVERHEAD>() else { return Ok(None) };
    let length = i32::from_be_bytes([a, b, c, d]);
    if length < LEAST_LENGTH {
        return Err(InvalidBatch::LengthTooSmall(length));
    }
    match magic_of(bytes) {
        None => return Ok(None),
        Some(0..=CURRENT_MAGIC) => {}
        Some(magic) => return Err(InvalidBatch::UnknownMagic(magic)),
    }
    let size = LOG_OVERHEAD.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
    Ok((bytes.len() >= size).then_some(size))
}

fn magic_of(bytes: &[u8]) -> Option<i8> {
    bytes.get(MAGIC_OFFSET).map(|byte| byte.cast_signed())
}

/// Checks everything that can be seen without a record, and tells the codec.
fn check_batch(header: &BatchHeader, bytes: &[u8], rules: &ValidationRules) -> Result<Codec, InvalidBatch> {
    let client = rules.origin == AppendOrigin::Client;
    if client && header.base_offset != 0 {
        return Err(InvalidBatch::BaseOffsetNotZero(header.base_offset));
    }
    check_size(bytes.len(), rules)?;
    verify_crc(bytes).map_err(invalid_header)?;
    let codec_id = header.attributes.codec_id();
    let codec = header.attributes.codec().ok_or(InvalidBatch::UnknownCodec(codec_id))?;
    if client {
        let BatchHeader { record_count, last_offset_delta, .. } = *header;
        if record_count <= 0 || last_offset_delta != record_count - 1 {
            return Err(InvalidBatch::CountMismatch { record_count, last_offset_delta });
        }
        if header.attributes.is_control() {
            return Err(InvalidBatch::ControlBatch);
        }
        if header.has_producer_id() && header.base_sequence < 0 {
            return Err(InvalidBatch::InvalidSequence(header.base_sequence));
        }
    }
    Ok(codec)
}

fn check_size(size: usize, rules: &ValidationRules) -> Result<(), InvalidBatch> {
    let limit = rules.max_message_bytes;
    if size > limit { Err(InvalidBatch::TooLarge { size, limit }) } else { Ok(()) }
}

fn invalid_header(error: BatchError) -> InvalidBatch {
    match error {
        BatchError::Truncated { .. } => InvalidBatch::NoBatch,
        BatchError::LengthTooSmall(length) => InvalidBatch::LengthTooSmall(length),
        BatchError::UnsupportedMagic(magic) => InvalidBatch::UnsupportedMagic(magic),
        BatchError::CrcMismatch { stored, computed } => InvalidBatch::CrcMismatch { stored, computed },
    }
}

fn invalid_walk(error: WalkError, rules: &ValidationRules) -> InvalidBatch {
    match error {
        WalkError::Record(error) => error.into(),
        WalkError::Decompress(error) => error.into(),
        WalkError::RecordTooLarge { index, length } => {
            InvalidBatch::RecordTooLarge { index, length, limit: rules.max_decompressed_message_bytes }
        }
    }
}

/// Whether the header tells all that the rules ask: then `fast` does not look at the records.
fn can_trust(header: &BatchHeader, rules: &ValidationRules) -> bool {
    let timestamps_unbounded = rules.timestamp_type == TimestampType::LogAppendTime
        || (rules.timestamp_before_max_ms == i64::MAX
            && header.max_timestamp <= rules.now_ms.saturating_add(rules.timestamp_after_max_ms));
    !rules.compacted && timestamps_unbounded && header.attributes.timestamp_type() == TimestampType::CreateTime
}

/// Makes the header say what the records (or the log's clock) say. It is rewritten only if it did not already, and the
/// records are never touched.
fn with_timestamps(
    bytes: Bytes,
    mut header: BatchHeader,
    max_timestamp: i64,
    offset_delta_of_max_timestamp: i32,
    rules: &ValidationRules,
) -> ValidatedBatch {
    let (max_timestamp, offset_delta_of_max_timestamp) = match rules.timestamp_type {
        TimestampType::CreateTime => (max_timestamp, offset_delta_of_max_timestamp),
        TimestampType::LogAppendTime => (rules.now_ms, header.last_offset_delta),
    };
    let bytes = if header.max_timestamp == max_timestamp && header.attributes.timestamp_type() == rules.timestamp_type {
        bytes
    } else {
        header.max_timestamp = max_timestamp;
        header.attributes = header.attributes.known_bits().with_timestamp_type(rules.timestamp_type);
        let mut rewritten = bytes.to_vec();
        write_header(&mut header, &mut rewritten);
        rewritten.into()
    };
    ValidatedBatch {
        bytes,
        header,
        max_timestamp,
        offset_delta_of_max_timestamp,
        log_append_time_ms: rules.log_append_time_ms(),
        rebuilt: false,
    }
}

/// Looks at one record after another, and remembers what matters.
struct Inspection<'a> {
    rules: &'a ValidationRules,
    base_timestamp: i64,
    /// All records have it if the producer claims the log's timestamps.
    claimed_append_time: Option<i64>,
    /// How far a producer's timestamps may lie back and ahead; anywhere where the log stamps records.
    before_max_ms: i64,
    after_max_ms: i64,
    max_timestamp: i64,
    index_of_max_timestamp: i32,
    consecutive: bool,
    rejected: Vec<RejectedRecord>,
    total_rejected: usize,
}

struct Summary {
    max_timestamp: i64,
    index_of_max_timestamp: i32,
    /// Whether the offset deltas are 0, 1, 2, ...
    consecutive: bool,
}

impl<'a> Inspection<'a> {
    fn new(header: &BatchHeader, rules: &'a ValidationRules) -> Inspection<'a> {
        let (before_max_ms, after_max_ms) = match rules.timestamp_type {
            TimestampType::CreateTime => (rules.timestamp_before_max_ms, rules.timestamp_after_max_ms),
            TimestampType::LogAppendTime => (i64::MAX, i64::MAX),
        };
        Inspection {
            rules,
            base_timestamp: header.base_timestamp,
            claimed_append_time: (header.attributes.timestamp_type() == TimestampType::LogAppendTime)
                .then_some(header.max_timestamp),
            before_max_ms,
            after_max_ms,
            max_timestamp: NO_TIMESTAMP,
            index_of_max_timestamp: header.last_offset_delta,
            consecutive: true,
            rejected: Vec::new(),
            total_rejected: 0,
        }
    }

    #[inline]
    fn see(&mut self, index: i32, record: Glimpse) {
        let timestamp =
            self.claimed_append_time.unwrap_or_else(|| self.base_timestamp.wrapping_add(record.timestamp_delta));
        self.consecutive &= record.offset_delta == index;
        if timestamp > self.max_timestamp {
            (self.max_timestamp, self.index_of_max_timestamp) = (timestamp, index);
        }
        let keyless = self.rules.compacted && !record.has_key;
        if keyless || self.claimed_append_time.is_some() || self.is_out_of_range(timestamp) {
            self.see_suspect(index, timestamp, keyless);
        }
    }

    /// Wraps around like Kafka's arithmetic: with no limit set no timestamp is refused, however absurd.
    #[inline]
    fn is_out_of_range(&self, timestamp: i64) -> bool {
        let age = self.rules.now_ms.wrapping_sub(timestamp);
        age > self.before_max_ms || age.wrapping_neg() > self.after_max_ms
    }

    /// Decides about a record that is not plainly right.
    #[cold]
    fn see_suspect(&mut self, index: i32, timestamp: i64, keyless: bool) {
        let chosen = self.rules.timestamp_type == TimestampType::CreateTime && timestamp != NO_TIMESTAMP;
        let now = self.rules.now_ms;
        let reason = if keyless {
            RejectReason::NoKey
        } else if chosen && self.is_out_of_range(timestamp) {
            let (earliest, latest) = (now.saturating_sub(self.before_max_ms), now.saturating_add(self.after_max_ms));
            RejectReason::TimestampOutOfRange { timestamp, earliest, latest }
        } else if !chosen && self.claimed_append_time.is_some() {
            RejectReason::LogAppendTimeFromProducer
        } else {
            return;
        };
        self.total_rejected += 1;
        if self.rejected.len() < NAMED_RECORDS {
            self.rejected.push(RejectedRecord { batch_index: index, reason });
        }
    }

    fn finish(self) -> Result<Summary, InvalidBatch> {
        if self.total_rejected > 0 {
            return Err(InvalidBatch::Rejected { records: self.rejected, total: self.total_rejected });
        }
        Ok(Summary {
            max_timestamp: self.max_timestamp,
            index_of_max_timestamp: self.index_of_max_timestamp,
            consecutive: self.consecutive,
        })
    }
}
