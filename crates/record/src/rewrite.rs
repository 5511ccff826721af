//! What the log cleaner leaves of a batch: some of its records, or only its header.
//!
//! Offsets never change: the base offset and the last offset stay even if the records that had them are gone, so that
//! the batch still covers the same stretch of the log and the same sequence numbers of its producer.

use bytes::Bytes;
use ottla_types::TimestampType;

use crate::builder::{BuildError, length_field, nullable_size, put_nullable, write_header};
use crate::compression::{Compression, compress_into};
use crate::header::{Attributes, BATCH_OVERHEAD, BatchHeader, Codec, LOG_OVERHEAD};
use crate::records::Record;
use crate::varint::{put_varint, put_varlong, varint_size, varlong_size};

/// Writes a batch anew with some of its records, under the codec it has, at that codec's default level, as Kafka's
/// cleaner does.
#[derive(Clone, Debug)]
pub struct BatchRewriter {
    original: BatchHeader,
    delete_horizon_ms: Option<i64>,
    /// Room for the header, then the records, uncompressed.
    buffer: Vec<u8>,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    record_count: i32,
}

impl BatchRewriter {
    /// `delete_horizon_ms` is the time from which the batch's tombstones, or its marker, may go. Timestamps count from
    /// it then.
    pub fn new(original: &BatchHeader, delete_horizon_ms: Option<i64>) -> BatchRewriter {
        BatchRewriter {
            original: *original,
            delete_horizon_ms,
            buffer: vec![0; BATCH_OVERHEAD],
            base_timestamp: delete_horizon_ms,
            max_timestamp: -1,
            record_count: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Keeps a record of the original batch; they come in their order.
    pub fn keep(&mut self, record: &Record<'_>) -> Result<(), BuildError> {
        let record_count = self.record_count.checked_add(1).ok_or(BuildError::TooManyRecords)?;
        let base_timestamp = *self.base_timestamp.get_or_insert(record.timestamp);
        let timestamp_delta = record.timestamp.wrapping_sub(base_timestamp);
        let headers = record.headers.as_bytes();
        let size = 1_usize
            .saturating_add(varlong_size(timestamp_delta))
            .saturating_add(varint_size(record.offset_delta))
            .saturating_add(nullable_size(record.key))
            .saturating_add(nullable_size(record.value))
            .saturating_add(varint_size(length_field(record.headers.len())))
            .saturating_add(headers.len());
        let total = self.buffer.len().saturating_add(size).saturating_add(5);
        let (Ok(length), Ok(_)) = (i32::try_from(size), i32::try_from(total)) else {
            return Err(BuildError::TooLarge(total));
        };
        self.record_count = record_count;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        put_varint(length, &mut self.buffer);
        self.buffer.push(record.attributes.cast_unsigned());
        put_varlong(timestamp_delta, &mut self.buffer);
        put_varint(record.offset_delta, &mut self.buffer);
        put_nullable(record.key, &mut self.buffer);
        put_nullable(record.value, &mut self.buffer);
        put_varint(length_field(record.headers.len()), &mut self.buffer);
        self.buffer.extend_from_slice(headers);
        Ok(())
    }

    /// Compresses, and writes the header.
    pub fn finish(self) -> Result<Bytes, BuildError> {
        let Some(base_timestamp) = self.base_timestamp.filter(|_| self.record_count > 0) else {
            return Err(BuildError::Empty);
        };
        let codec = self.original.attributes.codec().unwrap_or(Codec::None);
        let mut batch = if codec == Codec::None {
            self.buffer
        } else {
            let body = self.buffer.get(BATCH_OVERHEAD..).unwrap_or_default();
            let mut batch = Vec::with_capacity(BATCH_OVERHEAD + body.len() / 2);
            batch.resize(BATCH_OVERHEAD, 0);
            compress_into(Compression::new(codec), body, &mut batch)?;
            batch
        };
        let log_append_time = self.original.attributes.timestamp_type() == TimestampType::LogAppendTime;
        let mut header = BatchHeader {
            batch_length: i32::try_from(batch.len() - LOG_OVERHEAD).map_err(|_| BuildError::TooLarge(batch.len()))?,
            attributes: kept_attributes(&self.original)
                .with_codec(codec)
                .with_delete_horizon(self.delete_horizon_ms.is_some()),
            base_timestamp,
            max_timestamp: if log_append_time { self.original.max_timestamp } else { self.max_timestamp },
            record_count: self.record_count,
            ..self.original
        };
        write_header(&mut header, &mut batch);
        Ok(batch.into())
    }
}

/// The batch without its records: it still says up to where the log goes, and which sequence its producer had.
pub fn empty_batch(original: &BatchHeader) -> [u8; BATCH_OVERHEAD] {
    const LENGTH: i32 = 49;
    const { assert!(LENGTH as usize == BATCH_OVERHEAD - LOG_OVERHEAD, "the length counts what follows it") };
    let mut header = BatchHeader {
        batch_length: LENGTH,
        attributes: kept_attributes(original),
        base_timestamp: -1,
        record_count: 0,
        ..*original
    };
    let mut batch = [0; BATCH_OVERHEAD];
    write_header(&mut header, &mut batch);
    batch
}

/// Without codec and delete horizon, which depend on what the batch holds.
fn kept_attributes(original: &BatchHeader) -> Attributes {
    let attributes = original.attributes;
    Attributes::default()
        .with_timestamp_type(attributes.timestamp_type())
        .with_transactional(attributes.is_transactional())
        .with_control(attributes.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::BatchBuilder;
    use crate::compression::DecompressionLimits;
    use crate::header::verify_crc;
    use crate::open::OpenBatch;
    use crate::records::Header;

    fn original(codec: Codec, log_append_time_ms: Option<i64>) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::new(codec));
        builder.set_producer(9, 3, 40);
        builder.set_position(100, 7);
        if let Some(now_ms) = log_append_time_ms {
            builder.set_log_append_time(now_ms);
        }
        let headers = [Header { key: b"h", value: None }, Header { key: b"i", value: Some(b"v") }];
        for (index, timestamp) in [1_000, 1_500, 1_200].into_iter().enumerate() {
            let key = [b'k', index as u8];
            let value = (index != 1).then_some(b"value".as_slice());
            builder.append(timestamp, Some(&key), value, &headers).unwrap();
        }
        builder.finish().unwrap()
    }

    fn open(batch: &Bytes) -> OpenBatch {
        verify_crc(batch).unwrap();
        OpenBatch::open(batch, &DecompressionLimits::default()).unwrap()
    }

    fn rewritten(batch: &OpenBatch, kept: &[usize], delete_horizon_ms: Option<i64>) -> Bytes {
        let mut rewriter = BatchRewriter::new(batch.header(), delete_horizon_ms);
        for (index, record) in batch.records().enumerate() {
            if kept.contains(&index) {
                rewriter.keep(&record.unwrap()).unwrap();
            }
        }
        rewriter.finish().unwrap()
    }

    #[test]
    fn what_is_kept_stays_as_it_was() {
        for codec in Codec::ALL {
            for log_append_time_ms in [None, Some(5_000)] {
                for delete_horizon_ms in [None, Some(90_000)] {
                    for kept in [vec![0, 1, 2], vec![1], vec![2], vec![0, 2]] {
                        let before = open(&original(codec, log_append_time_ms));
                        let bytes = rewritten(&before, &kept, delete_horizon_ms);
                        let after = open(&bytes);
                        let case = format!("{codec:?} {log_append_time_ms:?} {delete_horizon_ms:?} {kept:?}");
                        let content = |batch: &OpenBatch| -> Vec<_> {
                            let record = |record: Result<Record<'_>, _>| {
                                let record = record.unwrap();
                                let headers: Vec<_> = record
                                    .headers
                                    .iter()
                                    .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                                    .collect();
                                let key = record.key.map(<[u8]>::to_vec);
                                (record.offset, record.timestamp, key, record.value.map(<[u8]>::to_vec), headers)
                            };
                            batch.records().map(record).collect()
                        };
                        let expected: Vec<_> = content(&before)
                            .into_iter()
                            .enumerate()
                            .filter(|(index, _)| kept.contains(index))
                            .map(|(_, record)| record)
                            .collect();
                        assert_eq!(content(&after), expected, "{case}");
                        let (old, new) = (before.header(), after.header());
                        assert_eq!(
                            (new.base_offset, new.last_offset(), new.last_sequence(), new.partition_leader_epoch),
                            (old.base_offset, old.last_offset(), old.last_sequence(), old.partition_leader_epoch),
                            "{case}"
                        );
                        assert_eq!((new.producer_id, new.producer_epoch), (old.producer_id, old.producer_epoch));
                        assert_eq!(new.attributes.codec(), Some(codec), "{case}");
                        assert_eq!(new.delete_horizon_ms(), delete_horizon_ms, "{case}");
                        let newest = expected.iter().map(|record| record.1).max().unwrap();
                        assert_eq!(new.max_timestamp, newest, "{case}");
                        assert_eq!(new.record_count, kept.len() as i32);
                    }
                }
            }
        }
    }

    #[test]
    fn an_empty_batch_keeps_offsets_and_sequence() {
        let before = open(&original(Codec::Gzip, None));
        let bytes = Bytes::copy_from_slice(&empty_batch(before.header()));
        let after = open(&bytes);
        assert_eq!(after.records().count(), 0);
        let (old, new) = (before.header(), after.header());
        assert_eq!((new.base_offset, new.last_offset(), new.last_sequence()), (100, 102, old.last_sequence()));
        assert_eq!((new.base_timestamp, new.max_timestamp), (-1, 1_500));
        assert_eq!(new.size_in_bytes(), bytes.len());
        assert_eq!(new.attributes, Attributes::default());
    }

    #[test]
    fn nothing_kept_is_no_batch() {
        let before = open(&original(Codec::None, None));
        for delete_horizon_ms in [None, Some(1)] {
            assert_eq!(BatchRewriter::new(before.header(), delete_horizon_ms).finish(), Err(BuildError::Empty));
        }
    }
}
