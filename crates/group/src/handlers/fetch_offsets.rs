//! OffsetFetch.

use crate::coordinator::GroupCoordinator;
use crate::error::GroupError;
use crate::hard::OffsetAndMetadata;
use crate::request::{FetchOffsets, FetchedPartition, FetchedTopic};

impl GroupCoordinator {
    /// What a group has committed; a group that does not exist has committed nothing.
    pub fn handle_fetch_offsets(&self, request: FetchOffsets) -> Vec<FetchedTopic> {
        let FetchOffsets { group, topics, require_stable } = request;
        let is_unstable = |topic: &str, partition: i32| {
            require_stable && self.hard.transactional.is_unstable(&group, topic, partition)
        };
        let Some(topics) = topics else { return self.all_offsets(&group, is_unstable) };
        let committed = self.hard.offsets.get(&group);
        topics
            .into_iter()
            .map(|asked| {
                let offsets = committed.and_then(|topics| topics.get(&asked.topic));
                let partitions = asked
                    .partitions
                    .iter()
                    .map(|&partition| {
                        if is_unstable(&asked.topic, partition) {
                            return unstable(partition);
                        }
                        let value = offsets.and_then(|partitions| partitions.get(&partition));
                        // An offset of a topic that was deleted means nothing in the one that has its name now.
                        let value = value.filter(|value| {
                            value.topic_id.is_zero() || asked.topic_id.is_zero() || value.topic_id == asked.topic_id
                        });
                        fetched(partition, value)
                    })
                    .collect();
                FetchedTopic { topic: asked.topic, topic_id: asked.topic_id, partitions }
            })
            .collect()
    }

    fn all_offsets(&self, group: &str, is_unstable: impl Fn(&str, i32) -> bool) -> Vec<FetchedTopic> {
        let Some(topics) = self.hard.offsets.get(group) else { return Vec::new() };
        topics
            .iter()
            .map(|(topic, partitions)| FetchedTopic {
                topic: topic.clone(),
                topic_id: partitions.values().next().map(|value| value.topic_id).unwrap_or_default(),
                partitions: partitions
                    .iter()
                    .map(|(&partition, value)| {
                        if is_unstable(topic, partition) {
                            unstable(partition)
                        } else {
                            fetched(partition, Some(value))
                        }
                    })
                    .collect(),
            })
            .collect()
    }
}

fn fetched(partition: i32, value: Option<&OffsetAndMetadata>) -> FetchedPartition {
    match value {
        Some(value) => FetchedPartition {
            partition,
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.clone(),
            error: None,
        },
        None => FetchedPartition { partition, offset: -1, leader_epoch: None, metadata: "".into(), error: None },
    }
}

fn unstable(partition: i32) -> FetchedPartition {
    FetchedPartition { error: Some(GroupError::UnstableOffsetCommit), ..fetched(partition, None) }
}
