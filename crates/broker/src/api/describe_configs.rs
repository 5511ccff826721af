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
use crate::broker::{ANSWERS_BYTES, Broker};
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
    #[error("The request names a type of resource that does not exist.")]
    UnknownType,
    #[error("The answer would have more than {LARGEST_ANSWER} bytes; describe fewer resources at a time.")]
    TooMuch,
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
            | NotDescribed::UnknownType
            | NotDescribed::TooMuch
            | NotDescribed::NoSubscription
            | NotDescribed::NoGroup => ErrorCode::InvalidRequest,
        }
    }
}

/// The most bytes an answer may have, about: a topic's keys with everything about them are some 10 kB, and a request
/// needs a dozen bytes to ask for them. It is what all large answers together may have.
const LARGEST_ANSWER: usize = ANSWERS_BYTES as usize;
/// Resources that are described before other tasks have their turn. Requests for more are answered one at a time.
const AT_A_TIME: usize = 16;

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
    let _alone = match request.resources.len() {
        0..=AT_A_TIME => None,
        _ => Some(broker.budgets.describing.lock().await),
    };
    let mut results = Vec::new();
    let mut bytes = 0_usize;
    for (position, resource) in each_once(request.resources).into_iter().enumerate() {
        if position % AT_A_TIME == AT_A_TIME - 1 {
            tokio::task::yield_now().await;
        }
        let described = if !all_known {
            Err(NotDescribed::UnknownType)
        } else if bytes > LARGEST_ANSWER {
            Err(NotDescribed::TooMuch)
        } else {
            allowed_describe(&broker, &context, resource.resource_type, &resource.name)
        };
        let (error_code, message, configs) = match described {
            Ok(entries) => {
                let is_wanted =
                    |entry: &ConfigEntry| resource.keys.as_ref().is_none_or(|keys| keys.contains(entry.name.as_str()));
                let entries = entries.into_iter().filter(is_wanted);
                let configs: Vec<_> = entries
                    .map(|entry| result(entry, request.include_synonyms, request.include_documentation))
                    .collect();
                bytes += configs.iter().map(size).sum::<usize>();
                (0, None, configs)
            }
            Err(error) => (error.error_code().code(), Some(error.to_string()), Vec::new()),
        };
        results.push(DescribeConfigsResult {
            error_code,
            error_message: message.map(error_message),
            resource_type: resource.resource_type,
            resource_name: resource.name,
            configs,
        });
    }
    DescribeConfigsResponse { results, throttle_time_ms: 0 }
}

/// What is asked of one resource; without keys, all of them.
struct Asked {
    resource_type: i8,
    name: StrBytes,
    keys: Option<HashSet<StrBytes>>,
}

/// The resources where they come first, each with every key that is asked for anywhere: naming one again must not
/// multiply the answer.
fn each_once(resources: Vec<DescribeConfigsResource>) -> Vec<Asked> {
    let mut places: HashMap<(i8, StrBytes), usize> = HashMap::new();
    let mut asked: Vec<Asked> = Vec::new();
    for DescribeConfigsResource { resource_type, resource_name: name, configuration_keys } in resources {
        let keys: Option<HashSet<StrBytes>> =
            configuration_keys.filter(|keys| !keys.is_empty()).map(|keys| keys.into_iter().collect());
        match places.entry((resource_type, spelled_once(resource_type, &name))) {
            Entry::Vacant(place) => {
                place.insert(asked.len());
                asked.push(Asked { resource_type, name, keys });
            }
            Entry::Occupied(place) => {
                let before = &mut asked[*place.get()].keys;
                *before = before.take().zip(keys).map(|(mut before, keys)| {
                    before.extend(keys);
                    before
                });
            }
        }
    }
    asked
}

/// The name a resource is known by: a node's may be spelled in many ways.
fn spelled_once(resource_type: i8, name: &StrBytes) -> StrBytes {
    match (resource_type, name.parse::<i32>()) {
        (BROKER | BROKER_LOGGER, Ok(id)) => StrBytes::from(id.to_string()),
        _ => name.clone(),
    }
}

/// The bytes of an entry in the answer, about.
fn size(result: &DescribeConfigsResourceResult) -> usize {
    const FIXED: usize = 16;
    let text = |text: &Option<StrBytes>| text.as_ref().map_or(0, |text| text.len());
    let synonyms = result.synonyms.iter().map(|synonym| FIXED + synonym.name.len() + text(&synonym.value));
    FIXED + result.name.len() + text(&result.value) + text(&result.documentation) + synonyms.sum::<usize>()
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
            Ok(config.describe_topic(&stored(ConfigResourceType::Topic)))
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
