//! Replaying a record: the only way the hard state changes.

use crate::coordinator::GroupCoordinator;
use crate::group::{GroupState, LiveGroup};
use crate::outcome::Now;
use crate::record::GroupRecord;
use crate::timers::TimerKey;

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
                let forgotten = !self.hard.offsets.contains_key(&group)
                    && self.groups.get(&group).is_some_and(|live| live.state == GroupState::Empty);
                if forgotten && let Some(live) = self.groups.remove(&group) {
                    for member_id in live.pending_members {
                        self.timers.cancel(&TimerKey::Session { group: group.clone(), member_id });
                    }
                }
            }
            GroupRecord::OffsetCommit { group, topic, partition, value: Some(value) } => {
                if self.loaded && !self.groups.contains_key(&group) {
                    self.groups.insert(group.clone(), LiveGroup::empty(group.clone(), now.wall_ms));
                }
                self.hard.put_offset(&group, &topic, partition, value);
            }
            GroupRecord::OffsetCommit { group, topic, partition, value: None } => {
                self.hard.remove_offset(&group, &topic, partition);
            }
        }
    }
}
