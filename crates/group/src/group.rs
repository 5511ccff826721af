//! The live state of a group: who is in, what is in progress.
//!
//! Soft state. It is built from the recorded group at load; a rebalance runs here, in memory, and is recorded only when
//! the leader's assignment is stored. Keeps its counters in step with its members; decides nothing about time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::GroupError;
use crate::hard::RecordedGroup;
use crate::member::{Member, Protocol};
use crate::outcome::RequestToken;
use crate::request::JoinedMember;
use crate::subscription::{CONSUMER_PROTOCOL_TYPE, collect_subscribed_topics};

/// Where a group is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// No members; perhaps offsets.
    Empty,
    /// A rebalance began: members are joining.
    PreparingRebalance,
    /// Members know the generation; the leader's assignment is awaited.
    CompletingRebalance,
    /// Members have their assignments.
    Stable,
    /// The group does not exist. No live group is in this state.
    Dead,
}

impl GroupState {
    /// Kafka's name, such as `PreparingRebalance`.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }

    fn may_follow(self, previous: GroupState) -> bool {
        match self {
            GroupState::Empty | GroupState::CompletingRebalance => previous == GroupState::PreparingRebalance,
            GroupState::PreparingRebalance => {
                matches!(previous, GroupState::Stable | GroupState::CompletingRebalance | GroupState::Empty)
            }
            GroupState::Stable => previous == GroupState::CompletingRebalance,
            GroupState::Dead => true,
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What the deadline of the join phase means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinPhase {
    /// The group was empty: the phase is stretched while members keep coming, up to the rebalance timeout.
    Initial { delay_ms: i64, remaining_ms: i64 },
    /// Whoever has not rejoined at the deadline is out.
    Rejoin,
}

/// A group as its coordinator sees it now.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveGroup {
    pub(crate) group: Arc<str>,
    pub(crate) state: GroupState,
    pub(crate) previous_state: GroupState,
    /// When `state` was entered, in milliseconds since the Unix epoch; unknown for groups recorded by old versions.
    pub(crate) state_timestamp_ms: Option<i64>,
    /// `None` for a group that never had members: it only keeps offsets.
    pub(crate) protocol_type: Option<Arc<str>>,
    pub(crate) protocol_name: Option<Arc<str>>,
    pub(crate) generation: i32,
    pub(crate) leader: Option<Arc<str>>,
    pub(crate) members: BTreeMap<Arc<str>, Member>,
    /// Member ids by group instance id.
    pub(crate) static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Member ids handed out with MEMBER_ID_REQUIRED and not used yet.
    pub(crate) pending_members: BTreeSet<Arc<str>>,
    /// How many members have a JoinGroup parked.
    pub(crate) awaiting_join: usize,
    /// Members of this generation whose SyncGroup has not come.
    pub(crate) pending_sync: BTreeSet<Arc<str>>,
    /// By protocol name, how many members support it.
    pub(crate) protocol_counts: BTreeMap<Arc<str>, usize>,
    /// What the members of a `consumer` group subscribe to, where that can be read.
    pub(crate) subscribed_topics: Option<BTreeSet<Arc<str>>>,
    /// Whether somebody joined since the initial delay was last set.
    pub(crate) new_member_added: bool,
    pub(crate) join_phase: JoinPhase,
    /// Whether the leader's assignment is being stored.
    pub(crate) storing_assignment: bool,
}

impl LiveGroup {
    /// A group without members.
    pub(crate) fn empty(group: Arc<str>, wall_ms: i64) -> LiveGroup {
        LiveGroup {
            group,
            state: GroupState::Empty,
            previous_state: GroupState::Dead,
            state_timestamp_ms: Some(wall_ms),
            protocol_type: None,
            protocol_name: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeSet::new(),
            awaiting_join: 0,
            pending_sync: BTreeSet::new(),
            protocol_counts: BTreeMap::new(),
            subscribed_topics: None,
            new_member_added: false,
            join_phase: JoinPhase::Rejoin,
            storing_assignment: false,
        }
    }

    /// The group as recorded: stable if it has members.
    pub(crate) fn from_record(group: Arc<str>, recorded: &RecordedGroup) -> LiveGroup {
        let mut live = LiveGroup::empty(group, 0);
        live.state_timestamp_ms = recorded.current_state_timestamp_ms;
        live.generation = recorded.generation;
        live.protocol_type = Some(recorded.protocol_type.clone()).filter(|name| !name.is_empty());
        live.protocol_name.clone_from(&recorded.protocol);
        for member in &recorded.members {
            live.insert(Member::from_record(member, recorded.protocol.as_ref()));
        }
        // A leader that is not a member can only come from a damaged record; the first member then leads.
        if let Some(leader) = recorded.leader.as_ref().filter(|leader| live.members.contains_key(*leader)) {
            live.leader = Some(leader.clone());
        }
        if !live.members.is_empty() {
            live.state = GroupState::Stable;
        }
        live.subscribed_topics = live.read_subscribed_topics();
        live
    }

    /// What is recorded of the group, with `assignments` for its members (nothing for whoever is missing there).
    pub(crate) fn to_record(&self, assignments: &BTreeMap<Arc<str>, Bytes>) -> RecordedGroup {
        let protocol = self.protocol_name.clone();
        let members = self
            .members
            .values()
            .map(|member| {
                let assignment = assignments.get(&member.member_id).cloned().unwrap_or_default();
                member.to_record(protocol.as_deref().unwrap_or(""), assignment)
            })
            .collect();
        RecordedGroup {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol,
            leader: self.leader.clone(),
            current_state_timestamp_ms: self.state_timestamp_ms,
            members,
        }
    }

    pub fn group_id(&self) -> &Arc<str> {
        &self.group
    }

    pub fn state(&self) -> GroupState {
        self.state
    }

    pub fn generation(&self) -> i32 {
        self.generation
    }

    pub fn leader(&self) -> Option<&Arc<str>> {
        self.leader.as_ref()
    }

    pub fn protocol_name(&self) -> Option<&Arc<str>> {
        self.protocol_name.as_ref()
    }

    /// The members, by member id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn pending_members(&self) -> &BTreeSet<Arc<str>> {
        &self.pending_members
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(crate) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Whether a topic must be taken for subscribed: when the subscriptions cannot be read, every one is.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    pub(crate) fn can_rebalance(&self) -> bool {
        GroupState::PreparingRebalance.may_follow(self.state)
    }

    pub(crate) fn transition(&mut self, state: GroupState, wall_ms: i64) {
        assert!(state.may_follow(self.state), "invariant: a group goes from {} to {state}", self.state);
        self.previous_state = self.state;
        self.state = state;
        self.state_timestamp_ms = Some(wall_ms);
        self.storing_assignment = false;
    }

    /// Adds a member that is not one yet; its instance id is free.
    pub(crate) fn insert(&mut self, member: Member) {
        if let Some(instance_id) = &member.group_instance_id {
            self.static_members.insert(instance_id.clone(), member.member_id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member.member_id.clone());
        }
        self.count(&member, true);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.pending_members.remove(&member.member_id);
        self.members.insert(member.member_id.clone(), member);
    }

    /// Removes a member or a pending member id. What the member had parked is for the caller to release.
    pub(crate) fn remove(&mut self, member_id: &str) -> Option<Member> {
        self.pending_members.remove(member_id);
        self.pending_sync.remove(member_id);
        let member = self.members.remove(member_id)?;
        self.count(&member, false);
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        if let Some(instance_id) = &member.group_instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives a static member a new member id; parked requests do not move with it.
    pub(crate) fn rename_static(&mut self, old_member_id: &str, new_member_id: &Arc<str>) {
        let Some(mut member) = self.members.remove(old_member_id) else { return };
        self.awaiting_join -= usize::from(member.awaiting_join.take().is_some());
        member.awaiting_sync = None;
        member.member_id = new_member_id.clone();
        if let Some(instance_id) = &member.group_instance_id {
            self.static_members.insert(instance_id.clone(), new_member_id.clone());
        }
        if self.is_leader(old_member_id) {
            self.leader = Some(new_member_id.clone());
        }
        if self.pending_sync.remove(old_member_id) {
            self.pending_sync.insert(new_member_id.clone());
        }
        self.members.insert(new_member_id.clone(), member);
    }

    /// Takes over what a JoinGroup says of a member, and parks it. Returns the JoinGroup it replaces.
    pub(crate) fn update(
        &mut self,
        member_id: &str,
        protocols: Vec<Protocol>,
        timeouts: Timeouts,
        join: Option<RequestToken>,
    ) -> Option<RequestToken> {
        let mut member = self.members.remove(member_id)?;
        self.count(&member, false);
        member.protocols = protocols;
        member.rebalance_timeout_ms = timeouts.rebalance_ms;
        member.session_timeout_ms = timeouts.session_ms;
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        self.awaiting_join += usize::from(join.is_some());
        let replaced = std::mem::replace(&mut member.awaiting_join, join);
        self.count(&member, true);
        self.members.insert(member.member_id.clone(), member);
        replaced
    }

    pub(crate) fn take_awaiting_join(&mut self, member_id: &str) -> Option<RequestToken> {
        let token = self.members.get_mut(member_id)?.awaiting_join.take()?;
        self.awaiting_join -= 1;
        Some(token)
    }

    pub(crate) fn has_all_members_joined(&self) -> bool {
        self.members.len() == self.awaiting_join && self.pending_members.is_empty()
    }

    /// Sees that the leader is somebody who rejoined. Returns whether there is such a leader.
    pub(crate) fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else { return false };
        if self.members.get(leader).is_some_and(|member| member.awaiting_join.is_some()) {
            return true;
        }
        let joined = self.members.values().find(|member| member.awaiting_join.is_some());
        match joined {
            Some(member) => {
                self.leader = Some(member.member_id.clone());
                true
            }
            None => false,
        }
    }

    /// The longest rebalance timeout of the members.
    pub(crate) fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0).max(0)
    }

    /// Whether a member with these protocols can be in the group.
    pub(crate) fn supports_protocols(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|protocol| self.protocol_counts.get(&protocol.name).copied().unwrap_or(0) == self.members.len())
    }

    /// The protocol that every member supports and most prefer; of equals the one that sorts first.
    pub(crate) fn select_protocol(&self) -> Option<Arc<str>> {
        let everybody = self.members.len();
        let candidates: BTreeSet<Arc<str>> = self
            .protocol_counts
            .iter()
            .filter(|(_, count)| **count == everybody)
            .map(|(name, _)| name.clone())
            .collect();
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            *votes.entry(member.vote(&candidates)?).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// Begins the next generation with the members there are.
    pub(crate) fn begin_generation(&mut self, wall_ms: i64) {
        self.generation += 1;
        self.pending_sync.clear();
        self.protocol_name = self.select_protocol();
        let state = if self.members.is_empty() { GroupState::Empty } else { GroupState::CompletingRebalance };
        self.subscribed_topics = self.read_subscribed_topics();
        self.transition(state, wall_ms);
    }

    /// The members as the leader learns of them.
    pub(crate) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or("");
        self.members
            .values()
            .map(|member| JoinedMember {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                metadata: member.metadata(protocol),
            })
            .collect()
    }

    pub(crate) fn assignments(&self) -> BTreeMap<Arc<str>, Bytes> {
        self.members.values().map(|member| (member.member_id.clone(), member.assignment.clone())).collect()
    }

    /// Checks that a request comes from a member, and, if it names an instance, from its present incarnation.
    pub(crate) fn validate_member(&self, member_id: &str, group_instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = group_instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(current) if **current != *member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    pub(crate) fn read_subscribed_topics(&self) -> Option<BTreeSet<Arc<str>>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let mut topics = BTreeSet::new();
        if self.members.is_empty() {
            return Some(topics);
        }
        let protocol = self.protocol_name.as_deref()?;
        for member in self.members.values() {
            collect_subscribed_topics(&member.metadata(protocol), &mut topics)?;
        }
        Some(topics)
    }

    fn count(&mut self, member: &Member, added: bool) {
        for name in member.protocol_names() {
            if added {
                *self.protocol_counts.entry(name.clone()).or_default() += 1;
            } else if let Some(count) = self.protocol_counts.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.protocol_counts.remove(name);
                }
            }
        }
    }
}

/// The timeouts of a JoinGroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub rebalance_ms: i32,
    pub session_ms: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(member_id: &str, protocols: &[&str]) -> Member {
        Member {
            member_id: member_id.into(),
            group_instance_id: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 10_000,
            protocols: protocols.iter().map(|name| Protocol { name: (*name).into(), metadata: Bytes::new() }).collect(),
            assignment: Bytes::new(),
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
        }
    }

    #[test]
    fn the_protocol_is_voted_for() {
        let cases: &[(&[&[&str]], Option<&str>)] = &[
            (&[&["range"]], Some("range")),
            (&[&["range", "sticky"], &["sticky", "range"]], Some("range")),
            (&[&["range", "sticky"], &["sticky", "range"], &["sticky", "range"]], Some("sticky")),
            (&[&["range", "sticky"], &["roundrobin", "sticky"]], Some("sticky")),
            (&[&["range", "range"], &["range"]], Some("range")),
            (&[], None),
        ];
        for (members, expected) in cases {
            let mut group = LiveGroup::empty("g".into(), 0);
            for (index, protocols) in members.iter().enumerate() {
                group.insert(member(&format!("m{index}"), protocols));
            }
            assert_eq!(group.select_protocol().as_deref(), *expected, "{members:?}");
        }
    }

    #[test]
    fn counters_follow_members() {
        let mut group = LiveGroup::empty("g".into(), 0);
        group.insert(member("a", &["range", "sticky"]));
        group.insert(member("b", &["sticky"]));
        assert_eq!(group.leader.as_deref(), Some("a"));
        let timeouts = Timeouts { rebalance_ms: 1, session_ms: 2 };
        let range = Protocol { name: "range".into(), metadata: Bytes::new() };
        assert_eq!(group.update("b", vec![range], timeouts, Some(RequestToken(1))), None);
        assert_eq!(group.awaiting_join, 1);
        assert_eq!(group.protocol_counts.get("range"), Some(&2));
        assert_eq!(group.protocol_counts.get("sticky"), Some(&1));
        assert_eq!(group.take_awaiting_join("b"), Some(RequestToken(1)));
        assert_eq!(group.take_awaiting_join("b"), None);
        assert!(group.remove("a").is_some());
        assert_eq!(group.leader.as_deref(), Some("b"));
        assert_eq!(group.protocol_counts.get("sticky"), None);
        assert!(group.remove("a").is_none());
        assert_eq!(group.awaiting_join, 0);
    }
}
