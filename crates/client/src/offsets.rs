//! Offsets by time: ListOffsets.

use std::collections::BTreeMap;

use ottla_protocol::ApiKey;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use ottla_types::TopicPartition;

use crate::client::{Client, Lane};
use crate::error::{ClientError, failure};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

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

impl Client {
    /// The offset of each partition that this stands for.
    pub async fn resolve_offsets(
        &self,
        partitions: &[TopicPartition],
        start: StartAt,
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let mut resolved = BTreeMap::new();
        for partition in partitions {
            let offset = match start {
                StartAt::Offset(offset) => offset,
                StartAt::Beginning => self.list_offset(partition, EARLIEST).await?,
                StartAt::End => self.list_offset(partition, LATEST).await?,
                StartAt::BeforeEnd(records) => {
                    let end = self.list_offset(partition, LATEST).await?;
                    let beginning = self.list_offset(partition, EARLIEST).await?;
                    end.saturating_sub(records).max(beginning)
                }
                StartAt::Timestamp(timestamp) => {
                    // Negative timestamps have other meanings.
                    match self.list_offset(partition, timestamp.max(0)).await? {
                        -1 => self.list_offset(partition, LATEST).await?,
                        offset => offset,
                    }
                }
            };
            resolved.insert(partition.clone(), offset);
        }
        Ok(resolved)
    }

    async fn list_offset(&self, partition: &TopicPartition, timestamp: i64) -> Result<i64, ClientError> {
        let mut retry = self.retry();
        loop {
            match self.list_offset_once(partition, timestamp).await {
                Err(error) => {
                    self.forget_topic(&partition.topic);
                    retry.pause(error).await?;
                }
                done => return done,
            }
        }
    }

    async fn list_offset_once(&self, partition: &TopicPartition, timestamp: i64) -> Result<i64, ClientError> {
        let leader = self.leader(&partition.topic, partition.partition).await?;
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: StrBytes::from(&partition.topic),
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition.partition,
                    current_leader_epoch: leader.leader_epoch,
                    timestamp,
                }],
            }],
            timeout_ms: i32::try_from(self.settings().request_timeout.as_millis()).unwrap_or(i32::MAX),
            ..Default::default()
        };
        let response = self.broker(leader.node_id, Lane::General).await?.send(&request).await?;
        let found = response.topics.first().and_then(|topic| topic.partitions.first());
        let found = found.ok_or(ClientError::Incomplete(ApiKey::ListOffsets))?;
        match failure(found.error_code) {
            None => Ok(found.offset),
            Some(code) => Err(ClientError::Partition {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                code,
                message: None,
            }),
        }
    }
}
