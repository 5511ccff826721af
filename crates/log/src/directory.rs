//! A log directory: where its partitions are, and whether it can still be used.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_rt::{OpenMode, World};
use ottla_types::{TopicPartition, Uuid};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::checkpoint::{self, OffsetCheckpoint};
use crate::cleaner::CleanedOffsets;
use crate::doubts::{Doubt, Doubts};
use crate::flush::FlushQueue;
use crate::handles::HandleCache;
use crate::hot_tail::HotBudget;
use crate::journal::{Journal, JournalSettings};
use crate::names;
use crate::partition::is_no_space;
use crate::planted::Planted;
use crate::reserve::Reserve;

/// Is told what the flusher did. Called from its task: it must not block.
pub trait FlushListener: Send + Sync {
    /// Everything of the partition below `flushed_offset` is durable.
    fn flushed(&self, topic_partition: &TopicPartition, flushed_offset: i64);

    /// A round of flushes is over, successful or not.
    fn round(&self, took: Duration) {
        let _ = took;
    }

    /// The directory is offline, and stays so until the node starts again.
    fn directory_failed(&self, directory: &Path, error: &io::Error);
}

/// A broken invariant: the node has to stop, what it would do next cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FatalEvent {
    /// `None`: it concerns a whole log directory.
    pub topic_partition: Option<TopicPartition>,
    pub operation: &'static str,
}

/// Told of a [`FatalEvent`], at most once per partition, and once per directory.
pub type FatalHandler = Arc<dyn Fn(FatalEvent) + Send + Sync>;

/// What every partition of a node shares.
pub(crate) struct Shared {
    pub(crate) world: World,
    pub(crate) handles: HandleCache,
    pub(crate) hot_budget: HotBudget,
    pub(crate) producer_id_expiration_ms: AtomicI64,
    /// Not held: it has the logs, which would hold each other for ever.
    pub(crate) listener: RwLock<Option<Weak<dyn FlushListener>>>,
    pub(crate) fatal: FatalHandler,
    /// Some directory has so much that its recovery points are worth writing.
    pub(crate) checkpoint_due: Notify,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) planted: Option<Planted>,
}

impl Shared {
    pub(crate) fn has_planted(&self, defect: Planted) -> bool {
        self.planted == Some(defect)
    }
}

/// One of `log.dirs`.
pub(crate) struct Directory {
    pub(crate) shared: Arc<Shared>,
    pub(crate) path: PathBuf,
    /// `None`: it could not be read when the node started.
    pub(crate) id: Option<Uuid>,
    pub(crate) flushes: FlushQueue,
    pub(crate) journal: Journal,
    pub(crate) reserve: Reserve,
    /// As last written to `recovery-point-offset-checkpoint`.
    recovery_points: Mutex<OffsetCheckpoint>,
    /// As last written to `log-start-offset-checkpoint`.
    log_starts: Mutex<OffsetCheckpoint>,
    pub(crate) cleaned: CleanedOffsets,
    pub(crate) doubts: Doubts,
    /// Synced since the recovery points were last taken.
    synced_bytes: AtomicU64,
    offline: AtomicBool,
}

/// A directory's checkpoints as a start finds them.
#[derive(Default)]
pub(crate) struct Checkpoints {
    pub(crate) recovery_points: OffsetCheckpoint,
    pub(crate) log_starts: OffsetCheckpoint,
    pub(crate) cleaned: OffsetCheckpoint,
}

impl Directory {
    pub(crate) fn new(
        shared: Arc<Shared>,
        path: PathBuf,
        id: Option<Uuid>,
        journal: Journal,
        reserve: Reserve,
        checkpoints: Checkpoints,
    ) -> Directory {
        Directory {
            cleaned: CleanedOffsets::new(&path, checkpoints.cleaned),
            doubts: Doubts::new(&path),
            shared,
            path,
            id,
            flushes: FlushQueue::default(),
            journal,
            reserve,
            recovery_points: Mutex::new(checkpoints.recovery_points),
            log_starts: Mutex::new(checkpoints.log_starts),
            synced_bytes: AtomicU64::new(0),
            offline: AtomicBool::new(false),
        }
    }

    /// One that could not be opened.
    pub(crate) fn offline(shared: &Arc<Shared>, path: &Path, id: Option<Uuid>) -> Directory {
        let journal = Journal::new(&shared.world, path, JournalSettings { from_partitions: 0, file_bytes: 0 }, 1);
        let reserve = Reserve::none(path);
        let directory =
            Directory::new(Arc::clone(shared), path.to_path_buf(), id, journal, reserve, Checkpoints::default());
        directory.offline.store(true, Ordering::Release);
        directory
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    /// Takes the directory offline after an error that leaves its content in doubt. Logged and told once.
    pub(crate) fn fail(&self, operation: &'static str, path: &Path, error: &io::Error) {
        if self.offline.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::error!(
            directory = %self.path.display(),
            path = %path.display(),
            operation,
            %error,
            "log directory is taken offline"
        );
        if let Some(listener) = self.listener() {
            listener.directory_failed(&self.path, error);
        }
        self.flushes.wake();
    }

    /// A file of the node's own bookkeeping could not be written. A full disk puts it off: what it would say is found
    /// again by reading more of the log.
    pub(crate) fn bookkeeping_failed(&self, operation: &'static str, path: &Path, error: &io::Error) {
        if is_no_space(error) {
            tracing::warn!(path = %path.display(), operation, %error, "put off: no space left");
        } else {
            self.fail(operation, path, error);
        }
    }

    /// A sync is about to make these logs durable from these offsets on: until it has, that is in doubt.
    pub(crate) fn begin_sync(&self, logs: impl IntoIterator<Item = (TopicPartition, i64)>) -> io::Result<Doubt> {
        self.doubts.begin(&*self.shared.world.disk, logs.into_iter().collect())
    }

    /// The sync has succeeded.
    pub(crate) fn end_sync(&self, doubt: Doubt) {
        if let Err(error) = self.doubts.end(&*self.shared.world.disk, doubt) {
            self.fail("write", &self.path.join(names::DOUBTS), &error);
        }
    }

    /// A start after a crash need not read these bytes again once the recovery points say so.
    pub(crate) fn note_synced(&self, bytes: u64) {
        let wanted = self.shared.checkpoint_bytes;
        let before = self.synced_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before < wanted && before.saturating_add(bytes) >= wanted {
            self.shared.checkpoint_due.notify_one();
        }
    }

    /// The recovery points are about to be taken.
    pub(crate) fn begin_checkpoint(&self) {
        self.synced_bytes.store(0, Ordering::Relaxed);
    }

    /// An append found no space: what there is left, and the reserve, is for the bookkeeping, here and in the metadata.
    pub(crate) fn note_full(&self) {
        self.reserve.give_up(&*self.shared.world.disk);
    }

    /// Does something for the directory's bookkeeping; with no space left once more, with the reserve given up for it.
    pub(crate) fn with_reserve<T>(&self, work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        self.reserve.lend(&*self.shared.world.disk, is_no_space, work)
    }

    pub(crate) fn listener(&self) -> Option<Arc<dyn FlushListener>> {
        self.shared.listener.read().as_ref()?.upgrade()
    }

    pub(crate) fn recovery_point(&self, topic_partition: &TopicPartition) -> i64 {
        self.recovery_points.lock().get(topic_partition).copied().unwrap_or(0)
    }

    pub(crate) fn log_start(&self, topic_partition: &TopicPartition) -> i64 {
        self.log_starts.lock().get(topic_partition).copied().unwrap_or(0)
    }

    /// Writes the recovery points that `collect` gives, unless they are as they were. No truncation comes between.
    pub(crate) fn checkpoint_recovery_points(&self, collect: impl FnOnce() -> OffsetCheckpoint) -> io::Result<()> {
        let mut written = self.recovery_points.lock();
        let points = collect();
        self.replace(&mut written, names::RECOVERY_POINT_CHECKPOINT, points)
    }

    /// Writes the log start offsets, unless they are as they were.
    pub(crate) fn checkpoint_log_starts(&self, starts: OffsetCheckpoint) -> io::Result<()> {
        self.replace(&mut self.log_starts.lock(), names::LOG_START_CHECKPOINT, starts)
    }

    /// A log is about to be cut to `offset`: what will be written there later must not count as durable. `cut` makes
    /// the end known before anybody can write a checkpoint again.
    pub(crate) fn lower_recovery_point(
        &self,
        topic_partition: &TopicPartition,
        offset: i64,
        cut: impl FnOnce(),
    ) -> io::Result<()> {
        let mut written = self.recovery_points.lock();
        if written.get(topic_partition).is_some_and(|point| *point > offset)
            && !self.shared.has_planted(Planted::RecoveryPointKept)
        {
            let mut points = written.clone();
            points.insert(topic_partition.clone(), offset);
            self.replace(&mut written, names::RECOVERY_POINT_CHECKPOINT, points)?;
        }
        cut();
        Ok(())
    }

    /// A partition is about to be made: what the checkpoints say of this name was of another.
    pub(crate) fn forget_checkpoints(&self, topic_partition: &TopicPartition) -> io::Result<()> {
        let mut written = self.log_starts.lock();
        if written.contains_key(topic_partition) {
            let mut starts = written.clone();
            starts.remove(topic_partition);
            self.replace(&mut written, names::LOG_START_CHECKPOINT, starts)?;
        }
        drop(written);
        self.cleaned.forget(&self.shared, topic_partition)?;
        // Not 0: a recovery point names what is durable, and the new partition is not yet.
        let mut written = self.recovery_points.lock();
        if written.contains_key(topic_partition) {
            let mut points = written.clone();
            points.remove(topic_partition);
            self.replace(&mut written, names::RECOVERY_POINT_CHECKPOINT, points)?;
        }
        Ok(())
    }

    /// A partition is moved here: what a start has to know of it, before it has the partition's name.
    pub(crate) fn take_in(
        &self,
        topic_partition: &TopicPartition,
        log_start_offset: i64,
        recovery_point: i64,
        cleaned_to: Option<i64>,
    ) -> io::Result<()> {
        let mut written = self.log_starts.lock();
        let mut starts = written.clone();
        if log_start_offset > 0 {
            starts.insert(topic_partition.clone(), log_start_offset);
        } else {
            starts.remove(topic_partition);
        }
        self.replace(&mut written, names::LOG_START_CHECKPOINT, starts)?;
        drop(written);
        self.cleaned.take_in(&self.shared, topic_partition, cleaned_to)?;
        let mut written = self.recovery_points.lock();
        let mut points = written.clone();
        points.insert(topic_partition.clone(), recovery_point);
        self.replace(&mut written, names::RECOVERY_POINT_CHECKPOINT, points)
    }

    fn replace(&self, written: &mut OffsetCheckpoint, name: &str, offsets: OffsetCheckpoint) -> io::Result<()> {
        if *written != offsets {
            if self.shared.has_planted(Planted::CheckpointInPlace) {
                let file = self.shared.world.disk.open(&self.path.join(name), OpenMode::CreateOrOpen)?;
                file.set_len(0)?;
                file.write_all_at(&[IoSlice::new(checkpoint::format_offsets(&offsets).as_bytes())], 0)?;
                *written = offsets;
                return Ok(());
            }
            let path = self.path.join(name);
            self.with_reserve(|| checkpoint::write_offsets(&*self.shared.world.disk, &path, &offsets))?;
            *written = offsets;
        }
        Ok(())
    }
}
