//! CreateTopics: the answer comes when the topic can be used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_controller::{CreateTopics, CreatedTopic, NewTopic};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use ottla_types::{ErrorCode, NodeId};

use crate::api::error_message;
use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let names: Vec<StrBytes> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let all_failed = |error: ErrorCode, message: String| CreateTopicsResponse {
        topics: names.iter().map(|name| failed(name.clone(), error, message.clone())).collect(),
        ..Default::default()
    };
    // Kafka's `CREATE`, of topics at large or of each.
    let creates_any = broker.allows(&context, Operation::Create, Resource::Cluster);
    let may_create = |topic: &CreatableTopic| {
        creates_any || broker.allows(&context, Operation::Create, Resource::Topic(&topic.name))
    };
    let (allowed, refused): (Vec<_>, Vec<_>) = request.topics.into_iter().partition(may_create);
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let decided =
        CreateTopics { topics: allowed.into_iter().map(new_topic).collect(), validate_only: request.validate_only };
    let results = match tokio::time::timeout(timeout, broker.topic_changes.create(decided)).await {
        Ok(Ok(results)) => results,
        Ok(Err(error)) => return all_failed(error.error_code(), error.to_string()),
        Err(_) => return all_failed(ErrorCode::RequestTimedOut, "The request timed out.".to_owned()),
    };
    let refused = refused
        .into_iter()
        .map(|topic| failed(topic.name, ErrorCode::TopicAuthorizationFailed, "Authorization failed.".to_owned()));
    let topics = results
        .into_iter()
        .map(|(name, result)| {
            let name = StrBytes::from(name.to_string());
            match result {
                Ok(created) => made(&broker, name, &created),
                Err(error) => failed(name, error.error_code(), error.to_string()),
            }
        })
        .chain(refused)
        .collect();
    CreateTopicsResponse { topics, ..Default::default() }
}

fn new_topic(topic: CreatableTopic) -> NewTopic {
    let text = |text: &StrBytes| -> Arc<str> { Arc::from(&**text) };
    NewTopic {
        name: text(&topic.name),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .into_iter()
            .map(|assignment| (assignment.partition_index, assignment.broker_ids.into_iter().map(NodeId).collect()))
            .collect(),
        configs: topic.configs.iter().map(|config| (text(&config.name), config.value.as_ref().map(text))).collect(),
    }
}

fn made(broker: &Broker, name: StrBytes, created: &CreatedTopic) -> CreatableTopicResult {
    let overrides: BTreeMap<String, String> =
        created.configs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let entries = broker.config().describe_topic(&overrides);
    let configs = entries
        .into_iter()
        .map(|entry| CreatableTopicConfigs {
            name: StrBytes::from(entry.name),
            value: entry.value.map(StrBytes::from),
            read_only: entry.is_read_only,
            config_source: entry.source.code(),
            is_sensitive: entry.is_sensitive,
        })
        .collect();
    CreatableTopicResult {
        name,
        topic_id: created.topic_id,
        num_partitions: created.partitions,
        replication_factor: created.replication_factor,
        configs: Some(configs),
        ..Default::default()
    }
}

fn failed(name: StrBytes, error: ErrorCode, message: String) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: error.code(),
        error_message: Some(error_message(message)),
        ..Default::default()
    }
}
