//! The records in what a broker sends for a partition: foreign bytes, opened one batch at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ottla_record::{BatchError, BatchHeader, DecompressionLimits, OpenBatch, OpenError, Record, verify_crc};
use ottla_types::{TimestampType, TopicPartition};

use crate::error::{ClientError, RecordsFault};

/// A record as it was read. Its bytes keep those of its batch alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub timestamp: i64,
    pub timestamp_type: TimestampType,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The records of a batch, to be looked at where they are: nothing is copied and nothing allocated for each of them.
#[derive(Clone, Debug)]
pub struct ConsumedBatch {
    partition: TopicPartition,
    batch: OpenBatch,
    /// Records before this offset were not asked for.
    from: i64,
}

impl ConsumedBatch {
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    pub fn leader_epoch(&self) -> i32 {
        self.batch.header().partition_leader_epoch
    }

    pub fn timestamp_type(&self) -> TimestampType {
        self.batch.header().attributes.timestamp_type()
    }

    pub(crate) fn is_control(&self) -> bool {
        self.batch.header().attributes.is_control()
    }

    pub(crate) fn first_offset(&self) -> i64 {
        self.from
    }

    /// The offset after the batch; behind its last record there may be offsets that are gone.
    pub fn next_offset(&self) -> i64 {
        self.batch.header().next_offset()
    }

    /// The records, in order. The first one that is malformed ends them.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, ClientError>> {
        // The records of control batches are not for consumers.
        let wanted = if self.is_control() { 0..0 } else { self.from..self.next_offset() };
        self.batch.records().filter_map(move |record| match record {
            Ok(record) => wanted.contains(&record.offset).then_some(Ok(record)),
            Err(error) => Some(Err(self.fault(error.into()))),
        })
    }

    /// Keeps a part of one of the records, without copying it. It keeps the whole batch in memory.
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.batch.share(part)
    }

    /// The same without the records before an offset.
    pub(crate) fn from(self, offset: i64) -> ConsumedBatch {
        ConsumedBatch { from: self.from.max(offset), ..self }
    }

    pub(crate) fn copy_records(&self, output: &mut VecDeque<ConsumedRecord>) -> Result<(), ClientError> {
        let (leader_epoch, timestamp_type) = (self.leader_epoch(), self.timestamp_type());
        for record in self.records() {
            let record = record?;
            let headers = record.headers.iter();
            output.push_back(ConsumedRecord {
                topic: Arc::clone(&self.partition.topic),
                partition: self.partition.partition,
                offset: record.offset,
                leader_epoch,
                timestamp: record.timestamp,
                timestamp_type,
                key: record.key.map(|key| self.share(key)),
                value: record.value.map(|value| self.share(value)),
                headers: headers
                    .map(|header| (self.share(header.key), header.value.map(|value| self.share(value))))
                    .collect(),
            });
        }
        Ok(())
    }

    fn fault(&self, fault: RecordsFault) -> ClientError {
        let (topic, partition) = (self.partition.topic.to_string(), self.partition.partition);
        ClientError::Records { topic, partition, offset: self.from, fault }
    }
}

/// What a fetch gave for one partition, not yet opened.
#[derive(Debug)]
pub(crate) struct FetchedBatches {
    pub(crate) partition: TopicPartition,
    pub(crate) bytes: Bytes,
    /// Records before this offset were read before, or were not asked for.
    pub(crate) next_offset: i64,
}

impl FetchedBatches {
    /// The offset after the last whole batch; fails if nothing in the bytes is new.
    pub(crate) fn end_offset(&self) -> Result<i64, ClientError> {
        let mut end = self.next_offset;
        let mut rest = &self.bytes[..];
        while let Some((header, batch)) = whole_batch(rest).map_err(|fault| self.fault(fault))? {
            end = end.max(header.next_offset());
            rest = &rest[batch..];
        }
        if rest.len() == self.bytes.len() && !rest.is_empty() {
            let truncated = BatchError::Truncated { needed: rest.len() + 1, available: rest.len() };
            return Err(self.fault(truncated.into()));
        }
        if end == self.next_offset && !self.bytes.is_empty() {
            return Err(self.fault(RecordsFault::NoProgress));
        }
        Ok(end)
    }

    /// Opens the next batch with records that were not read before. `next_offset` is then behind it.
    pub(crate) fn open_next(&mut self, limits: &DecompressionLimits) -> Result<Option<ConsumedBatch>, ClientError> {
        while let Some((header, size)) = whole_batch(&self.bytes).map_err(|fault| self.fault(fault))? {
            let batch = self.bytes.split_to(size);
            if header.next_offset() <= self.next_offset {
                continue;
            }
            let opened = open(&batch, limits).map_err(|fault| self.fault(fault))?;
            let from = std::mem::replace(&mut self.next_offset, header.next_offset());
            return Ok(Some(ConsumedBatch { partition: self.partition.clone(), batch: opened, from }));
        }
        Ok(None)
    }

    fn fault(&self, fault: RecordsFault) -> ClientError {
        ClientError::Records {
            topic: self.partition.topic.to_string(),
            partition: self.partition.partition,
            offset: self.next_offset,
            fault,
        }
    }
}

fn open(batch: &Bytes, limits: &DecompressionLimits) -> Result<OpenBatch, RecordsFault> {
    verify_crc(batch)?;
    OpenBatch::open(batch, limits).map_err(|error| match error {
        OpenError::Batch(error) => error.into(),
        OpenError::Decompress(error) => error.into(),
    })
}

/// The first batch and its size; `None` for one that is cut off, as the last one of a fetch may be.
fn whole_batch(bytes: &[u8]) -> Result<Option<(BatchHeader, usize)>, RecordsFault> {
    match BatchHeader::parse(bytes) {
        Ok(header) if header.size_in_bytes() <= bytes.len() => Ok(Some((header, header.size_in_bytes()))),
        Ok(_) | Err(BatchError::Truncated { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
