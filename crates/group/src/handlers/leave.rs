//! LeaveGroup.

use std::sync::Arc;

use super::Step;
use crate::coordinator::GroupCoordinator;
use crate::error::GroupError;
use crate::outcome::{Effects, Now, Outcome, Response};
use crate::request::{LeaveGroup, LeavingMember, LeftMember};

impl GroupCoordinator {
    /// Members leave, or an administrator removes them. One rebalance serves all who leave together.
    pub fn handle_leave(&mut self, now: Now, request: LeaveGroup) -> Outcome<Result<Vec<LeftMember>, GroupError>> {
        if request.group.is_empty() {
            return Outcome::now(Err(GroupError::InvalidGroupId));
        }
        let mut effects = Effects::default();
        let Some(mut step) = self.step(&request.group, now, &mut effects) else {
            let unknown = request.members.into_iter().map(|member| left(member, Some(GroupError::UnknownMemberId)));
            return Outcome::now(Ok(unknown.collect()));
        };
        let mut any_left = false;
        let mut members = Vec::with_capacity(request.members.len());
        for member in request.members {
            let result = step.leave(&member);
            any_left |= result.is_ok();
            members.push(left(member, result.err()));
        }
        if any_left {
            step.after_removal();
        }
        effects.with(Response::Now(Ok(members)))
    }
}

impl Step<'_> {
    fn leave(&mut self, member: &LeavingMember) -> Result<(), GroupError> {
        let member_id: Arc<str> = if member.member_id.is_empty() {
            let instance_id = member.group_instance_id.as_ref().ok_or(GroupError::UnknownMemberId)?;
            self.group.static_members.get(instance_id).cloned().ok_or(GroupError::UnknownMemberId)?
        } else {
            if !self.group.pending_members.contains(&member.member_id) {
                self.group.validate_member(&member.member_id, member.group_instance_id.as_deref())?;
            }
            member.member_id.clone()
        };
        self.remove_member(&member_id);
        Ok(())
    }
}

fn left(member: LeavingMember, error: Option<GroupError>) -> LeftMember {
    LeftMember { member_id: member.member_id, group_instance_id: member.group_instance_id, error }
}
