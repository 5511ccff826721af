//! DeleteRecords: the start of partitions moves up. It is durable when the answer comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_log::ChangeError;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::delete_records_request::DeleteRecordsRequest;
use ottla_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use ottla_types::ErrorCode;
use tokio::time::Instant;

use crate::authorizer::{Operation, Resource};
use crate::broker::{Broker, is_internal};
use crate::context::RequestContext;
use crate::partition::Partition;

/// An offset that stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;
/// The low watermark of a partition about which nothing is told.
const INVALID_LOW_WATERMARK: i64 = -1;

type Results = BTreeMap<(StrBytes, i32), Result<i64, ErrorCode>>;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let deadline = Instant::now() + Duration::from_millis(request.timeout_ms.max(0) as u64);
    // A partition that is named twice is answered once, for the last offset given, as in Kafka.
    let mut wanted = BTreeMap::new();
    for topic in request.topics {
        for partition in topic.partitions {
            wanted.insert((topic.name.clone(), partition.partition_index), partition.offset);
        }
    }
    let mut results = Results::new();
    let mut accepted = Vec::new();
    for ((topic, index), offset) in wanted {
        match check(&broker, &context, &topic, index, offset) {
            Ok((partition, offset)) => accepted.push(((topic, index), partition, offset)),
            Err(error) => drop(results.insert((topic, index), Err(error))),
        }
    }
    // Not to be left halfway when the client goes.
    let deleting = tokio::spawn(async move { delete(&broker, accepted, deadline).await });
    results.extend(deleting.await.expect("a panic while records are deleted is this handler's panic"));
    respond(results)
}

/// The partition, and the offset that becomes its first one.
fn check(
    broker: &Broker,
    context: &RequestContext,
    topic: &str,
    index: i32,
    offset: i64,
) -> Result<(Arc<Partition>, i64), ErrorCode> {
    broker.authorize(context, Operation::Delete, Resource::Topic(topic))?;
    if broker.quorum.image().partition(topic, index).is_none() {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = broker.partition(topic, index)?;
    let policy = partition.config().cleanup_policy;
    if policy.compact && !policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let high_watermark = partition.high_watermark();
    match offset {
        HIGH_WATERMARK => Ok((partition, high_watermark)),
        offset if offset < 0 || offset > high_watermark => Err(ErrorCode::OffsetOutOfRange),
        offset => Ok((partition, offset)),
    }
}

async fn delete(
    broker: &Broker,
    accepted: Vec<((StrBytes, i32), Arc<Partition>, i64)>,
    deadline: Instant,
) -> Vec<((StrBytes, i32), Result<i64, ErrorCode>)> {
    let logs = broker.replicas.logs();
    let mut results = Vec::new();
    let mut ready = Vec::new();
    for (_, partition, offset) in &accepted {
        // With page-cache durability the high watermark is ahead of the disk.
        if partition.log().flushed_offset() < *offset {
            logs.request_flush(partition.log());
        }
    }
    for (name, partition, offset) in accepted {
        match tokio::time::timeout_at(deadline, partition.log().wait_flushed(offset)).await {
            Ok(Ok(())) => ready.push((name, partition, offset)),
            Ok(Err(error)) => {
                tracing::warn!(partition = %partition.topic_partition(), %error, "records are not deleted");
                results.push((name, Err(partition.failed().unwrap_or(ErrorCode::KafkaStorageError))));
            }
            Err(_) => results.push((name, Err(ErrorCode::RequestTimedOut))),
        }
    }
    let starts = ready.iter().map(|(_, partition, offset)| (Arc::clone(partition.log()), *offset)).collect();
    for ((name, partition, _), moved) in ready.into_iter().zip(logs.delete_records(starts).await) {
        // It has moved even if that could not be made durable.
        partition.log_start_moved();
        let result = moved.map_err(|error| {
            tracing::warn!(partition = %partition.topic_partition(), %error, "records are not deleted");
            error_code(&error)
        });
        results.push((name, result));
    }
    results
}

fn error_code(error: &ChangeError) -> ErrorCode {
    match error {
        ChangeError::DirectoryOffline(_) | ChangeError::NoSpace(_) => ErrorCode::KafkaStorageError,
        ChangeError::Deleted(_) => ErrorCode::UnknownTopicOrPartition,
        ChangeError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
    }
}

fn respond(results: Results) -> DeleteRecordsResponse {
    let mut topics: Vec<DeleteRecordsTopicResult> = Vec::new();
    for ((name, partition_index), result) in results {
        let partition = DeleteRecordsPartitionResult {
            partition_index,
            low_watermark: result.unwrap_or(INVALID_LOW_WATERMARK),
            error_code: result.err().unwrap_or(ErrorCode::None).code(),
        };
        match topics.last_mut() {
            Some(topic) if topic.name == name => topic.partitions.push(partition),
            _ => topics.push(DeleteRecordsTopicResult { name, partitions: vec![partition] }),
        }
    }
    DeleteRecordsResponse { topics, ..Default::default() }
}
