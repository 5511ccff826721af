//! OffsetDelete.

use crate::coordinator::GroupCoordinator;
use crate::error::GroupError;
use crate::group::{GroupState, LiveGroup};
use crate::outcome::{Effects, Outcome, Response};
use crate::record::GroupRecord;
use crate::request::{DeleteOffsets, DeletedOffsets, DeletedPartition};

impl GroupCoordinator {
    /// Forgets offsets of a group, except of topics its members subscribe to. What was never committed is deleted too.
    pub fn handle_delete_offsets(&self, request: DeleteOffsets) -> Outcome<Result<Vec<DeletedOffsets>, GroupError>> {
        let group = &request.group;
        let Some(live) = self.groups.get(group) else { return Outcome::now(Err(GroupError::GroupIdNotFound)) };
        if !may_lose_offsets(live) {
            return Outcome::now(Err(GroupError::NonEmptyGroup));
        }
        let mut effects = Effects::divisible();
        let mut topics = Vec::with_capacity(request.topics.len());
        for (topic, partitions) in request.topics {
            let error = live.is_subscribed_to(&topic).then_some(GroupError::GroupSubscribedToTopic);
            if error.is_none() {
                let committed = partitions.iter().filter(|partition| {
                    self.hard.offset(group, &topic, **partition).is_some()
                        || self.hard.transactional.is_unstable(group, &topic, **partition)
                });
                effects.records.extend(committed.map(|&partition| GroupRecord::OffsetCommit {
                    group: group.clone(),
                    topic: topic.clone(),
                    partition,
                    value: None,
                }));
            }
            let partitions = partitions.into_iter().map(|partition| DeletedPartition { partition, error }).collect();
            topics.push(DeletedOffsets { topic, partitions });
        }
        effects.with(Response::Now(Ok(topics)))
    }
}

/// With members, only the `consumer` protocol tells which topics are still needed.
fn may_lose_offsets(live: &LiveGroup) -> bool {
    match live.state {
        GroupState::Empty | GroupState::Dead => true,
        GroupState::PreparingRebalance | GroupState::CompletingRebalance | GroupState::Stable => {
            live.uses_consumer_protocol()
        }
    }
}
