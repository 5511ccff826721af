//! Kafka's `roundrobin`: all partitions of all topics in turn, one to each member that wants its topic.

use std::collections::BTreeMap;

use super::{GroupAssignment, GroupSubscription, PartitionAssignor, in_order, nothing_for, partitions_of};

#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobinAssignor;

impl PartitionAssignor for RoundRobinAssignor {
    fn name(&self) -> &'static str {
        "roundrobin"
    }

    fn assign(
        &self,
        partitions: &BTreeMap<String, i32>,
        members: &BTreeMap<String, GroupSubscription>,
    ) -> GroupAssignment {
        let mut assigned = nothing_for(members);
        let order = in_order(members);
        let mut turn = 0;
        for (topic, &count) in partitions {
            let wants = |member: &&String| members[*member].topics.contains(topic);
            if !order.iter().any(wants) {
                continue;
            }
            for partition in partitions_of(topic, count) {
                while !wants(&order[turn]) {
                    turn = (turn + 1) % order.len();
                }
                assigned.entry(order[turn].clone()).or_default().push(partition);
                turn = (turn + 1) % order.len();
            }
        }
        assigned
    }
}
