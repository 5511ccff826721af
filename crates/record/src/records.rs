//! The records of a batch, walked in place: nothing is copied, nothing allocated per record.

use ottla_types::TimestampType;

use crate::header::BatchHeader;
use crate::varint::{VarintError, take_varint, take_varlong};

/// Why the bytes of a batch are not the records it promises. Positions are record indexes within the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("record {index} is cut off")]
    Truncated { index: i32 },
    #[error("record {index} has a malformed number")]
    MalformedVarint { index: i32 },
    #[error("record {index} declares the length {length}")]
    NegativeLength { index: i32, length: i32 },
    #[error("record {index} has a field of length {length}")]
    InvalidFieldLength { index: i32, length: i32 },
    #[error("record {index} declares {count} headers")]
    InvalidHeaderCount { index: i32, count: i32 },
    #[error("record {index} has a header without a key")]
    NullHeaderKey { index: i32 },
    #[error("record {index} declares {declared} bytes but has {read}")]
    LengthMismatch { index: i32, declared: usize, read: usize },
    #[error("batch declares {0} records")]
    NegativeCount(i32),
    #[error("{0} bytes follow the last record")]
    TrailingBytes(usize),
}

/// One record; borrowed from the (decompressed) batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Bytes of the record, without the field that says so.
    pub length: usize,
    /// Unused by Kafka so far.
    pub attributes: i8,
    pub offset_delta: i32,
    pub timestamp_delta: i64,
    /// The record's own offset.
    pub offset: i64,
    /// The record's own timestamp: the batch's maximum when the log stamps appends.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// The headers of a record, in order; keys may repeat. Already checked: walking them cannot fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

/// One header of a record. Kafka means keys to be UTF-8 but does not check it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// Walks the records in `body`: the bytes after a batch's header, decompressed. The first malformed record, or bytes
/// left after the last one, end the walk with an error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    pub(crate) rest: &'a [u8],
    base_offset: i64,
    base_timestamp: i64,
    log_append_time: Option<i64>,
    count: i32,
    pub(crate) index: i32,
}

impl<'a> Records<'a> {
    pub fn new(header: &BatchHeader, body: &'a [u8]) -> Records<'a> {
        Records {
            rest: body,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            log_append_time: (header.attributes.timestamp_type() == TimestampType::LogAppendTime)
                .then_some(header.max_timestamp),
            count: header.record_count,
            index: 0,
        }
    }

    fn take(&mut self) -> Result<Record<'a>, RecordError> {
        let fields = RecordFields::take(&mut self.rest).map_err(|fault| fault.at(self.index))?;
        if self.index == self.count - 1 && !self.rest.is_empty() {
            return Err(RecordError::TrailingBytes(self.rest.len()));
        }
        Ok(Record {
            length: fields.length,
            attributes: fields.attributes,
            offset_delta: fields.offset_delta,
            timestamp_delta: fields.timestamp_delta,
            offset: self.base_offset.wrapping_add(i64::from(fields.offset_delta)),
            timestamp: self.log_append_time.unwrap_or(self.base_timestamp.wrapping_add(fields.timestamp_delta)),
            key: fields.key,
            value: fields.value,
            headers: fields.headers,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            let fault = if self.count < 0 {
                RecordError::NegativeCount(self.count)
            } else if self.count == 0 && !self.rest.is_empty() {
                RecordError::TrailingBytes(self.rest.len())
            } else {
                return None;
            };
            (self.count, self.rest) = (0, &[]);
            return Some(Err(fault));
        }
        let record = self.take();
        if record.is_ok() {
            self.index += 1;
        } else {
            (self.count, self.index, self.rest) = (0, 0, &[]);
        }
        Some(record)
    }
}

/// What is wrong with a record, before its index is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Truncated,
    MalformedVarint,
    NegativeLength(i32),
    InvalidFieldLength(i32),
    InvalidHeaderCount(i32),
    NullHeaderKey,
    LengthMismatch { declared: usize, read: usize },
}

impl Fault {
    pub(crate) fn at(self, index: i32) -> RecordError {
        match self {
            Fault::Truncated => RecordError::Truncated { index },
            Fault::MalformedVarint => RecordError::MalformedVarint { index },
            Fault::NegativeLength(length) => RecordError::NegativeLength { index, length },
            Fault::InvalidFieldLength(length) => RecordError::InvalidFieldLength { index, length },
            Fault::InvalidHeaderCount(count) => RecordError::InvalidHeaderCount { index, count },
            Fault::NullHeaderKey => RecordError::NullHeaderKey { index },
            Fault::LengthMismatch { declared, read } => RecordError::LengthMismatch { index, declared, read },
        }
    }
}

impl From<VarintError> for Fault {
    fn from(error: VarintError) -> Fault {
        match error {
            VarintError::Short => Fault::Truncated,
            VarintError::TooLong => Fault::MalformedVarint,
        }
    }
}

/// A record as its own bytes have it.
pub(crate) struct RecordFields<'a> {
    pub(crate) length: usize,
    attributes: i8,
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> RecordFields<'a> {
    #[inline]
    pub(crate) fn take(rest: &mut &'a [u8]) -> Result<RecordFields<'a>, Fault> {
        let length = take_varint(rest)?;
        let length = usize::try_from(length).map_err(|_| Fault::NegativeLength(length))?;
        let (body, after) = rest.split_at_checked(length).ok_or(Fault::Truncated)?;
        *rest = after;
        RecordFields::from_body(body)
    }

    /// Reads a record that takes exactly these bytes.
    #[inline]
    pub(crate) fn from_body(mut body: &'a [u8]) -> Result<RecordFields<'a>, Fault> {
        let length = body.len();
        // From here on the record's own length is the limit: running over it is a lie about the length.
        let mut fields = RecordFields::take_body(&mut body).map_err(|fault| match fault {
            Fault::Truncated => Fault::LengthMismatch { declared: length, read: length + 1 },
            other => other,
        })?;
        if body.is_empty() {
            fields.length = length;
            Ok(fields)
        } else {
            Err(Fault::LengthMismatch { declared: length, read: length - body.len() })
        }
    }

    #[inline]
    fn take_body(body: &mut &'a [u8]) -> Result<RecordFields<'a>, Fault> {
        let (&[attributes], rest) = body.split_first_chunk::<1>().ok_or(Fault::Truncated)?;
        *body = rest;
        let timestamp_delta = take_varlong(body)?;
        let offset_delta = take_varint(body)?;
        let key = take_nullable(body)?;
        let value = take_nullable(body)?;
        let count = take_varint(body)?;
        let headers = if count == 0 { Headers::default() } else { Headers::take(count, body)? };
        Ok(RecordFields {
            length: 0,
            attributes: attributes.cast_signed(),
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers,
        })
    }
}

#[inline]
fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
    let length = take_varint(bytes)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| Fault::InvalidFieldLength(length))?;
    let (field, rest) = bytes.split_at_checked(length).ok_or(Fault::Truncated)?;
    *bytes = rest;
    Ok(Some(field))
}

impl<'a> Headers<'a> {
    /// Checks `count` headers and leaves `bytes` after them. A header takes two bytes or more, so a count that lies is
    /// found out as soon as the bytes end.
    fn take(count: i32, bytes: &mut &'a [u8]) -> Result<Headers<'a>, Fault> {
        let count = usize::try_from(count).map_err(|_| Fault::InvalidHeaderCount(count))?;
        let all = *bytes;
        for _ in 0..count {
            take_nullable(bytes)?.ok_or(Fault::NullHeaderKey)?;
            take_nullable(bytes)?;
        }
        Ok(Headers { count, bytes: all.get(..all.len() - bytes.len()).unwrap_or_default() })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers as the record has them, without their count.
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn iter(&self) -> HeaderIter<'a> {
        HeaderIter { bytes: self.bytes }
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

/// Iterator over the headers of a record.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        let key = take_nullable(&mut self.bytes).ok()??;
        let value = take_nullable(&mut self.bytes).ok()?;
        Some(Header { key, value })
    }
}
