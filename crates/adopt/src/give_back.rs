//! Giving a directory back to Kafka: its metadata learns the leader epochs that are in the logs.
//!
//! Each start of ours begins a new leader epoch, and Kafka's metadata knows nothing of them. Were Kafka to lead in lower
//! ones, clients that have seen ours would take its metadata for outdated and wait for ever, or take the log for cut off
//! and start anew; and its logs would have epochs that fall. So a record of each partition is appended to Kafka's
//! metadata log, as its controller would write it, with an epoch above all that anybody has seen. Only the epochs
//! change. Done again, it raises them again, which does no harm; a write that was torn is cut off by the next run, or by
//! Kafka.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use ottla_image::{LeaderRecoveryState, PartitionRegistration};
use ottla_log::{DirectorySurvey, KAFKA_METADATA_DIRECTORY, lock_directory, lock_directory_unchanged, survey};
use ottla_protocol::EncodeError;
use ottla_protocol::records::partition_record::PartitionRecord;
use ottla_quorum::METADATA_DIRECTORY;
use ottla_record::{BatchBuilder, BuildError, Compression};
use ottla_rt::{Disk, DiskLock, OpenMode, World};
use ottla_types::{NodeId, TopicId, TopicPartition};

use crate::directories::{AdoptError, KafkaDirectories, whose};
use crate::metadata_log::{MetadataLog, Tail, read_metadata_log};
use crate::plan::METADATA_VERSION;
use crate::record::KafkaRecord;

/// How far above the epochs of its log a partition begins: starts of ours in which nothing was written leave none there,
/// and clients have seen theirs too.
const EPOCHS_AHEAD: i32 = 1 << 20;
/// From here on each step is of one: there is no end to reach in anybody's life.
const HIGH_EPOCH: i32 = i32::MAX - (1 << 30);
/// The levels of `metadata.version` from which on partitions have directories, and eligible leader replicas.
const WITH_DIRECTORIES: i16 = 17;
const WITH_ELIGIBLE_LEADER_REPLICAS: i16 = 23;
/// Of about 100 bytes each. Kafka's own batches have 8 MiB at most.
const RECORDS_PER_BATCH: usize = 5_000;

/// What is to be given back.
#[derive(Clone, Debug)]
pub struct GiveBackSettings {
    /// Every one of Kafka's `log.dirs`.
    pub log_dirs: Vec<PathBuf>,
    /// Kafka's `metadata.log.dir`, where it is not one of them.
    pub metadata_log_dir: Option<PathBuf>,
}

/// Why nothing is given back. Nothing was changed, unless a write failed.
#[derive(Debug, thiserror::Error)]
pub enum GiveBackError {
    #[error(transparent)]
    Directories(#[from] AdoptError),
    #[error(
        "{} is Ottla's metadata, and Kafka does not start beside it: move it out of the log directory first, and keep it until \
         Kafka runs", .0.display()
    )]
    StillOurs(PathBuf),
    #[error(
        "Kafka's metadata quorum has the voters {voters:?}: what is written to the log of one of them is not what they \
         agreed on. A directory is given back to a Kafka whose only voter is node {node_id}"
    )]
    OtherVoters { node_id: i32, voters: Vec<i32> },
    #[error(
        "Kafka's metadata log ends inside a transaction, which what is written there would become part of: start Kafka and stop it once, before records are put into its directory"
    )]
    UnfinishedTransaction,
    #[error(
        "Kafka's metadata log ends at offset {found}, below its snapshot at {expected}: start Kafka and stop it once, before records are put into its directory"
    )]
    BehindSnapshot { expected: i64, found: i64 },
    #[error("the record of {topic_partition} cannot be written: {reason}")]
    Record { topic_partition: TopicPartition, reason: EncodeError },
    #[error("a batch of metadata cannot be written: {0}")]
    Batch(#[from] BuildError),
}

/// What giving back found and did.
#[derive(Clone, Debug)]
pub struct GiveBackReport {
    /// Whether it was done.
    pub done: bool,
    pub cluster_id: String,
    pub node_id: i32,
    pub metadata_log_dir: PathBuf,
    /// Bytes at the end of Kafka's metadata log that are half a batch, and go.
    pub torn_bytes: u64,
    /// In the order of their names.
    pub partitions: Vec<RaisedEpoch>,
}

/// A partition whose leader epoch is raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaisedEpoch {
    pub topic_partition: TopicPartition,
    /// What Kafka's metadata has.
    pub kafka: i32,
    /// The last one in its log.
    pub log: Option<i32>,
    /// The one it gets.
    pub raised: i32,
}

/// Says what giving back would do. Changes nothing.
pub fn inspect_give_back(world: &World, settings: &GiveBackSettings) -> Result<GiveBackReport, GiveBackError> {
    let mut locks = Vec::new();
    for path in settings.directories().all(&*world.disk)? {
        locks.extend(lock_directory_unchanged(&*world.disk, &path).map_err(AdoptError::from)?);
    }
    look(&*world.disk, settings, &locks).map(|looked| looked.report)
}

/// Raises the leader epochs in Kafka's metadata.
pub fn give_back(world: &World, settings: &GiveBackSettings) -> Result<GiveBackReport, GiveBackError> {
    let disk = &*world.disk;
    // Looked at first without a change: what is not Kafka's gets no lock file either.
    inspect_give_back(world, settings)?;
    let mut locks: Vec<Box<dyn DiskLock>> = Vec::new();
    for path in settings.directories().all(disk)? {
        locks.push(lock_directory(disk, &path).map_err(AdoptError::from)?);
    }
    let Looked { mut report, records, tail } = look(disk, settings, &locks)?;
    let bytes = batches(&records, &tail, world.clock.wall_ms())?;
    append(disk, &report.metadata_log_dir.join(KAFKA_METADATA_DIRECTORY), &tail, &bytes)?;
    report.done = true;
    drop(locks);
    Ok(report)
}

struct Looked {
    report: GiveBackReport,
    /// The values of the records to append.
    records: Vec<bytes::Bytes>,
    tail: Tail,
}

/// Reads and judges. The directories are locked by the caller.
fn look(disk: &dyn Disk, settings: &GiveBackSettings, _locks: &[Box<dyn DiskLock>]) -> Result<Looked, GiveBackError> {
    let paths = settings.directories().all(disk)?;
    let mut surveys = Vec::new();
    for path in &paths {
        surveys.push(survey(disk, path).map_err(AdoptError::from)?);
        let ours = path.join(METADATA_DIRECTORY);
        if disk.exists(&ours).map_err(io_error("look for", &ours))? {
            return Err(GiveBackError::StillOurs(ours));
        }
    }
    let (cluster_id, node_id) = whose(&surveys)?;
    let place = settings.directories().with_metadata(disk, &surveys)?;
    let metadata_log_dir = surveys[place].path.clone();
    // A run of this that was killed leaves half a batch, whoever stopped in order before.
    let log =
        read_metadata_log(disk, &metadata_log_dir.join(KAFKA_METADATA_DIRECTORY), true).map_err(AdoptError::from)?;
    refuse(&log, node_id)?;
    surveys.truncate(settings.log_dirs.len());
    let (partitions, records) = raise(&log, &surveys, node_id)?;
    let report = GiveBackReport {
        done: false,
        cluster_id,
        node_id: node_id.0,
        metadata_log_dir,
        torn_bytes: log.torn_bytes,
        partitions,
    };
    Ok(Looked { report, records, tail: log.tail })
}

fn refuse(log: &MetadataLog, node_id: NodeId) -> Result<(), GiveBackError> {
    // A log that tells of no election yet was never anybody's but its node's.
    if log.voters.iter().any(|voter| *voter != node_id.0) {
        let voters = log.voters.iter().copied().collect();
        return Err(GiveBackError::OtherVoters { node_id: node_id.0, voters });
    }
    if log.unfinished_transaction {
        return Err(GiveBackError::UnfinishedTransaction);
    }
    if log.tail.offset != log.end_offset {
        return Err(GiveBackError::BehindSnapshot { expected: log.end_offset, found: log.tail.offset });
    }
    Ok(())
}

/// Each partition with a replica here, and its record with a higher epoch.
fn raise(
    log: &MetadataLog,
    surveys: &[DirectorySurvey],
    node_id: NodeId,
) -> Result<(Vec<RaisedEpoch>, Vec<bytes::Bytes>), GiveBackError> {
    let found: BTreeMap<&TopicPartition, Option<i32>> = surveys
        .iter()
        .flat_map(|survey| &survey.partitions)
        .map(|partition| (&partition.topic_partition, partition.latest_epoch))
        .collect();
    let version = record_version(log.metadata.features.get(METADATA_VERSION).copied().unwrap_or(0));
    let (mut raised, mut records) = (Vec::new(), Vec::new());
    for (topic_partition, topic_id, registration) in log.metadata.partitions() {
        if !registration.replicas.contains(&node_id) {
            continue;
        }
        let kafka = registration.leader_epoch.0;
        let in_log = found.get(&topic_partition).copied().flatten();
        let epoch = next_epoch(kafka.max(in_log.unwrap_or(-1)));
        let record = partition_record(topic_id, topic_partition.partition, registration, epoch, version);
        let value = KafkaRecord::from(record)
            .encode(version)
            .map_err(|reason| GiveBackError::Record { topic_partition: topic_partition.clone(), reason })?;
        records.push(value);
        raised.push(RaisedEpoch { topic_partition, kafka, log: in_log, raised: epoch });
    }
    Ok((raised, records))
}

fn next_epoch(latest: i32) -> i32 {
    if latest < HIGH_EPOCH { latest + EPOCHS_AHEAD } else { latest.saturating_add(1) }
}

/// The version of a `PartitionRecord` that a controller with this `metadata.version` writes.
fn record_version(metadata_version: i16) -> i16 {
    if metadata_version >= WITH_ELIGIBLE_LEADER_REPLICAS { 2 } else { i16::from(metadata_version >= WITH_DIRECTORIES) }
}

/// The partition as it is, in another leader epoch.
fn partition_record(
    topic_id: TopicId,
    partition_id: i32,
    registration: &PartitionRegistration,
    leader_epoch: i32,
    version: i16,
) -> PartitionRecord {
    let ids = |nodes: &[NodeId]| -> Vec<i32> { nodes.iter().map(|node| node.0).collect() };
    let some = |nodes: &[NodeId]| (version >= 2 && !nodes.is_empty()).then(|| ids(nodes));
    PartitionRecord {
        partition_id,
        topic_id,
        replicas: ids(&registration.replicas),
        isr: ids(&registration.isr),
        removing_replicas: ids(&registration.removing_replicas),
        adding_replicas: ids(&registration.adding_replicas),
        leader: registration.leader.map_or(-1, |leader| leader.0),
        leader_recovery_state: match registration.leader_recovery_state {
            LeaderRecoveryState::Recovered => 0,
            LeaderRecoveryState::Recovering => 1,
        },
        leader_epoch,
        partition_epoch: registration.partition_epoch.0.saturating_add(1),
        directories: if version >= 1 { registration.directories.clone() } else { Vec::new() },
        eligible_leader_replicas: some(&registration.eligible_leader_replicas),
        last_known_elr: some(&registration.last_known_eligible_leader_replicas),
    }
}

/// The records in batches that follow the log's end.
fn batches(records: &[bytes::Bytes], tail: &Tail, now_ms: i64) -> Result<Vec<u8>, GiveBackError> {
    let mut bytes = Vec::new();
    let mut offset = tail.offset;
    for records in records.chunks(RECORDS_PER_BATCH) {
        let mut builder = BatchBuilder::new(Compression::NONE);
        builder.set_position(offset, tail.epoch);
        for value in records {
            builder.append(now_ms, None, Some(value), &[])?;
        }
        bytes.extend_from_slice(&builder.finish()?);
        offset += records.len() as i64;
    }
    Ok(bytes)
}

fn append(disk: &dyn Disk, directory: &Path, tail: &Tail, bytes: &[u8]) -> Result<(), AdoptError> {
    let name = tail.segment.clone().unwrap_or_else(|| format!("{:020}.log", tail.offset));
    let path = directory.join(name);
    let file = disk.open(&path, OpenMode::CreateOrOpen).map_err(io_error("open", &path))?;
    // What is there beyond is no batch.
    file.set_len(tail.length).map_err(io_error("cut", &path))?;
    file.write_all_at(&[IoSlice::new(bytes)], tail.length).map_err(io_error("write to", &path))?;
    file.sync_all().map_err(io_error("sync", &path))?;
    disk.sync_dir(directory).map_err(io_error("sync", directory))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AdoptError {
    crate::directories::io_error(operation, path)
}

impl GiveBackSettings {
    fn directories(&self) -> KafkaDirectories<'_> {
        KafkaDirectories { log_dirs: &self.log_dirs, metadata_log_dir: self.metadata_log_dir.as_deref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_rise_and_never_overflow() {
        for (latest, expected) in [
            (-1, EPOCHS_AHEAD - 1),
            (0, EPOCHS_AHEAD),
            (7, EPOCHS_AHEAD + 7),
            (HIGH_EPOCH, HIGH_EPOCH + 1),
            (i32::MAX, i32::MAX),
        ] {
            assert_eq!(next_epoch(latest), expected, "{latest}");
        }
    }

    #[test]
    fn the_version_follows_the_metadata() {
        for (level, version) in [(7, 0), (16, 0), (17, 1), (22, 1), (23, 2), (33, 2)] {
            assert_eq!(record_version(level), version, "{level}");
        }
    }
}
