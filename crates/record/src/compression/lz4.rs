//! The lz4 frame, as far as Kafka supports it: one frame of independent blocks. Written with blocks of 64 KiB and
//! without checksums of its own, as Kafka writes it.

use lz4_flex::block::{
    CompressTable, DecompressError, compress_into_with_table, decompress_into, get_maximum_output_size,
};
use twox_hash::XxHash32;

use super::{Failure, take};

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const VERSION_MASK: u8 = 0xc0;
const VERSION_1: u8 = 0x40;
const INDEPENDENT_BLOCKS: u8 = 0x20;
const BLOCK_CHECKSUMS: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
const RESERVED_FLAGS: u8 = 0x03;
/// The code of 64 KiB in the block descriptor.
const BLOCK_64_KIB: u8 = 4;
const BLOCK_BYTES: usize = 64 << 10;
const STORED: u32 = 1 << 31;
/// A length byte adds at most 255 bytes to a match.
const MAX_RATIO: usize = 255;

pub(super) struct Decoder<'a> {
    rest: &'a [u8],
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Header,
    Blocks { max_block: usize, flags: u8 },
    End,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Decoder<'a> {
        Decoder { rest, state: State::Header }
    }

    pub(super) fn append_next(&mut self, output: &mut Vec<u8>, left: usize) -> Result<bool, Failure> {
        let (max_block, flags) = match self.state {
            State::Header => {
                let (max_block, flags) = self.take_header()?;
                self.state = State::Blocks { max_block, flags };
                (max_block, flags)
            }
            State::Blocks { max_block, flags } => (max_block, flags),
            State::End => return Ok(false),
        };
        let length = u32::from_le_bytes(take(&mut self.rest).ok_or(Failure::Truncated)?);
        let stored = length & STORED != 0;
        let length = usize::try_from(length & !STORED).map_err(|_| Failure::Malformed)?;
        if length == 0 {
            if flags & CONTENT_CHECKSUM != 0 {
                // Kafka does not check it either: the batch has a CRC, and this one would cost a pass.
                take::<4>(&mut self.rest).ok_or(Failure::Truncated)?;
            }
            self.state = State::End;
            return Ok(false);
        }
        if length > max_block {
            return Err(Failure::Malformed);
        }
        let (block, rest) = self.rest.split_at_checked(length).ok_or(Failure::Truncated)?;
        self.rest = rest;
        if flags & BLOCK_CHECKSUMS != 0 {
            let checksum = u32::from_le_bytes(take(&mut self.rest).ok_or(Failure::Truncated)?);
            if XxHash32::oneshot(0, block) != checksum {
                return Err(Failure::ChecksumMismatch);
            }
        }
        if stored {
            if length > left {
                return Err(Failure::TooLarge);
            }
            output.extend_from_slice(block);
        } else {
            append_block(block, max_block, output, left)?;
        }
        Ok(true)
    }

    /// Reads the frame descriptor: the greatest block there may be, and the flags.
    fn take_header(&mut self) -> Result<(usize, u8), Failure> {
        if take::<4>(&mut self.rest).ok_or(Failure::Truncated)? != MAGIC {
            return Err(Failure::Malformed);
        }
        let descriptor = self.rest;
        let [flags, block] = take(&mut self.rest).ok_or(Failure::Truncated)?;
        if flags & VERSION_MASK != VERSION_1 || flags & RESERVED_FLAGS != 0 || flags & INDEPENDENT_BLOCKS == 0 {
            return Err(Failure::Unsupported);
        }
        let code = block >> 4;
        if block & 0x8f != 0 || code < BLOCK_64_KIB {
            return Err(Failure::Unsupported);
        }
        if flags & CONTENT_SIZE != 0 {
            // Declared by the sender and of no use: blocks say how far they go.
            take::<8>(&mut self.rest).ok_or(Failure::Truncated)?;
        }
        let descriptor = descriptor.get(..descriptor.len() - self.rest.len()).unwrap_or_default();
        let [checksum] = take(&mut self.rest).ok_or(Failure::Truncated)?;
        if descriptor_checksum(descriptor) != checksum {
            return Err(Failure::ChecksumMismatch);
        }
        Ok((BLOCK_BYTES << (2 * (code - BLOCK_64_KIB)), flags))
    }
}

fn append_block(block: &[u8], max_block: usize, output: &mut Vec<u8>, left: usize) -> Result<(), Failure> {
    let before = output.len();
    let greatest = max_block.min(block.len() * MAX_RATIO);
    output.resize(before + greatest.min(left), 0);
    let written = decompress_into(block, output.get_mut(before..).unwrap_or_default());
    output.truncate(before + *written.as_ref().unwrap_or(&0));
    match written {
        Ok(_) => Ok(()),
        Err(DecompressError::OutputTooSmall { .. }) if greatest > left => Err(Failure::TooLarge),
        Err(_) => Err(Failure::Malformed),
    }
}

fn descriptor_checksum(descriptor: &[u8]) -> u8 {
    XxHash32::oneshot(0, descriptor).to_le_bytes()[1]
}

/// Kafka's default level, which stands for the fast encoder; every other one is the thorough encoder's.
pub(super) const FAST_LEVEL: i32 = 9;

/// Keeps the fast encoder's table of matches; the thorough one keeps its own, 256 KiB for a thread that uses it.
#[derive(Default)]
pub(super) struct Encoder(Option<CompressTable>);

impl Encoder {
    pub(super) fn compress(&mut self, level: Option<i32>, body: &[u8], output: &mut Vec<u8>) -> Option<()> {
        let thorough = level.filter(|level| *level != FAST_LEVEL);
        // A block of 64 KiB is one byte too long for the small table.
        let table = self.0.get_or_insert_with(CompressTable::large);
        let descriptor = [VERSION_1 | INDEPENDENT_BLOCKS, BLOCK_64_KIB << 4];
        output.extend_from_slice(&MAGIC);
        output.extend_from_slice(&descriptor);
        output.push(descriptor_checksum(&descriptor));
        for block in body.chunks(BLOCK_BYTES) {
            let start = output.len();
            output.resize(start + 4 + get_maximum_output_size(block.len()), 0);
            let target = output.get_mut(start + 4..)?;
            let length = match thorough {
                None => compress_into_with_table(block, target, table).ok()?,
                Some(level) => lzzzz::lz4_hc::compress(block, target, level).ok()?,
            };
            let (length, flag) = if length < block.len() {
                (length, 0)
            } else {
                output.get_mut(start + 4..start + 4 + block.len())?.copy_from_slice(block);
                (block.len(), STORED)
            };
            let field = u32::try_from(length).ok()? | flag;
            output.get_mut(start..start + 4)?.copy_from_slice(&field.to_le_bytes());
            output.truncate(start + 4 + length);
        }
        output.extend_from_slice(&[0; 4]);
        Some(())
    }
}
