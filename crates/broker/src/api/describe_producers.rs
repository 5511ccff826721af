//! DescribeProducers: the producers a partition's leader remembers.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_log::ProducerEntry;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::describe_producers_request::{DescribeProducersRequest, TopicRequest};
use ottla_protocol::messages::describe_producers_response::{
    DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use ottla_types::{ErrorCode, validate_topic_name};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    // A partition may have many producers, and a request may name it often: it is described once.
    let mut described = BTreeSet::new();
    let topics = request.topics.into_iter().map(|topic| describe(&broker, &context, topic, &mut described)).collect();
    DescribeProducersResponse { topics, ..Default::default() }
}

fn describe(
    broker: &Broker,
    context: &RequestContext,
    topic: TopicRequest,
    described: &mut BTreeSet<(StrBytes, i32)>,
) -> TopicResponse {
    let allowed = broker.authorize(context, Operation::Read, Resource::Topic(&topic.name));
    let invalid = validate_topic_name(&topic.name).err();
    let partitions = topic
        .partition_indexes
        .iter()
        .filter(|index| described.insert((topic.name.clone(), **index)))
        .map(|&partition_index| {
            let found = match &invalid {
                Some(error) => Err((ErrorCode::InvalidTopicException, Some(format!("Topic name is invalid: {error}")))),
                None => {
                    allowed.and_then(|()| broker.partition(&topic.name, partition_index)).map_err(|error| (error, None))
                }
            };
            match found {
                Ok(partition) => PartitionResponse {
                    partition_index,
                    active_producers: partition.log().active_producers().iter().map(state).collect(),
                    ..Default::default()
                },
                Err((error, message)) => PartitionResponse {
                    partition_index,
                    error_code: error.code(),
                    error_message: message.map(StrBytes::from),
                    ..Default::default()
                },
            }
        })
        .collect();
    TopicResponse { name: topic.name, partitions }
}

fn state((producer_id, entry): &(i64, ProducerEntry)) -> ProducerState {
    ProducerState {
        producer_id: *producer_id,
        producer_epoch: i32::from(entry.producer_epoch),
        last_sequence: entry.last_sequence(),
        last_timestamp: entry.last_timestamp,
        coordinator_epoch: entry.coordinator_epoch,
        current_txn_start_offset: entry.current_transaction_first_offset.unwrap_or(-1),
    }
}
