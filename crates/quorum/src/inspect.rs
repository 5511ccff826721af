//! The quorum's files as people look at them: frame by frame, damage included. Nothing is changed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use openraft::EntryPayload;
use ottla_image::{DecodeError, MetadataRecord, decode_records};
use ottla_rt::Disk;

use crate::frame::{Frame, HEADER_SIZE, Header, HeaderError};
use crate::log_file::sequence_of;
use crate::recovery::{MAX_FILE_SIZE, proves_durable};
use crate::snapshot::{self, SnapshotError};
use crate::types::{RaftLogId, RaftPayload};

/// Whether these bytes begin as a file of the quorum's log.
pub fn is_metadata_log(bytes: &[u8]) -> bool {
    bytes.starts_with(crate::frame::MAGIC)
}

/// Whether these bytes begin as a snapshot of the metadata.
pub fn is_metadata_snapshot(bytes: &[u8]) -> bool {
    bytes.starts_with(snapshot::MAGIC)
}

/// The place of an entry in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId {
    pub term: u64,
    pub index: u64,
}

fn entry_id(log_id: RaftLogId) -> EntryId {
    EntryId { term: log_id.leader_id.term, index: log_id.index }
}

/// What stands at a place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inspected {
    /// The start of a log's file.
    Header {
        voter: String,
        sequence: u64,
    },
    Vote {
        term: u64,
        voter: String,
        committed: bool,
    },
    /// The first entry of a term.
    Blank(EntryId),
    Membership {
        id: EntryId,
        voters: Vec<String>,
    },
    Records {
        id: EntryId,
        records: Vec<MetadataRecord>,
    },
    /// Entries after this index are gone; all of them with `None`.
    Truncate(Option<u64>),
    /// Entries up to this one are in a snapshot.
    Purge(EntryId),
    Committed(EntryId),
    /// A snapshot: all metadata up to this entry.
    Snapshot {
        last: Option<EntryId>,
        records: Vec<MetadataRecord>,
    },
}

/// What cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MetadataDamage {
    #[error("it has format version {0}, which a newer version of this program wrote")]
    NewerFormat(u16),
    #[error("it does not begin as a file of the metadata log")]
    Header,
    #[error("{bytes} bytes are no frame")]
    Frame { bytes: u64 },
    /// It was being written when its process or its machine ended.
    #[error("the end is torn: {bytes} bytes are no whole frame")]
    TornEnd { bytes: u64 },
    #[error("its records cannot be read: {0}")]
    Records(DecodeError),
    #[error("{0}")]
    Snapshot(String),
    #[error("it is file {found} by its header")]
    Sequence { found: u64 },
    #[error("it follows file {previous}, those between are gone")]
    MissingFile { previous: u64 },
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
}

/// Walks a file of the metadata log or a snapshot, and hands out what stands where. `is_last`: of the log's files, so that
/// its end may be torn.
pub fn inspect_metadata(
    bytes: &Bytes,
    is_last: bool,
    each: &mut dyn FnMut(u64, Inspected),
) -> Result<(), (u64, MetadataDamage)> {
    if is_metadata_snapshot(bytes) {
        let snapshot = snapshot::decode(bytes).map_err(|error| (0, snapshot_damage(error)))?;
        let last = snapshot.meta.last_log_id.map(entry_id);
        each(0, Inspected::Snapshot { last, records: snapshot.image.to_records() });
        return Ok(());
    }
    let header = Header::read(bytes).map_err(|error| match error {
        HeaderError::NewerVersion(version) => (0, MetadataDamage::NewerFormat(version)),
        HeaderError::Invalid if is_last && !proves_durable(bytes, 0) => {
            (0, MetadataDamage::TornEnd { bytes: bytes.len() as u64 })
        }
        HeaderError::Invalid => (0, MetadataDamage::Header),
    })?;
    each(0, Inspected::Header { voter: header.voter.to_string(), sequence: header.sequence });
    let mut position = HEADER_SIZE;
    while position < bytes.len() {
        let at = position as u64;
        let Ok(read) = Frame::read(&bytes.slice(position..)) else {
            let rest = (bytes.len() - position) as u64;
            let torn = is_last && !proves_durable(bytes, position);
            let damage =
                if torn { MetadataDamage::TornEnd { bytes: rest } } else { MetadataDamage::Frame { bytes: rest } };
            return Err((at, damage));
        };
        each(at, content(read.frame).map_err(|error| (at, MetadataDamage::Records(error)))?);
        position += read.size;
    }
    Ok(())
}

fn content(frame: Frame) -> Result<Inspected, DecodeError> {
    Ok(match frame {
        Frame::Vote(vote) => Inspected::Vote {
            term: vote.leader_id.term,
            voter: vote.leader_id.voted_for.to_string(),
            committed: vote.committed,
        },
        Frame::Entry(entry) => entry_content(entry_id(entry.log_id), entry.payload)?,
        Frame::Truncate(last_index) => Inspected::Truncate(last_index),
        Frame::Purge(log_id) => Inspected::Purge(entry_id(log_id)),
        Frame::Committed(log_id) => Inspected::Committed(entry_id(log_id)),
    })
}

fn entry_content(id: EntryId, payload: RaftPayload) -> Result<Inspected, DecodeError> {
    Ok(match payload {
        EntryPayload::Blank => Inspected::Blank(id),
        EntryPayload::Normal(command) => Inspected::Records { id, records: decode_records(&command.records)? },
        EntryPayload::Membership(membership) => {
            Inspected::Membership { id, voters: membership.voter_ids().map(|voter| voter.to_string()).collect() }
        }
    })
}

fn snapshot_damage(error: SnapshotError) -> MetadataDamage {
    match error {
        SnapshotError::NewerFormat(version) => MetadataDamage::NewerFormat(version),
        error => MetadataDamage::Snapshot(error.to_string()),
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of term {}", self.index, self.term)
    }
}

/// A file with something wrong in it.
#[derive(Debug)]
pub struct MetadataFinding {
    pub path: PathBuf,
    pub position: Option<u64>,
    pub damage: MetadataDamage,
    /// Otherwise the next start mends it.
    pub is_problem: bool,
}

/// What a check of the metadata found.
#[derive(Debug, Default)]
pub struct MetadataCheck {
    pub files: u64,
    /// Frames of the log and snapshots.
    pub items: u64,
    pub findings: Vec<MetadataFinding>,
}

/// Reads every file of the metadata in this directory, and changes nothing.
pub fn check_metadata(disk: &dyn Disk, directory: &Path) -> io::Result<MetadataCheck> {
    let mut check = MetadataCheck::default();
    let entries = disk.read_dir(directory)?;
    let sequences: Vec<u64> = entries.iter().filter_map(|entry| sequence_of(&entry.name)).collect();
    let mut previous = None;
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        let sequence = sequence_of(&entry.name);
        if sequence.is_none() && snapshot::index_of(&entry.name).is_none() {
            continue;
        }
        check.files += 1;
        let path = directory.join(&entry.name);
        let mut found = |position, damage| {
            // Files before a gap were deleted, and a crash has undone that.
            let is_problem = !matches!(damage, MetadataDamage::TornEnd { .. } | MetadataDamage::MissingFile { .. });
            check.findings.push(MetadataFinding { path: path.clone(), position, damage, is_problem });
        };
        let bytes = match disk.read_file(&path, MAX_FILE_SIZE) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) => {
                found(None, MetadataDamage::Unreadable(error));
                continue;
            }
        };
        let mut stated = sequence;
        let mut items = 0;
        let outcome =
            inspect_metadata(&bytes, sequence.is_some() && sequence == sequences.last().copied(), &mut |_, item| {
                match item {
                    Inspected::Header { sequence, .. } => stated = Some(sequence),
                    _ => items += 1,
                }
            });
        if let Err((position, damage)) = outcome {
            found(Some(position), damage);
        }
        if let (Some(sequence), Some(stated)) = (sequence, stated)
            && sequence != stated
        {
            found(Some(0), MetadataDamage::Sequence { found: stated });
        }
        if let (Some(sequence), Some(previous)) = (sequence, previous)
            && sequence != previous + 1
        {
            found(None, MetadataDamage::MissingFile { previous });
        }
        previous = sequence.or(previous);
        check.items += items;
    }
    Ok(check)
}
