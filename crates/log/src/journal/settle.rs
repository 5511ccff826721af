//! Settling: what the journal made durable is synced where it belongs, so that a journal file can be emptied.

use std::io;
use std::sync::{Arc, Weak};

use super::ToSettle;
use crate::blocking::blocking;
use crate::directory::Directory;
use crate::partition::{PartitionLog, SettleJob};

/// So many files are synced in a row before others get their turn.
const FILES_AT_ONCE: usize = 256;

/// Settles a file that is full, and empties it. A failure takes the directory offline: the file stays as it is.
pub(crate) async fn settle(directory: Arc<Directory>, full: ToSettle) {
    if settle_members(&directory, full.members).await {
        let world = directory.shared.world.clone();
        let emptied = Arc::clone(&directory);
        let empty = move || emptied.with_reserve(|| emptied.journal.reset(full.index));
        if let Err(error) = blocking(&world, empty).await {
            directory.bookkeeping_failed("empty the journal in", &directory.path, &error);
            directory.journal.put_off();
        }
    }
}

/// Settles everything and removes the journal: the directory is left by a clean stop.
pub(crate) async fn settle_all(directory: &Arc<Directory>) -> io::Result<()> {
    let members = directory.journal.all_members();
    if settle_members(directory, members).await {
        let removed = Arc::clone(directory);
        let remove = move || removed.with_reserve(|| removed.journal.remove());
        return blocking(&directory.shared.world, remove).await;
    }
    Ok(())
}

/// Whether all of it is in the partitions' own files; else the directory is offline.
async fn settle_members(directory: &Arc<Directory>, members: Vec<Weak<PartitionLog>>) -> bool {
    for members in members.chunks(FILES_AT_ONCE) {
        let mut jobs: Vec<SettleJob> = Vec::new();
        // One that is gone has been deleted, and has left the journal.
        for log in members.iter().filter_map(Weak::upgrade) {
            match log.begin_settling(directory) {
                Ok(job) => jobs.extend(job),
                Err(error) => {
                    directory.fail("open", &log.path(), &error);
                    return false;
                }
            }
        }
        let doubt = match directory.begin_sync(jobs.iter().map(SettleJob::in_doubt)) {
            Ok(doubt) => doubt,
            Err(error) => {
                directory.fail("note a sync in", &directory.path, &error);
                return false;
            }
        };
        let files = jobs.iter().flat_map(|job| job.files.iter().cloned()).collect();
        let mut results = directory.shared.world.disk.sync_files(files).await.into_iter();
        for job in jobs {
            let outcome: io::Result<()> = results.by_ref().take(job.files.len()).collect();
            if let Err(error) = outcome {
                directory.fail("sync", &job.log.path(), &error);
                return false;
            }
            job.succeeded();
        }
        directory.end_sync(doubt);
    }
    !directory.is_offline()
}
