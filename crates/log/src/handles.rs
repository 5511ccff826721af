//! Open files, bounded: the ones not needed longest are closed.
//!
//! A file with unsynced bytes is pinned by its segment and not in here at its owner's risk: an error the system finds
//! while writing back can vanish with the last handle. Readers keep their own reference, so closing here never pulls a
//! file from under them.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_rt::{Disk, DiskFile, OpenMode};
use parking_lot::Mutex;

/// Names a file in the cache, whatever its path is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId(u64);

/// The open files of every partition of a node.
pub(crate) struct HandleCache {
    disk: Arc<dyn Disk>,
    capacity: usize,
    next_id: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    files: BTreeMap<FileId, Entry>,
    /// Second-chance order: an entry used since it was queued goes to the back once more.
    queue: VecDeque<FileId>,
}

struct Entry {
    file: Arc<dyn DiskFile>,
    used: bool,
}

impl HandleCache {
    pub(crate) fn new(disk: Arc<dyn Disk>, capacity: usize) -> HandleCache {
        HandleCache {
            disk,
            capacity: capacity.max(1),
            next_id: AtomicU64::new(0),
            entries: Mutex::new(Entries::default()),
        }
    }

    pub(crate) fn new_id(&self) -> FileId {
        FileId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// The open file, opening it when it is not here.
    pub(crate) fn open(&self, id: FileId, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(entry) = self.entries.lock().files.get_mut(&id) {
            entry.used = true;
            return Ok(Arc::clone(&entry.file));
        }
        let file = self.disk.open(path, mode)?;
        self.insert(id, Arc::clone(&file));
        Ok(file)
    }

    /// The open file, if it is here.
    pub(crate) fn cached(&self, id: FileId) -> Option<Arc<dyn DiskFile>> {
        self.entries.lock().files.get_mut(&id).map(|entry| {
            entry.used = true;
            Arc::clone(&entry.file)
        })
    }

    /// Hands over a file that was opened elsewhere.
    pub(crate) fn insert(&self, id: FileId, file: Arc<dyn DiskFile>) {
        // Closing is a system call: it happens after the lock is gone.
        let mut closed = Vec::new();
        let mut entries = self.entries.lock();
        if entries.files.insert(id, Entry { file, used: false }).is_none() {
            entries.queue.push_back(id);
        }
        while entries.files.len() > self.capacity {
            let Some(oldest) = entries.queue.pop_front() else { break };
            match entries.files.get_mut(&oldest) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    entries.queue.push_back(oldest);
                }
                Some(_) => closed.extend(entries.files.remove(&oldest)),
                None => {}
            }
        }
        drop(entries);
        drop(closed);
    }

    /// Forgets a file: it is deleted, or about to be.
    pub(crate) fn remove(&self, id: FileId) {
        let removed = {
            let mut entries = self.entries.lock();
            let removed = entries.files.remove(&id);
            if removed.is_some() {
                entries.queue.retain(|queued| *queued != id);
            }
            removed
        };
        drop(removed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_rt::World;

    #[test]
    fn the_file_not_used_longest_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = HandleCache::new(World::os().disk, 2);
        let paths: Vec<_> = (0..3).map(|number| directory.path().join(number.to_string())).collect();
        let ids: Vec<_> = (0..3).map(|_| cache.new_id()).collect();
        let open = |index: usize| cache.open(ids[index], &paths[index], OpenMode::CreateOrOpen).unwrap();

        let first = open(0);
        drop(open(1));
        drop(open(0));
        drop(open(2));
        assert!(Arc::ptr_eq(&first, &open(0)), "used last, kept");
        assert!(!cache.entries.lock().files.contains_key(&ids[1]), "not used since, closed");
        cache.remove(ids[0]);
        assert!(!Arc::ptr_eq(&first, &open(0)));
        assert!(cache.entries.lock().files.len() <= 2);
    }
}
