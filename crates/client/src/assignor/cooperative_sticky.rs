//! Kafka's `cooperative-sticky`: like `sticky`, but members keep what they have while the group rebalances. What goes
//! from one to another is given up in one rebalance and given away in the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::Bytes;
use ottla_protocol::{Decoder, Encoder};
use ottla_types::TopicPartition;

use super::sticky::{MemberData, assign_sticky};
use super::{GroupAssignment, GroupSubscription, PartitionAssignor, RebalanceProtocol};

#[derive(Debug)]
pub struct CooperativeStickyAssignor {
    generation_id: AtomicI32,
}

impl Default for CooperativeStickyAssignor {
    fn default() -> CooperativeStickyAssignor {
        CooperativeStickyAssignor { generation_id: AtomicI32::new(-1) }
    }
}

impl PartitionAssignor for CooperativeStickyAssignor {
    fn name(&self) -> &'static str {
        "cooperative-sticky"
    }

    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Cooperative, RebalanceProtocol::Eager]
    }

    fn subscription_user_data(&self) -> Option<Bytes> {
        let mut output = Encoder::new();
        output.int32(self.generation_id.load(Ordering::Relaxed));
        output.finish_contiguous().ok()
    }

    fn assign(
        &self,
        partitions: &BTreeMap<String, i32>,
        members: &BTreeMap<String, GroupSubscription>,
    ) -> GroupAssignment {
        let data = members.iter().map(|(member, subscription)| (member.clone(), member_data(subscription))).collect();
        let (mut assigned, moving) = assign_sticky(partitions, members, &data);
        let moving = moving.unwrap_or_else(|| moving_between(members, &assigned));
        for (partition, member) in moving {
            if let Some(own) = assigned.get_mut(&member) {
                own.retain(|own| *own != partition);
            }
        }
        assigned
    }

    fn on_assignment(&self, _: &[TopicPartition], generation_id: i32) {
        self.generation_id.store(generation_id, Ordering::Relaxed);
    }
}

/// What a member had. Newer ones say of which generation that is in the subscription itself.
fn member_data(subscription: &GroupSubscription) -> MemberData {
    let generation_id = subscription.generation_id.or_else(|| {
        let data = subscription.user_data.clone()?;
        Some(Decoder::new(data).int32().unwrap_or(-1))
    });
    MemberData { partitions: subscription.owned_partitions.clone(), generation_id }
}

/// What somebody gets that somebody else has.
fn moving_between(
    members: &BTreeMap<String, GroupSubscription>,
    assigned: &GroupAssignment,
) -> BTreeMap<TopicPartition, String> {
    let mut added = BTreeMap::new();
    let mut revoked = BTreeSet::new();
    for (member, partitions) in assigned {
        let owned: BTreeSet<&TopicPartition> =
            members.get(member).into_iter().flat_map(|subscription| &subscription.owned_partitions).collect();
        let own: BTreeSet<&TopicPartition> = partitions.iter().collect();
        added.extend(own.difference(&owned).map(|partition| ((*partition).clone(), member.clone())));
        revoked.extend(owned.difference(&own).map(|partition| (*partition).clone()));
    }
    added.retain(|partition, _| revoked.contains(partition));
    added
}
