//! DescribeCluster: the brokers (or controllers) of the cluster.

use std::sync::Arc;

use ottla_protocol::StrBytes;
use ottla_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use ottla_protocol::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};
use ottla_types::ErrorCode;

use super::metadata::cluster_operations;
use crate::broker::Broker;
use crate::context::RequestContext;

/// What a request may ask for (`EndpointType`).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let endpoint_type = if context.api_version >= 1 { request.endpoint_type } else { BROKERS };
    let refused = |error: ErrorCode, message: String| DescribeClusterResponse {
        error_code: error.code(),
        error_message: Some(StrBytes::from(message)),
        endpoint_type: BROKERS,
        ..Default::default()
    };
    if endpoint_type == CONTROLLERS {
        return refused(
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                .to_owned(),
        );
    }
    if endpoint_type != BROKERS {
        return refused(ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {endpoint_type}"));
    }
    let known = if request.include_fenced_brokers {
        broker.registered_brokers(&context)
    } else {
        broker.live_brokers(&context)
    };
    let brokers = known
        .into_iter()
        .map(|node| DescribeClusterBroker {
            broker_id: node.node_id.0,
            host: node.host,
            port: node.port,
            rack: node.rack,
            is_fenced: node.is_fenced,
        })
        .collect();
    let asked = request.include_cluster_authorized_operations;
    let cluster_authorized_operations = cluster_operations(&broker, &context, asked);
    DescribeClusterResponse {
        endpoint_type,
        cluster_id: StrBytes::from(broker.cluster_id.to_string()),
        controller_id: broker.node_id.0,
        brokers,
        cluster_authorized_operations,
        ..Default::default()
    }
}
