//! What a partition has to have synced, and what became of it.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_rt::{DiskFile, OpenMode};
use ottla_types::TopicPartition;

use super::{PartitionLog, is_no_space, log_path};
use crate::directory::Directory;
use crate::error::FlushFailed;
use crate::identity;
use crate::names;
use crate::planted::Planted;
use crate::segment::Segment;

/// What is not durable yet. Behind a lock of its own: an append takes it only for the first bytes after a flush.
pub(super) struct FlushState {
    dirty: Vec<Arc<Segment>>,
    /// Indexes of segments closed since: once the recovery point is past them, nobody looks at them any more.
    index_files: Vec<Arc<dyn DiskFile>>,
    /// Segments with new entries in their transaction indexes: durable together with their markers.
    dirty_transactions: Vec<Arc<Segment>>,
    names_dirty: bool,
    /// Counts truncations: a flush that began before one proves nothing about what came after.
    generation: u64,
    last_flush_ms: i64,
}

/// One partition's part in a flush round.
pub(crate) struct FlushJob {
    pub(crate) log: Arc<PartitionLog>,
    /// Where its files are: the partition may be moved before they are synced.
    directory: Arc<Directory>,
    segments: Vec<Arc<Segment>>,
    pub(crate) files: Vec<Arc<dyn DiskFile>>,
    pub(crate) sync_directory: bool,
    /// The partition is new: the log directory that names it is to be synced too.
    pub(crate) creation: bool,
    target_offset: i64,
    /// What it makes durable, about.
    pub(crate) bytes: u64,
    generation: u64,
}

impl FlushState {
    /// `dirty` are pinned.
    pub(super) fn new(now_ms: i64, names_dirty: bool, dirty: Vec<Arc<Segment>>) -> FlushState {
        for segment in &dirty {
            segment.dirty.store(true, Ordering::SeqCst);
        }
        FlushState {
            dirty,
            index_files: Vec::new(),
            dirty_transactions: Vec::new(),
            names_dirty,
            generation: 0,
            last_flush_ms: now_ms,
        }
    }

    pub(super) fn mark_dirty(&mut self, segment: &Arc<Segment>, file: &Arc<dyn DiskFile>) {
        if !segment.dirty.swap(true, Ordering::SeqCst) {
            segment.pin(file);
            self.dirty.push(Arc::clone(segment));
        }
    }

    pub(super) fn note_roll(&mut self, created: &Arc<Segment>, index_files: Vec<Arc<dyn DiskFile>>) {
        self.names_dirty |= !created.name_durable.load(Ordering::SeqCst);
        self.index_files.extend(index_files);
    }

    /// A transaction index got an entry; the first since the last flush, if `is_first`.
    pub(super) fn note_aborted(&mut self, segment: &Arc<Segment>, is_first: bool, is_new_name: bool) {
        if is_first {
            self.dirty_transactions.push(Arc::clone(segment));
        }
        self.names_dirty |= is_new_name;
    }

    /// The log was cut and the cut is durable: nothing before it is pending.
    pub(super) fn note_truncation(&mut self) {
        self.generation += 1;
        for segment in self.dirty.drain(..) {
            segment.dirty.store(false, Ordering::SeqCst);
            segment.unpin();
        }
        self.index_files.clear();
        self.dirty_transactions.clear();
        self.names_dirty = false;
    }
}

impl PartitionLog {
    /// Resolves once everything below `offset` is durable.
    pub async fn wait_flushed(&self, offset: i64) -> Result<(), FlushFailed> {
        loop {
            let progress = self.flush_progress.notified();
            if self.flushed_offset() >= offset {
                return Ok(());
            }
            if self.is_deleted() {
                return Err(FlushFailed::Deleted(self.topic_partition.clone()));
            }
            if self.is_offline() {
                return Err(FlushFailed::DirectoryOffline(self.topic_partition.clone()));
            }
            if self.log_end_offset() < offset {
                return Err(FlushFailed::Truncated(self.topic_partition.clone()));
            }
            progress.await;
        }
    }

    /// Marks the partition as queued for a flush. Whether it was not yet.
    pub(crate) fn queue_flush(&self) -> bool {
        !self.flush_queued.swap(true, Ordering::AcqRel)
    }

    /// Whether `flush.ms` has passed with something unflushed.
    pub(crate) fn is_flush_overdue(&self, now_ms: i64) -> bool {
        let flush_ms = self.config().flush_ms;
        self.flushed_offset() < self.log_end_offset()
            && now_ms.saturating_sub(self.flush_state.lock().last_flush_ms) >= flush_ms
    }

    /// Takes everything appended so far into a round of this directory. `None` when all is durable, or when the partition was
    /// moved to another one since it was queued: then it is queued there.
    pub(crate) fn begin_flush(self: &Arc<Self>, directory: &Arc<Directory>) -> Option<FlushJob> {
        // Reads what it replaces: whoever found the mark set has appended before the offset is taken below.
        self.flush_queued.swap(false, Ordering::AcqRel);
        if self.is_deleted() || self.is_offline() {
            self.flush_progress.notify_waiters();
            return None;
        }
        let mut state = self.flush_state.lock();
        let current = self.directory();
        if !Arc::ptr_eq(&current, directory) {
            drop(state);
            current.flushes.request(self);
            return None;
        }
        // First the offset, then the marks: what is below the offset is in a file whose mark is or was set.
        let target_offset = self.log_end_offset();
        let creation = !self.is_creation_durable();
        if creation && target_offset <= self.flushed_offset() {
            return None;
        }
        let segments = std::mem::take(&mut state.dirty);
        let mut files = std::mem::take(&mut state.index_files);
        let indexed = std::mem::take(&mut state.dirty_transactions);
        files.extend(indexed.iter().filter_map(|segment| segment.transactions.take_unsynced()));
        let shared = &self.shared;
        let sync_directory = std::mem::take(&mut state.names_dirty) && !shared.has_planted(Planted::RollNotNamed);
        if segments.is_empty() && files.is_empty() && !sync_directory && target_offset <= self.flushed_offset() {
            return None;
        }
        for segment in &segments {
            segment.dirty.store(false, Ordering::SeqCst);
            // Pinned since it was marked, so this opens nothing.
            match segment.file() {
                Ok(file) => files.push(file),
                Err(error) => {
                    drop(state);
                    self.storage_failed("open", &log_path(segment), &error);
                    self.flush_progress.notify_waiters();
                    return None;
                }
            }
        }
        let bytes = self.unflushed_bytes.swap(0, Ordering::Relaxed);
        let generation = state.generation;
        drop(state);
        if creation {
            match self.write_partition_metadata() {
                Ok(file) => files.extend(file),
                Err(error) => {
                    self.storage_failed("write", &self.path().join(names::PARTITION_METADATA), &error);
                    self.flush_progress.notify_waiters();
                    return None;
                }
            }
        }
        if shared.has_planted(Planted::FlushedBeforeSync) {
            self.flushed_offset.fetch_max(target_offset, Ordering::AcqRel);
            self.flush_progress.notify_waiters();
        }
        let log = Arc::clone(self);
        let sync_directory = sync_directory || creation;
        let directory = current;
        Some(FlushJob { log, directory, segments, files, sync_directory, creation, target_offset, bytes, generation })
    }

    /// For a change that is durable by itself: a flush does the same side by side with others. The partition's own
    /// directory was synced.
    pub(super) fn make_creation_durable(&self) -> io::Result<()> {
        if self.is_creation_durable() {
            return Ok(());
        }
        if let Some(file) = self.write_partition_metadata()? {
            file.sync_data()?;
        }
        self.shared.world.disk.sync_dir(&self.directory().path)?;
        self.creation_durable.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes the topic's id once more, so that a failed sync of it is told to this file. `None` for a topic from before
    /// there were ids.
    fn write_partition_metadata(&self) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let Some(topic_id) = self.topic_id else { return Ok(None) };
        let disk = &*self.shared.world.disk;
        let file = disk.open(&self.path().join(names::PARTITION_METADATA), OpenMode::CreateOrOpen)?;
        let text = identity::format_partition_metadata(topic_id);
        match file.write_all_at(&[IoSlice::new(text.as_bytes())], 0) {
            // The creation has written the same: a full disk takes nothing away.
            Err(error) if !is_no_space(&error) => Err(error),
            _ => Ok(Some(file)),
        }
    }
}

impl FlushJob {
    /// From where on this job makes the log durable.
    pub(crate) fn in_doubt(&self) -> (TopicPartition, i64) {
        (self.log.topic_partition.clone(), self.log.flushed_offset())
    }

    /// Everything of the job was synced. Returns the offset the listener is told.
    pub(crate) fn succeeded(self, now_ms: i64) -> Option<i64> {
        let log = &self.log;
        if self.creation {
            log.creation_durable.store(true, Ordering::Release);
        }
        let mut state = log.flush_state.lock();
        state.last_flush_ms = now_ms;
        for segment in &self.segments {
            if !segment.dirty.load(Ordering::SeqCst) {
                segment.unpin();
            }
        }
        if state.generation != self.generation {
            drop(state);
            log.flush_progress.notify_waiters();
            return None;
        }
        assert!(self.target_offset <= log.log_end_offset(), "invariant: only a truncation moves the end back");
        if self.sync_directory {
            for segment in &log.view.read().segments {
                if segment.base_offset < self.target_offset {
                    segment.name_durable.store(true, Ordering::SeqCst);
                }
            }
        }
        log.flushed_offset.fetch_max(self.target_offset, Ordering::AcqRel);
        drop(state);
        log.flush_progress.notify_waiters();
        Some(log.flushed_offset())
    }

    /// Something of the job was not synced: nobody may try again. The directory goes offline.
    pub(crate) fn failed(self, error: &io::Error) {
        let shared = &self.log.shared;
        if shared.has_planted(Planted::SyncRetried) && self.files.iter().all(|file| file.sync_data().is_ok()) {
            let now_ms = shared.world.clock.wall_ms();
            self.succeeded(now_ms);
            return;
        }
        if !self.log.is_deleted() {
            self.directory.fail("sync", &self.log.path(), error);
        }
        self.log.flush_progress.notify_waiters();
    }
}
