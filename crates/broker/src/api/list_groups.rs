//! ListGroups: the groups this node coordinates.

use std::sync::Arc;

use ottla_protocol::StrBytes;
use ottla_protocol::messages::list_groups_request::ListGroupsRequest;
use ottla_protocol::messages::list_groups_response::{ListGroupsResponse, ListedGroup};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

/// The only type of group there is so far, as clients write it in any case.
const CLASSIC: &str = "classic";

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let types = &request.types_filter;
    if !types.is_empty() && !types.iter().any(|wanted| wanted.eq_ignore_ascii_case(CLASSIC)) {
        return ListGroupsResponse::default();
    }
    let states: Vec<&str> = request.states_filter.iter().map(|state| &**state).collect();
    match broker.groups.list(&states).await {
        Ok(groups) => {
            let all = broker.allows(&context, Operation::Describe, Resource::Cluster);
            let visible = groups
                .into_iter()
                .filter(|group| all || broker.allows(&context, Operation::Describe, Resource::Group(&group.group)));
            let groups = visible.map(|group| ListedGroup {
                group_id: group.group.into(),
                protocol_type: group.protocol_type.into(),
                group_state: StrBytes::from_static(group.state.name()),
                group_type: StrBytes::from_static(CLASSIC),
            });
            ListGroupsResponse { groups: groups.collect(), ..Default::default() }
        }
        Err(unavailable) => ListGroupsResponse { error_code: unavailable.error_code().code(), ..Default::default() },
    }
}
