//! Making and removing partitions.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_rt::OpenMode;
use ottla_types::{TopicId, TopicPartition};

use super::start::random_uuid;
use super::{Inner, LogManager, Removal, io_error};
use crate::directory::Directory;
use crate::epochs::LeaderEpochs;
use crate::error::LogError;
use crate::identity;
use crate::journal::LeaveError;
use crate::names;
use crate::partition::{PartitionLog, RecoveredLog, is_no_space};
use crate::producers::Producers;
use crate::segment::Segment;

/// A partition to be made.
#[derive(Clone, Debug)]
pub struct NewPartition {
    pub topic_partition: TopicPartition,
    pub topic_id: TopicId,
    pub config: Arc<LogConfig>,
}

/// So many are made without giving others a turn.
const PARTITIONS_AT_ONCE: usize = 1024;

/// A partition whose files are there, not yet durable.
struct Made {
    directory: Arc<Directory>,
    path: Arc<Path>,
    segment: Segment,
}

impl LogManager {
    /// Makes partitions, each in the directory that has fewest. One that exists with the same topic id is as good as made.
    /// Nothing is synced: a partition becomes durable with its first flush, and one that a power loss takes before had
    /// nothing that was durable; whoever knows that it should be there makes it again. Results are in the order of the
    /// request.
    pub async fn create(&self, partitions: Vec<NewPartition>) -> Vec<Result<Arc<PartitionLog>, LogError>> {
        let _changes = self.inner.changes.lock().await;
        let mut results: Vec<Option<Result<Arc<PartitionLog>, LogError>>> = Vec::new();
        let mut wanted: Vec<(usize, NewPartition)> = Vec::new();
        for (index, partition) in partitions.into_iter().enumerate() {
            results.push(self.inner.existing(&partition));
            if results[index].is_none() {
                wanted.push((index, partition));
            }
        }
        for round in wanted.chunks(PARTITIONS_AT_ONCE) {
            for (index, result) in self.inner.make_round(round).await {
                results[index] = Some(result);
            }
        }
        let answered = |result: Option<_>| result.expect("invariant: every partition asked for has a result");
        results.into_iter().map(answered).collect()
    }

    /// Removes a partition: its directory is renamed, durably, and goes after `file.delete.delay.ms`.
    pub async fn delete(&self, topic_partition: &TopicPartition) -> Result<(), LogError> {
        let mut results = self.delete_all(std::slice::from_ref(topic_partition)).await;
        results.pop().unwrap_or(Ok(()))
    }

    /// Removes partitions with one sync per directory; results are in the order of the request.
    pub async fn delete_all(&self, partitions: &[TopicPartition]) -> Vec<Result<(), LogError>> {
        let _changes = self.inner.changes.lock().await;
        let wanted = partitions.to_vec();
        self.inner.blocking(move |inner| inner.rename_away(&wanted, Fate::Removed)).await
    }

    /// Puts partitions aside that the metadata does not know: their directories are renamed, durably, and stay for
    /// somebody to look at. Results are in the order of the request.
    pub async fn set_aside_all(&self, partitions: &[TopicPartition]) -> Vec<Result<(), LogError>> {
        let _changes = self.inner.changes.lock().await;
        let wanted = partitions.to_vec();
        self.inner.blocking(move |inner| inner.rename_away(&wanted, Fate::Kept)).await
    }
}

/// What becomes of a directory that was renamed away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It goes after `file.delete.delay.ms`.
    Removed,
    Kept,
}

impl Inner {
    fn existing(&self, partition: &NewPartition) -> Option<Result<Arc<PartitionLog>, LogError>> {
        let topic_partition = &partition.topic_partition;
        if self.offline.contains_key(topic_partition) {
            return Some(Err(LogError::PartitionOffline(topic_partition.clone())));
        }
        let log = self.logs.read().get(topic_partition).cloned()?;
        if log.topic_id() == Some(partition.topic_id) {
            return Some(Ok(log));
        }
        Some(Err(LogError::TopicIdMismatch {
            topic_partition: topic_partition.clone(),
            expected: partition.topic_id,
            found: log.topic_id(),
        }))
    }

    async fn make_round(
        self: &Arc<Self>,
        wanted: &[(usize, NewPartition)],
    ) -> Vec<(usize, Result<Arc<PartitionLog>, LogError>)> {
        let placed = self.place(wanted);
        let partitions = wanted.to_vec();
        let made: Vec<Result<Made, LogError>> = self
            .blocking(move |_| {
                let places = partitions.iter().zip(placed);
                places.map(|((_, partition), directory)| make(partition, directory)).collect()
            })
            .await;
        let outcomes = wanted.iter().zip(made);
        outcomes.map(|((index, partition), made)| (*index, made.map(|made| self.register(made, partition)))).collect()
    }

    /// The directory each partition goes to: the one somebody asked for, or that has fewest, counting those placed before.
    fn place(&self, wanted: &[(usize, NewPartition)]) -> Vec<Option<Arc<Directory>>> {
        let online: Vec<&Arc<Directory>> =
            self.directories.iter().filter(|directory| !directory.is_offline()).collect();
        if let [only] = online[..] {
            return wanted.iter().map(|_| Some(Arc::clone(only))).collect();
        }
        let mut counts: Vec<(usize, &Arc<Directory>)> =
            online.into_iter().map(|directory| (self.logs_of(directory).len(), directory)).collect();
        let mut placed = Vec::new();
        for (_, partition) in wanted {
            if let Some(preferred) = self.moves.take_preference(&partition.topic_partition) {
                let count = counts.iter_mut().find(|(_, directory)| Arc::ptr_eq(directory, &preferred));
                if let Some((count, _)) = count {
                    *count += 1;
                }
                placed.push(Some(preferred));
                continue;
            }
            let fewest = counts.iter_mut().min_by_key(|(count, _)| *count);
            placed.push(fewest.map(|(count, directory)| {
                *count += 1;
                Arc::clone(directory)
            }));
        }
        placed
    }

    fn register(&self, made: Made, partition: &NewPartition) -> Arc<PartitionLog> {
        let recovered = RecoveredLog {
            topic_partition: partition.topic_partition.clone(),
            topic_id: Some(partition.topic_id),
            path: made.path,
            segments: vec![Arc::new(made.segment)],
            producers: Producers::default(),
            snapshot_offset: 0,
            epochs: LeaderEpochs::default(),
            epochs_dirty: false,
            forgotten_epochs: Arc::default(),
            log_start_offset: 0,
            log_end_offset: 0,
            flushed_offset: 0,
            high_watermark: 0,
            unsynced: vec![],
            creation_durable: false,
            unreplicated: Vec::new(),
        };
        let log = PartitionLog::new(&made.directory, Arc::clone(&partition.config), recovered);
        self.logs.write().insert(partition.topic_partition.clone(), Arc::clone(&log));
        log
    }

    /// Nothing of these partitions, which are deleted, is replayed into others of their name and id.
    fn leave_journals<'a>(&self, deleted: impl Iterator<Item = &'a Arc<PartitionLog>>) {
        let in_journal: Vec<&Arc<PartitionLog>> = deleted.filter(|log| log.is_in_journal()).collect();
        for directory in &self.directories {
            let logs: Vec<&PartitionLog> =
                in_journal.iter().filter(|log| log.is_in(directory)).map(|log| &***log).collect();
            // Of a directory that failed nothing more is written.
            if logs.is_empty() || directory.is_offline() {
                continue;
            }
            let is_no_space = |error: &LeaveError| matches!(error, LeaveError::NoSpace);
            let left = directory
                .reserve
                .lend(&*self.shared.world.disk, is_no_space, || directory.journal.leave_deleted(&logs));
            match left {
                Ok(()) => {}
                // A deletion makes room, so it goes on.
                Err(LeaveError::NoSpace) => {
                    tracing::warn!(directory = %directory.path.display(), "put off: no space left to note deletions in the journal");
                }
                Err(LeaveError::Failed(error)) => directory.fail("write the journal in", &directory.path, &error),
            }
        }
    }

    fn rename_away(&self, wanted: &[TopicPartition], fate: Fate) -> Vec<Result<(), LogError>> {
        let disk = &*self.shared.world.disk;
        let mut results = Vec::new();
        let mut renamed: Vec<(usize, Arc<PartitionLog>, PathBuf)> = Vec::new();
        let removed: Vec<Option<Arc<PartitionLog>>> = {
            let mut logs = self.logs.write();
            wanted.iter().map(|topic_partition| logs.remove(topic_partition)).collect()
        };
        for log in removed.iter().flatten() {
            log.mark_deleted();
        }
        for (index, (topic_partition, log)) in wanted.iter().zip(removed).enumerate() {
            let Some(log) = log else {
                results.push(Err(LogError::UnknownPartition(topic_partition.clone())));
                continue;
            };
            let unique = random_uuid(&self.shared.world);
            let name = match fate {
                Fate::Removed => names::deleted_directory(topic_partition, unique),
                Fate::Kept => names::stray_directory(topic_partition, unique),
            };
            let target = log.directory().path.join(name);
            match log.directory().with_reserve(|| disk.rename(&log.path(), &target)) {
                Ok(()) => {
                    renamed.push((index, log, target));
                    results.push(Ok(()));
                }
                Err(source) => {
                    log.directory().fail("rename", &log.path(), &source);
                    results.push(Err(io_error("rename", &log.path(), source)));
                }
            }
        }
        for parent in crate::flush::distinct(renamed.iter().map(|(_, log, _)| log.directory().path.clone())) {
            if let Err(error) = disk.sync_dir(&parent) {
                for (index, log, _) in renamed.iter().filter(|(_, log, _)| log.directory().path == parent) {
                    log.directory().fail("sync", &parent, &error);
                    results[*index] = Err(io_error("sync", &parent, error.kind().into()));
                }
            }
        }
        // Not before the renames are durable: a partition that comes back after a crash has everything.
        self.leave_journals(renamed.iter().map(|(_, log, _)| log));
        let now = self.shared.world.clock.monotonic();
        let mut removals = self.removals.lock();
        for (_, log, target) in renamed {
            log.release_handles();
            if fate == Fate::Kept {
                continue;
            }
            let delay_ms = log.config().file_delete_delay_ms.max(0) as u64;
            removals.push(Removal {
                due: now.saturating_add(Duration::from_millis(delay_ms)),
                directory: log.directory(),
                paths: vec![target],
                is_directory: true,
            });
        }
        results
    }
}

/// Makes the files of a partition.
fn make(partition: &NewPartition, directory: Option<Arc<Directory>>) -> Result<Made, LogError> {
    let directory = directory.ok_or(LogError::AllDirectoriesOffline)?;
    let path: Arc<Path> = Arc::from(directory.path.join(names::partition_directory(&partition.topic_partition)));
    match make_files(&directory, &path, partition) {
        Ok(segment) => Ok(Made { directory, path, segment }),
        Err(source) => {
            if is_no_space(&source) {
                // Nothing refers to it: what is there would be in the way of the next try.
                if let Err(error) = directory.shared.world.disk.remove_dir_all(&path) {
                    tracing::warn!(path = %path.display(), %error, "cannot remove a partition that was not made");
                }
            } else {
                directory.fail("create", &path, &source);
            }
            Err(io_error("create", &path, source))
        }
    }
}

fn make_files(directory: &Directory, path: &Arc<Path>, partition: &NewPartition) -> io::Result<Segment> {
    let disk = &*directory.shared.world.disk;
    // A deleted partition of the same name may still be in the checkpoints, and in the journal.
    directory.forget_checkpoints(&partition.topic_partition)?;
    directory.with_reserve(|| directory.journal.pay_owed())?;
    disk.create_dir_all(path)?;
    let metadata = disk.open(&path.join(names::PARTITION_METADATA), OpenMode::CreateOrOpen)?;
    metadata.set_len(0)?;
    let text = identity::format_partition_metadata(partition.topic_id);
    metadata.write_all_at(&[IoSlice::new(text.as_bytes())], 0)?;
    Segment::create(&directory.shared, path, 0, 0)
}
