//! Kafka's `range`: of each topic, every member gets a run of partitions.

use std::collections::BTreeMap;

use super::{GroupAssignment, GroupSubscription, PartitionAssignor, in_order, nothing_for, partitions_of};

#[derive(Clone, Copy, Debug, Default)]
pub struct RangeAssignor;

impl PartitionAssignor for RangeAssignor {
    fn name(&self) -> &'static str {
        "range"
    }

    fn assign(
        &self,
        partitions: &BTreeMap<String, i32>,
        members: &BTreeMap<String, GroupSubscription>,
    ) -> GroupAssignment {
        let mut assigned = nothing_for(members);
        let order = in_order(members);
        for (topic, &count) in partitions {
            let interested: Vec<&String> =
                order.iter().copied().filter(|member| members[*member].topics.contains(topic)).collect();
            if interested.is_empty() {
                continue;
            }
            let count = usize::try_from(count).unwrap_or_default();
            let (each, more) = (count / interested.len(), count % interested.len());
            let mut rest = partitions_of(topic, partitions[topic]);
            for (position, member) in interested.into_iter().enumerate() {
                let own = rest.by_ref().take(each + usize::from(position < more));
                assigned.entry(member.clone()).or_default().extend(own);
            }
        }
        assigned
    }
}
