//! DescribeGroups.

use bytes::Bytes;
use std::sync::Arc;

use crate::coordinator::GroupCoordinator;
use crate::group::GroupState;
use crate::request::{DescribedGroup, DescribedMember};

impl GroupCoordinator {
    /// A group and its members; [`GroupState::Dead`] and nobody for one that does not exist.
    pub fn handle_describe(&self, group: &Arc<str>) -> DescribedGroup {
        let Some(live) = self.groups.get(group) else {
            return DescribedGroup {
                group: group.clone(),
                state: GroupState::Dead,
                protocol_type: "".into(),
                protocol_name: "".into(),
                members: Vec::new(),
            };
        };
        // Until the group is stable, the protocol and what members say under it may still change.
        let protocol = live.protocol_name.as_ref().filter(|_| live.state == GroupState::Stable);
        let members = live
            .members
            .values()
            .map(|member| DescribedMember {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                metadata: protocol.map_or_else(Bytes::new, |name| member.metadata(name)),
                assignment: member.assignment.clone(),
            })
            .collect();
        DescribedGroup {
            group: group.clone(),
            state: live.state,
            protocol_type: live.protocol_type.clone().unwrap_or_default(),
            protocol_name: protocol.cloned().unwrap_or_default(),
            members,
        }
    }
}
