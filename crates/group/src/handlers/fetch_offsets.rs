//! OffsetFetch.

use crate::coordinator::GroupCoordinator;
use crate::hard::OffsetAndMetadata;
use crate::request::{FetchOffsets, FetchedPartition, FetchedTopic};

impl GroupCoordinator {
    /// What a group has committed; a group that does not exist has committed nothing.
    pub fn handle_fetch_offsets(&self, request: FetchOffsets) -> Vec<FetchedTopic> {
        let Some(topics) = request.topics else { return self.all_offsets(&request.group) };
        let committed = self.hard.offsets.get(&request.group);
        topics
            .into_iter()
            .map(|asked| {
                let offsets = committed.and_then(|topics| topics.get(&asked.topic));
                let partitions = asked
                    .partitions
                    .iter()
                    .map(|&partition| {
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

    fn all_offsets(&self, group: &str) -> Vec<FetchedTopic> {
        let Some(topics) = self.hard.offsets.get(group) else { return Vec::new() };
        topics
            .iter()
            .map(|(topic, partitions)| FetchedTopic {
                topic: topic.clone(),
                topic_id: partitions.values().next().map(|value| value.topic_id).unwrap_or_default(),
                partitions: partitions.iter().map(|(&partition, value)| fetched(partition, Some(value))).collect(),
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
        },
        None => FetchedPartition { partition, offset: -1, leader_epoch: None, metadata: "".into() },
    }
}
