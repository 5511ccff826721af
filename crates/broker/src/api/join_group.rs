//! JoinGroup: a client becomes a member of a classic group, or shows itself in a rebalance.

use std::sync::Arc;

use bytes::Bytes;
use ottla_group::{GroupCoordinator, GroupError, JoinGroup, JoinRefused, Joined, Protocol, ReleasedResponse};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::join_group_request::JoinGroupRequest;
use ottla_protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use ottla_types::ErrorCode;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::coordinator::{Answer, Now, Token, Unavailable};

/// Before it, the rebalance timeout is the session timeout.
const FIRST_REBALANCE_TIMEOUT_VERSION: i16 = 1;
/// From it on, a member without an id is given one first (KIP-394).
const FIRST_MEMBER_ID_VERSION: i16 = 4;
/// Before it, there is always a protocol's name.
const FIRST_NULLABLE_PROTOCOL_VERSION: i16 = 7;
/// From it on, a leader may be told not to assign (KIP-814).
const FIRST_SKIP_ASSIGNMENT_VERSION: i16 = 9;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    // Copied: the frame is not kept while a join waits.
    let member_id = StrBytes::from(request.member_id.to_string());
    let allowed = broker.authorize(&context, Operation::Read, Resource::Group(&request.group_id));
    let joined = match allowed {
        Ok(()) => join(&broker, &context, request).await.map_err(Unavailable::error_code),
        Err(refused) => Err(refused),
    };
    let mut response = match joined {
        Ok(Ok(joined)) => joined_response(joined),
        Ok(Err(refused)) => refused_response(refused.error.error_code(), refused.member_id.into()),
        Err(error) => refused_response(error, member_id),
    };
    if context.api_version < FIRST_NULLABLE_PROTOCOL_VERSION && response.protocol_name.is_none() {
        response.protocol_name = Some(StrBytes::default());
    }
    response
}

async fn join(
    broker: &Broker,
    context: &RequestContext,
    request: JoinGroupRequest,
) -> Result<Result<Joined, JoinRefused>, Unavailable> {
    if request.group_id.is_empty() {
        let member_id = Arc::from(&*request.member_id);
        return Ok(Err(JoinRefused { error: GroupError::InvalidGroupId, member_id }));
    }
    let version = context.api_version;
    let driver = broker.groups.driver(&request.group_id)?;
    let new_member_suffix = random_uuid_text(broker).into();
    // It takes the request along, which is gone when the join waits.
    let handle = move |machine: &mut GroupCoordinator, now: Now, token: Token| {
        let rebalance_timeout_ms = if version < FIRST_REBALANCE_TIMEOUT_VERSION {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        };
        let join = JoinGroup {
            token: token.into(),
            group: Arc::from(&*request.group_id),
            member_id: Arc::from(&*request.member_id),
            group_instance_id: request.group_instance_id.as_deref().map(Arc::from),
            client_id: Arc::from(context.client_id()),
            client_host: context.client_host().into(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms,
            protocol_type: Arc::from(&*request.protocol_type),
            protocols: request
                .protocols
                .iter()
                .map(|protocol| Protocol {
                    name: Arc::from(&*protocol.name),
                    // The group outlives the frame.
                    metadata: Bytes::copy_from_slice(&protocol.metadata),
                })
                .collect(),
            new_member_suffix,
            requires_known_member_id: version >= FIRST_MEMBER_ID_VERSION,
            can_skip_assignment: version >= FIRST_SKIP_ASSIGNMENT_VERSION,
        };
        machine.handle_join(now.into(), join).into()
    };
    match driver.write(handle).await? {
        Answer::Now(answer) | Answer::Released(ReleasedResponse::Join(answer)) => Ok(answer),
        Answer::Released(ReleasedResponse::Sync(_)) => Err(Unavailable::NotCoordinator),
    }
}

fn joined_response(joined: Joined) -> JoinGroupResponse {
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: joined.protocol_type.map(StrBytes::from),
        protocol_name: joined.protocol_name.map(StrBytes::from),
        leader: joined.leader.into(),
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id.into(),
        members: joined
            .members
            .into_iter()
            .map(|member| JoinGroupResponseMember {
                member_id: member.member_id.into(),
                group_instance_id: member.group_instance_id.map(StrBytes::from),
                metadata: member.metadata,
            })
            .collect(),
        ..Default::default()
    }
}

fn refused_response(error: ErrorCode, member_id: StrBytes) -> JoinGroupResponse {
    JoinGroupResponse { error_code: error.code(), protocol_name: None, member_id, ..Default::default() }
}

/// A random UUID as `java.util.UUID` writes it, which is how member ids end.
fn random_uuid_text(broker: &Broker) -> String {
    let mut bytes = [0; 16];
    broker.world.entropy.fill(&mut bytes);
    // Version 4, variant 1.
    let random = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0b11 << 62) | 0x4 << 76 | 0b10 << 62;
    let hex = format!("{random:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
