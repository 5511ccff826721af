//! DescribeConfigs: the configuration of topics and of this broker, with where each value comes from.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_config::ConfigEntry;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use ottla_types::{ErrorCode, validate_topic_name};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

/// Kafka's numbers of resource types (`ConfigResource.Type`).
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request
        .resources
        .into_iter()
        .map(|resource| {
            let described = may_describe(&broker, &context, &resource).and_then(|()| describe(&broker, &resource));
            let (error_code, error_message, configs) = match described {
                Ok(entries) => {
                    let wanted = resource.configuration_keys.as_deref();
                    let is_wanted = |entry: &ConfigEntry| {
                        wanted.is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| **key == *entry.name))
                    };
                    let entries = entries.into_iter().filter(is_wanted);
                    let configs = entries
                        .map(|entry| result(entry, request.include_synonyms, request.include_documentation))
                        .collect();
                    (0, None, configs)
                }
                Err((error, message)) => (error.code(), Some(StrBytes::from(message)), Vec::new()),
            };
            DescribeConfigsResult {
                error_code,
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
                configs,
            }
        })
        .collect();
    DescribeConfigsResponse { results, throttle_time_ms: 0 }
}

fn may_describe(
    broker: &Broker,
    context: &RequestContext,
    resource: &DescribeConfigsResource,
) -> Result<(), (ErrorCode, String)> {
    let asked = match resource.resource_type {
        TOPIC => Resource::Topic(&resource.resource_name),
        _ => Resource::Cluster,
    };
    let refused = |error: ErrorCode| (error, "Authorization failed.".to_owned());
    broker.authorize(context, Operation::DescribeConfigs, asked).map_err(refused)
}

fn describe(broker: &Broker, resource: &DescribeConfigsResource) -> Result<Vec<ConfigEntry>, (ErrorCode, String)> {
    let name = &*resource.resource_name;
    match resource.resource_type {
        TOPIC => {
            if let Err(invalid) = validate_topic_name(name) {
                return Err((ErrorCode::InvalidTopicException, invalid.to_string()));
            }
            let image = broker.quorum.image();
            if image.topic_by_name(name).is_none() {
                return Err((
                    ErrorCode::UnknownTopicOrPartition,
                    "This server does not host this topic-partition.".to_owned(),
                ));
            }
            let overrides: BTreeMap<String, String> = crate::topics::overrides(&image, name);
            broker.config().describe_topic(&overrides).map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))
        }
        // The empty name asks for the cluster-wide defaults; none can be set yet, so there is nothing to tell.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER => match name.parse::<i32>() {
            Ok(id) if id == broker.node_id.0 => Ok(broker.config().describe_broker()),
            Ok(id) => Err((
                ErrorCode::InvalidRequest,
                format!("Unexpected broker id, expected {} or empty string, but received {id}", broker.node_id),
            )),
            Err(_) => Err((ErrorCode::InvalidRequest, format!("Broker id must be an integer, but it is: {name}"))),
        },
        other => Err((ErrorCode::InvalidRequest, format!("Unsupported resource type: {other}"))),
    }
}

fn result(entry: ConfigEntry, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult {
    let text = |text: Option<String>| text.map(StrBytes::from);
    DescribeConfigsResourceResult {
        name: StrBytes::from(entry.name),
        value: text(entry.value),
        read_only: entry.is_read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.is_sensitive,
        synonyms: entry
            .synonyms
            .into_iter()
            .filter(|_| synonyms)
            .map(|synonym| DescribeConfigsSynonym {
                name: StrBytes::from(synonym.name),
                value: text(synonym.value),
                source: synonym.source.code(),
            })
            .collect(),
        config_type: entry.config_type.map_or(0, ottla_config::Type::code),
        documentation: text(entry.documentation.filter(|_| documentation)),
    }
}
