//! OffsetForLeaderEpoch: where a leader's epoch ends, so that a client notices records that were lost (KIP-320).

use std::sync::Arc;

use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
};
use ottla_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use ottla_types::ErrorCode;

use crate::api::fetch::check_leader_epoch;
use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

/// Who asks, a follower or a consumer, makes no difference to the answer, as in Kafka.
pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request
        .topics
        .into_iter()
        .map(|topic| OffsetForLeaderTopicResult {
            partitions: topic.partitions.iter().map(|wanted| answer(&broker, &context, &topic.topic, wanted)).collect(),
            topic: topic.topic,
        })
        .collect();
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

fn answer(broker: &Broker, context: &RequestContext, topic: &str, wanted: &OffsetForLeaderPartition) -> EpochEndOffset {
    let undefined = EpochEndOffset { partition: wanted.partition, leader_epoch: -1, end_offset: -1, error_code: 0 };
    let allowed = broker.authorize(context, Operation::Describe, Resource::Topic(topic));
    match allowed.and_then(|()| end_offset(broker, topic, wanted)) {
        Ok(Some((leader_epoch, end_offset))) => EpochEndOffset { leader_epoch, end_offset, ..undefined },
        Ok(None) => undefined,
        Err(error) => EpochEndOffset { error_code: error.code(), ..undefined },
    }
}

fn end_offset(
    broker: &Broker,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<Option<(i32, i64)>, ErrorCode> {
    let partition = broker.partition(topic, wanted.partition)?;
    check_leader_epoch(&partition, wanted.current_leader_epoch)?;
    Ok(partition.end_offset_for_epoch(wanted.leader_epoch))
}
