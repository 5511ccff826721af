//! OffsetDelete: a group forgets what it committed for some partitions.

use std::collections::HashMap;
use std::sync::Arc;

use ottla_group::{DeleteOffsets, DeletedOffsets, GroupError};
use ottla_image::MetadataImage;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::offset_delete_request::{OffsetDeleteRequest, OffsetDeleteRequestTopic};
use ottla_protocol::messages::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use ottla_types::ErrorCode;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::coordinator::{Answer, Shows, Unavailable};

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    if let Err(refused) = broker.authorize(&context, Operation::Delete, Resource::Group(&request.group_id)) {
        return failed(refused);
    }
    if request.group_id.is_empty() {
        return failed(ErrorCode::InvalidGroupId);
    }
    let image = broker.quorum.image();
    let mut topics = Topics::default();
    let mut known = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        if let Err(refused) = broker.authorize(&context, Operation::Read, Resource::Topic(&topic.name)) {
            for partition in &topic.partitions {
                topics.add(&topic.name, partition.partition_index, refused);
            }
            continue;
        }
        let (existing, missing) = split(&image, &topic);
        for partition in missing {
            topics.add(&topic.name, partition, ErrorCode::UnknownTopicOrPartition);
        }
        if !existing.is_empty() {
            known.push((Arc::from(&*topic.name), existing));
        }
    }
    // Asked even if nothing is left to delete: whether there is such a group is the first thing the client is told.
    match delete(&broker, DeleteOffsets { group: Arc::from(&*request.group_id), topics: known }).await {
        Ok(deleted) => {
            for topic in deleted {
                let name = StrBytes::from(&topic.topic);
                for partition in topic.partitions {
                    let error = partition.error.map_or(ErrorCode::None, GroupError::error_code);
                    topics.add(&name, partition.partition, error);
                }
            }
            OffsetDeleteResponse { topics: topics.in_order, ..Default::default() }
        }
        Err(error) => failed(error),
    }
}

/// The partitions a topic has, and those it has not.
fn split(image: &MetadataImage, topic: &OffsetDeleteRequestTopic) -> (Vec<i32>, Vec<i32>) {
    let found = image.topic_by_name(&topic.name);
    let partitions = topic.partitions.iter().map(|partition| partition.partition_index);
    partitions.partition(|partition| found.is_some_and(|found| found.partition(*partition).is_some()))
}

async fn delete(broker: &Broker, request: DeleteOffsets) -> Result<Vec<DeletedOffsets>, ErrorCode> {
    let group = Arc::clone(&request.group);
    let driver = broker.groups.driver(&group).map_err(Unavailable::error_code)?;
    let answer = driver.write(|machine, _, _| machine.handle_delete_offsets(request).into()).await;
    let answer = answer.map_err(Unavailable::error_code)?;
    // What is not there any more may be somebody else's deletion, which is told of only once it is committed.
    driver.read(Shows::Scope(&group), |_| ()).await.map_err(Unavailable::error_code)?;
    match answer {
        Answer::Now(deleted) => deleted.map_err(GroupError::error_code),
        Answer::Released(_) => Err(ErrorCode::NotCoordinator),
    }
}

fn failed(error: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse { error_code: error.code(), ..Default::default() }
}

/// One entry per topic, in the order in which they came up.
#[derive(Default)]
struct Topics {
    in_order: Vec<OffsetDeleteResponseTopic>,
    positions: HashMap<StrBytes, usize>,
}

impl Topics {
    fn add(&mut self, name: &StrBytes, partition_index: i32, error: ErrorCode) {
        let position = *self.positions.entry(name.clone()).or_insert_with(|| {
            self.in_order.push(OffsetDeleteResponseTopic { name: name.clone(), partitions: Vec::new() });
            self.in_order.len() - 1
        });
        let partition = OffsetDeleteResponsePartition { partition_index, error_code: error.code() };
        if let Some(topic) = self.in_order.get_mut(position) {
            topic.partitions.push(partition);
        }
    }
}
