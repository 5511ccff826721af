//! What a partition has to have synced, and what became of it.
//!
//! Something is durable when its file was synced, or when the directory's journal holds it, synced. `flushed_offset` counts
//! both; `synced_offset`, which recovery starts from, only the former. Segments with bytes that only the journal has made
//! durable are *unsynced*: they stay open until their file is synced too.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_rt::{DiskFile, OpenMode};
use ottla_types::{TopicId, TopicPartition};

use super::{PartitionLog, is_no_space, log_path};
use crate::directory::Directory;
use crate::error::{ChangeError, FlushFailed};
use crate::identity;
use crate::journal::{LeaveError, MOST_BYTES_OF_A_PARTITION, Membership};
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
    unsynced: Vec<Unsynced>,
    /// Numbers the jobs that the journal took.
    journaled_jobs: u64,
    membership: Membership,
    /// Nothing goes into the journal now: the files are being changed otherwise.
    absent: bool,
    /// Counts these times: what was begun before the last one may not go there either.
    absences: u64,
    /// How far the active segment is durable: its base offset, and bytes. `None` when only a sync of its file would tell.
    durable_extent: Option<(i64, u64)>,
}

/// A segment with bytes that are durable by the journal only, and the last job that put some there.
#[derive(Clone)]
struct Unsynced {
    segment: Arc<Segment>,
    job: u64,
}

/// The appends of a job, where they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) segment_base_offset: i64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The first offset that is not durable.
    pub(crate) from_offset: i64,
}

/// One partition's part in a flush round.
pub(crate) struct FlushJob {
    pub(crate) log: Arc<PartitionLog>,
    /// Where its files are: the partition may be moved before they are synced.
    directory: Arc<Directory>,
    /// Each with its file, which stays open as long as the job lives.
    segments: Vec<(Arc<Segment>, Arc<dyn DiskFile>)>,
    index_files: Vec<Arc<dyn DiskFile>>,
    pub(crate) sync_directory: bool,
    /// The partition is new: the log directory that names it is to be synced too.
    pub(crate) creation: bool,
    target_offset: i64,
    /// What it makes durable, about.
    pub(crate) bytes: u64,
    generation: u64,
    absences: u64,
    /// Durable when the job is done.
    durable_extent: (i64, u64),
    /// What the journal may take; `None` when files have to be synced.
    small: Option<(TopicId, Extent)>,
    /// What a sync of files takes besides.
    unsynced: Vec<Unsynced>,
    /// So many files are synced for it, unless one of them could not be opened.
    added: io::Result<usize>,
}

/// A partition's part in emptying a journal file.
pub(crate) struct SettleJob {
    pub(crate) log: Arc<PartitionLog>,
    pub(crate) files: Vec<Arc<dyn DiskFile>>,
    unsynced: Vec<Unsynced>,
    durable_offset: i64,
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
            unsynced: Vec::new(),
            journaled_jobs: 0,
            membership: Membership::default(),
            absent: false,
            absences: 0,
            durable_extent: None,
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
        self.durable_extent = None;
        let unsynced = self.unsynced.drain(..).map(|unsynced| unsynced.segment);
        for segment in self.dirty.drain(..).chain(unsynced) {
            segment.dirty.store(false, Ordering::SeqCst);
            segment.unpin();
        }
        self.index_files.clear();
        self.dirty_transactions.clear();
        self.names_dirty = false;
    }

    /// Retention takes these segments: they are synced no more.
    pub(super) fn forget(&mut self, removed: &[Arc<Segment>]) {
        let is_removed = |segment: &Arc<Segment>| removed.iter().any(|removed| Arc::ptr_eq(removed, segment));
        self.unsynced.retain(|unsynced| !is_removed(&unsynced.segment));
    }

    fn is_unsynced(&self, segment: &Arc<Segment>) -> bool {
        self.unsynced.iter().any(|unsynced| Arc::ptr_eq(&unsynced.segment, segment))
    }

    /// The files of these segments were synced, after these jobs.
    fn note_synced(&mut self, synced: &[Unsynced]) {
        self.unsynced.retain(|unsynced| {
            !synced.iter().any(|synced| synced.job == unsynced.job && Arc::ptr_eq(&synced.segment, &unsynced.segment))
        });
        for synced in synced {
            self.unpin_if_clean(&synced.segment);
        }
    }

    fn unpin_if_clean(&self, segment: &Arc<Segment>) {
        if !segment.dirty.load(Ordering::SeqCst) && !self.is_unsynced(segment) {
            segment.unpin();
        }
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
        let (target_offset, active, size) = {
            let view = self.view.read();
            let active = view.segments.last().expect("invariant: a log has a segment");
            (self.log_end_offset(), Arc::clone(active), active.size())
        };
        let creation = !self.is_creation_durable();
        if creation && target_offset <= self.flushed_offset() {
            return None;
        }
        let dirty = std::mem::take(&mut state.dirty);
        let mut index_files = std::mem::take(&mut state.index_files);
        let indexed = std::mem::take(&mut state.dirty_transactions);
        index_files.extend(indexed.iter().filter_map(|segment| segment.transactions.take_unsynced()));
        let shared = &self.shared;
        let sync_directory = std::mem::take(&mut state.names_dirty) && !shared.has_planted(Planted::RollNotNamed);
        if dirty.is_empty() && index_files.is_empty() && !sync_directory && target_offset <= self.flushed_offset() {
            return None;
        }
        let only_the_active_one = index_files.is_empty()
            && !sync_directory
            && !creation
            && active.name_durable.load(Ordering::SeqCst)
            && matches!(&dirty[..], [segment] if Arc::ptr_eq(segment, &active))
            && state.unsynced.iter().all(|unsynced| Arc::ptr_eq(&unsynced.segment, &active));
        let small = if only_the_active_one { self.small_extent(&state, &active, size) } else { None };
        let mut segments = Vec::with_capacity(dirty.len());
        for segment in dirty {
            segment.dirty.store(false, Ordering::SeqCst);
            // Pinned since it was marked, so this opens nothing.
            match segment.file() {
                Ok(file) => segments.push((segment, file)),
                // Retention has taken it: a segment that a start owes to the disk may be all below the flushed offset.
                Err(_) if segment.is_gone() => {}
                Err(error) => {
                    drop(state);
                    self.storage_failed("open", &log_path(&segment), &error);
                    self.flush_progress.notify_waiters();
                    return None;
                }
            }
        }
        let bytes = self.unflushed_bytes.swap(0, Ordering::Relaxed);
        let (generation, absences) = (state.generation, state.absences);
        drop(state);
        if creation {
            match self.write_partition_metadata() {
                Ok(file) => index_files.extend(file),
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
        Some(FlushJob {
            log: Arc::clone(self),
            directory: current,
            segments,
            index_files,
            sync_directory: sync_directory || creation,
            creation,
            target_offset,
            bytes,
            generation,
            absences,
            durable_extent: (active.base_offset, size),
            small,
            unsynced: Vec::new(),
            added: Ok(0),
        })
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
        let path = self.path().join(names::PARTITION_METADATA);
        let text = identity::format_partition_metadata(topic_id);
        let file = self.directory().with_reserve(|| disk.open(&path, OpenMode::CreateOrOpen))?;
        match file.write_all_at(&[IoSlice::new(text.as_bytes())], 0) {
            // The creation has written the same: a full disk takes nothing away.
            Err(error) if !is_no_space(&error) => Err(error),
            _ => Ok(Some(file)),
        }
    }

    /// What was appended to the active segment, if that is all there is and little.
    fn small_extent(&self, state: &FlushState, active: &Segment, size: u64) -> Option<(TopicId, Extent)> {
        let topic_id = self.topic_id?;
        let from_offset = self.flushed_offset();
        let segment_base_offset = active.base_offset;
        let start = match state.durable_extent {
            Some((base_offset, bytes)) if base_offset == segment_base_offset => bytes,
            _ if from_offset == segment_base_offset => 0,
            _ => return None,
        };
        let is_small = size > start && size - start <= MOST_BYTES_OF_A_PARTITION;
        let extent = Extent { segment_base_offset, start, end: size, from_offset };
        (is_small && !state.absent).then_some((topic_id, extent))
    }

    /// What of this partition only the journal of this directory has made durable; `None` if nothing.
    pub(crate) fn begin_settling(self: &Arc<Self>, directory: &Arc<Directory>) -> io::Result<Option<SettleJob>> {
        let state = self.flush_state.lock();
        // One that was moved has left the journal it was in.
        if state.unsynced.is_empty() || self.is_deleted() || !self.is_in(directory) {
            return Ok(None);
        }
        let unsynced = state.unsynced.clone();
        // Below the flushed offset everything is in a file that was synced, or in one of these.
        let durable_offset = self.flushed_offset();
        let files: io::Result<Vec<_>> = unsynced.iter().map(|unsynced| unsynced.segment.file()).collect();
        let files = match files {
            Err(_) if self.is_deleted() => return Ok(None),
            files => files?,
        };
        let generation = state.generation;
        Ok(Some(SettleJob { log: Arc::clone(self), files, unsynced, durable_offset, generation }))
    }

    /// Takes the partition out of the journal, durably, and keeps it out as long as the guard lives. Whatever changes its
    /// files otherwise than by appending does this first, with the structure locked; retention need not. It blocks. Without
    /// space for it nothing has changed.
    pub(crate) fn leave_journal(&self) -> Result<OutOfJournal<'_>, ChangeError> {
        let (unsynced, membership) = {
            let mut state = self.flush_state.lock();
            state.absent = true;
            (state.unsynced.clone(), state.membership)
        };
        // From here on no job enters the journal: those that have are among the unsynced.
        let guard = OutOfJournal(self);
        if self.shared.has_planted(Planted::JournalNotLeft) {
            return Ok(guard);
        }
        let directory = self.directory();
        let journal = &directory.journal;
        if unsynced.is_empty() && !journal.has(membership) {
            self.flush_state.lock().membership = Membership::default();
            return Ok(guard);
        }
        let durable_offset = self.flushed_offset();
        let sync = || {
            let doubt = directory.begin_sync([(self.topic_partition.clone(), self.synced_offset())])?;
            unsynced.iter().try_for_each(|unsynced| unsynced.segment.file()?.sync_data())?;
            directory.end_sync(doubt);
            Ok(())
        };
        let left = sync().map_err(LeaveError::Failed).and_then(|()| {
            let disk = &*self.shared.world.disk;
            let is_no_space = |error: &LeaveError| matches!(error, LeaveError::NoSpace);
            directory.reserve.lend(disk, is_no_space, || journal.leave(&[self]))
        });
        match left {
            Ok(()) => {}
            Err(LeaveError::NoSpace) => return Err(ChangeError::NoSpace(self.topic_partition.clone())),
            Err(LeaveError::Failed(error)) => {
                self.storage_failed("sync", &self.path(), &error);
                return Err(ChangeError::DirectoryOffline(self.topic_partition.clone()));
            }
        }
        let mut state = self.flush_state.lock();
        state.membership = Membership::default();
        state.note_synced(&unsynced);
        self.synced_offset.fetch_max(durable_offset, Ordering::AcqRel);
        drop(state);
        Ok(guard)
    }

    /// Whether the journal may hold something of the partition.
    pub(crate) fn is_in_journal(&self) -> bool {
        let (directory, membership) = {
            let state = self.flush_state.lock();
            (self.directory(), state.membership)
        };
        // Not with the lock: rounds take that of the journal first.
        directory.journal.has(membership)
    }
}

/// As long as it lives, nothing of the partition goes into the journal.
pub(crate) struct OutOfJournal<'a>(&'a PartitionLog);

impl Drop for OutOfJournal<'_> {
    fn drop(&mut self) {
        let mut state = self.0.flush_state.lock();
        state.absent = false;
        state.absences += 1;
    }
}

impl FlushJob {
    /// From where on this job makes the log durable.
    pub(crate) fn in_doubt(&self) -> (TopicPartition, i64) {
        (self.log.topic_partition.clone(), self.log.flushed_offset())
    }

    /// Whether the journal may take it.
    pub(crate) fn is_small(&self) -> bool {
        self.small.is_some()
    }

    /// The bytes of a small job, from memory; `None` when they have left it.
    pub(crate) fn appended_bytes(&self) -> Option<Vec<Bytes>> {
        let (_, extent) = self.small?;
        let read = self.log.view.read().hot.read(extent.from_offset, self.target_offset, usize::MAX, true)?;
        let is_all = read.bytes as u64 == extent.end - extent.start && read.next_offset == self.target_offset;
        read.chunks.filter(|_| is_all)
    }

    /// The journal is about to take this job into its file `index`, which is in this use. `None` when it may not any more,
    /// or when the partition is new in that file and may not join; else where the bytes stand, and whether it is new.
    pub(crate) fn enter_journal(&self, index: usize, file_use: u64, may_join: bool) -> Option<(TopicId, Extent, bool)> {
        let (topic_id, extent) = self.small?;
        let mut state = self.log.flush_state.lock();
        let is_new = state.membership[index] != file_use;
        if (is_new && !may_join)
            || state.absent
            || state.absences != self.absences
            || state.generation != self.generation
            || self.log.is_deleted()
        {
            return None;
        }
        state.journaled_jobs += 1;
        let job = state.journaled_jobs;
        for (segment, file) in &self.segments {
            // Settling may have let go of it since the job took the mark away.
            segment.pin(file);
            match state.unsynced.iter_mut().find(|unsynced| Arc::ptr_eq(&unsynced.segment, segment)) {
                Some(unsynced) => unsynced.job = job,
                None => state.unsynced.push(Unsynced { segment: Arc::clone(segment), job }),
            }
        }
        state.membership[index] = file_use;
        Some((topic_id, extent, is_new))
    }

    /// Adds the files that make this job durable without a journal.
    pub(crate) fn add_files(&mut self, files: &mut Vec<Arc<dyn DiskFile>>) {
        let before = files.len();
        self.added = self.try_add_files(files).map(|()| files.len() - before);
        if self.added.is_err() {
            files.truncate(before);
        }
    }

    /// What became of the files that were added, given the results of their syncs and those of later jobs.
    pub(crate) fn outcome(&mut self, results: &mut impl Iterator<Item = io::Result<()>>) -> io::Result<()> {
        let added = std::mem::replace(&mut self.added, Ok(0))?;
        // All are taken, so that the next job finds its own.
        results.take(added).fold(Ok(()), io::Result::and)
    }

    fn try_add_files(&mut self, files: &mut Vec<Arc<dyn DiskFile>>) -> io::Result<()> {
        let state = self.log.flush_state.lock();
        self.unsynced.clone_from(&state.unsynced);
        for unsynced in &self.unsynced {
            if !self.segments.iter().any(|(segment, _)| Arc::ptr_eq(segment, &unsynced.segment)) {
                files.push(unsynced.segment.file()?);
            }
        }
        files.extend(self.index_files.iter().cloned());
        files.extend(self.segments.iter().map(|(_, file)| Arc::clone(file)));
        Ok(())
    }

    /// Every file of the job was synced. Returns the offset the listener is told.
    pub(crate) fn synced(self, now_ms: i64) -> Option<i64> {
        let log = &self.log;
        if self.creation {
            log.creation_durable.store(true, Ordering::Release);
        }
        let mut state = log.flush_state.lock();
        state.last_flush_ms = now_ms;
        state.note_synced(&self.unsynced);
        for (segment, _) in &self.segments {
            state.unpin_if_clean(segment);
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
        state.durable_extent = Some(self.durable_extent);
        log.synced_offset.fetch_max(self.target_offset, Ordering::AcqRel);
        log.flushed_offset.fetch_max(self.target_offset, Ordering::AcqRel);
        drop(state);
        log.flush_progress.notify_waiters();
        Some(log.flushed_offset())
    }

    /// The journal holds the appends of the job, durably. Returns the offset the listener is told.
    pub(crate) fn journaled(self, now_ms: i64) -> Option<i64> {
        let log = &self.log;
        let mut state = log.flush_state.lock();
        state.last_flush_ms = now_ms;
        if state.generation != self.generation {
            drop(state);
            log.flush_progress.notify_waiters();
            return None;
        }
        assert!(self.target_offset <= log.log_end_offset(), "invariant: only a truncation moves the end back");
        state.durable_extent = Some(self.durable_extent);
        if !self.segments.iter().any(|(segment, _)| state.is_unsynced(segment)) {
            // Settled already: a sync that began after the job entered the journal has taken it along.
            log.synced_offset.fetch_max(self.target_offset, Ordering::AcqRel);
        }
        log.flushed_offset.fetch_max(self.target_offset, Ordering::AcqRel);
        drop(state);
        log.flush_progress.notify_waiters();
        Some(log.flushed_offset())
    }

    /// Something of the job was not synced: nobody may try again. The directory goes offline.
    pub(crate) fn failed(self, error: &io::Error) {
        let shared = &self.log.shared;
        let mut files = self.index_files.iter().chain(self.segments.iter().map(|(_, file)| file));
        if shared.has_planted(Planted::SyncRetried) && files.all(|file| file.sync_data().is_ok()) {
            let now_ms = shared.world.clock.wall_ms();
            self.synced(now_ms);
            return;
        }
        if !self.log.is_deleted() {
            self.directory.fail("sync", &self.log.path(), error);
        }
        self.log.flush_progress.notify_waiters();
    }
}

impl SettleJob {
    /// From where on this job makes the files durable.
    pub(crate) fn in_doubt(&self) -> (TopicPartition, i64) {
        (self.log.topic_partition.clone(), self.log.synced_offset())
    }

    /// The files were synced.
    pub(crate) fn succeeded(self) {
        let mut state = self.log.flush_state.lock();
        state.note_synced(&self.unsynced);
        if state.generation == self.generation {
            self.log.synced_offset.fetch_max(self.durable_offset, Ordering::AcqRel);
        }
    }
}
