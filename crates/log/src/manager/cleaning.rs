//! The manager's side of the log cleaner.

use std::path::PathBuf;
use std::sync::Arc;

use ottla_types::TopicPartition;

use super::{Inner, LogManager};
use crate::cleaner::{CleanerSettings, Cleaning, Logs};
use crate::directory::Shared;
use crate::partition::PartitionLog;

impl LogManager {
    /// Begins to clean compacted logs, or goes on with other settings. Not before every log has its topic's configuration:
    /// by the one it was recovered with it may not be compacted, or keep its tombstones for another time.
    pub fn start_cleaner(&self, settings: CleanerSettings) {
        let inner = Arc::downgrade(&self.inner);
        self.inner.cleaner.start(settings, move || inner.upgrade());
    }

    /// What the cleaner was started with last, if it was.
    pub fn cleaner_settings(&self) -> Option<CleanerSettings> {
        self.inner.cleaner.settings()
    }

    /// Cleans the dirtiest compacted log that is due, once and now.
    pub async fn clean_filthiest(&self) -> Cleaning {
        self.inner.cleaner.clean_filthiest(&self.inner).await
    }

    /// The partitions the cleaner has given up; their logs grow until somebody looks after them.
    pub fn uncleanable_partitions(&self) -> Vec<TopicPartition> {
        self.inner.cleaner.uncleanable()
    }
}

impl Logs for Inner {
    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn compacted(&self) -> Vec<Arc<PartitionLog>> {
        let logs = self.logs.read();
        logs.values().filter(|log| log.config().cleanup_policy.compact && !log.is_moving()).cloned().collect()
    }

    fn remove_later(&self, log: &PartitionLog, paths: Vec<PathBuf>) {
        self.remove_files_later(log, paths);
    }
}
