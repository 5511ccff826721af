//! OffsetCommit: a group's progress is recorded.

use std::collections::HashMap;
use std::sync::Arc;

use ottla_group::{CommitOffsets, CommitPartition, CommitTopic, CommittedTopic, GroupCoordinator, GroupError};
use ottla_image::{MetadataImage, TopicImage};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::offset_commit_request::{OffsetCommitRequest, OffsetCommitRequestTopic};
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_types::{ErrorCode, TopicId};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::coordinator::{Answer, Now, Token, Unavailable};

/// From it on, topics are named by their ids.
const FIRST_TOPIC_ID_VERSION: i16 = 10;
/// From it on, a missing group is reported as such.
const FIRST_GROUP_NOT_FOUND_VERSION: i16 = 9;
/// "The broker's retention".
const DEFAULT_RETENTION_MS: i64 = -1;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let by_id = context.api_version >= FIRST_TOPIC_ID_VERSION;
    let image = broker.quorum.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut known = Vec::new();
    let group = broker.authorize(&context, Operation::Read, Resource::Group(&request.group_id));
    for topic in &request.topics {
        let found = group.and_then(|()| {
            find(&image, topic, by_id).map_err(|error| {
                // A name is as telling as the topic behind it.
                let readable = by_id || broker.allows(&context, Operation::Read, Resource::Topic(&topic.name));
                if readable { error } else { ErrorCode::TopicAuthorizationFailed }
            })
        });
        let found = found.and_then(|found| {
            broker.authorize(&context, Operation::Read, Resource::Topic(&found.name)).map(|()| found)
        });
        match found {
            Ok(found) => {
                let (commit, unknown) = split(topic, found);
                if !unknown.is_empty() {
                    let error = ErrorCode::UnknownTopicOrPartition;
                    topics.push(answered(topic.name.clone(), topic.topic_id, unknown, error));
                }
                if !commit.partitions.is_empty() {
                    known.push(commit);
                }
            }
            Err(error) => {
                let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
                topics.push(answered(topic.name.clone(), topic.topic_id, partitions, error));
            }
        }
    }
    if !known.is_empty() {
        match commit(&broker, &context, &request, known.clone()).await {
            Ok(committed) => topics.extend(committed.into_iter().map(committed_topic)),
            Err(error) => topics.extend(known.into_iter().map(|topic| {
                let partitions = topic.partitions.iter().map(|partition| partition.partition).collect();
                answered(topic.topic.into(), topic.topic_id, partitions, error)
            })),
        }
    }
    OffsetCommitResponse { topics: merged(topics, by_id), ..Default::default() }
}

fn find<'a>(
    image: &'a MetadataImage,
    topic: &OffsetCommitRequestTopic,
    by_id: bool,
) -> Result<&'a TopicImage, ErrorCode> {
    if by_id {
        image.topic(topic.topic_id).map(AsRef::as_ref).ok_or(ErrorCode::UnknownTopicId)
    } else {
        image.topic_by_name(&topic.name).map(AsRef::as_ref).ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

/// What is to be committed of a topic, and the partitions it does not have.
fn split(topic: &OffsetCommitRequestTopic, found: &TopicImage) -> (CommitTopic, Vec<i32>) {
    let (existing, missing): (Vec<_>, Vec<_>) =
        topic.partitions.iter().partition(|partition| found.partition(partition.partition_index).is_some());
    let partitions = existing
        .into_iter()
        .map(|partition| CommitPartition {
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: Some(partition.committed_leader_epoch).filter(|epoch| *epoch >= 0),
            metadata: partition.committed_metadata.as_deref().map(Arc::from),
        })
        .collect();
    let commit = CommitTopic { topic: Arc::clone(&found.name), topic_id: found.topic_id, partitions };
    (commit, missing.into_iter().map(|partition| partition.partition_index).collect())
}

async fn commit(
    broker: &Broker,
    context: &RequestContext,
    request: &OffsetCommitRequest,
    topics: Vec<CommitTopic>,
) -> Result<Vec<CommittedTopic>, ErrorCode> {
    let commit = CommitOffsets {
        group: Arc::from(&*request.group_id),
        generation: request.generation_id_or_member_epoch,
        member_id: Arc::from(&*request.member_id),
        group_instance_id: request.group_instance_id.as_deref().map(Arc::from),
        retention_ms: Some(request.retention_time_ms).filter(|retention_ms| *retention_ms != DEFAULT_RETENTION_MS),
        knows_group_id_not_found: context.api_version >= FIRST_GROUP_NOT_FOUND_VERSION,
        topics,
    };
    let driver = broker.groups.driver(&request.group_id).map_err(Unavailable::error_code)?;
    let handle = |machine: &mut GroupCoordinator, now: Now, _: Token| machine.handle_commit(now.into(), commit).into();
    match driver.write(handle).await.map_err(Unavailable::error_code)? {
        Answer::Now(committed) => committed.map_err(GroupError::error_code),
        Answer::Released(_) => Err(ErrorCode::NotCoordinator),
    }
}

fn committed_topic(topic: CommittedTopic) -> OffsetCommitResponseTopic {
    let partitions = topic
        .partitions
        .into_iter()
        .map(|partition| OffsetCommitResponsePartition {
            partition_index: partition.partition,
            error_code: partition.error.map_or(ErrorCode::None, GroupError::error_code).code(),
        })
        .collect();
    OffsetCommitResponseTopic { name: topic.topic.into(), topic_id: topic.topic_id, partitions }
}

fn answered(name: StrBytes, topic_id: TopicId, partitions: Vec<i32>, error: ErrorCode) -> OffsetCommitResponseTopic {
    let partitions = partitions
        .into_iter()
        .map(|partition_index| OffsetCommitResponsePartition { partition_index, error_code: error.code() })
        .collect();
    OffsetCommitResponseTopic { name, topic_id, partitions }
}

/// One entry per topic: some of its partitions may have been refused before the others were committed. What is refused
/// has the name or the id the client gave, what is committed has both.
fn merged(topics: Vec<OffsetCommitResponseTopic>, by_id: bool) -> Vec<OffsetCommitResponseTopic> {
    let mut merged: Vec<OffsetCommitResponseTopic> = Vec::with_capacity(topics.len());
    let mut positions = HashMap::with_capacity(topics.len());
    for topic in topics {
        let name = if by_id { StrBytes::default() } else { topic.name.clone() };
        let topic_id = if by_id { topic.topic_id } else { TopicId::ZERO };
        let position = *positions.entry((name, topic_id)).or_insert(merged.len());
        match merged.get_mut(position) {
            Some(entry) => entry.partitions.extend(topic.partitions),
            None => merged.push(topic),
        }
    }
    merged
}
