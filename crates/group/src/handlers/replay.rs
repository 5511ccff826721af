//! Replaying a record: the only way the hard state changes.

use std::sync::Arc;

use crate::coordinator::GroupCoordinator;
use crate::group::{GroupState, LiveGroup};
use crate::outcome::Now;
use crate::record::GroupRecord;
use crate::timers::TimerKey;
use crate::transactional_offsets::GroupPartition;

impl GroupCoordinator {
    /// Applies a record that is in the log.
    pub fn replay(&mut self, now: Now, record: GroupRecord) {
        match record {
            GroupRecord::GroupMetadata { group, value: Some(value) } => {
                if self.loaded && !self.groups.contains_key(&group) {
                    self.groups.insert(group.clone(), LiveGroup::from_record(group.clone(), &value));
                }
                self.hard.groups.insert(group, value);
            }
            GroupRecord::GroupMetadata { group, value: None } => {
                self.hard.groups.remove(&group);
                let forgotten = !self.hard.has_offsets(&group)
                    && self.groups.get(&group).is_some_and(|live| live.state == GroupState::Empty);
                if forgotten && let Some(live) = self.groups.remove(&group) {
                    for member_id in live.pending_members {
                        self.timers.cancel(&TimerKey::Session { group: group.clone(), member_id });
                    }
                }
            }
            GroupRecord::OffsetCommit { group, topic, partition, value: Some(value) } => {
                self.found_group(now, &group);
                self.hard.transactional.overtake(&group, &topic, partition);
                self.hard.put_offset(&group, &topic, partition, value);
            }
            GroupRecord::OffsetCommit { group, topic, partition, value: None } => {
                self.hard.remove_offset(&group, &topic, partition);
                self.hard.transactional.remove(&GroupPartition { group, topic, partition });
            }
        }
    }

    /// Applies a record of a producer's transaction that is in the log: an offset counts when the transaction is committed.
    pub fn replay_transactional(&mut self, now: Now, producer_id: i64, record: GroupRecord) {
        match record {
            GroupRecord::OffsetCommit { group, topic, partition, value: Some(value) } => {
                self.found_group(now, &group);
                self.hard.transactional.put(producer_id, GroupPartition { group, topic, partition }, value);
            }
            // Tombstones do not wait, as in Kafka; groups are not recorded in transactions.
            record => self.replay(now, record),
        }
    }

    /// Applies the end of a producer's transaction that is in the log.
    pub fn replay_transaction_end(&mut self, producer_id: i64, committed: bool) {
        for (place, value) in self.hard.transactional.end(producer_id, committed) {
            self.hard.put_offset(&place.group, &place.topic, place.partition, value);
        }
    }

    /// Whoever commits offsets without members founds a group that only keeps offsets.
    fn found_group(&mut self, now: Now, group: &Arc<str>) {
        if self.loaded && !self.groups.contains_key(group) {
            self.groups.insert(Arc::clone(group), LiveGroup::empty(Arc::clone(group), now.wall_ms));
        }
    }
}
