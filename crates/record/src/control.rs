//! Control records: the markers that end a transaction in a partition.
//!
//! A control batch has one record. Its key is a version and a type, its value a version and the epoch of the coordinator
//! that decided. Later versions may append to both, so what follows is not looked at.

use bytes::Bytes;

use crate::builder::{BatchBuilder, BuildError};
use crate::compression::Compression;
use crate::header::{BATCH_OVERHEAD, BatchError, BatchHeader, Codec};
use crate::records::{Record, RecordError, Records};

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum ControlType {
    Abort = 0,
    Commit = 1,
}

impl ControlType {
    /// What the record of a control batch says, if it ends a transaction.
    pub fn of(record: &Record<'_>) -> Option<ControlType> {
        // A version, then the type; later versions may append.
        let &[_, _, high, low, ..] = record.key? else { return None };
        match i16::from_be_bytes([high, low]) {
            0 => Some(ControlType::Abort),
            1 => Some(ControlType::Commit),
            _ => None,
        }
    }
}

/// The end of a transaction, as the record of its control batch has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    pub control_type: ControlType,
    pub coordinator_epoch: i32,
}

/// Why a control batch does not end a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkerError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("a control batch is compressed")]
    Compressed,
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("a control record is of no type that ends a transaction")]
    NotAnEnd,
    #[error("a control record has a negative version")]
    NegativeVersion,
    #[error("a control record has no coordinator epoch")]
    NoCoordinatorEpoch,
}

impl EndTransactionMarker {
    /// Reads the first record of a control batch; the end of the batch need not be there. `None` for an empty batch: the
    /// cleaner has taken all of the transaction, and left its producer.
    pub fn of_batch(batch: &[u8]) -> Result<Option<EndTransactionMarker>, MarkerError> {
        let header = BatchHeader::parse(batch)?;
        if header.record_count == 0 {
            return Ok(None);
        }
        if header.attributes.codec() != Some(Codec::None) {
            return Err(MarkerError::Compressed);
        }
        let body = batch.get(BATCH_OVERHEAD..batch.len().min(header.size_in_bytes())).unwrap_or_default();
        match Records::new(&header, body).next() {
            Some(record) => EndTransactionMarker::of_record(&record?).map(Some),
            None => Ok(None),
        }
    }

    fn of_record(record: &Record<'_>) -> Result<EndTransactionMarker, MarkerError> {
        let control_type = ControlType::of(record).ok_or(MarkerError::NotAnEnd)?;
        let Some(&[version, _, a, b, c, d, ..]) = record.value else { return Err(MarkerError::NoCoordinatorEpoch) };
        let key_version = record.key.and_then(|key| key.first()).copied().unwrap_or_default();
        if version.cast_signed() < 0 || key_version.cast_signed() < 0 {
            return Err(MarkerError::NegativeVersion);
        }
        Ok(EndTransactionMarker { control_type, coordinator_epoch: i32::from_be_bytes([a, b, c, d]) })
    }
}

/// The end of a transaction, as the coordinator's request and the leader determine it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlMarker {
    pub control_type: ControlType,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub coordinator_epoch: i32,
    pub timestamp: i64,
    pub base_offset: i64,
    pub partition_leader_epoch: i32,
}

/// The batch that ends a transaction in a partition.
pub fn control_marker(marker: &ControlMarker) -> Result<Bytes, BuildError> {
    const VERSION: [u8; 2] = [0; 2];
    let mut key = [0; 4];
    key[2..].copy_from_slice(&(marker.control_type as i16).to_be_bytes());
    let mut value = [0; 6];
    value[..2].copy_from_slice(&VERSION);
    value[2..].copy_from_slice(&marker.coordinator_epoch.to_be_bytes());
    let mut builder = BatchBuilder::with_capacity(Compression::NONE, 32);
    builder.set_producer(marker.producer_id, marker.producer_epoch, -1);
    builder.set_position(marker.base_offset, marker.partition_leader_epoch);
    builder.set_transactional(true);
    builder.set_control(true);
    builder.append(marker.timestamp, Some(&key), Some(&value), &[])?;
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::stamp_crc;

    fn marker(control_type: ControlType, coordinator_epoch: i32) -> Vec<u8> {
        let marker = ControlMarker {
            control_type,
            producer_id: 7,
            producer_epoch: 3,
            coordinator_epoch,
            timestamp: 1_000,
            base_offset: 5,
            partition_leader_epoch: 2,
        };
        control_marker(&marker).unwrap().to_vec()
    }

    #[test]
    fn round_trip() {
        for (control_type, coordinator_epoch) in
            [(ControlType::Abort, 0), (ControlType::Commit, -1), (ControlType::Commit, i32::MAX)]
        {
            let batch = marker(control_type, coordinator_epoch);
            let expected = EndTransactionMarker { control_type, coordinator_epoch };
            assert_eq!(EndTransactionMarker::of_batch(&batch), Ok(Some(expected)));
        }
    }

    /// The record is the last 17 bytes: length, attributes, deltas, key of 4, value of 6, no headers.
    fn changed(change: impl FnOnce(&mut [u8])) -> Result<Option<EndTransactionMarker>, MarkerError> {
        let mut batch = marker(ControlType::Abort, 9);
        change(&mut batch);
        stamp_crc(&mut batch);
        EndTransactionMarker::of_batch(&batch)
    }

    #[test]
    fn what_is_no_end_of_a_transaction() {
        let (key, value) = (BATCH_OVERHEAD + 5, BATCH_OVERHEAD + 10);
        assert_eq!(changed(|batch| batch[key + 3] = 2), Err(MarkerError::NotAnEnd), "a leader change");
        assert_eq!(changed(|batch| batch[key] = 0x80), Err(MarkerError::NegativeVersion));
        assert_eq!(changed(|batch| batch[value] = 0x80), Err(MarkerError::NegativeVersion));
        assert_eq!(changed(|batch| batch[22] |= 1), Err(MarkerError::Compressed));
        let later = changed(|batch| (batch[key + 1], batch[value + 1]) = (4, 4));
        assert_eq!(
            later,
            Ok(Some(EndTransactionMarker { control_type: ControlType::Abort, coordinator_epoch: 9 })),
            "of a later version"
        );
        assert_eq!(changed(|batch| batch[57..61].fill(0)), Ok(None), "emptied by the cleaner");
        assert!(EndTransactionMarker::of_batch(&[0; 40]).is_err());
    }

    #[test]
    fn any_cut_is_an_error_or_the_marker() {
        let batch = marker(ControlType::Commit, 4);
        for len in 0..batch.len() {
            assert!(EndTransactionMarker::of_batch(&batch[..len]).is_err(), "cut to {len}");
        }
    }
}
