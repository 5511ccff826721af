//! A static member that comes back without its member id (KIP-345): it takes the place of its former self.

use std::sync::Arc;

use super::Step;
use crate::error::GroupError;
use crate::group::GroupState;
use crate::outcome::{Continuation, Response};
use crate::record::GroupRecord;
use crate::request::{JoinGroup, JoinRefused, Joined};

impl Step<'_> {
    /// Gives the member `present` the id `member_id`. A stable group whose protocol stays the same does not rebalance:
    /// the member is recorded under its new id and keeps its assignment.
    pub(super) fn replace_static_member(
        &mut self,
        request: &JoinGroup,
        present: &Arc<str>,
        member_id: &Arc<str>,
    ) -> Response<Result<Joined, JoinRefused>> {
        let Some(previous) = self.group.members.get(present).cloned() else {
            return Response::Now(Err(JoinRefused { error: GroupError::UnknownMemberId, member_id: "".into() }));
        };
        let previous_leader = self.group.leader.clone().unwrap_or_default();

        if let Some(token) = previous.awaiting_join {
            self.effects.release_join(
                token,
                Err(JoinRefused { error: GroupError::FencedInstanceId, member_id: present.clone() }),
            );
        }
        if let Some(token) = previous.awaiting_sync {
            self.effects.release_sync(token, Err(GroupError::FencedInstanceId));
        }
        self.rename(present, member_id);
        self.update_member(member_id, request, Some(request.token));

        match self.group.state {
            GroupState::Stable if self.group.select_protocol() == self.group.protocol_name => {
                let value = self.group.to_record(&self.group.assignments());
                self.effects
                    .records
                    .push(GroupRecord::GroupMetadata { group: self.group.group.clone(), value: Some(value) });
                self.effects.stored = Some(Continuation::StaticMemberReplaced {
                    group: self.group.group.clone(),
                    generation: self.group.generation,
                    member_id: member_id.clone(),
                    previous: Box::new(previous),
                    previous_leader,
                    can_skip_assignment: request.can_skip_assignment,
                });
            }
            // While an assignment is computed the leader knows the member by its old id, so a new rebalance is needed.
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(),
            GroupState::PreparingRebalance | GroupState::Empty | GroupState::Dead => self.complete_join_if_all_joined(),
        }
        Response::Parked
    }

    /// Moves a static member, and its session, to another member id. Its parked requests are the caller's.
    pub(super) fn rename(&mut self, old_member_id: &Arc<str>, new_member_id: &Arc<str>) {
        self.timers.cancel(&self.session_key(old_member_id));
        self.group.rename_static(old_member_id, new_member_id);
        if let Some(member) = self.group.members.get_mut(new_member_id) {
            member.is_new = false;
        }
        self.keep_session(new_member_id);
    }
}
