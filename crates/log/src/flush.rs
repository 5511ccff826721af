//! The flusher of a log directory: one task, one round at a time.
//!
//! A round makes durable whatever was appended to any partition since the last one; meanwhile appends go on, for the
//! next round. The order inside a round: the files' data and the names of new segments, and of new partitions with their
//! topics' ids; only when all of it is durable the flushed offsets move. A failed sync is never tried again, since a later success would say nothing: the directory goes
//! offline.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_rt::World;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::directory::Directory;
use crate::partition::{FlushJob, PartitionLog};

/// How many new partitions a round takes: each has one more file open.
const NEW_PARTITIONS_AT_ONCE: usize = 256;
/// How many directories are synced at once.
const PARALLEL_DIRECTORY_SYNCS: usize = 16;

/// The partitions that wait for the next round.
#[derive(Default)]
pub(crate) struct FlushQueue {
    waiting: Mutex<Vec<Arc<PartitionLog>>>,
    wake: Notify,
    closed: AtomicBool,
}

impl FlushQueue {
    /// Has everything appended to the partition so far flushed by the next round.
    pub(crate) fn request(&self, log: &Arc<PartitionLog>) {
        if log.queue_flush() {
            self.waiting.lock().push(Arc::clone(log));
            self.wake.notify_one();
        }
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// The task ends after one more round.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    fn take(&self) -> Vec<Arc<PartitionLog>> {
        std::mem::take(&mut *self.waiting.lock())
    }
}

/// Runs the rounds of a directory until its queue is closed.
pub(crate) async fn run_flusher(directory: Arc<Directory>) {
    loop {
        let closed = directory.flushes.closed.load(Ordering::Acquire);
        let mut logs = directory.flushes.take();
        if logs.is_empty() {
            if closed {
                return;
            }
            directory.flushes.wake.notified().await;
            continue;
        }
        // A partition's first flush has a file more to open, and must not hold up others.
        let new: Vec<_> = logs.extract_if(.., |log| !log.is_creation_durable()).collect();
        run_round(&directory, &logs).await;
        for logs in new.chunks(NEW_PARTITIONS_AT_ONCE) {
            run_round(&directory, logs).await;
        }
    }
}

async fn run_round(directory: &Arc<Directory>, logs: &[Arc<PartitionLog>]) {
    let jobs: Vec<FlushJob> = logs.iter().filter_map(|log| log.begin_flush(directory)).collect();
    if jobs.is_empty() {
        return;
    }
    let doubt = match directory.begin_sync(jobs.iter().map(FlushJob::in_doubt)) {
        Ok(doubt) => doubt,
        Err(error) => {
            directory.fail("note a sync in", &directory.path, &error);
            for job in jobs {
                job.failed(&error);
            }
            return;
        }
    };
    let world = &directory.shared.world;
    let files: Vec<_> = jobs.iter().flat_map(|job| job.files.iter().cloned()).collect();
    let mut directories: Vec<PathBuf> =
        jobs.iter().filter(|job| job.sync_directory).map(|job| job.log.path().to_path_buf()).collect();
    if jobs.iter().any(|job| job.creation) {
        directories.push(directory.path.clone());
    }
    let begun = world.clock.monotonic();
    let (file_results, directory_results) =
        tokio::join!(world.disk.sync_files(files), sync_directories(world, directories));
    // The name of a new partition, where there is one, is the last.
    let named = directory_results.last().is_none_or(Result::is_ok);
    let (mut file_results, mut directory_results) = (file_results.into_iter(), directory_results.into_iter());

    let listener = directory.listener();
    if let Some(listener) = &listener {
        listener.round(world.clock.monotonic().saturating_sub(begun));
    }
    let mut succeeded = true;
    for job in jobs {
        let mut outcome = Ok(());
        for result in file_results.by_ref().take(job.files.len()) {
            outcome = outcome.and(result);
        }
        if job.sync_directory {
            outcome = outcome.and(directory_results.next().unwrap_or_else(|| Err(io::ErrorKind::Other.into())));
        }
        if job.creation && !named {
            outcome = outcome.and(Err(io::ErrorKind::Other.into()));
        }
        let log = Arc::clone(&job.log);
        match outcome {
            Ok(()) => {
                directory.note_synced(job.bytes);
                let flushed = job.succeeded(world.clock.wall_ms());
                if let (Some(flushed_offset), Some(listener)) = (flushed, &listener) {
                    listener.flushed(log.topic_partition(), flushed_offset);
                }
            }
            Err(error) => {
                succeeded = false;
                job.failed(&error);
            }
        }
    }
    // Whoever waits was told before.
    if succeeded {
        directory.end_sync(doubt);
    }
}

/// Syncs directories side by side; the results are in the order of the paths.
pub(crate) async fn sync_directories(world: &World, paths: Vec<PathBuf>) -> Vec<io::Result<()>> {
    let count = paths.len();
    let lanes = count.min(PARALLEL_DIRECTORY_SYNCS);
    let results: Arc<Mutex<Vec<Option<io::Result<()>>>>> = Arc::new(Mutex::new((0..count).map(|_| None).collect()));
    let paths = Arc::new(paths);
    let mut running = Vec::with_capacity(lanes);
    for lane in 0..lanes {
        let (disk, paths, results) = (Arc::clone(&world.disk), Arc::clone(&paths), Arc::clone(&results));
        running.push(world.spawn.blocking(Box::new(move || {
            for index in (lane..paths.len()).step_by(lanes) {
                let result = disk.sync_dir(&paths[index]);
                results.lock()[index] = Some(result);
            }
        })));
    }
    for lane in running {
        lane.await;
    }
    let mut results = results.lock();
    // What did not run counts as failed.
    results.drain(..).map(|result| result.unwrap_or_else(|| Err(io::ErrorKind::Interrupted.into()))).collect()
}

/// The directories whose names a set of changes has touched, each once.
pub(crate) fn distinct(paths: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    paths.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}
