//! FindCoordinator: which broker coordinates a group. The first question creates the topic that groups are kept in.
//!
//! Transactions are not served: their coordinator is refused with the one error that Java clients and librdkafka both
//! take for final; any other has librdkafka ask for ever.

use std::sync::Arc;

use ottla_protocol::StrBytes;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use ottla_types::ErrorCode;

use crate::authorizer::{Operation, Resource};
use crate::broker::{Broker, Node};
use crate::context::RequestContext;
use crate::coordinator::GroupCoordinator;
use crate::topics::CONSUMER_OFFSETS;

/// From it on, one request asks for several keys.
const FIRST_BATCH_VERSION: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Why there is no coordinator.
struct Refusal {
    error: ErrorCode,
    message: &'static str,
}

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let several = context.api_version >= FIRST_BATCH_VERSION;
    if request.key_type == GROUP {
        create_offsets_topic(&broker).await;
    }
    if several {
        let coordinators = request
            .coordinator_keys
            .into_iter()
            .map(|key| coordinator(find(&broker, &context, request.key_type, &key), key))
            .collect();
        return FindCoordinatorResponse { coordinators, ..Default::default() };
    }
    let found = coordinator(find(&broker, &context, request.key_type, &request.key), request.key);
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message.or(Some(StrBytes::from_static(ErrorCode::None.name()))),
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

async fn create_offsets_topic(broker: &Broker) {
    if broker.quorum.image().topic_by_name(CONSUMER_OFFSETS).is_none() {
        broker.auto_create(&[CONSUMER_OFFSETS]).await;
    }
}

fn find(broker: &Broker, context: &RequestContext, key_type: i8, key: &str) -> Result<Node, Refusal> {
    match key_type {
        GROUP if let Err(error) = broker.authorize(context, Operation::Describe, Resource::Group(key)) => {
            Err(Refusal { error, message: "Group authorization failed." })
        }
        GROUP => {
            let error = ErrorCode::CoordinatorNotAvailable;
            find_group(broker, context, key).ok_or(Refusal { error, message: "The coordinator is not available." })
        }
        TRANSACTION => Err(Refusal {
            error: ErrorCode::TransactionalIdAuthorizationFailed,
            message: "This broker does not serve transactions yet.",
        }),
        _ => Err(Refusal {
            error: ErrorCode::InvalidRequest,
            message: "This broker does not serve coordinators of this type.",
        }),
    }
}

fn find_group(broker: &Broker, context: &RequestContext, group: &str) -> Option<Node> {
    let image = broker.quorum.image();
    let partition = GroupCoordinator::partition_of(&image, group)?;
    let leader = image.partition(CONSUMER_OFFSETS, partition)?.leader?;
    broker.live_brokers(context).into_iter().find(|node| node.node_id == leader)
}

fn coordinator(found: Result<Node, Refusal>, key: StrBytes) -> Coordinator {
    match found {
        Ok(node) => Coordinator {
            key,
            node_id: node.node_id.0,
            host: node.host,
            port: node.port,
            error_message: None,
            ..Default::default()
        },
        Err(refusal) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: refusal.error.code(),
            error_message: Some(StrBytes::from_static(refusal.message)),
            ..Default::default()
        },
    }
}
