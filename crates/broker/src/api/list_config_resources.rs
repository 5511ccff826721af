//! ListConfigResources: what there is that has a configuration. Version 0 knows client metrics only.

use std::sync::Arc;

use ottla_image::ConfigResourceType;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use ottla_protocol::messages::list_config_resources_response::{ConfigResource, ListConfigResourcesResponse};
use ottla_types::ErrorCode;

use crate::alter_configs::BROKER_LOGGER;
use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

const TOPIC: i8 = ConfigResourceType::Topic as i8;
const BROKER: i8 = ConfigResourceType::Broker as i8;
const CLIENT_METRICS: i8 = ConfigResourceType::ClientMetrics as i8;
const GROUP: i8 = ConfigResourceType::Group as i8;

/// What an empty list asks for, and all that a list may ask for.
const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    if let Err(error) = broker.authorize(&context, Operation::DescribeConfigs, Resource::Cluster) {
        return ListConfigResourcesResponse { error_code: error.code(), ..Default::default() };
    }
    let asked = match (context.api_version, request.resource_types.as_slice()) {
        (0, _) => &[CLIENT_METRICS],
        (_, []) => &ALL[..],
        (_, types) => types,
    };
    if !asked.iter().all(|asked| ALL.contains(asked)) {
        return ListConfigResourcesResponse { error_code: ErrorCode::UnsupportedVersion.code(), ..Default::default() };
    }
    let image = broker.quorum.image();
    let mut config_resources = Vec::new();
    for resource_type in ALL.into_iter().filter(|known| asked.contains(known)) {
        let mut add = |name: String| {
            config_resources.push(ConfigResource { resource_name: StrBytes::from(name), resource_type });
        };
        match resource_type {
            TOPIC => image.topics().for_each(|topic| add(topic.name.to_string())),
            BROKER | BROKER_LOGGER => image.brokers().for_each(|broker| add(broker.node_id.to_string())),
            other => image
                .config_resources()
                .filter(|(resource, _)| resource.resource_type.code() == other)
                .for_each(|(resource, _)| add(resource.name.to_string())),
        }
    }
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}
