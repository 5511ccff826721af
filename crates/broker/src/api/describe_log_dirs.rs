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
use ottla_types::{ErrorCode, TopicPartition, Uuid};

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

/// A log as it is described: one that is in use, or the copy of one that is being moved.
struct Described {
    topic_partition: TopicPartition,
    size: u64,
    offset_lag: i64,
    is_future: bool,
}

fn describe_all(broker: &Broker, topics: Option<Vec<DescribableLogDirTopic>>) -> DescribeLogDirsResponse {
    let wanted = topics.map(wanted);
    let mut logs: BTreeMap<Uuid, Vec<Described>> = BTreeMap::new();
    for log in wanted_logs(broker, wanted.as_ref()) {
        logs.entry(log.directory_id()).or_default().push(describe_log(broker, &log));
    }
    for future in broker.replicas.logs().futures() {
        let name = &future.topic_partition;
        let is_wanted = |wanted: &Wanted| wanted.contains(&(StrBytes::from(name.topic.to_string()), name.partition));
        if wanted.as_ref().is_none_or(is_wanted) {
            logs.entry(future.directory_id).or_default().push(Described {
                topic_partition: future.topic_partition,
                size: future.size,
                offset_lag: future.offset_lag,
                is_future: true,
            });
        }
    }
    let results = broker
        .replicas
        .logs()
        .directories()
        .iter()
        .map(|directory| {
            let here = directory.id.and_then(|id| logs.remove(&id));
            describe(broker, directory, here.unwrap_or_default())
        })
        .collect();
    DescribeLogDirsResponse { results, ..Default::default() }
}

type Wanted = BTreeSet<(StrBytes, i32)>;

fn wanted(topics: Vec<DescribableLogDirTopic>) -> Wanted {
    let partitions = |topic: DescribableLogDirTopic| {
        topic.partitions.into_iter().map(move |partition| (topic.topic.clone(), partition))
    };
    topics.into_iter().flat_map(partitions).collect()
}

/// In the order of the partitions. What does not exist is passed over, and what is named twice is there once, as in
/// Kafka.
fn wanted_logs(broker: &Broker, wanted: Option<&Wanted>) -> Vec<Arc<PartitionLog>> {
    let logs = broker.replicas.logs();
    let Some(wanted) = wanted else { return logs.partitions() };
    let found = wanted.iter().filter_map(|(topic, partition)| {
        let name = TopicPartition::new(Arc::from(&**topic), *partition);
        logs.get(&name)
    });
    found.collect()
}

fn describe(broker: &Broker, directory: &DirectoryStatus, mut logs: Vec<Described>) -> DescribeLogDirsResult {
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
    logs.sort_by(|left, right| left.topic_partition.cmp(&right.topic_partition));
    let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
    for log in logs {
        let partition = DescribeLogDirsPartition {
            partition_index: log.topic_partition.partition,
            partition_size: i64::try_from(log.size).unwrap_or(i64::MAX),
            offset_lag: log.offset_lag,
            is_future_key: log.is_future,
        };
        match topics.last_mut() {
            Some(topic) if *topic.name == *log.topic_partition.topic => topic.partitions.push(partition),
            _ => topics.push(DescribeLogDirsTopic {
                name: StrBytes::from(log.topic_partition.topic.to_string()),
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

fn describe_log(broker: &Broker, log: &PartitionLog) -> Described {
    let name = log.topic_partition();
    let partition = broker.replicas.partition(&name.topic, name.partition);
    Described {
        topic_partition: name.clone(),
        size: log.size(),
        // How far the log is behind the high watermark: nothing, for a leader.
        offset_lag: partition
            .map_or(UNKNOWN_LAG, |partition| (partition.high_watermark() - log.log_end_offset()).max(0)),
        is_future: false,
    }
}

/// As clients name and see a log directory.
pub(crate) fn absolute_path(path: &Path) -> String {
    absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}
