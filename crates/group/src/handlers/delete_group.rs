//! DeleteGroups, for one group.

use std::sync::Arc;

use crate::coordinator::GroupCoordinator;
use crate::error::GroupError;
use crate::group::GroupState;
use crate::outcome::{Effects, Outcome, Response};
use crate::record::GroupRecord;

impl GroupCoordinator {
    /// Forgets a group that has no members, and everything it committed.
    pub fn handle_delete_group(&self, group: &Arc<str>) -> Outcome<Result<(), GroupError>> {
        let Some(live) = self.groups.get(group) else { return Outcome::now(Err(GroupError::GroupIdNotFound)) };
        if live.state != GroupState::Empty {
            return Outcome::now(Err(GroupError::NonEmptyGroup));
        }
        let mut effects = Effects::divisible();
        let topics = self.hard.offsets.get(group).into_iter().flatten();
        let committed =
            topics.flat_map(|(topic, partitions)| partitions.keys().map(move |&partition| (topic, partition)));
        let pending = self.hard.transactional.of_group(group);
        let pending = pending.filter(|(topic, partition)| self.hard.offset(group, topic, *partition).is_none());
        effects.records.extend(committed.chain(pending).map(|(topic, partition)| GroupRecord::OffsetCommit {
            group: group.clone(),
            topic: topic.clone(),
            partition,
            value: None,
        }));
        // Last, so that nothing is left of the group when it is replayed.
        effects.records.push(GroupRecord::GroupMetadata { group: group.clone(), value: None });
        effects.with(Response::Now(Ok(())))
    }
}
