//! Writing a batch anew: with the codec its topic asks for, or with the offsets it should have had.
//!
//! A codec concerns the records' bytes as a whole, so they are taken as they are where they can be; only a batch whose
//! offsets or whose base timestamp Kafka would write otherwise has its records written one by one.

use bytes::Bytes;
use ottla_types::TimestampType;

use super::rules::ValidationRules;
use super::{Inspection, InvalidBatch, Summary, ValidatedBatch, check_size, invalid_header, invalid_walk};
use crate::builder::{BatchBuilder, BuildError, write_header};
use crate::compression::{Compression, compress_into, decompress};
use crate::header::{Attributes, BATCH_OVERHEAD, BatchHeader, Codec, LOG_OVERHEAD};
use crate::records::Records;
use crate::walk::walk;

/// Looks at every record of a batch, and writes it anew.
pub(super) fn recompress(
    bytes: &Bytes,
    header: &BatchHeader,
    codec: Codec,
    target: Compression,
    rules: &ValidationRules,
) -> Result<ValidatedBatch, InvalidBatch> {
    let body = decompress(codec, &bytes.slice(BATCH_OVERHEAD..), &rules.limits)?;
    let limit = if codec == Codec::None { usize::MAX } else { rules.max_decompressed_message_bytes };
    let mut inspection = Inspection::new(header, rules);
    let mut first_delta = None;
    walk(header, &body, limit, |index, record| {
        first_delta.get_or_insert(record.timestamp_delta);
        inspection.see(index, record);
    })
    .map_err(|error| invalid_walk(error, rules))?;
    let summary = inspection.finish()?;
    // Kafka's base timestamp is the first record's.
    let as_they_are = summary.consecutive
        && first_delta == Some(0)
        && header.attributes.timestamp_type() == TimestampType::CreateTime;
    if target.codec() == Codec::None {
        // Known before it is copied, but for the few bytes that offsets may take less.
        let size = BATCH_OVERHEAD + body.len();
        if as_they_are {
            check_size(size, rules)?;
        }
    }
    let bytes = if as_they_are {
        with_records(&body, header, target, &summary, rules)?
    } else {
        with_each_record(&body, header, target, rules)?
    };
    check_size(bytes.len(), rules)?;
    let header = BatchHeader::parse(&bytes).map_err(invalid_header)?;
    let offset_delta_of_max_timestamp = match rules.timestamp_type {
        TimestampType::CreateTime => summary.index_of_max_timestamp,
        TimestampType::LogAppendTime => header.last_offset_delta,
    };
    Ok(ValidatedBatch {
        bytes,
        header,
        max_timestamp: header.max_timestamp,
        offset_delta_of_max_timestamp,
        log_append_time_ms: rules.log_append_time_ms(),
        rebuilt: true,
    })
}

/// The records' bytes under another codec.
fn with_records(
    body: &[u8],
    header: &BatchHeader,
    target: Compression,
    summary: &Summary,
    rules: &ValidationRules,
) -> Result<Bytes, BuildError> {
    let room = if target.codec() == Codec::None { body.len() } else { body.len() / 2 };
    let mut batch = Vec::with_capacity(BATCH_OVERHEAD + room);
    batch.resize(BATCH_OVERHEAD, 0);
    compress_into(target, body, &mut batch)?;
    let attributes = Attributes::default()
        .with_codec(target.codec())
        .with_transactional(header.attributes.is_transactional())
        .with_timestamp_type(rules.timestamp_type);
    let mut header = BatchHeader {
        batch_length: i32::try_from(batch.len() - LOG_OVERHEAD).map_err(|_| BuildError::TooLarge(batch.len()))?,
        attributes,
        max_timestamp: match rules.timestamp_type {
            TimestampType::CreateTime => summary.max_timestamp,
            TimestampType::LogAppendTime => rules.now_ms,
        },
        ..*header
    };
    write_header(&mut header, &mut batch);
    Ok(batch.into())
}

/// The records with offsets that follow one another.
fn with_each_record(
    body: &[u8],
    header: &BatchHeader,
    target: Compression,
    rules: &ValidationRules,
) -> Result<Bytes, InvalidBatch> {
    let mut builder = BatchBuilder::with_capacity(target, body.len());
    builder.set_position(header.base_offset, header.partition_leader_epoch);
    builder.set_producer(header.producer_id, header.producer_epoch, header.base_sequence);
    builder.set_transactional(header.attributes.is_transactional());
    if rules.timestamp_type == TimestampType::LogAppendTime {
        builder.set_log_append_time(rules.now_ms);
    }
    for record in Records::new(header, body) {
        builder.append_record(&record?)?;
    }
    Ok(builder.finish()?)
}
