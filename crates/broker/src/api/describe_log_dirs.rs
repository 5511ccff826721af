//! DescribeLogDirs: what is in each log directory, and how much room its volume has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, absolute};
use std::sync::Arc;

use ottla_log::{DirectoryStatus, PartitionLog};
use ottla_protocol::StrBytes;
use ottla_protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use ottla_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use ottla_types::{ErrorCode, Uuid};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;

/// What is not known of a volume.
const UNKNOWN_BYTES: i64 = -1;
/// The lag of a log that belongs to no partition in use.
const UNKNOWN_LAG: i64 = -1;

pub(crate) async fn handle(
    broker: Arc<Broker>,
    context: Arc<RequestContext>,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    if let Err(refused) = broker.authorize(&context, Operation::Describe, Resource::Cluster) {
        return DescribeLogDirsResponse { error_code: refused.code(), ..Default::default() };
    }
    let describing = Arc::clone(&broker);
    // The room left is asked of the file system.
    broker.blocking(move || describe_all(&describing, request.topics)).await
}

fn describe_all(broker: &Broker, topics: Option<Vec<DescribableLogDirTopic>>) -> DescribeLogDirsResponse {
    let mut logs: BTreeMap<Uuid, Vec<Arc<PartitionLog>>> = BTreeMap::new();
    for log in wanted_logs(broker, topics) {
        logs.entry(log.directory_id()).or_default().push(log);
    }
    let results = broker
        .replicas
        .logs()
        .directories()
        .iter()
        .map(|directory| describe(broker, directory, logs.remove(&directory.id).unwrap_or_default()))
        .collect();
    DescribeLogDirsResponse { results, ..Default::default() }
}

/// In the order of the partitions. What does not exist is passed over, and what is named twice is there once, as in
/// Kafka.
fn wanted_logs(broker: &Broker, topics: Option<Vec<DescribableLogDirTopic>>) -> Vec<Arc<PartitionLog>> {
    let logs = broker.replicas.logs();
    let Some(topics) = topics else { return logs.partitions() };
    let wanted: BTreeSet<(StrBytes, i32)> = topics
        .into_iter()
        .flat_map(|topic| topic.partitions.into_iter().map(move |partition| (topic.topic.clone(), partition)))
        .collect();
    let found = wanted.into_iter().filter_map(|(topic, partition)| {
        let name = ottla_types::TopicPartition::new(Arc::from(&*topic), partition);
        logs.get(&name)
    });
    found.collect()
}

fn describe(broker: &Broker, directory: &DirectoryStatus, logs: Vec<Arc<PartitionLog>>) -> DescribeLogDirsResult {
    let log_dir = StrBytes::from(absolute_path(&directory.path));
    let failed = DescribeLogDirsResult {
        error_code: ErrorCode::KafkaStorageError.code(),
        log_dir: log_dir.clone(),
        total_bytes: UNKNOWN_BYTES,
        usable_bytes: UNKNOWN_BYTES,
        ..Default::default()
    };
    if !directory.online {
        return failed;
    }
    let space = match broker.world.disk.space(&directory.path) {
        Ok(space) => space,
        Err(error) => {
            tracing::warn!(directory = %directory.path.display(), %error, "the room of a log directory is not known");
            return failed;
        }
    };
    let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
    for log in logs {
        let partition = describe_log(broker, &log);
        match topics.last_mut() {
            Some(topic) if *topic.name == *log.topic_partition().topic => topic.partitions.push(partition),
            _ => topics.push(DescribeLogDirsTopic {
                name: StrBytes::from(log.topic_partition().topic.to_string()),
                partitions: vec![partition],
            }),
        }
    }
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    DescribeLogDirsResult {
        log_dir,
        topics,
        total_bytes: bytes(space.total),
        usable_bytes: bytes(space.available),
        ..Default::default()
    }
}

fn describe_log(broker: &Broker, log: &PartitionLog) -> DescribeLogDirsPartition {
    let name = log.topic_partition();
    let partition = broker.replicas.partition(&name.topic, name.partition);
    DescribeLogDirsPartition {
        partition_index: name.partition,
        partition_size: i64::try_from(log.size()).unwrap_or(i64::MAX),
        // How far the log is behind the high watermark: nothing, for a leader.
        offset_lag: partition
            .map_or(UNKNOWN_LAG, |partition| (partition.high_watermark() - log.log_end_offset()).max(0)),
        is_future_key: false,
    }
}

fn absolute_path(path: &Path) -> String {
    absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}
