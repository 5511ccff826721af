//! The records in what a broker sends for a partition: foreign bytes, decoded one batch at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ottla_record::{
    BATCH_OVERHEAD, BatchError, BatchHeader, DecompressError, DecompressionLimits, Records, decompress, verify_crc,
};
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

/// What a fetch gave for one partition, not yet decoded.
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

    /// Decodes the next batch; whether there was one. `next_offset` is then behind it.
    pub(crate) fn decode_next(
        &mut self,
        limits: &DecompressionLimits,
        output: &mut VecDeque<ConsumedRecord>,
    ) -> Result<bool, ClientError> {
        let Some((header, size)) = whole_batch(&self.bytes).map_err(|fault| self.fault(fault))? else {
            return Ok(false);
        };
        let batch = self.bytes.split_to(size);
        if header.next_offset() > self.next_offset {
            self.decode(&header, &batch, limits, output).map_err(|fault| self.fault(fault))?;
            self.next_offset = header.next_offset();
        }
        Ok(true)
    }

    fn decode(
        &self,
        header: &BatchHeader,
        batch: &Bytes,
        limits: &DecompressionLimits,
        output: &mut VecDeque<ConsumedRecord>,
    ) -> Result<(), RecordsFault> {
        verify_crc(batch)?;
        if header.attributes.is_control() {
            return Ok(());
        }
        let codec = header.attributes.codec();
        let codec = codec.ok_or(DecompressError::UnknownCodec(header.attributes.codec_id()))?;
        let body = decompress(codec, &batch.slice(BATCH_OVERHEAD..), limits)?;
        let shared = |bytes: &[u8]| body.slice_ref(bytes);
        for record in Records::new(header, &body) {
            let record = record?;
            if !(self.next_offset..header.next_offset()).contains(&record.offset) {
                continue;
            }
            output.push_back(ConsumedRecord {
                topic: Arc::clone(&self.partition.topic),
                partition: self.partition.partition,
                offset: record.offset,
                leader_epoch: header.partition_leader_epoch,
                timestamp: record.timestamp,
                timestamp_type: header.attributes.timestamp_type(),
                key: record.key.map(shared),
                value: record.value.map(shared),
                headers: record.headers.iter().map(|header| (shared(header.key), header.value.map(shared))).collect(),
            });
        }
        Ok(())
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

/// The first batch and its size; `None` for one that is cut off, as the last one of a fetch may be.
fn whole_batch(bytes: &[u8]) -> Result<Option<(BatchHeader, usize)>, RecordsFault> {
    match BatchHeader::parse(bytes) {
        Ok(header) if header.size_in_bytes() <= bytes.len() => Ok(Some((header, header.size_in_bytes()))),
        Ok(_) | Err(BatchError::Truncated { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
