//! Transactions in a partition's log: the last stable offset, reads of committed records, and markers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_record::{AppendOrigin, BatchHeader, ControlMarker, ControlType, EndTransactionMarker, control_marker};
use ottla_types::LeaderEpoch;

use super::append::BatchToAppend;
use super::read::LogRead;
use super::{Appended, PartitionLog, Writer, is_no_space};
use crate::error::{AppendError, ReadError};
use crate::names;
use crate::segment::Segment;
use crate::transactions::{
    AbortedTransaction, CompletedTransaction, SearchError, TransactionError, TransactionVersion, UnstableOffsets,
};

/// How a transaction ends in a partition, as its coordinator decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransaction {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub coordinator_epoch: i32,
    pub result: ControlType,
    /// From version 2 on the producer's epoch has to be greater than that of the transaction.
    pub transaction_version: TransactionVersion,
}

/// What a reader of committed records gets: records of aborted transactions are among them, and are named.
pub struct CommittedRead {
    pub read: LogRead,
    /// In the order of their markers.
    pub aborted: Vec<AbortedTransaction>,
}

impl PartitionLog {
    /// Everything below belongs to no transaction or to one whose end is replicated; never above the high watermark.
    pub fn last_stable_offset(&self) -> i64 {
        // First the high watermark: what it covers is in the other by then.
        let high_watermark = self.high_watermark();
        let first_unstable_offset = self.first_unstable_offset.load(Ordering::Acquire);
        // What the log has lost of an open transaction is nobody's to wait for.
        high_watermark.min(first_unstable_offset.max(self.log_start_offset()))
    }

    /// The first offset of a transaction that is open, or whose marker the high watermark has not passed.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        let offset = self.first_unstable_offset.load(Ordering::Acquire);
        (offset != i64::MAX).then_some(offset)
    }

    /// Ends a transaction of this producer, as the leader; one that wrote nothing here too. What it was is stable once the
    /// high watermark has passed the marker.
    pub fn append_end_transaction_marker(
        &self,
        end: &EndTransaction,
        leader_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let marker = ControlMarker {
            control_type: end.result,
            producer_id: end.producer_id,
            producer_epoch: end.producer_epoch,
            coordinator_epoch: end.coordinator_epoch,
            timestamp: now_ms,
            base_offset: 0,
            partition_leader_epoch: leader_epoch.0,
        };
        let bytes = control_marker(&marker).expect("invariant: a marker is one small record");
        let header = BatchHeader::parse(&bytes).expect("invariant: what was built can be read");
        let batch = BatchToAppend { bytes: &bytes, header: &header, origin: AppendOrigin::Coordinator };
        self.append_with_version(batch, leader_epoch, now_ms, end.transaction_version)
    }

    /// Reads like [`PartitionLog::read`], up to `last_stable_offset`, and tells which transactions among the records were
    /// aborted. May block for the disk.
    pub fn read_committed(
        &self,
        offset: i64,
        max_bytes: usize,
        min_one_batch: bool,
        last_stable_offset: i64,
    ) -> Result<CommittedRead, ReadError> {
        self.retry_replaced(|| {
            loop {
                let segments = self.segments_with_aborted(offset);
                let has_aborted = !segments.is_empty();
                let read = self.read_range(offset, max_bytes, min_one_batch, last_stable_offset)?;
                if read.bytes == 0 || !has_aborted {
                    return Ok(CommittedRead { read, aborted: Vec::new() });
                }
                let aborted = self.collect_aborted(&segments, offset, read.end_offset)?;
                // Indexes belong to segments. The cleaner may have replaced these meanwhile, and then they may not be those
                // of what was read.
                let now = self.segments_with_aborted(offset);
                let same = segments.iter().zip(&now).all(|(before, now)| Arc::ptr_eq(before, now));
                if same && now.len() >= segments.len() {
                    return Ok(CommittedRead { read, aborted });
                }
            }
        })
    }

    /// The same where nothing was aborted, if nothing has to be waited for: see [`PartitionLog::read_resident`].
    pub fn read_committed_resident(
        &self,
        offset: i64,
        max_bytes: usize,
        min_one_batch: bool,
        last_stable_offset: i64,
    ) -> Option<CommittedRead> {
        if !self.segments_with_aborted(offset).is_empty() {
            return None;
        }
        let read = self.read_resident(offset, max_bytes, min_one_batch, last_stable_offset)?;
        Some(CommittedRead { read, aborted: Vec::new() })
    }

    /// The aborted transactions with records or a marker in this range, in the order of their markers. Blocks for the disk.
    pub fn aborted_transactions(&self, from: i64, upper_bound: i64) -> Result<Vec<AbortedTransaction>, ReadError> {
        self.check_readable()?;
        self.retry_replaced(|| self.collect_aborted(&self.segments_with_aborted(from), from, upper_bound))
    }

    fn collect_aborted(
        &self,
        segments: &[Arc<Segment>],
        from: i64,
        upper_bound: i64,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let mut found = Vec::new();
        for segment in segments {
            match segment.collect_aborted(from, upper_bound, &mut found) {
                Ok(true) => break,
                Ok(false) => {}
                Err(SearchError::Io(error)) => return Err(self.read_failed(segment, from, error.into())),
                Err(SearchError::Invalid(reason)) => {
                    let path = segment.path(names::TRANSACTION_INDEX_SUFFIX);
                    tracing::error!(
                        topic_partition = %self.topic_partition, path = %path.display(), %reason,
                        "transaction index is damaged: it is rebuilt when the node starts"
                    );
                    let topic_partition = self.topic_partition.clone();
                    return Err(ReadError::DamagedTransactionIndex { topic_partition, path, reason });
                }
            }
        }
        Ok(found)
    }

    /// The segment with this offset and those after it, if any of them has a transaction that was aborted after it.
    fn segments_with_aborted(&self, offset: i64) -> Vec<Arc<Segment>> {
        if !self.has_aborted.load(Ordering::Acquire) {
            return Vec::new();
        }
        let view = self.view.read();
        let first = view.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1);
        let segments = &view.segments[first..];
        if segments.iter().any(|segment| segment.transactions.reaches(offset)) { segments.to_vec() } else { Vec::new() }
    }

    /// The marker of a batch that a leader is to append, if its producer and its coordinator may end a transaction.
    pub(super) fn check_marker(
        &self,
        writer: &Writer,
        batch: &BatchToAppend<'_>,
        version: TransactionVersion,
    ) -> Result<Option<EndTransactionMarker>, AppendError> {
        let header = batch.header;
        if !header.attributes.is_control() || !header.has_producer_id() {
            return Ok(None);
        }
        let Some(marker) = self.read_marker(batch.bytes)? else { return Ok(None) };
        writer
            .producers
            .check_marker_epoch(header, version)
            .map_err(|source| AppendError::Sequence { topic_partition: self.topic_partition.clone(), source })?;
        writer
            .producers
            .check_coordinator_epoch(header.producer_id, marker)
            .map_err(|source| self.transaction_refused(source))?;
        Ok(Some(marker))
    }

    pub(super) fn read_marker(&self, batch: &Bytes) -> Result<Option<EndTransactionMarker>, AppendError> {
        EndTransactionMarker::of_batch(batch).map_err(|source| self.transaction_refused(source.into()))
    }

    pub(super) fn transaction_refused(&self, source: TransactionError) -> AppendError {
        AppendError::Transaction { topic_partition: self.topic_partition.clone(), source }
    }

    /// Writes the index entry of an abort, and has it synced by the round that syncs its marker. When the disk is full, what
    /// was written of the batch is cut: the log does not go on without its index.
    pub(super) fn note_aborted(
        &self,
        segment: &Arc<Segment>,
        position: u64,
        aborted: &AbortedTransaction,
    ) -> Result<(), AppendError> {
        let path = segment.path(names::TRANSACTION_INDEX_SUFFIX);
        match segment.append_aborted(aborted) {
            Ok(appended) => {
                self.has_aborted.store(true, Ordering::Release);
                let mut state = self.flush_state.lock();
                state.note_aborted(segment, appended.is_first_unsynced, appended.is_new_name);
                Ok(())
            }
            Err(error) if is_no_space(&error) => {
                let cut = segment.file().and_then(|log| log.set_len(position));
                match cut {
                    Ok(()) => {
                        tracing::warn!(topic_partition = %self.topic_partition, %error, "append failed");
                        Err(AppendError::NoSpace(self.topic_partition.clone()))
                    }
                    Err(error) => {
                        self.storage_failed("truncate", &segment.path(names::LOG_SUFFIX), &error);
                        Err(AppendError::DirectoryOffline(self.topic_partition.clone()))
                    }
                }
            }
            Err(error) => {
                self.storage_failed("write index", &path, &error);
                Err(AppendError::DirectoryOffline(self.topic_partition.clone()))
            }
        }
    }

    /// A batch with a producer is about to be seen: what it opens or ends has to be known before.
    pub(super) fn note_transaction(
        &self,
        writer: &Writer,
        header: &BatchHeader,
        completed: Option<&CompletedTransaction>,
    ) {
        if header.attributes.is_transactional() || completed.is_some() {
            let first_undecided = writer.producers.first_undecided_offset();
            self.change_unstable(|unstable| unstable.handle_append(first_undecided, completed));
        }
    }

    /// The log was cut, and the producers are those of its new end.
    pub(super) fn note_transactions_cut(&self, writer: &Writer, end_offset: i64) {
        let first_undecided = writer.producers.first_undecided_offset();
        self.change_unstable(|unstable| unstable.handle_truncation(end_offset, first_undecided));
    }

    pub(super) fn pass_markers(&self, high_watermark: i64) {
        if self.first_unstable_offset.load(Ordering::Acquire) < high_watermark {
            self.change_unstable(|unstable| unstable.handle_high_watermark(high_watermark));
        }
    }

    fn change_unstable(&self, change: impl FnOnce(&mut UnstableOffsets)) {
        let mut unstable = self.unstable.lock();
        change(&mut unstable);
        let first = unstable.first_unstable_offset().unwrap_or(i64::MAX);
        self.first_unstable_offset.store(first, Ordering::Release);
    }
}
