//! What AlterConfigs and IncrementalAlterConfigs have in common: every resource is answered, in the order of the request,
//! each by itself.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ottla_controller::{ConfigChange, ConfigOperation, KeyValue, ResourceChange};
use ottla_image::{ConfigResource, ConfigResourceType};
use ottla_protocol::StrBytes;
use ottla_types::{ErrorCode, NodeId};

use crate::api::error_message;
use crate::authorizer::{self, Operation};
use crate::broker::Broker;
use crate::config_changes::{ChangeResults, Changes};
use crate::context::RequestContext;
use crate::loggers::{LogLevel, ROOT_LOGGER};

/// Kafka's number of the resource type `BROKER_LOGGER`, which the metadata does not keep.
pub(crate) const BROKER_LOGGER: i8 = 8;

/// One resource of a request.
pub(crate) struct Resource {
    pub(crate) resource_type: i8,
    pub(crate) name: StrBytes,
    pub(crate) configs: Vec<Config>,
}

/// One key of it, with the number of the operation.
pub(crate) struct Config {
    pub(crate) name: StrBytes,
    pub(crate) operation: i8,
    pub(crate) value: Option<StrBytes>,
}

/// How a request means its keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Incremental,
    /// What is not named goes; there is no operation but setting.
    Whole,
}

/// Why a resource is refused before the controller is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("Each resource must appear at most once.")]
    DuplicateResource,
    #[error("Error due to duplicate config keys")]
    DuplicateKeys,
    #[error("Null value not supported for : {}", .keys.join(", "))]
    NullValues { keys: Vec<String> },
    #[error("Unknown resource type {0}")]
    UnknownType(i8),
    #[error("Unknown operations type {0}")]
    UnknownOperation(i8),
    #[error("Node id must be an integer, but it is: {0}")]
    NotANodeId(StrBytes),
    #[error("Unexpected broker id, expected {expected}, but received {found}")]
    AnotherNode { expected: NodeId, found: StrBytes },
    #[error("{0} operation is not allowed for the BROKER_LOGGER resource")]
    LoggerOperation(&'static str),
    #[error("Logger {0} does not exist!")]
    UnknownLogger(StrBytes),
    #[error(
        "Cannot set the log level of {logger} to {level} as it is not a supported log level. Valid log levels are DEBUG, \
         ERROR, FATAL, INFO, TRACE, WARN"
    )]
    UnknownLevel { logger: StrBytes, level: StrBytes },
    #[error("Authorization failed.")]
    NotAllowed(ErrorCode),
    #[error("Removing the log level of the root logger is not allowed")]
    RootNeedsALevel,
}

impl Refused {
    fn error_code(&self) -> ErrorCode {
        match self {
            Refused::DuplicateResource
            | Refused::DuplicateKeys
            | Refused::NullValues { .. }
            | Refused::UnknownType(_)
            | Refused::UnknownOperation(_)
            | Refused::NotANodeId(_)
            | Refused::AnotherNode { .. }
            | Refused::LoggerOperation(_)
            | Refused::RootNeedsALevel => ErrorCode::InvalidRequest,
            Refused::NotAllowed(error) => *error,
            Refused::UnknownLogger(_) | Refused::UnknownLevel { .. } => ErrorCode::InvalidConfig,
        }
    }
}

/// What a client is told of one resource.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) resource_type: i8,
    pub(crate) name: StrBytes,
    pub(crate) error_code: i16,
    pub(crate) error_message: Option<StrBytes>,
}

/// Where the answer of a resource comes from.
enum Pending {
    Refused(Refused),
    /// The process's loggers were changed.
    Done,
    Asked(ConfigResource),
}

/// Changes what can be changed, and answers for each resource.
pub(crate) async fn alter(
    broker: &Broker,
    context: &RequestContext,
    kind: Kind,
    resources: Vec<Resource>,
    validate_only: bool,
) -> Vec<Answer> {
    let mut named: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    for resource in &resources {
        *named.entry((resource.resource_type, &resource.name)).or_default() += 1;
    }
    let is_duplicate: Vec<bool> =
        resources.iter().map(|resource| named[&(resource.resource_type, &*resource.name)] > 1).collect();
    drop(named);

    let (mut incremental, mut whole) = (Vec::new(), Vec::new());
    let mut pending = Vec::with_capacity(resources.len());
    for (resource, is_duplicate) in resources.iter().zip(is_duplicate) {
        let preprocessed = if is_duplicate {
            Err(Refused::DuplicateResource)
        } else {
            check_allowed(broker, context, resource).and_then(|()| check_keys(resource)).and_then(|()| {
                match resource.resource_type {
                    BROKER_LOGGER if kind == Kind::Incremental => {
                        change_loggers(broker, resource, validate_only).map(|()| Pending::Done)
                    }
                    _ => stored_resource(broker, resource).map(Pending::Asked),
                }
            })
        };
        let preprocessed = preprocessed.and_then(|state| {
            let Pending::Asked(stored) = &state else { return Ok(state) };
            match kind {
                Kind::Incremental => {
                    let configs = resource.configs.iter().map(change).collect::<Result<_, _>>()?;
                    incremental.push(ResourceChange { resource: stored.clone(), configs });
                }
                Kind::Whole => {
                    let configs = resource.configs.iter().map(key_value).collect();
                    whole.push(ResourceChange { resource: stored.clone(), configs });
                }
            }
            Ok(state)
        });
        pending.push(preprocessed.unwrap_or_else(Pending::Refused));
    }
    let changes = match kind {
        Kind::Incremental => Changes::Incremental(incremental),
        Kind::Whole => Changes::Whole(whole),
    };
    let asks = pending.iter().any(|state| matches!(state, Pending::Asked(_)));
    let results =
        if asks { broker.config_changes.alter(changes, validate_only).await } else { Ok(ChangeResults::new()) };
    let answers = resources.into_iter().zip(pending).map(|(resource, state)| {
        let outcome = match state {
            Pending::Done => Ok(()),
            Pending::Refused(refused) => Err((refused.error_code(), refused.to_string())),
            Pending::Asked(stored) => match &results {
                Ok(results) => match results.get(&stored) {
                    Some(Ok(())) | None => Ok(()),
                    Some(Err(error)) => Err((error.error_code(), error.to_string())),
                },
                Err(error) => Err((error.error_code(), error.to_string())),
            },
        };
        let (error_code, error_message) = match outcome {
            Ok(()) => (0, None),
            Err((error, message)) => (error.code(), Some(error_message(message))),
        };
        Answer { resource_type: resource.resource_type, name: resource.name, error_code, error_message }
    });
    answers.collect()
}

/// What an authorizer is asked about. What belongs to a node or to the whole cluster is the cluster's.
pub(crate) fn authorized_resource(resource_type: i8, name: &str) -> authorizer::Resource<'_> {
    match ConfigResourceType::from_code(resource_type) {
        Some(ConfigResourceType::Topic) => authorizer::Resource::Topic(name),
        Some(ConfigResourceType::Group) => authorizer::Resource::Group(name),
        Some(ConfigResourceType::Broker | ConfigResourceType::ClientMetrics) | None => authorizer::Resource::Cluster,
    }
}

fn check_allowed(broker: &Broker, context: &RequestContext, resource: &Resource) -> Result<(), Refused> {
    let asked = authorized_resource(resource.resource_type, &resource.name);
    broker.authorize(context, Operation::AlterConfigs, asked).map_err(Refused::NotAllowed)
}

/// A key is named once, and what is not deleted has a value.
fn check_keys(resource: &Resource) -> Result<(), Refused> {
    let mut seen = HashSet::with_capacity(resource.configs.len());
    if !resource.configs.iter().all(|config| seen.insert(&*config.name)) {
        return Err(Refused::DuplicateKeys);
    }
    let is_null = |config: &&Config| config.value.is_none() && config.operation != ConfigOperation::Delete as i8;
    let keys: Vec<String> = resource.configs.iter().filter(is_null).map(|config| config.name.to_string()).collect();
    if keys.is_empty() { Ok(()) } else { Err(Refused::NullValues { keys }) }
}

/// The resource as the metadata knows it.
fn stored_resource(broker: &Broker, resource: &Resource) -> Result<ConfigResource, Refused> {
    let resource_type =
        ConfigResourceType::from_code(resource.resource_type).ok_or(Refused::UnknownType(resource.resource_type))?;
    if resource_type == ConfigResourceType::Broker && !resource.name.is_empty() {
        check_node_id(broker, &resource.name)?;
        // However it was spelled.
        return Ok(ConfigResource::broker(broker.node_id));
    }
    Ok(ConfigResource { resource_type, name: Arc::from(&*resource.name) })
}

fn check_node_id(broker: &Broker, name: &StrBytes) -> Result<(), Refused> {
    let number: i32 = name.parse().map_err(|_| Refused::NotANodeId(name.clone()))?;
    if number == broker.node_id.0 {
        Ok(())
    } else {
        Err(Refused::AnotherNode { expected: broker.node_id, found: name.clone() })
    }
}

fn change(config: &Config) -> Result<ConfigChange, Refused> {
    Ok(ConfigChange {
        key: Arc::from(&*config.name),
        operation: ConfigOperation::from_code(config.operation).ok_or(Refused::UnknownOperation(config.operation))?,
        value: config.value.as_ref().map(|value| Arc::from(&**value)),
    })
}

fn key_value(config: &Config) -> KeyValue {
    (Arc::from(&*config.name), config.value.as_ref().map(|value| Arc::from(&**value)))
}

/// Changes levels of this process's loggers: all that are named, or none.
fn change_loggers(broker: &Broker, resource: &Resource, validate_only: bool) -> Result<(), Refused> {
    check_node_id(broker, &resource.name)?;
    let known = broker.loggers.levels();
    let mut levels = BTreeMap::new();
    for config in &resource.configs {
        let logger = &config.name;
        let level = match ConfigOperation::from_code(config.operation) {
            Some(operation @ (ConfigOperation::Append | ConfigOperation::Subtract)) => {
                return Err(Refused::LoggerOperation(operation.name()));
            }
            None => return Err(Refused::UnknownOperation(config.operation)),
            Some(ConfigOperation::Set) => {
                let level = config.value.clone().unwrap_or_default();
                Some((LogLevel::from_name(&level), level))
            }
            Some(ConfigOperation::Delete) => None,
        };
        if !known.contains_key(&**logger) {
            return Err(Refused::UnknownLogger(logger.clone()));
        }
        let level = match level {
            Some((Some(level), _)) => Some(level),
            Some((None, level)) => return Err(Refused::UnknownLevel { logger: logger.clone(), level }),
            None if &**logger == ROOT_LOGGER => return Err(Refused::RootNeedsALevel),
            None => None,
        };
        levels.insert(logger.to_string(), level);
    }
    if !validate_only {
        broker.loggers.set(&levels);
        tracing::warn!(?levels, "log levels were changed");
    }
    Ok(())
}
