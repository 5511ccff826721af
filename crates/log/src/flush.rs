//! The flusher of a log directory: one task, one round at a time.
//!
//! A round makes durable whatever was appended to any partition since the last one; meanwhile appends go on, for the
//! next round. The order inside a round: the files' data and the names of new segments, and of new partitions with their
//! topics' ids; only when all of it is durable the flushed offsets move. With many small appends one write and one sync of
//! the journal stand for the syncs of all their files.
//! A failed sync is never tried again, since a later success would say nothing: the directory goes offline.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_rt::World;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::blocking::blocking;
use crate::directory::{Directory, FatalEvent};
use crate::journal::{Journaled, ToSettle, settle};
use crate::partition::{FlushJob, PartitionLog};

/// How many new partitions a round takes: each has one more file open.
const NEW_PARTITIONS_AT_ONCE: usize = 256;
/// How many directories are synced at once.
const PARALLEL_DIRECTORY_SYNCS: usize = 16;

/// The partitions that wait for the next round.
#[derive(Default)]
pub(crate) struct FlushQueue {
    waiting: Mutex<Vec<Arc<PartitionLog>>>,
    settling_wanted: AtomicBool,
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

    /// Has what is in the journal synced where it belongs, in the background.
    pub(crate) fn request_settling(&self) {
        self.settling_wanted.store(true, Ordering::Release);
        self.wake.notify_one();
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
    let _guard = StopOnPanic(Arc::clone(&directory));
    let mut settling: Option<JoinHandle<()>> = None;
    loop {
        let closed = directory.flushes.closed.load(Ordering::Acquire);
        let wanted = directory.flushes.settling_wanted.swap(false, Ordering::AcqRel);
        let mut to_settle = if wanted { directory.journal.switch() } else { None };
        let mut logs = directory.flushes.take();
        if logs.is_empty() && to_settle.is_none() {
            if closed {
                break;
            }
            directory.flushes.wake.notified().await;
            continue;
        }
        // A partition's first flush has a file more to open, and must not hold up others.
        let new: Vec<_> = logs.extract_if(.., |log| !log.is_creation_durable()).collect();
        to_settle = run_round(&directory, &logs).await.or(to_settle);
        for logs in new.chunks(NEW_PARTITIONS_AT_ONCE) {
            to_settle = run_round(&directory, logs).await.or(to_settle);
        }
        if let Some(full) = to_settle {
            // The one before has ended, or the journal had not gone over to its other file.
            let directory = Arc::clone(&directory);
            settling = Some(tokio::spawn(async move {
                let _guard = StopOnPanic(Arc::clone(&directory));
                settle(directory, full).await;
            }));
        }
    }
    if let Some(settling) = settling
        && let Err(error) = settling.await
    {
        tracing::error!(%error, "settling the journal ended early");
    }
}

/// A flusher that dies must not leave everybody waiting for it: the node stops.
struct StopOnPanic(Arc<Directory>);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0.shared.fatal)(FatalEvent { topic_partition: None, operation: "a flush round" });
        }
    }
}

/// Returns what has to be settled now.
async fn run_round(directory: &Arc<Directory>, logs: &[Arc<PartitionLog>]) -> Option<ToSettle> {
    let mut jobs: Vec<FlushJob> = Vec::with_capacity(logs.len());
    jobs.extend(logs.iter().filter_map(|log| log.begin_flush(directory)));
    if jobs.is_empty() {
        return None;
    }
    let world = &directory.shared.world;
    let begun = world.clock.monotonic();
    let Journaled { jobs: journaled, rest: mut synced, file: journal_file, to_settle, .. } =
        write_journal(directory, jobs).await;
    // What is in the journal is replayed: only the partitions' own files are in doubt while they are synced.
    let noted = synced.iter().map(FlushJob::in_doubt);
    let doubt = match (!synced.is_empty()).then(|| directory.begin_sync(noted)).transpose() {
        Ok(doubt) => doubt,
        Err(error) => {
            directory.fail("note a sync in", &directory.path, &error);
            for job in journaled.into_iter().chain(synced) {
                job.failed(&error);
            }
            return None;
        }
    };

    let has_journal = journal_file.is_some();
    let mut files: Vec<_> = journal_file.into_iter().collect();
    for job in &mut synced {
        job.add_files(&mut files);
    }
    let mut directories: Vec<PathBuf> =
        synced.iter().filter(|job| job.sync_directory).map(|job| job.log.path().to_path_buf()).collect();
    if synced.iter().any(|job| job.creation) {
        directories.push(directory.path.clone());
    }
    let (file_results, directory_results) =
        tokio::join!(world.disk.sync_files(files), sync_directories(world, directories));
    let mut file_results = file_results.into_iter();
    let journal_outcome: io::Result<()> = file_results.by_ref().take(usize::from(has_journal)).collect();

    let listener = directory.listener();
    if let Some(listener) = &listener {
        listener.round(world.clock.monotonic().saturating_sub(begun));
    }
    let tell = |log: &PartitionLog, flushed: Option<i64>| {
        if let (Some(flushed_offset), Some(listener)) = (flushed, &listener) {
            listener.flushed(log.topic_partition(), flushed_offset);
        }
    };
    match &journal_outcome {
        Ok(()) => directory.journal.round_is_durable(),
        // Whether or not one of those in it is still there.
        Err(error) => directory.fail("sync the journal in", &directory.path, error),
    }
    for job in journaled {
        let log = Arc::clone(&job.log);
        match &journal_outcome {
            Ok(()) => {
                directory.note_synced(job.bytes);
                tell(&log, job.journaled(world.clock.wall_ms()));
            }
            Err(error) => job.failed(error),
        }
    }
    // The name of a new partition, where there is one, is the last.
    let named = directory_results.last().is_none_or(Result::is_ok);
    let mut directory_results = directory_results.into_iter();
    let mut succeeded = true;
    for mut job in synced {
        let mut outcome = job.outcome(&mut file_results);
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
                tell(&log, job.synced(world.clock.wall_ms()));
            }
            Err(error) => {
                succeeded = false;
                job.failed(&error);
            }
        }
    }
    // Whoever waits was told before.
    if let Some(doubt) = doubt.filter(|_| succeeded) {
        directory.end_sync(doubt);
    }
    to_settle
}

/// Writes the small appends of a round into the journal, if they are many.
async fn write_journal(directory: &Arc<Directory>, jobs: Vec<FlushJob>) -> Journaled {
    let small = jobs.iter().filter(|job| job.is_small()).count();
    if !directory.journal.is_for(small) {
        return Journaled { rest: jobs, ..Journaled::default() };
    }
    let (small, others): (Vec<FlushJob>, Vec<FlushJob>) = jobs.into_iter().partition(FlushJob::is_small);
    let writer = Arc::clone(directory);
    let mut written = blocking(&directory.shared.world, move || writer.journal.write_round(small)).await;
    if let Some((jobs, error)) = written.failed.take() {
        directory.fail("write the journal in", &directory.path, &error);
        for job in jobs {
            job.failed(&error);
        }
    }
    written.rest.extend(others);
    written
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
