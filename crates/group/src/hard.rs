//! The hard state: what the records of the partition say.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_types::TopicId;

use crate::transactional_offsets::TransactionalOffsets;

/// Offsets of one group, by topic and partition.
pub type GroupOffsets = BTreeMap<Arc<str>, BTreeMap<i32, OffsetAndMetadata>>;

/// Groups and offsets as recorded. Changed by replay only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HardState {
    pub groups: BTreeMap<Arc<str>, RecordedGroup>,
    /// A group without an entry has no offsets; no entry is empty at any level.
    pub offsets: BTreeMap<Arc<str>, GroupOffsets>,
    /// What does not count yet.
    pub transactional: TransactionalOffsets,
}

/// A group's metadata, as recorded (`GroupMetadataValue`).
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedGroup {
    /// Empty when the group never had members.
    pub protocol_type: Arc<str>,
    pub generation: i32,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<Arc<str>>,
    /// Milliseconds since the Unix epoch.
    pub current_state_timestamp_ms: Option<i64>,
    pub members: Vec<RecordedMember>,
}

/// A member, as recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A committed offset (`OffsetCommitValue`).
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetAndMetadata {
    pub offset: i64,
    pub leader_epoch: Option<i32>,
    pub metadata: Arc<str>,
    /// Milliseconds since the Unix epoch.
    pub commit_timestamp_ms: i64,
    /// Set by a commit with an explicit retention.
    pub expire_timestamp_ms: Option<i64>,
    /// All zeroes when it was not known.
    pub topic_id: TopicId,
}

impl HardState {
    /// The committed offset of a partition.
    pub fn offset(&self, group: &str, topic: &str, partition: i32) -> Option<&OffsetAndMetadata> {
        self.offsets.get(group)?.get(topic)?.get(&partition)
    }

    /// Whether anything is committed for a group, or may be.
    pub(crate) fn has_offsets(&self, group: &str) -> bool {
        self.offsets.contains_key(group) || self.transactional.contains_group(group)
    }

    pub(crate) fn put_offset(&mut self, group: &Arc<str>, topic: &Arc<str>, partition: i32, value: OffsetAndMetadata) {
        let topics = self.offsets.entry(group.clone()).or_default();
        topics.entry(topic.clone()).or_default().insert(partition, value);
    }

    pub(crate) fn remove_offset(&mut self, group: &str, topic: &str, partition: i32) {
        let Some(topics) = self.offsets.get_mut(group) else { return };
        if let Some(partitions) = topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                topics.remove(topic);
            }
        }
        if topics.is_empty() {
            self.offsets.remove(group);
        }
    }
}
