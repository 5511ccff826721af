//! Who of a classic group reads which partitions: decided by one of its members, by an assignor all of them have.
//!
//! The assignors here are Kafka's, with its results: a group may have members with either client. Partitions are not
//! matched with racks.

mod cooperative_sticky;
mod range;
mod round_robin;
mod sticky;
mod sticky_general;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ottla_types::TopicPartition;

pub use cooperative_sticky::CooperativeStickyAssignor;
pub use range::RangeAssignor;
pub use round_robin::RoundRobinAssignor;
pub use sticky::StickyAssignor;

/// What becomes of a member's partitions while its group rebalances (KIP-429).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RebalanceProtocol {
    /// It gives up all of them first.
    Eager,
    /// It keeps them, and gives up only those that go to somebody else.
    Cooperative,
}

/// A member, as the assignor sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSubscription {
    pub topics: Vec<String>,
    /// What its assignor wrote: see [`PartitionAssignor::subscription_user_data`].
    pub user_data: Option<Bytes>,
    /// The partitions it keeps.
    pub owned_partitions: Vec<TopicPartition>,
    /// The generation it had those in.
    pub generation_id: Option<i32>,
    pub rack_id: Option<String>,
    pub group_instance_id: Option<String>,
}

/// What each member gets.
pub type GroupAssignment = BTreeMap<String, Vec<TopicPartition>>;

/// Divides partitions among the members of a group. It is called by whichever member leads the group.
pub trait PartitionAssignor: fmt::Debug + Send + Sync {
    /// What members call it: they use one that all of them have.
    fn name(&self) -> &str;

    /// What it can do: a member does what all of its assignors can.
    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Eager]
    }

    /// What it says of this member to itself, as part of the leader.
    fn subscription_user_data(&self) -> Option<Bytes> {
        None
    }

    /// Divides the partitions of these topics, numbered from 0, among these members.
    fn assign(
        &self,
        partitions: &BTreeMap<String, i32>,
        members: &BTreeMap<String, GroupSubscription>,
    ) -> GroupAssignment;

    /// What this member got.
    fn on_assignment(&self, partitions: &[TopicPartition], generation_id: i32) {
        let _ = (partitions, generation_id);
    }
}

/// The members in the order in which shares are given out: those with a name of their own first.
fn in_order(members: &BTreeMap<String, GroupSubscription>) -> Vec<&String> {
    let mut order: Vec<(bool, &String, &String)> = members
        .iter()
        .map(|(member, subscription)| match &subscription.group_instance_id {
            Some(instance) => (false, instance, member),
            None => (true, member, member),
        })
        .collect();
    order.sort();
    order.into_iter().map(|(_, _, member)| member).collect()
}

fn partitions_of(topic: &str, count: i32) -> impl Iterator<Item = TopicPartition> {
    let topic: Arc<str> = Arc::from(topic);
    (0..count).map(move |partition| TopicPartition::new(Arc::clone(&topic), partition))
}

fn nothing_for(members: &BTreeMap<String, GroupSubscription>) -> GroupAssignment {
    members.keys().map(|member| (member.clone(), Vec::new())).collect()
}

#[cfg(test)]
mod tests;
