//! New partitions: with replicas an administrator names, or those placement found.

use ottla_image::{MetadataImage, PartitionRegistration, directory_id};
use ottla_types::{ErrorCode, NodeId, Uuid};

use crate::placement::{serves, takes_replicas};

/// Why replicas that were named cannot be a partition's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    #[error("The manual partition assignment includes an empty replica list.")]
    Empty,
    #[error("The manual partition assignment includes broker {broker}, but no such broker is registered.")]
    UnknownBroker { broker: NodeId },
    #[error("The manual partition assignment includes broker {broker}, but all its log directories are cordoned.")]
    CordonedBroker { broker: NodeId },
    #[error("The manual partition assignment includes the broker {broker} more than once.")]
    DuplicateBroker { broker: NodeId },
    #[error(
        "The manual partition assignment includes a partition with {found} replica(s), but this is not consistent with \
         previous partitions, which have {expected} replica(s)."
    )]
    Uneven { expected: usize, found: usize },
    #[error(
        "All brokers specified in the manual partition assignment for partition {partition} are fenced or in \
         controlled shutdown."
    )]
    Fenced { partition: i32 },
}

impl AssignmentError {
    pub fn error_code(self) -> ErrorCode {
        ErrorCode::InvalidReplicaAssignment
    }
}

/// A partition with the replicas that were named for it, as many as the topic's others have.
pub(crate) fn assigned_partition(
    image: &MetadataImage,
    partition: i32,
    replicas: &[NodeId],
    expected: Option<usize>,
) -> Result<PartitionRegistration, AssignmentError> {
    if replicas.is_empty() {
        return Err(AssignmentError::Empty);
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    let mut previous = None;
    for broker in sorted {
        let registration = image.broker(broker).ok_or(AssignmentError::UnknownBroker { broker })?;
        if previous == Some(broker) {
            return Err(AssignmentError::DuplicateBroker { broker });
        }
        if !takes_replicas(registration) {
            return Err(AssignmentError::CordonedBroker { broker });
        }
        previous = Some(broker);
    }
    if let Some(expected) = expected.filter(|expected| *expected != replicas.len()) {
        return Err(AssignmentError::Uneven { expected, found: replicas.len() });
    }
    new_partition(image, replicas.to_vec()).ok_or(AssignmentError::Fenced { partition })
}

/// A partition with these replicas; `None` when none of them serves.
pub(crate) fn new_partition(image: &MetadataImage, replicas: Vec<NodeId>) -> Option<PartitionRegistration> {
    let in_sync = |replica: &&NodeId| image.broker(**replica).is_some_and(|broker| serves(broker));
    let isr: Vec<NodeId> = replicas.iter().filter(in_sync).copied().collect();
    let leader = *isr.first()?;
    let directories = replicas.iter().map(|&replica| default_directory(image, replica)).collect();
    Some(PartitionRegistration { isr, leader: Some(leader), ..PartitionRegistration::new(replicas, directories) })
}

/// The directory a replica goes to when there is only one; the broker chooses among several.
fn default_directory(image: &MetadataImage, replica: NodeId) -> Uuid {
    let Some(broker) = image.broker(replica) else { return directory_id::UNASSIGNED };
    let mut usable = broker.log_dirs.iter().filter(|directory| !broker.cordoned_log_dirs.contains(directory));
    match (usable.next(), usable.next()) {
        (Some(only), None) => *only,
        _ => directory_id::UNASSIGNED,
    }
}
