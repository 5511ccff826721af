//! Heartbeat: a member is alive, and learns whether a rebalance began.

use std::sync::Arc;

use ottla_group::{GroupCoordinator, Heartbeat};
use ottla_protocol::messages::heartbeat_request::HeartbeatRequest;
use ottla_protocol::messages::heartbeat_response::HeartbeatResponse;
use ottla_types::ErrorCode;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::coordinator::{Answer, Now, Step, Token, Unavailable};

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    if let Err(refused) = broker.authorize(&context, Operation::Read, Resource::Group(&request.group_id)) {
        return HeartbeatResponse { error_code: refused.code(), ..Default::default() };
    }
    let error = match heartbeat(&broker, &request).await {
        Ok(error) => error,
        // A member must not take the group for lost while it is only being loaded.
        Err(Unavailable::Loading) => ErrorCode::None,
        Err(unavailable) => unavailable.error_code(),
    };
    HeartbeatResponse { error_code: error.code(), ..Default::default() }
}

async fn heartbeat(broker: &Broker, request: &HeartbeatRequest) -> Result<ErrorCode, Unavailable> {
    if request.group_id.is_empty() {
        return Ok(ErrorCode::InvalidGroupId);
    }
    let driver = broker.groups.driver(&request.group_id)?;
    let heartbeat = Heartbeat {
        group: Arc::from(&*request.group_id),
        generation: request.generation_id,
        member_id: Arc::from(&*request.member_id),
        group_instance_id: request.group_instance_id.as_deref().map(Arc::from),
    };
    let handle = |machine: &mut GroupCoordinator, now: Now, _: Token| {
        Step::answer(machine.handle_heartbeat(now.into(), &heartbeat))
    };
    match driver.write(handle).await? {
        Answer::Now(Ok(())) => Ok(ErrorCode::None),
        Answer::Now(Err(error)) => Ok(error.error_code()),
        Answer::Released(_) => Err(Unavailable::NotCoordinator),
    }
}
