//! DescribeTopicPartitions: topics in pieces of a bounded number of partitions (KIP-966).
//!
//! Topics come in the order of their names. An answer that had to stop tells where to go on.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_image::{MetadataImage, PartitionRegistration, TopicImage};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::describe_topic_partitions_request::{Cursor, DescribeTopicPartitionsRequest};
use ottla_protocol::messages::describe_topic_partitions_response::{
    Cursor as NextCursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use ottla_types::{ErrorCode, NodeId, validate_topic_name};

use crate::authorizer::{Operation, Resource};
use crate::broker::{Broker, is_internal};
use crate::context::RequestContext;
use crate::operations;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = broker.quorum.image();
    let cursor = request.cursor.as_ref();
    let names: BTreeSet<StrBytes> = request.topics.into_iter().map(|topic| topic.name).collect();
    // A cursor must be a place in what is asked for.
    if cursor
        .is_some_and(|cursor| cursor.partition_index < 0 || !(names.is_empty() || names.contains(&cursor.topic_name)))
    {
        return refused(names);
    }
    let limit = request.response_partition_limit.min(broker.config().topics.max_request_partition_size_limit).max(1);
    let mut answer = Answer::new(&broker, &context, limit as usize);
    if names.is_empty() {
        let from = cursor.map_or("", |cursor| &*cursor.topic_name);
        let known = image
            .topics()
            .skip_while(|topic| *topic.name < *from)
            .filter(|topic| broker.allows(&context, Operation::Describe, Resource::Topic(&topic.name)));
        for topic in known {
            if !answer.add(&topic.name, Some(topic), cursor) {
                break;
            }
        }
    } else {
        let from = cursor.map_or_else(StrBytes::default, |cursor| cursor.topic_name.clone());
        for name in names.range(from..) {
            if !answer.add(name, find(&image, name), cursor) {
                break;
            }
        }
    }
    answer.response
}

fn find<'a>(image: &'a MetadataImage, name: &str) -> Option<&'a TopicImage> {
    image.topic_by_name(name).map(|topic| &**topic)
}

fn refused(names: BTreeSet<StrBytes>) -> DescribeTopicPartitionsResponse {
    let topics = names.into_iter().map(|name| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(name),
        topic_authorized_operations: operations::NOT_ASKED,
        ..Default::default()
    });
    DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() }
}

/// An answer in the making.
struct Answer<'a> {
    broker: &'a Broker,
    context: &'a RequestContext,
    /// Partitions it may still have.
    remaining: usize,
    response: DescribeTopicPartitionsResponse,
}

impl<'a> Answer<'a> {
    fn new(broker: &'a Broker, context: &'a RequestContext, remaining: usize) -> Answer<'a> {
        Answer { broker, context, remaining, response: DescribeTopicPartitionsResponse::default() }
    }

    /// Adds a topic, as much of it as there is room for; false when the answer is full.
    fn add(&mut self, name: &str, topic: Option<&TopicImage>, cursor: Option<&Cursor>) -> bool {
        if self.remaining == 0 {
            self.response.next_cursor = Some(next(name, 0));
            return false;
        }
        if let Err(refused) = self.broker.authorize(self.context, Operation::Describe, Resource::Topic(name)) {
            self.response.topics.push(described(name, refused, operations::NOT_ASKED));
            return true;
        }
        let all = self.broker.authorized_operations(self.context, operations::TOPIC, Resource::Topic(name));
        let Some(topic) = topic else {
            let unknown = validate_topic_name(name)
                .map_or(ErrorCode::InvalidTopicException, |()| ErrorCode::UnknownTopicOrPartition);
            self.response.topics.push(described(name, unknown, all));
            return true;
        };
        let first = cursor.filter(|cursor| *cursor.topic_name == *name).map_or(0, |cursor| cursor.partition_index);
        let count = topic.partition_count();
        let first = (first as usize).min(count);
        let end = count.min(first + self.remaining);
        let partitions = topic.partitions().skip(first).take(end - first);
        let hosted = self.broker.replicas.topic_by_id(topic.topic_id);
        let is_offline = |partition| hosted.as_ref().is_some_and(|hosted| hosted.is_offline(partition));
        let partitions =
            partitions.map(|(index, registration)| self.partition(index, registration, is_offline(index))).collect();
        self.response.topics.push(DescribeTopicPartitionsResponseTopic {
            topic_id: topic.topic_id,
            partitions,
            ..described(name, ErrorCode::None, all)
        });
        self.remaining -= end - first;
        if end < count {
            self.response.next_cursor = Some(next(name, end as i32));
            return false;
        }
        true
    }

    fn partition(
        &self,
        partition_index: i32,
        registration: &PartitionRegistration,
        offline: bool,
    ) -> DescribeTopicPartitionsResponsePartition {
        let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
        let leader = registration.leader.filter(|_| !offline);
        DescribeTopicPartitionsResponsePartition {
            partition_index,
            leader_id: leader.map_or(-1, |leader| leader.0),
            leader_epoch: registration.leader_epoch.0,
            replica_nodes: ids(&registration.replicas),
            isr_nodes: ids(&registration.isr),
            eligible_leader_replicas: Some(ids(&registration.eligible_leader_replicas)),
            last_known_elr: Some(ids(&registration.last_known_eligible_leader_replicas)),
            offline_replicas: if offline { vec![self.broker.node_id.0] } else { Vec::new() },
            ..Default::default()
        }
    }
}

fn next(topic: &str, partition_index: i32) -> NextCursor {
    NextCursor { topic_name: StrBytes::from(topic.to_owned()), partition_index }
}

fn described(name: &str, error: ErrorCode, topic_authorized_operations: i32) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(StrBytes::from(name.to_owned())),
        is_internal: is_internal(name),
        topic_authorized_operations,
        ..Default::default()
    }
}
