//! A partition this node leads, as a state machine's log.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ottla_log::{AppendError, LogManager};
use ottla_record::{AppendOrigin, BATCH_OVERHEAD, BatchBuilder, Compression, InvalidBatch, ValidationRules};

use super::machine::EncodedRecord;
use super::state_log::{CommitFailure, Committed, LoadError, StateLog};
use crate::partition::Partition;
use crate::validation;

/// Batches are compressed like this before the topic's own configuration has its say.
pub(crate) struct PartitionLog {
    logs: LogManager,
    partition: Arc<Partition>,
    compression: Compression,
}

impl PartitionLog {
    pub(crate) fn new(logs: LogManager, partition: Arc<Partition>, compression: Compression) -> PartitionLog {
        PartitionLog { logs, partition, compression }
    }
}

impl StateLog for PartitionLog {
    fn append(&self, records: &[EncodedRecord], now_ms: i64) -> Result<i64, CommitFailure> {
        if self.partition.failed().is_some() {
            return Err(CommitFailure::Lost);
        }
        let mut batch = BatchBuilder::new(self.compression);
        for (key, value) in records {
            batch.append(now_ms, Some(key), value.as_deref(), &[]).map_err(|_| CommitFailure::TooLarge)?;
        }
        let batch = batch.finish().map_err(|_| CommitFailure::TooLarge)?;
        let rules = ValidationRules {
            origin: AppendOrigin::Coordinator,
            ..validation::rules(&self.partition.config(), now_ms)
        };
        let batch = ottla_record::validate(&batch, &rules).map_err(|invalid| self.refused(&invalid))?;
        match self.partition.append(&self.logs, &batch, AppendOrigin::Coordinator, now_ms) {
            Ok(appended) => Ok(appended.last_offset + 1),
            Err(error) => {
                tracing::error!(partition = %self.partition.topic_partition(), %error, "a coordinator's append failed");
                Err(match error {
                    AppendError::NoSpace(_) => CommitFailure::Unavailable,
                    AppendError::LargerThanSegment { .. } => CommitFailure::TooLarge,
                    _ => CommitFailure::Lost,
                })
            }
        }
    }

    fn max_batch_bytes(&self) -> usize {
        let bytes = usize::try_from(self.partition.config().max_message_bytes).unwrap_or(0);
        // What cannot be compressed grows a little.
        bytes.saturating_sub(BATCH_OVERHEAD) / 16 * 15
    }

    fn committed(&self, end_offset: i64) -> Option<Committed> {
        self.partition.acknowledgement(end_offset)
    }

    fn offsets(&self) -> Range<i64> {
        let log = self.partition.log();
        log.log_start_offset()..log.log_end_offset()
    }

    fn read(&self, offset: i64, max_bytes: usize) -> Result<Bytes, LoadError> {
        let log = self.partition.log();
        Ok(log.read(offset, max_bytes, true, log.log_end_offset())?.to_bytes()?)
    }
}

impl PartitionLog {
    fn refused(&self, invalid: &InvalidBatch) -> CommitFailure {
        tracing::warn!(partition = %self.partition.topic_partition(), error = %invalid, "a coordinator's batch is refused");
        CommitFailure::TooLarge
    }
}
