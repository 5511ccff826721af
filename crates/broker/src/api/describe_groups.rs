//! DescribeGroups: state, protocol and members of classic groups.

use std::collections::HashSet;
use std::sync::Arc;

use ottla_group::{DescribedGroup as Described, GroupState};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use ottla_protocol::messages::describe_groups_response::{
    DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use ottla_types::ErrorCode;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::coordinator::{Shows, Unavailable};
use crate::operations;

/// Before it, a group that does not exist is described as dead.
const FIRST_NOT_FOUND_VERSION: i16 = 6;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    // A group that is named often is described once: its description is far longer than its name.
    let mut seen = HashSet::with_capacity(request.groups.len());
    for group_id in request.groups.into_iter().filter(|group| seen.insert(group.clone())) {
        if let Err(refused) = broker.authorize(&context, Operation::Describe, Resource::Group(&group_id)) {
            groups.push(DescribedGroup { group_id, error_code: refused.code(), ..Default::default() });
            continue;
        }
        let name = group_id.clone();
        let mut described = match describe(&broker, &group_id).await {
            Ok(described) => response(described, context.api_version),
            Err(unavailable) => {
                DescribedGroup { group_id, error_code: unavailable.error_code().code(), ..Default::default() }
            }
        };
        if request.include_authorized_operations && described.error_code == ErrorCode::None.code() {
            described.authorized_operations =
                broker.authorized_operations(&context, operations::GROUP, Resource::Group(&name));
        }
        groups.push(described);
    }
    DescribeGroupsResponse { groups, ..Default::default() }
}

async fn describe(broker: &Broker, group_id: &str) -> Result<Described, Unavailable> {
    let driver = broker.groups.driver(group_id)?;
    let group = Arc::from(group_id);
    driver.read(Shows::Scope(group_id), |machine| machine.handle_describe(&group)).await
}

fn response(described: Described, version: i16) -> DescribedGroup {
    let missing = described.state == GroupState::Dead && version >= FIRST_NOT_FOUND_VERSION;
    let error = if missing { ErrorCode::GroupIdNotFound } else { ErrorCode::None };
    DescribedGroup {
        error_code: error.code(),
        error_message: missing.then(|| StrBytes::from(format!("Group {} not found.", described.group))),
        group_id: described.group.into(),
        group_state: StrBytes::from_static(described.state.name()),
        protocol_type: described.protocol_type.into(),
        protocol_data: described.protocol_name.into(),
        members: described
            .members
            .into_iter()
            .map(|member| DescribedGroupMember {
                member_id: member.member_id.into(),
                group_instance_id: member.group_instance_id.map(StrBytes::from),
                client_id: member.client_id.into(),
                client_host: member.client_host.into(),
                member_metadata: member.metadata,
                member_assignment: member.assignment,
            })
            .collect(),
        ..Default::default()
    }
}
