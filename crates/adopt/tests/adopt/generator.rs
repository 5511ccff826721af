//! Kafka's directories, written as Kafka writes them: with our own codec, checked elsewhere against Kafka's.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ottla_adopt::{AdoptOptions, AdoptSettings, KafkaRecord};
use ottla_image::{MetadataImage, SupportedFeature};
use ottla_protocol::messages::leader_change_message::{LeaderChangeMessage, Voter};
use ottla_protocol::messages::snapshot_footer_record::SnapshotFooterRecord;
use ottla_protocol::messages::snapshot_header_record::SnapshotHeaderRecord;
use ottla_protocol::records::config_record::ConfigRecord;
use ottla_protocol::records::feature_level_record::FeatureLevelRecord;
use ottla_protocol::records::partition_record::PartitionRecord;
use ottla_protocol::records::register_broker_record::RegisterBrokerRecord;
use ottla_protocol::records::topic_record::TopicRecord;
use ottla_protocol::{Encoder, Message};
use ottla_quorum::{MetadataQuorum, QuorumSettings, RaftQuorum};
use ottla_record::{BatchBuilder, Compression, stamp_crc};
use ottla_rt::memory::MemoryWorld;
use ottla_rt::{OpenMode, World};
use ottla_types::{NodeId, Uuid};

pub const CLUSTER_ID: &str = "b3R0bGEtYWRvcHQtMDAwMQ";
pub const NODE: i32 = 1;
pub const DIRECTORY: &str = "/kafka/data";
/// By the clock of a world in memory: 2026-01-01, in seconds, times 2^20.
pub const FIRST_PRODUCER_ID: i64 = 1_767_225_600 << 20;
const ATTRIBUTES: std::ops::Range<usize> = 21..23;
const CONTROL: i16 = 0x20;

/// What `adopt` is asked for, for one directory.
pub fn settings() -> AdoptSettings {
    AdoptSettings {
        log_dirs: vec![PathBuf::from(DIRECTORY)],
        metadata_log_dir: None,
        options: AdoptOptions::default(),
        features: vec![feature("group.version", 0), feature("metadata.version", 33)],
    }
}

fn feature(name: &str, level: i16) -> SupportedFeature {
    SupportedFeature { name: name.into(), min_level: level, max_level: level }
}

pub fn directory_id(number: u8) -> Uuid {
    Uuid([200, number, 0, 0, 0, 0, 64, 0, 128, 0, 0, 0, 0, 0, 0, 1])
}

pub fn topic_id(number: u8) -> Uuid {
    Uuid([100, number, 0, 0, 0, 0, 64, 0, 128, 0, 0, 0, 0, 0, 0, 1])
}

/// The bytes of a metadata log, batch after batch.
#[derive(Default)]
pub struct LogBytes {
    pub bytes: Vec<u8>,
    pub next_offset: i64,
}

impl LogBytes {
    pub fn starting_at(offset: i64) -> LogBytes {
        LogBytes { bytes: Vec::new(), next_offset: offset }
    }

    /// A batch of records, each in its newest version.
    pub fn batch(&mut self, records: &[KafkaRecord]) -> &mut Self {
        let values: Vec<_> = records.iter().map(|record| record.encode(record.newest_version()).unwrap()).collect();
        self.values(&values)
    }

    /// A batch of these values.
    pub fn values(&mut self, values: &[Bytes]) -> &mut Self {
        let mut builder = BatchBuilder::new(Compression::NONE);
        builder.set_position(self.next_offset, 1);
        for value in values {
            builder.append(1_700_000_000_000, None, Some(value), &[]).unwrap();
        }
        self.put(&builder.finish().unwrap(), values.len())
    }

    /// A control batch of one record.
    pub fn control(&mut self, control_type: i16, value: &Bytes) -> &mut Self {
        let mut key = [0; 4];
        key[2..].copy_from_slice(&control_type.to_be_bytes());
        let mut builder = BatchBuilder::new(Compression::NONE);
        builder.set_position(self.next_offset, 1);
        builder.append(1_700_000_000_000, Some(&key), Some(value), &[]).unwrap();
        let mut batch = builder.finish().unwrap().to_vec();
        let attributes = i16::from_be_bytes(batch[ATTRIBUTES].try_into().unwrap()) | CONTROL;
        batch[ATTRIBUTES].copy_from_slice(&attributes.to_be_bytes());
        stamp_crc(&mut batch);
        self.put(&batch, 1)
    }

    pub fn leader_change(&mut self, voters: &[i32]) -> &mut Self {
        let voters: Vec<Voter> =
            voters.iter().map(|&voter_id| Voter { voter_id, voter_directory_id: Uuid::ZERO }).collect();
        let message =
            LeaderChangeMessage { version: 1, leader_id: voters[0].voter_id, granting_voters: voters.clone(), voters };
        self.control(2, &encoded(&message, 1))
    }

    pub fn snapshot_header(&mut self) -> &mut Self {
        self.control(3, &encoded(&SnapshotHeaderRecord::default(), 0))
    }

    pub fn snapshot_footer(&mut self) -> &mut Self {
        self.control(4, &encoded(&SnapshotFooterRecord::default(), 0))
    }

    fn put(&mut self, batch: &[u8], records: usize) -> &mut Self {
        self.bytes.extend_from_slice(batch);
        self.next_offset += i64::try_from(records).unwrap();
        self
    }
}

fn encoded<M: Message>(message: &M, version: i16) -> Bytes {
    let mut output = Encoder::new();
    message.encode(&mut output, version).unwrap();
    output.finish_contiguous().unwrap()
}

pub fn topic(name: &str, id: Uuid) -> KafkaRecord {
    TopicRecord { name: name.to_owned().into(), topic_id: id }.into()
}

pub fn partition(topic_id: Uuid, partition_id: i32) -> KafkaRecord {
    replicated(topic_id, partition_id, &[NODE], &[NODE])
}

pub fn replicated(topic_id: Uuid, partition_id: i32, replicas: &[i32], isr: &[i32]) -> KafkaRecord {
    let directories = replicas.iter().map(|&node| directory_id(u8::try_from(node).unwrap())).collect();
    PartitionRecord {
        partition_id,
        topic_id,
        replicas: replicas.to_vec(),
        isr: isr.to_vec(),
        leader: isr.first().copied().unwrap_or(-1),
        leader_epoch: 3,
        partition_epoch: 7,
        directories,
        ..PartitionRecord::default()
    }
    .into()
}

pub fn config(resource_type: i8, name: &str, key: &str, value: Option<&str>) -> KafkaRecord {
    ConfigRecord {
        resource_type,
        resource_name: name.to_owned().into(),
        name: key.to_owned().into(),
        value: value.map(|value| value.to_owned().into()),
    }
    .into()
}

pub fn feature_level(name: &str, feature_level: i16) -> KafkaRecord {
    FeatureLevelRecord { name: name.to_owned().into(), feature_level }.into()
}

pub fn broker(broker_id: i32, log_dirs: Vec<Uuid>) -> KafkaRecord {
    RegisterBrokerRecord {
        broker_id,
        incarnation_id: Uuid([7; 16]),
        broker_epoch: 4,
        rack: None,
        log_dirs,
        ..RegisterBrokerRecord::default()
    }
    .into()
}

/// The records every directory here begins with.
pub fn beginning() -> LogBytes {
    let mut log = LogBytes::default();
    log.leader_change(&[NODE]).batch(&[feature_level("metadata.version", 30), broker(NODE, vec![directory_id(1)])]);
    log
}

/// A directory of Kafka's on a machine in memory.
pub struct KafkaDirectory {
    pub machine: MemoryWorld,
    pub world: World,
}

impl KafkaDirectory {
    /// With its identity, and nothing else.
    pub fn new(seed: u64) -> KafkaDirectory {
        let machine = MemoryWorld::new(seed);
        let directory = KafkaDirectory { world: machine.world(), machine };
        directory.identity(DIRECTORY, CLUSTER_ID, NODE, 1);
        directory.file(&format!("{DIRECTORY}/.kafka_cleanshutdown"), b"{\"version\":0,\"brokerEpoch\":4}");
        directory
    }

    /// One with this log, in one segment.
    pub fn with_log(seed: u64, log: &LogBytes) -> KafkaDirectory {
        let directory = KafkaDirectory::new(seed);
        directory.segment(0, &log.bytes);
        directory
    }

    pub fn identity(&self, path: &str, cluster_id: &str, node_id: i32, id: u8) {
        let id = directory_id(id);
        let text = format!("#\ncluster.id={cluster_id}\ndirectory.id={id}\nnode.id={node_id}\nversion=1\n");
        self.file(&format!("{path}/meta.properties"), text.as_bytes());
        self.file(&format!("{path}/.lock"), b"");
    }

    pub fn segment(&self, base_offset: i64, bytes: &[u8]) {
        self.file(&format!("{DIRECTORY}/__cluster_metadata-0/{base_offset:020}.log"), bytes);
    }

    pub fn snapshot(&self, end_offset: i64, epoch: i32, bytes: &[u8]) {
        self.file(&format!("{DIRECTORY}/__cluster_metadata-0/{end_offset:020}-{epoch:010}.checkpoint"), bytes);
    }

    /// A partition's directory with one segment of these bytes.
    pub fn partition(&self, path: &str, name: &str, id: Uuid, bytes: &[u8]) {
        self.file(&format!("{path}/{name}/partition.metadata"), format!("version: 0\ntopic_id: {id}").as_bytes());
        self.file(&format!("{path}/{name}/{:020}.log", 0), bytes);
    }

    /// Writes a file, durably, with all its directories.
    pub fn file(&self, path: &str, bytes: &[u8]) {
        let disk = &self.world.disk;
        let path = Path::new(path);
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        let file = disk.open(path, OpenMode::CreateOrOpen).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(&[IoSlice::new(bytes)], 0).unwrap();
        file.sync_all().unwrap();
        for directory in path.ancestors().skip(1) {
            disk.sync_dir(directory).unwrap();
        }
    }

    pub fn remove(&self, path: &str) {
        self.world.disk.remove_file(Path::new(path)).unwrap();
        self.world.disk.sync_dir(Path::new(path).parent().unwrap()).unwrap();
    }

    /// Every file below the directory, with its content.
    pub fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        self.collect(Path::new("/kafka"), &mut files);
        files
    }

    fn collect(&self, directory: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
        for entry in self.world.disk.read_dir(directory).unwrap() {
            let path = directory.join(&entry.name);
            if entry.is_dir {
                self.collect(&path, files);
            } else {
                files.push((path.clone(), self.world.disk.read_file(&path, 1 << 30).unwrap()));
            }
        }
    }
}

/// The metadata a node finds in a directory that was adopted.
pub fn adopted_image(world: &World, directory: &str) -> MetadataImage {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let settings = QuorumSettings::new(format!("{directory}/ottla-metadata"), NodeId(NODE));
    let world = world.clone();
    runtime.block_on(async move {
        let quorum = RaftQuorum::open(&world, settings, |_| Vec::new()).await.unwrap();
        assert_eq!(*quorum.identity().cluster_id, *CLUSTER_ID);
        let image = (*quorum.image()).clone();
        quorum.shutdown().await;
        image
    })
}
