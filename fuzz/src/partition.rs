//! The one partition of a machine in memory.

use std::path::PathBuf;
use std::sync::Arc;

use ottla_config::LogConfig;
use ottla_log::{LogManager, LogSettings, NewPartition, PartitionLog};
use ottla_rt::memory::MemoryWorld;
use ottla_types::{TopicPartition, Uuid};

/// Its directory is `/data/t-0`.
pub fn name() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// Starts a node; `None` when it does not come up.
pub async fn open(memory: &MemoryWorld, config: LogConfig) -> Option<LogManager> {
    let mut settings = LogSettings::new(vec![PathBuf::from("/data")], 1);
    settings.cluster_id = Some("cluster".to_owned());
    settings.hot_tail_bytes = 0;
    settings.fatal = Arc::new(|event| panic!("{event:?}"));
    LogManager::open(memory.world(), settings, move |_| config.clone()).await.ok()
}

/// Starts a node on an empty disk, and makes the partition.
pub async fn create(memory: &MemoryWorld, config: LogConfig) -> (LogManager, Arc<PartitionLog>) {
    let manager = open(memory, config.clone()).await.expect("an empty directory");
    let wanted = NewPartition { topic_partition: name(), topic_id: Uuid([7; 16]), config: Arc::new(config) };
    let log = manager.create(vec![wanted]).await.pop().expect("one").expect("it is made");
    (manager, log)
}
