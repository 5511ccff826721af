//! JoinGroup.

use std::sync::Arc;

use bytes::Bytes;

use super::Step;
use crate::coordinator::GroupCoordinator;
use crate::error::GroupError;
use crate::group::{GroupState, LiveGroup, Timeouts};
use crate::member::Member;
use crate::outcome::{Continuation, Effects, Now, Outcome, RequestToken, Response};
use crate::record::GroupRecord;
use crate::request::{JoinGroup, JoinRefused, Joined};

/// The answer to a JoinGroup.
type JoinResponse = Response<Result<Joined, JoinRefused>>;

impl GroupCoordinator {
    /// A client joins, or joins again. A parked request may be released by the very outcome that parks it.
    pub fn handle_join(&mut self, now: Now, request: JoinGroup) -> Outcome<Result<Joined, JoinRefused>> {
        if request.group.is_empty() {
            return Outcome::now(refused(GroupError::InvalidGroupId, &request.member_id));
        }
        let allowed = self.settings.min_session_timeout_ms..=self.settings.max_session_timeout_ms;
        if !allowed.contains(&request.session_timeout_ms) {
            return Outcome::now(refused(GroupError::InvalidSessionTimeout, &request.member_id));
        }
        let group_id = request.group.clone();
        let created = !self.groups.contains_key(&group_id);
        if created {
            if !request.member_id.is_empty() {
                return Outcome::now(refused(GroupError::UnknownMemberId, &request.member_id));
            }
            self.groups.insert(group_id.clone(), LiveGroup::empty(group_id.clone(), now.wall_ms));
        }

        let mut effects = Effects::default();
        let mut step =
            self.step(&group_id, now, &mut effects).expect("invariant: the group exists or was just created");
        let empty_group = created.then(|| step.group.to_record(&std::collections::BTreeMap::new()));
        let response = step.join(request);

        if let Some(value) = empty_group {
            if matches!(&response, Response::Now(Err(refusal)) if refusal.error != GroupError::MemberIdRequired) {
                // Nobody came of it: the group has no reason to exist.
                self.groups.remove(&group_id);
            } else {
                // The group is to outlive this coordinator even if its first rebalance does not end.
                effects.records.push(GroupRecord::GroupMetadata { group: group_id.clone(), value: Some(value) });
                effects.stored = Some(Continuation::GroupCreated { group: group_id });
            }
        }
        effects.with(response)
    }
}

impl Step<'_> {
    fn join(&mut self, request: JoinGroup) -> JoinResponse {
        if !self.accepts(&request.member_id) {
            self.remove_member(&request.member_id);
            return Response::Now(refused(GroupError::GroupMaxSizeReached, ""));
        }
        if !self.group.supports_protocols(&request.protocol_type, &request.protocols) {
            return Response::Now(refused(GroupError::InconsistentGroupProtocol, &request.member_id));
        }
        if request.member_id.is_empty() { self.join_new_member(request) } else { self.join_known_member(request) }
    }

    /// Whether there is room. While members rejoin, those who already have count: so the last to rejoin are turned away
    /// when `group.max.size` was lowered.
    fn accepts(&self, member_id: &str) -> bool {
        let group = &*self.group;
        match group.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                group.members.get(member_id).is_some_and(|member| member.awaiting_join.is_some())
                    || group.awaiting_join < self.settings.max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                group.members.contains_key(member_id) || group.members.len() < self.settings.max_size
            }
        }
    }

    fn join_new_member(&mut self, request: JoinGroup) -> JoinResponse {
        let prefix = request.group_instance_id.as_ref().unwrap_or(&request.client_id);
        let member_id: Arc<str> = format!("{prefix}-{}", request.new_member_suffix).into();
        if let Some(instance_id) = &request.group_instance_id {
            return match self.group.static_members.get(instance_id).cloned() {
                Some(present) => self.replace_static_member(&request, &present, &member_id),
                None => self.add_member(request, &member_id),
            };
        }
        if request.requires_known_member_id {
            // The id goes to the client first: a client that never reads the answer leaves no member behind.
            self.group.pending_members.insert(member_id.clone());
            self.schedule_session(&member_id, i64::from(request.session_timeout_ms));
            return Response::Now(refused(GroupError::MemberIdRequired, &member_id));
        }
        self.add_member(request, &member_id)
    }

    fn join_known_member(&mut self, request: JoinGroup) -> JoinResponse {
        let member_id = request.member_id.clone();
        if self.group.pending_members.contains(&member_id) {
            if request.group_instance_id.is_some() {
                // Static members are never handed an id to come back with.
                return Response::Now(refused(GroupError::UnknownServerError, &member_id));
            }
            return self.add_member(request, &member_id);
        }
        if let Err(error) = self.group.validate_member(&member_id, request.group_instance_id.as_deref()) {
            return Response::Now(refused(error, &member_id));
        }
        let unchanged = self.group.members.get(&member_id).is_some_and(|member| member.protocols == request.protocols);
        match self.group.state {
            // The answer to an earlier JoinGroup of this generation may have been lost.
            GroupState::CompletingRebalance if unchanged => Response::Now(Ok(self.joined(&member_id))),
            GroupState::PreparingRebalance | GroupState::CompletingRebalance => self.rejoin(&request),
            // The leader joins again when what it assigns has changed, such as the partitions of a topic.
            GroupState::Stable if self.group.is_leader(&member_id) || !unchanged => self.rejoin(&request),
            GroupState::Stable => Response::Now(Ok(self.joined(&member_id))),
            GroupState::Empty | GroupState::Dead => Response::Now(refused(GroupError::UnknownMemberId, &member_id)),
        }
    }

    fn add_member(&mut self, request: JoinGroup, member_id: &Arc<str>) -> JoinResponse {
        if self.group.state == GroupState::PreparingRebalance && self.group.previous_state == GroupState::Empty {
            self.group.new_member_added = true;
        }
        if self.group.members.is_empty() {
            self.group.protocol_type = Some(request.protocol_type.clone());
        }
        self.group.insert(Member {
            member_id: member_id.clone(),
            group_instance_id: request.group_instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            is_new: true,
            awaiting_join: Some(request.token),
            awaiting_sync: None,
        });
        // A member that waits for its first generation cannot send heartbeats, and a client that gave up and retried
        // leaves a ghost: so its wait is bounded by a timeout of its own.
        self.schedule_session(member_id, self.settings.new_member_join_timeout_ms);
        self.rebalance_or_complete_join();
        Response::Parked
    }

    fn rejoin(&mut self, request: &JoinGroup) -> JoinResponse {
        self.update_member(&request.member_id, request, Some(request.token));
        self.rebalance_or_complete_join();
        Response::Parked
    }

    /// Takes over what the request says of the member. A JoinGroup it had parked is answered: the client that sent it
    /// has sent another since.
    pub(super) fn update_member(&mut self, member_id: &Arc<str>, request: &JoinGroup, token: Option<RequestToken>) {
        let timeouts = Timeouts { rebalance_ms: request.rebalance_timeout_ms, session_ms: request.session_timeout_ms };
        let replaced = self.group.update(member_id, request.protocols.clone(), timeouts, token);
        if let Some(replaced) = replaced {
            let refusal = JoinRefused { error: GroupError::RebalanceInProgress, member_id: member_id.clone() };
            self.effects.release_join(replaced, Err(refusal));
        }
    }
}

fn refused(error: GroupError, member_id: &str) -> Result<Joined, JoinRefused> {
    Err(JoinRefused { error, member_id: member_id.into() })
}
