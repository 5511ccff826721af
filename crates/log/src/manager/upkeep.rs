//! What is done from time to time, and at the end.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ottla_rt::{Disk, DiskFile, OpenMode};

use super::{Inner, LogManager, Removal};
use crate::blocking::blocking;
use crate::checkpoint::{self, OffsetCheckpoint};
use crate::directory::Directory;
use crate::error::ChangeError;
use crate::flush::sync_directories;
use crate::identity;
use crate::journal::settle_all;
use crate::names;
use crate::partition::{EpochsToWrite, PartitionLog, is_no_space};
use crate::planted::Planted;

/// So much log is read again after a crash rather than write a producer snapshot for it.
const SNAPSHOT_WORTH_BYTES: u64 = 32 * 1024 * 1024;
/// A hot tail nobody added to for this long gives its memory back.
const HOT_TAIL_IDLE_MS: i64 = 60_000;
/// Files open together in one round of small writes.
const FILES_AT_ONCE: usize = 256;
/// Not the name a truncation writes to: the two may meet.
const EPOCHS_TEMPORARY: &str = "leader-epoch-checkpoint.round.tmp";

impl LogManager {
    /// Everything below, one after the other: for a caller without schedules of its own.
    pub async fn maintain(&self, now_ms: i64) {
        self.apply_retention(now_ms).await;
        self.flush_overdue(now_ms);
        self.expire(now_ms).await;
        self.checkpoint().await;
        self.checkpoint_high_watermarks().await;
        self.remove_deleted().await;
    }

    /// Retention by time and size, and rolls it needs (`log.retention.check.interval.ms`).
    pub async fn apply_retention(&self, now_ms: i64) {
        self.blocking(move |inner| inner.apply_retention(now_ms)).await;
    }

    /// Moves the starts of logs up to these offsets, all of them durable already, and takes the segments below away.
    /// The new starts are durable when this returns. Results, the logs' starts, are in the order of the request.
    pub async fn delete_records(&self, wanted: Vec<(Arc<PartitionLog>, i64)>) -> Vec<Result<i64, ChangeError>> {
        let _changes = self.inner.changes.lock().await;
        self.inner.blocking(move |inner| inner.delete_records(&wanted)).await
    }

    /// Flushes what `flush.ms` asks for (`log.flush.scheduler.interval.ms`).
    pub fn flush_overdue(&self, now_ms: i64) {
        for log in self.partitions() {
            if log.is_flush_overdue(now_ms) {
                self.request_flush(&log);
            }
        }
    }

    /// Forgets producers that are silent for long, and gives up idle hot tails.
    pub async fn expire(&self, now_ms: i64) {
        self.blocking(move |inner| {
            for log in inner.logs.read().values() {
                log.remove_expired_producers(now_ms);
                log.evict_idle_hot_tail(now_ms.saturating_sub(HOT_TAIL_IDLE_MS));
            }
        })
        .await;
    }

    /// Writes the recovery points and log start offsets (`log.flush.offset.checkpoint.interval.ms`). How much a start
    /// after a crash reads is what was appended since.
    pub async fn checkpoint(&self) {
        let _changes = self.inner.changes.lock().await;
        for directory in self.inner.directories.iter().filter(|directory| !directory.is_offline()) {
            // What is settled now moves the recovery points of the next time.
            directory.flushes.request_settling();
            if let Err(error) = self.inner.checkpoint(directory, SNAPSHOT_WORTH_BYTES).await {
                directory.bookkeeping_failed("checkpoint", &directory.path, &error);
            }
        }
    }

    /// Resolves when so much is durable in a directory that the recovery points are worth writing before their time: a
    /// start after a crash would read all of it again. One caller at a time is told.
    pub async fn checkpoint_due(&self) {
        self.inner.shared.checkpoint_due.notified().await;
    }

    /// Writes the high watermarks (`replica.high.watermark.checkpoint.interval.ms`).
    pub async fn checkpoint_high_watermarks(&self) {
        self.blocking(|inner| {
            for directory in inner.directories.iter().filter(|directory| !directory.is_offline()) {
                if let Err(error) = inner.checkpoint_high_watermarks(directory) {
                    directory.bookkeeping_failed("checkpoint", &directory.path, &error);
                }
            }
        })
        .await;
    }

    /// Removes deleted partitions and segments whose `file.delete.delay.ms` has passed, and keeps room back for the next
    /// time the volume is full.
    pub async fn remove_deleted(&self) {
        self.blocking(Inner::remove_deleted).await;
    }

    /// Ends the logs: everything is flushed, checkpoints and snapshots are complete, and each directory that is online
    /// gets the mark of a clean stop. Nothing may be appended any more.
    pub async fn shutdown(&self, broker_epoch: i64) {
        self.inner.cleaner.stop().await;
        self.inner.moves.stop().await;
        for log in self.partitions() {
            log.close();
            self.request_flush(&log);
        }
        for log in self.partitions() {
            // A directory that fails meanwhile gets no mark; the error was logged where it came up.
            let _ = log.wait_flushed(log.log_end_offset()).await;
        }
        for directory in &self.inner.directories {
            directory.flushes.close();
        }
        let flushers = std::mem::take(&mut *self.inner.flushers.lock());
        for flusher in flushers {
            if let Err(error) = flusher.await {
                tracing::error!(%error, "flusher ended early");
            }
        }
        let _changes = self.inner.changes.lock().await;
        for directory in self.inner.directories.iter().filter(|directory| !directory.is_offline()) {
            if let Err(error) = self.inner.leave(directory, broker_epoch).await {
                directory.fail("shut down", &directory.path, &error);
            }
        }
    }

    async fn blocking(&self, work: impl FnOnce(&Inner) + Send + 'static) {
        let _changes = self.inner.changes.lock().await;
        self.inner.blocking(work).await;
    }
}

impl Inner {
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> T {
        let inner = Arc::clone(self);
        blocking(&self.shared.world, move || work(&inner)).await
    }

    fn apply_retention(&self, now_ms: i64) {
        for directory in self.directories.iter().filter(|directory| !directory.is_offline()) {
            let mut expiring = Vec::new();
            for log in self.logs_of(directory) {
                match log.expire_segments(now_ms) {
                    Ok(true) => expiring.push(log),
                    Ok(false) | Err(ChangeError::Deleted(_)) => {}
                    Err(error) => tracing::warn!(%error, "retention is put off"),
                }
            }
            if !expiring.is_empty() {
                self.settle_log_starts(directory, &expiring);
            }
        }
    }

    fn delete_records(&self, wanted: &[(Arc<PartitionLog>, i64)]) -> Vec<Result<i64, ChangeError>> {
        let mut results: Vec<Result<i64, ChangeError>> =
            wanted.iter().map(|(log, offset)| log.advance_log_start_offset(*offset)).collect();
        for directory in &self.directories {
            let of_directory = |log: &Arc<PartitionLog>| log.is_in(directory);
            let moved: Vec<Arc<PartitionLog>> = wanted
                .iter()
                .zip(&results)
                .filter(|((log, _), result)| result.is_ok() && of_directory(log))
                .map(|((log, _), _)| Arc::clone(log))
                .collect();
            if moved.is_empty() || self.settle_log_starts(directory, &moved) {
                continue;
            }
            for ((log, _), result) in wanted.iter().zip(&mut results) {
                // What was refused for another reason stays so.
                if result.is_err() || !of_directory(log) {
                    continue;
                }
                let name = log.topic_partition().clone();
                let offline = directory.is_offline();
                *result = Err(if offline { ChangeError::DirectoryOffline(name) } else { ChangeError::NoSpace(name) });
            }
        }
        results
    }

    /// Makes the starts of the directory's logs durable, and removes what lies below them in these. False if they are
    /// not durable: the directory is full, or offline.
    fn settle_log_starts(&self, directory: &Arc<Directory>, moved: &[Arc<PartitionLog>]) -> bool {
        if self.shared.has_planted(Planted::SegmentsRemovedFirst) {
            self.remove_expired(moved);
            return true;
        }
        match self.checkpoint_log_starts(directory) {
            Ok(()) => {
                self.remove_expired(moved);
                return true;
            }
            Err(error) if is_no_space(&error) => {
                tracing::warn!(directory = %directory.path.display(), "no space left: segments are deleted at once");
                for log in moved {
                    if let Err(error) = log.remove_expired_segments_now() {
                        tracing::warn!(%error, "retention is put off");
                    }
                }
            }
            Err(error) => directory.fail("checkpoint", &directory.path, &error),
        }
        false
    }

    fn remove_expired(&self, expiring: &[Arc<PartitionLog>]) {
        for log in expiring {
            let paths = match log.remove_expired_segments() {
                Ok(paths) => paths,
                Err(error) => {
                    tracing::warn!(%error, "retention is put off");
                    continue;
                }
            };
            if paths.is_empty() {
                continue;
            }
            self.remove_files_later(log, paths);
            if let Err(error) = log.remove_snapshots_below_start() {
                log.directory().fail("remove snapshots", &log.path(), &error);
            }
        }
    }

    /// Removes files of a log, renamed by now, after `file.delete.delay.ms`.
    pub(super) fn remove_files_later(&self, log: &PartitionLog, paths: Vec<PathBuf>) {
        if paths.is_empty() {
            return;
        }
        let delay_ms = log.config().file_delete_delay_ms.max(0) as u64;
        let due = self.shared.world.clock.monotonic().saturating_add(Duration::from_millis(delay_ms));
        let directory = log.directory();
        self.removals.lock().push(Removal { due, directory, paths, is_directory: false });
    }

    async fn checkpoint(self: &Arc<Self>, directory: &Arc<Directory>, snapshot_worth_bytes: u64) -> io::Result<()> {
        directory.begin_checkpoint();
        // First the offsets: the epochs of what lies below them are known by then.
        // A partition is named from the time its creation is durable.
        let logs = self.logs_of(directory).into_iter().filter(|log| log.is_creation_durable());
        let mut captured: Vec<(Arc<PartitionLog>, i64)> =
            logs.map(|log| (Arc::clone(&log), self.durable_end(&log))).collect();
        for behind in self.checkpoint_epochs(directory).await? {
            // Its epochs changed meanwhile: the recovery point waits for the next time.
            captured.retain(|(log, _)| !Arc::ptr_eq(log, &behind));
        }
        let directory = Arc::clone(directory);
        self.blocking(move |inner| inner.finish_checkpoint(&directory, &captured, snapshot_worth_bytes)).await
    }

    /// Writes the epochs of all logs that have new ones, with one round of syncs. Returns the logs whose epochs changed
    /// again meanwhile.
    async fn checkpoint_epochs(self: &Arc<Self>, directory: &Arc<Directory>) -> io::Result<Vec<Arc<PartitionLog>>> {
        let mut behind = Vec::new();
        let mut dirty: Vec<(Arc<PartitionLog>, EpochsToWrite)> = Vec::new();
        for log in self.logs_of(directory) {
            if let Some(epochs) = log.epochs_to_write() {
                dirty.push((log, epochs));
            }
        }
        let world = &self.shared.world;
        while !dirty.is_empty() {
            let round: Vec<_> = dirty.drain(..dirty.len().min(FILES_AT_ONCE)).collect();
            let written = self
                .blocking(move |inner| {
                    let mut files = Vec::new();
                    for (log, epochs) in &round {
                        let disk = &*inner.shared.world.disk;
                        files.push(log.directory().with_reserve(|| write_temporary(disk, log, &epochs.text))?);
                    }
                    io::Result::Ok((round, files))
                })
                .await;
            let (round, files) = written?;
            for result in world.disk.sync_files(files).await {
                result?;
            }
            let round = self
                .blocking(move |inner| {
                    for (log, _) in &round {
                        let name = log.path().join(names::LEADER_EPOCH_CHECKPOINT);
                        inner.shared.world.disk.rename(&log.path().join(EPOCHS_TEMPORARY), &name)?;
                    }
                    io::Result::Ok(round)
                })
                .await?;
            let paths = round.iter().map(|(log, _)| log.path().to_path_buf()).collect();
            for result in sync_directories(world, paths).await {
                result?;
            }
            behind.extend(round.into_iter().filter(|(log, epochs)| !log.epochs_written(epochs)).map(|(log, _)| log));
        }
        Ok(behind)
    }

    fn finish_checkpoint(
        &self,
        directory: &Arc<Directory>,
        captured: &[(Arc<PartitionLog>, i64)],
        snapshot_worth_bytes: u64,
    ) -> io::Result<()> {
        for (log, _) in captured {
            log.write_indexes()?;
            log.snapshot_producers(snapshot_worth_bytes)?;
        }
        self.checkpoint_log_starts(directory)?;
        let mut kept = OffsetCheckpoint::new();
        self.keep_offline(directory, &mut kept);
        for log in self.logs_of(directory).into_iter().filter(|log| log.is_creation_durable()) {
            kept.insert(log.topic_partition().clone(), directory.recovery_point(log.topic_partition()));
        }
        directory.checkpoint_recovery_points(|| {
            for (log, synced_offset) in captured {
                kept.insert(log.topic_partition().clone(), *synced_offset);
            }
            for log in self.logs_of(directory) {
                // A truncation since then has moved it back.
                if let Some(point) = kept.get_mut(log.topic_partition()) {
                    *point = (*point).min(self.durable_end(&log));
                }
            }
            kept
        })
    }

    fn durable_end(&self, log: &PartitionLog) -> i64 {
        if self.shared.has_planted(Planted::RecoveryPointAhead) { log.log_end_offset() } else { log.synced_offset() }
    }

    /// Partitions that could not be recovered keep their recovery points: somebody may repair them.
    fn keep_offline(&self, directory: &Directory, points: &mut OffsetCheckpoint) {
        for topic_partition in self.offline.keys() {
            let point = directory.recovery_point(topic_partition);
            if point > 0 {
                points.insert(topic_partition.clone(), point);
            }
        }
    }

    fn checkpoint_log_starts(&self, directory: &Arc<Directory>) -> io::Result<()> {
        let mut starts = OffsetCheckpoint::new();
        for log in self.logs_of(directory) {
            let start = log.log_start_offset();
            if start > 0 {
                starts.insert(log.topic_partition().clone(), start);
            }
        }
        for topic_partition in self.offline.keys() {
            let start = directory.log_start(topic_partition);
            if start > 0 {
                starts.insert(topic_partition.clone(), start);
            }
        }
        directory.checkpoint_log_starts(starts)
    }

    fn checkpoint_high_watermarks(&self, directory: &Arc<Directory>) -> io::Result<()> {
        let offsets: OffsetCheckpoint =
            self.logs_of(directory).iter().map(|log| (log.topic_partition().clone(), log.high_watermark())).collect();
        let path = directory.path.join(names::HIGH_WATERMARK_CHECKPOINT);
        directory.with_reserve(|| checkpoint::write_offsets(&*self.shared.world.disk, &path, &offsets))
    }

    fn remove_deleted(&self) {
        let now = self.shared.world.clock.monotonic();
        let due: Vec<Removal> = {
            let mut removals = self.removals.lock();
            let (due, later) = std::mem::take(&mut *removals).into_iter().partition(|removal| removal.due <= now);
            *removals = later;
            due
        };
        let disk = &*self.shared.world.disk;
        let remove = |path: &PathBuf, is_directory: bool| {
            if is_directory { disk.remove_dir_all(path) } else { disk.remove_file(path) }
        };
        for removal in due.into_iter().filter(|removal| !removal.directory.is_offline()) {
            for path in &removal.paths {
                match remove(path, removal.is_directory) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        removal.directory.fail("remove", path, &error);
                    }
                    _ => {}
                }
            }
        }
        self.keep_reserves();
    }

    /// A directory that gave its reserve up has one again once there is room.
    fn keep_reserves(&self) {
        for directory in self.directories.iter().filter(|directory| !directory.is_offline()) {
            if let Err(error) = directory.reserve.keep(&*self.shared.world.disk) {
                directory.bookkeeping_failed("keep a reserve", &directory.path, &error);
            }
        }
    }

    async fn leave(self: &Arc<Self>, directory: &Arc<Directory>, broker_epoch: i64) -> io::Result<()> {
        settle_all(directory).await?;
        self.checkpoint_epochs(directory).await?;
        let prepared = Arc::clone(directory);
        self.blocking(move |inner| inner.logs_of(&prepared).iter().try_for_each(|log| log.prepare_shutdown())).await?;
        self.checkpoint(directory, 0).await?;
        let directory = Arc::clone(directory);
        self.blocking(move |inner| {
            inner.checkpoint_high_watermarks(&directory)?;
            // Where a log could not be recovered, the next start has to look again.
            if inner.offline.is_empty()
                && inner.logs_of(&directory).iter().all(|log| log.synced_offset() == log.log_end_offset())
            {
                let disk = &*inner.shared.world.disk;
                directory.with_reserve(|| identity::leave_clean_shutdown(disk, &directory.path, broker_epoch))?;
            }
            Ok(())
        })
        .await
    }
}

fn write_temporary(disk: &dyn Disk, log: &PartitionLog, text: &str) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(&log.path().join(EPOCHS_TEMPORARY), OpenMode::CreateOrOpen)?;
    file.set_len(0)?;
    file.write_all_at(&[IoSlice::new(text.as_bytes())], 0)?;
    Ok(file)
}
