//! Putting a cleaned segment in the place of those it was made from.
//!
//! The steps, each durable before the next:
//! 1. The new files are complete and synced, named `.cleaned`, and so are their names. A crash up to here: recovery
//!    removes them.
//! 2. They are renamed to `.swap`. From the sync of the directory on the replacement is decided: recovery finishes it.
//! 3. Readers get the new segment. Those that have an old one keep its open files; who finds it gone looks again.
//! 4. The files of all old segments but the first are renamed to `.deleted`.
//! 5. The new files get their own names, over those of the first old segment, the log last: as long as there is a
//!    `.log.swap`, recovery knows which segments it replaces.
//!
//! Cuts, retention and deletion do not come between: they take the same lock. Appends do, but for step 3.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{PartitionLog, is_no_space};
use crate::error::{ChangeError, ReadError};
use crate::names;
use crate::producers::LastRecord;
use crate::segment::{Place, Segment, remove_if_there};

/// A log as the cleaner finds it.
pub(crate) struct CleaningView {
    /// In order; the last one is active.
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) log_start_offset: i64,
    pub(crate) log_end_offset: i64,
    /// Below it everything is decided, replicated and durable.
    pub(crate) stable_offset: i64,
    /// Cuts so far.
    pub(crate) truncations: u64,
}

/// A replacement is not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplaceError {
    #[error("the log has changed meanwhile")]
    Changed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl PartitionLog {
    pub(crate) fn cleaning_view(&self) -> CleaningView {
        let _writer = self.writer.lock();
        let view = self.view.read();
        CleaningView {
            segments: view.segments.clone(),
            log_start_offset: self.log_start_offset(),
            log_end_offset: self.log_end_offset(),
            stable_offset: self.last_stable_offset().min(self.flushed_offset()),
            truncations: self.truncations.load(Ordering::Acquire),
        }
    }

    /// What the log has last of each producer.
    pub(crate) fn last_records_of_producers(&self) -> BTreeMap<i64, LastRecord> {
        self.writer.lock().producers.last_records()
    }

    /// Whether what the cleaner does still makes sense.
    pub(crate) fn is_cleanable(&self, truncations: u64) -> bool {
        !self.is_deleted()
            && !self.is_offline()
            && !self.is_moving()
            && !self.closed.load(Ordering::Acquire)
            && self.config().cleanup_policy.compact
            && self.truncations.load(Ordering::Acquire) == truncations
    }

    /// Works in the partition's directory while it is this partition's, and nothing cuts or deletes it.
    pub(crate) fn while_cleanable<T>(
        &self,
        truncations: u64,
        work: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, ReplaceError> {
        let _structure = self.structure.lock();
        if !self.is_cleanable(truncations) {
            return Err(ReplaceError::Changed);
        }
        Ok(work()?)
    }

    /// Works in the partition's directory while it is this partition's.
    pub(crate) fn while_present<T>(&self, work: impl FnOnce() -> io::Result<T>) -> Result<T, ReplaceError> {
        let _structure = self.structure.lock();
        if self.is_deleted() || self.is_offline() {
            return Err(ReplaceError::Changed);
        }
        Ok(work()?)
    }

    /// Puts `cleaned`, which is complete and synced under its `.cleaned` names, in the place of `sources`, which follow each
    /// other in the log. Returns files that are to be removed later. After an error before the second step the log is as it
    /// was; after a later one its directory is offline.
    pub(crate) fn replace_segments(
        &self,
        truncations: u64,
        sources: &[Arc<Segment>],
        cleaned: &Arc<Segment>,
    ) -> Result<Vec<PathBuf>, ReplaceError> {
        let _guard = self.guard("replace_segments");
        let _structure = self.structure.lock();
        if !self.is_cleanable(truncations) || !self.has_segments(sources) {
            return Err(ReplaceError::Changed);
        }
        self.remove_leftovers(cleaned)?;
        let _out_of_journal = match self.leave_journal() {
            Ok(guard) => guard,
            Err(ChangeError::NoSpace(_)) => return Err(io::Error::from(io::ErrorKind::StorageFull).into()),
            Err(_) => return Err(ReplaceError::Changed),
        };
        self.decide_swap(cleaned)?;
        self.publish_cleaned(sources, cleaned);
        let finish = || -> io::Result<Vec<PathBuf>> {
            let deleted = self.retire_sources(sources, cleaned)?;
            self.take_names(cleaned)?;
            Ok(deleted)
        };
        let finished = finish();
        if let Err(error) = &finished {
            // Decided, and not done: only a start can finish it.
            self.storage_failed("swap", &self.path(), error);
        }
        Ok(finished?)
    }

    fn has_segments(&self, sources: &[Arc<Segment>]) -> bool {
        let view = self.view.read();
        let Some(first) = sources.first() else { return false };
        let start = view.segments.partition_point(|segment| segment.base_offset < first.base_offset);
        let found = view.segments.get(start..start + sources.len());
        // The active segment is never replaced.
        start + sources.len() < view.segments.len()
            && found.is_some_and(|found| found.iter().zip(sources).all(|(found, source)| Arc::ptr_eq(found, source)))
    }

    /// A cleaning that was given up may not have come to remove its files. Recovery would take this swap for a part of that
    /// one, and undo it when what it replaces is gone.
    fn remove_leftovers(&self, cleaned: &Segment) -> io::Result<()> {
        let disk = &*self.shared.world.disk;
        let path = self.path();
        let own = format!("{:020}.", cleaned.base_offset);
        for entry in disk.read_dir(&path)? {
            if entry.name.ends_with(names::CLEANED_SUFFIX) && !entry.name.starts_with(&own) {
                disk.remove_file(&path.join(&entry.name))?;
            }
        }
        Ok(())
    }

    /// Step 2. A full disk leaves the log as it was.
    fn decide_swap(&self, cleaned: &Segment) -> io::Result<()> {
        let disk = &*self.shared.world.disk;
        let decided = cleaned.rename_to(Place::Swap).and_then(|()| disk.sync_dir(&self.path()));
        let Err(error) = decided else { return Ok(()) };
        if is_no_space(&error) && cleaned.discard().and_then(|()| disk.sync_dir(&self.path())).is_ok() {
            return Err(error);
        }
        self.storage_failed("swap", &self.path(), &error);
        Err(error)
    }

    /// Step 3.
    fn publish_cleaned(&self, sources: &[Arc<Segment>], cleaned: &Arc<Segment>) {
        let _writer = self.writer.lock();
        let mut view = self.view.write();
        let start = view.segments.partition_point(|segment| segment.base_offset < cleaned.base_offset);
        assert_eq!(view.segments[start].base_offset, cleaned.base_offset, "invariant: the sources are in the log");
        view.segments.splice(start..start + sources.len(), [Arc::clone(cleaned)]);
        // What is in memory of them has what was removed.
        let end_offset = view.segments[start + 1].base_offset;
        let freed = view.hot.evict_below(end_offset);
        self.shared.hot_budget.release(freed);
        self.replacements.fetch_add(1, Ordering::AcqRel);
    }

    /// Step 4.
    fn retire_sources(&self, sources: &[Arc<Segment>], cleaned: &Segment) -> io::Result<Vec<PathBuf>> {
        let shared = &self.shared;
        let mut deleted = Vec::new();
        for source in sources {
            if source.base_offset != cleaned.base_offset {
                deleted.extend(source.mark_deleted()?);
                continue;
            }
            source.retire();
            // The new segment's files take the place of these, but for those it may not have.
            for suffix in [names::TRANSACTION_SUM_SUFFIX, names::TRANSACTION_INDEX_SUFFIX] {
                remove_if_there(shared, &names::offset_file(&self.path(), source.base_offset, suffix))?;
            }
        }
        shared.world.disk.sync_dir(&self.path())?;
        Ok(deleted)
    }

    /// Step 5.
    fn take_names(&self, cleaned: &Segment) -> io::Result<()> {
        cleaned.rename_to(Place::Log)?;
        self.shared.world.disk.sync_dir(&self.path())?;
        cleaned.name_durable.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Searches the log's segments, again when the cleaner replaced some meanwhile: an old one may be gone.
    pub(super) fn retry_replaced<T>(&self, search: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        loop {
            let before = self.replacements.load(Ordering::Acquire);
            let result = search();
            if result.is_ok() || self.replacements.load(Ordering::Acquire) == before {
                return result;
            }
        }
    }
}
