//! The log cleaner: in compacted topics, records that a newer one with the same key has replaced are removed.
//!
//! It works on closed segments below the high watermark, writes each anew without what is not needed, and puts the new one
//! in its place; appends and reads go on. Offsets never change, and order is kept.
//!
//! * `choice`, `groups`, `keep`, `transactions`, `throttle`: decisions, as functions over values.
//! * `offset_map`: the newest offset of each key, in bounded memory.
//! * `run`: one cleaning of one log, in steps; `read` and `output` are its two ends.
//! * [`crate::PartitionLog`] makes the swap (`partition/replace.rs`).
//!
//! As many tasks as `log.cleaner.threads` look for the dirtiest log, each for itself, and rest for `log.cleaner.backoff.ms`
//! when none is due. A log that cannot be cleaned is left alone from then on, with an error in the log that says why; the
//! cleaner goes on with the others. A log that was cut, deleted or configured otherwise meanwhile is given up: what was
//! written of it is removed, and nothing was changed.

mod checkpoint;
mod choice;
mod error;
mod groups;
mod keep;
mod offset_map;
mod output;
mod read;
mod run;
mod throttle;
mod transactions;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ottla_types::TopicPartition;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use checkpoint::CleanedOffsets;

use self::choice::{Dirty, LogFacts, SegmentFacts, filthiest};
use self::error::CleanError;
use self::run::{CleanRun, CleanStats, RunSettings, Step, segment_error};
pub(crate) use self::throttle::Throttle;
use crate::directory::{FatalEvent, Shared};
use crate::partition::{CleaningView, PartitionLog, is_no_space};

/// A step moves at most this much, so that a stop is noticed soon.
const LONGEST_STEP_BYTES: u64 = 4 * 1024 * 1024;
/// With a throttle a step is what may be moved in this part of a second.
const STEPS_PER_SECOND: f64 = 10.0;
const LEAST_STEP_BYTES: f64 = 64.0 * 1024.0;

/// The server's keys `log.cleaner.*`.
#[derive(Clone, Debug, PartialEq)]
pub struct CleanerSettings {
    /// How many logs are cleaned at a time.
    pub threads: usize,
    /// Memory for the keys, all threads together.
    pub dedupe_buffer_bytes: u64,
    /// How full a thread's part of it may be.
    pub dedupe_buffer_load_factor: f64,
    /// Memory for reading and writing, all threads together.
    pub io_buffer_bytes: usize,
    /// Bytes read and written in a second, all threads together.
    pub io_max_bytes_per_second: f64,
    /// How long a thread rests when no log is due.
    pub backoff_ms: u64,
}

impl Default for CleanerSettings {
    fn default() -> Self {
        CleanerSettings {
            threads: 1,
            dedupe_buffer_bytes: 128 * 1024 * 1024,
            dedupe_buffer_load_factor: 0.9,
            io_buffer_bytes: 512 * 1024,
            io_max_bytes_per_second: f64::MAX,
            backoff_ms: 15_000,
        }
    }
}

/// What a look for something to clean came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleaning {
    /// No log is due.
    Nothing,
    /// Up to this offset the log is clean now.
    Cleaned { topic_partition: TopicPartition, cleaned_to: i64 },
    /// The log changed meanwhile, or there is no space: later.
    PutOff(TopicPartition),
    /// The log is left alone from now on.
    Uncleanable(TopicPartition),
}

/// The cleaner of a node.
pub(crate) struct Cleaner {
    settings: RwLock<CleanerSettings>,
    state: Mutex<State>,
    throttle: Mutex<Throttle>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Whether the tasks go on; counts changes of the settings besides.
    signal: watch::Sender<Signal>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Signal {
    stopped: bool,
    changes: u64,
}

#[derive(Default)]
struct State {
    in_progress: BTreeSet<TopicPartition>,
    uncleanable: BTreeSet<TopicPartition>,
}

/// Where a task finds the logs, and leaves what is to be removed; the manager, as long as there is one.
pub(crate) trait Logs: Send + Sync + 'static {
    fn shared(&self) -> Arc<Shared>;
    fn compacted(&self) -> Vec<Arc<PartitionLog>>;
    fn remove_later(&self, log: &PartitionLog, paths: Vec<PathBuf>);
}

impl Default for Cleaner {
    fn default() -> Self {
        Cleaner {
            settings: RwLock::default(),
            state: Mutex::default(),
            throttle: Mutex::default(),
            tasks: Mutex::default(),
            signal: watch::channel(Signal::default()).0,
        }
    }
}

impl Cleaner {
    /// Begins, or goes on with other settings. `find` gives the logs, and nothing once the node has let go of them.
    pub(crate) fn start<L: Logs>(
        self: &Arc<Self>,
        settings: CleanerSettings,
        find: impl Fn() -> Option<Arc<L>> + Clone + Send + Sync + 'static,
    ) {
        let threads = settings.threads;
        if *self.settings.read() != settings {
            tracing::info!(?settings, "log cleaner");
        }
        *self.settings.write() = settings;
        let mut tasks = self.tasks.lock();
        if self.signal.borrow().stopped {
            return;
        }
        self.signal.send_modify(|signal| signal.changes += 1);
        // Whoever has too great a number ends by itself.
        for number in 0..threads {
            let find = find.clone();
            let cleaner = Arc::clone(self);
            let task = async move { cleaner.run_task(number, find).await };
            match tasks.get_mut(number) {
                Some(ended) if ended.is_finished() => *ended = tokio::spawn(task),
                Some(_) => {}
                None => tasks.push(tokio::spawn(task)),
            }
        }
    }

    /// Nothing is cleaned any more. Resolves when what was under way is given up.
    pub(crate) async fn stop(&self) {
        self.close();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a cleaner ended early");
            }
        }
    }

    /// The same, without waiting for it.
    pub(crate) fn close(&self) {
        self.signal.send_modify(|signal| signal.stopped = true);
    }

    pub(crate) fn settings(&self) -> Option<CleanerSettings> {
        (self.signal.borrow().changes > 0).then(|| self.settings.read().clone())
    }

    pub(crate) fn uncleanable(&self) -> Vec<TopicPartition> {
        self.state.lock().uncleanable.iter().cloned().collect()
    }

    pub(crate) fn is_cleaning(&self, topic_partition: &TopicPartition) -> bool {
        self.state.lock().in_progress.contains(topic_partition)
    }

    async fn run_task<L: Logs>(self: Arc<Self>, number: usize, find: impl Fn() -> Option<Arc<L>>) {
        let mut signal = self.signal.subscribe();
        loop {
            if signal.borrow_and_update().stopped || number >= self.settings.read().threads {
                return;
            }
            let Some(logs) = find() else { return };
            let shared = logs.shared();
            let guard = PanicGuard(Arc::clone(&shared));
            let chosen = self.choose(&shared, logs).await;
            let found = match chosen {
                Some(chosen) => self.clean(&shared, chosen, &find).await,
                None => Cleaning::Nothing,
            };
            drop(guard);
            if matches!(found, Cleaning::Cleaned { .. }) {
                continue;
            }
            let backoff = Duration::from_millis(self.settings.read().backoff_ms);
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                _ = signal.changed() => {}
            }
        }
    }

    /// Cleans the dirtiest log that is due, once.
    pub(crate) async fn clean_filthiest<L: Logs>(&self, logs: &Arc<L>) -> Cleaning {
        let shared = logs.shared();
        match self.choose(&shared, Arc::clone(logs)).await {
            Some(chosen) => self.clean(&shared, chosen, || Some(Arc::clone(logs))).await,
            None => Cleaning::Nothing,
        }
    }

    /// The next log, marked as being cleaned.
    async fn choose<L: Logs>(&self, shared: &Arc<Shared>, logs: Arc<L>) -> Option<Chosen> {
        let now_ms = shared.world.clock.wall_ms();
        let in_reach: Vec<Arc<PartitionLog>> = {
            let mut state = self.state.lock();
            let compacted = logs.compacted();
            // A log that is gone is no longer uncleanable: another of its name may come.
            state.uncleanable.retain(|name| compacted.iter().any(|log| log.topic_partition() == name));
            let free = |log: &Arc<PartitionLog>| {
                let name = log.topic_partition();
                !state.in_progress.contains(name) && !state.uncleanable.contains(name)
            };
            compacted.into_iter().filter(free).collect()
        };
        drop(logs);
        let (due, failed) = blocking(shared, move || look_at(&in_reach, now_ms)).await;
        for (log, error) in failed {
            self.failed(&log, &error);
        }
        let dirty: Vec<Dirty> = due.iter().map(|chosen| chosen.dirty).collect();
        let mut due = due;
        let chosen = due.swap_remove(filthiest(&dirty)?);
        let mut state = self.state.lock();
        let name = chosen.log.topic_partition();
        // Another task may have been faster.
        if !state.in_progress.insert(name.clone()) {
            return None;
        }
        // Marked first: either a mover sees that, or this sees the mover.
        if chosen.log.is_moving() {
            state.in_progress.remove(name);
            return None;
        }
        drop(state);
        Some(chosen)
    }

    async fn clean<L: Logs>(
        &self,
        shared: &Arc<Shared>,
        chosen: Chosen,
        find: impl Fn() -> Option<Arc<L>>,
    ) -> Cleaning {
        let log = Arc::clone(&chosen.log);
        let topic_partition = log.topic_partition().clone();
        let begun = shared.world.clock.monotonic();
        let outcome = self.run_to_end(shared, chosen).await;
        self.state.lock().in_progress.remove(&topic_partition);
        match outcome {
            Ok(done) => {
                let CleanStats {
                    mapped_bytes,
                    keys,
                    map_bytes,
                    bytes_read,
                    bytes_written,
                    records_read,
                    records_written,
                    ..
                } = done.stats;
                tracing::info!(
                    %topic_partition, cleaned_to = done.cleaned_to, mapped_bytes, keys, map_bytes, bytes_read, bytes_written, records_read,
                    records_written, seconds = shared.world.clock.monotonic().saturating_sub(begun).as_secs_f64(),
                    "log cleaned"
                );
                if done.stats.records_without_key > 0 {
                    let records = done.stats.records_without_key;
                    tracing::warn!(%topic_partition, records, "records without a key were removed from a compacted log");
                }
                if let Some(logs) = find() {
                    logs.remove_later(&log, done.deleted);
                }
                Cleaning::Cleaned { topic_partition, cleaned_to: done.cleaned_to }
            }
            Err((error, deleted)) => {
                if let Some(logs) = find() {
                    logs.remove_later(&log, deleted);
                }
                self.failed(&log, &error)
            }
        }
    }

    async fn run_to_end(&self, shared: &Arc<Shared>, chosen: Chosen) -> Result<Done, (CleanError, Vec<PathBuf>)> {
        let mut hash_key = [0; 16];
        shared.world.entropy.fill(&mut hash_key);
        let settings = run_settings(&self.settings.read(), hash_key);
        let Chosen { log, view, dirty, now_ms } = chosen;
        let mut run = CleanRun::new(log, view, dirty, now_ms, settings);
        let mut signal = self.signal.subscribe();
        // Retention moves the start of a log past its checkpoint; nothing else should.
        if dirty.checkpoint_invalid && !run.log().config().cleanup_policy.delete {
            let (log, start) = (run.log(), dirty.first_dirty_offset);
            tracing::warn!(
                topic_partition = %log.topic_partition(), first_dirty_offset = start,
                "the cleaner's checkpoint is of a log that is no more: all of it counts as dirty"
            );
        }
        loop {
            if signal.borrow().stopped {
                run = blocking(shared, move || {
                    run.give_up();
                    run
                })
                .await;
                return Err((CleanError::Aborted, run.take_deleted()));
            }
            let (stepped, after) = blocking(shared, move || {
                let stepped = run.step();
                (stepped, run)
            })
            .await;
            run = after;
            let bytes = match stepped {
                Ok(Step::Moved(bytes)) => bytes,
                Ok(Step::Finished) => {
                    let deleted = run.take_deleted();
                    return Ok(Done { cleaned_to: run.cleaned_to(), stats: run.stats(), deleted });
                }
                Err(error) => return Err((error, run.take_deleted())),
            };
            let rate = self.settings.read().io_max_bytes_per_second;
            let wait = self.throttle.lock().wait_for(shared.world.clock.monotonic(), bytes, rate);
            if wait > Duration::ZERO {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    // A stop, or another rate.
                    _ = signal.changed() => {}
                }
            }
        }
    }

    /// What a failure means for the log.
    fn failed(&self, log: &PartitionLog, error: &CleanError) -> Cleaning {
        let topic_partition = log.topic_partition().clone();
        match error {
            CleanError::Aborted => {
                tracing::debug!(%topic_partition, "cleaning is given up");
                return Cleaning::PutOff(topic_partition);
            }
            CleanError::Io { source, .. } if is_no_space(source) => {
                tracing::warn!(%topic_partition, %error, "cleaning is put off");
                return Cleaning::PutOff(topic_partition);
            }
            CleanError::Io { operation, path, source } => {
                if log.is_deleted() {
                    return Cleaning::PutOff(topic_partition);
                }
                log.directory().fail(operation, path, source);
            }
            CleanError::Damaged { .. }
            | CleanError::Batch { .. }
            | CleanError::TransactionIndex { .. }
            | CleanError::TooLarge { .. } => {}
        }
        tracing::error!(%topic_partition, %error, "the log cannot be cleaned and is left as it is");
        self.state.lock().uncleanable.insert(topic_partition.clone());
        Cleaning::Uncleanable(topic_partition)
    }
}

/// A thread's part of what the cleaner may use.
fn run_settings(settings: &CleanerSettings, hash_key: [u8; 16]) -> RunSettings {
    let threads = settings.threads.max(1);
    let throttled = (settings.io_max_bytes_per_second / STEPS_PER_SECOND).max(LEAST_STEP_BYTES);
    RunSettings {
        map_bytes: settings.dedupe_buffer_bytes / threads as u64,
        load_factor: settings.dedupe_buffer_load_factor,
        // One for reading, one for writing.
        io_bytes: settings.io_buffer_bytes / threads / 2,
        step_bytes: (throttled as u64).min(LONGEST_STEP_BYTES),
        hash_key,
    }
}

/// A log to clean, as it was when it was looked at.
struct Chosen {
    log: Arc<PartitionLog>,
    view: CleaningView,
    dirty: Dirty,
    now_ms: i64,
}

struct Done {
    cleaned_to: i64,
    stats: CleanStats,
    deleted: Vec<PathBuf>,
}

type Failed = (Arc<PartitionLog>, CleanError);

/// The logs that are due, and those that cannot even be looked at.
fn look_at(logs: &[Arc<PartitionLog>], now_ms: i64) -> (Vec<Chosen>, Vec<Failed>) {
    let (mut due, mut failed) = (Vec::new(), Vec::new());
    for log in logs.iter().filter(|log| !log.is_offline() && !log.is_deleted()) {
        let view = log.cleaning_view();
        match facts(log, &view) {
            Ok(facts) => {
                let dirty = facts.dirty(now_ms);
                if let Some(dirty) = dirty.filter(|dirty| dirty.is_due(facts.min_cleanable_dirty_ratio)) {
                    due.push(Chosen { log: Arc::clone(log), view, dirty, now_ms });
                }
            }
            Err(error) => failed.push((Arc::clone(log), error)),
        }
    }
    (due, failed)
}

fn facts(log: &PartitionLog, view: &CleaningView) -> Result<LogFacts, CleanError> {
    let config = log.config();
    let with_youngest = config.min_compaction_lag_ms > 0;
    let with_first = config.max_compaction_lag_ms < i64::MAX;
    let closed = view.segments.len().saturating_sub(1);
    let mut segments = Vec::with_capacity(view.segments.len());
    for (index, segment) in view.segments.iter().enumerate() {
        let failed = |error| segment_error(error, "read", segment.path(crate::names::LOG_SUFFIX));
        let is_closed = index < closed;
        segments.push(SegmentFacts {
            base_offset: segment.base_offset,
            bytes: segment.size(),
            largest_timestamp: if with_youngest && is_closed {
                segment.youngest_timestamp().map_err(failed)?
            } else {
                -1
            },
            first_timestamp: if with_first && is_closed {
                segment.first_batch_timestamp().map_err(failed)?
            } else {
                None
            },
        });
    }
    Ok(LogFacts {
        log_start_offset: view.log_start_offset,
        log_end_offset: view.log_end_offset,
        stable_offset: view.stable_offset,
        cleaned_to: log.directory().cleaned.get(log.topic_partition()),
        segments,
        min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
        min_compaction_lag_ms: config.min_compaction_lag_ms,
        max_compaction_lag_ms: config.max_compaction_lag_ms,
    })
}

/// A cleaner that dies has broken an invariant: the node stops.
struct PanicGuard(Arc<Shared>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0.fatal)(FatalEvent { topic_partition: None, operation: "cleaning a log" });
        }
    }
}

/// Runs what blocks where the world has it run.
fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = T> + Send {
    let outcome = Arc::new(Mutex::new(None));
    let filled = Arc::clone(&outcome);
    let run = shared.world.spawn.blocking(Box::new(move || *filled.lock() = Some(work())));
    async move {
        run.await;
        let outcome = outcome.lock().take();
        outcome.expect("invariant: work that ended has an outcome")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ottla_record::{Attributes, BatchHeader};

    use super::*;

    #[test]
    fn a_thread_has_its_part_of_what_the_cleaner_may_use() {
        let of = |threads, bytes_per_second| {
            let settings = CleanerSettings {
                threads,
                dedupe_buffer_bytes: 12_000_000,
                dedupe_buffer_load_factor: 0.5,
                io_buffer_bytes: 600_000,
                io_max_bytes_per_second: bytes_per_second,
                backoff_ms: 1,
            };
            let run = run_settings(&settings, [0; 16]);
            assert_eq!(run.load_factor.to_bits(), 0.5_f64.to_bits());
            (run.map_bytes, run.io_bytes, run.step_bytes)
        };
        assert_eq!(of(0, f64::MAX), (12_000_000, 300_000, LONGEST_STEP_BYTES));
        assert_eq!(of(1, 5_000_000.0), (12_000_000, 300_000, 500_000));
        assert_eq!(of(3, 1.0), (4_000_000, 100_000, 64 << 10));
    }

    /// A header of a batch with so many records, of no producer.
    pub(crate) fn header(base_offset: i64, records: i32) -> BatchHeader {
        BatchHeader {
            base_offset,
            batch_length: 100,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: records - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: records,
        }
    }
}
