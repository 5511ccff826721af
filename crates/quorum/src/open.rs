//! Opening: from the files of a directory to a log, a state, and a term to lead.
//!
//! A sole voter elects itself while it opens: its vote for the next term and the first entry of that term are one write
//! and one sync, and openraft starts as the leader it finds itself to be. That entry carries the records of the node's
//! start, so a start costs one sync in all. It is Raft's election with the only vote there is; the term is new, so
//! entries that were in flight when the node stopped are never confused with later ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry as _;
use ottla_image::{ImageError, MetadataImage, MetadataRecord, encode_records};
use ottla_rt::{Disk, World};
use ottla_types::{NodeId, Uuid};

use crate::failure::QuorumFailure;
use crate::frame::Frame;
use crate::log_file::LogFiles;
use crate::recovery::{LogContent, ReadLog, RecoveryError, io_error, read_log};
use crate::snapshot::SnapshotFiles;
use crate::state_machine::InitialState;
use crate::types::{Command, RaftEntry, RaftLogId, RaftMembership, RaftPayload, RaftVote, VoterId, log_id};

/// Where a node's metadata is, and how much of it is kept.
#[derive(Clone, Debug)]
pub struct QuorumSettings {
    /// Made when it is missing.
    pub directory: PathBuf,
    pub node_id: NodeId,
    /// What the node was told elsewhere (`meta.properties`). With any of it, metadata must exist: a node that has lost
    /// its metadata does not quietly begin a new cluster.
    pub expected_cluster_id: Option<String>,
    pub expected_directory_id: Option<Uuid>,
    pub bootstrap: Bootstrap,
    /// A file of the log is followed by another after this many bytes.
    pub segment_bytes: u64,
    /// A snapshot is taken after this many bytes of records, or this many entries.
    pub snapshot_bytes: u64,
    pub snapshot_entries: u64,
}

impl QuorumSettings {
    /// The settings of a node, with sizes that keep a start within milliseconds.
    pub fn new(directory: impl Into<PathBuf>, node_id: NodeId) -> Self {
        Self {
            directory: directory.into(),
            node_id,
            expected_cluster_id: None,
            expected_directory_id: None,
            bootstrap: Bootstrap::default(),
            segment_bytes: 4 << 20,
            snapshot_bytes: 4 << 20,
            snapshot_entries: 5_000,
        }
    }
}

/// How a cluster begins. Not looked at when there is metadata.
#[derive(Clone, Debug, Default)]
pub struct Bootstrap {
    /// Random when `None`.
    pub cluster_id: Option<String>,
    /// The directory's id; random when `None`.
    pub directory_id: Option<Uuid>,
    /// The first records, after the cluster id: finalized features and the like.
    pub records: Vec<MetadataRecord>,
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumIdentity {
    pub cluster_id: Arc<str>,
    pub node_id: NodeId,
    /// Of the directory that the metadata is in.
    pub directory_id: Uuid,
}

/// Why the quorum of a node does not open. Nothing was changed unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("the metadata in {} is of cluster {found}, not of cluster {expected}", path.display())]
    WrongCluster { path: PathBuf, expected: String, found: Arc<str> },
    #[error("the metadata in {} names no cluster", path.display())]
    NoCluster { path: PathBuf },
    #[error("the metadata cannot be replayed: {0}")]
    Replay(QuorumFailure),
    #[error("the records of the start do not fit the metadata: {0}")]
    Startup(ImageError),
    #[error("the consensus engine did not start: {description}")]
    Engine { description: String },
    #[error("a quorum of {voters} voters is not supported yet: there is no way to the others")]
    SeveralVoters { voters: usize },
}

/// A log and a state that openraft can start with, as the leader.
pub(crate) struct Prepared {
    pub(crate) content: LogContent,
    pub(crate) files: LogFiles,
    pub(crate) initial: InitialState,
    pub(crate) snapshots: SnapshotFiles,
    pub(crate) voter: VoterId,
    pub(crate) identity: QuorumIdentity,
}

/// Reads what there is, or begins a cluster. Blocks.
pub(crate) fn prepare(
    world: &World,
    settings: &QuorumSettings,
    startup: impl FnOnce(&MetadataImage) -> Vec<MetadataRecord>,
) -> Result<Prepared, OpenError> {
    let snapshots = SnapshotFiles { disk: Arc::clone(&world.disk), directory: settings.directory.clone() };
    let snapshot = snapshots.load()?;
    let read = read_log(&world.disk, &settings.directory, settings.segment_bytes)?;
    // Membership and cluster id were one batch. With only a part of it there, the first start was cut short.
    let read = read.filter(|read| snapshot.is_some() || read.content.last_log_id().is_some_and(|last| last.index > 0));
    let path = || settings.directory.clone();
    match (read, snapshot) {
        (None, None) if settings.expected_cluster_id.is_some() || settings.expected_directory_id.is_some() => {
            Err(RecoveryError::MissingMetadata { path: path() }.into())
        }
        (None, None) => begin(world, settings, snapshots, startup),
        (None, Some(_)) => Err(RecoveryError::MissingLog { path: path() }.into()),
        (Some(read), snapshot) => {
            let mut initial = InitialState::default();
            if let Some((_, snapshot)) = snapshot {
                initial.image = snapshot.image;
                initial.applied = snapshot.meta.last_log_id;
                initial.membership = snapshot.meta.last_membership.clone();
                initial.snapshot = Some(snapshot.meta);
            }
            resume(settings, snapshots, read, initial, startup)
        }
    }
}

/// The first start: membership and first records in one file, durable with its names.
fn begin(
    world: &World,
    settings: &QuorumSettings,
    snapshots: SnapshotFiles,
    startup: impl FnOnce(&MetadataImage) -> Vec<MetadataRecord>,
) -> Result<Prepared, OpenError> {
    let bootstrap = &settings.bootstrap;
    let directory_id = bootstrap.directory_id.unwrap_or_else(|| random_uuid(world));
    let voter = VoterId { node_id: settings.node_id, directory_id };
    let cluster_id: Arc<str> = match &bootstrap.cluster_id {
        Some(cluster_id) => cluster_id.as_str().into(),
        None => random_uuid(world).to_string().into(),
    };
    let mut records = vec![MetadataRecord::ClusterId { cluster_id: Arc::clone(&cluster_id) }];
    records.extend(bootstrap.records.iter().cloned());
    let image = MetadataImage::default().apply_all(&records).map_err(OpenError::Startup)?;
    let startup = startup(&image);
    image.apply_all(&startup).map_err(OpenError::Startup)?;
    records.extend(startup);

    let membership = RaftMembership::new_with_defaults(vec![[voter].into()], [voter]);
    let frames = [
        Frame::Vote(RaftVote::new_committed(1, voter)),
        Frame::Entry(entry(log_id(1, 0), EntryPayload::Membership(membership))),
        Frame::Entry(entry(log_id(1, 1), command(&records))),
    ];
    let files = create(&world.disk, &settings.directory, voter, &frames, settings.segment_bytes)?;
    let mut content = LogContent::default();
    let mut initial = InitialState::default();
    advance(&mut content, &mut initial, frames)?;
    let identity = QuorumIdentity { cluster_id, node_id: settings.node_id, directory_id };
    Ok(Prepared { content, files, initial, snapshots, voter, identity })
}

fn create(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    voter: VoterId,
    frames: &[Frame],
    segment_bytes: u64,
) -> Result<LogFiles, RecoveryError> {
    LogFiles::create(disk, directory, voter, frames, segment_bytes).map_err(io_error("begin the log in", directory))
}

/// A later start: replay, then the next term.
fn resume(
    settings: &QuorumSettings,
    snapshots: SnapshotFiles,
    read: ReadLog,
    mut initial: InitialState,
    startup: impl FnOnce(&MetadataImage) -> Vec<MetadataRecord>,
) -> Result<Prepared, OpenError> {
    let ReadLog { mut content, mut files, voter } = read;
    let path = || settings.directory.clone();
    if voter.node_id != settings.node_id {
        let (expected, found) = (settings.node_id.0, voter.node_id.0);
        return Err(RecoveryError::WrongNode { path: path(), expected, found }.into());
    }
    if let Some(expected) = settings.expected_directory_id
        && expected != voter.directory_id
    {
        return Err(RecoveryError::WrongDirectory { path: path(), expected, found: voter.directory_id }.into());
    }
    if let Some(purged) = content.purged
        && initial.applied.is_none_or(|applied| applied < purged)
    {
        return Err(RecoveryError::MissingSnapshot { path: path(), purged: purged.index }.into());
    }
    // A sole voter's log is committed as far as it is durable, and the write below makes all of it durable.
    let after = initial.applied.map_or(0, |applied| applied.index + 1);
    for (_, entry) in content.entries.range(after..) {
        initial.apply(entry).map_err(OpenError::Replay)?;
    }
    let voters = initial.membership.membership().voter_ids().count();
    if voters != 1 {
        return Err(OpenError::SeveralVoters { voters });
    }
    let cluster_id = initial.image.cluster_id().cloned().ok_or_else(|| OpenError::NoCluster { path: path() })?;
    if let Some(expected) = &settings.expected_cluster_id
        && **expected != *cluster_id
    {
        return Err(OpenError::WrongCluster { path: path(), expected: expected.clone(), found: cluster_id });
    }

    let records = startup(&initial.image);
    initial.image.apply_all(&records).map_err(OpenError::Startup)?;
    let last = content.last_log_id().max(initial.applied).expect("invariant: a log that was begun has entries");
    let term = last.leader_id.term.max(content.vote.map_or(0, |vote| vote.leader_id.term)) + 1;
    let payload = if records.is_empty() { EntryPayload::Blank } else { command(&records) };
    let frames =
        [Frame::Vote(RaftVote::new_committed(term, voter)), Frame::Entry(entry(log_id(term, last.index + 1), payload))];
    files
        .write_unsynced_anew()
        .and_then(|()| files.write(&frames))
        .map_err(io_error("write the log in", &settings.directory))?;
    advance(&mut content, &mut initial, frames)?;
    let identity = QuorumIdentity { cluster_id, node_id: settings.node_id, directory_id: voter.directory_id };
    Ok(Prepared { content, files, initial, snapshots, voter, identity })
}

/// Takes durable frames into the log and the state.
fn advance<const N: usize>(
    content: &mut LogContent,
    initial: &mut InitialState,
    frames: [Frame; N],
) -> Result<(), OpenError> {
    for frame in frames {
        if let Frame::Entry(entry) = &frame {
            initial.apply(entry).map_err(OpenError::Replay)?;
        }
        content.apply(frame);
    }
    content.committed = content.last_log_id();
    Ok(())
}

pub(crate) fn entry(log_id: RaftLogId, payload: RaftPayload) -> RaftEntry {
    RaftEntry::new(log_id, payload)
}

pub(crate) fn command(records: &[MetadataRecord]) -> RaftPayload {
    let mut bytes = Vec::new();
    encode_records(records, &mut bytes);
    EntryPayload::Normal(Command { records: Bytes::from(bytes) })
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
