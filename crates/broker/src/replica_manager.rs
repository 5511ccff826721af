//! The partitions this node leads, by topic, and the link between their logs and whoever waits for them.
//!
//! The map is replaced topic by topic; a reader holds what it found. It follows the committed metadata: whatever the
//! image says this node hosts is here, with its log.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::{Durability, LogConfig};
use ottla_log::{
    AppendError, FlushListener, LogError, LogManager, NewPartition, PartitionLog, SequenceError, TransactionError,
};
use ottla_types::{ErrorCode, LeaderEpoch, TopicId, TopicPartition};
use parking_lot::RwLock;

use crate::fatal::Fatal;
use crate::metrics::{Histogram, TopicMetrics};
use crate::partition::Partition;

/// A topic as this node hosts it.
pub(crate) struct Topic {
    name: Arc<str>,
    id: TopicId,
    metrics: Arc<TopicMetrics>,
    /// By partition number; `None` where another node has the replica, or where there is no log.
    partitions: Vec<Option<Arc<Partition>>>,
    /// Those that should be here, and have no log: it could not be made, or not be used.
    without_log: BTreeSet<i32>,
}

/// A partition that should be here.
pub(crate) struct Hosted {
    pub(crate) partition: i32,
    pub(crate) leader_epoch: LeaderEpoch,
}

/// A topic with the partitions of it that should be here.
pub(crate) type HostedTopic = (Arc<str>, TopicId, Arc<LogConfig>, Vec<Hosted>);

#[derive(Default)]
struct Topics {
    by_name: HashMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<TopicId, Arc<Topic>>,
}

pub(crate) struct ReplicaManager {
    logs: LogManager,
    topics: RwLock<Topics>,
    /// Partitions whose logs may be in a directory that is offline: nothing is made in their place.
    out_of_reach: RwLock<HashSet<(TopicId, i32)>>,
    flush_rounds: Histogram,
    fatal: Fatal,
}

impl Topic {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn metrics(&self) -> &TopicMetrics {
        &self.metrics
    }

    pub(crate) fn partition(&self, partition: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(partition).ok()?)?.as_ref()
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().flatten()
    }

    /// Whether the partition should be here and cannot be used: it has no log, or its directory has failed. One that the
    /// metadata has got and this node has not begun to host is as little offline as a topic that was just created.
    pub(crate) fn is_offline(&self, partition: i32) -> bool {
        match self.partition(partition) {
            Some(hosted) => hosted.failed().is_some(),
            None => self.without_log.contains(&partition),
        }
    }
}

impl ReplicaManager {
    pub(crate) fn new(logs: LogManager, fatal: Fatal) -> ReplicaManager {
        ReplicaManager {
            logs,
            topics: RwLock::default(),
            out_of_reach: RwLock::default(),
            flush_rounds: Histogram::default(),
            fatal,
        }
    }

    pub(crate) fn logs(&self) -> &LogManager {
        &self.logs
    }

    /// How long rounds of flushes take, in microseconds.
    pub(crate) fn flush_rounds(&self) -> &Histogram {
        &self.flush_rounds
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().by_name.get(name).cloned()
    }

    pub(crate) fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.topics.read().by_id.get(&id).cloned()
    }

    pub(crate) fn partition(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        self.topic(topic)?.partition(partition).cloned()
    }

    /// Puts logs aside that the metadata does not know: of a topic whose deletion was committed just before a stop, most
    /// often. Left where they are, a later topic of the same name would begin with their records.
    pub(crate) async fn set_strays_aside(&self, is_known: impl Fn(&TopicPartition, Option<TopicId>) -> bool) {
        let logs = self.logs.partitions().into_iter();
        let strays: Vec<TopicPartition> = logs
            .filter(|log| !is_known(log.topic_partition(), log.topic_id()))
            .map(|log| log.topic_partition().clone())
            .collect();
        if strays.is_empty() {
            return;
        }
        for (topic_partition, set_aside) in strays.iter().zip(self.logs.set_aside_all(&strays).await) {
            match set_aside {
                Ok(()) => {
                    tracing::warn!(%topic_partition, "the metadata does not know this log: it is set aside (-stray)");
                }
                Err(error) => tracing::error!(%topic_partition, %error, "a stray log cannot be set aside"),
            }
        }
    }

    /// Hosts what the metadata has at the start. With a directory offline, a partition without a log may have it there: it
    /// stays offline, and does not begin anew somewhere else.
    pub(crate) async fn host_all(&self, topics: Vec<HostedTopic>) -> bool {
        if self.logs.directories().iter().any(|directory| !directory.online) {
            let mut out_of_reach = self.out_of_reach.write();
            for (name, id, _, hosted) in &topics {
                for hosted in hosted {
                    let topic_partition = TopicPartition::new(Arc::clone(name), hosted.partition);
                    if self.log_of(&topic_partition, *id).is_none() && out_of_reach.insert((*id, hosted.partition)) {
                        tracing::error!(
                            %topic_partition, "the partition's log may be in a directory that is offline, and stays so"
                        );
                    }
                }
            }
        }
        self.host(topics).await
    }

    /// Hosts these partitions of these topics, making the logs that do not exist yet: all of them with one round of
    /// directory syncs. A log that cannot be made, or used, costs no other partition its place; false if one could not be
    /// made for the disk's sake, and may be made later.
    pub(crate) async fn host(&self, topics: Vec<HostedTopic>) -> bool {
        let mut complete = true;
        let mut missing = Vec::new();
        for (name, id, config, hosted) in &topics {
            for hosted in hosted {
                let topic_partition = TopicPartition::new(Arc::clone(name), hosted.partition);
                let is_out_of_reach = self.out_of_reach.read().contains(&(*id, hosted.partition));
                if !is_out_of_reach && self.log_of(&topic_partition, *id).is_none() {
                    missing.push(NewPartition { topic_partition, topic_id: *id, config: Arc::clone(config) });
                }
            }
        }
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|partition| partition.topic_partition.clone()).collect();
            for (topic_partition, made) in names.iter().zip(self.logs.create(missing).await) {
                if let Err(error) = made {
                    complete &= !matches!(error, LogError::Io { .. });
                    tracing::error!(%topic_partition, %error, "the partition has no log and stays offline");
                }
            }
        }
        self.flush_what_a_start_left(&topics).await;
        for (name, id, config, hosted) in topics {
            self.place(name, id, &config, hosted);
        }
        complete
    }

    /// The logs were opened with the node's durability. Where that is the page cache they are not synced yet, and a topic
    /// whose records count once they are durable has some that count already.
    async fn flush_what_a_start_left(&self, topics: &[HostedTopic]) {
        let mut waiting = Vec::new();
        for (name, id, _, hosted) in topics.iter().filter(|(_, _, config, _)| config.durability == Durability::Fsync) {
            let placed = self.topic_by_id(*id);
            let is_placed = |partition| placed.as_ref().is_some_and(|topic| topic.partition(partition).is_some());
            for hosted in hosted.iter().filter(|hosted| !is_placed(hosted.partition)) {
                let Some(log) = self.log_of(&TopicPartition::new(Arc::clone(name), hosted.partition), *id) else {
                    continue;
                };
                if log.flushed_offset() < log.log_end_offset() {
                    self.logs.request_flush(&log);
                    waiting.push(log);
                }
            }
        }
        for log in waiting {
            // Its directory has failed, and says so itself.
            let _ = log.wait_flushed(log.log_end_offset()).await;
        }
    }

    /// The log of this very topic's partition, not of an earlier topic of the same name.
    fn log_of(&self, topic_partition: &TopicPartition, id: TopicId) -> Option<Arc<PartitionLog>> {
        self.logs.get(topic_partition).filter(|log| log.topic_id().is_none_or(|found| found == id))
    }

    fn place(&self, name: Arc<str>, id: TopicId, config: &Arc<LogConfig>, hosted: Vec<Hosted>) {
        let before = self.topic_by_id(id);
        let mut partitions: Vec<Option<Arc<Partition>>> =
            before.as_ref().map(|topic| topic.partitions.clone()).unwrap_or_default();
        let metrics = before.map(|topic| Arc::clone(&topic.metrics)).unwrap_or_default();
        let mut without_log = BTreeSet::new();
        for hosted in hosted {
            let Ok(index) = usize::try_from(hosted.partition) else { continue };
            if partitions.len() <= index {
                partitions.resize(index + 1, None);
            }
            if partitions[index].is_some() {
                continue;
            }
            let topic_partition = TopicPartition::new(Arc::clone(&name), hosted.partition);
            let Some(log) = self.log_of(&topic_partition, id) else {
                without_log.insert(hosted.partition);
                continue;
            };
            log.forget_epochs_above(hosted.leader_epoch.0);
            let partition = Partition::new(topic_partition, hosted.leader_epoch, log, config, Arc::clone(&metrics));
            partitions[index] = Some(Arc::new(partition));
        }
        let topic = Arc::new(Topic { name: Arc::clone(&name), id, metrics, partitions, without_log });
        let mut topics = self.topics.write();
        topics.by_name.insert(name, Arc::clone(&topic));
        topics.by_id.insert(id, topic);
    }

    /// The topics are gone: waiters are told, their logs are renamed away with one round of syncs, and removed later.
    pub(crate) async fn remove(&self, ids: impl IntoIterator<Item = TopicId>) {
        let mut partitions = Vec::new();
        for id in ids {
            let topic = {
                let mut topics = self.topics.write();
                let Some(topic) = topics.by_id.remove(&id) else { continue };
                if topics.by_name.get(&topic.name).is_some_and(|named| named.id == id) {
                    topics.by_name.remove(&topic.name);
                }
                topic
            };
            self.out_of_reach.write().retain(|(of, _)| *of != id);
            for partition in topic.partitions() {
                partition.fail(ErrorCode::UnknownTopicOrPartition);
                partitions.push(partition.topic_partition().clone());
            }
        }
        for (partition, deleted) in partitions.iter().zip(self.logs.delete_all(&partitions).await) {
            if let Err(error) = deleted {
                tracing::error!(%partition, %error, "a log cannot be deleted");
            }
        }
    }

    /// The topic's effective configuration changed.
    pub(crate) fn set_config(&self, id: TopicId, config: &Arc<LogConfig>) {
        let Some(topic) = self.topic_by_id(id) else { return };
        for partition in topic.partitions() {
            partition.set_config(Arc::clone(config));
        }
    }

    /// Every topic hosted here, in the order of the names.
    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> = self.topics.read().by_name.values().cloned().collect();
        topics.sort_by(|left, right| left.name.cmp(&right.name));
        topics
    }
}

impl FlushListener for ReplicaManager {
    fn flushed(&self, topic_partition: &TopicPartition, flushed_offset: i64) {
        let _guard = self.fatal.guard("the high watermark's move");
        if let Some(partition) = self.partition(&topic_partition.topic, topic_partition.partition) {
            // The round may have been of a deleted topic's log, and this partition one of a later topic of that name.
            partition.flushed(flushed_offset.min(partition.log().flushed_offset()));
        }
    }

    fn round(&self, took: Duration) {
        self.flush_rounds.record(took.as_micros() as u64);
    }

    fn directory_failed(&self, directory: &Path, error: &std::io::Error) {
        tracing::error!(directory = %directory.display(), %error, "the log directory is offline");
        for topic in self.topics() {
            for partition in topic.partitions() {
                if partition.log().path().parent() == Some(directory) {
                    partition.fail(ErrorCode::KafkaStorageError);
                }
            }
        }
        if self.logs.directories().iter().all(|directory| !directory.online) {
            self.fatal.report(format!("every log directory has failed, {} last: {error}", directory.display()));
        }
    }
}

/// The wire's word for a failed append.
pub(crate) fn append_error_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Sequence { source: SequenceError::OutOfOrder { .. }, .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::Sequence { source: SequenceError::InvalidEpoch { .. }, .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::Transaction { source, .. } => match source {
            TransactionError::ControlBatchOfClient | TransactionError::MalformedMarker(_) => ErrorCode::InvalidRecord,
            TransactionError::NotTransactional { .. } => ErrorCode::InvalidTxnState,
            TransactionError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        },
        // A full disk heals; clients retry.
        AppendError::NoSpace(_) | AppendError::DirectoryOffline(_) => ErrorCode::KafkaStorageError,
        AppendError::Deleted(_) => ErrorCode::UnknownTopicOrPartition,
        AppendError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
        AppendError::StaleLeaderEpoch { .. } => ErrorCode::NotLeaderOrFollower,
        AppendError::UnexpectedOffset { .. } | AppendError::OffsetsUsedUp(_) => ErrorCode::UnknownServerError,
    }
}

#[cfg(test)]
mod tests;
