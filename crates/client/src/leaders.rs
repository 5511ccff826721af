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

/// What leaders are asked about partitions they lead.
pub(crate) trait LeaderQuestion: Sync {
    type Answer: Send;

    fn ask(
        &self,
        connection: &Connection,
        partitions: &[(TopicPartition, Leader)],
    ) -> impl Future<Output = Result<Answers<Self::Answer>, ClientError>> + Send;
}

impl Client {
    /// Does something at the leader of each partition. What fails for one partition is its own result; what fails for
    /// a whole broker, however often it was tried, fails everything.
    pub(crate) async fn at_leaders<Q: LeaderQuestion>(
        &self,
        mut remaining: BTreeSet<TopicPartition>,
        question: &Q,
    ) -> Result<PartitionResults<Q::Answer>, ClientError> {
        let mut done = PartitionResults::new();
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
                    match self.ask_leader(node_id, some, question).await {
                        Ok(answers) => {
                            let mut answers: BTreeMap<TopicPartition, Result<Q::Answer, ErrorCode>> =
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

    async fn ask_leader<Q: LeaderQuestion>(
        &self,
        node_id: i32,
        partitions: &[(TopicPartition, Leader)],
        question: &Q,
    ) -> Result<Answers<Q::Answer>, ClientError> {
        let connection = self.broker(node_id, Lane::General).await?;
        question.ask(&connection, partitions).await
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
