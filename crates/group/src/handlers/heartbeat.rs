//! Heartbeat.

use crate::coordinator::GroupCoordinator;
use crate::error::GroupError;
use crate::group::GroupState;
use crate::outcome::{Effects, Now};
use crate::request::Heartbeat;

impl GroupCoordinator {
    /// A member is alive. It learns here that a rebalance began.
    pub fn handle_heartbeat(&mut self, now: Now, request: &Heartbeat) -> Result<(), GroupError> {
        if request.group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let mut effects = Effects::default();
        let mut step = self.step(&request.group, now, &mut effects).ok_or(GroupError::UnknownMemberId)?;
        step.group.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation != step.group.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match step.group.state {
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMemberId),
            GroupState::PreparingRebalance => {
                step.keep_session(&request.member_id);
                Err(GroupError::RebalanceInProgress)
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                step.keep_session(&request.member_id);
                Ok(())
            }
        }
    }
}
