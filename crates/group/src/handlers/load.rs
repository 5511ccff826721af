//! Taking the coordination of the partition's groups up, and giving it up.

use crate::coordinator::GroupCoordinator;
use crate::error::GroupError;
use crate::group::LiveGroup;
use crate::outcome::{Effects, Now, Outcome, Released, Response};
use crate::request::JoinRefused;
use crate::timers::TimerKey;

impl GroupCoordinator {
    /// Every record has been replayed: groups come to life. Their members have a whole session to show themselves.
    pub fn handle_loaded(&mut self, now: Now) -> Outcome<()> {
        self.loaded = true;
        self.groups = self
            .hard
            .groups
            .iter()
            .map(|(group, recorded)| (group.clone(), LiveGroup::from_record(group.clone(), recorded)))
            .collect();
        for group in self.hard.offsets.keys().chain(self.hard.transactional.groups()) {
            if !self.groups.contains_key(group) {
                self.groups.insert(group.clone(), LiveGroup::empty(group.clone(), now.wall_ms));
            }
        }
        let mut effects = Effects::default();
        let with_members: Vec<_> =
            self.groups.values().filter(|live| !live.members.is_empty()).map(|live| live.group.clone()).collect();
        for group in with_members {
            let Some(mut step) = self.step(&group, now, &mut effects) else { continue };
            let member_ids: Vec<_> = step.group.members.keys().cloned().collect();
            for member_id in &member_ids {
                step.keep_session(member_id);
            }
            if member_ids.len() > step.settings.max_size {
                // `group.max.size` was lowered: rejoining decides who stays, and lets the others commit first.
                step.prepare_rebalance();
            }
        }
        self.schedule_offset_expiry(now);
        effects.with(Response::Now(()))
    }

    /// This node is no longer the coordinator: parked requests are answered so, and nothing live remains.
    pub fn handle_unload(&mut self) -> Vec<Released> {
        let mut effects = Effects::default();
        for member in self.groups.values().flat_map(|live| live.members.values()) {
            if let Some(token) = member.awaiting_join {
                let refusal = JoinRefused { error: GroupError::NotCoordinator, member_id: member.member_id.clone() };
                effects.release_join(token, Err(refusal));
            }
            if let Some(token) = member.awaiting_sync {
                effects.release_sync(token, Err(GroupError::NotCoordinator));
            }
        }
        self.loaded = false;
        self.groups.clear();
        self.timers.clear();
        self.expiry_cursor = None;
        effects.released
    }

    pub(super) fn schedule_offset_expiry(&mut self, now: Now) {
        let interval_ms = self.settings.offsets_retention_check_interval_ms.max(1);
        self.timers.schedule(TimerKey::OffsetExpiry, now.monotonic_ms + interval_ms);
    }
}
