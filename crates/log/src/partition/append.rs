//! Appending: sequence check, offsets and epoch, roll, one write, then everybody sees it.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_config::{Durability, LogConfig};
use ottla_record::{AppendOrigin, BatchHeader, EndTransactionMarker};
use ottla_rt::random_u64;
use ottla_types::{LeaderEpoch, TimestampType};

use super::{PartitionLog, Writer, is_no_space, log_path};
use crate::error::AppendError;
use crate::hot_tail::{PREFIX_BYTES, Place};
use crate::names;
use crate::producers::{SequenceCheck, format_snapshot};
use crate::segment::{RollLimits, Segment};
use crate::transactions::{CompletedTransaction, TransactionError, TransactionVersion};

/// A validated batch: exactly one, its CRC right, its header parsed from the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct BatchToAppend<'a> {
    pub bytes: &'a Bytes,
    pub header: &'a BatchHeader,
    pub origin: AppendOrigin,
}

/// A batch is in the log (and durable once the flushed offset has passed it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    pub last_offset: i64,
    /// The time the log stamped it with; -1 when the producer's times stay.
    pub log_append_time_ms: i64,
    pub log_start_offset: i64,
    /// It was there before: nothing was written.
    pub duplicate: bool,
    /// It may be acknowledged once `flushed_offset` has reached this. The caller asks for the flush
    /// (`LogManager::request_flush`), once for all partitions of a request.
    pub acknowledge_when_flushed: Option<i64>,
}

impl PartitionLog {
    /// Appends one batch as the leader: it gets the next offsets and this epoch.
    pub fn append(
        &self,
        batch: BatchToAppend<'_>,
        leader_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        self.append_with_version(batch, leader_epoch, now_ms, TransactionVersion::LEGACY)
    }

    /// The same for a batch that may be a marker of this version.
    pub(super) fn append_with_version(
        &self,
        batch: BatchToAppend<'_>,
        leader_epoch: LeaderEpoch,
        now_ms: i64,
        version: TransactionVersion,
    ) -> Result<Appended, AppendError> {
        let _guard = self.guard("append");
        assert_eq!(batch.bytes.len(), batch.header.size_in_bytes(), "invariant: a batch is appended alone and whole");
        let config = self.config();
        let mut writer = self.writer.lock();
        self.check_writable()?;
        if batch.origin == AppendOrigin::Client && batch.header.attributes.is_control() {
            return Err(self.transaction_refused(TransactionError::ControlBatchOfClient));
        }
        if let Some(duplicate) = self.check_producer(&writer, &batch, &config)? {
            return Ok(duplicate);
        }
        let marker = self.check_marker(&writer, &batch, version)?;
        self.check_epoch(leader_epoch.0)?;

        let base_offset = self.log_end_offset();
        let mut header = *batch.header;
        header.base_offset = base_offset;
        header.partition_leader_epoch = leader_epoch.0;
        let appended = self.append_at(&mut writer, &config, batch.bytes, &header, marker, now_ms)?;
        drop(writer);
        self.admit_hot_chunk(appended.1);
        Ok(appended.0)
    }

    /// Appends batches of the leader as they are: their offsets and epochs stay. Batches that are in the log already
    /// are passed over. Returns the log end offset.
    pub fn append_as_follower(&self, batches: &[(Bytes, BatchHeader)], now_ms: i64) -> Result<i64, AppendError> {
        let _guard = self.guard("append_as_follower");
        let config = self.config();
        for (bytes, header) in batches {
            assert_eq!(bytes.len(), header.size_in_bytes(), "invariant: a batch is appended alone and whole");
            let mut writer = self.writer.lock();
            self.check_writable()?;
            let expected = self.log_end_offset();
            if header.next_offset() <= expected {
                continue;
            }
            // A compacted log of the leader has gaps, and they are replicated; what overlaps is not a batch of it.
            if header.base_offset < expected {
                return Err(AppendError::UnexpectedOffset {
                    topic_partition: self.topic_partition.clone(),
                    expected,
                    found: header.base_offset,
                });
            }
            self.check_epoch(header.partition_leader_epoch)?;
            let is_marker = header.attributes.is_control() && header.has_producer_id();
            let marker = if is_marker { self.read_marker(bytes)? } else { None };
            let (_, charge) = self.append_at(&mut writer, &config, bytes, header, marker, now_ms)?;
            drop(writer);
            self.admit_hot_chunk(charge);
        }
        Ok(self.log_end_offset())
    }

    fn check_writable(&self) -> Result<(), AppendError> {
        if self.is_deleted() {
            return Err(AppendError::Deleted(self.topic_partition.clone()));
        }
        if self.is_offline() || self.closed.load(Ordering::Acquire) {
            return Err(AppendError::DirectoryOffline(self.topic_partition.clone()));
        }
        if self.directory().reserve.is_spent() {
            // What room there is is for the bookkeeping.
            return Err(AppendError::NoSpace(self.topic_partition.clone()));
        }
        Ok(())
    }

    fn check_epoch(&self, epoch: i32) -> Result<(), AppendError> {
        match self.latest_epoch() {
            Some(latest) if epoch < latest => Err(AppendError::StaleLeaderEpoch {
                topic_partition: self.topic_partition.clone(),
                found: epoch,
                latest,
            }),
            _ => Ok(()),
        }
    }

    /// `Some` when the batch is in the log already.
    fn check_producer(
        &self,
        writer: &Writer,
        batch: &BatchToAppend<'_>,
        config: &LogConfig,
    ) -> Result<Option<Appended>, AppendError> {
        if !batch.header.has_producer_id() || batch.header.attributes.is_control() {
            return Ok(None);
        }
        let checked = match batch.origin {
            AppendOrigin::Client => writer.producers.check(batch.header),
            AppendOrigin::Coordinator => {
                writer.producers.check_epoch_only(batch.header).map(|()| SequenceCheck::InOrder)
            }
        };
        match checked {
            Ok(SequenceCheck::InOrder) => {
                let fits = writer.producers.check_transaction(batch.header);
                fits.map(|()| None).map_err(|source| self.transaction_refused(source))
            }
            Ok(SequenceCheck::Duplicate(known)) => Ok(Some(Appended {
                base_offset: known.base_offset(),
                last_offset: known.last_offset,
                log_append_time_ms: log_append_time_ms(batch.header, known.timestamp),
                log_start_offset: self.log_start_offset(),
                duplicate: true,
                acknowledge_when_flushed: self.flush_rule(config, known.last_offset + 1),
            })),
            Err(source) => Err(AppendError::Sequence { topic_partition: self.topic_partition.clone(), source }),
        }
    }

    fn append_at(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        bytes: &Bytes,
        header: &BatchHeader,
        marker: Option<EndTransactionMarker>,
        now_ms: i64,
    ) -> Result<(Appended, Option<crate::hot_tail::ChunkCharge>), AppendError> {
        let limit = config.segment_bytes.max(0) as usize;
        if bytes.len() > limit {
            return Err(AppendError::LargerThanSegment {
                topic_partition: self.topic_partition.clone(),
                size: bytes.len(),
                limit,
            });
        }
        if header.base_offset > i64::MAX - i64::from(header.last_offset_delta) - 1 {
            return Err(AppendError::OffsetsUsedUp(self.topic_partition.clone()));
        }
        let limits = roll_limits(config);
        if writer.active.should_roll(limits, bytes.len() as u64, header, now_ms) {
            self.roll_locked(writer, config, header.base_offset)?;
        }

        let mut prefix = [0; PREFIX_BYTES];
        prefix.copy_from_slice(&bytes[..PREFIX_BYTES]);
        ottla_record::patch_base_offset_and_epoch(&mut prefix, header.base_offset, header.partition_leader_epoch);
        let segment = Arc::clone(&writer.active);
        let position = segment.size();
        self.write(&segment, position, &[IoSlice::new(&prefix), IoSlice::new(&bytes[PREFIX_BYTES..])])?;

        let completed = writer.producers.completion(header, marker);
        if let Some(aborted) = completed.as_ref().and_then(CompletedTransaction::as_aborted) {
            self.note_aborted(&segment, position, &aborted)?;
        }
        if let Err(error) = segment.note_batch(position, header, config.index_interval_bytes.max(0) as u64) {
            // The entries stay pending and are written later; an index is a cache.
            if !is_no_space(&error) {
                self.storage_failed("write index", &segment.path(names::OFFSET_INDEX_SUFFIX), &error);
                return Err(AppendError::DirectoryOffline(self.topic_partition.clone()));
            }
        }
        writer.producers.replay(header, marker);
        self.note_transaction(writer, header, completed.as_ref());
        writer.bytes_since_snapshot += bytes.len() as u64;
        if header.partition_leader_epoch >= 0 {
            self.assign_epoch(header);
        }
        let charge = self.publish(&segment, position, prefix, bytes, header, now_ms);
        let appended = Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time_ms: log_append_time_ms(header, header.max_timestamp),
            log_start_offset: self.log_start_offset(),
            duplicate: false,
            acknowledge_when_flushed: self.flush_rule(config, header.next_offset()),
        };
        Ok((appended, charge))
    }

    /// Writes at the end of the segment; after an error the segment ends where it did, or the directory is offline.
    fn write(&self, segment: &Arc<Segment>, position: u64, slices: &[IoSlice<'_>]) -> Result<(), AppendError> {
        let path = || log_path(segment);
        let file = match segment.file() {
            Ok(file) => file,
            Err(error) => {
                self.storage_failed("open", &path(), &error);
                return Err(AppendError::DirectoryOffline(self.topic_partition.clone()));
            }
        };
        if let Err(error) = file.write_all_at(slices, position) {
            if is_no_space(&error) {
                match file.set_len(position) {
                    Ok(()) => {
                        self.directory().note_full();
                        tracing::warn!(topic_partition = %self.topic_partition, %error, "append failed");
                        return Err(AppendError::NoSpace(self.topic_partition.clone()));
                    }
                    Err(error) => self.storage_failed("truncate", &path(), &error),
                }
            } else {
                self.storage_failed("write", &path(), &error);
            }
            return Err(AppendError::DirectoryOffline(self.topic_partition.clone()));
        }
        // After the write: a flush that clears the mark before this sees these bytes in the file.
        if !segment.dirty.load(Ordering::SeqCst) {
            self.flush_state.lock().mark_dirty(segment, &file);
        }
        Ok(())
    }

    fn assign_epoch(&self, header: &BatchHeader) {
        let epoch = header.partition_leader_epoch;
        if self.epochs.read().epochs.latest().is_some_and(|latest| latest.epoch == epoch) {
            return;
        }
        let mut epochs = self.epochs.write();
        let changed = epochs.epochs.assign(epoch, header.base_offset);
        epochs.note_change(changed);
    }

    fn publish(
        &self,
        segment: &Segment,
        position: u64,
        prefix: [u8; PREFIX_BYTES],
        bytes: &Bytes,
        header: &BatchHeader,
        now_ms: i64,
    ) -> Option<crate::hot_tail::ChunkCharge> {
        let mut view = self.view.write();
        assert_eq!(segment.size(), position, "invariant: one writer");
        assert!(header.base_offset >= self.log_end_offset(), "invariant: offsets rise");
        segment.set_size(position + bytes.len() as u64);
        let place = Place { segment: segment.base_offset, position };
        let charge = view.hot.push(header.base_offset, header.next_offset(), place, prefix, bytes, now_ms);
        if let Some(charge) = charge {
            self.shared.hot_budget.charge(charge);
        }
        self.last_append_ms.store(now_ms, Ordering::Relaxed);
        self.unflushed_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.log_end_offset.store(header.next_offset(), Ordering::Release);
        charge
    }

    fn admit_hot_chunk(&self, charge: Option<crate::hot_tail::ChunkCharge>) {
        if let Some(charge) = charge {
            self.shared.hot_budget.admit(self.itself.clone(), charge);
        }
    }

    fn flush_rule(&self, config: &LogConfig, end_offset: i64) -> Option<i64> {
        match config.durability {
            Durability::Fsync => Some(end_offset),
            Durability::PageCache => {
                let unflushed = end_offset.saturating_sub(self.flushed_offset());
                (unflushed >= config.flush_messages).then_some(end_offset)
            }
        }
    }

    /// Closes the active segment and begins one at `base_offset`.
    pub(super) fn roll_locked(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        base_offset: i64,
    ) -> Result<(), AppendError> {
        let closed = Arc::clone(&writer.active);
        if closed.size() == 0 && closed.base_offset == base_offset {
            return Ok(());
        }
        assert!(base_offset > closed.base_offset, "invariant: segments rise");
        let shared = &self.shared;
        let jitter_ms = roll_jitter_ms(config, random_u64(&*shared.world.entropy));
        let created = self.begin_segment(&closed, writer, base_offset, jitter_ms);
        let (segment, index_files) = match created {
            Ok(created) => created,
            Err(error) if is_no_space(&error) => {
                self.directory().note_full();
                return Err(AppendError::NoSpace(self.topic_partition.clone()));
            }
            Err(error) => {
                self.storage_failed("roll", &self.path(), &error);
                return Err(AppendError::DirectoryOffline(self.topic_partition.clone()));
            }
        };
        let segment = Arc::new(segment);
        self.flush_state.lock().note_roll(&segment, index_files);
        self.view.write().segments.push(Arc::clone(&segment));
        writer.active = segment;
        // Closed segments do not wait for a durability rule: recovery relies on them.
        if let Some(itself) = self.itself.upgrade() {
            self.directory().flushes.request(&itself);
        }
        Ok(())
    }

    fn begin_segment(
        &self,
        closed: &Segment,
        writer: &mut Writer,
        base_offset: i64,
        jitter_ms: i64,
    ) -> io::Result<(Segment, Vec<Arc<dyn ottla_rt::DiskFile>>)> {
        let index_files = closed.close_indexes()?;
        // Kafka keeps a snapshot at every segment's base; the producers seen so far are those below it.
        if writer.snapshot_offset < base_offset {
            let previous = writer.snapshot_offset;
            self.write_snapshot(base_offset, &format_snapshot(writer.producers.entries()))?;
            if previous > closed.base_offset {
                let path = names::offset_file(&self.path(), previous, names::SNAPSHOT_SUFFIX);
                crate::segment::remove_if_there(&self.shared, &path)?;
            }
            writer.snapshot_offset = base_offset;
            writer.bytes_since_snapshot = 0;
        }
        if !self.is_creation_durable() {
            // Where a power loss left this segment without the first one, retention would seem to have been there.
            self.shared.world.disk.sync_dir(&self.path())?;
            self.make_creation_durable()?;
        }
        let segment = Segment::create(&self.shared, &self.path(), base_offset, jitter_ms)?;
        Ok((segment, index_files))
    }
}

pub(crate) fn roll_limits(config: &LogConfig) -> RollLimits {
    RollLimits {
        segment_bytes: config.segment_bytes.max(0) as u64,
        segment_ms: config.segment_ms,
        index_bytes: config.segment_index_bytes.max(0) as usize,
    }
}

/// A random part of `segment.jitter.ms`, so that partitions made together do not roll together.
pub(crate) fn roll_jitter_ms(config: &LogConfig, random: u64) -> i64 {
    let bound = config.segment_jitter_ms.min(config.segment_ms);
    if bound <= 0 { 0 } else { (random % bound as u64) as i64 }
}

fn log_append_time_ms(header: &BatchHeader, timestamp: i64) -> i64 {
    match header.attributes.timestamp_type() {
        TimestampType::LogAppendTime => timestamp,
        TimestampType::CreateTime => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_a_part_of_what_is_allowed() {
        let jitter = |segment_jitter_ms, segment_ms, random| {
            roll_jitter_ms(&LogConfig { segment_jitter_ms, segment_ms, ..LogConfig::default() }, random)
        };
        assert_eq!(jitter(0, 1000, 777), 0);
        assert_eq!(jitter(-1, 1000, 777), 0);
        assert_eq!([jitter(100, 1000, 42), jitter(100, 1000, 142), jitter(100, 1000, u64::MAX)], [42, 42, 15]);
        assert_eq!(jitter(i64::MAX, 10, 25), 5, "never more than the segment's time");
    }
}
