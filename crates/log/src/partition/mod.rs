//! The log of one partition.
//!
//! Locks. `structure` is held by whatever takes segments away or replaces them, `writer` for the whole of an append, a roll,
//! a truncation: they come one after another. `view` is held for moments, to publish what was written and to read what is there: a reader never waits for the disk a writer
//! waits for. A sync happens under neither, but for truncations, which nobody else may overtake.
//!
//! Invariants, checked where they are made and where they are used:
//! - `log_start_offset ≤ flushed_offset ≤ log_end_offset`, and `flushed_offset` falls only by a truncation
//! - `synced_offset ≤ flushed_offset`
//! - segments are in order, the last one is written to, and there is always one
//! - the producer state covers exactly the log up to its end
//! - `first_unstable_offset` takes in a transactional batch before the log end offset does, and gives up a transaction
//!   only when the high watermark has passed its marker: who takes a high watermark first and this second sees no record
//!   of an open transaction as stable
//!
//! A panic in here stops the node by its fatal handler: what memory holds may no longer be what the disk holds.

mod append;
mod change;
mod cold;
mod flush;
mod lookup;
mod read;
mod relocate;
mod replace;
mod transactions;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use ottla_config::LogConfig;
use ottla_types::{TopicId, TopicPartition};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

pub(crate) use append::roll_jitter_ms;
pub use append::{Appended, BatchToAppend};
pub(crate) use cold::Surroundings;
use flush::FlushState;
pub(crate) use flush::{FlushJob, SettleJob};
pub use lookup::TimestampAndOffset;
pub use read::{LogRead, ReadChunk};
pub(crate) use relocate::MovingView;
pub(crate) use replace::{CleaningView, ReplaceError};
pub use transactions::{CommittedRead, EndTransaction};

use crate::checkpoint;
use crate::directory::{Directory, FatalEvent, Shared};
use crate::epochs::LeaderEpochs;
use crate::forgotten_epochs::ForgottenEpochs;
use crate::hot_tail::HotTail;
use crate::names;
use crate::planted::Planted;
use crate::producers::{ProducerEntry, Producers, format_snapshot};
use crate::segment::Segment;
use crate::transactions::UnstableOffsets;

/// The log of one partition, shared by everything that reads and writes it.
pub struct PartitionLog {
    topic_partition: TopicPartition,
    topic_id: Option<TopicId>,
    shared: Arc<Shared>,
    /// Changes when the partition is moved to another log directory, with `structure`, `writer` and `flush_state` locked.
    home: RwLock<Home>,
    itself: Weak<PartitionLog>,
    config: RwLock<Arc<LogConfig>>,
    /// Held by what takes segments out of the log or puts others in their place: cuts, retention, deletion, the cleaner.
    /// Appends do not wait for it. Taken before `writer`.
    structure: Mutex<()>,
    /// Counts cuts: what the cleaner had read before one may be gone.
    truncations: AtomicU64,
    /// Counts replacements of segments: what failed at an old one is tried at the new one.
    replacements: AtomicU64,
    writer: Mutex<Writer>,
    view: RwLock<View>,
    epochs: RwLock<Epochs>,
    forgotten_epochs: Arc<ForgottenEpochs>,
    flush_state: Mutex<FlushState>,
    flush_progress: Notify,
    log_start_offset: AtomicI64,
    log_end_offset: AtomicI64,
    flushed_offset: AtomicI64,
    synced_offset: AtomicI64,
    /// Appended since the last flush began; a truncation does not take any back.
    unflushed_bytes: AtomicU64,
    high_watermark: AtomicI64,
    unstable: Mutex<UnstableOffsets>,
    /// That of `unstable`; `i64::MAX` without one.
    first_unstable_offset: AtomicI64,
    /// Whether any transaction index has had an entry.
    has_aborted: AtomicBool,
    last_append_ms: AtomicI64,
    /// Its directory, by name and with the topic's id, survives a power loss. The first flush sees to it: an empty
    /// partition that is lost is made again from the metadata.
    creation_durable: AtomicBool,
    flush_queued: AtomicBool,
    moving: AtomicBool,
    deleted: AtomicBool,
    broken: AtomicBool,
    closed: AtomicBool,
}

/// Where a partition's files are.
struct Home {
    directory: Arc<Directory>,
    /// The partition's own directory, in that one.
    path: Arc<Path>,
}

/// What changes with every append.
struct Writer {
    active: Arc<Segment>,
    producers: Producers,
    /// Where the newest `.snapshot` file stands.
    snapshot_offset: i64,
    bytes_since_snapshot: u64,
}

/// What readers see.
struct View {
    /// In order; the last one is active.
    segments: Vec<Arc<Segment>>,
    hot: HotTail,
}

struct Epochs {
    epochs: LeaderEpochs,
    /// Not in the checkpoint file as they are.
    dirty: bool,
    /// Counts the changes.
    version: u64,
}

impl Epochs {
    fn note_change(&mut self, changed: bool) {
        self.dirty |= changed;
        self.version += u64::from(changed);
    }
}

/// Epochs on their way to the checkpoint file.
pub(crate) struct EpochsToWrite {
    pub(crate) text: String,
    version: u64,
}

/// A log as recovery found it.
pub(crate) struct RecoveredLog {
    pub(crate) topic_partition: TopicPartition,
    pub(crate) topic_id: Option<TopicId>,
    pub(crate) path: Arc<Path>,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) producers: Producers,
    pub(crate) snapshot_offset: i64,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) epochs_dirty: bool,
    pub(crate) forgotten_epochs: Arc<ForgottenEpochs>,
    pub(crate) log_start_offset: i64,
    pub(crate) log_end_offset: i64,
    pub(crate) flushed_offset: i64,
    pub(crate) high_watermark: i64,
    /// Segments with bytes above `flushed_offset` that were not synced at the start; held open.
    pub(crate) unsynced: Vec<Arc<Segment>>,
    pub(crate) creation_durable: bool,
    /// First and last offset of ended transactions whose markers the high watermark has not passed.
    pub(crate) unreplicated: Vec<(i64, i64)>,
}

impl PartitionLog {
    pub(crate) fn new(
        directory: &Arc<Directory>,
        config: Arc<LogConfig>,
        recovered: RecoveredLog,
    ) -> Arc<PartitionLog> {
        let active = Arc::clone(recovered.segments.last().expect("invariant: a log has a segment"));
        assert!(recovered.log_start_offset <= recovered.flushed_offset, "invariant: what was deleted was durable");
        assert!(recovered.flushed_offset <= recovered.log_end_offset, "invariant: what is durable was written");
        assert_eq!(recovered.producers.end_offset(), recovered.log_end_offset, "invariant: producer state is complete");
        let now_ms = directory.shared.world.clock.wall_ms();
        let unstable = UnstableOffsets::new(recovered.producers.first_undecided_offset(), recovered.unreplicated);
        let first_unstable_offset = unstable.first_unstable_offset().unwrap_or(i64::MAX);
        let has_aborted = recovered.segments.iter().any(|segment| segment.transactions.reaches(0));
        let names_dirty = recovered.segments.iter().any(|segment| !segment.name_durable.load(Ordering::SeqCst));
        let unflushed_bytes = recovered.unsynced.iter().map(|segment| segment.size()).sum();
        Arc::new_cyclic(|itself| PartitionLog {
            topic_partition: recovered.topic_partition,
            topic_id: recovered.topic_id,
            shared: Arc::clone(&directory.shared),
            home: RwLock::new(Home { directory: Arc::clone(directory), path: recovered.path }),
            itself: itself.clone(),
            config: RwLock::new(config),
            structure: Mutex::new(()),
            truncations: AtomicU64::new(0),
            replacements: AtomicU64::new(0),
            writer: Mutex::new(Writer {
                active,
                producers: recovered.producers,
                snapshot_offset: recovered.snapshot_offset,
                bytes_since_snapshot: 0,
            }),
            view: RwLock::new(View { segments: recovered.segments, hot: HotTail::default() }),
            epochs: RwLock::new(Epochs { epochs: recovered.epochs, dirty: recovered.epochs_dirty, version: 0 }),
            forgotten_epochs: recovered.forgotten_epochs,
            flush_state: Mutex::new(FlushState::new(now_ms, names_dirty, recovered.unsynced)),
            flush_progress: Notify::new(),
            log_start_offset: AtomicI64::new(recovered.log_start_offset),
            log_end_offset: AtomicI64::new(recovered.log_end_offset),
            flushed_offset: AtomicI64::new(recovered.flushed_offset),
            synced_offset: AtomicI64::new(recovered.flushed_offset),
            unflushed_bytes: AtomicU64::new(unflushed_bytes),
            high_watermark: AtomicI64::new(recovered.high_watermark),
            unstable: Mutex::new(unstable),
            first_unstable_offset: AtomicI64::new(first_unstable_offset),
            has_aborted: AtomicBool::new(has_aborted),
            last_append_ms: AtomicI64::new(now_ms),
            creation_durable: AtomicBool::new(recovered.creation_durable),
            flush_queued: AtomicBool::new(false),
            moving: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }

    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// `None` in a directory from before topics had ids.
    pub fn topic_id(&self) -> Option<TopicId> {
        self.topic_id
    }

    /// The partition's directory.
    pub fn path(&self) -> Arc<Path> {
        Arc::clone(&self.home.read().path)
    }

    /// The id of the log directory the partition is in.
    pub fn directory_id(&self) -> ottla_types::Uuid {
        self.home.read().directory.id.expect("invariant: a directory with a log was read")
    }

    /// The first offset that can be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset.load(Ordering::Acquire)
    }

    /// The offset the next record gets.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end_offset.load(Ordering::Acquire)
    }

    /// Everything below is durable.
    pub fn flushed_offset(&self) -> i64 {
        self.flushed_offset.load(Ordering::Acquire)
    }

    /// Everything below is durable in the partition's own files: what recovery may begin from. What lies between it and
    /// the flushed offset is durable by the directory's journal.
    pub(crate) fn synced_offset(&self) -> i64 {
        self.synced_offset.load(Ordering::Acquire)
    }

    /// The high watermark the log was last told of: it bounds retention and is what the checkpoint keeps.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Ordering::Acquire)
    }

    /// Tells the log its high watermark. It does not fall but by a truncation.
    pub fn note_high_watermark(&self, high_watermark: i64) {
        let high_watermark = high_watermark.min(self.log_end_offset());
        self.high_watermark.fetch_max(high_watermark, Ordering::AcqRel);
        self.pass_markers(high_watermark);
    }

    pub fn config(&self) -> Arc<LogConfig> {
        Arc::clone(&self.config.read())
    }

    /// Takes effect with the next append, roll or retention. Partitions of a topic share one.
    pub fn set_config(&self, config: impl Into<Arc<LogConfig>>) {
        *self.config.write() = config.into();
    }

    /// The epoch of the last batch, if the log ever had one.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.epochs.read().epochs.latest().map(|entry| entry.epoch)
    }

    /// The epoch that wrote this offset.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        self.epochs.read().epochs.epoch_at(offset)
    }

    /// The epoch of the partition's leader is known now. No batch can have a later one: one that seems to is damaged, and
    /// will be refused to readers.
    pub fn forget_epochs_above(&self, leader_epoch: i32) {
        let mut epochs = self.epochs.write();
        let latest = epochs.epochs.latest();
        let changed = epochs.epochs.forget_above(leader_epoch);
        epochs.note_change(changed);
        if changed {
            tracing::error!(
                topic_partition = %self.topic_partition, leader_epoch, found = ?latest,
                "a batch seems to be of a later epoch than the leader's: it is damaged"
            );
        }
    }

    /// The largest epoch up to the one asked for, and where it ends; `None` when the epoch is unknown.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        self.epochs.read().epochs.end_offset_for(epoch, self.log_end_offset())
    }

    /// The producers the log remembers, by id.
    pub fn active_producers(&self) -> Vec<(i64, ProducerEntry)> {
        let writer = self.writer.lock();
        writer.producers.entries().iter().map(|(id, entry)| (*id, entry.clone())).collect()
    }

    /// Bytes of all segments.
    pub fn size(&self) -> u64 {
        self.view.read().segments.iter().map(|segment| segment.size()).sum()
    }

    /// The base offsets of the segments, in order.
    pub fn segment_base_offsets(&self) -> Vec<i64> {
        self.view.read().segments.iter().map(|segment| segment.base_offset).collect()
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// The log directory it is in now.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.home.read().directory)
    }

    pub(crate) fn is_in(&self, directory: &Arc<Directory>) -> bool {
        Arc::ptr_eq(&self.home.read().directory, directory)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn is_creation_durable(&self) -> bool {
        self.creation_durable.load(Ordering::Acquire)
    }

    /// Whether the partition can no longer be written or read: its directory failed or it broke an invariant.
    pub fn is_offline(&self) -> bool {
        let served = self.shared.has_planted(Planted::FailedDirectoryServed);
        self.home.read().directory.is_offline() && !served || self.broken.load(Ordering::Acquire)
    }

    /// Nothing may be appended from here on: the node stops.
    pub(crate) fn close(&self) {
        let _writer = self.writer.lock();
        self.closed.store(true, Ordering::Release);
    }

    /// Nothing may be appended or read from here on; who waits is told.
    pub(crate) fn mark_deleted(&self) {
        // From here on the partition's name may be another's: the cleaner leaves its directory alone.
        let _structure = self.structure.lock();
        self.deleted.store(true, Ordering::Release);
        self.flush_progress.notify_waiters();
        let freed = self.view.write().hot.clear();
        self.shared.hot_budget.release(freed);
    }

    /// Closes the files of a deleted partition.
    pub(crate) fn release_handles(&self) {
        let _writer = self.writer.lock();
        for segment in &self.view.read().segments {
            segment.retire();
        }
    }

    pub(crate) fn has_hot_chunk(&self, id: u64) -> bool {
        self.view.read().hot.contains(id)
    }

    pub(crate) fn evict_hot_chunks_through(&self, id: u64) {
        let freed = self.view.write().hot.evict_through(id);
        self.shared.hot_budget.release(freed);
    }

    /// Gives up the hot tail of a partition nobody wrote to since `before_ms`.
    pub(crate) fn evict_idle_hot_tail(&self, before_ms: i64) {
        if self.last_append_ms.load(Ordering::Relaxed) < before_ms {
            let freed = self.view.write().hot.clear();
            self.shared.hot_budget.release(freed);
        }
    }

    fn segments(&self) -> Vec<Arc<Segment>> {
        self.view.read().segments.clone()
    }

    /// Writes the epochs to their file, durably, if they changed.
    pub(crate) fn checkpoint_epochs(&self) -> io::Result<()> {
        let entries = {
            let mut epochs = self.epochs.write();
            if !epochs.dirty {
                return Ok(());
            }
            epochs.dirty = false;
            epochs.epochs.entries().to_vec()
        };
        let path = self.path().join(names::LEADER_EPOCH_CHECKPOINT);
        let text = checkpoint::format_epochs(&entries);
        let disk = &self.shared.world.disk;
        let result = self.directory().with_reserve(|| disk.write_file_atomically(&path, text.as_bytes()));
        if result.is_err() {
            self.epochs.write().dirty = true;
        }
        result
    }

    /// The epochs, if their file has others.
    pub(crate) fn epochs_to_write(&self) -> Option<EpochsToWrite> {
        let epochs = self.epochs.read();
        let text = || checkpoint::format_epochs(epochs.epochs.entries());
        epochs.dirty.then(|| EpochsToWrite { text: text(), version: epochs.version })
    }

    /// The file has these epochs now. Whether they are the latest.
    pub(crate) fn epochs_written(&self, written: &EpochsToWrite) -> bool {
        let mut epochs = self.epochs.write();
        epochs.dirty = epochs.version != written.version;
        !epochs.dirty
    }

    /// Writes what the active segment's indexes hold back.
    pub(crate) fn write_indexes(&self) -> io::Result<()> {
        let active = Arc::clone(&self.writer.lock().active);
        self.directory().with_reserve(|| active.write_indexes())
    }

    /// Writes a producer snapshot at the end of the log, unless there is one within `worth_bytes`.
    pub(crate) fn snapshot_producers(&self, worth_bytes: u64) -> io::Result<()> {
        let (offset, previous, active_base, bytes) = {
            let mut writer = self.writer.lock();
            let offset = writer.producers.end_offset();
            if offset <= writer.snapshot_offset || writer.bytes_since_snapshot < worth_bytes {
                return Ok(());
            }
            let previous = std::mem::replace(&mut writer.snapshot_offset, offset);
            writer.bytes_since_snapshot = 0;
            (offset, previous, writer.active.base_offset, format_snapshot(writer.producers.entries()))
        };
        self.directory().with_reserve(|| self.write_snapshot(offset, &bytes))?;
        // One within a segment replaces the one before; those at the segments' bases stay as long as these.
        if previous > active_base {
            let path = names::offset_file(&self.path(), previous, names::SNAPSHOT_SUFFIX);
            crate::segment::remove_if_there(&self.shared, &path)?;
        }
        Ok(())
    }

    /// Not synced: its CRC tells whether it arrived, and without it recovery reads more of the log.
    fn write_snapshot(&self, offset: i64, bytes: &[u8]) -> io::Result<()> {
        let path = names::offset_file(&self.path(), offset, names::SNAPSHOT_SUFFIX);
        let file = self.shared.world.disk.open(&path, ottla_rt::OpenMode::CreateOrOpen)?;
        file.set_len(0)?;
        file.write_all_at(&[io::IoSlice::new(bytes)], 0)
    }

    pub(crate) fn remove_expired_producers(&self, now_ms: i64) {
        let expiration_ms = self.shared.producer_id_expiration_ms.load(Ordering::Relaxed);
        self.writer.lock().producers.remove_expired(now_ms, expiration_ms);
    }

    /// Takes the directory offline unless the error comes from the partition's deletion.
    fn storage_failed(&self, operation: &'static str, path: &Path, error: &io::Error) {
        if !self.is_deleted() {
            self.directory().fail(operation, path, error);
        }
    }

    /// Guards an operation that changes the log: a panic in it stops the node.
    fn guard(&self, operation: &'static str) -> PanicGuard<'_> {
        PanicGuard { log: self, operation }
    }
}

struct PanicGuard<'a> {
    log: &'a PartitionLog,
    operation: &'static str,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.log.broken.swap(true, Ordering::AcqRel) {
            let event =
                FatalEvent { topic_partition: Some(self.log.topic_partition.clone()), operation: self.operation };
            tracing::error!(topic_partition = %self.log.topic_partition, operation = event.operation, "invariant broken");
            (self.log.shared.fatal)(event);
        }
    }
}

fn log_path(segment: &Segment) -> PathBuf {
    segment.path(names::LOG_SUFFIX)
}

/// No space or quota left: nothing is wrong with the disk.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
