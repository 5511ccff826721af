//! AlterReplicaLogDirs: partitions move to other log directories of this node. The answer says that a move has begun, or
//! that there is none to do; DescribeLogDirs tells how far it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_log::MoveReplicaError;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDirsRequest;
use ottla_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsResponse,
};
use ottla_types::{ErrorCode, TopicPartition};

use super::describe_log_dirs::absolute_path;
use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    // A partition that is named twice goes where it is said last, as in Kafka.
    let mut wanted: BTreeMap<(StrBytes, i32), StrBytes> = BTreeMap::new();
    for directory in request.dirs {
        for topic in directory.topics {
            for partition in topic.partitions {
                wanted.insert((topic.name.clone(), partition), directory.path.clone());
            }
        }
    }
    let refused = broker.authorize(&context, Operation::Alter, Resource::Cluster).err();
    // Not to be left halfway when the client goes.
    let moving = tokio::spawn(async move { move_all(&broker, refused, wanted).await });
    let results = moving.await.expect("a panic while moves begin is this handler's panic");
    AlterReplicaLogDirsResponse { results, ..Default::default() }
}

async fn move_all(
    broker: &Broker,
    refused: Option<ErrorCode>,
    wanted: BTreeMap<(StrBytes, i32), StrBytes>,
) -> Vec<AlterReplicaLogDirTopicResult> {
    let mut results: Vec<AlterReplicaLogDirTopicResult> = Vec::new();
    for ((topic_name, partition_index), directory) in wanted {
        let error = match refused {
            Some(refused) => refused,
            None => move_replica(broker, &topic_name, partition_index, &directory).await,
        };
        let partition = AlterReplicaLogDirPartitionResult { partition_index, error_code: error.code() };
        match results.last_mut() {
            Some(topic) if topic.topic_name == topic_name => topic.partitions.push(partition),
            _ => results.push(AlterReplicaLogDirTopicResult { topic_name, partitions: vec![partition] }),
        }
    }
    results
}

async fn move_replica(broker: &Broker, topic: &str, partition: i32, directory: &str) -> ErrorCode {
    let logs = broker.replicas.logs();
    let topic_partition = TopicPartition::new(Arc::from(topic), partition);
    let known = logs.directories().into_iter().find(|known| absolute_path(&known.path) == *directory);
    let path = known.map_or_else(|| PathBuf::from(directory), |known| known.path);
    match logs.move_replica(&topic_partition, &path).await {
        Ok(()) => ErrorCode::None,
        Err(error) => {
            tracing::warn!(%topic_partition, directory, %error, "a partition is not moved");
            let exists = broker.quorum.image().partition(topic, partition).is_some();
            error_code(&error, exists)
        }
    }
}

fn error_code(error: &MoveReplicaError, partition_exists: bool) -> ErrorCode {
    match error {
        MoveReplicaError::NameTooLong(_) => ErrorCode::InvalidTopicException,
        MoveReplicaError::UnknownDirectory(_) => ErrorCode::LogDirNotFound,
        // It will be made there, if it is to be on this node.
        MoveReplicaError::UnknownPartition(_) if partition_exists => ErrorCode::ReplicaNotAvailable,
        MoveReplicaError::UnknownPartition(_) => ErrorCode::UnknownTopicOrPartition,
        MoveReplicaError::DirectoryOffline(_)
        | MoveReplicaError::PartitionOffline(_)
        | MoveReplicaError::Occupied(_)
        | MoveReplicaError::Io { .. } => ErrorCode::KafkaStorageError,
    }
}
