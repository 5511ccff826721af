//! Reads the protocol's types from untrusted bytes.

use bytes::Bytes;
use ottla_types::Uuid;

use crate::{DecodeError, FetchedRecords, StrBytes};

/// The most elements an array may have, as in Kafka 4.4.
pub const MAX_ARRAY_LENGTH: usize = 1_000_000;
/// The most tagged fields a struct may have, as in Kafka 4.4.
pub const MAX_TAGGED_FIELDS: usize = 10_000;
/// What decoding one message may allocate unless the caller says otherwise.
pub const DEFAULT_DECODE_BUDGET_BYTES: usize = 64 * 1024 * 1024;

const MAX_STRING_LENGTH: usize = i16::MAX as usize;

/// A cursor over one frame.
///
/// Strings and bytes are handed out as slices of the frame and cost nothing. What does cost memory, arrays above all, is
/// charged to a budget *before* it is allocated.
#[derive(Clone, Debug)]
pub struct Decoder {
    input: Bytes,
    position: usize,
    /// Where the struct being read ends: the frame's end, or a tagged field's.
    end: usize,
    budget: usize,
}

impl Decoder {
    pub fn new(input: Bytes) -> Self {
        Self::with_budget(input, DEFAULT_DECODE_BUDGET_BYTES)
    }

    /// A decoder that allocates `budget_bytes` at most.
    pub fn with_budget(input: Bytes, budget_bytes: usize) -> Self {
        let end = input.len();
        Self { input, position: 0, end, budget: budget_bytes }
    }

    /// How many bytes are not yet read.
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// What is left of the budget.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// The bytes not yet read.
    pub fn into_remaining(self) -> Bytes {
        self.input.slice(self.position..self.end)
    }

    /// The number `offset` bytes behind the cursor, which stays.
    pub fn peek_int16(&self, offset: usize) -> Result<i16, DecodeError> {
        self.peek(offset).map(i16::from_be_bytes)
    }

    pub fn boolean(&mut self) -> Result<bool, DecodeError> {
        Ok(self.int8()? != 0)
    }

    pub fn int8(&mut self) -> Result<i8, DecodeError> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub fn int16(&mut self) -> Result<i16, DecodeError> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub fn int32(&mut self) -> Result<i32, DecodeError> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub fn int64(&mut self) -> Result<i64, DecodeError> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub fn uint16(&mut self) -> Result<u16, DecodeError> {
        self.fixed().map(u16::from_be_bytes)
    }

    pub fn uint32(&mut self) -> Result<u32, DecodeError> {
        self.fixed().map(u32::from_be_bytes)
    }

    pub fn float64(&mut self) -> Result<f64, DecodeError> {
        self.fixed().map(f64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.fixed().map(Uuid)
    }

    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed::<1>()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::VarintTooLong);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }

    pub fn string(&mut self, flexible: bool) -> Result<StrBytes, DecodeError> {
        self.nullable_string(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<StrBytes>, DecodeError> {
        let length = if flexible { self.compact_length()? } else { usize::try_from(self.int16()?).ok() };
        let Some(length) = length else { return Ok(None) };
        if length > MAX_STRING_LENGTH {
            return Err(DecodeError::StringTooLong { length });
        }
        let (text, allocated) = StrBytes::from_bytes_lossy(&self.take(length)?);
        self.charge(allocated)?;
        Ok(Some(text))
    }

    /// Bytes, or records, which are written alike.
    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        match self.length(flexible)? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    pub fn fetched_records(&mut self, flexible: bool) -> Result<FetchedRecords, DecodeError> {
        self.bytes(flexible).map(FetchedRecords::from)
    }

    pub fn nullable_fetched_records(&mut self, flexible: bool) -> Result<Option<FetchedRecords>, DecodeError> {
        Ok(self.nullable_bytes(flexible)?.map(FetchedRecords::from))
    }

    pub fn array<T>(
        &mut self,
        flexible: bool,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flexible, element)?.ok_or(DecodeError::UnexpectedNull)
    }

    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(length) = self.array_length(flexible, size_of::<T>())? else { return Ok(None) };
        let mut elements = Vec::with_capacity(length);
        for _ in 0..length {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// A struct that a marker byte says is there or not.
    pub fn nullable_struct<T>(
        &mut self,
        decode: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.int8()? < 0 { Ok(None) } else { decode(self).map(Some) }
    }

    /// As [`Decoder::nullable_struct`], for a struct that is a tagged field: there the marker is 0 for null.
    pub fn nullable_tagged_struct<T>(
        &mut self,
        decode: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.unsigned_varint()? == 0 { Ok(None) } else { decode(self).map(Some) }
    }

    /// The tagged fields at the end of a struct. `known` reads the field whose tag it knows, and gives `false` without
    /// reading for any other, which is skipped.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()? as usize;
        if count > MAX_TAGGED_FIELDS {
            return Err(DecodeError::TooManyTaggedFields { count, max: MAX_TAGGED_FIELDS });
        }
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let declared = self.unsigned_varint()? as usize;
            self.check_remaining(declared)?;
            let start = self.position;
            let outer_end = std::mem::replace(&mut self.end, start + declared);
            if !known(self, tag)? {
                self.position = self.end;
            }
            let read = self.position - start;
            if read != declared {
                return Err(DecodeError::TaggedFieldSize { tag, declared, read });
            }
            self.end = outer_end;
        }
        Ok(())
    }

    /// The tagged fields of a struct that knows none.
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(false))
    }

    fn array_length(&mut self, flexible: bool, element_size: usize) -> Result<Option<usize>, DecodeError> {
        let Some(length) = self.length(flexible)? else { return Ok(None) };
        // Every element takes at least a byte.
        if length > self.remaining() || length > MAX_ARRAY_LENGTH {
            return Err(DecodeError::ArrayTooLong { length, remaining: self.remaining(), max: MAX_ARRAY_LENGTH });
        }
        self.charge(length * element_size)?;
        Ok(Some(length))
    }

    /// A length of bytes or elements; `None` where it says null, which in the older form any negative one does.
    fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible { self.compact_length() } else { Ok(usize::try_from(self.int32()?).ok()) }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok((self.unsigned_varint()? as usize).checked_sub(1))
    }

    fn charge(&mut self, needed: usize) -> Result<(), DecodeError> {
        self.budget =
            self.budget.checked_sub(needed).ok_or(DecodeError::BudgetExceeded { needed, left: self.budget })?;
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.check_remaining(length)?;
        let start = self.position;
        self.position += length;
        Ok(self.input.slice(start..self.position))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.peek(0)?;
        self.position += N;
        Ok(bytes)
    }

    fn peek<const N: usize>(&self, offset: usize) -> Result<[u8; N], DecodeError> {
        self.input
            .get(self.position.saturating_add(offset)..self.end)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .ok_or(DecodeError::UnexpectedEnd { needed: offset.saturating_add(N), remaining: self.remaining() })
    }

    fn check_remaining(&self, needed: usize) -> Result<(), DecodeError> {
        let remaining = self.remaining();
        if needed > remaining { Err(DecodeError::UnexpectedEnd { needed, remaining }) } else { Ok(()) }
    }
}
