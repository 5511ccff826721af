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
        if let Some((glimpse, length, after)) = glance(body)
            && length <= max_record_length
        {
            see(index, glimpse);
            body = after;
            continue;
        }
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

/// The bytes a record is looked at with at once: more than its numbers take.
const GLANCE_BYTES: usize = 32;

/// Reads a record of the shape nearly all have: numbers of three bytes at most, no headers. Tells its length and what
/// follows it. `None` for any other, and for a malformed one: then [`RecordFields::take`] says what it is.
#[inline]
fn glance(bytes: &[u8]) -> Option<(Glimpse, usize, &[u8])> {
    let mut front = Front { bytes: bytes.first_chunk()?, at: 0 };
    let length = front.take_unsigned()?;
    if length & 1 != 0 {
        return None;
    }
    let length = (length >> 1) as usize;
    let end = front.at + length;
    // The attributes; whatever they are, nobody looks at them.
    front.at += 1;
    let timestamp_delta = i64::from(front.take()?);
    let offset_delta = front.take()?;
    let key = front.take()?;
    let mut at = front.at;
    let has_key = key != -1;
    let value = if has_key {
        at += usize::try_from(key).ok()?;
        let mut rest = bytes.get(at..)?;
        let before = rest.len();
        let value = take_varint(&mut rest).ok()?;
        at += before - rest.len();
        value
    } else {
        let value = front.take()?;
        at = front.at;
        value
    };
    if value != -1 {
        at += usize::try_from(value).ok()?;
    }
    // The number of headers is the last byte.
    if at + 1 != end || *bytes.get(at)? != 0 {
        return None;
    }
    Some((Glimpse { timestamp_delta, offset_delta, has_key }, length, bytes.get(end..)?))
}

/// The first bytes of a record; positions wrap around rather than being checked.
struct Front<'a> {
    bytes: &'a [u8; GLANCE_BYTES],
    at: usize,
}

impl Front<'_> {
    #[inline]
    fn byte(&self, ahead: usize) -> u32 {
        self.bytes.get((self.at + ahead) % GLANCE_BYTES).map_or(0, |&byte| u32::from(byte))
    }

    /// A number as it is written, in three bytes at most. Six of them and a byte fit into the front.
    #[inline]
    fn take_unsigned(&mut self) -> Option<u32> {
        let first = self.byte(0);
        if first < 0x80 {
            self.at += 1;
            return Some(first);
        }
        let second = self.byte(1);
        if second < 0x80 {
            self.at += 2;
            return Some(first & 0x7f | second << 7);
        }
        let third = self.byte(2);
        self.at += 3;
        (third < 0x80).then_some(first & 0x7f | (second & 0x7f) << 7 | third << 14)
    }

    #[inline]
    fn take(&mut self) -> Option<i32> {
        let value = self.take_unsigned()?;
        Some(((value >> 1) ^ (value & 1).wrapping_neg()).cast_signed())
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::varint::{put_varint, put_varlong};

    fn record(timestamp: i64, offset: i32, key: Option<&[u8]>, value: Option<&[u8]>, headers: i32) -> Vec<u8> {
        let mut body = vec![0];
        put_varlong(timestamp, &mut body);
        put_varint(offset, &mut body);
        for field in [key, value] {
            put_varint(field.map_or(-1, |field| field.len() as i32), &mut body);
            body.extend_from_slice(field.unwrap_or_default());
        }
        put_varint(headers, &mut body);
        for _ in 0..headers.max(0) {
            body.extend_from_slice(&[2, b'k', 1]);
        }
        let mut bytes = Vec::new();
        put_varint(body.len() as i32, &mut bytes);
        bytes.extend_from_slice(&body);
        bytes
    }

    /// What the glance says must be what the whole reading says.
    fn check(bytes: &[u8]) -> bool {
        let Some((glimpse, length, after)) = glance(bytes) else { return false };
        let mut rest = bytes;
        let fields = RecordFields::take(&mut rest).expect("what the glance takes is a record");
        let whole = Glimpse::of(&fields);
        assert_eq!(
            (glimpse.timestamp_delta, glimpse.offset_delta, glimpse.has_key),
            (whole.timestamp_delta, whole.offset_delta, whole.has_key)
        );
        assert_eq!((length, after), (fields.length, rest));
        true
    }

    #[test]
    fn the_usual_records_are_taken_at_a_glance() {
        let after = [7; GLANCE_BYTES];
        let long = vec![b'v'; 70_000];
        for key in [None, Some(&b""[..]), Some(b"key"), Some(&long[..200])] {
            for value in [None, Some(&b""[..]), Some(&long[..63]), Some(&long[..64]), Some(&long[..])] {
                for (timestamp, offset) in [(0, 0), (-1, 63), (64, 64), (8_192, 9_000), (-1_000_000, 1_000_000)] {
                    let bytes = [&record(timestamp, offset, key, value, 0)[..], &after].concat();
                    assert!(check(&bytes), "{key:?} {timestamp} {offset}");
                }
            }
        }
        assert!(!check(&[&record(0, 0, None, Some(b"value"), 1)[..], &after].concat()), "headers are not looked at");
        assert!(!check(&[&record(1 << 40, 0, None, Some(b"value"), 0)[..], &after].concat()), "nor long numbers");
        assert!(!check(&record(0, 0, None, Some(b"value"), 0)), "nor the last bytes of a batch");
    }

    proptest! {
        #[test]
        fn a_glance_never_says_more_than_the_whole_reading(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
            small in any::<bool>(),
        ) {
            if small {
                for byte in &mut bytes {
                    *byte &= 0x3f;
                }
            }
            check(&bytes);
        }

        #[test]
        fn nor_of_a_record_that_was_tampered_with(
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..70)),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            place in 0..400_usize,
            with in any::<u8>(),
        ) {
            let mut bytes = record(5, 6, key.as_deref(), value.as_deref(), 0);
            bytes.extend_from_slice(&[3; 40]);
            let length = bytes.len();
            bytes[place % length] = with;
            check(&bytes);
        }
    }
}
