//! What is done from time to time, and at the end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Inner, LogManager, Removal};
use crate::checkpoint::{self, OffsetCheckpoint};
use crate::directory::Directory;
use crate::error::ChangeError;
use crate::names;
use crate::partition::{PartitionLog, is_no_space};

/// So much log is read again after a crash rather than write a producer snapshot for it.
const SNAPSHOT_WORTH_BYTES: u64 = 32 * 1024 * 1024;
/// A hot tail nobody added to for this long gives its memory back.
const HOT_TAIL_IDLE_MS: i64 = 60_000;

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
        self.blocking(|inner| {
            for directory in inner.directories.iter().filter(|directory| !directory.is_offline()) {
                if let Err(error) = inner.checkpoint(directory, SNAPSHOT_WORTH_BYTES) {
                    directory.bookkeeping_failed("checkpoint", &directory.path, &error);
                }
            }
        })
        .await;
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

    /// Removes deleted partitions and segments whose `file.delete.delay.ms` has passed.
    pub async fn remove_deleted(&self) {
        self.blocking(Inner::remove_deleted).await;
    }

    /// Ends the logs: everything is flushed, checkpoints and snapshots are complete, and each directory that is online
    /// gets the mark of a clean stop. Nothing may be appended any more.
    pub async fn shutdown(&self, broker_epoch: i64) {
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
        self.blocking(move |inner| {
            for directory in inner.directories.iter().filter(|directory| !directory.is_offline()) {
                if let Err(error) = inner.leave(directory, broker_epoch) {
                    directory.fail("shut down", &directory.path, &error);
                }
            }
        })
        .await;
    }

    async fn blocking(&self, work: impl FnOnce(&Inner) + Send + 'static) {
        let _changes = self.inner.changes.lock().await;
        let inner = Arc::clone(&self.inner);
        self.inner.shared.world.spawn.blocking(Box::new(move || work(&inner))).await;
    }
}

impl Inner {
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
            if expiring.is_empty() {
                continue;
            }
            match self.checkpoint_log_starts(directory) {
                Ok(()) => self.remove_expired(directory, &expiring),
                Err(error) if is_no_space(&error) => {
                    tracing::warn!(directory = %directory.path.display(), "no space left: segments are deleted at once");
                    for log in expiring {
                        if let Err(error) = log.remove_expired_segments_now() {
                            tracing::warn!(%error, "retention is put off");
                        }
                    }
                }
                Err(error) => directory.fail("checkpoint", &directory.path, &error),
            }
        }
    }

    fn remove_expired(&self, directory: &Arc<Directory>, expiring: &[Arc<PartitionLog>]) {
        for log in expiring {
            let paths = match log.remove_expired_segments() {
                Ok(paths) => paths,
                Err(error) => {
                    tracing::warn!(%error, "retention is put off");
                    continue;
                }
            };
            let delay_ms = log.config().file_delete_delay_ms.max(0) as u64;
            let due = self.shared.world.clock.monotonic().saturating_add(Duration::from_millis(delay_ms));
            let directory = Arc::clone(directory);
            self.removals.lock().push(Removal { due, directory, paths, is_directory: false });
            if let Err(error) = log.remove_snapshots_below_start() {
                log.directory().fail("remove snapshots", log.path(), &error);
            }
        }
    }

    fn checkpoint(&self, directory: &Arc<Directory>, snapshot_worth_bytes: u64) -> io::Result<()> {
        let mut captured = Vec::new();
        for log in self.logs_of(directory) {
            // First the offset: the epochs of what lies below it are known by then.
            let flushed_offset = log.flushed_offset();
            log.checkpoint_epochs()?;
            log.write_indexes()?;
            log.snapshot_producers(snapshot_worth_bytes)?;
            captured.push((log, flushed_offset));
        }
        self.checkpoint_log_starts(directory)?;
        let mut kept = OffsetCheckpoint::new();
        self.keep_offline(directory, &mut kept);
        directory.checkpoint_recovery_points(|| {
            // A truncation since then has moved it back.
            let point = |(log, captured): &(Arc<PartitionLog>, i64)| {
                (log.topic_partition().clone(), (*captured).min(log.flushed_offset()))
            };
            kept.extend(captured.iter().map(point));
            kept
        })
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
        checkpoint::write_offsets(&*self.shared.world.disk, &path, &offsets)
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
    }

    fn leave(&self, directory: &Arc<Directory>, broker_epoch: i64) -> io::Result<()> {
        for log in self.logs_of(directory) {
            log.prepare_shutdown()?;
        }
        self.checkpoint(directory, 0)?;
        self.checkpoint_high_watermarks(directory)?;
        if self.logs_of(directory).iter().all(|log| log.flushed_offset() == log.log_end_offset()) {
            crate::identity::leave_clean_shutdown(&*self.shared.world.disk, &directory.path, broker_epoch)?;
        }
        Ok(())
    }
}
