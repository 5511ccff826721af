//! Changes that are not appends: cutting the end, moving the start, rolls on demand, retention.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_config::LogConfig;

use super::{PartitionLog, Writer, is_no_space};
use crate::error::{AppendError, ChangeError};
use crate::names;
use crate::planted::Planted;
use crate::producers::Producers;
use crate::recovery;
use crate::segment::{Located, Segment, SegmentError};

impl PartitionLog {
    /// Cuts the log so that it ends at `offset`, or at the base of the batch that offset is in. Durable when it returns:
    /// it blocks for the disk, and appends wait for it. What is above was not acknowledged, or is lost by the rules of
    /// replication.
    pub fn truncate_to(&self, offset: i64) -> Result<(), ChangeError> {
        let _guard = self.guard("truncate_to");
        let _structure = self.structure.lock();
        let mut writer = self.writer.lock();
        self.check_changeable()?;
        let (log_start_offset, log_end_offset) = (self.log_start_offset(), self.log_end_offset());
        if offset >= log_end_offset {
            return Ok(());
        }
        if offset < log_start_offset {
            return Err(self.change_out_of_range(offset));
        }
        let _out_of_journal = self.leave_journal()?;
        let segments = self.segments();
        let kept = segments.partition_point(|segment| segment.base_offset <= offset).max(1);
        let active = &segments[kept - 1];
        let cut = active.locate(offset, active.size()).map_err(|error| self.change_failed("truncate", error))?;
        // A batch is cut as a whole, but for the one the log starts in.
        let offset = cut.as_ref().map_or(offset, |cut| cut.header.base_offset.min(offset));
        if offset < log_start_offset {
            return Err(self.change_out_of_range(offset));
        }
        self.truncate_locked(&mut writer, &segments, kept, cut, offset)
            .map_err(|error| self.change_failed("truncate", error))
    }

    fn truncate_locked(
        &self,
        writer: &mut Writer,
        segments: &[Arc<Segment>],
        kept: usize,
        cut: Option<Located>,
        offset: i64,
    ) -> Result<(), SegmentError> {
        let config = self.config();
        let active = Arc::clone(&segments[kept - 1]);
        self.truncations.fetch_add(1, Ordering::AcqRel);
        // What will be written above has not been cleaned.
        self.directory().cleaned.lower(&self.shared, &self.topic_partition, offset)?;
        // From here to the next checkpoint what lies above must not be taken for durable.
        self.directory().lower_recovery_point(&self.topic_partition, offset, || {
            let mut view = self.view.write();
            let freed = view.hot.clear();
            self.shared.hot_budget.release(freed);
            view.segments.truncate(kept);
            self.log_end_offset.store(offset, Ordering::Release);
            self.flushed_offset.fetch_min(offset, Ordering::AcqRel);
            self.synced_offset.fetch_min(offset, Ordering::AcqRel);
            self.high_watermark.fetch_min(offset, Ordering::AcqRel);
            drop(view);
            self.flush_state.lock().note_truncation();
        })?;
        writer.active = Arc::clone(&active);
        let doubt = self.directory().begin_sync([(self.topic_partition.clone(), self.flushed_offset())])?;

        // Newest first: what a crash leaves is a log that ends somewhere, not one with a hole.
        for segment in segments[kept..].iter().rev() {
            segment.remove()?;
        }
        if let Some(cut) = cut {
            let interval_bytes = config.index_interval_bytes.max(0) as u64;
            active.truncate(cut.position, offset, interval_bytes)?;
        }
        let synced = !self.shared.has_planted(Planted::TruncationNotSynced);
        if synced {
            active.file()?.sync_data()?;
        }
        // Snapshots of what is cut go before the directory is synced: one that came back would vouch for batches that are
        // no longer there.
        let disk = &*self.shared.world.disk;
        let snapshots = recovery::snapshot_offsets(&disk.read_dir(&self.path())?);
        recovery::remove_snapshots_above(disk, &self.path(), &snapshots, offset)?;
        if synced {
            disk.sync_dir(&self.path())?;
        }
        active.name_durable.store(true, Ordering::SeqCst);
        self.make_creation_durable()?;

        {
            let mut epochs = self.epochs.write();
            let changed = epochs.epochs.truncate_from_end(offset);
            epochs.note_change(changed);
        }
        self.checkpoint_epochs()?;
        self.reload_producers(writer, offset)?;
        self.note_transactions_cut(writer, offset);
        for segment in &segments[..kept] {
            segment.sync_transactions()?;
        }
        // The cut and what is below it was synced, but for closed segments a round had still to come to.
        self.requeue_unsynced(&segments[..kept - 1])?;
        self.directory().end_sync(doubt);
        Ok(())
    }

    /// The producers as of `offset`, from the newest snapshot at or below it.
    fn reload_producers(&self, writer: &mut Writer, offset: i64) -> Result<(), SegmentError> {
        let segments: Vec<Arc<Segment>> = self.segments();
        let disk = &*self.shared.world.disk;
        let snapshots = recovery::snapshot_offsets(&disk.read_dir(&self.path())?);
        let (producers, snapshot_offset): (Producers, i64) =
            recovery::rebuild_producers(disk, &self.path(), snapshots, &segments, self.log_start_offset(), offset)?;
        writer.producers = producers;
        writer.snapshot_offset = snapshot_offset;
        Ok(())
    }

    /// A truncation forgets what was pending; of that, closed segments stay in the log and are synced here and now.
    fn requeue_unsynced(&self, closed: &[Arc<Segment>]) -> io::Result<()> {
        let flushed_offset = self.flushed_offset();
        let first = closed.partition_point(|segment| segment.base_offset <= flushed_offset).saturating_sub(1);
        for segment in closed.iter().skip(first) {
            segment.file()?.sync_data()?;
        }
        self.flushed_offset.store(self.log_end_offset(), Ordering::Release);
        self.synced_offset.store(self.log_end_offset(), Ordering::Release);
        self.flush_progress.notify_waiters();
        Ok(())
    }

    /// Moves the log start offset up, as DeleteRecords asks for. It lasts once [`crate::LogManager::delete_records`] has
    /// made it durable.
    pub fn advance_log_start_offset(&self, offset: i64) -> Result<i64, ChangeError> {
        let _guard = self.guard("advance_log_start_offset");
        let _writer = self.writer.lock();
        self.check_changeable()?;
        if offset > self.flushed_offset() {
            return Err(self.change_out_of_range(offset));
        }
        self.log_start_offset.fetch_max(offset, Ordering::AcqRel);
        let mut epochs = self.epochs.write();
        let changed = epochs.epochs.truncate_from_start(self.log_start_offset());
        epochs.note_change(changed);
        Ok(self.log_start_offset())
    }

    /// Begins a new segment now, unless the active one is empty.
    pub fn roll(&self) -> Result<(), AppendError> {
        let _guard = self.guard("roll");
        let mut writer = self.writer.lock();
        let config = self.config();
        self.roll_active(&mut writer, &config)
    }

    fn roll_active(&self, writer: &mut Writer, config: &LogConfig) -> Result<(), AppendError> {
        if writer.active.size() == 0 {
            return Ok(());
        }
        self.roll_locked(writer, config, self.log_end_offset())
    }

    /// Decides what retention takes, and moves the log start offset above it. The files stay until
    /// [`PartitionLog::remove_expired_segments`]: first the new start has to be durable, or a crash between two removals
    /// would leave a hole.
    pub(crate) fn expire_segments(&self, now_ms: i64) -> Result<bool, ChangeError> {
        let _guard = self.guard("expire_segments");
        let mut writer = self.writer.lock();
        self.check_changeable()?;
        let config = self.config();
        let segments = self.segments();
        let mut expired = 0;
        if config.cleanup_policy.delete {
            expired = expired_by_age(&config, &segments, now_ms)
                .map_err(|error| self.change_failed("read", error))?
                .max(expired_by_size(&config, &segments));
        }
        // What is not replicated and durable stays, however old.
        let bound = self.high_watermark().min(self.flushed_offset());
        let end_of = |index: usize| segments.get(index + 1).map_or(self.log_end_offset(), |next| next.base_offset);
        let wanted = expired;
        let expired = (0..wanted).take_while(|index| end_of(*index) <= bound).count();
        if expired < wanted
            && self.flushed_offset() < self.log_end_offset()
            && let Some(itself) = self.itself.upgrade()
        {
            // With page-cache durability nothing else may ever flush it.
            self.directory().flushes.request(&itself);
        }
        if expired == segments.len() && segments.last().is_some_and(|active| active.size() > 0) {
            // Without a new segment the old one could not go, and no room would be made.
            let disk = &*self.shared.world.disk;
            let is_no_space = |error: &AppendError| matches!(error, AppendError::NoSpace(_));
            let rolled = self.directory().reserve.lend(disk, is_no_space, || self.roll_active(&mut writer, &config));
            rolled.map_err(|error| self.roll_failed(error))?;
        }
        // The active segment is never taken: after a roll it is the empty one.
        let expired = expired.min(self.segments().len() - 1);
        if expired > 0 {
            let start = self.segments()[expired].base_offset;
            self.log_start_offset.fetch_max(start, Ordering::AcqRel);
            let mut epochs = self.epochs.write();
            let changed = epochs.epochs.truncate_from_start(self.log_start_offset());
            epochs.note_change(changed);
        }
        Ok(self.has_segments_below_start())
    }

    fn has_segments_below_start(&self) -> bool {
        let start = self.log_start_offset();
        self.view.read().segments.get(1).is_some_and(|second| second.base_offset <= start)
    }

    /// Takes the segments below the log start offset out of the log and renames their files; returns these, to be
    /// removed after `file.delete.delay.ms`. The log start offset is in the checkpoint by now.
    pub(crate) fn remove_expired_segments(&self) -> Result<Vec<PathBuf>, ChangeError> {
        let _guard = self.guard("remove_expired_segments");
        let _structure = self.structure.lock();
        let _writer = self.writer.lock();
        self.check_changeable()?;
        let removed = self.take_expired();
        let mut files = Vec::new();
        for segment in &removed {
            match segment.mark_deleted() {
                Ok(renamed) => files.extend(renamed),
                Err(error) => return Err(self.change_failed("rename", error.into())),
            }
        }
        Ok(files)
    }

    /// The same with the disk full: the new start cannot be written down, so the files go one segment after the other,
    /// each durably before the next.
    pub(crate) fn remove_expired_segments_now(&self) -> Result<(), ChangeError> {
        let _guard = self.guard("remove_expired_segments_now");
        let _structure = self.structure.lock();
        let _writer = self.writer.lock();
        self.check_changeable()?;
        let disk = &*self.shared.world.disk;
        for segment in self.take_expired() {
            let removed = segment.remove().and_then(|()| disk.sync_dir(&self.path()));
            removed.map_err(|error| self.change_failed("remove", error.into()))?;
        }
        Ok(())
    }

    fn take_expired(&self) -> Vec<Arc<Segment>> {
        let start = self.log_start_offset();
        let mut view = self.view.write();
        let count = view.segments.partition_point(|segment| segment.base_offset <= start).saturating_sub(1);
        let removed: Vec<Arc<Segment>> = view.segments.drain(..count).collect();
        drop(view);
        self.flush_state.lock().forget(&removed);
        if count > 0 {
            tracing::info!(
                topic_partition = %self.topic_partition, segments = count, log_start_offset = start, "segments deleted"
            );
        }
        removed
    }

    fn check_changeable(&self) -> Result<(), ChangeError> {
        if self.is_deleted() {
            return Err(ChangeError::Deleted(self.topic_partition.clone()));
        }
        if self.is_offline() {
            return Err(ChangeError::DirectoryOffline(self.topic_partition.clone()));
        }
        Ok(())
    }

    fn change_out_of_range(&self, offset: i64) -> ChangeError {
        ChangeError::OffsetOutOfRange {
            topic_partition: self.topic_partition.clone(),
            offset,
            log_start_offset: self.log_start_offset(),
            log_end_offset: self.log_end_offset(),
        }
    }

    /// A change that began and did not end leaves the files in doubt.
    fn change_failed(&self, operation: &'static str, error: SegmentError) -> ChangeError {
        let error = match error {
            SegmentError::Io(error) => error,
            SegmentError::Damaged { position, reason } => {
                tracing::error!(topic_partition = %self.topic_partition, position, %reason, "log is damaged");
                io::ErrorKind::InvalidData.into()
            }
        };
        self.storage_failed(operation, &self.path(), &error);
        if is_no_space(&error) {
            return ChangeError::NoSpace(self.topic_partition.clone());
        }
        ChangeError::DirectoryOffline(self.topic_partition.clone())
    }

    fn roll_failed(&self, error: AppendError) -> ChangeError {
        match error {
            AppendError::NoSpace(topic_partition) => ChangeError::NoSpace(topic_partition),
            _ => ChangeError::DirectoryOffline(self.topic_partition.clone()),
        }
    }

    /// Finishes the log for a clean stop: indexes complete, a producer snapshot at the end, epochs in their file.
    pub(crate) fn prepare_shutdown(&self) -> io::Result<()> {
        let active = Arc::clone(&self.writer.lock().active);
        self.directory().with_reserve(|| active.close_indexes())?;
        self.snapshot_producers(0)?;
        self.checkpoint_epochs()
    }

    /// What is not wanted at `path` any more: the snapshots below the log start.
    pub(crate) fn remove_snapshots_below_start(&self) -> io::Result<()> {
        let disk = &*self.shared.world.disk;
        let first = self.view.read().segments.first().map_or(0, |segment| segment.base_offset);
        for entry in disk.read_dir(&self.path())? {
            if names::parse_offset_file(&entry.name, names::SNAPSHOT_SUFFIX).is_some_and(|offset| offset < first) {
                crate::segment::remove_if_there(&self.shared, &self.path().join(&entry.name))?;
            }
        }
        Ok(())
    }
}

/// How many of the oldest segments the log can lose and still have `retention.bytes`.
fn expired_by_size(config: &LogConfig, segments: &[Arc<Segment>]) -> usize {
    if config.retention_bytes < 0 {
        return 0;
    }
    let size: u64 = segments.iter().map(|segment| segment.size()).sum();
    let mut excess = size.saturating_sub(config.retention_bytes as u64);
    let mut count = 0;
    for segment in segments {
        let Some(rest) = excess.checked_sub(segment.size()).filter(|_| excess > 0) else { break };
        excess = rest;
        count += 1;
    }
    count
}

/// How many of the oldest segments are older than `retention.ms`.
fn expired_by_age(config: &LogConfig, segments: &[Arc<Segment>], now_ms: i64) -> Result<usize, SegmentError> {
    if config.retention_ms < 0 {
        return Ok(0);
    }
    for (index, segment) in segments.iter().enumerate() {
        if segment.size() == 0 {
            // Active, or emptied by the cleaner: then it goes with what follows.
            if index + 1 == segments.len() {
                return Ok(index);
            }
            continue;
        }
        if now_ms.saturating_sub(segment.youngest_timestamp()?) <= config.retention_ms {
            return Ok(index);
        }
    }
    Ok(segments.len())
}
