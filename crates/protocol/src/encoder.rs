//! Writes the protocol's types.

use bytes::{BufMut, Bytes, BytesMut};
use ottla_types::Uuid;

use crate::fetched_records::RecordsPart;
use crate::{EncodeError, FetchedRecords};

/// From this length on, bytes become a chunk of their own instead of being copied.
pub const SPLICE_THRESHOLD_BYTES: usize = 4096;

const FRAME_LENGTH_BYTES: usize = 4;
/// Most frames take no more, their payloads apart.
const MOST_FRAMES_BYTES: usize = 192;

/// Collects a message as a list of chunks: what was written, and between it the large payloads, by reference.
///
/// After an error the encoder holds part of a message; drop it.
#[derive(Debug, Default)]
pub struct Encoder {
    /// What comes before `tail`; the first may be the one whose frame length is still open.
    chunks: Vec<Chunk>,
    tail: BytesMut,
    /// The bytes in `chunks`.
    chunked: usize,
    framed: bool,
}

#[derive(Debug)]
enum Chunk {
    Written(BytesMut),
    Shared(Bytes),
    Elsewhere(usize),
}

/// A piece of an encoded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FramePart {
    Bytes(Bytes),
    /// So many bytes of records that the encoder was not given: whoever sends the frame has them.
    Elsewhere(usize),
}

impl Encoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// An encoder for a whole frame: its length comes first and is filled in by [`Encoder::finish`].
    pub fn framed() -> Self {
        let mut encoder = Self { framed: true, ..Self::default() };
        encoder.tail.reserve(MOST_FRAMES_BYTES);
        encoder.tail.put_bytes(0, FRAME_LENGTH_BYTES);
        encoder
    }

    /// How many bytes are written, a frame length included.
    pub fn len(&self) -> usize {
        self.chunked + self.tail.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Room for this many bytes that are going to be copied in, to spare the growing.
    pub fn reserve(&mut self, additional: usize) {
        self.tail.reserve(additional);
    }

    /// The chunks in their order, none of them empty. It is an error if some of the message is elsewhere.
    pub fn finish(self) -> Result<Vec<Bytes>, EncodeError> {
        self.finish_parts()?
            .into_iter()
            .map(|part| match part {
                FramePart::Bytes(bytes) => Ok(bytes),
                FramePart::Elsewhere(length) => Err(EncodeError::Elsewhere { length }),
            })
            .collect()
    }

    /// The parts in their order, none of them empty.
    pub fn finish_parts(self) -> Result<Vec<FramePart>, EncodeError> {
        let mut parts = Vec::with_capacity(self.chunks.len() + 1);
        self.finish_into(|part| parts.push(part))?;
        Ok(parts)
    }

    /// Hands over the parts in their order, none of them empty; none if there is an error.
    pub fn finish_into(mut self, mut take: impl FnMut(FramePart)) -> Result<(), EncodeError> {
        if self.framed {
            let length = self.len() - FRAME_LENGTH_BYTES;
            let head = i32::try_from(length).map_err(|_| EncodeError::FrameTooLong { length })?.to_be_bytes();
            let first = match self.chunks.first_mut() {
                Some(Chunk::Written(bytes)) => bytes,
                _ => &mut self.tail,
            };
            if let Some(place) = first.first_chunk_mut() {
                *place = head;
            }
        }
        for chunk in self.chunks {
            take(match chunk {
                Chunk::Written(bytes) => FramePart::Bytes(bytes.freeze()),
                Chunk::Shared(bytes) => FramePart::Bytes(bytes),
                Chunk::Elsewhere(length) => FramePart::Elsewhere(length),
            });
        }
        if !self.tail.is_empty() {
            take(FramePart::Bytes(self.tail.freeze()));
        }
        Ok(())
    }

    /// How many parts there are so far, at most.
    pub fn part_count(&self) -> usize {
        self.chunks.len() + 1
    }

    /// Everything in one piece; copies if there are several chunks.
    pub fn finish_contiguous(self) -> Result<Bytes, EncodeError> {
        let length = self.len();
        let chunks = self.finish()?;
        Ok(match <[Bytes; 1]>::try_from(chunks) {
            Ok([only]) => only,
            Err(chunks) => {
                let mut whole = BytesMut::with_capacity(length);
                for chunk in chunks {
                    whole.extend_from_slice(&chunk);
                }
                whole.freeze()
            }
        })
    }

    pub fn boolean(&mut self, value: bool) {
        self.tail.put_u8(u8::from(value));
    }

    pub fn int8(&mut self, value: i8) {
        self.tail.put_i8(value);
    }

    pub fn int16(&mut self, value: i16) {
        self.tail.put_i16(value);
    }

    pub fn int32(&mut self, value: i32) {
        self.tail.put_i32(value);
    }

    pub fn int64(&mut self, value: i64) {
        self.tail.put_i64(value);
    }

    pub fn uint16(&mut self, value: u16) {
        self.tail.put_u16(value);
    }

    pub fn uint32(&mut self, value: u32) {
        self.tail.put_u32(value);
    }

    pub fn float64(&mut self, value: f64) {
        self.tail.put_f64(value);
    }

    pub fn uuid(&mut self, value: Uuid) {
        self.tail.put_slice(&value.0);
    }

    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            let [low, ..] = value.to_le_bytes();
            self.tail.put_u8(low | 0x80);
            value >>= 7;
        }
        let [low, ..] = value.to_le_bytes();
        self.tail.put_u8(low);
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &Bytes) {
        if bytes.len() < SPLICE_THRESHOLD_BYTES {
            self.tail.put_slice(bytes);
        } else {
            self.close_tail();
            self.chunked += bytes.len();
            self.chunks.push(Chunk::Shared(bytes.clone()));
        }
    }

    pub fn string(&mut self, flexible: bool, text: &str) -> Result<(), EncodeError> {
        let length = text.len();
        let short = i16::try_from(length).map_err(|_| EncodeError::StringTooLong { length })?;
        if flexible {
            self.unsigned_varint(u32::from(short.cast_unsigned()) + 1);
        } else {
            self.int16(short);
        }
        self.tail.put_slice(text.as_bytes());
        Ok(())
    }

    pub fn nullable_string(&mut self, flexible: bool, text: Option<&str>) -> Result<(), EncodeError> {
        match text {
            Some(text) => return self.string(flexible, text),
            None if flexible => self.unsigned_varint(0),
            None => self.int16(-1),
        }
        Ok(())
    }

    /// Bytes, or records, which are written alike.
    pub fn bytes(&mut self, flexible: bool, bytes: &Bytes) -> Result<(), EncodeError> {
        self.length(flexible, bytes.len())?;
        self.raw(bytes);
        Ok(())
    }

    pub fn nullable_bytes(&mut self, flexible: bool, bytes: Option<&Bytes>) -> Result<(), EncodeError> {
        let Some(bytes) = bytes else {
            self.null_length(flexible);
            return Ok(());
        };
        self.bytes(flexible, bytes)
    }

    pub fn fetched_records(&mut self, flexible: bool, records: &FetchedRecords) -> Result<(), EncodeError> {
        self.length(flexible, records.len())?;
        for part in records.parts() {
            match part {
                RecordsPart::Bytes(bytes) => self.raw(bytes),
                RecordsPart::Elsewhere(0) => {}
                RecordsPart::Elsewhere(length) => {
                    self.close_tail();
                    self.chunked += length;
                    self.chunks.push(Chunk::Elsewhere(*length));
                }
            }
        }
        Ok(())
    }

    pub fn nullable_fetched_records(
        &mut self,
        flexible: bool,
        records: Option<&FetchedRecords>,
    ) -> Result<(), EncodeError> {
        let Some(records) = records else {
            self.null_length(flexible);
            return Ok(());
        };
        self.fetched_records(flexible, records)
    }

    pub fn array<T>(
        &mut self,
        flexible: bool,
        elements: &[T],
        mut element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length(flexible, elements.len())?;
        elements.iter().try_for_each(|value| element(self, value))
    }

    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        elements: Option<&[T]>,
        element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let Some(elements) = elements else {
            self.null_length(flexible);
            return Ok(());
        };
        self.array(flexible, elements, element)
    }

    /// An array of a type of fixed size.
    pub fn plain_array<T: Copy>(
        &mut self,
        flexible: bool,
        elements: &[T],
        element: impl Fn(&mut Self, T),
    ) -> Result<(), EncodeError> {
        self.length(flexible, elements.len())?;
        for &value in elements {
            element(self, value);
        }
        Ok(())
    }

    pub fn nullable_plain_array<T: Copy>(
        &mut self,
        flexible: bool,
        elements: Option<&[T]>,
        element: impl Fn(&mut Self, T),
    ) -> Result<(), EncodeError> {
        let Some(elements) = elements else {
            self.null_length(flexible);
            return Ok(());
        };
        self.plain_array(flexible, elements, element)
    }

    /// A struct behind the marker byte that says it is there.
    pub fn nullable_struct<T>(
        &mut self,
        value: Option<&T>,
        encode: impl FnOnce(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let Some(value) = value else {
            self.int8(-1);
            return Ok(());
        };
        self.int8(1);
        encode(self, value)
    }

    /// As [`Encoder::nullable_struct`], for a struct that is a tagged field: there the marker is 0 for null.
    pub fn nullable_tagged_struct<T>(
        &mut self,
        value: Option<&T>,
        encode: impl FnOnce(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.unsigned_varint(u32::from(value.is_some()));
        value.map_or(Ok(()), |value| encode(self, value))
    }

    pub fn tagged_fields(&mut self, fields: TaggedFields) {
        self.unsigned_varint(fields.count);
        self.append(fields.encoder);
    }

    /// The end of a struct that has no tagged field.
    pub fn no_tagged_fields(&mut self) {
        self.unsigned_varint(0);
    }

    fn append(&mut self, other: Encoder) {
        for chunk in other.chunks {
            match chunk {
                Chunk::Written(bytes) => self.tail.put_slice(&bytes),
                Chunk::Shared(bytes) => self.raw(&bytes),
                Chunk::Elsewhere(length) => {
                    self.close_tail();
                    self.chunked += length;
                    self.chunks.push(Chunk::Elsewhere(length));
                }
            }
        }
        self.tail.put_slice(&other.tail);
    }

    fn length(&mut self, flexible: bool, length: usize) -> Result<(), EncodeError> {
        let signed = i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?;
        if flexible {
            self.unsigned_varint(signed.cast_unsigned() + 1);
        } else {
            self.int32(signed);
        }
        Ok(())
    }

    fn null_length(&mut self, flexible: bool) {
        if flexible {
            self.unsigned_varint(0);
        } else {
            self.int32(-1);
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunked += self.tail.len();
            self.chunks.push(Chunk::Written(self.tail.split()));
        }
    }
}

/// The tagged fields of one struct that are set; they are counted before the first is written, and each is measured
/// before its own bytes.
#[derive(Debug, Default)]
pub struct TaggedFields {
    count: u32,
    encoder: Encoder,
}

impl TaggedFields {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field; tags have to come in ascending order.
    pub fn field(
        &mut self,
        tag: u32,
        encode: impl FnOnce(&mut Encoder) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut value = Encoder::new();
        encode(&mut value)?;
        let length = value.len();
        self.encoder.unsigned_varint(tag);
        self.encoder.unsigned_varint(u32::try_from(length).map_err(|_| EncodeError::TooLong { length })?);
        self.encoder.append(value);
        self.count += 1;
        Ok(())
    }
}
