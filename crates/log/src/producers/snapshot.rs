//! `<offset>.snapshot`: the producers of a partition as of that offset, in Kafka's version 1.
//!
//! Version (2 bytes), CRC32C (4) of everything after it, count (4), then 46 bytes a producer. Of the window only the
//! last batch is in it.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};

use super::{ProducerBatch, ProducerEntry};

const VERSION: i16 = 1;
const ENTRIES_OFFSET: usize = 6;
const ENTRY_SIZE: usize = 46;

/// Why a file is not a producer snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedSnapshot {
    #[error("it has {found} bytes where {expected} belong")]
    Length { expected: usize, found: usize },
    #[error("it has version {0}, only version 1 is known")]
    UnknownVersion(i16),
    #[error("its CRC is {stored:#010x}, its bytes give {computed:#010x}")]
    CrcMismatch { stored: u32, computed: u32 },
}

pub(crate) fn format_snapshot(entries: &BTreeMap<i64, ProducerEntry>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRIES_OFFSET + 4 + entries.len() * ENTRY_SIZE);
    bytes.put_i16(VERSION);
    bytes.put_u32(0);
    bytes.put_i32(entries.len() as i32);
    for (producer_id, entry) in entries {
        let last = entry.batches.last();
        bytes.put_i64(*producer_id);
        bytes.put_i16(entry.producer_epoch);
        bytes.put_i32(entry.last_sequence());
        bytes.put_i64(last.map_or(-1, |batch| batch.last_offset));
        bytes.put_i32(last.map_or(0, |batch| batch.offset_delta));
        bytes.put_i64(entry.last_timestamp);
        bytes.put_i32(entry.coordinator_epoch);
        bytes.put_i64(entry.current_transaction_first_offset.unwrap_or(-1));
    }
    let crc = crc32c(&bytes[ENTRIES_OFFSET..]);
    bytes[2..ENTRIES_OFFSET].copy_from_slice(&crc.to_be_bytes());
    bytes
}

pub(crate) fn parse_snapshot(mut bytes: &[u8]) -> Result<BTreeMap<i64, ProducerEntry>, MalformedSnapshot> {
    let found = bytes.len();
    if found < ENTRIES_OFFSET + 4 {
        return Err(MalformedSnapshot::Length { expected: ENTRIES_OFFSET + 4, found });
    }
    let computed = crc32c(&bytes[ENTRIES_OFFSET..]);
    let version = bytes.get_i16();
    if version != VERSION {
        return Err(MalformedSnapshot::UnknownVersion(version));
    }
    let stored = bytes.get_u32();
    if stored != computed {
        return Err(MalformedSnapshot::CrcMismatch { stored, computed });
    }
    let count = bytes.get_u32() as usize;
    let expected = count.saturating_mul(ENTRY_SIZE).saturating_add(ENTRIES_OFFSET + 4);
    if found != expected {
        return Err(MalformedSnapshot::Length { expected, found });
    }
    let mut entries = BTreeMap::new();
    while bytes.has_remaining() {
        let producer_id = bytes.get_i64();
        let producer_epoch = bytes.get_i16();
        let last_sequence = bytes.get_i32();
        let last_offset = bytes.get_i64();
        let offset_delta = bytes.get_i32();
        let timestamp = bytes.get_i64();
        let coordinator_epoch = bytes.get_i32();
        let first_offset = bytes.get_i64();
        let batches = if last_offset >= 0 {
            vec![ProducerBatch { last_sequence, last_offset, offset_delta, timestamp }]
        } else {
            Vec::new()
        };
        let entry = ProducerEntry {
            producer_epoch,
            coordinator_epoch,
            last_timestamp: timestamp,
            current_transaction_first_offset: (first_offset >= 0).then_some(first_offset),
            batches,
        };
        entries.insert(producer_id, entry);
    }
    Ok(entries)
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_entries() -> BTreeMap<i64, ProducerEntry> {
        let batch = ProducerBatch { last_sequence: 41, last_offset: 1041, offset_delta: 9, timestamp: 77 };
        let plain = ProducerEntry {
            producer_epoch: 3,
            coordinator_epoch: -1,
            last_timestamp: 77,
            current_transaction_first_offset: None,
            batches: vec![batch],
        };
        let bare = ProducerEntry { batches: Vec::new(), current_transaction_first_offset: Some(12), ..plain.clone() };
        [(5, plain), (i64::MAX, bare)].into()
    }

    #[test]
    fn round_trip() {
        for entries in [BTreeMap::new(), some_entries()] {
            assert_eq!(parse_snapshot(&format_snapshot(&entries)), Ok(entries));
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_refused() {
        let bytes = format_snapshot(&some_entries());
        for len in 0..bytes.len() {
            assert!(parse_snapshot(&bytes[..len]).is_err(), "cut to {len}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_snapshot(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_declared_count_is_not_believed() {
        let mut bytes = format_snapshot(&BTreeMap::new());
        bytes[6..10].copy_from_slice(&u32::MAX.to_be_bytes());
        let crc = crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        assert!(matches!(parse_snapshot(&bytes), Err(MalformedSnapshot::Length { .. })));
    }
}
