//! Offsets by time: ListOffsets.

use std::collections::BTreeMap;

use ottla_protocol::StrBytes;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use ottla_types::TopicPartition;

use crate::client::Client;
use crate::connection::Connection;
use crate::consumer::IsolationLevel;
use crate::error::{ClientError, failure};
use crate::leaders::{Answers, LeaderQuestion, PartitionResults};
use crate::topics::Leader;

pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;
/// The offset of a time after the last record.
const NO_OFFSET: i64 = -1;

/// Where reading a partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    Beginning,
    End,
    Offset(i64),
    /// So many records before the end, or at the beginning.
    BeforeEnd(i64),
    /// At the first record that is not older, or at the end; milliseconds.
    Timestamp(i64),
}

/// A place in a partition that was asked for by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    pub offset: i64,
    /// The time of the record there; `None` for an end of the log.
    pub timestamp: Option<i64>,
    /// The epoch of the leader who wrote the record there, if the broker says so.
    pub leader_epoch: Option<i32>,
}

impl Client {
    /// The offset of each partition that this stands for.
    pub async fn resolve_offsets(
        &self,
        partitions: &[TopicPartition],
        start: StartAt,
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let resolved = self.resolve_each_offset(partitions, start).await?;
        resolved.into_iter().map(|(partition, offset)| Ok((partition, offset?))).collect()
    }

    /// The same, where one partition may fail and the others not.
    pub async fn resolve_each_offset(
        &self,
        partitions: &[TopicPartition],
        start: StartAt,
    ) -> Result<PartitionResults<i64>, ClientError> {
        match start {
            StartAt::Offset(offset) => Ok(partitions.iter().map(|partition| (partition.clone(), Ok(offset))).collect()),
            StartAt::Beginning => self.list_offsets(partitions, EARLIEST).await,
            StartAt::End => self.list_offsets(partitions, LATEST).await,
            StartAt::BeforeEnd(records) => {
                let mut beginnings = self.list_offsets(partitions, EARLIEST).await?;
                let mut ends = self.list_offsets(partitions, LATEST).await?;
                for (partition, end) in &mut ends {
                    if let (Ok(end), Some(beginning)) = (&mut *end, beginnings.remove(partition)) {
                        match beginning {
                            Ok(beginning) => *end = end.saturating_sub(records).max(beginning),
                            Err(error) => {
                                beginnings.insert(partition.clone(), Err(error));
                            }
                        }
                    }
                }
                // Whatever is left of the beginnings failed.
                ends.extend(beginnings.into_iter().filter(|(_, beginning)| beginning.is_err()));
                Ok(ends)
            }
            StartAt::Timestamp(timestamp) => {
                // Negative timestamps have other meanings.
                let mut found = self.list_offsets(partitions, timestamp.max(0)).await?;
                let late = |offset: &Result<i64, ClientError>| matches!(offset, Ok(NO_OFFSET));
                let at_end: Vec<TopicPartition> =
                    found.iter().filter(|(_, offset)| late(offset)).map(|(partition, _)| partition.clone()).collect();
                found.extend(self.list_offsets(&at_end, LATEST).await?);
                Ok(found)
            }
        }
    }

    async fn list_offsets(
        &self,
        partitions: &[TopicPartition],
        timestamp: i64,
    ) -> Result<PartitionResults<i64>, ClientError> {
        let asked = partitions.iter().map(|partition| (partition.clone(), timestamp)).collect();
        let listed = self.list_offsets_at(&asked, IsolationLevel::ReadUncommitted).await?;
        let offset = |listed: Option<ListedOffset>| listed.map_or(NO_OFFSET, |listed| listed.offset);
        Ok(listed.into_iter().map(|(partition, listed)| (partition, listed.map(offset))).collect())
    }

    /// The first offset of each partition whose record is not older than its timestamp; `None` if there is none.
    pub(crate) async fn list_offsets_at(
        &self,
        timestamps: &BTreeMap<TopicPartition, i64>,
        isolation_level: IsolationLevel,
    ) -> Result<PartitionResults<Option<ListedOffset>>, ClientError> {
        let timeout_ms = i32::try_from(self.settings().request_timeout.as_millis()).unwrap_or(i32::MAX);
        let question = OffsetsAt { timestamps, isolation_level, timeout_ms };
        self.at_leaders(timestamps.keys().cloned().collect(), &question).await
    }
}

struct OffsetsAt<'a> {
    timestamps: &'a BTreeMap<TopicPartition, i64>,
    isolation_level: IsolationLevel,
    timeout_ms: i32,
}

impl LeaderQuestion for OffsetsAt<'_> {
    type Answer = Option<ListedOffset>;

    async fn ask(
        &self,
        connection: &Connection,
        partitions: &[(TopicPartition, Leader)],
    ) -> Result<Answers<Option<ListedOffset>>, ClientError> {
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        for (partition, leader) in partitions {
            let asked = ListOffsetsPartition {
                partition_index: partition.partition,
                current_leader_epoch: leader.leader_epoch,
                timestamp: self.timestamps[partition],
            };
            match topics.last_mut().filter(|topic| *topic.name == *partition.topic) {
                Some(topic) => topic.partitions.push(asked),
                None => {
                    topics.push(ListOffsetsTopic { name: StrBytes::from(&partition.topic), partitions: vec![asked] });
                }
            }
        }
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: self.isolation_level.code(),
            topics,
            timeout_ms: self.timeout_ms,
            ..Default::default()
        };
        let response = connection.send(&request).await?;
        let answers = response.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|found| {
                let partition = TopicPartition::new(topic.name.as_str(), found.partition_index);
                let listed = (found.offset >= 0).then(|| ListedOffset {
                    offset: found.offset,
                    timestamp: Some(found.timestamp).filter(|&timestamp| timestamp >= 0),
                    leader_epoch: Some(found.leader_epoch).filter(|&epoch| epoch >= 0),
                });
                (partition, failure(found.error_code).map_or(Ok(listed), Err))
            })
        });
        Ok(answers.collect())
    }
}
