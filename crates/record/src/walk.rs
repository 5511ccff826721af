//! Walking the records of a batch for what validation asks of each, without holding them: the compressed ones are
//! looked at while they are decompressed, piece by piece.

use crate::compression::{Decoder, DecompressError};
use crate::header::BatchHeader;
use crate::records::{Fault, RecordError, RecordFields};
use crate::varint::{take_varint, take_varlong};

/// What validation looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glimpse {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) has_key: bool,
}

/// Why a walk ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WalkError {
    Record(RecordError),
    Decompress(DecompressError),
    RecordTooLarge { index: i32, length: usize },
}

/// Shows every record in `body`, uncompressed, to `see`.
#[inline]
pub(crate) fn walk(
    header: &BatchHeader,
    mut body: &[u8],
    max_record_length: usize,
    mut see: impl FnMut(i32, Glimpse),
) -> Result<(), WalkError> {
    for index in 0..header.record_count {
        let fields = RecordFields::take(&mut body).map_err(|fault| WalkError::Record(fault.at(index)))?;
        if fields.length > max_record_length {
            return Err(WalkError::RecordTooLarge { index, length: fields.length });
        }
        see(index, Glimpse::of(&fields));
    }
    if body.is_empty() { Ok(()) } else { Err(WalkError::Record(RecordError::TrailingBytes(body.len()))) }
}

/// Shows every record to `see` that `decoder` makes. `piece` is the only memory used, whatever the size of records.
pub(crate) fn walk_compressed(
    header: &BatchHeader,
    decoder: &mut Decoder<'_>,
    piece: &mut Vec<u8>,
    max_record_length: usize,
    mut see: impl FnMut(i32, Glimpse),
) -> Result<(), WalkError> {
    let mut stream = Stream { decoder, piece, position: 0 };
    for index in 0..header.record_count {
        let at = |stop: Stop| match stop {
            Stop::Fault(fault) => WalkError::Record(fault.at(index)),
            Stop::Decompress(error) => WalkError::Decompress(error),
        };
        let length = stream.take_varint().map_err(at)?;
        let length = usize::try_from(length).map_err(|_| at(Stop::Fault(Fault::NegativeLength(length))))?;
        if length > max_record_length {
            return Err(WalkError::RecordTooLarge { index, length });
        }
        see(index, stream.take_record(length).map_err(at)?);
    }
    if stream.position < stream.piece.len() || stream.refill().map_err(WalkError::Decompress)? {
        let left = stream.piece.len() - stream.position;
        return Err(WalkError::Record(RecordError::TrailingBytes(left)));
    }
    Ok(())
}

impl Glimpse {
    fn of(fields: &RecordFields<'_>) -> Glimpse {
        Glimpse {
            timestamp_delta: fields.timestamp_delta,
            offset_delta: fields.offset_delta,
            has_key: fields.key.is_some(),
        }
    }
}

enum Stop {
    Fault(Fault),
    Decompress(DecompressError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

/// Decompressed bytes, of which only the present piece is there.
struct Stream<'a, 'b> {
    decoder: &'a mut Decoder<'b>,
    piece: &'a mut Vec<u8>,
    position: usize,
}

impl Stream<'_, '_> {
    fn rest(&self) -> &[u8] {
        self.piece.get(self.position..).unwrap_or_default()
    }

    /// Replaces the piece, which is used up, by the next that has bytes; false at the end.
    fn refill(&mut self) -> Result<bool, DecompressError> {
        self.piece.clear();
        self.position = 0;
        while self.piece.is_empty() {
            if !self.decoder.append_next(self.piece)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A record of this length: at once if the piece has all of it, else field by field.
    fn take_record(&mut self, length: usize) -> Result<Glimpse, Stop> {
        if let Some(body) = self.rest().get(..length) {
            let glimpse = Glimpse::of(&RecordFields::from_body(body)?);
            self.position += length;
            return Ok(glimpse);
        }
        let mut record = LongRecord { stream: self, length, left: length };
        record.take_byte()?;
        let timestamp_delta = record.take_number::<10, _>(|bytes| take_varlong(bytes).map_err(Fault::from))?;
        let offset_delta = record.take_varint()?;
        let has_key = record.skip_nullable()?;
        record.skip_nullable()?;
        let headers = record.take_varint()?;
        for _ in 0..u32::try_from(headers).map_err(|_| Fault::InvalidHeaderCount(headers))? {
            if !record.skip_nullable()? {
                return Err(Fault::NullHeaderKey.into());
            }
            record.skip_nullable()?;
        }
        if record.left > 0 {
            return Err(Fault::LengthMismatch { declared: length, read: length - record.left }.into());
        }
        Ok(Glimpse { timestamp_delta, offset_delta, has_key })
    }

    fn take_byte(&mut self) -> Result<u8, Stop> {
        loop {
            if let Some(&byte) = self.piece.get(self.position) {
                self.position += 1;
                return Ok(byte);
            }
            if !self.refill().map_err(Stop::Decompress)? {
                return Err(Fault::Truncated.into());
            }
        }
    }

    /// A record's length: from the piece if it is all there, else byte by byte.
    fn take_varint(&mut self) -> Result<i32, Stop> {
        let mut rest = self.rest();
        let before = rest.len();
        if let Ok(value) = take_varint(&mut rest) {
            self.position += before - rest.len();
            return Ok(value);
        }
        let mut bytes = [0; 5];
        for at in 0..bytes.len() {
            let byte = self.take_byte()?;
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if byte < 0x80 {
                break;
            }
        }
        take_varint(&mut bytes.as_slice()).map_err(|error| Fault::from(error).into())
    }

    fn skip(&mut self, mut count: usize) -> Result<(), Stop> {
        loop {
            let there = self.piece.len() - self.position;
            if count <= there {
                self.position += count;
                return Ok(());
            }
            count -= there;
            if !self.refill().map_err(Stop::Decompress)? {
                return Err(Fault::Truncated.into());
            }
        }
    }
}

/// A record that goes over the end of a piece.
struct LongRecord<'s, 'a, 'b> {
    stream: &'s mut Stream<'a, 'b>,
    length: usize,
    left: usize,
}

impl LongRecord<'_, '_, '_> {
    fn spend(&mut self, count: usize) -> Result<(), Stop> {
        let overrun = Fault::LengthMismatch { declared: self.length, read: self.length + 1 };
        self.left = self.left.checked_sub(count).ok_or(overrun)?;
        Ok(())
    }

    fn take_byte(&mut self) -> Result<u8, Stop> {
        self.spend(1)?;
        self.stream.take_byte()
    }

    /// A number of at most `N` bytes.
    fn take_number<const N: usize, T>(&mut self, parse: impl Fn(&mut &[u8]) -> Result<T, Fault>) -> Result<T, Stop> {
        let mut bytes = [0; N];
        for place in &mut bytes {
            *place = self.take_byte()?;
            if *place < 0x80 {
                break;
            }
        }
        Ok(parse(&mut bytes.as_slice())?)
    }

    fn take_varint(&mut self) -> Result<i32, Stop> {
        self.take_number::<5, _>(|bytes| take_varint(bytes).map_err(Fault::from))
    }

    /// Skips a field; false for null.
    fn skip_nullable(&mut self) -> Result<bool, Stop> {
        let length = self.take_varint()?;
        if length == -1 {
            return Ok(false);
        }
        let length = usize::try_from(length).map_err(|_| Fault::InvalidFieldLength(length))?;
        self.spend(length)?;
        self.stream.skip(length)?;
        Ok(true)
    }
}
