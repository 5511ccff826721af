//! `<base>.headersum`: a checksum of the bytes before each batch's CRC, for segments the cleaner wrote.
//!
//! A batch's own CRC does not cover its base offset, length, leader epoch and magic. In a log as it was appended these are
//! checked by continuity: each batch begins where the one before ended. The cleaner leaves holes, so a damaged offset
//! would pass; this sum takes the place of continuity. That the file is there says, too, that holes in its segment are
//! the cleaner's work. Kafka does not know the file and passes it over; a segment that has another size than the file
//! says was written anew by somebody else, and is not compared.
//!
//! Version (2 bytes), CRC32C (4) of everything after it, size of the log in bytes (8), batches (4), the sum (4): a CRC32C
//! over the first 17 bytes of every batch.

use bytes::{Buf, BufMut};
use crc_fast::{CrcAlgorithm, Digest};

const VERSION: u16 = 1;
const SIZE: usize = 22;
const COVERED_FROM: usize = 6;
/// Base offset, length, leader epoch, magic.
const PREFIX_BYTES: usize = 17;

/// Why a file is not a header sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MalformedHeaderSum {
    #[error("it has {0} bytes instead of 22")]
    Length(usize),
    #[error("it has version {0}, only version 1 is known")]
    UnknownVersion(u16),
    #[error("its CRC is {stored:#010x}, its bytes give {computed:#010x}")]
    CrcMismatch { stored: u32, computed: u32 },
}

/// What a segment's headers sum up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeaderSum {
    pub(crate) log_bytes: u64,
    pub(crate) batches: u32,
    pub(crate) sum: u32,
}

/// Takes the headers of a segment, batch by batch.
pub(crate) struct HeaderSummer {
    digest: Digest,
    log_bytes: u64,
    batches: u32,
}

impl HeaderSummer {
    pub(crate) fn new() -> HeaderSummer {
        HeaderSummer { digest: Digest::new(CrcAlgorithm::Crc32Iscsi), log_bytes: 0, batches: 0 }
    }

    /// The next batch begins with these bytes and has this size.
    pub(crate) fn add(&mut self, header: &[u8], batch_bytes: usize) {
        self.digest.update(&header[..PREFIX_BYTES]);
        self.log_bytes += batch_bytes as u64;
        self.batches += 1;
    }

    pub(crate) fn finish(&self) -> HeaderSum {
        HeaderSum { log_bytes: self.log_bytes, batches: self.batches, sum: self.digest.finalize() as u32 }
    }
}

impl HeaderSum {
    pub(crate) fn format(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.put_u16(VERSION);
        bytes.put_u32(0);
        bytes.put_u64(self.log_bytes);
        bytes.put_u32(self.batches);
        bytes.put_u32(self.sum);
        let crc = crc32c(&bytes[COVERED_FROM..]);
        bytes[2..COVERED_FROM].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    pub(crate) fn parse(mut bytes: &[u8]) -> Result<HeaderSum, MalformedHeaderSum> {
        if bytes.len() != SIZE {
            return Err(MalformedHeaderSum::Length(bytes.len()));
        }
        let computed = crc32c(&bytes[COVERED_FROM..]);
        let version = bytes.get_u16();
        if version != VERSION {
            return Err(MalformedHeaderSum::UnknownVersion(version));
        }
        let stored = bytes.get_u32();
        if stored != computed {
            return Err(MalformedHeaderSum::CrcMismatch { stored, computed });
        }
        Ok(HeaderSum { log_bytes: bytes.get_u64(), batches: bytes.get_u32(), sum: bytes.get_u32() })
    }

    /// Whether a segment that sums up to `found` is not what was written. One of another size was written anew since, and
    /// nothing is known of it.
    pub(crate) fn contradicts(&self, found: &HeaderSum) -> bool {
        self.log_bytes == found.log_bytes && self != found
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use ottla_record::{BatchBuilder, Compression};

    use super::*;

    fn two_batches() -> Vec<u8> {
        let mut log = Vec::new();
        for base_offset in [7, 90] {
            let mut builder = BatchBuilder::new(Compression::NONE);
            builder.set_position(base_offset, 3);
            builder.append(1, Some(b"key"), Some(b"value"), &[]).unwrap();
            log.extend_from_slice(&builder.finish().unwrap());
        }
        log
    }

    /// As a reader sums them up; `None` where it finds no batches.
    fn sum_of(log: &[u8]) -> Option<HeaderSum> {
        let mut summer = HeaderSummer::new();
        for batch in ottla_record::batches(log) {
            let (_, bytes) = batch.ok()?;
            summer.add(bytes, bytes.len());
        }
        Some(summer.finish())
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
                    found.is_none_or(|found| sum.contradicts(&found)),
                    "bit {bit} of the batch at {batch_start}: {found:?}"
                );
            }
        }
        assert!(!sum.contradicts(&sum_of(&log[..log.len() / 2]).unwrap()), "another size says nothing");
    }

    #[test]
    fn the_file_vouches_for_itself() {
        let sum = HeaderSum { log_bytes: 1 << 33, batches: 5, sum: 0xdead_beef };
        let bytes = sum.format();
        assert_eq!(HeaderSum::parse(&bytes), Ok(sum));
        for len in (0..SIZE).chain([SIZE + 1]) {
            let mut cut = bytes.clone();
            cut.resize(len, 0);
            assert!(HeaderSum::parse(&cut).is_err(), "{len} bytes");
        }
        for bit in 0..SIZE * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(HeaderSum::parse(&flipped).is_err(), "bit {bit}");
        }
    }
}
