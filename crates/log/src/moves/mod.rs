//! Moving partitions between the log directories of a node (KIP-113).
//!
//! A [`FutureLog`] is made in the directory a partition moves to, catches up with the partition's log step by step while
//! that is written, cleaned by retention, cut; and takes its place in one step (`partition::relocate`). A move that a stop
//! or a crash interrupts goes on at the next start; one whose target fails or is full is given up, and the partition stays
//! where it is.
//!
//! What is next is a value ([`plan`]), so is which of two directories is a partition's ([`mark`]).

mod future;
mod mark;
mod plan;
mod start;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use ottla_types::TopicPartition;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

pub(crate) use future::{FutureLog, Progress};
pub(crate) use start::{FoundFuture, settle_duplicates, sort_futures};

use crate::cleaner::Throttle;
use crate::directory::{Directory, Shared};
use crate::partition::PartitionLog;
use crate::scan::InvalidBatchBytes;

/// Most partitions that are remembered to go to a certain directory when they are made.
const MOST_PREFERENCES: usize = 10_000;

/// How fast partitions are moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MoveSettings {
    /// `num.replica.alter.log.dirs.threads`: so many are moved at a time. Only the first value counts.
    pub threads: usize,
    /// `replica.alter.log.dirs.io.max.bytes.per.second`, all of them together.
    pub bytes_per_second: f64,
}

/// A move does not go on, for now or for good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MoveError {
    #[error("{operation} {}: {source}", path.display())]
    Source { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{operation} {}: {source}", path.display())]
    Target { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged at byte {position}: {reason}", path.display())]
    Damaged { path: PathBuf, position: u64, reason: InvalidBatchBytes },
    #[error("more is missing than may be copied while appends wait")]
    Behind,
    #[error("the partition is deleted, its directory is offline, or the node stops")]
    Gone,
}

impl MoveError {
    pub(crate) fn source(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> MoveError + use<> {
        let path = path.to_path_buf();
        move |source| MoveError::Source { operation, path: path.clone(), source }
    }

    pub(crate) fn target(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> MoveError + use<> {
        let path = path.to_path_buf();
        move |source| MoveError::Target { operation, path: path.clone(), source }
    }
}

/// A partition that is being moved.
pub(crate) struct Move {
    pub(crate) log: Arc<PartitionLog>,
    pub(crate) target: Arc<Directory>,
    /// `None` once the move has ended, however. Locked for a step.
    pub(crate) future: Mutex<Option<FutureLog>>,
    size: AtomicU64,
    log_end_offset: AtomicI64,
}

impl Move {
    /// Marks the log as being moved. The directory at `path` is there.
    pub(crate) fn new(log: &Arc<PartitionLog>, target: &Arc<Directory>, path: PathBuf) -> Arc<Move> {
        log.set_moving(true);
        Arc::new(Move {
            log: Arc::clone(log),
            target: Arc::clone(target),
            future: Mutex::new(Some(FutureLog::new(target, path))),
            size: AtomicU64::new(0),
            log_end_offset: AtomicI64::new(0),
        })
    }

    /// Goes on a little; `None` when the move has ended. Blocks.
    pub(crate) fn step(&self) -> Result<Option<Progress>, MoveError> {
        let mut future = self.future.lock();
        let Some(future) = &mut *future else { return Ok(None) };
        if !self.log.is_movable() || self.target.is_offline() {
            return Err(MoveError::Gone);
        }
        let progress = future.step(&self.log)?;
        self.size.store(future.size(), Ordering::Relaxed);
        self.log_end_offset.store(future.log_end_offset(), Ordering::Relaxed);
        Ok(Some(progress))
    }

    /// Bytes the copy has.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// How many offsets the copy is behind the log.
    pub(crate) fn offset_lag(&self) -> i64 {
        (self.log.log_end_offset() - self.log_end_offset.load(Ordering::Relaxed)).max(0)
    }

    /// How often the partition has been moved.
    pub(crate) fn moves_so_far(&self) -> Result<u64, MoveError> {
        let path = self.log.path();
        mark::read(&*self.log.shared().world.disk, &path).map_err(MoveError::source("read", &path))
    }
}

/// What a node is moving.
pub(crate) struct Moves {
    moves: Mutex<BTreeMap<TopicPartition, Arc<Move>>>,
    /// Where partitions go that are still to be made, oldest wish first.
    preferences: Mutex<VecDeque<(TopicPartition, Arc<Directory>)>>,
    pub(crate) settings: RwLock<Option<MoveSettings>>,
    pub(crate) throttle: Mutex<Throttle>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) tasks: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) signal: watch::Sender<Signal>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signal {
    pub(crate) stopped: bool,
    /// Counts changes of the settings.
    pub(crate) changes: u64,
}

impl Default for Moves {
    fn default() -> Self {
        Moves {
            moves: Mutex::default(),
            preferences: Mutex::default(),
            settings: RwLock::default(),
            throttle: Mutex::default(),
            slots: Arc::new(Semaphore::new(0)),
            tasks: Mutex::default(),
            signal: watch::channel(Signal::default()).0,
        }
    }
}

impl Moves {
    pub(crate) fn all(&self) -> Vec<Arc<Move>> {
        self.moves.lock().values().cloned().collect()
    }

    pub(crate) fn get(&self, topic_partition: &TopicPartition) -> Option<Arc<Move>> {
        self.moves.lock().get(topic_partition).cloned()
    }

    pub(crate) fn insert(&self, moving: &Arc<Move>) {
        self.moves.lock().insert(moving.log.topic_partition().clone(), Arc::clone(moving));
    }

    /// The move has ended, or goes on at the next start only.
    pub(crate) fn remove(&self, moving: &Arc<Move>) {
        let mut moves = self.moves.lock();
        let name = moving.log.topic_partition();
        if moves.get(name).is_some_and(|other| Arc::ptr_eq(other, moving)) {
            moves.remove(name);
        }
        moving.log.set_moving(false);
    }

    /// A partition that does not exist is to be made in this directory. The oldest of too many wishes is forgotten.
    pub(crate) fn prefer(&self, topic_partition: &TopicPartition, directory: &Arc<Directory>) {
        let mut preferences = self.preferences.lock();
        preferences.retain(|(name, _)| name != topic_partition);
        if preferences.len() >= MOST_PREFERENCES {
            preferences.pop_front();
        }
        preferences.push_back((topic_partition.clone(), Arc::clone(directory)));
    }

    /// Where a partition is to be made, if somebody said so. It is forgotten with that.
    pub(crate) fn take_preference(&self, topic_partition: &TopicPartition) -> Option<Arc<Directory>> {
        let mut preferences = self.preferences.lock();
        let position = preferences.iter().position(|(name, _)| name == topic_partition)?;
        let (_, directory) = preferences.remove(position)?;
        (!directory.is_offline()).then_some(directory)
    }

    /// Nothing is moved any more. Resolves when the steps under way have ended.
    pub(crate) async fn stop(&self) {
        self.close();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a move ended early");
            }
        }
    }

    /// The same, without waiting for it.
    pub(crate) fn close(&self) {
        self.signal.send_modify(|signal| signal.stopped = true);
    }
}

/// A mover that dies would leave its partition half-moved without a word: the node stops.
pub(crate) struct PanicGuard(pub(crate) Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0.fatal)(crate::directory::FatalEvent { topic_partition: None, operation: "a move" });
        }
    }
}
