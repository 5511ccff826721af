//! One entry of a `.txnindex`: 34 bytes, in Kafka's version 0.

use bytes::{Buf, BufMut};

pub(crate) const ENTRY_SIZE: usize = 34;
const VERSION: i16 = 0;

/// A transaction that was aborted: its records are in the log, and no reader of committed records may be given them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    /// Of its first record here.
    pub first_offset: i64,
    /// Of its marker.
    pub last_offset: i64,
    /// Every transaction that began below it had ended when the marker was written.
    pub last_stable_offset: i64,
}

/// Why a file is not the transaction index of its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTransactionIndex {
    #[error("its entry {index} has version {version}, only version 0 is known")]
    UnknownVersion { index: u64, version: i16 },
    #[error("its entry {index} ends at offset {last_offset}, which does not follow {previous}")]
    NotRising { index: u64, last_offset: i64, previous: i64 },
    #[error("its entry {index} ends at offset {last_offset}, outside of the segment, which ends at {end_offset}")]
    OutsideSegment { index: u64, last_offset: i64, end_offset: i64 },
    #[error(
        "its entry {index} has offsets {first_offset} to {last_offset} and the last stable offset {last_stable_offset}"
    )]
    Offsets { index: u64, first_offset: i64, last_offset: i64, last_stable_offset: i64 },
    #[error("its entry {index} belongs to producer {producer_id}")]
    ProducerId { index: u64, producer_id: i64 },
    #[error("its entry {index} begins at {first_offset}, although all before {last_stable_offset} had ended")]
    BeginsTooEarly { index: u64, first_offset: i64, last_stable_offset: i64 },
    #[error("{0} bytes follow its last entry")]
    TrailingBytes(u64),
    #[error("its first {entries} entries are not those that were written")]
    OtherEntries { entries: u64 },
}

impl InvalidTransactionIndex {
    /// Whether the entries before are right and more was written than the log has, or less than an entry.
    pub(crate) fn is_of_an_end(&self) -> bool {
        matches!(self, InvalidTransactionIndex::OutsideSegment { .. } | InvalidTransactionIndex::TrailingBytes(_))
    }
}

impl AbortedTransaction {
    pub(crate) fn encode(&self, output: &mut Vec<u8>) {
        output.put_i16(VERSION);
        output.put_i64(self.producer_id);
        output.put_i64(self.first_offset);
        output.put_i64(self.last_offset);
        output.put_i64(self.last_stable_offset);
    }

    /// Reads an entry from exactly 34 bytes: its version, and the rest as version 0 has it.
    fn decode(mut bytes: &[u8]) -> (i16, AbortedTransaction) {
        let version = bytes.get_i16();
        let entry = AbortedTransaction {
            producer_id: bytes.get_i64(),
            first_offset: bytes.get_i64(),
            last_offset: bytes.get_i64(),
            last_stable_offset: bytes.get_i64(),
        };
        (version, entry)
    }

    /// Whether it has records in this range (half open), or its marker.
    pub(crate) fn overlaps(&self, from: i64, to: i64) -> bool {
        self.last_offset >= from && self.first_offset < to
    }
}

/// The entries in a block of a file.
pub(crate) fn entries(bytes: &[u8]) -> impl Iterator<Item = (i16, AbortedTransaction)> + '_ {
    bytes.chunks_exact(ENTRY_SIZE).map(AbortedTransaction::decode)
}

/// Checks entries one after the other, as far as they can be checked without the log.
pub(crate) struct EntryCheck {
    end_offset: i64,
    index: u64,
    previous: i64,
    last_stable_offset: i64,
}

impl EntryCheck {
    /// For the segment that goes from `base_offset` to `end_offset`.
    pub(crate) fn new(base_offset: i64, end_offset: i64) -> EntryCheck {
        EntryCheck { end_offset, index: 0, previous: base_offset - 1, last_stable_offset: 0 }
    }

    pub(crate) fn next(&mut self, version: i16, entry: &AbortedTransaction) -> Result<(), InvalidTransactionIndex> {
        let AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset } = *entry;
        let (index, end_offset) = (self.index, self.end_offset);
        if version != VERSION {
            return Err(InvalidTransactionIndex::UnknownVersion { index, version });
        }
        if last_offset <= self.previous {
            return Err(InvalidTransactionIndex::NotRising { index, last_offset, previous: self.previous });
        }
        if last_offset >= end_offset {
            return Err(InvalidTransactionIndex::OutsideSegment { index, last_offset, end_offset });
        }
        if producer_id < 0 {
            return Err(InvalidTransactionIndex::ProducerId { index, producer_id });
        }
        let in_order = 0 <= first_offset && first_offset < last_offset;
        let stable = 0 <= last_stable_offset && last_stable_offset <= last_offset + 1;
        if !in_order || !stable {
            return Err(InvalidTransactionIndex::Offsets { index, first_offset, last_offset, last_stable_offset });
        }
        // A search ends at the last stable offset, so one that is too high would hide what comes after.
        if first_offset < self.last_stable_offset || last_stable_offset < self.last_stable_offset {
            let last_stable_offset = self.last_stable_offset;
            return Err(InvalidTransactionIndex::BeginsTooEarly { index, first_offset, last_stable_offset });
        }
        self.index += 1;
        self.previous = last_offset;
        self.last_stable_offset = last_stable_offset;
        Ok(())
    }

    /// How many were right.
    pub(crate) fn count(&self) -> u64 {
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(first_offset: i64, last_offset: i64, last_stable_offset: i64) -> AbortedTransaction {
        AbortedTransaction { producer_id: 7, first_offset, last_offset, last_stable_offset }
    }

    #[test]
    fn bytes_are_kafkas() {
        let mut bytes = Vec::new();
        AbortedTransaction { producer_id: 0x0102, first_offset: 3, last_offset: 4, last_stable_offset: 0x0506 }
            .encode(&mut bytes);
        let expected = [
            [0, 0].as_slice(),
            &[0, 0, 0, 0, 0, 0, 1, 2],
            &[0, 0, 0, 0, 0, 0, 0, 3],
            &[0, 0, 0, 0, 0, 0, 0, 4],
            &[0, 0, 0, 0, 0, 0, 5, 6],
        ]
        .concat();
        assert_eq!(bytes, expected);
        let (version, read) = entries(&bytes).next().unwrap();
        assert_eq!((version, read.producer_id, read.last_stable_offset), (0, 0x0102, 0x0506));
    }

    #[test]
    fn ranges() {
        let aborted = entry(10, 20, 21);
        for (from, to, expected) in
            [(0, 10, false), (0, 11, true), (20, 30, true), (21, 30, false), (15, 16, true), (10, 10, false)]
        {
            assert_eq!(aborted.overlaps(from, to), expected, "{from}..{to}");
        }
    }

    #[test]
    fn what_entries_cannot_say() {
        let check = |found: &[(i16, AbortedTransaction)]| {
            let mut check = EntryCheck::new(100, 200);
            found.iter().try_for_each(|(version, entry)| check.next(*version, entry)).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[(0, entry(50, 100, 90)), (0, entry(90, 101, 102)), (0, entry(150, 199, 200))]), Ok(()));
        for (found, expected) in [
            (vec![(1, entry(50, 100, 90))], "version 1"),
            (vec![(0, entry(50, 99, 90))], "does not follow 99"),
            (vec![(0, entry(50, 120, 90)), (0, entry(90, 120, 121))], "does not follow 120"),
            (vec![(0, entry(50, 200, 90))], "outside of the segment"),
            (vec![(0, entry(100, 100, 101))], "offsets 100 to 100"),
            (vec![(0, entry(-1, 100, 90))], "offsets -1 to 100"),
            (vec![(0, entry(50, 100, 102))], "the last stable offset 102"),
            (vec![(0, entry(50, 100, -1))], "the last stable offset -1"),
            (vec![(0, entry(50, 100, 101)), (0, entry(60, 110, 111))], "begins at 60"),
            (vec![(0, entry(50, 100, 90)), (0, entry(95, 110, 80))], "before 90"),
            (vec![(0, AbortedTransaction { producer_id: -1, ..entry(50, 100, 90) })], "producer -1"),
        ] {
            let refused = check(&found).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
