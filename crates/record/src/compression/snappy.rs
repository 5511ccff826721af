//! snappy in the framing of Java's snappy library ("xerial"), which Kafka took over; bare snappy is read too.

use super::{Failure, take};

/// Opens a framed stream, and any stream appended to it.
const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSION: i32 = 1;
/// The first four bytes of the magic, where a chunk's length would stand.
const MAGIC_HEAD: [u8; 4] = [0x82, b'S', b'N', b'A'];
/// What one chunk holds, as Java writes it.
const CHUNK_BYTES: usize = 32 << 10;
/// A three-byte copy yields at most 64 bytes: a greater promise is a lie.
const MAX_RATIO: usize = 22;

pub(super) struct Decoder<'a> {
    rest: &'a [u8],
    raw: &'a mut snap::raw::Decoder,
    started: bool,
    framed: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(rest: &'a [u8], raw: &'a mut snap::raw::Decoder) -> Decoder<'a> {
        Decoder { rest, raw, started: false, framed: false }
    }

    pub(super) fn append_next(&mut self, output: &mut Vec<u8>, left: usize) -> Result<bool, Failure> {
        if !self.started {
            self.started = true;
            self.framed = self.rest.len() >= MAGIC.len() + 8 && self.rest.starts_with(&MAGIC);
            if self.framed {
                // Java checks the versions of appended streams only.
                self.rest = self.rest.get(MAGIC.len() + 8..).unwrap_or_default();
            }
        }
        let block = if self.framed {
            // Less than a chunk's length at the end is ignored, as Java ignores it.
            let Some(mut length) = take::<4>(&mut self.rest) else { return Ok(false) };
            while length == MAGIC_HEAD {
                self.take_appended_header()?;
                match take(&mut self.rest) {
                    Some(next) => length = next,
                    None => return Ok(false),
                }
            }
            let length = usize::try_from(i32::from_be_bytes(length)).map_err(|_| Failure::Malformed)?;
            let (block, rest) = self.rest.split_at_checked(length).ok_or(Failure::Truncated)?;
            self.rest = rest;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        if block.is_empty() {
            return if self.framed { Err(Failure::Malformed) } else { Ok(false) };
        }
        let declared = snap::raw::decompress_len(block).map_err(|_| Failure::Malformed)?;
        if declared > block.len().saturating_mul(MAX_RATIO) {
            return Err(Failure::Malformed);
        }
        if declared > left {
            return Err(Failure::TooLarge);
        }
        let before = output.len();
        output.resize(before + declared, 0);
        let target = output.get_mut(before..).unwrap_or_default();
        if self.raw.decompress(block, target).is_ok_and(|written| written == declared) {
            Ok(true)
        } else {
            output.truncate(before);
            Err(Failure::Malformed)
        }
    }

    /// Reads the rest of the header of an appended stream.
    fn take_appended_header(&mut self) -> Result<(), Failure> {
        let magic_tail: [u8; 4] = take(&mut self.rest).ok_or(Failure::Truncated)?;
        let version = i32::from_be_bytes(take(&mut self.rest).ok_or(Failure::Truncated)?);
        take::<4>(&mut self.rest).ok_or(Failure::Truncated)?;
        if !MAGIC.ends_with(&magic_tail) {
            Err(Failure::Malformed)
        } else if version < VERSION {
            Err(Failure::Unsupported)
        } else {
            Ok(())
        }
    }
}

#[derive(Default)]
pub(super) struct Encoder(Option<snap::raw::Encoder>);

impl Encoder {
    pub(super) fn compress(&mut self, body: &[u8], output: &mut Vec<u8>) -> Option<()> {
        let raw = self.0.get_or_insert_with(snap::raw::Encoder::new);
        output.extend_from_slice(&MAGIC);
        output.extend_from_slice(&VERSION.to_be_bytes());
        output.extend_from_slice(&VERSION.to_be_bytes());
        for chunk in body.chunks(CHUNK_BYTES) {
            let start = output.len();
            output.resize(start + 4 + snap::raw::max_compress_len(chunk.len()), 0);
            let length = raw.compress(chunk, output.get_mut(start + 4..)?).ok()?;
            output.get_mut(start..start + 4)?.copy_from_slice(&u32::try_from(length).ok()?.to_be_bytes());
            output.truncate(start + 4 + length);
        }
        Some(())
    }
}
