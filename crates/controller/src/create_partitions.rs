//! CreatePartitions: a topic grows.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_image::{MetadataImage, MetadataRecord, PartitionRegistration, TopicImage};
use ottla_types::{ErrorCode, NodeId};

use crate::assignment::{AssignmentError, assigned_partition, new_partition};
use crate::placement::{PlacementError, place};
use crate::{MAX_PARTITIONS_PER_REQUEST, Outcome};

/// A request to let topics grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreatePartitions {
    pub topics: Vec<GrownTopic>,
    /// Only say what would happen.
    pub validate_only: bool,
}

/// A topic, and how large it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrownTopic {
    pub name: Arc<str>,
    /// With the partitions it has.
    pub count: i32,
    /// The replicas of each new partition; `None` to have them placed.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

/// Why a topic does not grow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreatePartitionsError {
    #[error("Duplicate topic name.")]
    Duplicate,
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    #[error("Topic already has {partitions} partition(s).")]
    SameCount { partitions: usize },
    #[error("The topic {name} currently has {partitions} partition(s); {count} would not be an increase.")]
    NoIncrease { name: Arc<str>, partitions: usize, count: i32 },
    #[error(
        "Attempted to add {additional} additional partition(s), but only {assignments} assignment(s) were specified."
    )]
    AssignmentCount { additional: usize, assignments: usize },
    #[error(transparent)]
    Assignment(#[from] AssignmentError),
    #[error("Unable to replicate the partition {replication_factor} time(s): {source}")]
    Placement { replication_factor: i16, source: PlacementError },
    #[error(
        "Unable to replicate the partition {replication_factor} time(s): All brokers are currently fenced or in \
         controlled shutdown."
    )]
    AllFenced { replication_factor: i16 },
}

impl CreatePartitionsError {
    pub fn error_code(&self) -> ErrorCode {
        match self {
            CreatePartitionsError::Duplicate => ErrorCode::InvalidRequest,
            CreatePartitionsError::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
            CreatePartitionsError::SameCount { .. } | CreatePartitionsError::NoIncrease { .. } => {
                ErrorCode::InvalidPartitions
            }
            CreatePartitionsError::AssignmentCount { .. } => ErrorCode::InvalidReplicaAssignment,
            CreatePartitionsError::Assignment(error) => error.error_code(),
            CreatePartitionsError::Placement { .. } | CreatePartitionsError::AllFenced { .. } => {
                ErrorCode::InvalidReplicationFactor
            }
        }
    }
}

/// Why none of a request's topics grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreatePartitionsRequestError {
    #[error("Excessively large number of partitions per request.")]
    TooManyPartitions,
}

impl CreatePartitionsRequestError {
    pub fn error_code(self) -> ErrorCode {
        ErrorCode::PolicyViolation
    }
}

/// One result for each name: those asked for twice first, then the others in the order of the request.
type Results = Vec<(Arc<str>, Result<(), CreatePartitionsError>)>;

/// Adds partitions to topics. `placement_start` is random.
pub fn create_partitions(
    image: &MetadataImage,
    request: &CreatePartitions,
    placement_start: u64,
) -> Result<Outcome<Results>, CreatePartitionsRequestError> {
    let mut seen = BTreeSet::new();
    let duplicates: BTreeSet<&Arc<str>> =
        request.topics.iter().map(|topic| &topic.name).filter(|name| !seen.insert(*name)).collect();
    let mut results: Results =
        duplicates.iter().map(|name| (Arc::clone(name), Err(CreatePartitionsError::Duplicate))).collect();
    let mut records = Vec::new();
    for topic in request.topics.iter().filter(|topic| !duplicates.contains(&topic.name)) {
        let result = match check(image, topic) {
            // Counted before anything is placed: the count may be any number.
            Ok((_, additional)) if records.len() + additional > MAX_PARTITIONS_PER_REQUEST => {
                return Err(CreatePartitionsRequestError::TooManyPartitions);
            }
            Ok((existing, additional)) => {
                let start = placement_start.wrapping_add((existing.partition_count() + records.len()) as u64);
                grow(image, topic, existing, additional, start).map(|partitions| {
                    let first = existing.partition_count() as i32;
                    records.extend(partitions.into_iter().zip(first..).map(|(registration, partition)| {
                        MetadataRecord::Partition { topic_id: existing.topic_id, partition, registration }
                    }));
                })
            }
            Err(error) => Err(error),
        };
        results.push((Arc::clone(&topic.name), result));
    }
    if request.validate_only {
        records.clear();
    }
    Ok(Outcome { response: results, records })
}

/// The topic as it is, and how many partitions it gets.
fn check<'a>(image: &'a MetadataImage, topic: &GrownTopic) -> Result<(&'a TopicImage, usize), CreatePartitionsError> {
    let existing = image.topic_by_name(&topic.name).ok_or(CreatePartitionsError::UnknownTopic)?;
    let partitions = existing.partition_count();
    let count = usize::try_from(topic.count).unwrap_or(0);
    if count == partitions {
        return Err(CreatePartitionsError::SameCount { partitions });
    }
    let Some(additional) = count.checked_sub(partitions) else {
        let name = Arc::clone(&topic.name);
        return Err(CreatePartitionsError::NoIncrease { name, partitions, count: topic.count });
    };
    match topic.assignments.as_ref().map(Vec::len) {
        Some(assignments) if assignments != additional => {
            Err(CreatePartitionsError::AssignmentCount { additional, assignments })
        }
        _ => Ok((existing, additional)),
    }
}

/// The new partitions. Each has as many replicas as the topic's first one.
fn grow(
    image: &MetadataImage,
    topic: &GrownTopic,
    existing: &TopicImage,
    additional: usize,
    placement_start: u64,
) -> Result<Vec<PartitionRegistration>, CreatePartitionsError> {
    let replicas = existing.partition(0).map_or(1, |first| first.replicas.len());
    if let Some(assignments) = &topic.assignments {
        let numbered = (existing.partition_count() as i32..).zip(assignments);
        let assigned = numbered.map(|(partition, nodes)| assigned_partition(image, partition, nodes, Some(replicas)));
        return Ok(assigned.collect::<Result<_, _>>()?);
    }
    let replication_factor = replicas as i16;
    place(image, additional, replication_factor, placement_start)
        .map_err(|source| CreatePartitionsError::Placement { replication_factor, source })?
        .into_iter()
        .map(|replicas| new_partition(image, replicas).ok_or(CreatePartitionsError::AllFenced { replication_factor }))
        .collect()
}
