//! OffsetFetch: what groups have committed.

use std::collections::HashSet;
use std::sync::Arc;

use ottla_group::{FetchOffsets, FetchTopic, FetchedTopic, GroupError};
use ottla_image::MetadataImage;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use ottla_types::{ErrorCode, TopicId};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::coordinator::{Shows, Unavailable};

/// From it on, one request asks for several groups.
const FIRST_GROUPS_VERSION: i16 = 8;
/// Before it, an error is every partition's.
const FIRST_TOP_LEVEL_ERROR_VERSION: i16 = 2;
/// From it on, topics are named by their ids.
const FIRST_TOPIC_ID_VERSION: i16 = 10;
/// "Nothing is committed".
const NO_OFFSET: i64 = -1;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let version = context.api_version;
    if version >= FIRST_GROUPS_VERSION {
        let mut groups = Vec::with_capacity(request.groups.len());
        // Everything a group has committed may be far longer than its name: it is told once.
        let mut told_whole = HashSet::new();
        let first_time =
            |group: &OffsetFetchRequestGroup| group.topics.is_some() || told_whole.insert(group.group_id.clone());
        let mut told = HashSet::new();
        for mut group in request.groups.into_iter().filter(first_time) {
            each_once(&mut group, &mut told);
            let by_id = version >= FIRST_TOPIC_ID_VERSION;
            groups.push(fetch(&broker, &context, group, by_id, request.require_stable).await);
        }
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let topics = request.topics.map(|topics| {
        let renamed = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..Default::default()
        });
        renamed.collect::<Vec<_>>()
    });
    let mut group = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    each_once(&mut group, &mut HashSet::new());
    let topics = group.topics.clone();
    let mut fetched = fetch(&broker, &context, group, false, request.require_stable).await;
    if fetched.error_code != ErrorCode::None.code() && version < FIRST_TOP_LEVEL_ERROR_VERSION {
        let error_code = std::mem::take(&mut fetched.error_code);
        let failed = topics.unwrap_or_default().into_iter().map(|topic| nothing(topic, error_code));
        fetched.topics = failed.collect();
    }
    OffsetFetchResponse {
        topics: fetched.topics.into_iter().map(single_group_topic).collect(),
        error_code: fetched.error_code,
        ..Default::default()
    }
}

/// A partition of a group, as a request names it.
type Named = (StrBytes, StrBytes, TopicId, i32);

/// Leaves a partition where it is first named: what was committed with its offset may be far longer than its number.
fn each_once(group: &mut OffsetFetchRequestGroup, told: &mut HashSet<Named>) {
    let OffsetFetchRequestGroup { group_id, topics, .. } = group;
    for OffsetFetchRequestTopics { name, topic_id, partition_indexes, .. } in topics.iter_mut().flatten() {
        partition_indexes.retain(|partition| told.insert((group_id.clone(), name.clone(), *topic_id, *partition)));
    }
}

async fn fetch(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetFetchRequestGroup,
    by_id: bool,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let image = broker.quorum.image();
    let OffsetFetchRequestGroup { group_id, topics, .. } = request;
    if let Err(refused) = broker.authorize(context, Operation::Describe, Resource::Group(&group_id)) {
        return OffsetFetchResponseGroup { group_id, error_code: refused.code(), ..Default::default() };
    }
    let allowed = |topic: &str| broker.authorize(context, Operation::Describe, Resource::Topic(topic));
    let mut answered = Vec::new();
    let topics = topics.map(|topics| {
        let mut known = Vec::with_capacity(topics.len());
        for topic in topics {
            match fetch_topic(&image, &topic, by_id) {
                Some(found) => match allowed(&found.topic) {
                    Ok(()) => known.push(found),
                    Err(refused) => answered.push(nothing(topic, refused.code())),
                },
                None => answered.push(nothing(topic, ErrorCode::UnknownTopicId.code())),
            }
        }
        known
    });
    let fetch_all = topics.is_none();
    let fetch = FetchOffsets { group: Arc::from(&*group_id), topics, require_stable };
    match fetch_offsets(broker, fetch).await {
        Ok(fetched) => {
            let visible = fetched.into_iter().filter(|topic| !fetch_all || allowed(&topic.topic).is_ok());
            let fetched = visible.filter_map(|topic| response_topic(&image, topic, by_id && fetch_all));
            answered.extend(fetched);
            OffsetFetchResponseGroup { group_id, topics: answered, ..Default::default() }
        }
        Err(error) => OffsetFetchResponseGroup { group_id, error_code: error.code(), ..Default::default() },
    }
}

async fn fetch_offsets(broker: &Broker, fetch: FetchOffsets) -> Result<Vec<FetchedTopic>, ErrorCode> {
    let group = Arc::clone(&fetch.group);
    let driver = broker.groups.driver(&group).map_err(error_code)?;
    driver.read(Shows::Scope(&group), |machine| machine.handle_fetch_offsets(fetch)).await.map_err(error_code)
}

/// Consumers before 3.9 know no other error that has them retry.
fn error_code(unavailable: Unavailable) -> ErrorCode {
    match unavailable.error_code() {
        ErrorCode::CoordinatorNotAvailable => ErrorCode::NotCoordinator,
        error => error,
    }
}

/// `None` for a topic id nobody has.
fn fetch_topic(image: &MetadataImage, topic: &OffsetFetchRequestTopics, by_id: bool) -> Option<FetchTopic> {
    let partitions = topic.partition_indexes.clone();
    if by_id {
        let found = image.topic(topic.topic_id)?;
        return Some(FetchTopic { topic: Arc::clone(&found.name), topic_id: topic.topic_id, partitions });
    }
    Some(FetchTopic { topic: Arc::from(&*topic.name), topic_id: TopicId::ZERO, partitions })
}

/// `None` where an id is needed and there is none.
fn response_topic(image: &MetadataImage, topic: FetchedTopic, needs_id: bool) -> Option<OffsetFetchResponseTopics> {
    let mut topic_id = topic.topic_id;
    if needs_id && topic_id.is_zero() {
        topic_id = image.topic_id(&topic.topic)?;
    }
    let partitions = topic
        .partitions
        .into_iter()
        .map(|partition| OffsetFetchResponsePartitions {
            partition_index: partition.partition,
            committed_offset: partition.offset,
            committed_leader_epoch: partition.leader_epoch.unwrap_or(-1),
            metadata: Some(partition.metadata.into()),
            error_code: partition.error.map_or(ErrorCode::None, GroupError::error_code).code(),
            ..Default::default()
        })
        .collect();
    Some(OffsetFetchResponseTopics { name: topic.topic.into(), topic_id, partitions })
}

fn nothing(topic: OffsetFetchRequestTopics, error_code: i16) -> OffsetFetchResponseTopics {
    let partitions = topic
        .partition_indexes
        .into_iter()
        .map(|partition_index| OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: NO_OFFSET,
            metadata: Some(StrBytes::default()),
            error_code,
            ..Default::default()
        })
        .collect();
    OffsetFetchResponseTopics { name: topic.name, topic_id: topic.topic_id, partitions }
}

fn single_group_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic
        .partitions
        .into_iter()
        .map(|partition| OffsetFetchResponsePartition {
            partition_index: partition.partition_index,
            committed_offset: partition.committed_offset,
            committed_leader_epoch: partition.committed_leader_epoch,
            metadata: partition.metadata,
            error_code: partition.error_code,
        })
        .collect();
    OffsetFetchResponseTopic { name: topic.name, partitions }
}
