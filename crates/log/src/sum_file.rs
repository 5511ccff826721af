//! The small files of our own that hold checksums of others: a version, a CRC32C of what follows, and that.

use bytes::{Buf, BufMut};
use crc_fast::CrcAlgorithm;

const PREFIX_BYTES: usize = 6;

/// Why a file does not hold the sums it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedSum {
    #[error("it has {0} bytes, which no such file has")]
    Length(usize),
    #[error("it has version {found}, only version {known} is known")]
    UnknownVersion { found: u16, known: u16 },
    #[error("its CRC is {stored:#010x}, its bytes give {computed:#010x}")]
    CrcMismatch { stored: u32, computed: u32 },
    #[error("its block {0} does not follow the one before it")]
    Blocks(usize),
}

/// The bytes of a file with this content.
pub(crate) fn seal(version: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + content.len());
    bytes.put_u16(version);
    bytes.put_u32(crc32c(content));
    bytes.put_slice(content);
    bytes
}

/// The content of a file of this version.
pub(crate) fn unseal(known: u16, mut bytes: &[u8]) -> Result<&[u8], MalformedSum> {
    if bytes.len() < PREFIX_BYTES {
        return Err(MalformedSum::Length(bytes.len()));
    }
    let found = bytes.get_u16();
    if found != known {
        return Err(MalformedSum::UnknownVersion { found, known });
    }
    let (stored, computed) = (bytes.get_u32(), crc32c(bytes));
    if stored != computed {
        return Err(MalformedSum::CrcMismatch { stored, computed });
    }
    Ok(bytes)
}

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_vouches_for_itself() {
        let bytes = seal(3, b"content");
        assert_eq!(unseal(3, &bytes), Ok(&b"content"[..]));
        assert_eq!(unseal(2, &bytes), Err(MalformedSum::UnknownVersion { found: 3, known: 2 }));
        for len in 0..bytes.len() {
            assert!(unseal(3, &bytes[..len]).is_err(), "{len} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(3, &flipped).is_err(), "bit {bit}");
        }
    }
}
