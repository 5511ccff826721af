//! IncrementalAlterConfigs, and the older AlterConfigs that replaces everything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ottla_image::{ConfigResource, ConfigResourceType, Configs, MetadataImage, MetadataRecord};
use ottla_types::{ErrorCode, NodeId};

use crate::{MAX_RECORDS_PER_REQUEST, Outcome};

/// The longest value, in bytes.
const MAX_VALUE_SIZE: usize = i16::MAX as usize;
/// The most keys one resource may have set.
const MAX_KEYS: usize = 1000;
/// The most bytes that the keys and values of one resource may have together.
const MAX_RESOURCE_SIZE: usize = 1024 * 1024;

/// What is known of configuration keys.
pub trait ConfigRules {
    /// Whether a resource may have all these keys set.
    fn validate(&self, resource: &ConfigResource, configs: &Configs) -> Result<(), InvalidConfig>;

    /// What a key whose value is a list has when it is not set on the resource; absent for every other key.
    fn list_default(&self, resource_type: ConfigResourceType, key: &str) -> Option<String>;
}

/// Why a configuration is refused: the error and the message for the client, from whoever knows the keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidConfig {
    pub error_code: ErrorCode,
    pub message: String,
}

/// The changes of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceChange<T> {
    pub resource: ConfigResource,
    pub configs: Vec<T>,
}

/// A key and its whole value; `None` removes it.
pub type KeyValue = (Arc<str>, Option<Arc<str>>);

/// The change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    pub key: Arc<str>,
    pub operation: ConfigOperation,
    pub value: Option<Arc<str>>,
}

/// What happens to a key, with Kafka's numbers (`AlterConfigOp.OpType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigOperation {
    Set = 0,
    Delete = 1,
    /// Adds elements to a list.
    Append = 2,
    /// Takes elements out of a list.
    Subtract = 3,
}

impl ConfigOperation {
    pub fn from_code(code: i8) -> Option<Self> {
        Some(match code {
            0 => ConfigOperation::Set,
            1 => ConfigOperation::Delete,
            2 => ConfigOperation::Append,
            3 => ConfigOperation::Subtract,
            _ => return None,
        })
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            ConfigOperation::Set => "SET",
            ConfigOperation::Delete => "DELETE",
            ConfigOperation::Append => "APPEND",
            ConfigOperation::Subtract => "SUBTRACT",
        }
    }
}

/// Why the configuration of a resource is not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlterConfigsError {
    #[error("Duplicate resource.")]
    DuplicateResource,
    #[error("Can't {} to key {key} because its type is not LIST.", .operation.name())]
    NotAList { operation: ConfigOperation, key: Arc<str> },
    #[error("Null value not supported for : {key}")]
    NullValue { key: Arc<str> },
    #[error(
        "The configuration value cannot be added because it exceeds the maximum value size of {MAX_VALUE_SIZE} bytes."
    )]
    ValueTooLong,
    #[error("One resource may have {MAX_KEYS} keys set, these are {keys}.")]
    TooManyKeys { keys: usize },
    #[error("The settings of one resource may have {MAX_RESOURCE_SIZE} bytes together, these have {size}.")]
    ResourceTooLarge { size: usize },
    #[error("{0}")]
    Invalid(InvalidConfig),
    #[error("The topic '{name}' does not exist.")]
    UnknownTopic { name: Arc<str> },
    #[error("Invalid broker name {name}")]
    InvalidBrokerName { name: Arc<str> },
    #[error("No node with id {node_id} found.")]
    UnknownBroker { node_id: NodeId },
    #[error("Unable to perform excessively large batch operation.")]
    TooManyRecords,
}

impl AlterConfigsError {
    pub fn error_code(&self) -> ErrorCode {
        match self {
            AlterConfigsError::DuplicateResource
            | AlterConfigsError::NullValue { .. }
            | AlterConfigsError::InvalidBrokerName { .. } => ErrorCode::InvalidRequest,
            AlterConfigsError::NotAList { .. } | AlterConfigsError::ValueTooLong => ErrorCode::InvalidConfig,
            AlterConfigsError::Invalid(invalid) => invalid.error_code,
            AlterConfigsError::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
            AlterConfigsError::UnknownBroker { .. } => ErrorCode::BrokerIdNotRegistered,
            AlterConfigsError::TooManyRecords
            | AlterConfigsError::TooManyKeys { .. }
            | AlterConfigsError::ResourceTooLarge { .. } => ErrorCode::PolicyViolation,
        }
    }
}

/// One result for each resource, in the order of the request.
type Results = Vec<(ConfigResource, Result<(), AlterConfigsError>)>;

/// Changes single keys.
pub fn incremental_alter_configs(
    image: &MetadataImage,
    changes: &[ResourceChange<ConfigChange>],
    validate_only: bool,
    rules: &dyn ConfigRules,
) -> Outcome<Results> {
    each_resource(changes, validate_only, |resource, configs| {
        let current = current_configs(image, resource);
        let mut altered = BTreeMap::new();
        for change in configs {
            let value = altered_value(resource.resource_type, current.get(&change.key), change, rules)?;
            altered.insert(Arc::clone(&change.key), value);
        }
        decide_resource(image, resource, &current, altered, rules)
    })
}

/// Replaces the configuration of resources: keys that are not named are removed.
pub fn alter_configs(
    image: &MetadataImage,
    changes: &[ResourceChange<KeyValue>],
    validate_only: bool,
    rules: &dyn ConfigRules,
) -> Outcome<Results> {
    each_resource(changes, validate_only, |resource, configs| {
        let current = current_configs(image, resource);
        let mut altered: BTreeMap<_, _> = current.keys().map(|key| (Arc::clone(key), None)).collect();
        altered.extend(configs.iter().cloned());
        decide_resource(image, resource, &current, altered, rules)
    })
}

fn each_resource<T>(
    changes: &[ResourceChange<T>],
    validate_only: bool,
    mut decide: impl FnMut(&ConfigResource, &[T]) -> Result<Vec<MetadataRecord>, AlterConfigsError>,
) -> Outcome<Results> {
    let mut response: Results = Vec::new();
    let mut records = Vec::new();
    let mut named: BTreeMap<&ConfigResource, usize> = BTreeMap::new();
    for change in changes {
        *named.entry(&change.resource).or_default() += 1;
    }
    for change in changes {
        let resource = &change.resource;
        let result = match named.insert(resource, 0) {
            Some(1) => decide(resource, &change.configs).map(|decided| records.extend(decided)),
            // It was answered where it came first.
            Some(0) => continue,
            _ => Err(AlterConfigsError::DuplicateResource),
        };
        response.push((resource.clone(), result));
    }
    if records.len() > MAX_RECORDS_PER_REQUEST {
        for (_, result) in &mut response {
            *result = Err(AlterConfigsError::TooManyRecords);
        }
        records.clear();
    }
    if validate_only {
        records.clear();
    }
    Outcome { response, records }
}

fn current_configs(image: &MetadataImage, resource: &ConfigResource) -> Arc<Configs> {
    image.configs(resource).cloned().unwrap_or_default()
}

fn altered_value(
    resource_type: ConfigResourceType,
    current: Option<&Arc<str>>,
    change: &ConfigChange,
    rules: &dyn ConfigRules,
) -> Result<Option<Arc<str>>, AlterConfigsError> {
    let key = &change.key;
    let operand = || change.value.as_ref().ok_or_else(|| AlterConfigsError::NullValue { key: Arc::clone(key) });
    match change.operation {
        ConfigOperation::Delete => Ok(None),
        ConfigOperation::Set => operand().map(|value| Some(Arc::clone(value))),
        operation @ (ConfigOperation::Append | ConfigOperation::Subtract) => {
            let operand = operand()?;
            let Some(default) = rules.list_default(resource_type, key) else {
                return Err(AlterConfigsError::NotAList { operation, key: Arc::clone(key) });
            };
            let before = current.map_or(default, ToString::to_string);
            Ok(Some(edited(&before, operation, operand).into()))
        }
    }
}

/// A list with the operand's elements at its end, those it has not yet, or without the first of each. Both may be long.
fn edited(before: &str, operation: ConfigOperation, operand: &str) -> String {
    let mut elements: Vec<Option<&str>> = before.split(',').filter(|element| !element.is_empty()).map(Some).collect();
    let mut places: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
    for (place, element) in elements.iter().enumerate() {
        places.entry(element.unwrap_or_default()).or_default().push_back(place);
    }
    for element in split(operand) {
        let found = places.entry(element).or_default();
        if operation == ConfigOperation::Subtract {
            if let Some(place) = found.pop_front() {
                elements[place] = None;
            }
        } else if found.is_empty() {
            found.push_back(elements.len());
            elements.push(Some(element));
        }
    }
    elements.into_iter().flatten().collect::<Vec<_>>().join(",")
}

/// The elements of an operand as Java splits them: empty ones at its end do not count.
fn split(operand: &str) -> impl Iterator<Item = &str> {
    let trimmed = operand.trim_end_matches(',');
    let all_empty = trimmed.is_empty() && !operand.is_empty();
    trimmed.split(',').filter(move |_| !all_empty)
}

/// The records that take a resource to its altered keys (`None` removes one).
fn decide_resource(
    image: &MetadataImage,
    resource: &ConfigResource,
    current: &Configs,
    altered: BTreeMap<Arc<str>, Option<Arc<str>>>,
    rules: &dyn ConfigRules,
) -> Result<Vec<MetadataRecord>, AlterConfigsError> {
    let mut after = current.clone();
    let mut records = Vec::new();
    for (key, value) in altered {
        if value.as_ref().is_some_and(|value| value.len() > MAX_VALUE_SIZE) {
            return Err(AlterConfigsError::ValueTooLong);
        }
        let unchanged = current.get(&key) == value.as_ref();
        match &value {
            Some(value) => drop(after.insert(Arc::clone(&key), Arc::clone(value))),
            None => drop(after.remove(&key)),
        }
        // A broker's key is written even when it stays: that makes the broker load files it names again.
        if !unchanged || (resource.resource_type == ConfigResourceType::Broker && value.is_some()) {
            records.push(MetadataRecord::Config { resource: resource.clone(), key, value });
        }
    }
    if after.len() > MAX_KEYS {
        return Err(AlterConfigsError::TooManyKeys { keys: after.len() });
    }
    let size = after.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_RESOURCE_SIZE {
        return Err(AlterConfigsError::ResourceTooLarge { size });
    }
    rules.validate(resource, &after).map_err(AlterConfigsError::Invalid)?;
    check_existence(image, resource)?;
    Ok(records)
}

fn check_existence(image: &MetadataImage, resource: &ConfigResource) -> Result<(), AlterConfigsError> {
    let name = &resource.name;
    match resource.resource_type {
        ConfigResourceType::Topic if image.topic_id(name).is_none() => {
            Err(AlterConfigsError::UnknownTopic { name: Arc::clone(name) })
        }
        // The empty name stands for every broker.
        ConfigResourceType::Broker if !name.is_empty() => {
            let number = name.parse().map_err(|_| AlterConfigsError::InvalidBrokerName { name: Arc::clone(name) })?;
            let node_id = NodeId(number);
            if image.broker(node_id).is_none() { Err(AlterConfigsError::UnknownBroker { node_id }) } else { Ok(()) }
        }
        ConfigResourceType::Topic
        | ConfigResourceType::Broker
        | ConfigResourceType::ClientMetrics
        | ConfigResourceType::Group => Ok(()),
    }
}
