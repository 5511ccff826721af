//! The entries of the two indexes.

use bytes::{Buf, BufMut};

/// One entry of a sparse index.
pub(crate) trait IndexEntry: Copy {
    const SIZE: usize;

    fn encode(&self, output: &mut Vec<u8>);

    /// Reads an entry from exactly `SIZE` bytes.
    fn decode(bytes: &[u8]) -> Self;

    /// What rises from entry to entry.
    fn key(&self) -> i64;

    fn offset(&self, base_offset: i64) -> i64;

    /// Whether this is what a preallocated file holds behind its entries.
    fn is_vacant(&self) -> bool;
}

/// The batch whose last offset is `relative_offset` (unsigned, from the segment's base) begins at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) relative_offset: u32,
    pub(crate) position: u32,
}

impl IndexEntry for OffsetEntry {
    const SIZE: usize = 8;

    fn encode(&self, output: &mut Vec<u8>) {
        output.put_u32(self.relative_offset);
        output.put_u32(self.position);
    }

    fn decode(mut bytes: &[u8]) -> OffsetEntry {
        OffsetEntry { relative_offset: bytes.get_u32(), position: bytes.get_u32() }
    }

    fn key(&self) -> i64 {
        i64::from(self.relative_offset)
    }

    fn offset(&self, base_offset: i64) -> i64 {
        base_offset.saturating_add(i64::from(self.relative_offset))
    }

    fn is_vacant(&self) -> bool {
        // Kafka never has an entry for position 0: the first comes after an interval of bytes.
        self.position == 0
    }
}

/// No record up to `relative_offset` is younger than `timestamp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: i64,
    pub(crate) relative_offset: u32,
}

impl IndexEntry for TimeEntry {
    const SIZE: usize = 12;

    fn encode(&self, output: &mut Vec<u8>) {
        output.put_i64(self.timestamp);
        output.put_u32(self.relative_offset);
    }

    fn decode(mut bytes: &[u8]) -> TimeEntry {
        TimeEntry { timestamp: bytes.get_i64(), relative_offset: bytes.get_u32() }
    }

    fn key(&self) -> i64 {
        self.timestamp
    }

    fn offset(&self, base_offset: i64) -> i64 {
        base_offset.saturating_add(i64::from(self.relative_offset))
    }

    fn is_vacant(&self) -> bool {
        self.timestamp == 0 && self.relative_offset == 0
    }
}
