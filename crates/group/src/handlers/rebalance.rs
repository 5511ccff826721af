//! The phases of a rebalance, which joins, departures and deadlines all move along.
//!
//! `PreparingRebalance` ends when everybody has rejoined or at the deadline of the join phase; `CompletingRebalance` when
//! the leader's assignment is stored, or with a new rebalance when somebody never sends SyncGroup.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::GroupError;
use crate::group::{GroupState, JoinPhase, LiveGroup};
use crate::outcome::{Effects, Now};
use crate::record::GroupRecord;
use crate::request::{JoinRefused, Joined, Synced};
use crate::settings::GroupSettings;
use crate::timers::{TimerKey, Timers};

/// One group, and what it takes to move it one step.
pub(crate) struct Step<'a> {
    pub group: &'a mut LiveGroup,
    pub timers: &'a mut Timers,
    pub settings: &'a GroupSettings,
    pub effects: &'a mut Effects,
    pub now: Now,
}

impl Step<'_> {
    /// Begins a rebalance if the state allows, else sees whether the one in progress can go on.
    pub fn rebalance_or_complete_join(&mut self) {
        if self.group.can_rebalance() {
            self.prepare_rebalance();
        } else {
            self.complete_join_if_all_joined();
        }
    }

    /// Begins a rebalance: whoever waits for an assignment is told to join again.
    pub fn prepare_rebalance(&mut self) {
        if self.group.state == GroupState::CompletingRebalance {
            self.reset_assignments(GroupError::RebalanceInProgress);
        }
        self.group.pending_sync.clear();
        self.timers.cancel(&TimerKey::Sync { group: self.group.group.clone() });

        let initial = self.group.state == GroupState::Empty;
        self.group.transition(GroupState::PreparingRebalance, self.now.wall_ms);
        if initial {
            // The first members of a group tend to arrive together: give the others time, so that one rebalance serves all.
            let delay_ms = self.settings.initial_rebalance_delay_ms;
            let remaining_ms = (self.group.rebalance_timeout_ms() - delay_ms).max(0);
            self.group.new_member_added = false;
            self.schedule_join(JoinPhase::Initial { delay_ms, remaining_ms }, delay_ms);
        } else if self.group.has_all_members_joined() {
            self.complete_join();
        } else {
            let timeout_ms = self.group.rebalance_timeout_ms();
            self.schedule_join(JoinPhase::Rejoin, timeout_ms);
        }
    }

    /// Ends the join phase if nobody is missing. An initial rebalance always waits for its deadline.
    pub fn complete_join_if_all_joined(&mut self) {
        if self.group.state == GroupState::PreparingRebalance
            && self.group.previous_state != GroupState::Empty
            && self.group.has_all_members_joined()
        {
            self.complete_join();
        }
    }

    /// The deadline of the join phase has come.
    pub fn join_deadline(&mut self) {
        if self.group.state != GroupState::PreparingRebalance {
            return;
        }
        match self.group.join_phase {
            JoinPhase::Initial { delay_ms, remaining_ms } if self.group.new_member_added && remaining_ms != 0 => {
                self.group.new_member_added = false;
                let next_delay_ms = self.settings.initial_rebalance_delay_ms.min(remaining_ms);
                let phase =
                    JoinPhase::Initial { delay_ms: next_delay_ms, remaining_ms: (remaining_ms - delay_ms).max(0) };
                self.schedule_join(phase, next_delay_ms);
            }
            JoinPhase::Initial { .. } | JoinPhase::Rejoin => self.complete_join(),
        }
    }

    /// Ends the join phase with those who are there: dynamic members that did not rejoin are out, static ones are waited
    /// for once more, until the sync deadline.
    pub fn complete_join(&mut self) {
        self.timers.cancel(&TimerKey::Join { group: self.group.group.clone() });
        let missing: Vec<Arc<str>> = self
            .group
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && !member.is_static())
            .map(|member| member.member_id.clone())
            .collect();
        for member_id in missing {
            self.remove_member(&member_id);
        }

        if !self.group.elect_joined_leader() && !self.group.members.is_empty() {
            // Only static members are left and none rejoined: wait for them, or for their sessions to end.
            let timeout_ms = self.group.rebalance_timeout_ms();
            self.schedule_join(JoinPhase::Rejoin, timeout_ms);
            return;
        }
        self.group.begin_generation(self.now.wall_ms);
        if self.group.state == GroupState::Empty {
            let value = self.group.to_record(&std::collections::BTreeMap::new());
            self.effects
                .records
                .push(GroupRecord::GroupMetadata { group: self.group.group.clone(), value: Some(value) });
            return;
        }
        let member_ids: Vec<Arc<str>> = self.group.members.keys().cloned().collect();
        for member_id in member_ids {
            if let Some(token) = self.group.take_awaiting_join(&member_id) {
                let joined = self.joined(&member_id);
                self.effects.release_join(token, Ok(joined));
            }
            self.keep_session(&member_id);
            if let Some(member) = self.group.members.get_mut(&member_id) {
                member.is_new = false;
            }
            self.group.pending_sync.insert(member_id);
        }
        let deadline_ms = self.now.monotonic_ms + self.group.rebalance_timeout_ms();
        self.timers.schedule(TimerKey::Sync { group: self.group.group.clone() }, deadline_ms);
    }

    /// The present generation, as a member joins it.
    pub fn joined(&self, member_id: &Arc<str>) -> Joined {
        let group = &*self.group;
        Joined {
            generation: group.generation,
            protocol_type: group.protocol_type.clone(),
            protocol_name: group.protocol_name.clone(),
            leader: group.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.clone(),
            members: if group.is_leader(member_id) { group.joined_members() } else { Vec::new() },
        }
    }

    /// Drops every assignment and tells those who wait for one why.
    pub fn reset_assignments(&mut self, error: GroupError) {
        for member in self.group.members.values_mut() {
            member.assignment = Bytes::new();
        }
        self.answer_syncs(Some(error));
    }

    /// Answers the parked SyncGroups, with assignments or with an error. Sessions start anew: a deadline that passed
    /// while the request was parked went without effect and left no other behind.
    pub fn answer_syncs(&mut self, error: Option<GroupError>) {
        let waiting: Vec<Arc<str>> = self
            .group
            .members
            .values()
            .filter(|member| member.awaiting_sync.is_some())
            .map(|member| member.member_id.clone())
            .collect();
        for member_id in waiting {
            let Some(member) = self.group.members.get_mut(&member_id) else { continue };
            let Some(token) = member.awaiting_sync.take() else { continue };
            let response = match error {
                Some(error) => Err(error),
                None => Ok(Synced {
                    protocol_type: self.group.protocol_type.clone(),
                    protocol_name: self.group.protocol_name.clone(),
                    assignment: member.assignment.clone(),
                }),
            };
            self.effects.release_sync(token, response);
            self.keep_session(&member_id);
        }
    }

    /// Removes a member or a pending member id, with its deadline; what it had parked is answered UNKNOWN_MEMBER_ID, on
    /// which a client that is still there joins anew.
    pub fn remove_member(&mut self, member_id: &Arc<str>) {
        self.timers.cancel(&self.session_key(member_id));
        let Some(member) = self.group.remove(member_id) else { return };
        if let Some(token) = member.awaiting_join {
            self.effects
                .release_join(token, Err(JoinRefused { error: GroupError::UnknownMemberId, member_id: "".into() }));
        }
        if let Some(token) = member.awaiting_sync {
            self.effects.release_sync(token, Err(GroupError::UnknownMemberId));
        }
        // The others of the generation may be all that was waited for.
        if self.group.pending_sync.is_empty() {
            self.timers.cancel(&TimerKey::Sync { group: self.group.group.clone() });
        }
    }

    /// Moves the group on after members left it.
    pub fn after_removal(&mut self) {
        match self.group.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(),
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// Starts a member's session anew.
    pub fn keep_session(&mut self, member_id: &Arc<str>) {
        let Some(member) = self.group.members.get(member_id) else { return };
        let timeout_ms = i64::from(member.session_timeout_ms);
        self.schedule_session(member_id, timeout_ms);
    }

    pub fn schedule_session(&mut self, member_id: &Arc<str>, timeout_ms: i64) {
        let key = self.session_key(member_id);
        self.timers.schedule(key, self.now.monotonic_ms + timeout_ms);
    }

    pub(super) fn session_key(&self, member_id: &Arc<str>) -> TimerKey {
        TimerKey::Session { group: self.group.group.clone(), member_id: member_id.clone() }
    }

    fn schedule_join(&mut self, phase: JoinPhase, delay_ms: i64) {
        self.group.join_phase = phase;
        self.timers.schedule(TimerKey::Join { group: self.group.group.clone() }, self.now.monotonic_ms + delay_ms);
    }
}
