//! DeleteGroups: groups without members go, and everything they committed.

use std::collections::HashSet;
use std::sync::Arc;

use ottla_group::{GroupCoordinator, GroupError};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use ottla_protocol::messages::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};
use ottla_types::ErrorCode;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::coordinator::{Answer, Shows, Submitted, Unavailable};

type Deletion = Submitted<GroupCoordinator, Result<(), GroupError>>;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    // A group that is named twice is deleted, and answered, once.
    let mut seen = HashSet::with_capacity(request.groups_names.len());
    let groups: Vec<StrBytes> = request.groups_names.into_iter().filter(|group| seen.insert(group.clone())).collect();
    // All are begun before the first is waited for, so that they share appends and flushes.
    let begun: Vec<_> = groups
        .into_iter()
        .map(|group| {
            let allowed = broker.authorize(&context, Operation::Delete, Resource::Group(&group));
            (allowed.and_then(|()| begin(&broker, &group).map_err(Unavailable::error_code)), group)
        })
        .collect();
    let mut results = Vec::with_capacity(begun.len());
    for (deletion, group_id) in begun {
        let error = match finish(&broker, &group_id, deletion).await {
            Ok(()) => ErrorCode::None,
            Err(error) => error,
        };
        results.push(DeletableGroupResult { group_id, error_code: error.code(), error_message: None });
    }
    DeleteGroupsResponse { results, ..Default::default() }
}

fn begin(broker: &Broker, group: &str) -> Result<Deletion, Unavailable> {
    let group: Arc<str> = Arc::from(group);
    broker.groups.driver(&group)?.submit(|machine, _, _| machine.handle_delete_group(&group).into())
}

async fn finish(broker: &Broker, group: &str, deletion: Result<Deletion, ErrorCode>) -> Result<(), ErrorCode> {
    match deletion?.answer().await.map_err(Unavailable::error_code)? {
        Answer::Now(Err(GroupError::GroupIdNotFound)) => {
            // Somebody else's deletion is told of only once it is committed.
            let driver = broker.groups.driver(group).map_err(Unavailable::error_code)?;
            driver.read(Shows::Scope(group), |_| ()).await.map_err(Unavailable::error_code)?;
            Err(ErrorCode::GroupIdNotFound)
        }
        Answer::Now(deleted) => deleted.map_err(GroupError::error_code),
        Answer::Released(_) => Err(ErrorCode::NotCoordinator),
    }
}
