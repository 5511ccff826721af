//! Logs that are served before what a start found in them is synced.
//!
//! With page-cache durability a record was acknowledged when the system had it, and a killed process takes nothing from
//! there. So a start after one owes the disk what its predecessor owed it, and no more: the flushed offset stays at the
//! recovery point, the segments above it are dirty, and the next flush, as ever, makes all of it durable. Until then a
//! power loss takes what it would have taken from the predecessor.
//!
//! Their files are opened now and held open, as those of a running log are: an error of their write-back has to reach
//! whoever syncs them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_rt::{Disk, DiskFile};

use crate::directory::Directory;
use crate::partition::PartitionLog;
use crate::planted::Planted;
use crate::recovery::PendingLog;

/// How many files may be held open for it. What is more is synced at the start.
pub(super) fn allowance(disk: &dyn Disk, directories: usize) -> usize {
    disk.open_files_limit().map_or(usize::MAX, |limit| limit / 4) / directories.max(1)
}

/// Leaves the syncs of this log to its next flush, if it may. `known` is whether its creation is durable.
pub(super) fn leave_unsynced(directory: &Directory, log: &mut PendingLog, known: bool, allowance: &mut usize) {
    if !log.may_stay_unsynced || log.unsynced.is_empty() || log.unsynced.len() > *allowance {
        return;
    }
    let opened: io::Result<Vec<Arc<dyn DiskFile>>> = log.unsynced.iter().map(|segment| segment.file()).collect();
    // Whoever syncs it will meet the error again.
    let Ok(files) = opened else { return };
    for (segment, file) in log.unsynced.iter().zip(&files) {
        segment.pin(file);
    }
    *allowance -= files.len();
    let recovered = &mut log.recovered;
    let recovery_point = directory.recovery_point(&recovered.topic_partition);
    if !directory.shared.has_planted(Planted::UnsyncedCounted) {
        recovered.flushed_offset = recovery_point.max(recovered.log_start_offset);
    }
    recovered.unsynced = std::mem::take(&mut log.unsynced);
    recovered.creation_durable = known;
    // The first flush syncs the directory as well.
    if let Some(active) = recovered.segments.last() {
        active.name_durable.store(false, Ordering::SeqCst);
    }
    log.sync_directory = false;
}

/// A closed segment does not wait for a durability rule, here no more than at a roll.
pub(super) fn flush_closed_segments(log: &Arc<PartitionLog>) {
    let flushed_offset = log.flushed_offset();
    if log.segment_base_offsets().last().is_some_and(|active| *active > flushed_offset) {
        log.directory().flushes.request(log);
    }
}
