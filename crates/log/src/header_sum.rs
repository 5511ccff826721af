//! `<base>.headersum`: checksums of the bytes before each batch's CRC, for segments the cleaner wrote.
//!
//! A batch's own CRC does not cover its base offset, length, leader epoch and magic. In a log as it was appended these are
//! checked by continuity: each batch begins where the one before ended. The cleaner leaves holes, so a damaged offset
//! would pass; these sums take the place of continuity. There is one for each block of batches, so that a reader needs the
//! headers around what it reads, and not those of the whole segment. That the file is there says, too, that holes in its
//! segment are the cleaner's work. Kafka does not know the file and passes it over; a segment that has another size than
//! the file says was written anew by somebody else, and is not compared.
//!
//! Version (2 bytes), CRC32C (4) of everything after it, size of the log in bytes (8); then for each block where it ends
//! in the log (4), and a CRC32C (4) over the first 17 bytes of each of its batches.

use bytes::{Buf, BufMut};
use crc_fast::{CrcAlgorithm, Digest};
use ottla_record::BatchHeader;

use crate::sum_file::{self, MalformedSum};

const VERSION: u16 = 2;
/// Base offset, length, leader epoch, magic.
const PREFIX_BYTES: usize = 17;
/// A block ends with the batch that reaches this size.
const BLOCK_BYTES: u64 = 256 * 1024;
const BLOCK_ENTRY_BYTES: usize = 8;
/// What is longer is no sum of headers: a segment is shorter than 2 GiB.
pub(crate) const MAX_FILE_BYTES: u64 = 128 * 1024;

/// What a segment's headers sum up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderSum {
    log_bytes: u64,
    blocks: Vec<Block>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    end: u32,
    sum: u32,
}

/// A stretch of batches, and what their headers sum up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderBlock {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) sum: u32,
}

/// Takes the headers of a segment, batch by batch.
pub(crate) struct HeaderSummer {
    digest: Digest,
    position: u64,
    block_start: u64,
    blocks: Vec<Block>,
}

impl Default for HeaderSummer {
    fn default() -> HeaderSummer {
        HeaderSummer::new()
    }
}

impl HeaderSummer {
    pub(crate) fn new() -> HeaderSummer {
        HeaderSummer { digest: new_digest(), position: 0, block_start: 0, blocks: Vec::new() }
    }

    /// The next batch has this header.
    pub(crate) fn add(&mut self, header: &BatchHeader) {
        self.digest.update(&prefix_of(header));
        self.position += header.size_in_bytes() as u64;
        if self.position - self.block_start >= BLOCK_BYTES {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        // What does not fit is no segment, and is compared with none.
        let end = u32::try_from(self.position).unwrap_or(u32::MAX);
        let digest = std::mem::replace(&mut self.digest, new_digest());
        self.blocks.push(Block { end, sum: digest.finalize() as u32 });
        self.block_start = self.position;
    }

    pub(crate) fn finish(mut self) -> HeaderSum {
        if self.position > self.block_start {
            self.end_block();
        }
        HeaderSum { log_bytes: self.position, blocks: self.blocks }
    }
}

/// The sum of the headers of one block.
pub(crate) struct BlockSummer(Digest);

impl BlockSummer {
    pub(crate) fn new() -> BlockSummer {
        BlockSummer(new_digest())
    }

    pub(crate) fn add(&mut self, header: &BatchHeader) {
        self.0.update(&prefix_of(header));
    }

    pub(crate) fn finish(self) -> u32 {
        self.0.finalize() as u32
    }
}

impl HeaderSum {
    pub(crate) fn format(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(8 + self.blocks.len() * BLOCK_ENTRY_BYTES);
        content.put_u64(self.log_bytes);
        for block in &self.blocks {
            content.put_u32(block.end);
            content.put_u32(block.sum);
        }
        sum_file::seal(VERSION, &content)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<HeaderSum, MalformedSum> {
        let mut content = sum_file::unseal(VERSION, bytes)?;
        if content.len() < 8 || !(content.len() - 8).is_multiple_of(BLOCK_ENTRY_BYTES) {
            return Err(MalformedSum::Length(bytes.len()));
        }
        let log_bytes = content.get_u64();
        let mut blocks = Vec::with_capacity(content.len() / BLOCK_ENTRY_BYTES);
        let mut previous = 0;
        while content.has_remaining() {
            let block = Block { end: content.get_u32(), sum: content.get_u32() };
            if block.end <= previous {
                return Err(MalformedSum::Blocks(blocks.len()));
            }
            previous = block.end;
            blocks.push(block);
        }
        if u64::from(previous) != log_bytes {
            return Err(MalformedSum::Blocks(blocks.len()));
        }
        Ok(HeaderSum { log_bytes, blocks })
    }

    /// Of a log of this size. One of another size was written anew since, and nothing is known of it.
    pub(crate) fn is_of(&self, log_bytes: u64) -> bool {
        self.log_bytes == log_bytes
    }

    /// Whether a segment that sums up to `found` is not what was written.
    pub(crate) fn contradicts(&self, found: &HeaderSum) -> bool {
        self.is_of(found.log_bytes) && self != found
    }

    /// The block with the byte at this position.
    pub(crate) fn block_at(&self, position: u64) -> Option<HeaderBlock> {
        let index = self.blocks.partition_point(|block| u64::from(block.end) <= position);
        let block = self.blocks.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| u64::from(self.blocks[before].end));
        Some(HeaderBlock { start, end: u64::from(block.end), sum: block.sum })
    }

    /// Where the first block begins in which `found` is different.
    pub(crate) fn first_difference(&self, found: &HeaderSum) -> u64 {
        let same = self.blocks.iter().zip(&found.blocks).take_while(|(written, found)| written == found).count();
        same.checked_sub(1).map_or(0, |before| u64::from(self.blocks[before].end))
    }
}

fn new_digest() -> Digest {
    Digest::new(CrcAlgorithm::Crc32Iscsi)
}

/// The bytes before a batch's CRC, as they stand in the log.
fn prefix_of(header: &BatchHeader) -> [u8; PREFIX_BYTES] {
    let mut bytes = [0; PREFIX_BYTES];
    let mut output = &mut bytes[..];
    output.put_i64(header.base_offset);
    output.put_i32(header.batch_length);
    output.put_i32(header.partition_leader_epoch);
    output.put_i8(header.magic);
    bytes
}

#[cfg(test)]
mod tests {
    use ottla_record::{BatchBuilder, Compression};

    use super::*;

    fn batch(base_offset: i64, value: &[u8]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::NONE);
        builder.set_position(base_offset, 3);
        builder.append(1, Some(b"key"), Some(value), &[]).unwrap();
        builder.finish().unwrap().to_vec()
    }

    fn two_batches() -> Vec<u8> {
        [batch(7, b"value"), batch(90, b"value")].concat()
    }

    /// As a reader sums them up; `None` where it finds no batches.
    fn sum_of(log: &[u8]) -> Option<HeaderSum> {
        let mut summer = HeaderSummer::new();
        for batch in ottla_record::batches(log) {
            summer.add(&batch.ok()?.0);
        }
        Some(summer.finish())
    }

    #[test]
    fn the_prefix_is_what_stands_in_the_log() {
        let log = two_batches();
        let header = BatchHeader::parse(&log).unwrap();
        assert_eq!(prefix_of(&header), log[..PREFIX_BYTES]);
    }

    #[test]
    fn every_flipped_bit_before_a_crc_is_found() {
        let log = two_batches();
        let sum = sum_of(&log).unwrap();
        assert!(!sum.contradicts(&sum));
        for batch_start in [0, log.len() / 2] {
            for bit in 0..PREFIX_BYTES * 8 {
                let mut flipped = log.clone();
                flipped[batch_start + bit / 8] ^= 1 << (bit % 8);
                let found = sum_of(&flipped);
                assert!(
                    found.as_ref().is_none_or(|found| sum.contradicts(found)),
                    "bit {bit} of the batch at {batch_start}: {found:?}"
                );
            }
        }
        assert!(!sum.contradicts(&sum_of(&log[..log.len() / 2]).unwrap()), "another size says nothing");
    }

    #[test]
    fn blocks_are_of_whole_batches() {
        let large = vec![b'x'; 100 * 1024];
        let batches: Vec<Vec<u8>> = (0..10).map(|number| batch(number * 5, &large)).collect();
        let size = batches[0].len() as u64;
        let sum = sum_of(&batches.concat()).unwrap();
        let ends: Vec<u64> = sum.blocks.iter().map(|block| u64::from(block.end)).collect();
        assert_eq!(ends, [3 * size, 6 * size, 9 * size, 10 * size]);
        let block = sum.block_at(3 * size).unwrap();
        assert_eq!((block.start, block.end), (3 * size, 6 * size));
        assert_eq!(sum.block_at(3 * size - 1).unwrap().start, 0);
        assert_eq!(sum.block_at(10 * size), None);
        let mut summer = BlockSummer::new();
        batches[3..6].iter().for_each(|batch| summer.add(&BatchHeader::parse(batch).unwrap()));
        assert_eq!(summer.finish(), block.sum);

        let mut other = batches.clone();
        other[7][3] ^= 1;
        assert_eq!(sum.first_difference(&sum_of(&other.concat()).unwrap()), 6 * size);
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let sum = sum_of(&two_batches()).unwrap();
        let bytes = sum.format();
        assert_eq!(HeaderSum::parse(&bytes), Ok(sum));
        let empty = HeaderSummer::new().finish();
        assert_eq!(HeaderSum::parse(&empty.format()), Ok(empty));
        assert!(MAX_FILE_BYTES > (i32::MAX as u64).div_ceil(BLOCK_BYTES) * BLOCK_ENTRY_BYTES as u64 + 14);
        for blocks in [vec![(5, 1), (5, 2)], vec![(5, 1)], vec![(5, 1), (200, 1)], vec![]] {
            let blocks: Vec<Block> = blocks.into_iter().map(|(end, sum)| Block { end, sum }).collect();
            let wrong = HeaderSum { log_bytes: 90, blocks };
            assert!(matches!(HeaderSum::parse(&wrong.format()), Err(MalformedSum::Blocks(_))), "{wrong:?}");
        }
        assert_eq!(HeaderSum::parse(&sum_file::seal(VERSION, &[0; 7])), Err(MalformedSum::Length(13)));
    }
}
