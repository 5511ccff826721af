//! The offsets groups have committed: reading, setting and deleting them.

use std::collections::BTreeMap;

use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestGroup};
use ottla_protocol::{ApiKey, StrBytes};
use ottla_types::{ErrorCode, TopicPartition};

use crate::client::Client;
use crate::error::{ClientError, failure};
use crate::group::{OFFSET_COMMIT_BY_NAME, OFFSET_FETCH_BY_NAME, by_topic};

use super::groups::group_failure;

/// The first version of OffsetFetch that names several groups.
const OFFSET_FETCH_OF_GROUPS: i16 = 8;
/// Partitions in one request: a request must stay far below what brokers accept.
const PARTITIONS_AT_ONCE: usize = 10_000;

/// Where a group stands in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset of the next record to read.
    pub offset: i64,
    pub leader_epoch: Option<i32>,
    /// Whatever the group noted with it; mostly nothing.
    pub metadata: String,
}

impl Client {
    /// Where a group stands, in every partition it has committed an offset of. None for a group that does not exist.
    pub async fn committed_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        let group_id = StrBytes::from(group.to_owned());
        let of_groups = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup { group_id: group_id.clone(), topics: None, ..Default::default() }],
            ..Default::default()
        };
        let of_one = OffsetFetchRequest { group_id, topics: None, ..Default::default() };
        let timeout = self.settings().request_timeout;
        self.at_coordinator(group, async |connection| {
            let version = connection.version(ApiKey::OffsetFetch).unwrap_or_default();
            let mut committed = BTreeMap::new();
            let mut take =
                |topic: &StrBytes, partition, code, offset, leader_epoch: i32, metadata: Option<&StrBytes>| {
                    partition_failure(topic, partition, code)?;
                    let metadata = metadata.map(ToString::to_string).unwrap_or_default();
                    let leader_epoch = Some(leader_epoch).filter(|&epoch| epoch >= 0);
                    if offset >= 0 {
                        let at = TopicPartition::new(topic.as_str(), partition);
                        committed.insert(at, CommittedOffset { offset, leader_epoch, metadata });
                    }
                    Ok::<_, ClientError>(())
                };
            if version >= OFFSET_FETCH_OF_GROUPS {
                let response = connection.send_at_most(&of_groups, OFFSET_FETCH_BY_NAME, timeout).await?;
                let found = response.groups.into_iter().next().ok_or(ClientError::Incomplete(ApiKey::OffsetFetch))?;
                match group_failure(group, found.error_code, None) {
                    Err(ClientError::UnknownGroup { .. }) => return Ok(BTreeMap::new()),
                    done => done?,
                }
                for topic in &found.topics {
                    for at in &topic.partitions {
                        let (offset, epoch) = (at.committed_offset, at.committed_leader_epoch);
                        take(&topic.name, at.partition_index, at.error_code, offset, epoch, at.metadata.as_ref())?;
                    }
                }
            } else {
                let response = connection.send_at_most(&of_one, OFFSET_FETCH_OF_GROUPS - 1, timeout).await?;
                group_failure(group, response.error_code, None)?;
                for topic in &response.topics {
                    for at in &topic.partitions {
                        let (offset, epoch) = (at.committed_offset, at.committed_leader_epoch);
                        take(&topic.name, at.partition_index, at.error_code, offset, epoch, at.metadata.as_ref())?;
                    }
                }
            }
            Ok(committed)
        })
        .await
    }

    /// Puts a group that has no members at these offsets; each partition has its own result. A group that does not
    /// exist is made.
    pub async fn commit_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, Result<(), ErrorCode>>, ClientError> {
        let mut results = BTreeMap::new();
        let timeout = self.settings().request_timeout;
        let all: Vec<&TopicPartition> = offsets.keys().collect();
        for some in all.chunks(PARTITIONS_AT_ONCE) {
            let topics = by_topic(some.iter().copied()).into_iter().map(|(topic, partitions)| {
                let partitions = partitions.into_iter().map(|partition| OffsetCommitRequestPartition {
                    partition_index: partition.partition,
                    committed_offset: offsets[partition],
                    committed_metadata: Some(StrBytes::default()),
                    ..Default::default()
                });
                OffsetCommitRequestTopic {
                    name: StrBytes::from(topic),
                    partitions: partitions.collect(),
                    ..Default::default()
                }
            });
            let request = OffsetCommitRequest {
                group_id: StrBytes::from(group.to_owned()),
                // From nobody: refused while there are members.
                generation_id_or_member_epoch: -1,
                topics: topics.collect(),
                ..Default::default()
            };
            let done = self.at_coordinator(group, async |connection| {
                let response = connection.send_at_most(&request, OFFSET_COMMIT_BY_NAME, timeout).await?;
                let mut done = BTreeMap::new();
                for topic in &response.topics {
                    for partition in &topic.partitions {
                        let code = failure(partition.error_code);
                        coordinator_failure(group, code)?;
                        let at = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                        done.insert(at, code.map_or(Ok(()), Err));
                    }
                }
                Ok(done)
            });
            results.extend(done.await?);
        }
        Ok(results)
    }

    /// Forgets where a group stands in these partitions; each has its own result. Refused for topics its members read.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Result<(), ErrorCode>>, ClientError> {
        let mut results = BTreeMap::new();
        for some in partitions.chunks(PARTITIONS_AT_ONCE) {
            let topics = by_topic(some).into_iter().map(|(topic, partitions)| OffsetDeleteRequestTopic {
                name: StrBytes::from(topic),
                partitions: partitions
                    .into_iter()
                    .map(|partition| OffsetDeleteRequestPartition { partition_index: partition.partition })
                    .collect(),
            });
            let request = OffsetDeleteRequest { group_id: StrBytes::from(group.to_owned()), topics: topics.collect() };
            let done = self.at_coordinator(group, async |connection| {
                let response = connection.send(&request).await?;
                group_failure(group, response.error_code, None)?;
                let mut done = BTreeMap::new();
                for topic in &response.topics {
                    for partition in &topic.partitions {
                        let at = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                        done.insert(at, failure(partition.error_code).map_or(Ok(()), Err));
                    }
                }
                Ok(done)
            });
            results.extend(done.await?);
        }
        Ok(results)
    }
}

fn partition_failure(topic: &StrBytes, partition: i32, code: i16) -> Result<(), ClientError> {
    match failure(code) {
        None => Ok(()),
        Some(code) => Err(ClientError::Partition { topic: topic.to_string(), partition, code, message: None }),
    }
}

/// What stands at every partition of an answer, but is said of the group.
fn coordinator_failure(group: &str, code: Option<ErrorCode>) -> Result<(), ClientError> {
    match code {
        Some(
            code @ (ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::RebalanceInProgress
            | ErrorCode::GroupAuthorizationFailed),
        ) => Err(ClientError::Group { group: group.to_owned(), code, message: None }),
        _ => Ok(()),
    }
}
