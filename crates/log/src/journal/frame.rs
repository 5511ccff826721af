//! Frames: what was written into a journal file by one write, in whole blocks.
//!
//! A block has its own checksum and says of which frame it is and which of its blocks; the last block of a frame is the
//! parity of the others. So damage to any one block is made good, the last frame's too, of which nothing behind it would
//! tell that it was whole once. Frames begin and end with blocks: no write touches a block that was durable before.

use std::io;
use std::ops::Range;

use ottla_rt::DiskFile;

use super::format::crc32c;

/// A page, and no smaller than a disk's sector.
pub(super) const BLOCK_BYTES: usize = 4096;
const MAGIC: [u8; 4] = [0xf1, b'j', b'r', b'b'];
/// Magic, CRC of what follows, the frame's number, its payload's length and CRC, which of its blocks this is.
const BLOCK_HEADER_BYTES: usize = 4 + 4 + 8 + 4 + 4 + 4;
/// What a block has of the payload.
const CHUNK_BYTES: usize = BLOCK_BYTES - BLOCK_HEADER_BYTES;
/// No frame has more, parity included.
const MOST_BLOCKS: usize = 2048;
pub(super) const MOST_PAYLOAD_BYTES: usize = (MOST_BLOCKS - 1) * CHUNK_BYTES;

/// How many bytes of a file a frame with this payload takes.
pub(super) fn frame_bytes(payload_len: usize) -> usize {
    (payload_len.div_ceil(CHUNK_BYTES) + 1) * BLOCK_BYTES
}

/// Puts the blocks of a frame together.
pub(super) struct FrameWriter {
    bytes: Vec<u8>,
    payload_len: usize,
}

impl FrameWriter {
    pub(super) fn with_capacity(payload_len: usize) -> FrameWriter {
        FrameWriter { bytes: Vec::with_capacity(frame_bytes(payload_len)), payload_len: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.payload_len == 0
    }

    pub(super) fn put(&mut self, mut part: &[u8]) {
        self.payload_len += part.len();
        while !part.is_empty() {
            if self.bytes.len().is_multiple_of(BLOCK_BYTES) {
                self.bytes.extend_from_slice(&[0; BLOCK_HEADER_BYTES]);
            }
            let room = BLOCK_BYTES - self.bytes.len() % BLOCK_BYTES;
            let (now, later) = part.split_at(room.min(part.len()));
            self.bytes.extend_from_slice(now);
            part = later;
        }
    }

    /// The blocks, to be written where a block begins.
    pub(super) fn finish(mut self, number: u64, salt: u64) -> Vec<u8> {
        assert!(self.payload_len > 0 && self.payload_len <= MOST_PAYLOAD_BYTES, "invariant: a frame is bounded");
        let parity_at = frame_bytes(self.payload_len) - BLOCK_BYTES;
        self.bytes.resize(parity_at, 0);
        let mut parity = [0; CHUNK_BYTES];
        let mut crc = Checksum::new(salt);
        for (index, block) in self.bytes.chunks_exact(BLOCK_BYTES).enumerate() {
            let chunk = &block[BLOCK_HEADER_BYTES..];
            xor(&mut parity, chunk);
            crc.add(&chunk[..CHUNK_BYTES.min(self.payload_len - index * CHUNK_BYTES)]);
        }
        self.bytes.extend_from_slice(&[0; BLOCK_HEADER_BYTES]);
        self.bytes.extend_from_slice(&parity);

        let frame = Frame { number, payload_len: self.payload_len, payload_crc: crc.finish(), start: 0 };
        for (index, block) in self.bytes.chunks_exact_mut(BLOCK_BYTES).enumerate() {
            block[..4].copy_from_slice(&MAGIC);
            block[8..BLOCK_HEADER_BYTES].copy_from_slice(&frame.block_header(index));
            let crc = crc32c(salt, &[&block[8..]]);
            block[4..8].copy_from_slice(&crc.to_be_bytes());
        }
        self.bytes
    }
}

/// A whole frame, found in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) number: u64,
    payload_len: usize,
    payload_crc: u32,
    start: u64,
}

impl Frame {
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    fn chunks(&self) -> usize {
        self.payload_len.div_ceil(CHUNK_BYTES)
    }

    /// Where the next one begins.
    pub(super) fn end(&self) -> u64 {
        self.start + frame_bytes(self.payload_len) as u64
    }

    fn block_at(&self, index: usize) -> u64 {
        self.start + (index * BLOCK_BYTES) as u64
    }

    /// What a block says behind its CRC and before the payload.
    fn block_header(&self, index: usize) -> [u8; BLOCK_HEADER_BYTES - 8] {
        let mut header = [0; BLOCK_HEADER_BYTES - 8];
        header[..8].copy_from_slice(&self.number.to_be_bytes());
        header[8..12].copy_from_slice(&(self.payload_len as u32).to_be_bytes());
        header[12..16].copy_from_slice(&self.payload_crc.to_be_bytes());
        header[16..].copy_from_slice(&(index as u32).to_be_bytes());
        header
    }
}

struct Block {
    bytes: [u8; BLOCK_BYTES],
}

impl Block {
    fn is_valid(&self, salt: u64) -> bool {
        let (head, content) = self.bytes.split_at(8);
        head[..4] == MAGIC && head[4..] == crc32c(salt, &[content]).to_be_bytes()
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }

    fn number(&self) -> u64 {
        u64::from(self.u32_at(8)) << 32 | u64::from(self.u32_at(12))
    }

    /// The frame of which this is block `index` at `position`.
    fn frame(&self, index: usize, position: u64) -> Option<Frame> {
        let payload_len = self.u32_at(16) as usize;
        let start = position.checked_sub((index * BLOCK_BYTES) as u64)?;
        let frame = Frame { number: self.number(), payload_len, payload_crc: self.u32_at(20), start };
        ((1..=MOST_PAYLOAD_BYTES).contains(&payload_len) && self.is(&frame, index)).then_some(frame)
    }

    fn is(&self, frame: &Frame, index: usize) -> bool {
        self.bytes[8..BLOCK_HEADER_BYTES] == frame.block_header(index)
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes[BLOCK_HEADER_BYTES..]
    }
}

/// A frame with what it says.
pub(super) struct Whole {
    pub(super) frame: Frame,
    pub(super) payload: Vec<u8>,
    /// Where a block was missing.
    pub(super) made_good: Option<u64>,
}

/// Reads the frames of a file that were written with this salt.
pub(super) struct FrameReader<'a> {
    pub(super) file: &'a dyn DiskFile,
    pub(super) len: u64,
    pub(super) salt: u64,
}

impl FrameReader<'_> {
    /// The frame of this number at `start`; `None` when it is not whole.
    pub(super) fn read(&self, number: u64, start: u64) -> io::Result<Option<Whole>> {
        // A frame has two blocks at least: with either of them there it is known how many.
        let mut found = None;
        for index in 0..2 {
            let position = start + (index * BLOCK_BYTES) as u64;
            found = self.block(position)?.and_then(|block| block.frame(index, position));
            if found.is_some() {
                break;
            }
        }
        match found {
            Some(frame) if frame.number == number => self.whole(frame),
            _ => Ok(None),
        }
    }

    /// Part of a whole frame's payload.
    pub(super) fn read_range(&self, frame: &Frame, range: Range<usize>) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::with_capacity(range.len());
        for index in range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES) {
            match self.block(frame.block_at(index))? {
                Some(block) if block.is(frame, index) => bytes.extend_from_slice(block.chunk()),
                // This one was made good.
                _ => return Ok(self.whole(*frame)?.map(|whole| whole.payload[range].to_vec())),
            }
        }
        let skipped = range.start % CHUNK_BYTES;
        bytes.drain(..skipped);
        bytes.truncate(range.len());
        Ok(Some(bytes))
    }

    /// Whether anything was written behind `position` after the frame of this number, which was durable by then.
    pub(super) fn has_later_block(&self, number: u64, position: u64) -> io::Result<bool> {
        for position in (position..self.len).step_by(BLOCK_BYTES) {
            if self.block(position)?.is_some_and(|block| block.number() > number) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A block that is missing is made from the others.
    fn whole(&self, frame: Frame) -> io::Result<Option<Whole>> {
        let chunks = frame.chunks();
        // Not by the declared length: a block is there before there is memory for it.
        let mut payload = Vec::new();
        let mut parity = [0; CHUNK_BYTES];
        let mut missing = None;
        for index in 0..=chunks {
            match self.block(frame.block_at(index))? {
                Some(block) if block.is(&frame, index) => {
                    xor(&mut parity, block.chunk());
                    payload.extend_from_slice(block.chunk());
                }
                _ if missing.is_some() => return Ok(None),
                _ => {
                    missing = Some(index);
                    payload.extend_from_slice(&[0; CHUNK_BYTES]);
                }
            }
        }
        if let Some(index) = missing {
            payload[index * CHUNK_BYTES..][..CHUNK_BYTES].copy_from_slice(&parity);
        }
        payload.truncate(frame.payload_len);
        let made_good = missing.map(|index| frame.block_at(index));
        let is_whole = crc32c(self.salt, &[&payload]) == frame.payload_crc;
        Ok(is_whole.then_some(Whole { frame, payload, made_good }))
    }

    fn block(&self, position: u64) -> io::Result<Option<Block>> {
        let mut block = Block { bytes: [0; BLOCK_BYTES] };
        if self.len.saturating_sub(position) < BLOCK_BYTES as u64 {
            return Ok(None);
        }
        self.file.read_exact_at(&mut block.bytes, position)?;
        Ok(block.is_valid(self.salt).then_some(block))
    }
}

/// How many frames have blocks in these bytes, as far as one can tell without the salt; more than one is told as two.
pub(super) fn count_frames(file: &dyn DiskFile, start: u64, len: u64) -> io::Result<usize> {
    let mut first = None;
    for position in (start..len.saturating_sub(BLOCK_HEADER_BYTES as u64)).step_by(BLOCK_BYTES) {
        let mut header = [0; 16];
        file.read_exact_at(&mut header, position)?;
        if header[..4] != MAGIC {
            continue;
        }
        let number = &header[8..16];
        match first {
            None => first = Some(<[u8; 8]>::try_from(number).expect("invariant: eight bytes")),
            Some(first) if first != number => return Ok(2),
            Some(_) => {}
        }
    }
    Ok(usize::from(first.is_some()))
}

fn xor(parity: &mut [u8; CHUNK_BYTES], chunk: &[u8]) {
    for (sum, byte) in parity.iter_mut().zip(chunk) {
        *sum ^= byte;
    }
}

/// A CRC of bytes that do not stand together.
struct Checksum(crc_fast::Digest);

impl Checksum {
    fn new(salt: u64) -> Checksum {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(&salt.to_be_bytes());
        Checksum(digest)
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> u32 {
        self.0.finalize() as u32
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use ottla_rt::OpenMode;
    use ottla_rt::memory::MemoryWorld;

    use super::*;

    const SALT: u64 = 0x0102_0304_0506_0708;
    const START: u64 = 2 * BLOCK_BYTES as u64;

    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|index| (index * 7 + index / 251) as u8).collect()
    }

    fn frame(number: u64, payload: &[u8]) -> Vec<u8> {
        let mut writer = FrameWriter::with_capacity(0);
        // In parts of every length, as entries come.
        let mut rest = payload;
        for len in (1..).step_by(13) {
            let (part, after) = rest.split_at(rest.len().min(len));
            writer.put(part);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let bytes = writer.finish(number, SALT);
        assert_eq!(bytes.len(), frame_bytes(payload.len()));
        bytes
    }

    fn file(bytes: &[u8]) -> Arc<dyn DiskFile> {
        let disk = MemoryWorld::new(1).disk.mount();
        let file = disk.open(Path::new("/frames"), OpenMode::CreateOrOpen).unwrap();
        file.write_all_at(&[io::IoSlice::new(bytes)], START).unwrap();
        file
    }

    fn read(file: &dyn DiskFile, number: u64) -> Option<Vec<u8>> {
        let reader = FrameReader { file, len: file.len().unwrap(), salt: SALT };
        let Whole { frame, payload, .. } = reader.read(number, START).unwrap()?;
        assert_eq!((frame.number, frame.end()), (number, START + frame_bytes(payload.len()) as u64));
        for range in [0..1, 0..payload.len(), payload.len() / 3..payload.len() / 2, payload.len() - 1..payload.len()] {
            assert_eq!(reader.read_range(&frame, range.clone()).unwrap().unwrap(), payload[range]);
        }
        Some(payload)
    }

    #[test]
    fn what_was_put_in_comes_out_whichever_block_is_missing() {
        for len in [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES + 100] {
            let expected = payload(len);
            let bytes = frame(9, &expected);
            let found = file(&bytes);
            assert_eq!(read(&*found, 9), Some(expected.clone()));
            assert_eq!(read(&*found, 8), None, "another frame");
            for lost in 0..bytes.len() / BLOCK_BYTES {
                let mut damaged = bytes.clone();
                damaged[lost * BLOCK_BYTES..][..BLOCK_BYTES].fill(0);
                assert_eq!(read(&*file(&damaged), 9), Some(expected.clone()), "{len} bytes without block {lost}");
                for other in 0..lost {
                    let mut damaged = damaged.clone();
                    damaged[other * BLOCK_BYTES + 17] ^= 4;
                    assert_eq!(read(&*file(&damaged), 9), None, "{len} bytes without blocks {other} and {lost}");
                }
            }
            // Without its end the parity is what is missing; without more than that, too much.
            assert_eq!(read(&*file(&bytes[..bytes.len() - 1]), 9), Some(expected.clone()));
            assert_eq!(read(&*file(&bytes[..bytes.len() - BLOCK_BYTES - 1]), 9), None);
        }
    }

    #[test]
    fn every_flipped_bit_is_made_good() {
        let expected = payload(CHUNK_BYTES + 50);
        let bytes = frame(9, &expected);
        let found = file(&bytes);
        let reader = FrameReader { file: &*found, len: found.len().unwrap(), salt: SALT };
        for bit in 0..bytes.len() * 8 {
            let at = START + (bit / 8) as u64;
            let write = |byte: u8| found.write_all_at(&[io::IoSlice::new(&[byte])], at).unwrap();
            write(bytes[bit / 8] ^ 1 << (bit % 8));
            let whole = reader.read(9, START).unwrap().unwrap_or_else(|| panic!("bit {bit}"));
            let damaged = START + (bit / 8 / BLOCK_BYTES * BLOCK_BYTES) as u64;
            assert_eq!((whole.payload, whole.made_good), (expected.clone(), Some(damaged)), "bit {bit}");
            write(bytes[bit / 8]);
        }
    }

    #[test]
    fn blocks_of_two_attempts_at_a_frame_are_no_frame() {
        let one = frame(9, &payload(3 * CHUNK_BYTES));
        let mut other = payload(3 * CHUNK_BYTES);
        other.reverse();
        let other = frame(9, &other);
        for mixed in 1..4 {
            let (head, tail) = (&one[..mixed * BLOCK_BYTES], &other[mixed * BLOCK_BYTES..]);
            let found = read(&*file(&[head, tail].concat()), 9);
            // A parity of another attempt is one that is missing.
            assert_eq!(found.is_some(), mixed == 3, "{mixed}");
        }
    }

    #[test]
    fn a_later_block_is_seen_wherever_it_is_and_an_older_use_of_the_file_is_not() {
        let frames = [frame(9, &payload(10)), frame(10, &payload(9_000))].concat();
        let found = file(&frames);
        let reader = |salt| FrameReader { file: &*found, len: found.len().unwrap(), salt };
        assert!(reader(SALT).has_later_block(9, START).unwrap());
        assert!(reader(SALT).has_later_block(9, found.len().unwrap() - BLOCK_BYTES as u64).unwrap());
        assert!(!reader(SALT).has_later_block(10, START).unwrap());
        assert!(!reader(SALT + 1).has_later_block(9, START).unwrap());
        assert!(reader(SALT + 1).read(9, START).unwrap().is_none());
        assert_eq!(count_frames(&*found, START, found.len().unwrap()).unwrap(), 2);
        let one = file(&frame(9, &payload(9_000)));
        assert_eq!(count_frames(&*one, START, one.len().unwrap()).unwrap(), 1);
        assert_eq!(count_frames(&*one, 0, START).unwrap(), 0);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_none(bytes in proptest::collection::vec(0_u8.., 0..3 * BLOCK_BYTES)) {
            let found = file(&bytes);
            let reader = FrameReader { file: &*found, len: found.len().unwrap(), salt: SALT };
            assert!(reader.read(1, START).unwrap().is_none());
        }
    }
}
