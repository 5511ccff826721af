//! What the scenarios share.

use std::future::Future;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use ottla_image::{MetadataImage, MetadataRecord, PartitionRegistration};
use ottla_quorum::{OpenError, QuorumSettings, RaftQuorum};
use ottla_rt::memory::MemoryWorld;
use ottla_rt::{OpenMode, World};
use ottla_types::{NodeId, Uuid};

pub const DIRECTORY: &str = "/data/ottla-metadata";

/// Runs one process: when it ends, so do all its tasks.
pub fn process<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(future)
}

pub fn settings() -> QuorumSettings {
    QuorumSettings::new(DIRECTORY, NodeId(1))
}

pub fn machine(seed: u64) -> MemoryWorld {
    let machine = MemoryWorld::new(seed);
    make_data_directory(&machine.world());
    machine
}

/// As the owner of the log directory does before the quorum opens.
pub fn make_data_directory(world: &World) {
    world.disk.create_dir_all(Path::new("/data")).unwrap();
    world.disk.sync_dir(Path::new("/")).unwrap();
}

pub async fn open(world: &World) -> Result<RaftQuorum, OpenError> {
    RaftQuorum::open(world, settings(), |_| Vec::new()).await
}

/// A topic with one partition; `number` is in its name and its id.
pub fn topic(number: usize) -> Vec<MetadataRecord> {
    let mut id = [9; 16];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let topic_id = Uuid(id);
    let registration = PartitionRegistration::new(vec![NodeId(1)], vec![Uuid::ZERO]);
    vec![
        MetadataRecord::Topic { name: topic_name(number).into(), topic_id },
        MetadataRecord::Partition { topic_id, partition: 0, registration },
    ]
}

pub fn topic_name(number: usize) -> String {
    format!("topic-{number:05}")
}

/// How many topics of a run from 0 there are; panics if there are others, or a topic without its partition.
pub fn topic_run(image: &MetadataImage) -> usize {
    image.check_invariants();
    for (number, topic) in image.topics().enumerate() {
        assert_eq!(*topic.name, topic_name(number), "topics are applied in order");
        assert_eq!(topic.partition_count(), 1, "records of one proposal are applied together");
    }
    image.topic_count()
}

/// The names and contents of the quorum's files.
pub fn files(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(DIRECTORY);
    let entries = world.disk.read_dir(directory).unwrap();
    let read = |name: &str| {
        let path = directory.join(name);
        let bytes = world.disk.read_file(&path, u64::MAX).unwrap();
        (path, bytes)
    };
    entries.iter().map(|entry| read(&entry.name)).collect()
}

/// The only file of the log.
pub fn log_file(world: &World) -> (PathBuf, Vec<u8>) {
    let mut logs: Vec<_> = files(world).into_iter().filter(|(path, _)| path.extension().unwrap() == "log").collect();
    assert_eq!(logs.len(), 1);
    logs.remove(0)
}

/// A machine whose disk holds this file alone.
pub fn machine_with(path: &Path, bytes: &[u8]) -> MemoryWorld {
    let machine = machine(1);
    put_file(&machine.world(), path, bytes);
    machine
}

pub fn put_file(world: &World, path: &Path, bytes: &[u8]) {
    world.disk.create_dir_all(Path::new(DIRECTORY)).unwrap();
    let file = world.disk.open(path, OpenMode::CreateOrOpen).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(&[IoSlice::new(bytes)], 0).unwrap();
    file.sync_all().unwrap();
    world.disk.sync_dir(Path::new(DIRECTORY)).unwrap();
    world.disk.sync_dir(Path::new("/data")).unwrap();
}
