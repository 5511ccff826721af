//! The manager's side of moving partitions between its directories.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_types::{TopicPartition, Uuid};
use tokio::sync::watch;

use super::start::random_uuid;
use super::{Inner, LogManager, Removal};
use crate::directory::Directory;
use crate::error::MoveReplicaError;
use crate::moves::{Move, MoveError, MoveSettings, PanicGuard, Progress, Signal};
use crate::names;
use crate::partition::is_no_space;

/// How often a move says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(30);
/// A copy that has caught up, but for what came meanwhile, tries again after this.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// A partition's copy in the directory it is moved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FutureStatus {
    pub topic_partition: TopicPartition,
    /// Of the directory it is in.
    pub directory_id: Uuid,
    pub size: u64,
    /// How many offsets it is behind the log.
    pub offset_lag: i64,
}

impl LogManager {
    /// Begins to move what is to be moved, or goes on at another rate. Until then moves are only taken note of.
    pub fn start_moves(&self, settings: MoveSettings) {
        let moves = &self.inner.moves;
        let before = moves.settings.write().replace(settings);
        if before.is_some() {
            moves.signal.send_modify(|signal| signal.changes += 1);
            return;
        }
        moves.slots.add_permits(settings.threads.max(1));
        for moving in moves.all() {
            self.inner.run_move(moving);
        }
    }

    /// What moves were started with last, if they were.
    pub fn move_settings(&self) -> Option<MoveSettings> {
        *self.inner.moves.settings.read()
    }

    /// Has a partition moved to the directory with this path, as it stands in the settings. A move of it to another one is
    /// given up; so is any when it is there. Fails when it has no log here: with [`MoveReplicaError::UnknownPartition`] it
    /// will be made in that directory.
    pub async fn move_replica(
        &self,
        topic_partition: &TopicPartition,
        directory: &Path,
    ) -> Result<(), MoveReplicaError> {
        let _changes = self.inner.changes.lock().await;
        let (topic_partition, directory) = (topic_partition.clone(), directory.to_path_buf());
        let begun = self.inner.blocking(move |inner| inner.begin_move(&topic_partition, &directory)).await?;
        if let Some(moving) = begun
            && self.inner.moves.settings.read().is_some()
        {
            self.inner.run_move(moving);
        }
        Ok(())
    }

    /// What is being moved.
    pub fn futures(&self) -> Vec<FutureStatus> {
        let status = |moving: Arc<Move>| {
            Some(FutureStatus {
                topic_partition: moving.log.topic_partition().clone(),
                directory_id: moving.target.id?,
                size: moving.size(),
                offset_lag: moving.offset_lag(),
            })
        };
        self.inner.moves.all().into_iter().filter_map(status).collect()
    }
}

impl Inner {
    /// The move that has begun with this, if one has.
    fn begin_move(&self, topic_partition: &TopicPartition, path: &Path) -> Result<Option<Arc<Move>>, MoveReplicaError> {
        let name = names::future_directory(topic_partition, random_uuid(&self.shared.world))
            .ok_or_else(|| MoveReplicaError::NameTooLong(topic_partition.clone()))?;
        let directory = self.directories.iter().find(|directory| directory.path == path);
        let directory = directory.ok_or_else(|| MoveReplicaError::UnknownDirectory(path.to_path_buf()))?;
        if directory.is_offline() {
            return Err(MoveReplicaError::DirectoryOffline(path.to_path_buf()));
        }
        let log = self.logs.read().get(topic_partition).cloned();
        if self.offline.contains_key(topic_partition) || log.as_ref().is_some_and(|log| log.is_offline()) {
            return Err(MoveReplicaError::PartitionOffline(topic_partition.clone()));
        }
        let Some(log) = log else {
            self.moves.prefer(topic_partition, directory);
            return Err(MoveReplicaError::UnknownPartition(topic_partition.clone()));
        };
        if let Some(other) = self.moves.get(topic_partition) {
            if Arc::ptr_eq(&other.target, directory) && Arc::ptr_eq(&other.log, &log) {
                return Ok(None);
            }
            tracing::info!(%topic_partition, target = %other.target.path.display(), "the move of a partition is given up");
            self.give_up(&other);
        }
        if log.is_in(directory) {
            return Ok(None);
        }
        // It might have a copy there already.
        if let Some(offline) = self.directories.iter().find(|directory| directory.is_offline()) {
            return Err(MoveReplicaError::DirectoryOffline(offline.path.clone()));
        }
        let disk = &*self.shared.world.disk;
        let failed = |path: &Path, source| MoveReplicaError::Io { path: path.to_path_buf(), source };
        let taken = directory.path.join(names::partition_directory(topic_partition));
        if disk.exists(&taken).map_err(|source| failed(&taken, source))? {
            return Err(MoveReplicaError::Occupied(taken));
        }
        let future = directory.path.join(name);
        if let Err(error) = disk.create_dir_all(&future) {
            if !is_no_space(&error) {
                directory.fail("create", &future, &error);
            }
            return Err(failed(&future, error));
        }
        tracing::info!(
            %topic_partition, from = %log.directory().path.display(), to = %directory.path.display(), bytes = log.size(),
            "a partition is being moved"
        );
        let moving = Move::new(&log, directory, future);
        self.moves.insert(&moving);
        Ok(Some(moving))
    }

    fn run_move(self: &Arc<Self>, moving: Arc<Move>) {
        let mut tasks = self.moves.tasks.lock();
        if self.moves.signal.borrow().stopped {
            return;
        }
        tasks.retain(|task| !task.is_finished());
        let signal = self.moves.signal.subscribe();
        tasks.push(tokio::spawn(run(Arc::downgrade(self), moving, signal)));
    }

    /// Ends a move, and removes its copy.
    fn give_up(&self, moving: &Arc<Move>) {
        let copy = moving.future.lock().take();
        self.moves.remove(moving);
        let Some(copy) = copy else { return };
        if !moving.target.is_offline() {
            self.retire(&moving.target, moving.log.topic_partition(), copy.path(), Duration::ZERO);
        }
    }

    /// Has a directory of a partition removed, renamed until then so that a start knows.
    fn retire(&self, directory: &Arc<Directory>, name: &TopicPartition, path: &Path, delay: Duration) {
        let world = &self.shared.world;
        let renamed = directory.path.join(names::deleted_directory(name, random_uuid(world)));
        let disk = &*world.disk;
        let name_gone = match directory.with_reserve(|| disk.rename(path, &renamed)) {
            // Without room for another name it goes at once: a start that found it would take it for the partition,
            // should that be deleted by then.
            Err(error) if is_no_space(&error) => disk.remove_dir_all(path).map(|()| None),
            done => done.map(|()| Some(renamed)),
        };
        let path = match name_gone.and_then(|path| disk.sync_dir(&directory.path).map(|()| path)) {
            Ok(Some(renamed)) => renamed,
            Ok(None) => return,
            Err(error) => {
                directory.fail("remove", path, &error);
                return;
            }
        };
        let due = world.clock.monotonic().saturating_add(delay);
        let removal = Removal { due, directory: Arc::clone(directory), paths: vec![path], is_directory: true };
        self.removals.lock().push(removal);
    }

    /// Puts a copy that has caught up in its log's place.
    async fn finish_move(self: &Arc<Self>, moving: &Arc<Move>) -> Result<(), MoveError> {
        let _changes = self.changes.lock().await;
        // What it writes is written in the directory that goes.
        if self.cleaner.is_cleaning(moving.log.topic_partition()) {
            return Err(MoveError::Behind);
        }
        let moving = Arc::clone(moving);
        self.blocking(move |inner| inner.relocate(&moving)).await
    }

    fn relocate(&self, moving: &Arc<Move>) -> Result<(), MoveError> {
        let mut future = moving.future.lock();
        let Some(copy) = &mut *future else { return Err(MoveError::Gone) };
        if moving.target.is_offline() {
            return Err(MoveError::Gone);
        }
        let log = &moving.log;
        let topic_partition = log.topic_partition();
        let source = log.directory();
        let path: Arc<Path> = Arc::from(moving.target.path.join(names::partition_directory(topic_partition)));
        let moves = moving.moves_so_far()? + 1;
        let old: PathBuf = log.relocate(copy, &path, moves)?;
        *future = None;
        drop(future);
        self.moves.remove(moving);
        if let Some(listener) = moving.target.listener() {
            listener.flushed(topic_partition, log.flushed_offset());
        }
        let delay_ms = log.config().file_delete_delay_ms.max(0) as u64;
        self.retire(&source, topic_partition, &old, Duration::from_millis(delay_ms));
        tracing::info!(
            %topic_partition, from = %source.path.display(), to = %moving.target.path.display(), bytes = log.size(),
            "the partition was moved"
        );
        Ok(())
    }

    /// A move that cannot go on: the partition stays where it is.
    fn move_failed(&self, moving: &Arc<Move>, error: &MoveError) {
        let topic_partition = moving.log.topic_partition();
        match error {
            MoveError::Gone if !moving.log.is_deleted() => {
                // At the next start it goes on.
                self.moves.remove(moving);
                return;
            }
            MoveError::Gone | MoveError::Behind => {}
            MoveError::Damaged { .. } => {
                tracing::error!(%topic_partition, %error, "a damaged log is not moved");
            }
            MoveError::Target { source, .. } if is_no_space(source) => {
                tracing::warn!(%topic_partition, %error, "the move of a partition is given up: no space left");
            }
            MoveError::Target { operation, path, source } => {
                moving.target.fail(operation, path, source);
            }
            MoveError::Source { operation, path, source } => {
                if !moving.log.is_deleted() {
                    moving.log.directory().fail(operation, path, source);
                    self.moves.remove(moving);
                    return;
                }
            }
        }
        self.give_up(moving);
    }
}

/// Moves one partition, as far as the node lets it.
async fn run(inner: Weak<Inner>, moving: Arc<Move>, mut signal: watch::Receiver<Signal>) {
    let Some((slots, shared)) =
        inner.upgrade().map(|inner| (Arc::clone(&inner.moves.slots), Arc::clone(&inner.shared)))
    else {
        return;
    };
    let _guard = PanicGuard(Arc::clone(&shared));
    let _slot = tokio::select! {
        slot = slots.acquire() => slot,
        _ = signal.wait_for(|signal| signal.stopped) => return,
    };
    let mut reported = shared.world.clock.monotonic();
    loop {
        if signal.borrow_and_update().stopped {
            return;
        }
        let Some(inner) = inner.upgrade() else { return };
        let stepping = Arc::clone(&moving);
        let mut stepped = inner.blocking(move |_| stepping.step()).await;
        if matches!(stepped, Ok(Some(Progress::CaughtUp))) {
            stepped = inner.finish_move(&moving).await.map(|()| None);
        }
        let now = shared.world.clock.monotonic();
        let wait = match stepped {
            Ok(None) => return,
            Ok(Some(Progress::Moved(bytes))) => {
                let rate = inner.moves.settings.read().map_or(f64::MAX, |settings| settings.bytes_per_second);
                inner.moves.throttle.lock().wait_for(now, bytes, rate)
            }
            Ok(Some(Progress::CaughtUp)) | Err(MoveError::Behind) => TRY_AGAIN,
            Err(error) => {
                let failed = Arc::clone(&moving);
                inner.blocking(move |inner| inner.move_failed(&failed, &error)).await;
                return;
            }
        };
        drop(inner);
        if now.saturating_sub(reported) >= REPORT_EVERY {
            reported = now;
            let (log, copied) = (&moving.log, moving.size());
            let (topic_partition, lag) = (log.topic_partition(), moving.offset_lag());
            tracing::info!(%topic_partition, copied, bytes = log.size(), offset_lag = lag, "a partition is being moved");
        }
        if wait == Duration::ZERO {
            tokio::task::yield_now().await;
        } else {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // A stop, or another rate.
                _ = signal.changed() => {}
            }
        }
    }
}
