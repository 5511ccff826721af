//! SyncGroup: the leader brings the assignment, every member gets its own.

use std::sync::Arc;

use bytes::Bytes;
use ottla_group::{GroupCoordinator, GroupError, ReleasedResponse, SyncGroup, Synced};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::sync_group_request::SyncGroupRequest;
use ottla_protocol::messages::sync_group_response::SyncGroupResponse;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::coordinator::{Answer, Now, Token, Unavailable};

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    if let Err(refused) = broker.authorize(&context, Operation::Read, Resource::Group(&request.group_id)) {
        return SyncGroupResponse { error_code: refused.code(), ..Default::default() };
    }
    let error = match sync(&broker, request).await {
        Ok(Ok(synced)) => {
            return SyncGroupResponse {
                protocol_type: synced.protocol_type.map(StrBytes::from),
                protocol_name: synced.protocol_name.map(StrBytes::from),
                assignment: synced.assignment,
                ..Default::default()
            };
        }
        Ok(Err(error)) => error.error_code(),
        Err(unavailable) => unavailable.error_code(),
    };
    SyncGroupResponse { error_code: error.code(), ..Default::default() }
}

async fn sync(broker: &Broker, request: SyncGroupRequest) -> Result<Result<Synced, GroupError>, Unavailable> {
    if request.group_id.is_empty() {
        return Ok(Err(GroupError::InvalidGroupId));
    }
    let driver = broker.groups.driver(&request.group_id)?;
    // It takes the request along, which is gone when the member waits.
    let handle = move |machine: &mut GroupCoordinator, now: Now, token: Token| {
        let sync = SyncGroup {
            token: token.into(),
            group: Arc::from(&*request.group_id),
            generation: request.generation_id,
            member_id: Arc::from(&*request.member_id),
            group_instance_id: request.group_instance_id.as_deref().map(Arc::from),
            protocol_type: request.protocol_type.as_deref().map(Arc::from),
            protocol_name: request.protocol_name.as_deref().map(Arc::from),
            assignments: request
                .assignments
                .iter()
                // The group outlives the frame.
                .map(|assigned| (Arc::from(&*assigned.member_id), Bytes::copy_from_slice(&assigned.assignment)))
                .collect(),
        };
        machine.handle_sync(now.into(), sync).into()
    };
    match driver.write(handle).await? {
        Answer::Now(answer) | Answer::Released(ReleasedResponse::Sync(answer)) => Ok(answer),
        Answer::Released(ReleasedResponse::Join(_)) => Err(Unavailable::NotCoordinator),
    }
}
