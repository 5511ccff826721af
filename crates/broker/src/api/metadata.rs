//! Metadata: brokers, topics, partitions and their leaders; creates missing topics where that is allowed.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_image::{MetadataImage, TopicImage};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_types::{ErrorCode, TopicId, validate_topic_name};

use crate::authorizer::{Operation, Resource};
use crate::broker::{Broker, is_internal};
use crate::context::RequestContext;
use crate::operations;

/// Before it, an empty list asks for all topics.
const FIRST_NULLABLE_VERSION: i16 = 1;
/// Before it, a missing topic is made without the client's word.
const FIRST_AUTO_CREATION_VERSION: i16 = 4;
/// Before it, a topic cannot be asked for by its id alone.
const FIRST_TOPIC_ID_VERSION: i16 = 12;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: MetadataRequest,
) -> MetadataResponse {
    let version = context.api_version;
    let wanted = match request.topics {
        Some(topics) if topics.is_empty() && version < FIRST_NULLABLE_VERSION => None,
        wanted => wanted,
    };
    if let Some(wanted) = &wanted
        && version < FIRST_TOPIC_ID_VERSION
        && wanted.iter().any(|topic| topic.name.is_none() || !topic.topic_id.is_zero())
    {
        return refused(wanted);
    }
    let may_create = request.allow_auto_topic_creation || version < FIRST_AUTO_CREATION_VERSION;
    if may_create && let Some(wanted) = &wanted {
        create_missing(&broker, &context, wanted).await;
    }
    let image = broker.quorum.image();
    let include_operations = request.include_topic_authorized_operations;
    let topics = match wanted {
        None => image
            .topics()
            .filter(|topic| broker.allows(&context, Operation::Describe, Resource::Topic(&topic.name)))
            .map(|topic| describe(&broker, &context, topic, include_operations))
            .collect(),
        Some(wanted) => {
            let mut seen = BTreeSet::new();
            let first_time = |topic: &MetadataRequestTopic| seen.insert((topic.name.clone(), topic.topic_id));
            wanted
                .into_iter()
                .filter(first_time)
                .map(|wanted| find(&broker, &context, &image, wanted, (may_create, include_operations)))
                .collect()
        }
    };
    let brokers = broker
        .live_brokers(&context)
        .into_iter()
        .map(|node| MetadataResponseBroker {
            node_id: node.node_id.0,
            host: node.host,
            port: node.port,
            rack: node.rack,
            ..Default::default()
        })
        .collect();
    let asked = request.include_cluster_authorized_operations;
    MetadataResponse {
        brokers,
        cluster_id: Some(StrBytes::from(broker.cluster_id.to_string())),
        controller_id: broker.node_id.0,
        topics,
        cluster_authorized_operations: cluster_operations(&broker, &context, asked),
        ..Default::default()
    }
}

/// The answer to a request that asks by id before its version can: as Kafka's, it has nothing but the error.
fn refused(wanted: &[MetadataRequestTopic]) -> MetadataResponse {
    let topics = wanted
        .iter()
        .map(|topic| {
            let name = Some(topic.name.clone().unwrap_or_default());
            failed(ErrorCode::InvalidRequest, name, topic.topic_id, false)
        })
        .collect();
    MetadataResponse { topics, ..Default::default() }
}

/// Makes the topics that are asked for by name and do not exist. What cannot be made stays unknown.
async fn create_missing(broker: &Broker, context: &RequestContext, wanted: &[MetadataRequestTopic]) {
    if !broker.config().topics.auto_create_topics_enable {
        return;
    }
    let image = broker.quorum.image();
    // Each once: a topic that is named twice would not be made at all.
    let missing: BTreeSet<&str> = wanted
        .iter()
        .filter_map(|topic| topic.name.as_deref())
        .filter(|name| validate_topic_name(name).is_ok() && image.topic_by_name(name).is_none())
        .filter(|name| may_create(broker, context, name))
        .collect();
    if missing.is_empty() {
        return;
    }
    broker.auto_create(&missing.into_iter().collect::<Vec<_>>()).await;
}

/// Kafka's `CREATE`, of topics at large or of this one.
fn may_create(broker: &Broker, context: &RequestContext, topic: &str) -> bool {
    broker.allows(context, Operation::Create, Resource::Cluster)
        || broker.allows(context, Operation::Create, Resource::Topic(topic))
}

/// What a client may do to the cluster, if it asked; nothing for one that may not look at it.
pub(super) fn cluster_operations(broker: &Broker, context: &RequestContext, asked: bool) -> i32 {
    if !asked {
        operations::NOT_ASKED
    } else if broker.allows(context, Operation::Describe, Resource::Cluster) {
        broker.authorized_operations(context, operations::CLUSTER, Resource::Cluster)
    } else {
        0
    }
}

fn find(
    broker: &Broker,
    context: &RequestContext,
    image: &MetadataImage,
    wanted: MetadataRequestTopic,
    (asked_to_create, include_operations): (bool, bool),
) -> MetadataResponseTopic {
    let version = context.api_version;
    let allowed = |name: &str| broker.authorize(context, Operation::Describe, Resource::Topic(name));
    if let Some(name) = wanted.name {
        let error = match image.topic_by_name(&name) {
            _ if let Err(refused) = allowed(&name) => return failed(refused, Some(name), TopicId::ZERO, false),
            Some(topic) => return describe(broker, context, topic, include_operations),
            None if asked_to_create
                && broker.config().topics.auto_create_topics_enable
                && !may_create(broker, context, &name) =>
            {
                ErrorCode::TopicAuthorizationFailed
            }
            None if validate_topic_name(&name).is_err() => ErrorCode::InvalidTopicException,
            None => ErrorCode::UnknownTopicOrPartition,
        };
        let is_internal = is_internal(&name);
        return failed(error, Some(name), TopicId::ZERO, is_internal);
    }
    if version < FIRST_TOPIC_ID_VERSION || wanted.topic_id.is_zero() {
        return failed(ErrorCode::InvalidRequest, Some(StrBytes::default()), wanted.topic_id, false);
    }
    match image.topic(wanted.topic_id) {
        Some(topic) => match allowed(&topic.name) {
            Ok(()) => describe(broker, context, topic, include_operations),
            // The name is the secret, the id is not.
            Err(refused) => failed(refused, None, wanted.topic_id, false),
        },
        None => failed(ErrorCode::UnknownTopicId, None, wanted.topic_id, false),
    }
}

fn failed(error: ErrorCode, name: Option<StrBytes>, topic_id: TopicId, is_internal: bool) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code: error.code(), name, topic_id, is_internal, ..Default::default() }
}

fn describe(
    broker: &Broker,
    context: &RequestContext,
    topic: &TopicImage,
    include_operations: bool,
) -> MetadataResponseTopic {
    let allowed = || broker.authorized_operations(context, operations::TOPIC, Resource::Topic(&topic.name));
    let hosted = broker.replicas.topic_by_id(topic.topic_id);
    let partitions = topic
        .partitions()
        .map(|(partition_index, registration)| {
            let offline = hosted.as_ref().is_some_and(|hosted| hosted.is_offline(partition_index));
            let leader = registration.leader.filter(|_| !offline);
            MetadataResponsePartition {
                error_code: if leader.is_some() { 0 } else { ErrorCode::LeaderNotAvailable.code() },
                partition_index,
                leader_id: leader.map_or(-1, |leader| leader.0),
                leader_epoch: registration.leader_epoch.0,
                replica_nodes: registration.replicas.iter().map(|node| node.0).collect(),
                isr_nodes: registration.isr.iter().map(|node| node.0).collect(),
                offline_replicas: if offline { vec![broker.node_id.0] } else { Vec::new() },
                ..Default::default()
            }
        })
        .collect();
    MetadataResponseTopic {
        name: Some(StrBytes::from(topic.name.to_string())),
        topic_id: topic.topic_id,
        is_internal: is_internal(&topic.name),
        partitions,
        topic_authorized_operations: if include_operations { allowed() } else { operations::NOT_ASKED },
        ..Default::default()
    }
}
