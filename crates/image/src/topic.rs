//! A topic and its partitions.

use std::sync::Arc;

use ottla_types::TopicId;

use crate::partition::PartitionRegistration;

/// A topic. Partitions are numbered without gaps and shared with earlier images until they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    pub name: Arc<str>,
    pub topic_id: TopicId,
    pub(crate) partitions: Vec<Arc<PartitionRegistration>>,
}

impl TopicImage {
    pub fn partition(&self, partition: i32) -> Option<&Arc<PartitionRegistration>> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    /// Every partition, in the order of its number.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = (i32, &Arc<PartitionRegistration>)> {
        self.partitions.iter().enumerate().map(|(partition, registration)| (partition as i32, registration))
    }

    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }
}
