//! How much room partitions take on the disks of the brokers.

use std::collections::BTreeMap;

use ottla_protocol::ApiKey;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use ottla_types::{ErrorCode, TopicPartition};

use crate::client::Client;
use crate::error::{ClientError, check, failure};

/// A log directory of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDirectory {
    pub path: String,
    /// Why it cannot be used, if it cannot.
    pub error: Option<ErrorCode>,
    /// Of the volume it is on; `None` from an old broker.
    pub total_bytes: Option<i64>,
    pub usable_bytes: Option<i64>,
    pub replicas: BTreeMap<TopicPartition, ReplicaSize>,
}

/// One replica in a log directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaSize {
    pub bytes: i64,
    /// How many records it is behind the high watermark, or behind the replica it will replace.
    pub offset_lag: i64,
    /// It is being copied from another directory of the same broker.
    pub is_future: bool,
}

impl Client {
    /// The log directories of a broker, with what is there of these partitions; of all for `None`. `Ok(None)` if the
    /// broker does not serve that.
    pub async fn log_directories(
        &self,
        node_id: i32,
        partitions: Option<&BTreeMap<String, Vec<i32>>>,
    ) -> Result<Option<Vec<LogDirectory>>, ClientError> {
        let topics = partitions.map(|topics| {
            let topic = |(topic, partitions): (&String, &Vec<i32>)| DescribableLogDirTopic {
                topic: StrBytes::from(topic.clone()),
                partitions: partitions.clone(),
            };
            topics.iter().map(topic).collect()
        });
        let request = DescribeLogDirsRequest { topics };
        self.at_broker(Some(node_id), async |connection| {
            if connection.version(ApiKey::DescribeLogDirs).is_none() {
                return Ok(None);
            }
            let response = connection.send(&request).await?;
            check(ApiKey::DescribeLogDirs, response.error_code, None)?;
            let directories = response.results.iter().map(|directory| {
                let replicas = directory.topics.iter().flat_map(|topic| {
                    topic.partitions.iter().map(|found| {
                        let at = TopicPartition::new(topic.name.as_str(), found.partition_index);
                        let (bytes, offset_lag) = (found.partition_size, found.offset_lag);
                        (at, ReplicaSize { bytes, offset_lag, is_future: found.is_future_key })
                    })
                });
                LogDirectory {
                    path: directory.log_dir.to_string(),
                    error: failure(directory.error_code),
                    total_bytes: Some(directory.total_bytes).filter(|&bytes| bytes >= 0),
                    usable_bytes: Some(directory.usable_bytes).filter(|&bytes| bytes >= 0),
                    replicas: replicas.collect(),
                }
            });
            Ok(Some(directories.collect()))
        })
        .await
    }
}
