//! LeaveGroup: members leave, or are removed by an administrator.

use std::sync::Arc;

use ottla_group::{GroupCoordinator, GroupError, LeaveGroup, LeavingMember, LeftMember};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::leave_group_request::LeaveGroupRequest;
use ottla_protocol::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};
use ottla_types::ErrorCode;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::coordinator::{Answer, Now, Token, Unavailable};

/// Before it, one member leaves, and its error is the response's.
const FIRST_BATCH_VERSION: i16 = 3;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    if let Err(refused) = broker.authorize(&context, Operation::Read, Resource::Group(&request.group_id)) {
        return LeaveGroupResponse { error_code: refused.code(), ..Default::default() };
    }
    let several = context.api_version >= FIRST_BATCH_VERSION;
    let members = match leave(&broker, request, several).await {
        Ok(members) => members,
        Err(error) => return LeaveGroupResponse { error_code: error.code(), ..Default::default() },
    };
    if several {
        return LeaveGroupResponse {
            members: members.into_iter().map(member_response).collect(),
            ..Default::default()
        };
    }
    let error = members.first().and_then(|member| member.error).map_or(ErrorCode::None, GroupError::error_code);
    LeaveGroupResponse { error_code: error.code(), ..Default::default() }
}

async fn leave(broker: &Broker, request: LeaveGroupRequest, several: bool) -> Result<Vec<LeftMember>, ErrorCode> {
    if request.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let members = if several {
        let leaving = request.members.iter().map(|member| LeavingMember {
            member_id: Arc::from(&*member.member_id),
            group_instance_id: member.group_instance_id.as_deref().map(Arc::from),
        });
        leaving.collect()
    } else {
        vec![LeavingMember { member_id: Arc::from(&*request.member_id), group_instance_id: None }]
    };
    let leave = LeaveGroup { group: Arc::from(&*request.group_id), members };
    let driver = broker.groups.driver(&request.group_id).map_err(Unavailable::error_code)?;
    let handle = |machine: &mut GroupCoordinator, now: Now, _: Token| machine.handle_leave(now.into(), leave).into();
    match driver.write(handle).await.map_err(Unavailable::error_code)? {
        Answer::Now(left) => left.map_err(GroupError::error_code),
        Answer::Released(_) => Err(ErrorCode::NotCoordinator),
    }
}

fn member_response(member: LeftMember) -> MemberResponse {
    MemberResponse {
        member_id: member.member_id.into(),
        group_instance_id: member.group_instance_id.map(StrBytes::from),
        error_code: member.error.map_or(ErrorCode::None, GroupError::error_code).code(),
    }
}
