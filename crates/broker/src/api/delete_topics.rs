//! DeleteTopics: by name, or by id from version 6 on.

use std::sync::Arc;
use std::time::Duration;

use ottla_controller::{DeletedTopic, TopicToDelete};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use ottla_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use ottla_types::{ErrorCode, TopicId};

use crate::api::error_message;
use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

/// The first version in which a topic may have an id instead of a name.
const FIRST_TOPIC_ID_VERSION: i16 = 6;
/// The first version that knows the error of a broker that deletes no topics.
const FIRST_DELETION_DISABLED_VERSION: i16 = 3;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let topics: Vec<TopicToDelete> = if context.api_version >= FIRST_TOPIC_ID_VERSION {
        let name = |name: StrBytes| -> Arc<str> { Arc::from(&*name) };
        request
            .topics
            .into_iter()
            .map(|topic| TopicToDelete { name: topic.name.map(name), topic_id: topic.topic_id })
            .collect()
    } else {
        request.topic_names.iter().map(|name| TopicToDelete::by_name(&**name)).collect()
    };
    let all_failed = |error: ErrorCode, message: &str| {
        let failed =
            |topic: &TopicToDelete| result(topic.name.as_deref(), topic.topic_id, error, Some(message.to_owned()));
        DeleteTopicsResponse { responses: topics.iter().map(failed).collect(), ..Default::default() }
    };
    if !broker.config().topics.delete_topic_enable {
        let known = context.api_version >= FIRST_DELETION_DISABLED_VERSION;
        let error = if known { ErrorCode::TopicDeletionDisabled } else { ErrorCode::InvalidRequest };
        return all_failed(error, "Topic deletion is disabled.");
    }
    let (allowed, refused): (Vec<_>, Vec<_>) =
        topics.iter().cloned().partition(|topic| may_delete(&broker, &context, topic));
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let results = match tokio::time::timeout(timeout, broker.topic_changes.delete(allowed)).await {
        Ok(Ok(results)) => results,
        Ok(Err(error)) => return all_failed(error.error_code(), &error.to_string()),
        Err(_) => return all_failed(ErrorCode::RequestTimedOut, "The request timed out."),
    };
    let responses = results
        .into_iter()
        .map(|DeletedTopic { name, topic_id, error }| {
            let code = error.map_or(ErrorCode::None, ottla_controller::DeleteTopicsError::error_code);
            result(name.as_deref(), topic_id, code, error.map(|error| error.to_string()))
        })
        .chain(refused.iter().map(not_allowed))
        .collect();
    DeleteTopicsResponse { responses, ..Default::default() }
}

/// A topic that is not there is told as such to whoever may delete what it is called.
fn may_delete(broker: &Broker, context: &RequestContext, topic: &TopicToDelete) -> bool {
    let image = broker.quorum.image();
    let name = topic.name.clone().or_else(|| image.topic(topic.topic_id).map(|found| Arc::clone(&found.name)));
    name.is_none_or(|name| broker.allows(context, Operation::Delete, Resource::Topic(&name)))
}

fn not_allowed(topic: &TopicToDelete) -> DeletableTopicResult {
    let message = "Authorization failed.".to_owned();
    result(topic.name.as_deref(), topic.topic_id, ErrorCode::TopicAuthorizationFailed, Some(message))
}

fn result(name: Option<&str>, topic_id: TopicId, error: ErrorCode, message: Option<String>) -> DeletableTopicResult {
    DeletableTopicResult {
        name: name.map(|name| StrBytes::from(name.to_owned())),
        topic_id,
        error_code: error.code(),
        error_message: message.map(error_message),
    }
}
