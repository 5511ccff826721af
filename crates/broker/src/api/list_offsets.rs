//! ListOffsets: offsets by timestamp or by marker.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::StrBytes;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest};
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use ottla_types::ErrorCode;

use crate::api::fetch::check_leader_epoch;
use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::partition::Isolation;
use crate::replica_manager::Topic;

/// Before it, the response has no leader epoch.
const FIRST_LEADER_EPOCH_VERSION: i16 = 4;

/// Markers a request may give in place of a timestamp.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The first version that knows a marker; an older one may not use it.
fn first_version(marker: i64) -> i16 {
    match marker {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => 1,
    }
}

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let mut partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    if !partitions.any(|partition| partition.timestamp >= 0 || partition.timestamp == MAX_TIMESTAMP) {
        return answer_all(&broker, &context, request);
    }
    // A search by time reads indexes and batches, of any number of partitions: off this task.
    let searching = Arc::clone(&broker);
    broker.blocking(move || answer_all(&searching, &context, request)).await
}

fn answer_all(broker: &Broker, context: &RequestContext, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut asked: BTreeMap<(StrBytes, i32), usize> = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            *asked.entry((topic.name.clone(), partition.partition_index)).or_insert(0) += 1;
        }
    }
    let isolation = Isolation::of(request.isolation_level);
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let allowed = broker.authorize(context, Operation::Describe, Resource::Topic(&topic.name));
            let found = broker.replicas.topic(&topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for wanted in &topic.partitions {
                match asked.remove(&(topic.name.clone(), wanted.partition_index)) {
                    Some(_) if let Err(refused) = allowed => partitions.push(unknown(wanted, refused)),
                    Some(1) => partitions.push(answer(context, isolation, found.as_deref(), wanted)),
                    // A partition that is asked for twice is refused once.
                    Some(_) => partitions.push(unknown(wanted, ErrorCode::InvalidRequest)),
                    None => {}
                }
            }
            ListOffsetsTopicResponse { name: topic.name, partitions, ..Default::default() }
        })
        .collect();
    ListOffsetsResponse { topics, ..Default::default() }
}

fn unknown(wanted: &ListOffsetsPartition, error: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index: wanted.partition_index,
        error_code: error.code(),
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
        ..Default::default()
    }
}

fn answer(
    context: &RequestContext,
    isolation: Isolation,
    topic: Option<&Topic>,
    wanted: &ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let found = find(context, isolation, topic, wanted);
    let mut response = unknown(wanted, ErrorCode::None);
    match found {
        Ok(Some(found)) => {
            response.timestamp = found.timestamp;
            response.offset = found.offset;
            if context.api_version >= FIRST_LEADER_EPOCH_VERSION {
                response.leader_epoch = found.leader_epoch;
            }
        }
        Ok(None) => {}
        Err(error) => response.error_code = error.code(),
    }
    response
}

struct Found {
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

fn find(
    context: &RequestContext,
    isolation: Isolation,
    topic: Option<&Topic>,
    wanted: &ListOffsetsPartition,
) -> Result<Option<Found>, ErrorCode> {
    let partition =
        topic.and_then(|topic| topic.partition(wanted.partition_index)).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if let Some(error) = partition.failed() {
        return Err(error);
    }
    check_leader_epoch(partition, wanted.current_leader_epoch)?;
    let log = partition.log();
    let timestamp = wanted.timestamp;
    if timestamp < EARLIEST_PENDING_UPLOAD || context.api_version < first_version(timestamp) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let at = |offset: i64, timestamp: i64| {
        let leader_epoch = log.epoch_at(offset).unwrap_or(-1);
        Some(Found { timestamp, offset, leader_epoch })
    };
    let storage = |error: ottla_log::ReadError| {
        if matches!(error, ottla_log::ReadError::Damaged { .. }) {
            // The log has said where.
            return ErrorCode::CorruptMessage;
        }
        tracing::error!(partition = %partition.topic_partition(), %error, "an offset look-up failed");
        ErrorCode::KafkaStorageError
    };
    let end_offset = partition.end_for(isolation);
    Ok(match timestamp {
        LATEST => Some(Found { timestamp: -1, offset: end_offset, leader_epoch: partition.leader_epoch().0 }),
        EARLIEST | EARLIEST_LOCAL => at(log.log_start_offset(), -1),
        MAX_TIMESTAMP => {
            let found = log.offset_of_max_timestamp().map_err(storage)?;
            found.filter(|found| found.offset < end_offset).and_then(|found| at(found.offset, found.timestamp))
        }
        // Nothing is tiered, so nothing waits to be uploaded either.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => None,
        _ => {
            let found = log.offset_for_timestamp(timestamp).map_err(storage)?;
            found.filter(|found| found.offset < end_offset).and_then(|found| at(found.offset, found.timestamp))
        }
    })
}
