//! Looking and doing.

use std::path::PathBuf;
use std::sync::Arc;

use ottla_image::SupportedFeature;
use ottla_log::{
    ADOPTED_FROM, DirectorySurvey, KAFKA_METADATA_DIRECTORY, KafkaMetadataEnd, lock_directory,
    lock_directory_unchanged, survey, write_forgotten_epochs,
};
use ottla_quorum::{METADATA_DIRECTORY, QuorumIdentity, import};
use ottla_rt::{Disk, DiskLock, World};
use ottla_types::{NodeId, Uuid};

use crate::directories::{AdoptError, KafkaDirectories, io_error, whose};
use crate::metadata_log::{MetadataLog, read_metadata_log};
use crate::offsets::has_open_transactions;
use crate::plan::{AdoptOptions, Node, Plan, plan};
use crate::report::{AdoptionState, DirectoryReport, Note, Report, Source};

const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// Our metadata while it is written. What a process that was killed left of it is begun anew.
const UNFINISHED: &str = "ottla-metadata.adopting";

/// What is to be adopted.
#[derive(Clone, Debug)]
pub struct AdoptSettings {
    /// Every one of Kafka's `log.dirs`.
    pub log_dirs: Vec<PathBuf>,
    /// Kafka's `metadata.log.dir`, where it is not one of them.
    pub metadata_log_dir: Option<PathBuf>,
    pub options: AdoptOptions,
    /// What the broker that goes on with it supports.
    pub features: Vec<SupportedFeature>,
}

impl AdoptSettings {
    fn directories(&self) -> KafkaDirectories<'_> {
        KafkaDirectories { log_dirs: &self.log_dirs, metadata_log_dir: self.metadata_log_dir.as_deref() }
    }
}

/// Says what adopting would find and do. Changes nothing.
pub fn inspect(world: &World, settings: &AdoptSettings) -> Result<Report, AdoptError> {
    let mut locks = Vec::new();
    for path in settings.directories().all(&*world.disk)? {
        locks.extend(lock_directory_unchanged(&*world.disk, &path)?);
    }
    look(world, settings, &locks).map(|looked| looked.report)
}

/// Adopts, if nothing stands in the way; the report says so.
pub fn execute(world: &World, settings: &AdoptSettings) -> Result<Report, AdoptError> {
    let disk = &*world.disk;
    // Looked at first without a change: what is not Kafka's gets no lock file either.
    let first = inspect(world, settings)?;
    if first.state != AdoptionState::Adoptable {
        return Ok(first);
    }
    let mut locks: Vec<Box<dyn DiskLock>> = Vec::new();
    for path in settings.directories().all(disk)? {
        locks.push(lock_directory(disk, &path)?);
    }
    let Looked { mut report, plan, directory_id, surveys } = look(world, settings, &locks)?;
    if report.state != AdoptionState::Adoptable {
        return Ok(report);
    }
    let unfinished = report.metadata_log_dir.join(UNFINISHED);
    let finished = report.metadata_log_dir.join(METADATA_DIRECTORY);
    if disk.exists(&unfinished).map_err(io_error("look for", &unfinished))? {
        disk.remove_dir_all(&unfinished).map_err(io_error("remove", &unfinished))?;
    }
    let identity = QuorumIdentity {
        cluster_id: Arc::from(report.cluster_id.as_str()),
        node_id: NodeId(report.node_id),
        directory_id: directory_id.unwrap_or_else(|| random_uuid(world)),
    };
    // Beside Kafka's files, and nothing to Kafka.
    for partition in surveys.iter().flat_map(|survey| &survey.partitions) {
        if !partition.forgotten_epochs.is_empty() {
            write_forgotten_epochs(disk, &partition.path, &partition.forgotten_epochs)
                .map_err(io_error("write into", &partition.path))?;
        }
    }
    import(&world.disk, &unfinished, &identity, &plan.image)?;
    let end = KafkaMetadataEnd::of(disk, &report.metadata_log_dir)
        .map_err(io_error("list", &report.metadata_log_dir.join(KAFKA_METADATA_DIRECTORY)))?;
    if let Some(end) = end {
        let mark = unfinished.join(ADOPTED_FROM);
        disk.write_file_atomically(&mark, end.format().as_bytes()).map_err(io_error("write", &mark))?;
    }
    // The moment of adoption.
    disk.rename(&unfinished, &finished).map_err(io_error("rename", &unfinished))?;
    disk.sync_dir(&report.metadata_log_dir).map_err(io_error("sync", &report.metadata_log_dir))?;
    report.state = AdoptionState::Adopted;
    drop(locks);
    Ok(report)
}

struct Looked {
    report: Report,
    plan: Plan,
    /// Of the directory the metadata is in.
    directory_id: Option<Uuid>,
    surveys: Vec<DirectorySurvey>,
}

/// Reads and judges. The directories are locked by the caller.
fn look(world: &World, settings: &AdoptSettings, _locks: &[Box<dyn DiskLock>]) -> Result<Looked, AdoptError> {
    let disk = &*world.disk;
    let paths = settings.directories().all(disk)?;
    let mut surveys = Vec::new();
    for path in &paths {
        surveys.push(survey(disk, path)?);
    }
    let (cluster_id, node_id) = whose(&surveys)?;
    let metadata_place = settings.directories().with_metadata(disk, &surveys)?;
    let metadata_log_dir = surveys[metadata_place].path.clone();
    let directory_id = surveys[metadata_place].meta.as_ref().and_then(|meta| meta.directory_id);
    let stopped_cleanly = surveys[..settings.log_dirs.len()].iter().all(|survey| survey.stopped_cleanly);
    let adopted = metadata_log_dir.join(METADATA_DIRECTORY);
    let adopted_before = disk.exists(&adopted).map_err(io_error("look for", &adopted))?;

    // Only a process that was killed leaves half a batch. After an adoption the mark of a clean stop is our own.
    let may_be_torn = !stopped_cleanly || adopted_before;
    let log = read_metadata_log(disk, &metadata_log_dir.join(KAFKA_METADATA_DIRECTORY), may_be_torn)?;
    surveys.truncate(settings.log_dirs.len());
    let node = Node {
        cluster_id: &cluster_id,
        node_id,
        features: &settings.features,
        options: settings.options,
        now_ms: world.clock.wall_ms(),
    };
    let mut plan = plan(&log, &surveys, &node)?;
    plan.notes.extend(pending_offsets(disk, &surveys)?);
    let state = if adopted_before {
        AdoptionState::AdoptedBefore
    } else if plan.refusals.is_empty() {
        AdoptionState::Adoptable
    } else {
        AdoptionState::Refused
    };
    let report = Report {
        state,
        cluster_id,
        node_id: node_id.0,
        stopped_cleanly,
        metadata_log_dir,
        source: source_of(&log),
        directories: surveys.iter().map(directory_report).collect(),
        topics: std::mem::take(&mut plan.topics),
        configs: std::mem::take(&mut plan.configs),
        features: std::mem::take(&mut plan.features),
        next_producer_id: plan.next_producer_id,
        left_out: std::mem::take(&mut plan.left_out),
        notes: std::mem::take(&mut plan.notes),
        refusals: std::mem::take(&mut plan.refusals),
    };
    Ok(Looked { report, plan, directory_id, surveys })
}

/// Partitions of committed offsets where some wait for the end of a transaction.
fn pending_offsets(disk: &dyn Disk, surveys: &[DirectorySurvey]) -> Result<Option<Note>, AdoptError> {
    let mut partitions = Vec::new();
    for partition in surveys.iter().flat_map(|survey| &survey.partitions) {
        if &*partition.topic_partition.topic == CONSUMER_OFFSETS
            && has_open_transactions(disk, &partition.path).map_err(io_error("read", &partition.path))?
        {
            partitions.push(partition.topic_partition.clone());
        }
    }
    Ok((!partitions.is_empty()).then_some(Note::PendingOffsets { partitions }))
}

fn source_of(log: &MetadataLog) -> Source {
    Source {
        snapshot: log.snapshot.clone(),
        segments: log.segments,
        records: log.records,
        end_offset: log.end_offset,
        torn_bytes: log.torn_bytes,
        unfinished_transaction: log.unfinished_transaction,
        voters: log.voters.iter().copied().collect(),
    }
}

fn directory_report(survey: &DirectorySurvey) -> DirectoryReport {
    DirectoryReport {
        path: survey.path.clone(),
        id: survey.meta.as_ref().and_then(|meta| meta.directory_id),
        partitions: survey.partitions.len(),
        bytes: survey.partitions.iter().map(|partition| partition.bytes).sum(),
    }
}

fn random_uuid(world: &World) -> Uuid {
    loop {
        let mut bytes = [0; 16];
        world.entropy.fill(&mut bytes);
        if let Some(id) = Uuid::from_random_bytes(bytes) {
            return id;
        }
    }
}
