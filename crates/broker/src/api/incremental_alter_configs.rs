//! IncrementalAlterConfigs: single keys of topics, brokers, groups, client metrics and loggers.

use std::sync::Arc;

use ottla_protocol::messages::incremental_alter_configs_request::IncrementalAlterConfigsRequest;
use ottla_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};

use crate::alter_configs::{Config, Kind, Resource, alter};
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let resources = request.resources.into_iter().map(|resource| Resource {
        resource_type: resource.resource_type,
        name: resource.resource_name,
        configs: resource
            .configs
            .into_iter()
            .map(|config| Config { name: config.name, operation: config.config_operation, value: config.value })
            .collect(),
    });
    let answers = alter(&broker, &context, Kind::Incremental, resources.collect(), request.validate_only).await;
    let responses = answers.into_iter().map(|answer| AlterConfigsResourceResponse {
        error_code: answer.error_code,
        error_message: answer.error_message,
        resource_type: answer.resource_type,
        resource_name: answer.name,
    });
    IncrementalAlterConfigsResponse { throttle_time_ms: 0, responses: responses.collect() }
}
