//! DescribeConfigs: every key's value and where it comes from, of topics, this broker, the defaults of all brokers,
//! loggers, client metrics and groups.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ottla_config::{ConfigEntry, ConfigError, ConfigSource, describe_client_metrics};
use ottla_image::{ConfigResource, ConfigResourceType};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use ottla_types::{ErrorCode, InvalidTopicName, NodeId, validate_topic_name};

use crate::alter_configs::{BROKER_LOGGER, authorized_resource};
use crate::api::error_message;
use crate::authorizer::Operation;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::loggers::LogLevel;
use crate::topics::settings_of;

const TOPIC: i8 = ConfigResourceType::Topic as i8;
const BROKER: i8 = ConfigResourceType::Broker as i8;
const CLIENT_METRICS: i8 = ConfigResourceType::ClientMetrics as i8;
const GROUP: i8 = ConfigResourceType::Group as i8;

/// Why a resource is not described.
#[derive(Debug, thiserror::Error)]
enum NotDescribed {
    #[error(transparent)]
    InvalidTopicName(#[from] InvalidTopicName),
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("Broker id must be an integer, but it is: {0}")]
    NotANodeId(String),
    #[error("Unexpected broker id, expected {expected}{or_empty} but received {found}")]
    AnotherNode { expected: NodeId, or_empty: &'static str, found: i32 },
    #[error("Broker id must not be empty")]
    LoggersOfNobody,
    #[error("Client metrics subscription name must not be empty")]
    NoSubscription,
    #[error("Group name must not be empty")]
    NoGroup,
    #[error("Authorization failed.")]
    NotAllowed(ErrorCode),
}

impl NotDescribed {
    fn error_code(&self) -> ErrorCode {
        match self {
            NotDescribed::InvalidTopicName(_) => ErrorCode::InvalidTopicException,
            NotDescribed::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
            NotDescribed::Config(_) => ErrorCode::InvalidConfig,
            NotDescribed::NotAllowed(error) => *error,
            NotDescribed::NotANodeId(_)
            | NotDescribed::AnotherNode { .. }
            | NotDescribed::LoggersOfNobody
            | NotDescribed::NoSubscription
            | NotDescribed::NoGroup => ErrorCode::InvalidRequest,
        }
    }
}

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let is_known = |resource: &DescribeConfigsResource| {
        matches!(resource.resource_type, TOPIC | BROKER | BROKER_LOGGER | CLIENT_METRICS | GROUP)
    };
    // As Kafka has it, a type that nobody knows spoils the request.
    let all_known = request.resources.iter().all(is_known);
    let results = each_once(request.resources).into_iter().map(|Asked { resource_type, name, keys }| {
        let (error_code, message, configs) = if all_known {
            match allowed_describe(&broker, &context, resource_type, &name) {
                Ok(entries) => {
                    let is_wanted =
                        |entry: &ConfigEntry| keys.as_ref().is_none_or(|keys| keys.contains(entry.name.as_str()));
                    let entries = entries.into_iter().filter(is_wanted);
                    let configs = entries
                        .map(|entry| result(entry, request.include_synonyms, request.include_documentation))
                        .collect();
                    (0, None, configs)
                }
                Err(error) => (error.error_code().code(), Some(error.to_string()), Vec::new()),
            }
        } else {
            let message = "The request names a type of resource that does not exist.".to_owned();
            (ErrorCode::InvalidRequest.code(), Some(message), Vec::new())
        };
        DescribeConfigsResult {
            error_code,
            error_message: message.map(error_message),
            resource_type,
            resource_name: name,
            configs,
        }
    });
    DescribeConfigsResponse { results: results.collect(), throttle_time_ms: 0 }
}

/// A resource and the keys wanted of it; `None` for all of them.
struct Asked {
    resource_type: i8,
    name: StrBytes,
    keys: Option<HashSet<StrBytes>>,
}

/// A resource that is named often is described once, for the keys of all its places: its description is far longer than
/// its name.
fn each_once(resources: Vec<DescribeConfigsResource>) -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    let mut places = HashMap::new();
    for DescribeConfigsResource { resource_type, resource_name: name, configuration_keys, .. } in resources {
        let keys = configuration_keys.filter(|keys| !keys.is_empty()).map(HashSet::from_iter);
        match places.entry((resource_type, name.clone())) {
            Entry::Vacant(vacant) => {
                vacant.insert(asked.len());
                asked.push(Asked { resource_type, name, keys });
            }
            Entry::Occupied(occupied) => {
                let before = &mut asked[*occupied.get()].keys;
                *before = before
                    .take()
                    .zip(keys)
                    .map(|(before, more): (HashSet<_>, _)| before.into_iter().chain(more).collect());
            }
        }
    }
    asked
}

fn allowed_describe(
    broker: &Broker,
    context: &RequestContext,
    resource_type: i8,
    name: &str,
) -> Result<Vec<ConfigEntry>, NotDescribed> {
    let asked = authorized_resource(resource_type, name);
    broker.authorize(context, Operation::DescribeConfigs, asked).map_err(NotDescribed::NotAllowed)?;
    describe(broker, resource_type, name)
}

fn describe(broker: &Broker, resource_type: i8, name: &str) -> Result<Vec<ConfigEntry>, NotDescribed> {
    let image = broker.quorum.image();
    let stored = |resource_type| {
        let name = Arc::from(name);
        settings_of(&image, &ConfigResource { resource_type, name })
    };
    let config = broker.config();
    match resource_type {
        TOPIC => {
            validate_topic_name(name)?;
            if image.topic_by_name(name).is_none() {
                return Err(NotDescribed::UnknownTopic);
            }
            Ok(config.describe_topic(&stored(ConfigResourceType::Topic))?)
        }
        BROKER if name.is_empty() => Ok(config.describe_cluster_defaults()),
        BROKER => {
            check_node_id(broker, name, " or empty string,")?;
            Ok(config.describe_broker())
        }
        BROKER_LOGGER => {
            if name.is_empty() {
                return Err(NotDescribed::LoggersOfNobody);
            }
            check_node_id(broker, name, "")?;
            Ok(broker.loggers.levels().into_iter().map(|(logger, level)| logger_entry(logger, level)).collect())
        }
        CLIENT_METRICS if name.is_empty() => Err(NotDescribed::NoSubscription),
        CLIENT_METRICS => Ok(describe_client_metrics(&stored(ConfigResourceType::ClientMetrics))),
        GROUP if name.is_empty() => Err(NotDescribed::NoGroup),
        GROUP => Ok(config.describe_group(&stored(ConfigResourceType::Group))?),
        other => unreachable!("invariant: type {other} was refused before"),
    }
}

fn check_node_id(broker: &Broker, name: &str, or_empty: &'static str) -> Result<(), NotDescribed> {
    match name.parse::<i32>() {
        Ok(id) if id == broker.node_id.0 => Ok(()),
        Ok(found) => Err(NotDescribed::AnotherNode { expected: broker.node_id, or_empty, found }),
        Err(_) => Err(NotDescribed::NotANodeId(name.to_owned())),
    }
}

fn logger_entry(name: String, level: LogLevel) -> ConfigEntry {
    ConfigEntry {
        name,
        value: Some(level.to_string()),
        source: ConfigSource::DynamicBrokerLoggerConfig,
        is_read_only: false,
        is_sensitive: false,
        synonyms: Vec::new(),
        config_type: None,
        documentation: None,
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
