//! A partition this node leads: its log, its place in replication, and whoever waits for it.
//!
//! Appends, flushes and waits meet here. Nobody waits by a timer: a produce is released by the high watermark, a parked
//! fetch by the append (or the flush) that makes records visible.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ottla_config::{Durability, LogConfig};
use ottla_log::{AppendError, AppendOrigin, Appended, BatchToAppend, LogManager, PartitionLog};
use ottla_record::ValidatedBatch;
use ottla_replication::{Leader, Required};
use ottla_types::{ErrorCode, LeaderEpoch, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::metrics::TopicMetrics;

/// What a produce waits for: the high watermark reaching its end, or the reason it never will.
pub(crate) type Acknowledgement = oneshot::Receiver<Result<(), ErrorCode>>;

/// Kafka's number for "no epoch".
const NO_EPOCH: i32 = -1;
/// Kafka's `isolation_level` of a consumer that must not see open or aborted transactions.
const READ_COMMITTED: i8 = 1;

/// What a reader may see of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

impl Isolation {
    /// What a request's `isolation_level` says; of what Kafka has no name for, the weaker.
    pub(crate) fn of(level: i8) -> Isolation {
        if level == READ_COMMITTED { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
    }
}

pub(crate) struct Partition {
    topic_partition: TopicPartition,
    log: Arc<PartitionLog>,
    /// Those of its topic.
    metrics: Arc<TopicMetrics>,
    high_watermark: AtomicI64,
    state: Mutex<State>,
}

struct State {
    leader: Leader,
    /// Waiting produces, by the offset they wait for, ascending.
    acknowledgements: VecDeque<(i64, oneshot::Sender<Result<(), ErrorCode>>)>,
    fetches: Vec<Arc<FetchWait>>,
    /// Why nothing can be appended or read any more.
    failed: Option<ErrorCode>,
}

/// One parked fetch; it is registered with every partition it asks for.
#[derive(Default)]
pub(crate) struct FetchWait {
    changed: Notify,
}

impl FetchWait {
    /// Ends when some partition has changed since the last time this ended.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Partition {
    pub(crate) fn new(
        topic_partition: TopicPartition,
        leader_epoch: LeaderEpoch,
        log: Arc<PartitionLog>,
        config: &Arc<LogConfig>,
        metrics: Arc<TopicMetrics>,
    ) -> Partition {
        log.set_config(Arc::clone(config));
        let leader = Leader::new(leader_epoch, required(config), log.log_end_offset(), log.flushed_offset());
        // What its checkpoint knew may be older, and bounds retention.
        log.note_high_watermark(leader.high_watermark());
        Partition {
            topic_partition,
            high_watermark: AtomicI64::new(leader.high_watermark()),
            log,
            metrics,
            state: Mutex::new(State { leader, acknowledgements: VecDeque::new(), fetches: Vec::new(), failed: None }),
        }
    }

    pub(crate) fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    pub(crate) fn log(&self) -> &Arc<PartitionLog> {
        &self.log
    }

    pub(crate) fn metrics(&self) -> &TopicMetrics {
        &self.metrics
    }

    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        self.state.lock().leader.leader_epoch()
    }

    /// The largest epoch up to the one asked for, and where it ends; `None` for an epoch that is not known, or to come.
    /// The leader's own epoch counts from the moment it leads, as in Kafka, although the log has it with its first batch.
    pub(crate) fn end_offset_for_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        let leader_epoch = self.leader_epoch().0;
        let log_end_offset = self.log.log_end_offset();
        match epoch {
            NO_EPOCH => None,
            epoch if epoch > leader_epoch => None,
            epoch if epoch == leader_epoch => Some((epoch, log_end_offset)),
            epoch => {
                let written = self.log.end_offset_for_epoch(epoch);
                // Younger than every batch: it ends where this leader began.
                written.or_else(|| Some((self.log.latest_epoch().unwrap_or(epoch), log_end_offset)))
            }
        }
    }

    /// Records below it are committed and visible to consumers.
    pub(crate) fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Ordering::Acquire)
    }

    /// Where a reader of committed records stops; never above the high watermark.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        // First this one: the log has heard of it by then.
        let high_watermark = self.high_watermark();
        self.log.last_stable_offset().min(high_watermark)
    }

    /// Where a reader stops that may see records of open and aborted transactions, or may not.
    pub(crate) fn end_for(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable_offset(),
        }
    }

    /// The error every use of this partition answers, once its directory has failed or its topic is gone.
    pub(crate) fn failed(&self) -> Option<ErrorCode> {
        self.state.lock().failed
    }

    pub(crate) fn config(&self) -> Arc<LogConfig> {
        self.log.config()
    }

    /// Appends a validated batch as its leader, and asks for the flush its acknowledgement needs.
    pub(crate) fn append(
        &self,
        logs: &LogManager,
        batch: &ValidatedBatch,
        origin: AppendOrigin,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let leader_epoch = self.leader_epoch();
        let batch = BatchToAppend { bytes: &batch.bytes, header: &batch.header, origin };
        let appended = self.log.append(batch, leader_epoch, now_ms)?;
        if appended.acknowledge_when_flushed.is_some() {
            logs.request_flush(&self.log);
        }
        let mut state = self.state.lock();
        let log_end_offset = self.log.log_end_offset();
        let advanced = state.leader.handle_append(log_end_offset);
        // The log decides by its own configuration, which may be a moment older than what the leader is asked for.
        let waits = state.leader.high_watermark() <= appended.last_offset;
        self.publish(state, advanced);
        if waits && appended.acknowledge_when_flushed.is_none() {
            logs.request_flush(&self.log);
        }
        Ok(appended)
    }

    /// Waits for records up to this offset (exclusive) to be committed; `None` if they are.
    pub(crate) fn acknowledgement(&self, end_offset: i64) -> Option<Acknowledgement> {
        if self.high_watermark() >= end_offset {
            return None;
        }
        let mut state = self.state.lock();
        let (sender, receiver) = oneshot::channel();
        if let Some(error) = state.failed {
            let _ = sender.send(Err(error));
            return Some(receiver);
        }
        if state.leader.high_watermark() >= end_offset {
            return None;
        }
        let position = state.acknowledgements.partition_point(|(offset, _)| *offset <= end_offset);
        state.acknowledgements.insert(position, (end_offset, sender));
        Some(receiver)
    }

    /// A flush round has covered everything below this offset.
    pub(crate) fn flushed(&self, flushed_offset: i64) {
        let mut state = self.state.lock();
        let advanced = state.leader.handle_flush(flushed_offset);
        self.publish(state, advanced);
    }

    /// The topic's configuration changed.
    pub(crate) fn set_config(&self, config: Arc<LogConfig>) {
        let mut state = self.state.lock();
        let advanced = state.leader.handle_requirement(required(&config));
        self.publish(state, advanced);
        self.log.set_config(config);
    }

    /// Nothing waits here any more: every waiter gets this error.
    pub(crate) fn fail(&self, error: ErrorCode) {
        let mut state = self.state.lock();
        state.failed = Some(error);
        let acknowledgements = std::mem::take(&mut state.acknowledgements);
        let fetches = std::mem::take(&mut state.fetches);
        drop(state);
        for (_, sender) in acknowledgements {
            let _ = sender.send(Err(error));
        }
        for fetch in fetches {
            fetch.changed.notify_one();
        }
    }

    /// The log begins later now: a parked fetch may ask for what is gone.
    pub(crate) fn log_start_moved(&self) {
        for fetch in &self.state.lock().fetches {
            fetch.changed.notify_one();
        }
    }

    /// From now on the fetch is woken when records become visible here.
    pub(crate) fn register(&self, fetch: &Arc<FetchWait>) {
        self.state.lock().fetches.push(Arc::clone(fetch));
    }

    pub(crate) fn unregister(&self, fetch: &Arc<FetchWait>) {
        self.state.lock().fetches.retain(|registered| !Arc::ptr_eq(registered, fetch));
    }

    fn publish(&self, mut state: parking_lot::MutexGuard<'_, State>, advanced: Option<i64>) {
        let Some(high_watermark) = advanced else { return };
        state.leader.check_invariants();
        // With it moves the last stable offset, so whoever sees this high watermark finds that one in place.
        self.log.note_high_watermark(high_watermark);
        self.high_watermark.store(high_watermark, Ordering::Release);
        let released = state.acknowledgements.partition_point(|(offset, _)| *offset <= high_watermark);
        let acknowledged: Vec<_> = state.acknowledgements.drain(..released).collect();
        for fetch in &state.fetches {
            fetch.changed.notify_one();
        }
        drop(state);
        for (_, sender) in acknowledged {
            // A receiver that is gone is a client that is gone.
            let _ = sender.send(Ok(()));
        }
    }
}

/// What a topic's durability asks of a replica before a record counts.
fn required(config: &LogConfig) -> Required {
    match config.durability {
        Durability::Fsync => Required::Flushed,
        Durability::PageCache => Required::Appended,
    }
}
