//! What follows once the records of an outcome are committed, or could not be.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Step;
use crate::coordinator::GroupCoordinator;
use crate::error::{GroupError, StoreFailure};
use crate::group::{GroupState, Timeouts};
use crate::member::Member;
use crate::outcome::{Continuation, Effects, Now, Outcome, Response};
use crate::request::JoinRefused;
use crate::timers::TimerKey;

impl GroupCoordinator {
    /// Goes on where an outcome left off. The group may have moved on meanwhile, then nothing happens.
    pub fn handle_stored(
        &mut self,
        now: Now,
        continuation: Continuation,
        result: Result<(), StoreFailure>,
    ) -> Outcome<()> {
        let mut effects = Effects::default();
        match continuation {
            Continuation::GroupCreated { group } => {
                if let Err(failure) = result {
                    self.undo_creation(&group, failure.group_error(), &mut effects);
                }
            }
            Continuation::AssignmentStored { group, generation, assignments } => {
                if let Some(mut step) = self.step(&group, now, &mut effects) {
                    step.assignment_stored(generation, assignments, result);
                }
            }
            Continuation::StaticMemberReplaced {
                group,
                generation,
                member_id,
                previous,
                previous_leader,
                can_skip_assignment,
            } => {
                if let Some(mut step) = self.step(&group, now, &mut effects) {
                    match result {
                        Ok(()) => {
                            step.static_member_stored(generation, &member_id, &previous_leader, can_skip_assignment);
                        }
                        Err(failure) => {
                            step.restore_static_member(generation, &member_id, *previous, failure.group_error());
                        }
                    }
                }
            }
        }
        effects.with(Response::Now(()))
    }

    /// A group whose creation could not be recorded, and of which nothing else is, goes; whoever joined it is told.
    fn undo_creation(&mut self, group_id: &Arc<str>, error: GroupError, effects: &mut Effects) {
        if self.hard.groups.contains_key(group_id) || self.hard.has_offsets(group_id) {
            return;
        }
        let Some(group) = self.groups.remove(group_id) else { return };
        for member_id in group.members.keys().chain(&group.pending_members) {
            self.timers.cancel(&TimerKey::Session { group: group_id.clone(), member_id: member_id.clone() });
        }
        self.timers.cancel(&TimerKey::Join { group: group_id.clone() });
        self.timers.cancel(&TimerKey::Sync { group: group_id.clone() });
        for member in group.members.values() {
            if let Some(token) = member.awaiting_join {
                effects.release_join(token, Err(JoinRefused { error, member_id: "".into() }));
            }
            if let Some(token) = member.awaiting_sync {
                effects.release_sync(token, Err(error));
            }
        }
    }
}

impl Step<'_> {
    fn assignment_stored(
        &mut self,
        generation: i32,
        assignments: BTreeMap<Arc<str>, Bytes>,
        result: Result<(), StoreFailure>,
    ) {
        if self.group.state != GroupState::CompletingRebalance || self.group.generation != generation {
            return;
        }
        match result {
            Ok(()) => {
                for (member_id, assignment) in assignments {
                    if let Some(member) = self.group.members.get_mut(&member_id) {
                        member.assignment = assignment;
                    }
                }
                self.answer_syncs(None);
                self.group.transition(GroupState::Stable, self.now.wall_ms);
            }
            Err(failure) => {
                self.reset_assignments(failure.group_error());
                self.prepare_rebalance();
            }
        }
    }

    fn static_member_stored(
        &mut self,
        generation: i32,
        member_id: &Arc<str>,
        previous_leader: &Arc<str>,
        can_skip_assignment: bool,
    ) {
        if self.group.state != GroupState::Stable || self.group.generation != generation {
            // A rebalance began meanwhile and will answer the parked JoinGroup.
            return;
        }
        let Some(token) = self.group.take_awaiting_join(member_id) else { return };
        let mut joined = self.joined(member_id);
        if can_skip_assignment {
            joined.skip_assignment = self.group.is_leader(member_id);
        } else {
            // Older clients must not take the lead, or they would compute an assignment nobody asked for.
            joined.leader = previous_leader.clone();
            joined.members = Vec::new();
        }
        self.effects.release_join(token, Ok(joined));
        // A deadline that passed while the request was parked went without effect.
        self.keep_session(member_id);
    }

    fn restore_static_member(&mut self, generation: i32, member_id: &Arc<str>, previous: Member, error: GroupError) {
        if self.group.generation != generation {
            return;
        }
        let timeouts =
            Timeouts { rebalance_ms: previous.rebalance_timeout_ms, session_ms: previous.session_timeout_ms };
        if let Some(token) = self.group.update(member_id, previous.protocols, timeouts, None) {
            self.effects.release_join(token, Err(JoinRefused { error, member_id: "".into() }));
        }
        if self.group.members.contains_key(member_id) {
            self.rename(member_id, &previous.member_id);
            self.complete_join_if_all_joined();
        }
    }
}
