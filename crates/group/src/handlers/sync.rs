//! SyncGroup.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Step;
use crate::coordinator::GroupCoordinator;
use crate::error::GroupError;
use crate::group::GroupState;
use crate::outcome::{Continuation, Effects, Now, Outcome, Response};
use crate::record::GroupRecord;
use crate::request::{SyncGroup, Synced};
use crate::timers::TimerKey;

impl GroupCoordinator {
    /// A member asks for its assignment; the leader brings everybody's.
    pub fn handle_sync(&mut self, now: Now, request: SyncGroup) -> Outcome<Result<Synced, GroupError>> {
        if request.group.is_empty() {
            return Outcome::now(Err(GroupError::InvalidGroupId));
        }
        let mut effects = Effects::default();
        let response = match self.step(&request.group.clone(), now, &mut effects) {
            Some(mut step) => step.sync(request),
            None => Response::Now(Err(GroupError::UnknownMemberId)),
        };
        effects.with(response)
    }
}

impl Step<'_> {
    fn sync(&mut self, request: SyncGroup) -> Response<Result<Synced, GroupError>> {
        if let Err(error) = self.validate_sync(&request) {
            return Response::Now(Err(error));
        }
        match self.group.state {
            GroupState::PreparingRebalance => Response::Now(Err(GroupError::RebalanceInProgress)),
            GroupState::CompletingRebalance => {
                self.sync_received(&request.member_id);
                let replaced = self
                    .group
                    .members
                    .get_mut(&request.member_id)
                    .and_then(|member| member.awaiting_sync.replace(request.token));
                if let Some(replaced) = replaced {
                    // The client that sent it has sent another since.
                    self.effects.release_sync(replaced, Err(GroupError::RebalanceInProgress));
                }
                if self.group.is_leader(&request.member_id) {
                    self.store_assignment(request.assignments);
                }
                Response::Parked
            }
            GroupState::Stable => {
                self.sync_received(&request.member_id);
                let assignment = self
                    .group
                    .members
                    .get(&request.member_id)
                    .map(|member| member.assignment.clone())
                    .unwrap_or_default();
                Response::Now(Ok(Synced {
                    protocol_type: self.group.protocol_type.clone(),
                    protocol_name: self.group.protocol_name.clone(),
                    assignment,
                }))
            }
            GroupState::Empty | GroupState::Dead => Response::Now(Err(GroupError::UnknownMemberId)),
        }
    }

    fn validate_sync(&self, request: &SyncGroup) -> Result<(), GroupError> {
        self.group.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation != self.group.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if differ(request.protocol_type.as_ref(), self.group.protocol_type.as_ref())
            || differ(request.protocol_name.as_ref(), self.group.protocol_name.as_ref())
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn sync_received(&mut self, member_id: &str) {
        self.group.pending_sync.remove(member_id);
        if self.group.pending_sync.is_empty() {
            self.timers.cancel(&TimerKey::Sync { group: self.group.group.clone() });
        }
    }

    /// Records the leader's assignment: members whom it left out get nothing, and what it says of strangers is dropped.
    fn store_assignment(&mut self, assigned: Vec<(Arc<str>, Bytes)>) {
        let mut assigned: BTreeMap<Arc<str>, Bytes> = assigned.into_iter().collect();
        let assignments: BTreeMap<Arc<str>, Bytes> = self
            .group
            .members
            .keys()
            .map(|member_id| (member_id.clone(), assigned.remove(member_id).unwrap_or_default()))
            .collect();
        self.group.storing_assignment = true;
        let value = self.group.to_record(&assignments);
        self.effects.records.push(GroupRecord::GroupMetadata { group: self.group.group.clone(), value: Some(value) });
        self.effects.stored = Some(Continuation::AssignmentStored {
            group: self.group.group.clone(),
            generation: self.group.generation,
            assignments,
        });
    }
}

/// Whether both are known and not the same: old clients do not send them.
fn differ(requested: Option<&Arc<str>>, present: Option<&Arc<str>>) -> bool {
    matches!((requested, present), (Some(requested), Some(present)) if requested != present)
}
