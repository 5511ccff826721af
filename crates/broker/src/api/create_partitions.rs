//! CreatePartitions: the answer comes when the new partitions can be used.

use std::sync::Arc;
use std::time::Duration;

use ottla_controller::{CreatePartitions, GrownTopic};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use ottla_protocol::messages::create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult};
use ottla_types::{ErrorCode, NodeId};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let names: Vec<StrBytes> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let all_failed = |error: ErrorCode, message: &str| {
        let results = names.iter().map(|name| result(name.clone(), error, Some(message.to_owned()))).collect();
        CreatePartitionsResponse { results, ..Default::default() }
    };
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let (allowed, refused): (Vec<_>, Vec<_>) = request
        .topics
        .into_iter()
        .partition(|topic| broker.allows(&context, Operation::Alter, Resource::Topic(&topic.name)));
    let decided =
        CreatePartitions { topics: allowed.iter().map(grown_topic).collect(), validate_only: request.validate_only };
    let grown = match tokio::time::timeout(timeout, broker.topic_changes.grow(decided)).await {
        Ok(Ok(grown)) => grown,
        Ok(Err(error)) => return all_failed(error.error_code(), &error.to_string()),
        Err(_) => return all_failed(ErrorCode::RequestTimedOut, "The request timed out."),
    };
    let results = grown
        .into_iter()
        .map(|(name, outcome)| match outcome {
            Ok(()) => result(StrBytes::from(name), ErrorCode::None, None),
            Err(error) => result(StrBytes::from(name), error.error_code(), Some(error.to_string())),
        })
        .chain(refused.into_iter().map(|topic| {
            result(
                topic.name,
                ErrorCode::TopicAuthorizationFailed,
                Some("The topic authorization is failed.".to_owned()),
            )
        }))
        .collect();
    CreatePartitionsResponse { results, ..Default::default() }
}

fn grown_topic(topic: &CreatePartitionsTopic) -> GrownTopic {
    let assignments = topic.assignments.as_ref().map(|assignments| {
        assignments.iter().map(|assigned| assigned.broker_ids.iter().copied().map(NodeId).collect()).collect()
    });
    GrownTopic { name: Arc::from(&*topic.name), count: topic.count, assignments }
}

fn result(name: StrBytes, error: ErrorCode, message: Option<String>) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult { name, error_code: error.code(), error_message: message.map(StrBytes::from) }
}
