//! CreateTopics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_image::{ConfigResource, MetadataImage, MetadataRecord, PartitionRegistration};
use ottla_types::{ErrorCode, InvalidTopicName, NodeId, TopicId, validate_topic_name};

use crate::alter_configs::{ConfigRules, InvalidConfig};
use crate::assignment::{AssignmentError, assigned_partition, new_partition};
use crate::placement::{PlacementError, place};
use crate::{MAX_PARTITIONS_PER_REQUEST, MAX_RECORDS_PER_REQUEST, Outcome};

/// The topic that holds Kafka's own metadata; nobody may create it.
const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// A request to create topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateTopics {
    pub topics: Vec<NewTopic>,
    /// Only say what would happen.
    pub validate_only: bool,
}

/// A topic as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: Arc<str>,
    /// -1 for the default, and with assignments.
    pub partitions: i32,
    /// -1 for the default, and with assignments.
    pub replication_factor: i16,
    /// Replicas by partition; empty to have them placed.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    pub configs: Vec<(Arc<str>, Option<Arc<str>>)>,
}

impl NewTopic {
    /// A topic with everything at its default.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), partitions: -1, replication_factor: -1, assignments: Vec::new(), configs: Vec::new() }
    }
}

/// `num.partitions` and `default.replication.factor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    pub partitions: i32,
    pub replication_factor: i16,
}

/// A topic that was created, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    pub topic_id: TopicId,
    pub partitions: i32,
    pub replication_factor: i16,
    /// The keys set on it.
    pub configs: BTreeMap<Arc<str>, Arc<str>>,
}

/// Why a topic is not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicsError {
    #[error("Duplicate topic name.")]
    Duplicate,
    #[error("Creation of internal topic {CLUSTER_METADATA_TOPIC} is prohibited.")]
    ClusterMetadata,
    #[error("Topic name is invalid: {0}")]
    InvalidName(InvalidTopicName),
    #[error("Topic '{name}' collides with existing topic: {existing}")]
    Collision { name: Arc<str>, existing: Arc<str> },
    #[error("Topic '{name}' already exists.")]
    AlreadyExists { name: Arc<str> },
    #[error("Null value not supported for topic configs: {}", .keys.join(","))]
    NullConfigs { keys: Vec<String> },
    #[error("{0}")]
    InvalidConfig(InvalidConfig),
    #[error("A manual partition assignment was specified, but replication factor was not set to -1.")]
    AssignmentAndReplicationFactor,
    #[error("A manual partition assignment was specified, but numPartitions was not set to -1.")]
    AssignmentAndPartitions,
    #[error("Found multiple manual partition assignments for partition {partition}")]
    DuplicateAssignment { partition: i32 },
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    #[error("partitions should be a consecutive 0-based integer sequence")]
    AssignmentGap,
    #[error("Replication factor must be larger than 0, or -1 to use the default value.")]
    InvalidReplicationFactor,
    #[error("Number of partitions was set to an invalid non-positive value.")]
    InvalidPartitions,
    #[error("Unable to replicate the partition {replication_factor} time(s): {source}")]
    Placement { replication_factor: i16, source: PlacementError },
    #[error(
        "Unable to replicate the partition {replication_factor} time(s): All brokers are currently fenced or in \
         controlled shutdown."
    )]
    AllFenced { replication_factor: i16 },
}

impl CreateTopicsError {
    pub fn error_code(&self) -> ErrorCode {
        match self {
            CreateTopicsError::Duplicate
            | CreateTopicsError::ClusterMetadata
            | CreateTopicsError::AssignmentAndReplicationFactor
            | CreateTopicsError::AssignmentAndPartitions => ErrorCode::InvalidRequest,
            CreateTopicsError::InvalidName(_) | CreateTopicsError::Collision { .. } => ErrorCode::InvalidTopicException,
            CreateTopicsError::AlreadyExists { .. } => ErrorCode::TopicAlreadyExists,
            CreateTopicsError::NullConfigs { .. } | CreateTopicsError::InvalidConfig(_) => ErrorCode::InvalidConfig,
            CreateTopicsError::DuplicateAssignment { .. }
            | CreateTopicsError::Assignment(_)
            | CreateTopicsError::AssignmentGap => ErrorCode::InvalidReplicaAssignment,
            CreateTopicsError::InvalidPartitions => ErrorCode::InvalidPartitions,
            CreateTopicsError::InvalidReplicationFactor
            | CreateTopicsError::Placement { .. }
            | CreateTopicsError::AllFenced { .. } => ErrorCode::InvalidReplicationFactor,
        }
    }
}

/// Why none of a request's topics is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicsRequestError {
    #[error("Excessively large number of partitions per request.")]
    TooManyPartitions,
    #[error("Unable to perform excessively large batch operation.")]
    TooManyRecords,
}

impl CreateTopicsRequestError {
    pub fn error_code(self) -> ErrorCode {
        ErrorCode::PolicyViolation
    }
}

/// One result for each name, in the order of the request; a name asked for twice has one result.
type Results = Vec<(Arc<str>, Result<CreatedTopic, CreateTopicsError>)>;

/// Creates topics. `next_topic_id` gives random ids that were never used; `placement_start` is random.
pub fn create_topics(
    image: &MetadataImage,
    request: &CreateTopics,
    defaults: TopicDefaults,
    rules: &dyn ConfigRules,
    next_topic_id: &mut dyn FnMut() -> TopicId,
    placement_start: u64,
) -> Result<Outcome<Results>, CreateTopicsRequestError> {
    if asked_partitions(request, defaults) > MAX_PARTITIONS_PER_REQUEST as u64 {
        return Err(CreateTopicsRequestError::TooManyPartitions);
    }
    let mut seen = BTreeSet::new();
    let duplicates: BTreeSet<&str> =
        request.topics.iter().map(|topic| &*topic.name).filter(|name| !seen.insert(*name)).collect();
    let mut results: Results = Vec::new();
    let mut refused = BTreeSet::new();
    let mut records = Vec::new();
    let mut placed = placement_start;
    for topic in &request.topics {
        let result = if duplicates.contains(&*topic.name) {
            if !refused.insert(&*topic.name) {
                continue;
            }
            Err(CreateTopicsError::Duplicate)
        } else {
            decide_topic(image, topic, defaults, rules, placed).map(|plan| {
                placed = placed.wrapping_add(plan.partitions.len() as u64);
                plan.into_records(&topic.name, next_topic_id(), &mut records)
            })
        };
        results.push((Arc::clone(&topic.name), result));
    }
    if records.len() > MAX_RECORDS_PER_REQUEST {
        return Err(CreateTopicsRequestError::TooManyRecords);
    }
    if request.validate_only {
        records.clear();
    }
    Ok(Outcome { response: results, records })
}

fn asked_partitions(request: &CreateTopics, defaults: TopicDefaults) -> u64 {
    let partitions = |topic: &NewTopic| match (topic.assignments.len(), topic.partitions) {
        (0, -1) => defaults.partitions.max(0) as u64,
        (0, partitions) => partitions.max(0) as u64,
        (assignments, _) => assignments as u64,
    };
    request.topics.iter().map(partitions).sum()
}

/// A topic that can be created.
struct Plan {
    partitions: Vec<PartitionRegistration>,
    configs: BTreeMap<Arc<str>, Arc<str>>,
}

impl Plan {
    fn into_records(self, name: &Arc<str>, topic_id: TopicId, records: &mut Vec<MetadataRecord>) -> CreatedTopic {
        let created = CreatedTopic {
            topic_id,
            partitions: self.partitions.len() as i32,
            replication_factor: self.partitions.first().map_or(0, |first| first.replicas.len() as i16),
            configs: self.configs,
        };
        records.push(MetadataRecord::Topic { name: Arc::clone(name), topic_id });
        records.extend(created.configs.iter().map(|(key, value)| MetadataRecord::Config {
            resource: ConfigResource::topic(Arc::clone(name)),
            key: Arc::clone(key),
            value: Some(Arc::clone(value)),
        }));
        records.extend(
            self.partitions.into_iter().zip(0..).map(|(registration, partition)| MetadataRecord::Partition {
                topic_id,
                partition,
                registration,
            }),
        );
        created
    }
}

fn decide_topic(
    image: &MetadataImage,
    topic: &NewTopic,
    defaults: TopicDefaults,
    rules: &dyn ConfigRules,
    placement_start: u64,
) -> Result<Plan, CreateTopicsError> {
    let name = &topic.name;
    if &**name == CLUSTER_METADATA_TOPIC {
        return Err(CreateTopicsError::ClusterMetadata);
    }
    if image.topic_id(name).is_some() {
        return Err(CreateTopicsError::AlreadyExists { name: Arc::clone(name) });
    }
    if let Some(existing) = image.colliding_topic(name) {
        return Err(CreateTopicsError::Collision { name: Arc::clone(name), existing: Arc::clone(existing) });
    }
    validate_topic_name(name).map_err(CreateTopicsError::InvalidName)?;
    let configs = decide_configs(topic, rules)?;
    let partitions = if topic.assignments.is_empty() {
        place_partitions(image, topic, defaults, placement_start)?
    } else {
        assigned_partitions(image, topic)?
    };
    Ok(Plan { partitions, configs })
}

fn decide_configs(
    topic: &NewTopic,
    rules: &dyn ConfigRules,
) -> Result<BTreeMap<Arc<str>, Arc<str>>, CreateTopicsError> {
    let mut configs = BTreeMap::new();
    let mut nulls = Vec::new();
    for (key, value) in &topic.configs {
        match value {
            Some(value) => drop(configs.insert(Arc::clone(key), Arc::clone(value))),
            None => nulls.push(key.to_string()),
        }
    }
    if !nulls.is_empty() {
        return Err(CreateTopicsError::NullConfigs { keys: nulls });
    }
    if !configs.is_empty() {
        let resource = ConfigResource::topic(Arc::clone(&topic.name));
        rules.validate(&resource, &configs).map_err(CreateTopicsError::InvalidConfig)?;
    }
    Ok(configs)
}

fn place_partitions(
    image: &MetadataImage,
    topic: &NewTopic,
    defaults: TopicDefaults,
    placement_start: u64,
) -> Result<Vec<PartitionRegistration>, CreateTopicsError> {
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        return Err(CreateTopicsError::InvalidReplicationFactor);
    }
    if topic.partitions < -1 || topic.partitions == 0 {
        return Err(CreateTopicsError::InvalidPartitions);
    }
    let partitions = if topic.partitions == -1 { defaults.partitions } else { topic.partitions };
    let replication_factor =
        if topic.replication_factor == -1 { defaults.replication_factor } else { topic.replication_factor };
    let partitions = usize::try_from(partitions).map_err(|_| CreateTopicsError::InvalidPartitions)?;
    place(image, partitions, replication_factor, placement_start)
        .map_err(|source| CreateTopicsError::Placement { replication_factor, source })?
        .into_iter()
        .map(|replicas| new_partition(image, replicas).ok_or(CreateTopicsError::AllFenced { replication_factor }))
        .collect()
}

fn assigned_partitions(
    image: &MetadataImage,
    topic: &NewTopic,
) -> Result<Vec<PartitionRegistration>, CreateTopicsError> {
    if topic.replication_factor != -1 {
        return Err(CreateTopicsError::AssignmentAndReplicationFactor);
    }
    if topic.partitions != -1 {
        return Err(CreateTopicsError::AssignmentAndPartitions);
    }
    let mut partitions = BTreeMap::new();
    let mut expected = None;
    for (partition, replicas) in &topic.assignments {
        if partitions.contains_key(partition) {
            return Err(CreateTopicsError::DuplicateAssignment { partition: *partition });
        }
        let registration = assigned_partition(image, *partition, replicas, expected)?;
        expected = Some(replicas.len());
        partitions.insert(*partition, registration);
    }
    if !partitions.keys().copied().eq(0..partitions.len() as i32) {
        return Err(CreateTopicsError::AssignmentGap);
    }
    Ok(partitions.into_values().collect())
}
