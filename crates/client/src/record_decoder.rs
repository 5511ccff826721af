//! The records in what a broker sends for a partition: foreign bytes, opened one batch at a time.

use std::sync::Arc;

use bytes::Bytes;
use ottla_record::{
    BatchError, BatchHeader, ControlType, DecompressionLimits, EndTransactionMarker, OpenBatch, OpenError, Record,
    RecordCursor, verify_crc,
};
use ottla_types::{TimestampType, TopicPartition};

use crate::consumer::AbortedTransactions;
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
    /// Records before this offset were not asked for, or were handed out.
    from: i64,
    cursor: RecordCursor,
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

    /// The offset after the batch; behind its last record there may be offsets that are gone.
    pub fn next_offset(&self) -> i64 {
        self.batch.header().next_offset()
    }

    /// The records, in order. The first one that is malformed ends them.
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, ClientError>> {
        let wanted = self.from..self.next_offset();
        self.batch.records_from(self.cursor).filter_map(move |record| match record {
            Ok(record) => wanted.contains(&record.offset).then_some(Ok(record)),
            Err(error) => Some(Err(self.fault(error.into()))),
        })
    }

    /// Keeps a part of one of the records, without copying it. It keeps the whole batch in memory.
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.batch.share(part)
    }

    /// Hands out records until there are so many; whether that was all of them. What is malformed is met again.
    fn take_records(&mut self, max_records: usize, output: &mut Vec<ConsumedRecord>) -> Result<bool, ClientError> {
        let (leader_epoch, timestamp_type) = (self.leader_epoch(), self.timestamp_type());
        let end = self.next_offset();
        let mut records = self.batch.records_from(self.cursor);
        while output.len() < max_records {
            let record = match records.next() {
                None => return Ok(true),
                Some(Ok(record)) => record,
                Some(Err(error)) => return Err(self.fault(error.into())),
            };
            self.cursor = self.batch.cursor(&records);
            if !(self.from..end).contains(&record.offset) {
                continue;
            }
            self.from = record.offset + 1;
            output.push(ConsumedRecord {
                topic: Arc::clone(&self.partition.topic),
                partition: self.partition.partition,
                offset: record.offset,
                leader_epoch,
                timestamp: record.timestamp,
                timestamp_type,
                key: record.key.map(|key| self.batch.share(key)),
                value: record.value.map(|value| self.batch.share(value)),
                headers: record
                    .headers
                    .iter()
                    .map(|header| (self.batch.share(header.key), header.value.map(|value| self.batch.share(value))))
                    .collect(),
            });
        }
        Ok(false)
    }

    fn fault(&self, fault: RecordsFault) -> ClientError {
        let (topic, partition) = (self.partition.topic.to_string(), self.partition.partition);
        ClientError::Records { topic, partition, offset: self.from, fault }
    }
}

/// How batches are opened.
#[derive(Clone, Debug)]
pub(crate) struct OpenRules {
    pub(crate) limits: DecompressionLimits,
    pub(crate) check_crcs: bool,
}

impl Default for OpenRules {
    fn default() -> OpenRules {
        OpenRules { limits: DecompressionLimits::default(), check_crcs: true }
    }
}

/// What a fetch gave for one partition, not yet handed out.
#[derive(Debug)]
pub(crate) struct FetchedBatches {
    pub(crate) partition: TopicPartition,
    /// Batches not yet opened.
    bytes: Bytes,
    /// The offset after what was opened.
    next_offset: i64,
    /// The leader's epoch in what was opened last.
    leader_epoch: Option<i32>,
    /// `None` if all records are wanted, whatever became of their transactions.
    aborted: Option<AbortedTransactions>,
    /// A batch whose records are being handed out.
    open: Option<ConsumedBatch>,
}

impl FetchedBatches {
    /// Records before `next_offset` were read before, or were not asked for.
    pub(crate) fn new(
        partition: TopicPartition,
        bytes: Bytes,
        next_offset: i64,
        aborted: Option<AbortedTransactions>,
    ) -> FetchedBatches {
        FetchedBatches { partition, bytes, next_offset, leader_epoch: None, aborted, open: None }
    }

    /// How many bytes are not yet opened.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The offset after what was handed out, and the epoch of the leader who wrote that.
    pub(crate) fn position(&self) -> (i64, Option<i32>) {
        match &self.open {
            Some(batch) => (batch.from, Some(batch.leader_epoch())),
            None => (self.next_offset, self.leader_epoch),
        }
    }

    /// The offset after the last whole batch, and its epoch; fails if nothing in the bytes is new.
    pub(crate) fn end(&self) -> Result<(i64, Option<i32>), ClientError> {
        let mut end = (self.next_offset, None);
        let mut rest = &self.bytes[..];
        while let Some((header, batch)) = whole_batch(rest).map_err(|fault| self.fault(fault))? {
            if header.next_offset() > end.0 {
                end = (header.next_offset(), known(header.partition_leader_epoch));
            }
            rest = &rest[batch..];
        }
        if rest.len() == self.bytes.len() && !rest.is_empty() {
            let truncated = BatchError::Truncated { needed: rest.len() + 1, available: rest.len() };
            return Err(self.fault(truncated.into()));
        }
        if end.0 == self.next_offset && !self.bytes.is_empty() {
            return Err(self.fault(RecordsFault::NoProgress));
        }
        Ok(end)
    }

    /// Hands out records until there are so many; whether that was the last of them.
    pub(crate) fn take_records(
        &mut self,
        rules: &OpenRules,
        max_records: usize,
        output: &mut Vec<ConsumedRecord>,
    ) -> Result<bool, ClientError> {
        while output.len() < max_records {
            if self.open.is_none() {
                self.open = self.open_next(rules)?;
            }
            let Some(batch) = &mut self.open else { return Ok(true) };
            if batch.take_records(max_records, output)? {
                self.open = None;
            }
        }
        Ok(false)
    }

    /// Hands out the next batch, or what is left of the one whose records were being handed out.
    pub(crate) fn take_batch(&mut self, rules: &OpenRules) -> Result<Option<ConsumedBatch>, ClientError> {
        match self.open.take() {
            Some(batch) => Ok(Some(batch)),
            None => self.open_next(rules),
        }
    }

    /// Opens the next batch with records for consumers. `next_offset` is then behind it.
    pub(crate) fn open_next(&mut self, rules: &OpenRules) -> Result<Option<ConsumedBatch>, ClientError> {
        while let Some((header, size)) = whole_batch(&self.bytes).map_err(|fault| self.fault(fault))? {
            let batch = self.bytes.split_to(size);
            let aborted = self.is_aborted(&header, &batch).map_err(|fault| self.fault(fault))?;
            if header.next_offset() <= self.next_offset {
                continue;
            }
            let opened = if aborted || header.attributes.is_control() {
                None
            } else {
                Some(open(&batch, rules).map_err(|fault| self.fault(fault))?)
            };
            let from = std::mem::replace(&mut self.next_offset, header.next_offset());
            self.leader_epoch = known(header.partition_leader_epoch);
            if let Some(batch) = opened {
                let partition = self.partition.clone();
                return Ok(Some(ConsumedBatch { partition, batch, from, cursor: RecordCursor::default() }));
            }
        }
        Ok(None)
    }

    /// Whether a batch is of a transaction that was aborted; what ends one is noted.
    fn is_aborted(&mut self, header: &BatchHeader, batch: &Bytes) -> Result<bool, RecordsFault> {
        let Some(aborted) = self.aborted.as_mut().filter(|_| header.has_producer_id()) else { return Ok(false) };
        if !header.attributes.is_control() {
            return Ok(
                header.attributes.is_transactional() && aborted.contains(header.producer_id, header.last_offset())
            );
        }
        verify_crc(batch)?;
        // Control records of other kinds end nothing.
        if let Ok(Some(marker)) = EndTransactionMarker::of_batch(batch)
            && marker.control_type == ControlType::Abort
        {
            aborted.aborted(header.producer_id, header.last_offset());
        }
        Ok(false)
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

fn open(batch: &Bytes, rules: &OpenRules) -> Result<OpenBatch, RecordsFault> {
    if rules.check_crcs {
        verify_crc(batch)?;
    }
    OpenBatch::open(batch, &rules.limits).map_err(|error| match error {
        OpenError::Batch(error) => error.into(),
        OpenError::Decompress(error) => error.into(),
    })
}

fn known(leader_epoch: i32) -> Option<i32> {
    Some(leader_epoch).filter(|&epoch| epoch >= 0)
}

/// The first batch and its size; `None` for one that is cut off, as the last one of a fetch may be.
fn whole_batch(bytes: &[u8]) -> Result<Option<(BatchHeader, usize)>, RecordsFault> {
    match BatchHeader::parse(bytes) {
        Ok(header) if header.size_in_bytes() <= bytes.len() => Ok(Some((header, header.size_in_bytes()))),
        Ok(_) | Err(BatchError::Truncated { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
