//! AlterConfigs, the older way: what a request does not name goes back to its default.

use std::sync::Arc;

use ottla_controller::ConfigOperation;
use ottla_protocol::messages::alter_configs_request::AlterConfigsRequest;
use ottla_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};

use crate::alter_configs::{Config, Kind, Resource, alter};
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let resources = request.resources.into_iter().map(|resource| Resource {
        resource_type: resource.resource_type,
        name: resource.resource_name,
        configs: resource
            .configs
            .into_iter()
            .map(|config| Config { name: config.name, operation: ConfigOperation::Set as i8, value: config.value })
            .collect(),
    });
    let answers = alter(&broker, &context, Kind::Whole, resources.collect(), request.validate_only).await;
    let responses = answers.into_iter().map(|answer| AlterConfigsResourceResponse {
        error_code: answer.error_code,
        error_message: answer.error_message,
        resource_type: answer.resource_type,
        resource_name: answer.name,
    });
    AlterConfigsResponse { throttle_time_ms: 0, responses: responses.collect() }
}
