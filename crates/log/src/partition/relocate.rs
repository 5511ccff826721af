//! Taking another directory, in another log directory, for the partition's: the last step of a move.
//!
//! The copy there is the same byte by byte, so whoever reads or appends goes on with it:
//!
//! 1. What the copy lacks is copied and synced, its name and the checkpoints of its log directory too, while appends wait
//!    only for the last of it. Before that last part the partition leaves the journal of its log directory, and is in none
//!    until step 3 is done.
//! 2. It gets the partition's name, and that is synced: decided. Its mark says that it was moved once more than the old
//!    one, so a start that finds both takes this one.
//! 3. Segments open their files there from now on, and flushes, checkpoints and failures are the other log directory's.
//! 4. The old directory is renamed for deletion. Should that fail, a start finds both.
//!
//! A failure before step 2 leaves the partition where it is. When it is not known whether the new name is durable, the
//! partition goes offline with the log directory that failed: only a start can tell.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Home, PartitionLog};
use crate::checkpoint;
use crate::error::ChangeError;
use crate::forgotten_epochs::ForgottenEpochs;
use crate::moves::{FutureLog, MoveError};
use crate::planted::Planted;
use crate::segment::Segment;

/// A log as its mover finds it.
pub(crate) struct MovingView {
    /// In order, with their sizes; the last one is active.
    pub(crate) segments: Vec<(Arc<Segment>, u64)>,
    /// Cuts so far.
    pub(crate) truncations: u64,
}

impl PartitionLog {
    pub(crate) fn moving_view(&self) -> MovingView {
        // First the cuts: one that comes between shows next time.
        let truncations = self.truncations.load(Ordering::Acquire);
        let view = self.view.read();
        let segments = view.segments.iter().map(|segment| (Arc::clone(segment), segment.size())).collect();
        MovingView { segments, truncations }
    }

    /// While it is moved its segments are not cleaned, as in Kafka.
    pub(crate) fn set_moving(&self, moving: bool) {
        self.moving.store(moving, Ordering::SeqCst);
    }

    pub(crate) fn is_moving(&self) -> bool {
        self.moving.load(Ordering::SeqCst)
    }

    /// The text of its `leader-epoch-checkpoint`.
    pub(crate) fn epochs_text(&self) -> String {
        checkpoint::format_epochs(self.epochs.read().epochs.entries())
    }

    /// What its `leader-epoch-checkpoint` does not tell, if there is any.
    pub(crate) fn forgotten_epochs(&self) -> Option<&ForgottenEpochs> {
        Some(&*self.forgotten_epochs).filter(|forgotten| !forgotten.is_empty())
    }

    /// Whether the partition can be moved on: nobody has deleted it, or stopped the node.
    pub(crate) fn is_movable(&self) -> bool {
        !self.is_deleted() && !self.is_offline() && !self.closed.load(Ordering::Acquire)
    }

    /// Makes the copy the partition's log, and returns the directory it had. The caller lets nobody write checkpoints,
    /// delete or move meanwhile. Blocks.
    pub(crate) fn relocate(&self, future: &mut FutureLog, path: &Arc<Path>, moves: u64) -> Result<PathBuf, MoveError> {
        let _guard = self.guard("relocate");
        let _structure = self.structure.lock();
        if !self.is_movable() {
            return Err(MoveError::Gone);
        }
        let target = Arc::clone(future.target());
        let (before, old_path) = (self.directory(), self.path());
        future.prepare(self, moves)?;
        // The journal it leaves would write into the old directory should the partition come back; the one it comes to may
        // still speak of an earlier partition of its name and id.
        let _out_of_journal = self.leave_journal().map_err(|error| match error {
            ChangeError::NoSpace(_) => MoveError::Behind,
            _ => MoveError::Gone,
        })?;
        target
            .with_reserve(|| target.journal.pay_owed())
            .map_err(MoveError::target("write the journal in", &target.path))?;
        let cleaned_to = before.cleaned.get(&self.topic_partition);
        // What was synced just now is at least what was flushed: it ends where the log ended then.
        let (log_start_offset, flushed_offset) = (self.log_start_offset(), self.flushed_offset());
        target
            .take_in(&self.topic_partition, log_start_offset, flushed_offset, cleaned_to)
            .map_err(MoveError::target("checkpoint", &target.path))?;

        let writer = self.writer.lock();
        if !self.is_movable() {
            return Err(MoveError::Gone);
        }
        future.complete(self)?;
        let disk = &*self.shared.world.disk;
        disk.rename(future.path(), path).map_err(MoveError::target("rename", future.path()))?;
        let is_synced = !self.shared.has_planted(Planted::MoveNotNamed);
        let named = if is_synced { disk.sync_dir(&target.path) } else { Ok(()) };

        {
            let mut state = self.flush_state.lock();
            state.note_truncation();
            for segment in self.segments() {
                segment.relocate(path, !Arc::ptr_eq(&segment, &writer.active));
            }
            *self.home.write() = Home { directory: Arc::clone(&target), path: Arc::clone(path) };
            // What was read of the old files tells nothing of these.
            self.truncations.fetch_add(1, Ordering::AcqRel);
            self.replacements.fetch_add(1, Ordering::AcqRel);
            if named.is_ok() {
                self.creation_durable.store(true, Ordering::Release);
                self.synced_offset.store(self.log_end_offset(), Ordering::Release);
                self.flushed_offset.store(self.log_end_offset(), Ordering::Release);
                self.epochs.write().dirty = false;
            }
        }
        self.flush_progress.notify_waiters();
        drop(writer);
        if let Err(error) = named {
            target.fail("sync", &target.path, &error);
            return Err(MoveError::target("sync", &target.path)(error));
        }
        Ok(old_path.to_path_buf())
    }
}
