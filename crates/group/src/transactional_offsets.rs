//! Offsets committed in transactions that have not ended.
//!
//! A producer's offsets count once its transaction is committed, and never if it is aborted. Until then the partitions they
//! are for are *unstable*: what is committed there may be about to change.
//!
//! # The state it owns
//! The pending offsets by group, topic and partition, and which of them are whose.
//!
//! # Invariants
//! Both views name the same offsets; no entry is empty at any level.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::hard::OffsetAndMetadata;

/// What an offset is committed for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupPartition {
    pub(crate) group: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransactionalOffsets {
    pending: BTreeMap<Arc<str>, PendingTopics>,
    by_producer: BTreeMap<i64, BTreeSet<GroupPartition>>,
    /// Numbers what is pending in the order of the log.
    next_number: u64,
}

/// Of one group, by topic and partition.
type PendingTopics = BTreeMap<Arc<str>, BTreeMap<i32, PendingOffsets>>;

/// Of one partition.
#[derive(Clone, Debug, Default, PartialEq)]
struct PendingOffsets {
    by_producer: BTreeMap<i64, (u64, OffsetAndMetadata)>,
    /// What has a lower number is overtaken: an offset that is later in the log counts already.
    overtaken: u64,
}

impl TransactionalOffsets {
    /// Whether a transaction that has not ended commits an offset for this partition.
    pub fn is_unstable(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.partition(group, topic, partition).is_some()
    }

    /// The groups for which something is pending.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pending.keys()
    }

    pub fn contains_group(&self, group: &str) -> bool {
        self.pending.contains_key(group)
    }

    /// The partitions for which something of a group is pending.
    pub(crate) fn of_group(&self, group: &str) -> impl Iterator<Item = (&Arc<str>, i32)> {
        let topics = self.pending.get(group).into_iter().flatten();
        topics.flat_map(|(topic, partitions)| partitions.keys().map(move |&partition| (topic, partition)))
    }

    /// The groups, and partitions of this topic, for which an offset that fits is pending.
    pub(crate) fn of_topic<'a>(
        &'a self,
        topic: &'a str,
        fits: impl Fn(&OffsetAndMetadata) -> bool + 'a,
    ) -> impl Iterator<Item = (&'a Arc<str>, i32)> {
        let groups = self.pending.iter().filter_map(move |(group, topics)| Some((group, topics.get(topic)?)));
        let partitions = groups.flat_map(|(group, partitions)| partitions.iter().map(move |one| (group, one)));
        partitions.filter_map(move |(group, (&partition, pending))| {
            pending.by_producer.values().any(|(_, value)| fits(value)).then_some((group, partition))
        })
    }

    /// A producer commits an offset in its transaction.
    pub(crate) fn put(&mut self, producer_id: i64, place: GroupPartition, value: OffsetAndMetadata) {
        let number = self.next_number;
        self.next_number += 1;
        let topics = self.pending.entry(Arc::clone(&place.group)).or_default();
        let partitions = topics.entry(Arc::clone(&place.topic)).or_default();
        partitions.entry(place.partition).or_default().by_producer.insert(producer_id, (number, value));
        self.by_producer.entry(producer_id).or_default().insert(place);
    }

    /// An offset was committed outside of transactions: what was pending before does not replace it.
    pub(crate) fn overtake(&mut self, group: &str, topic: &str, partition: i32) {
        let number = self.next_number;
        if let Some(pending) = self.partition_mut(group, topic, partition) {
            pending.overtaken = number;
        }
    }

    /// The partition's offsets were deleted: what was pending is gone as well.
    pub(crate) fn remove(&mut self, place: &GroupPartition) {
        let Some(pending) = self.partition_mut(&place.group, &place.topic, place.partition) else { return };
        let pending = std::mem::take(pending);
        for producer_id in pending.by_producer.keys() {
            if let Some(places) = self.by_producer.get_mut(producer_id) {
                places.remove(place);
                if places.is_empty() {
                    self.by_producer.remove(producer_id);
                }
            }
        }
        self.drop_if_empty(place);
    }

    /// A producer's transaction has ended. Returns the offsets that count from now on: none, if it was aborted.
    pub(crate) fn end(&mut self, producer_id: i64, committed: bool) -> Vec<(GroupPartition, OffsetAndMetadata)> {
        let mut counting = Vec::new();
        for place in self.by_producer.remove(&producer_id).unwrap_or_default() {
            let Some(pending) = self.partition_mut(&place.group, &place.topic, place.partition) else { continue };
            let Some((number, value)) = pending.by_producer.remove(&producer_id) else { continue };
            let counts = committed && number >= pending.overtaken;
            if counts {
                pending.overtaken = number + 1;
            }
            self.drop_if_empty(&place);
            if counts {
                counting.push((place, value));
            }
        }
        counting
    }

    /// Whether the invariants hold.
    pub(crate) fn is_consistent(&self) -> bool {
        let mut by_producer: BTreeMap<i64, BTreeSet<GroupPartition>> = BTreeMap::new();
        for (group, topics) in &self.pending {
            for (topic, partitions) in topics {
                for (&partition, pending) in partitions {
                    for &producer_id in pending.by_producer.keys() {
                        let (group, topic) = (Arc::clone(group), Arc::clone(topic));
                        let place = GroupPartition { group, topic, partition };
                        by_producer.entry(producer_id).or_default().insert(place);
                    }
                    if pending.by_producer.is_empty() {
                        return false;
                    }
                }
            }
        }
        let no_level_empty =
            self.pending.values().all(|topics| !topics.is_empty() && topics.values().all(|each| !each.is_empty()));
        no_level_empty && by_producer == self.by_producer
    }

    fn partition(&self, group: &str, topic: &str, partition: i32) -> Option<&PendingOffsets> {
        self.pending.get(group)?.get(topic)?.get(&partition)
    }

    fn partition_mut(&mut self, group: &str, topic: &str, partition: i32) -> Option<&mut PendingOffsets> {
        self.pending.get_mut(group)?.get_mut(topic)?.get_mut(&partition)
    }

    fn drop_if_empty(&mut self, place: &GroupPartition) {
        let Some(topics) = self.pending.get_mut(&place.group) else { return };
        if let Some(partitions) = topics.get_mut(&place.topic) {
            if partitions.get(&place.partition).is_some_and(|pending| pending.by_producer.is_empty()) {
                partitions.remove(&place.partition);
            }
            if partitions.is_empty() {
                topics.remove(&place.topic);
            }
        }
        if topics.is_empty() {
            self.pending.remove(&place.group);
        }
    }
}
