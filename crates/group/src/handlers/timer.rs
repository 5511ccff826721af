//! Deadlines that have come.

use std::sync::Arc;

use super::Step;
use crate::coordinator::GroupCoordinator;
use crate::group::GroupState;
use crate::outcome::{Effects, Now, Outcome, Response};
use crate::timers::TimerKey;

impl GroupCoordinator {
    /// Does what the first due deadline asks for; `None` when none is due. To be called until then.
    pub fn handle_due_timer(&mut self, now: Now) -> Option<Outcome<()>> {
        let key = self.timers.pop_due(now.monotonic_ms)?;
        let mut effects = Effects::default();
        match key {
            TimerKey::Session { group, member_id } => {
                if let Some(mut step) = self.step(&group, now, &mut effects) {
                    step.session_ended(&member_id);
                }
            }
            TimerKey::Join { group } => {
                if let Some(mut step) = self.step(&group, now, &mut effects) {
                    step.join_deadline();
                }
            }
            TimerKey::Sync { group } => {
                if let Some(mut step) = self.step(&group, now, &mut effects) {
                    step.sync_deadline();
                }
            }
            TimerKey::OffsetExpiry => {
                effects.divisible = true;
                self.expire_offsets(now, &mut effects);
            }
        }
        Some(effects.with(Response::Now(())))
    }
}

impl Step<'_> {
    fn session_ended(&mut self, member_id: &Arc<str>) {
        match self.group.members.get(member_id) {
            Some(member) if member.has_satisfied_heartbeat() => return,
            Some(_) => self.remove_member(member_id),
            None => {
                self.group.pending_members.remove(member_id);
                if self.group.state != GroupState::PreparingRebalance {
                    return;
                }
            }
        }
        match self.group.state {
            GroupState::PreparingRebalance if self.group.has_all_members_joined() => self.complete_join(),
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(),
            GroupState::PreparingRebalance | GroupState::Empty | GroupState::Dead => {}
        }
    }

    fn sync_deadline(&mut self) {
        if !matches!(self.group.state, GroupState::CompletingRebalance | GroupState::Stable)
            || self.group.pending_sync.is_empty()
        {
            return;
        }
        let silent: Vec<Arc<str>> = self.group.pending_sync.iter().cloned().collect();
        for member_id in &silent {
            self.remove_member(member_id);
        }
        self.prepare_rebalance();
    }
}
