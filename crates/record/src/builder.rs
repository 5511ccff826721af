//! Writing batches: for clients, tools, coordinators, and for a broker that compresses anew.

use bytes::Bytes;
use ottla_types::TimestampType;

use crate::compression::{CompressError, Compression, compress_into};
use crate::header::{Attributes, BATCH_OVERHEAD, BatchHeader, CURRENT_MAGIC, Codec, LOG_OVERHEAD, crc_of};
use crate::records::{Header, Record};
use crate::varint::{put_varint, put_varlong, varint_size, varlong_size};

/// Why a batch cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    #[error("a batch needs a record")]
    Empty,
    #[error("a batch cannot have more than 2^31-1 records")]
    TooManyRecords,
    #[error("a batch cannot have {0} bytes")]
    TooLarge(usize),
    #[error(transparent)]
    Compress(#[from] CompressError),
}

/// Collects records and makes a batch of them. Records get offsets 0, 1, ... from the base offset; timestamps are the
/// caller's.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    compression: Compression,
    /// Room for the header, then the records, uncompressed.
    buffer: Vec<u8>,
    base_offset: i64,
    partition_leader_epoch: i32,
    attributes: Attributes,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    record_count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    log_append_time_ms: Option<i64>,
}

impl BatchBuilder {
    pub fn new(compression: Compression) -> BatchBuilder {
        BatchBuilder::with_capacity(compression, 0)
    }

    /// A builder with room for this many bytes of records.
    pub fn with_capacity(compression: Compression, bytes: usize) -> BatchBuilder {
        let mut buffer = Vec::with_capacity(BATCH_OVERHEAD + bytes);
        buffer.resize(BATCH_OVERHEAD, 0);
        BatchBuilder {
            compression,
            buffer,
            base_offset: 0,
            partition_leader_epoch: -1,
            attributes: Attributes::default().with_codec(compression.codec()),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            log_append_time_ms: None,
        }
    }

    /// Makes the batch one of an idempotent producer. Its sequence may be known only when the batch is sent.
    pub fn set_producer(&mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (producer_id, producer_epoch, base_sequence);
    }

    pub fn set_transactional(&mut self, transactional: bool) {
        self.attributes = self.attributes.with_transactional(transactional);
    }

    /// Makes the batch one of control records, which no consumer is given.
    pub(crate) fn set_control(&mut self, control: bool) {
        self.attributes = self.attributes.with_control(control);
    }

    /// Where the batch stands; producers leave this 0 and -1.
    pub fn set_position(&mut self, base_offset: i64, partition_leader_epoch: i32) {
        (self.base_offset, self.partition_leader_epoch) = (base_offset, partition_leader_epoch);
    }

    /// Gives all records this timestamp, in place of their own.
    pub fn set_log_append_time(&mut self, now_ms: i64) {
        self.log_append_time_ms = Some(now_ms);
        self.attributes = self.attributes.with_timestamp_type(TimestampType::LogAppendTime);
    }

    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// What the batch would take without compression, which in practice is the most it can take.
    pub fn estimated_size(&self) -> usize {
        self.buffer.len()
    }

    /// The most that [`BatchBuilder::append`] adds for such a record, before compression.
    pub fn record_size_upper_bound(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> usize {
        // Length, attributes, and deltas of a timestamp and an offset at their longest.
        5 + 1 + 10 + 5 + content_size(key, value, headers)
    }

    /// Appends a record.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<(), BuildError> {
        self.begin_record(timestamp, 0, content_size(key, value, headers))?;
        put_nullable(key, &mut self.buffer);
        put_nullable(value, &mut self.buffer);
        put_varint(length_field(headers.len()), &mut self.buffer);
        for header in headers {
            put_nullable(Some(header.key), &mut self.buffer);
            put_nullable(header.value, &mut self.buffer);
        }
        Ok(())
    }

    /// Appends a record of another batch, at the next offset.
    pub fn append_record(&mut self, record: &Record<'_>) -> Result<(), BuildError> {
        let headers = record.headers.as_bytes();
        let size = nullable_size(record.key)
            + nullable_size(record.value)
            + varint_size(length_field(record.headers.len()))
            + headers.len();
        self.begin_record(record.timestamp, record.attributes, size)?;
        put_nullable(record.key, &mut self.buffer);
        put_nullable(record.value, &mut self.buffer);
        put_varint(length_field(record.headers.len()), &mut self.buffer);
        self.buffer.extend_from_slice(headers);
        Ok(())
    }

    /// Writes what comes before a record's key, if all of it fits.
    fn begin_record(&mut self, timestamp: i64, attributes: i8, content_size: usize) -> Result<(), BuildError> {
        let offset_delta = self.record_count;
        let record_count = self.record_count.checked_add(1).ok_or(BuildError::TooManyRecords)?;
        let base_timestamp = if offset_delta == 0 { timestamp } else { self.base_timestamp };
        let timestamp_delta = timestamp.wrapping_sub(base_timestamp);
        let size = content_size
            .saturating_add(1)
            .saturating_add(varint_size(offset_delta))
            .saturating_add(varlong_size(timestamp_delta));
        let total = self.buffer.len().saturating_add(size).saturating_add(5);
        let (Ok(length), Ok(_)) = (i32::try_from(size), i32::try_from(total)) else {
            return Err(BuildError::TooLarge(total));
        };
        (self.record_count, self.base_timestamp) = (record_count, base_timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.buffer.reserve(size + 5);
        put_varint(length, &mut self.buffer);
        self.buffer.push(attributes.cast_unsigned());
        put_varlong(timestamp_delta, &mut self.buffer);
        put_varint(offset_delta, &mut self.buffer);
        Ok(())
    }

    /// Compresses, and writes the header.
    pub fn finish(self) -> Result<Bytes, BuildError> {
        if self.is_empty() {
            return Err(BuildError::Empty);
        }
        let mut batch = if self.compression.codec() == Codec::None {
            self.buffer
        } else {
            let body = self.buffer.get(BATCH_OVERHEAD..).unwrap_or_default();
            let mut batch = Vec::with_capacity(BATCH_OVERHEAD + body.len() / 2);
            batch.resize(BATCH_OVERHEAD, 0);
            compress_into(self.compression, body, &mut batch)?;
            batch
        };
        let mut header = BatchHeader {
            base_offset: self.base_offset,
            batch_length: i32::try_from(batch.len() - LOG_OVERHEAD).map_err(|_| BuildError::TooLarge(batch.len()))?,
            partition_leader_epoch: self.partition_leader_epoch,
            magic: CURRENT_MAGIC,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.log_append_time_ms.unwrap_or(self.max_timestamp),
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.record_count,
        };
        write_header(&mut header, &mut batch);
        Ok(batch.into())
    }
}

/// Writes `header` with the right CRC over the first bytes of `batch`, which has room for it.
pub(crate) fn write_header(header: &mut BatchHeader, batch: &mut [u8]) {
    if let Some(place) = batch.first_chunk_mut::<BATCH_OVERHEAD>() {
        *place = header.encode();
    }
    header.crc = crc_of(batch);
    if let Some(place) = batch.first_chunk_mut::<BATCH_OVERHEAD>() {
        *place = header.encode();
    }
}

fn content_size(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> usize {
    let headers_size: usize =
        headers.iter().map(|header| nullable_size(Some(header.key)) + nullable_size(header.value)).sum();
    nullable_size(key) + nullable_size(value) + varint_size(length_field(headers.len())) + headers_size
}

pub(crate) fn nullable_size(field: Option<&[u8]>) -> usize {
    field.map_or(1, |field| varint_size(length_field(field.len())) + field.len())
}

pub(crate) fn put_nullable(field: Option<&[u8]>, output: &mut Vec<u8>) {
    match field {
        Some(field) => {
            put_varint(length_field(field.len()), output);
            output.extend_from_slice(field);
        }
        None => put_varint(-1, output),
    }
}

/// A length as the format has it. What is longer makes the record too large as a whole, which is checked before.
pub(crate) fn length_field(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
