//! All logs of a node.

mod cleaning;
mod identities;
mod moving;
mod partitions;
mod start;
mod unsynced;
mod upkeep;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_rt::{DiskLock, World};
use ottla_types::{TopicId, TopicPartition, Uuid};
use parking_lot::{Mutex, RwLock};
use tokio::task::JoinHandle;

pub use moving::FutureStatus;
pub use partitions::NewPartition;
pub(crate) use start::random_uuid;

use crate::cleaner::Cleaner;
use crate::directory::{Directory, FatalHandler, FlushListener, Shared};
use crate::error::{LogError, RecoveryError};
use crate::flush::run_flusher;
use crate::journal::JournalSettings;
use crate::moves::Moves;
use crate::partition::PartitionLog;
use crate::planted::Planted;
use crate::scrub::Scrubber;

/// What a node gives its logs.
#[derive(Clone)]
pub struct LogSettings {
    /// `log.dirs`; missing ones are made.
    pub log_dirs: Vec<PathBuf>,
    pub node_id: i32,
    /// The cluster the node belongs to; `None` takes that of the directories, or a new one for new directories.
    pub cluster_id: Option<String>,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// Memory for the newest batches of all partitions together.
    pub hot_tail_bytes: usize,
    /// Files of closed segments and indexes held open.
    pub max_open_files: usize,
    /// How many partitions are recovered side by side.
    pub recovery_parallelism: usize,
    /// So much synced in a directory makes [`LogManager::checkpoint_due`] tell.
    pub checkpoint_bytes: u64,
    pub journal: JournalSettings,
    /// Room that each directory keeps back for its bookkeeping on a full volume; 0 for none.
    pub reserve_bytes: u64,
    /// Told when an invariant is broken: the node has to stop.
    pub fatal: FatalHandler,
    /// Only the simulation sets it.
    #[doc(hidden)]
    pub planted: Option<Planted>,
}

impl LogSettings {
    /// Kafka's defaults for these directories; a broken invariant is only logged.
    pub fn new(log_dirs: Vec<PathBuf>, node_id: i32) -> LogSettings {
        LogSettings {
            log_dirs,
            node_id,
            cluster_id: None,
            producer_id_expiration_ms: 24 * 60 * 60 * 1000,
            hot_tail_bytes: 64 * 1024 * 1024,
            max_open_files: 4096,
            recovery_parallelism: 4,
            checkpoint_bytes: 128 * 1024 * 1024,
            journal: JournalSettings::default(),
            reserve_bytes: 4 * 1024 * 1024,
            fatal: Arc::new(|_| {}),
            planted: None,
        }
    }
}

/// A log directory as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryStatus {
    pub path: PathBuf,
    /// `None`: it could not be read when the node started.
    pub id: Option<Uuid>,
    pub online: bool,
}

/// The logs of a node. Cheap to clone; the directories' locks are held until [`LogManager::unlock`], or until the last
/// clone is gone.
#[derive(Clone)]
pub struct LogManager {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    shared: Arc<Shared>,
    cluster_id: String,
    directories: Vec<Arc<Directory>>,
    logs: RwLock<BTreeMap<TopicPartition, Arc<PartitionLog>>>,
    /// Could not be recovered; nothing is made in their place.
    offline: BTreeMap<TopicPartition, RecoveryError>,
    /// One creation, deletion or upkeep at a time.
    changes: tokio::sync::Mutex<()>,
    cleaner: Arc<Cleaner>,
    moves: Moves,
    /// Renamed files and directories, and when they go.
    removals: Mutex<Vec<Removal>>,
    flushers: Mutex<Vec<JoinHandle<()>>>,
    pub(crate) scrubber: Mutex<Scrubber>,
    /// Held until the logs are ended.
    locks: Mutex<Vec<Box<dyn DiskLock>>>,
}

struct Removal {
    due: Duration,
    directory: Arc<Directory>,
    paths: Vec<PathBuf>,
    is_directory: bool,
}

impl LogManager {
    /// Locks the directories, checks whose they are, and recovers every partition. When it fails for whose they are,
    /// nothing was changed.
    pub async fn open(
        world: World,
        settings: LogSettings,
        config_for: impl Fn(&str) -> LogConfig,
    ) -> Result<LogManager, LogError> {
        let inner = Arc::new(start::open(world, settings, &config_for).await?);
        let mut flushers = inner.flushers.lock();
        for directory in &inner.directories {
            flushers.push(tokio::spawn(run_flusher(Arc::clone(directory))));
        }
        drop(flushers);
        Ok(LogManager { inner })
    }

    /// Who is told of flushes and failures from here on, as long as somebody else holds it.
    pub fn set_flush_listener(&self, listener: &Arc<dyn FlushListener>) {
        *self.inner.shared.listener.write() = Some(Arc::downgrade(listener));
    }

    /// `producer.id.expiration.ms` changed.
    pub fn set_producer_id_expiration_ms(&self, expiration_ms: i64) {
        self.inner.shared.producer_id_expiration_ms.store(expiration_ms, Ordering::Relaxed);
    }

    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster_id
    }

    /// Lets another process have the directories: the last thing a node does with them.
    pub fn unlock(&self) {
        self.inner.locks.lock().clear();
    }

    pub fn directories(&self) -> Vec<DirectoryStatus> {
        let status = |directory: &Arc<Directory>| DirectoryStatus {
            path: directory.path.clone(),
            id: directory.id,
            online: !directory.is_offline(),
        };
        self.inner.directories.iter().map(status).collect()
    }

    pub fn get(&self, topic_partition: &TopicPartition) -> Option<Arc<PartitionLog>> {
        self.inner.logs.read().get(topic_partition).cloned()
    }

    /// Every log, in the order of the partitions' names.
    pub fn partitions(&self) -> Vec<Arc<PartitionLog>> {
        self.inner.logs.read().values().cloned().collect()
    }

    /// The partitions that could not be recovered, and why.
    pub fn offline_partitions(&self) -> Vec<(TopicPartition, String)> {
        self.inner.offline.iter().map(|(partition, error)| (partition.clone(), error.to_string())).collect()
    }

    /// Has everything appended to the log so far made durable by the next round.
    pub fn request_flush(&self, log: &Arc<PartitionLog>) {
        log.directory().flushes.request(log);
    }

    /// Bytes the hot tails hold.
    pub fn hot_tail_bytes(&self) -> usize {
        self.inner.shared.hot_budget.used()
    }

    /// The ids of the topics that have a partition here.
    pub fn topic_ids(&self) -> BTreeMap<Arc<str>, TopicId> {
        let logs = self.inner.logs.read();
        logs.iter().filter_map(|(partition, log)| Some((Arc::clone(&partition.topic), log.topic_id()?))).collect()
    }
}

impl Inner {
    pub(crate) fn world(&self) -> &World {
        &self.shared.world
    }

    /// The logs that can be read and written.
    pub(crate) fn online_logs(&self) -> Vec<Arc<PartitionLog>> {
        self.logs.read().values().filter(|log| !log.is_offline()).cloned().collect()
    }

    fn logs_of(&self, directory: &Arc<Directory>) -> Vec<Arc<PartitionLog>> {
        let logs = self.logs.read();
        logs.values().filter(|log| log.is_in(directory)).cloned().collect()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cleaner.close();
        self.moves.close();
        for directory in &self.directories {
            directory.flushes.close();
        }
    }
}

pub(crate) fn io_error(operation: &'static str, path: &Path, source: std::io::Error) -> LogError {
    LogError::Io { operation, path: path.to_path_buf(), source }
}
