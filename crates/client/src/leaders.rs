//! Asking the leaders of many partitions at once, and again where that can help.

use std::collections::{BTreeMap, BTreeSet};

use ottla_types::{ErrorCode, TopicPartition};

use crate::client::{Client, Lane};
use crate::connection::Connection;
use crate::error::ClientError;
use crate::topics::Leader;

/// Partitions in one request: it must stay far below what brokers accept.
const PARTITIONS_AT_ONCE: usize = 10_000;

/// What each partition was answered with.
pub(crate) type Answers<T> = Vec<(TopicPartition, Result<T, ErrorCode>)>;

/// What became of each partition in the end.
pub type PartitionResults<T> = BTreeMap<TopicPartition, Result<T, ClientError>>;

impl Client {
    /// Does something at the leader of each partition. What fails for one partition is its own result; what fails for
    /// a whole broker, however often it was tried, fails everything.
    pub(crate) async fn at_leaders<T>(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        attempt: impl AsyncFn(&Connection, &[(TopicPartition, Leader)]) -> Result<Answers<T>, ClientError>,
    ) -> Result<PartitionResults<T>, ClientError> {
        let mut done = PartitionResults::new();
        let mut remaining: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        let mut retry = self.retry();
        while !remaining.is_empty() {
            let mut failed: Vec<(TopicPartition, ClientError)> = Vec::new();
            let mut by_leader: BTreeMap<i32, Vec<(TopicPartition, Leader)>> = BTreeMap::new();
            self.learn_topics(&remaining).await?;
            for partition in &remaining {
                match self.leader(&partition.topic, partition.partition).await {
                    Ok(leader) => by_leader.entry(leader.node_id).or_default().push((partition.clone(), leader)),
                    Err(error) => failed.push((partition.clone(), error)),
                }
            }
            let mut broker_failed = None;
            for (node_id, led) in by_leader {
                for some in led.chunks(PARTITIONS_AT_ONCE) {
                    match self.attempt_at(node_id, some, &attempt).await {
                        Ok(answers) => {
                            let mut answers: BTreeMap<TopicPartition, Result<T, ErrorCode>> =
                                answers.into_iter().collect();
                            for (partition, _) in some {
                                match answers.remove(partition) {
                                    Some(Ok(value)) => {
                                        remaining.remove(partition);
                                        done.insert(partition.clone(), Ok(value));
                                    }
                                    Some(Err(code)) => failed.push((partition.clone(), refused(partition, code))),
                                    None => failed.push((partition.clone(), unanswered(partition))),
                                }
                            }
                        }
                        Err(error) => broker_failed = Some(error),
                    }
                }
            }
            let mut again = None;
            for (partition, error) in failed {
                self.forget_topic(&partition.topic);
                if error.retriable() {
                    again = Some((partition, error));
                } else {
                    remaining.remove(&partition);
                    done.insert(partition, Err(error));
                }
            }
            match (broker_failed, again) {
                (Some(error), _) => {
                    for partition in &remaining {
                        self.forget_topic(&partition.topic);
                    }
                    retry.pause(error).await?;
                }
                (None, Some((partition, error))) => {
                    if let Err(error) = retry.pause(error).await {
                        remaining.remove(&partition);
                        done.insert(partition, Err(error));
                        // No time is left; the others stand as badly.
                        for TopicPartition { topic, partition } in std::mem::take(&mut remaining) {
                            let error = ClientError::NoLeader { topic: topic.to_string(), partition };
                            done.insert(TopicPartition { topic, partition }, Err(error));
                        }
                    }
                }
                (None, None) => {}
            }
        }
        Ok(done)
    }

    async fn attempt_at<T>(
        &self,
        node_id: i32,
        partitions: &[(TopicPartition, Leader)],
        attempt: &impl AsyncFn(&Connection, &[(TopicPartition, Leader)]) -> Result<Answers<T>, ClientError>,
    ) -> Result<Answers<T>, ClientError> {
        let connection = self.broker(node_id, Lane::General).await?;
        attempt(&connection, partitions).await
    }

    /// Asks for all topics that are not known in one request, instead of one for each.
    async fn learn_topics(&self, partitions: &BTreeSet<TopicPartition>) -> Result<(), ClientError> {
        let topics: BTreeSet<&str> = partitions.iter().map(|partition| &*partition.topic).collect();
        let unknown: Vec<&str> = topics.into_iter().filter(|topic| !self.knows_topic(topic)).collect();
        if unknown.len() > 1 {
            self.metadata(Some(&unknown), false).await?;
        }
        Ok(())
    }
}

fn refused(partition: &TopicPartition, code: ErrorCode) -> ClientError {
    let TopicPartition { topic, partition } = partition;
    ClientError::Partition { topic: topic.to_string(), partition: *partition, code, message: None }
}

fn unanswered(partition: &TopicPartition) -> ClientError {
    let message = Some("the broker said nothing about it".to_owned());
    let TopicPartition { topic, partition } = partition;
    ClientError::Partition {
        topic: topic.to_string(),
        partition: *partition,
        code: ErrorCode::UnknownServerError,
        message,
    }
}
