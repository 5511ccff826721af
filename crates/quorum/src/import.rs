//! Metadata that was decided elsewhere, written as the log a node begins with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::EntryPayload;
use ottla_image::{ImageError, MetadataImage, MetadataRecord, encode_records};
use ottla_rt::Disk;

use crate::failure::QuorumFailure;
use crate::frame::{Frame, MAX_COMMAND_SIZE};
use crate::log_file::LogFiles;
use crate::open::{QuorumIdentity, command, entry};
use crate::recovery::{RecoveryError, io_error, read_log};
use crate::state_machine::InitialState;
use crate::types::{RaftMembership, RaftVote, VoterId, log_id};

/// Records are gathered into entries of about this size.
const ENTRY_BYTES: usize = 1 << 20;

/// Why metadata cannot be written as a new log.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    #[error("a record of {size} bytes is larger than the {limit} allowed")]
    TooLarge { size: usize, limit: usize },
    #[error("the metadata is not of cluster {0}")]
    OtherCluster(Arc<str>),
    #[error("the records do not fit together: {0}")]
    Image(#[from] ImageError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error("what was written is read back as something else: {0}")]
    Replay(QuorumFailure),
    #[error("what was written to {} is read back as something else", .0.display())]
    NotTheSame(PathBuf),
}

/// Writes a log of a sole voter in `directory`, which must not exist, with this image as its content; then reads it back
/// and compares. Everything is durable when this returns, the directory's own name included. Blocks.
pub fn import(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    identity: &QuorumIdentity,
    image: &MetadataImage,
) -> Result<(), ImportError> {
    let exists = disk.exists(directory).map_err(io_error("look for", directory))?;
    if exists {
        return Err(ImportError::Exists(directory.to_owned()));
    }
    if image.cluster_id() != Some(&identity.cluster_id) {
        return Err(ImportError::OtherCluster(Arc::clone(&identity.cluster_id)));
    }
    let voter = VoterId { node_id: identity.node_id, directory_id: identity.directory_id };
    let membership = RaftMembership::new_with_defaults(vec![[voter].into()], [voter]);
    let mut frames = vec![
        Frame::Vote(RaftVote::new_committed(1, voter)),
        Frame::Entry(entry(log_id(1, 0), EntryPayload::Membership(membership))),
    ];
    for (index, records) in (1..).zip(entries(image.to_records())?) {
        frames.push(Frame::Entry(entry(log_id(1, index), command(&records))));
    }
    let written = |source: io::Error| io_error("begin the log in", directory)(source);
    LogFiles::create(disk, directory, voter, &frames, u64::MAX).map_err(written)?;

    let read = read_log(disk, directory, u64::MAX)?.ok_or_else(|| ImportError::NotTheSame(directory.to_owned()))?;
    let mut state = InitialState::default();
    for entry in read.content.entries.values() {
        state.apply(entry).map_err(ImportError::Replay)?;
    }
    if state.image == *image && read.voter == voter {
        Ok(())
    } else {
        Err(ImportError::NotTheSame(directory.to_owned()))
    }
}

/// The records in their order, cut into entries; each prefix of an image's records is an image.
fn entries(records: Vec<MetadataRecord>) -> Result<Vec<Vec<MetadataRecord>>, ImportError> {
    let mut entries: Vec<Vec<MetadataRecord>> = Vec::new();
    let mut room = 0;
    let mut scratch = Vec::new();
    for record in records {
        scratch.clear();
        encode_records(std::slice::from_ref(&record), &mut scratch);
        let size = scratch.len();
        if size > MAX_COMMAND_SIZE {
            return Err(ImportError::TooLarge { size, limit: MAX_COMMAND_SIZE });
        }
        match entries.last_mut() {
            Some(entry) if size <= room => {
                entry.push(record);
                room -= size;
            }
            _ => {
                entries.push(vec![record]);
                room = ENTRY_BYTES.saturating_sub(size);
            }
        }
    }
    Ok(entries)
}
