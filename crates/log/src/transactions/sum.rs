//! `<base>.txnsum`: a checksum of the entries of a segment's transaction index, since Kafka's format has none and a changed
//! entry would have readers of committed records leave out others than were aborted.
//!
//! Version (2 bytes), CRC32C (4) of everything after it, number of entries (8), and their sum (4). It is written when the
//! segment is closed and when the node stops in order, and is a help only: without it, or when it is damaged, an index is
//! believed as far as it can be right. Entries behind those it counts came later. Kafka passes the file over.

use bytes::{Buf, BufMut};

use super::entry::ENTRY_SIZE;
use crate::sum_file::{self, MalformedSum};

const VERSION: u16 = 1;
/// What is longer is no such file.
pub(crate) const MAX_FILE_BYTES: u64 = 64;

/// So many entries, and what they sum up to: each with the sum of those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntriesSum {
    pub(crate) entries: u64,
    pub(crate) sum: u32,
}

impl EntriesSum {
    /// The next entries have these bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for entry in bytes.chunks_exact(ENTRY_SIZE) {
            let mut chained = [0; 4 + ENTRY_SIZE];
            chained[..4].copy_from_slice(&self.sum.to_be_bytes());
            chained[4..].copy_from_slice(entry);
            self.sum = sum_file::crc32c(&chained);
            self.entries += 1;
        }
    }

    pub(crate) fn format(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(12);
        content.put_u64(self.entries);
        content.put_u32(self.sum);
        sum_file::seal(VERSION, &content)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<EntriesSum, MalformedSum> {
        let mut content = sum_file::unseal(VERSION, bytes)?;
        if content.len() != 12 {
            return Err(MalformedSum::Length(bytes.len()));
        }
        Ok(EntriesSum { entries: content.get_u64(), sum: content.get_u32() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_counts_and_so_does_their_order() {
        let bytes: Vec<u8> = (0..3 * ENTRY_SIZE).map(|byte| byte as u8).collect();
        let sum_of = |bytes: &[u8]| {
            let mut sum = EntriesSum::default();
            sum.add(bytes);
            sum
        };
        let whole = sum_of(&bytes);
        assert_eq!(whole.entries, 3);
        let mut in_parts = sum_of(&bytes[..ENTRY_SIZE]);
        in_parts.add(&bytes[ENTRY_SIZE..]);
        assert_eq!(in_parts, whole);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum_of(&flipped).sum, whole.sum, "bit {bit}");
        }
        let (first, rest) = bytes.split_at(ENTRY_SIZE);
        assert_ne!(sum_of(&[rest, first].concat()).sum, whole.sum);
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let sum = EntriesSum { entries: 5, sum: 0xdead_beef };
        assert_eq!(EntriesSum::parse(&sum.format()), Ok(sum));
        assert!(sum.format().len() as u64 <= MAX_FILE_BYTES);
        assert_eq!(EntriesSum::parse(&sum_file::seal(VERSION, &[0; 11])), Err(MalformedSum::Length(17)));
    }
}
