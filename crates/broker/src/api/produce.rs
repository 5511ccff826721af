//! Produce: appends record batches, and answers when they are as durable as the client and the topic ask.
//!
//! Every batch is appended before the handler first waits, so the next request of the connection may begin: its batches
//! come after these.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_log::{AppendError, AppendOrigin};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use ottla_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use ottla_record::{ValidatedBatch, ValidationRules};
use ottla_types::ErrorCode;
use tokio::time::Instant;

use crate::authorizer::{Operation, Resource};
use crate::broker::{Broker, is_internal};
use crate::connection::{CloseReason, Reply};
use crate::context::RequestContext;
use crate::dispatch;
use crate::partition::{Acknowledgement, Partition};
use crate::validation;

/// The first version whose clients may send zstd (KIP-110).
const FIRST_ZSTD_VERSION: i16 = 7;
/// From this version on topics are named by id (KIP-516).
const FIRST_TOPIC_ID_VERSION: i16 = 13;
/// A batch that is a smaller part of its frame than this is copied out of it.
const MAX_FRAME_PER_BATCH: usize = 16;

/// One partition's answer, and what it still waits for.
struct Appending {
    response: PartitionProduceResponse,
    acknowledgement: Option<Acknowledgement>,
}

pub(crate) async fn handle(broker: Arc<Broker>, context: Arc<RequestContext>, request: ProduceRequest) -> Reply {
    let deadline = Instant::now() + Duration::from_millis(request.timeout_ms.max(0) as u64);
    let acks = request.acks;
    let mut responses = Vec::with_capacity(request.topic_data.len());
    let mut waiting = Vec::new();
    let refused = refusal(&request);
    for topic in request.topic_data {
        let (name, topic_id) = (topic.name.clone(), topic.topic_id);
        let mut partition_responses = Vec::with_capacity(topic.partition_data.len());
        let answer = |Appending { response, acknowledgement }| {
            let place = (responses.len(), partition_responses.len());
            waiting.extend(acknowledgement.map(|acknowledgement| (place, acknowledgement)));
            partition_responses.push(response);
        };
        match refused {
            Some(error) => refuse(&topic, error).for_each(answer),
            None => append_topic(&broker, &context, topic, acks, answer),
        }
        responses.push(TopicProduceResponse { name, topic_id, partition_responses, ..Default::default() });
    }
    if !waiting.is_empty() {
        let mut in_purgatory = broker.metrics.waiting_produces.enter_many(waiting.len());
        for ((topic, partition), acknowledgement) in waiting {
            if let Err(error) = wait(acknowledgement, deadline).await {
                let response = &mut responses[topic].partition_responses[partition];
                *response = failed(response.index, error, None).response;
            }
            in_purgatory.leave_one();
        }
    }
    let response = ProduceResponse { responses, ..Default::default() };
    if acks == 0 {
        // Nobody waits for an answer; closing is the only way to say that something went wrong.
        let failure = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses)
            .find_map(|partition| ErrorCode::from_code(partition.error_code).filter(|code| code.is_error()));
        if failure.is_some() {
            broker.metrics.requests.count_errors(context.api_key, &response);
        }
        return match failure {
            Some(code) => Reply::Close(CloseReason::UnacknowledgedProduceFailed(code)),
            None => Reply::Nothing,
        };
    }
    dispatch::encode(&context, &response)
}

/// The error of every partition of a request that is wrong as a whole.
fn refusal(request: &ProduceRequest) -> Option<ErrorCode> {
    if !matches!(request.acks, -1..=1) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    if request.transactional_id.is_some() {
        // Not retriable: transactions are not served, and a client must not wait for them.
        return Some(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    None
}

/// The same error for every partition of a topic.
fn refuse(topic: &TopicProduceData, error: ErrorCode) -> impl Iterator<Item = Appending> {
    topic.partition_data.iter().map(move |partition| failed(partition.index, error, None))
}

fn append_topic(
    broker: &Broker,
    context: &RequestContext,
    topic: TopicProduceData,
    acks: i16,
    mut answer: impl FnMut(Appending),
) {
    let by_id = context.api_version >= FIRST_TOPIC_ID_VERSION;
    let found = if by_id { broker.replicas.topic_by_id(topic.topic_id) } else { broker.replicas.topic(&topic.name) };
    let unknown = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
    let Some(found) = found else {
        // A name is as telling as the topic behind it, an id is not.
        let allowed = by_id || broker.allows(context, Operation::Write, Resource::Topic(&topic.name));
        let error = if allowed { unknown } else { ErrorCode::TopicAuthorizationFailed };
        return refuse(&topic, error).for_each(answer);
    };
    if let Err(refused) = broker.authorize(context, Operation::Write, Resource::Topic(found.name())) {
        return refuse(&topic, refused).for_each(answer);
    }
    if is_internal(found.name()) && !context.may_write_internal_topics() {
        for metrics in [found.metrics(), broker.metrics.topics.here()] {
            topic.partition_data.iter().for_each(|_| metrics.not_appended(false));
        }
        return refuse(&topic, ErrorCode::InvalidTopicException).for_each(answer);
    }
    for data in topic.partition_data {
        answer(match found.partition(data.index) {
            Some(partition) => append(broker, context, partition, data, acks),
            None => failed(data.index, ErrorCode::UnknownTopicOrPartition, None),
        });
    }
}

fn append(
    broker: &Broker,
    context: &RequestContext,
    partition: &Partition,
    data: PartitionProduceData,
    acks: i16,
) -> Appending {
    let index = data.index;
    // As in Kafka, what was asked of this partition counts, whatever becomes of it.
    let refused = |error, message, counts_as_failed| {
        for metrics in [partition.metrics(), broker.metrics.topics.here()] {
            metrics.not_appended(counts_as_failed);
        }
        failed(index, error, message)
    };
    if let Some(error) = partition.failed() {
        return refused(error, None, false);
    }
    let now_ms = broker.world.clock.wall_ms();
    let config = partition.config();
    if i64::from(acks) == -1 && config.min_insync_replicas > 1 {
        return refused(ErrorCode::NotEnoughReplicas, None, true);
    }
    let records = data.records.unwrap_or_default();
    let rules = ValidationRules {
        zstd_allowed: context.api_version >= FIRST_ZSTD_VERSION,
        ..validation::rules(&config, now_ms)
    };
    let batch = match ottla_record::validate(&records, &rules) {
        Ok(batch) => batch,
        Err(invalid) => {
            partition.metrics().refused(&invalid, records.len());
            broker.metrics.topics.here().refused(&invalid, records.len());
            return refused_batch(index, &invalid);
        }
    };
    if batch.header.attributes.is_transactional() {
        return refused(ErrorCode::InvalidTxnState, Some("transactions are not served yet"), true);
    }
    let batch = ValidatedBatch { bytes: detached(batch.bytes, context.frame_bytes), ..batch };
    let guard = broker.fatal.guard("an append to a log");
    let appended = partition.append(broker.replicas.logs(), &batch, AppendOrigin::Client, now_ms);
    drop(guard);
    let appended = match appended {
        Ok(appended) => appended,
        Err(error) => return failed_append(broker, partition, index, &error),
    };
    for metrics in [partition.metrics(), broker.metrics.topics.here()] {
        metrics.appended(batch.header.record_count.max(0) as u64, records.len(), batch.rebuilt);
    }
    let response = PartitionProduceResponse {
        index,
        base_offset: appended.base_offset,
        log_append_time_ms: appended.log_append_time_ms,
        log_start_offset: appended.log_start_offset,
        ..Default::default()
    };
    let acknowledgement = if acks == 0 { None } else { partition.acknowledgement(appended.last_offset + 1) };
    Appending { response, acknowledgement }
}

/// The newest batches stay in memory for a while: a small one must not keep a large frame there with it, which the memory
/// of the tail does not count.
fn detached(batch: Bytes, frame_bytes: usize) -> Bytes {
    if batch.len() < frame_bytes / MAX_FRAME_PER_BATCH { Bytes::copy_from_slice(&batch) } else { batch }
}

fn failed_append(broker: &Broker, partition: &Partition, index: i32, error: &AppendError) -> Appending {
    let code = crate::replica_manager::append_error_code(error);
    if code == ErrorCode::KafkaStorageError {
        tracing::error!(partition = %partition.topic_partition(), %error, "append failed");
    } else {
        tracing::debug!(partition = %partition.topic_partition(), %error, "append refused");
    }
    broker.metrics.failed_appends.add(1);
    for metrics in [partition.metrics(), broker.metrics.topics.here()] {
        // What the disk does is not the request's failure.
        metrics.not_appended(!matches!(error, AppendError::NoSpace(_) | AppendError::DirectoryOffline(_)));
    }
    let message = error.to_string();
    failed(index, code, Some(&message))
}

fn refused_batch(index: i32, invalid: &ottla_record::InvalidBatch) -> Appending {
    let mut appending = failed(index, invalid.error_code(), None);
    appending.response.record_errors = invalid
        .rejected_records()
        .iter()
        .map(|rejected| BatchIndexAndErrorMessage {
            batch_index: rejected.batch_index,
            batch_index_error_message: Some(StrBytes::from(rejected.reason.to_string())),
        })
        .collect();
    appending.response.error_message = Some(StrBytes::from(invalid.to_string()));
    appending
}

fn failed(index: i32, error: ErrorCode, message: Option<&str>) -> Appending {
    Appending {
        response: PartitionProduceResponse {
            index,
            error_code: error.code(),
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            error_message: message.map(|message| StrBytes::from(message.to_owned())),
            ..Default::default()
        },
        acknowledgement: None,
    }
}

async fn wait(acknowledgement: Acknowledgement, deadline: Instant) -> Result<(), ErrorCode> {
    match tokio::time::timeout_at(deadline, acknowledgement).await {
        Ok(Ok(outcome)) => outcome,
        // The partition is gone, and its waiters with it.
        Ok(Err(_)) => Err(ErrorCode::NotLeaderOrFollower),
        Err(_) => Err(ErrorCode::RequestTimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_batch_does_not_keep_its_frame() {
        let frame = Bytes::from(vec![7; 160_000]);
        let (small, large) = (frame.slice(100..9_000), frame.slice(100..20_000));
        let detached_from = |batch: &Bytes| detached(batch.clone(), frame.len()).as_ptr() != batch.as_ptr();
        assert!(detached_from(&small));
        assert!(!detached_from(&large), "a large one is not copied");
        assert_eq!(detached(small.clone(), frame.len()), small);
    }
}
