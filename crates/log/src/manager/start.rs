//! Opening the log directories.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use ottla_config::LogConfig;
use ottla_rt::{Disk, DiskFile, OpenMode, World};
use ottla_types::{TopicPartition, Uuid};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::identities::{self, Identified, Identities};
use super::unsynced::{allowance, flush_closed_segments, leave_unsynced};
use super::{Inner, LogSettings, Removal, io_error};
use crate::checkpoint::{self, CheckpointError, OffsetCheckpoint};
use crate::directory::{Checkpoints, Directory, Shared};
use crate::doubts::{Doubt, Doubts, InDoubt};
use crate::error::{LogError, RecoveryError};
use crate::flush::sync_directories;
use crate::handles::HandleCache;
use crate::hot_tail::HotBudget;
use crate::identity;
use crate::journal::{self, Journal};
use crate::moves::{FoundFuture, Moves, settle_duplicates, sort_futures};
use crate::names::{self, DirectoryName};
use crate::partition::PartitionLog;
use crate::planted::Planted;
use crate::recovery::{PendingLog, Recovery, RecoveryInput, recover, write_file};
use crate::reserve::Reserve;
use crate::scrub::Scrubber;

pub(super) async fn open(
    world: World,
    settings: LogSettings,
    config_for: &dyn Fn(&str) -> LogConfig,
) -> Result<Inner, LogError> {
    let disk = &*world.disk;
    if settings.log_dirs.is_empty() {
        return Err(LogError::NoDirectories);
    }
    // Looked at before anything is changed, and again once nobody else can change it.
    identities::check(disk, &settings)?;
    let locked = identities::lock(disk, &settings.log_dirs)?;
    let found = identities::check(disk, &settings)?;
    let mut locks = Vec::new();
    let mut usable = Vec::new();
    for (lock, found) in locked.into_iter().zip(found) {
        usable.push(lock.map(|lock| locks.push(lock)).and(found));
    }
    let Identities { cluster_id, directories } = identities::complete(&world, &settings, usable);

    let usable = settings.log_dirs.iter().zip(&directories).filter(|(_, directory)| directory.failed.is_none());
    settle_duplicates(&world, &usable.map(|(path, _)| path.as_path()).collect::<Vec<_>>())?;

    let shared = Arc::new(Shared {
        handles: HandleCache::new(Arc::clone(&world.disk), handle_capacity(disk, settings.max_open_files)),
        hot_budget: HotBudget::new(settings.hot_tail_bytes),
        producer_id_expiration_ms: AtomicI64::new(settings.producer_id_expiration_ms),
        listener: RwLock::new(None),
        fatal: Arc::clone(&settings.fatal),
        checkpoint_due: Notify::new(),
        checkpoint_bytes: settings.checkpoint_bytes,
        planted: settings.planted,
        world,
    });
    let mut inner = Inner {
        shared: Arc::clone(&shared),
        cluster_id,
        directories: Vec::new(),
        logs: RwLock::new(BTreeMap::new()),
        offline: BTreeMap::new(),
        changes: tokio::sync::Mutex::new(()),
        cleaner: Arc::default(),
        moves: Moves::default(),
        removals: Mutex::new(Vec::new()),
        flushers: Mutex::new(Vec::new()),
        scrubber: Mutex::new(Scrubber::new(&shared.world)),
        locks: Mutex::new(locks),
    };
    let mut first_failure = None;
    let mut futures = Vec::new();
    for (path, Identified { id, failed }) in settings.log_dirs.iter().zip(directories) {
        let opened = match failed {
            Some(error) => Err(error),
            None => open_directory(&shared, path, id, &settings, config_for).await,
        };
        let recovered = match opened {
            Ok(recovered) => recovered,
            Err(error) => {
                tracing::error!(directory = %path.display(), %error, "log directory is offline");
                inner.directories.push(Arc::new(Directory::offline(&shared, path, id)));
                first_failure.get_or_insert(error);
                continue;
            }
        };
        inner.removals.lock().extend(recovered.removals);
        for log in recovered.logs {
            let topic_partition = log.topic_partition().clone();
            if let Some(other) = inner.logs.read().get(&topic_partition) {
                return Err(LogError::PartitionTwice {
                    topic_partition,
                    first: other.path().to_path_buf(),
                    second: log.path().to_path_buf(),
                });
            }
            inner.logs.write().insert(topic_partition, log);
        }
        inner.offline.extend(recovered.failed);
        futures.extend(recovered.futures);
        inner.directories.push(recovered.directory);
    }
    match first_failure {
        Some(error) if inner.directories.iter().all(|directory| directory.is_offline()) => return Err(error),
        _ => {}
    }
    let some_offline = inner.directories.iter().any(|directory| directory.is_offline());
    let log_of = |name: &TopicPartition| inner.logs.read().get(name).cloned();
    let is_out_of_reach = |name: &TopicPartition| some_offline || inner.offline.contains_key(name);
    let leftovers = sort_futures(&shared.world, &inner.moves, futures, log_of, is_out_of_reach);
    let due = shared.world.clock.monotonic();
    let removal = |(directory, path)| Removal { due, directory, paths: vec![path], is_directory: true };
    inner.removals.lock().extend(leftovers.into_iter().map(removal));
    Ok(inner)
}

/// How many files are held open without need: what is being written is open besides, and every connection takes a
/// descriptor too.
fn handle_capacity(disk: &dyn Disk, wanted: usize) -> usize {
    disk.open_files_limit().map_or(wanted, |limit| wanted.min(limit / 4))
}

pub(crate) fn random_uuid(world: &World) -> Uuid {
    loop {
        let mut bytes = [0; 16];
        world.entropy.fill(&mut bytes);
        if let Some(id) = Uuid::from_random_bytes(bytes) {
            return id;
        }
    }
}

struct OpenedDirectory {
    directory: Arc<Directory>,
    logs: Vec<Arc<PartitionLog>>,
    failed: BTreeMap<TopicPartition, RecoveryError>,
    futures: Vec<FoundFuture>,
    removals: Vec<Removal>,
}

async fn open_directory(
    shared: &Arc<Shared>,
    path: &Path,
    id: Option<Uuid>,
    settings: &LogSettings,
    config_for: &dyn Fn(&str) -> LogConfig,
) -> Result<OpenedDirectory, LogError> {
    let disk = &*shared.world.disk;
    let stopped = disk.exists(&path.join(names::CLEAN_SHUTDOWN)).map_err(|source| io_error("read", path, source))?;
    if stopped {
        // As long as there is the mark: without it the journal would be replayed.
        journal::throw_away(disk, path).map_err(|source| io_error("empty the journal in", path, source))?;
    }
    let marked = identity::take_clean_shutdown(disk, path).map_err(|source| io_error("read", path, source))?;
    let clean = marked || shared.has_planted(Planted::RecoveryScanOff);
    let recovery_points = read_checkpoint(disk, &path.join(names::RECOVERY_POINT_CHECKPOINT))?;
    let high_watermarks = read_checkpoint(disk, &path.join(names::HIGH_WATERMARK_CHECKPOINT))?;
    let log_starts = read_checkpoint(disk, &path.join(names::LOG_START_CHECKPOINT))?;
    let cleaned = read_checkpoint(disk, &path.join(names::CLEANER_CHECKPOINT))?;
    let in_doubt = if clean || shared.has_planted(Planted::DoubtsIgnored) {
        InDoubt::nothing()
    } else {
        Doubts::new(path).read(disk).map_err(|source| io_error("read", &path.join(names::DOUBTS), source))?
    };
    let replayed = journal::replay(&shared.world, path, &log_starts).await?;
    let directory = Arc::new(Directory::new(
        Arc::clone(shared),
        path.to_path_buf(),
        id,
        Journal::new(&shared.world, path, settings.journal, replayed.next_frame),
        Reserve::open(disk, path, settings.reserve_bytes)
            .map_err(|source| io_error("look at the reserve of", path, source))?,
        Checkpoints {
            recovery_points: recovery_points.clone(),
            log_starts: log_starts.clone(),
            cleaned: cleaned.clone(),
        },
    ));

    let mut removals = Vec::new();
    let mut futures = Vec::new();
    let mut inputs: Vec<RecoveryInput> = Vec::new();
    for entry in disk.read_dir(path).map_err(|source| io_error("list", path, source))? {
        if !entry.is_dir {
            continue;
        }
        match names::parse_directory(&entry.name) {
            DirectoryName::Partition(mut topic_partition) => {
                // Names come sorted, so the partitions of a topic follow each other.
                let config = match inputs.last() {
                    Some(last) if last.topic_partition.topic == topic_partition.topic => {
                        topic_partition.topic = Arc::clone(&last.topic_partition.topic);
                        Arc::clone(&last.config)
                    }
                    _ => Arc::new(config_for(&topic_partition.topic)),
                };
                let offset = |checkpoint: &OffsetCheckpoint| checkpoint.get(&topic_partition).copied().unwrap_or(0);
                let known = recovery_points.contains_key(&topic_partition);
                let recovery_point = offset(&recovery_points);
                inputs.push(RecoveryInput {
                    shared: Arc::clone(shared),
                    path: Arc::from(path.join(&entry.name)),
                    config,
                    clean,
                    known,
                    recovery_point,
                    in_doubt_from: in_doubt.of(&topic_partition, recovery_point),
                    log_start_offset: offset(&log_starts),
                    high_watermark: offset(&high_watermarks),
                    cleaned_to: offset(&cleaned),
                    topic_partition,
                });
            }
            DirectoryName::Deleted => removals.push(Removal {
                due: shared.world.clock.monotonic(),
                directory: Arc::clone(&directory),
                paths: vec![path.join(&entry.name)],
                is_directory: true,
            }),
            DirectoryName::Future(topic_partition) => futures.push(FoundFuture {
                topic_partition,
                directory: Arc::clone(&directory),
                path: path.join(&entry.name),
            }),
            DirectoryName::SetAside => {
                tracing::warn!(directory = %path.display(), name = entry.name, "directory is left alone");
            }
            // The metadata log and whatever else somebody put here.
            DirectoryName::Foreign => {}
        }
    }
    tracing::info!(directory = %path.display(), partitions = inputs.len(), clean, "recovering logs");
    let (mut pending, failed, incomplete) = recover_all(shared, inputs, settings.recovery_parallelism).await;
    for leftover in incomplete.unfinished {
        tracing::info!(path = %leftover.display(), "removing a partition whose creation was interrupted");
        disk.remove_dir_all(&leftover).map_err(|source| io_error("remove", &leftover, source))?;
    }
    for (topic_partition, torn) in incomplete.torn {
        let target = path.join(names::stray_directory(&topic_partition, random_uuid(&shared.world)));
        tracing::warn!(
            path = %torn.display(),
            target = %target.display(),
            "a partition that was never durable lost the id of its topic: it is set aside"
        );
        disk.rename(&torn, &target).map_err(|source| io_error("rename", &torn, source))?;
    }
    // A checkpoint names a partition only once its creation was durable. Any other may be the work of a process that was
    // killed, known to the page cache only. An empty one has time until its first flush.
    let known = |log: &PendingLog| recovery_points.contains_key(&log.recovered.topic_partition);
    let mut allowance = allowance(disk, settings.log_dirs.len());
    for (log, _) in &mut pending {
        let known = known(log);
        log.recovered.creation_durable = log.recovered.log_end_offset > 0 || known;
        leave_unsynced(&directory, log, known, &mut allowance);
    }
    let new_names = |log: &PendingLog| !clean && !known(log) && log.recovered.creation_durable;
    // What cannot be used cannot be written anew either: a later start has to.
    let still_in_doubt = |name: &TopicPartition| in_doubt.of(name, directory.recovery_point(name));
    let offline = failed.keys().filter_map(|name| Some((name.clone(), still_in_doubt(name)?))).collect();
    let logs = finish(&directory, pending, clean, new_names, offline).await;
    if !directory.is_offline() {
        directory
            .with_reserve(|| replayed.discard(disk, path))
            .map_err(|source| io_error("empty the journal in", path, source))?;
    }
    Ok(OpenedDirectory { directory, logs, failed, futures, removals })
}

/// A malformed checkpoint costs a longer scan, as it does in Kafka.
fn read_checkpoint(disk: &dyn Disk, path: &Path) -> Result<OffsetCheckpoint, LogError> {
    match checkpoint::read_offsets(disk, path) {
        Ok(offsets) => Ok(offsets),
        Err(CheckpointError::Malformed(reason)) => {
            tracing::warn!(path = %path.display(), %reason, "checkpoint is not used");
            Ok(OffsetCheckpoint::new())
        }
        Err(CheckpointError::Io(source)) => Err(io_error("read", path, source)),
    }
}

type Outcome = Result<Recovery, RecoveryError>;
type Recovered = (Vec<(Box<PendingLog>, Arc<LogConfig>)>, BTreeMap<TopicPartition, RecoveryError>, Incomplete);

/// Directories of partitions whose creation was never durable.
#[derive(Default)]
struct Incomplete {
    /// Nothing was written to them.
    unfinished: Vec<PathBuf>,
    /// There are records, but of which topic was lost.
    torn: Vec<(TopicPartition, PathBuf)>,
}

/// Recovers partitions side by side; the outcome is in the order of their names.
async fn recover_all(shared: &Arc<Shared>, inputs: Vec<RecoveryInput>, parallelism: usize) -> Recovered {
    let lanes = parallelism.clamp(1, inputs.len().max(1));
    let count = inputs.len();
    let outcomes: Arc<Mutex<Vec<Option<Outcome>>>> = Arc::new(Mutex::new((0..count).map(|_| None).collect()));
    let inputs = Arc::new(inputs);
    let mut running = Vec::new();
    for lane in 0..lanes {
        let (inputs, outcomes) = (Arc::clone(&inputs), Arc::clone(&outcomes));
        running.push(shared.world.spawn.blocking(Box::new(move || {
            for index in (lane..inputs.len()).step_by(lanes) {
                let outcome = recover(&inputs[index]);
                outcomes.lock()[index] = Some(outcome);
            }
        })));
    }
    for lane in running {
        lane.await;
    }
    let (mut pending, mut failed, mut incomplete) = (Vec::new(), BTreeMap::new(), Incomplete::default());
    let mut outcomes = outcomes.lock();
    for (input, outcome) in inputs.iter().zip(outcomes.drain(..)) {
        match outcome.expect("invariant: a lane that ended has recovered its partitions") {
            Ok(Recovery::Log(log)) => pending.push((log, Arc::clone(&input.config))),
            Ok(Recovery::Unfinished) => incomplete.unfinished.push(input.path.to_path_buf()),
            Ok(Recovery::Torn) => {
                incomplete.torn.push((input.topic_partition.clone(), input.path.to_path_buf()));
            }
            Err(error) => {
                tracing::error!(topic_partition = %input.topic_partition, %error, "partition stays offline");
                failed.insert(input.topic_partition.clone(), error);
            }
        }
    }
    (pending, failed, incomplete)
}

/// Each has files open until its round is synced.
const PARTITIONS_AT_ONCE: usize = 128;

/// Syncs what recovery kept, side by side, and makes logs of it. `offline_in_doubt` are logs that it has not come to.
async fn finish(
    directory: &Arc<Directory>,
    pending: Vec<(Box<PendingLog>, Arc<LogConfig>)>,
    clean: bool,
    new_names: impl Fn(&PendingLog) -> bool,
    offline_in_doubt: OffsetCheckpoint,
) -> Vec<Arc<PartitionLog>> {
    let world = &directory.shared.world;
    let mut results = Vec::new();
    let mut to_sync = offline_in_doubt.clone();
    for (log, _) in pending.iter().filter(|(log, _)| !log.unsynced.is_empty()) {
        let name = &log.recovered.topic_partition;
        to_sync.insert(name.clone(), directory.recovery_point(name));
    }
    let doubt = if clean && to_sync.is_empty() {
        directory.doubts.prepare(&*world.disk).map(|()| None)
    } else {
        directory.begin_sync(to_sync).map(Some)
    };
    let doubt = doubt.unwrap_or_else(|error| {
        results.push(Err(error));
        None
    });
    for round in pending.chunks(PARTITIONS_AT_ONCE) {
        let (mut files, mut paths) = (Vec::new(), Vec::new());
        for (log, _) in round {
            let path = &log.recovered.path;
            let mut opened: Vec<io::Result<Arc<dyn DiskFile>>> =
                log.unsynced.iter().map(|segment| segment.file()).collect();
            let indexes = log.unsynced_transactions.iter();
            opened.extend(indexes.map(|segment| segment.transaction_index_file(OpenMode::ReadWrite)));
            if new_names(log) {
                match write_file(&*world.disk, &path.join(names::PARTITION_METADATA)) {
                    // Kafka's own logs of old may have none.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    file => opened.push(file),
                }
            }
            if log.sync_directory || new_names(log) {
                paths.push(path.to_path_buf());
            }
            for file in opened {
                match file {
                    Ok(file) => files.push(file),
                    Err(error) => results.push(Err(error)),
                }
            }
        }
        results.extend(world.disk.sync_files(files).await);
        results.extend(sync_directories(world, paths).await);
    }
    if !clean {
        // Checkpoints replaced, partitions made, a mark of a clean stop taken away: by a process that did not come to this.
        results.extend(sync_directories(world, vec![directory.path.clone()]).await);
    }
    for result in results {
        if let Err(error) = result {
            directory.fail("sync", &directory.path, &error);
        }
    }
    if let Some(doubt) = doubt.filter(|_| !directory.is_offline()) {
        settle(directory, doubt, offline_in_doubt);
    }
    let logs: Vec<_> =
        pending.into_iter().map(|(log, config)| PartitionLog::new(directory, config, log.recovered)).collect();
    logs.iter().for_each(flush_closed_segments);
    logs
}

/// The logs were synced; those that stay offline stay in doubt.
fn settle(directory: &Directory, doubt: Doubt, offline_in_doubt: OffsetCheckpoint) {
    if !offline_in_doubt.is_empty() {
        match directory.begin_sync(offline_in_doubt) {
            // Never taken back.
            Ok(_stays) => {}
            Err(error) => return directory.fail("write", &directory.path.join(names::DOUBTS), &error),
        }
    }
    directory.end_sync(doubt);
}
