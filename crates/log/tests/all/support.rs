//! What the scenarios share: batches, and a node's logs in a directory of their own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ottla_config::LogConfig;
use ottla_log::{
    AbortedTransaction, AppendError, AppendOrigin, Appended, BatchToAppend, JournalSettings, LogError, LogManager,
    LogSettings, NewPartition, PartitionLog,
};
use ottla_record::{BatchBuilder, BatchHeader, Compression, ControlType, Records};
use ottla_rt::memory::MemoryWorld;
use ottla_rt::{OpenMode, World};
use ottla_types::{LeaderEpoch, TopicPartition, Uuid};

pub const TOPIC: &str = "orders";

/// A topic id, always the same.
pub const TOPIC_ID: Uuid = Uuid([7; 16]);

pub fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, number)
}

/// A batch as a producer sends it.
#[derive(Clone, Debug)]
pub struct Batch {
    pub values: Vec<Vec<u8>>,
    pub first_timestamp: i64,
    pub producer: Option<(i64, i16, i32)>,
    pub transactional: bool,
}

impl Batch {
    pub fn of(values: &[&str]) -> Batch {
        Batch {
            values: values.iter().map(|value| value.as_bytes().to_vec()).collect(),
            first_timestamp: 1_000,
            producer: None,
            transactional: false,
        }
    }

    /// One record of this size.
    pub fn sized(bytes: usize) -> Batch {
        Batch { values: vec![vec![b'x'; bytes]], first_timestamp: 1_000, producer: None, transactional: false }
    }

    pub fn at(mut self, timestamp: i64) -> Batch {
        self.first_timestamp = timestamp;
        self
    }

    pub fn by_producer(mut self, id: i64, epoch: i16, sequence: i32) -> Batch {
        self.producer = Some((id, epoch, sequence));
        self
    }

    /// In a transaction of its producer.
    pub fn transactional(mut self) -> Batch {
        self.transactional = true;
        self
    }

    pub fn build(&self) -> (Bytes, BatchHeader) {
        let mut builder = BatchBuilder::new(Compression::NONE);
        if let Some((id, epoch, sequence)) = self.producer {
            builder.set_producer(id, epoch, sequence);
        }
        builder.set_transactional(self.transactional);
        for (index, value) in self.values.iter().enumerate() {
            builder.append(self.first_timestamp + index as i64, None, Some(value), &[]).unwrap();
        }
        let bytes = builder.finish().unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        (bytes, header)
    }
}

pub fn append(log: &PartitionLog, batch: &Batch) -> Result<Appended, AppendError> {
    append_with_epoch(log, batch, 0)
}

pub fn append_with_epoch(log: &PartitionLog, batch: &Batch, epoch: i32) -> Result<Appended, AppendError> {
    let (bytes, header) = batch.build();
    let batch = BatchToAppend { bytes: &bytes, header: &header, origin: AppendOrigin::Client };
    log.append(batch, LeaderEpoch(epoch), 1_000)
}

pub fn append_from(log: &PartitionLog, batch: &Batch, origin: AppendOrigin) -> Result<Appended, AppendError> {
    let (bytes, header) = batch.build();
    log.append(BatchToAppend { bytes: &bytes, header: &header, origin }, LeaderEpoch(0), 1_000)
}

/// Every value from `offset` on, with its offset, read in steps of `max_bytes`.
pub fn values_from(log: &PartitionLog, offset: i64, max_bytes: usize) -> Vec<(i64, Vec<u8>)> {
    let mut values = Vec::new();
    let mut next = offset;
    while next < log.log_end_offset() {
        let read = log.read(next, max_bytes, true, i64::MAX).unwrap();
        let bytes = read.to_bytes().unwrap();
        assert_eq!(bytes.len(), read.bytes);
        let before = next;
        for batch in ottla_record::batches(&bytes) {
            // The last one may be cut off.
            let Ok((header, batch)) = batch else { break };
            ottla_record::verify_crc(batch).unwrap();
            for record in Records::new(&header, &batch[ottla_record::BATCH_OVERHEAD..]) {
                let record = record.unwrap();
                if record.offset >= next {
                    values.push((record.offset, record.value.unwrap().to_vec()));
                }
            }
            next = header.next_offset();
        }
        assert!(next > before, "a read at {before} makes progress");
    }
    values
}

/// What a consumer of committed records makes of the batches it was given, from this offset on.
pub fn committed_values(batches: &Bytes, mut aborted: Vec<AbortedTransaction>, from: i64) -> Vec<(i64, Vec<u8>)> {
    aborted.sort_by_key(|aborted| std::cmp::Reverse(aborted.first_offset));
    let mut values = Vec::new();
    let mut aborting = BTreeSet::new();
    for batch in ottla_record::batches(batches) {
        let (header, batch) = batch.unwrap();
        while aborted.last().is_some_and(|next| next.first_offset <= header.last_offset()) {
            aborting.extend(aborted.pop().map(|next| next.producer_id));
        }
        if header.attributes.is_control() {
            let marker = ottla_record::EndTransactionMarker::of_batch(batch).unwrap().unwrap();
            if marker.control_type == ControlType::Abort {
                aborting.remove(&header.producer_id);
            }
            continue;
        }
        if header.attributes.is_transactional() && aborting.contains(&header.producer_id) {
            continue;
        }
        for record in Records::new(&header, &batch[ottla_record::BATCH_OVERHEAD..]) {
            let record = record.unwrap();
            if record.offset >= from {
                values.push((record.offset, record.value.unwrap().to_vec()));
            }
        }
    }
    values
}

pub fn text(values: &[(i64, Vec<u8>)]) -> Vec<(i64, String)> {
    values.iter().map(|(offset, value)| (*offset, String::from_utf8(value.clone()).unwrap())).collect()
}

/// A node's logs, in a temporary directory.
pub struct Node {
    pub root: tempfile::TempDir,
    pub world: World,
    pub config: LogConfig,
    pub hot_tail_bytes: usize,
}

impl Node {
    pub fn new() -> Node {
        Node {
            root: tempfile::tempdir().unwrap(),
            world: World::os(),
            config: LogConfig::default(),
            hot_tail_bytes: 1024 * 1024,
        }
    }

    pub fn with_config(change: impl FnOnce(&mut LogConfig)) -> Node {
        let mut node = Node::new();
        change(&mut node.config);
        node
    }

    pub fn directory(&self) -> PathBuf {
        self.root.path().join("data")
    }

    pub fn settings(&self) -> LogSettings {
        let mut settings = LogSettings::new(vec![self.directory()], 1);
        settings.hot_tail_bytes = self.hot_tail_bytes;
        settings
    }

    pub async fn open(&self) -> LogManager {
        let config = self.config.clone();
        LogManager::open(self.world.clone(), self.settings(), move |_| config.clone()).await.unwrap()
    }

    pub async fn create(&self, manager: &LogManager, number: i32) -> Arc<PartitionLog> {
        let wanted = NewPartition {
            topic_partition: partition(number),
            topic_id: TOPIC_ID,
            config: Arc::new(self.config.clone()),
        };
        manager.create(vec![wanted]).await.pop().unwrap().unwrap()
    }

    /// Opens the directory and makes, or finds, partition 0.
    pub async fn start(&self) -> (LogManager, Arc<PartitionLog>) {
        let manager = self.open().await;
        let log = self.create(&manager, 0).await;
        (manager, log)
    }
}

pub async fn flush(manager: &LogManager, log: &Arc<PartitionLog>) {
    let end = log.log_end_offset();
    manager.request_flush(log);
    log.wait_flushed(end).await.unwrap();
}

pub fn files(path: &Path) -> Vec<String> {
    let disk = World::os().disk;
    disk.read_dir(path).unwrap().into_iter().map(|entry| entry.name).collect()
}

/// A machine in memory: its processes can be killed and its power can go.
pub struct Machine {
    pub memory: MemoryWorld,
    pub config: LogConfig,
    pub journal: JournalSettings,
    pub reserve_bytes: u64,
    /// Small by default, so that reads come from files as well.
    pub hot_tail_bytes: usize,
}

impl Machine {
    pub fn new(seed: u64) -> Machine {
        Machine {
            memory: MemoryWorld::new(seed),
            config: LogConfig::default(),
            journal: JournalSettings::default(),
            reserve_bytes: 0,
            hot_tail_bytes: 3_000,
        }
    }

    pub fn with_config(seed: u64, change: impl FnOnce(&mut LogConfig)) -> Machine {
        let mut machine = Machine::new(seed);
        change(&mut machine.config);
        machine
    }

    pub fn settings() -> LogSettings {
        let mut settings = LogSettings::new(vec![PathBuf::from("/data")], 1);
        settings.cluster_id = Some("cluster".to_owned());
        // Small, so that reads come from files as well.
        settings.hot_tail_bytes = 3_000;
        settings.max_open_files = 4;
        settings
    }

    pub async fn try_open(&self) -> Result<LogManager, LogError> {
        let config = self.config.clone();
        let mut settings = Machine::settings();
        settings.journal = self.journal;
        settings.reserve_bytes = self.reserve_bytes;
        settings.hot_tail_bytes = self.hot_tail_bytes;
        LogManager::open(self.memory.world(), settings, move |_| config.clone()).await
    }

    pub async fn open(&self) -> LogManager {
        self.try_open().await.unwrap()
    }

    pub async fn try_create(&self, manager: &LogManager, number: i32) -> Result<Arc<PartitionLog>, LogError> {
        let wanted = NewPartition {
            topic_partition: partition(number),
            topic_id: TOPIC_ID,
            config: Arc::new(self.config.clone()),
        };
        manager.create(vec![wanted]).await.pop().unwrap()
    }

    pub async fn start(&self) -> (LogManager, Arc<PartitionLog>) {
        let manager = self.open().await;
        let log = self.try_create(&manager, 0).await.unwrap();
        (manager, log)
    }

    /// The bytes of a file of partition 0.
    pub fn read(&self, name: &str) -> Vec<u8> {
        self.memory.disk.mount().read_file(&path(name), u64::MAX).unwrap()
    }

    /// Replaces a file of partition 0.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        self.memory.disk.mount().write_file_atomically(&path(name), bytes).unwrap();
    }

    /// Flips a bit in a file of partition 0, under the hands of whoever has it open.
    pub fn flip(&self, name: &str, bit: usize) {
        self.flip_in(&path(name), bit);
    }

    pub fn flip_in(&self, path: &Path, bit: usize) {
        let file = self.memory.disk.mount().open(path, OpenMode::ReadWrite).unwrap();
        let position = bit as u64 / 8;
        let mut byte = [0];
        file.read_exact_at(&mut byte, position).unwrap();
        byte[0] ^= 1 << (bit % 8);
        file.write_all_at(&[std::io::IoSlice::new(&byte)], position).unwrap();
    }

    /// Gives a file of partition 0 other bytes, under the hands of whoever has it open.
    pub fn overwrite(&self, name: &str, bytes: &[u8]) {
        let file = self.memory.disk.mount().open(&path(name), OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[std::io::IoSlice::new(bytes)], 0).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
    }

    pub fn remove(&self, name: &str) {
        self.memory.disk.mount().remove_file(&path(name)).unwrap();
    }

    pub fn names(&self) -> Vec<String> {
        self.memory.disk.mount().read_dir(&path("")).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    /// The files of partition 0 with this ending.
    pub fn names_with(&self, ending: &str) -> Vec<String> {
        self.names().into_iter().filter(|name| name.ends_with(ending)).collect()
    }
}

/// Runs a scenario on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// A file of partition 0 of a [`Machine`].
fn path(name: &str) -> PathBuf {
    Path::new("/data/orders-0").join(name)
}
