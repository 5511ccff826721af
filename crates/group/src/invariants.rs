//! What must hold after every step.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::coordinator::GroupCoordinator;
use crate::group::{GroupState, LiveGroup};
use crate::timers::TimerKey;

/// A condition that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenInvariant {
    #[error("the two views of the timers differ")]
    Timers,
    #[error("the two views of the offsets of open transactions differ")]
    TransactionalOffsets,
    #[error("group {group}: the leader is not a member, or there are members and no leader")]
    Leader { group: Arc<str> },
    #[error("group {group}: a counter or index does not match the members")]
    Counters { group: Arc<str> },
    #[error("group {group}: {state} does not go with its members")]
    State { group: Arc<str>, state: GroupState },
    #[error("group {group}: the generation {live} is behind the recorded {recorded}")]
    Generation { group: Arc<str>, live: i32, recorded: i32 },
    #[error("group {group}: nothing would ever end {state}")]
    NoDeadline { group: Arc<str>, state: GroupState },
    #[error("group {group}: member {member_id} has no session deadline and nothing parked")]
    NoSession { group: Arc<str>, member_id: Arc<str> },
    #[error("group {group}: member {member_id} waits for something that {state} never brings")]
    Parked { group: Arc<str>, member_id: Arc<str>, state: GroupState },
    #[error("group {group} has records and is not alive")]
    NotLive { group: Arc<str> },
}

impl GroupCoordinator {
    /// Checks everything that must hold between two calls.
    pub fn check_invariants(&self) -> Result<(), BrokenInvariant> {
        if !self.timers.consistent() {
            return Err(BrokenInvariant::Timers);
        }
        if !self.hard.transactional.is_consistent() {
            return Err(BrokenInvariant::TransactionalOffsets);
        }
        if !self.loaded {
            return Ok(());
        }
        let with_offsets = self.hard.offsets.keys().chain(self.hard.transactional.groups());
        for group in self.hard.groups.keys().chain(with_offsets) {
            if !self.groups.contains_key(group) {
                return Err(BrokenInvariant::NotLive { group: group.clone() });
            }
        }
        self.groups.values().try_for_each(|live| self.check_group(live))
    }

    fn check_group(&self, live: &LiveGroup) -> Result<(), BrokenInvariant> {
        let group = live.group.clone();
        let leads = match &live.leader {
            Some(leader) => live.members.contains_key(leader),
            None => live.members.is_empty(),
        };
        if !leads {
            return Err(BrokenInvariant::Leader { group });
        }
        if !counters_match(live) {
            return Err(BrokenInvariant::Counters { group });
        }
        let state_fits = match live.state {
            GroupState::Empty => live.members.is_empty(),
            GroupState::PreparingRebalance => true,
            GroupState::CompletingRebalance | GroupState::Stable => !live.members.is_empty(),
            GroupState::Dead => false,
        };
        if !state_fits {
            return Err(BrokenInvariant::State { group, state: live.state });
        }
        if let Some(recorded) = self.hard.groups.get(&group)
            && recorded.generation > live.generation
        {
            return Err(BrokenInvariant::Generation { group, live: live.generation, recorded: recorded.generation });
        }
        self.check_progress(live)
    }

    /// Whoever is waited for has a deadline.
    fn check_progress(&self, live: &LiveGroup) -> Result<(), BrokenInvariant> {
        let group = &live.group;
        let ends = match live.state {
            GroupState::PreparingRebalance => self.timers.contains(&TimerKey::Join { group: group.clone() }),
            GroupState::CompletingRebalance => {
                live.storing_assignment || self.timers.contains(&TimerKey::Sync { group: group.clone() })
            }
            GroupState::Stable => {
                live.pending_sync.is_empty() || self.timers.contains(&TimerKey::Sync { group: group.clone() })
            }
            GroupState::Empty | GroupState::Dead => true,
        };
        if !ends {
            return Err(BrokenInvariant::NoDeadline { group: group.clone(), state: live.state });
        }
        for member in live.members.values() {
            let member_id = member.member_id.clone();
            let parked = member.awaiting_join.is_some() || member.awaiting_sync.is_some();
            if !parked && !self.has_session(group, &member_id) {
                return Err(BrokenInvariant::NoSession { group: group.clone(), member_id });
            }
            let join_ends = match live.state {
                GroupState::PreparingRebalance => true,
                // A static member that was replaced waits for its record.
                GroupState::Stable => member.is_static(),
                _ => false,
            };
            let stuck = (member.awaiting_join.is_some() && !join_ends)
                || (member.awaiting_sync.is_some() && live.state != GroupState::CompletingRebalance);
            if stuck {
                return Err(BrokenInvariant::Parked { group: group.clone(), member_id, state: live.state });
            }
        }
        for member_id in &live.pending_members {
            if !self.has_session(group, member_id) {
                return Err(BrokenInvariant::NoSession { group: group.clone(), member_id: member_id.clone() });
            }
        }
        Ok(())
    }

    fn has_session(&self, group: &Arc<str>, member_id: &Arc<str>) -> bool {
        self.timers.contains(&TimerKey::Session { group: group.clone(), member_id: member_id.clone() })
    }
}

fn counters_match(live: &LiveGroup) -> bool {
    let mut protocol_counts: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    let mut awaiting_join = 0;
    let mut static_members = BTreeMap::new();
    for (member_id, member) in &live.members {
        if *member_id != member.member_id || live.pending_members.contains(member_id) {
            return false;
        }
        for name in member.protocol_names() {
            *protocol_counts.entry(name.clone()).or_default() += 1;
        }
        awaiting_join += usize::from(member.awaiting_join.is_some());
        if let Some(instance_id) = &member.group_instance_id {
            static_members.insert(instance_id.clone(), member_id.clone());
        }
    }
    protocol_counts == live.protocol_counts
        && awaiting_join == live.awaiting_join
        && static_members == live.static_members
        && live.pending_sync.iter().all(|member_id| live.members.contains_key(member_id))
}
