//! Reading the log back.
//!
//! Only the last batch of the last file can be torn: a batch is durable before the next is written. So the first bad
//! frame of the last file ends the log, unless a later frame proves that the bad bytes were durable once; that, and a
//! bad frame in an earlier file, is damage, and the node does not start on it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ottla_rt::{Disk, OpenMode};

use crate::frame::{Frame, HEADER_SIZE, Header, HeaderError};
use crate::log_file::{LogFiles, OlderFile, Preamble, file_name, sequence_of, sync_names};
use crate::types::{RaftEntry, RaftLogId, RaftVote, VoterId};

/// The longest file that is read: far more than is ever written.
pub(crate) const MAX_FILE_SIZE: u64 = 4 << 30;

/// The state of the log: what its frames amount to.
#[derive(Debug, Default)]
pub(crate) struct LogContent {
    pub(crate) vote: Option<RaftVote>,
    pub(crate) committed: Option<RaftLogId>,
    pub(crate) purged: Option<RaftLogId>,
    /// Without gaps, from the one after `purged`.
    pub(crate) entries: BTreeMap<u64, RaftEntry>,
    /// Bytes of commands in `entries`.
    pub(crate) command_bytes: u64,
}

impl LogContent {
    pub(crate) fn last_log_id(&self) -> Option<RaftLogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.log_id).or(self.purged)
    }

    pub(crate) fn apply(&mut self, frame: Frame) {
        match frame {
            Frame::Vote(vote) => self.vote = Some(vote),
            Frame::Entry(entry) => {
                self.command_bytes += command_size(&entry);
                if let Some(replaced) = self.entries.insert(entry.log_id.index, entry) {
                    self.command_bytes -= command_size(&replaced);
                }
            }
            Frame::Truncate(last_index) => {
                let removed = self.entries.split_off(&last_index.map_or(0, |index| index + 1));
                self.command_bytes -= removed.values().map(command_size).sum::<u64>();
            }
            Frame::Purge(log_id) => {
                self.purged = Some(log_id);
                let kept = self.entries.split_off(&(log_id.index + 1));
                let removed = std::mem::replace(&mut self.entries, kept);
                self.command_bytes -= removed.values().map(command_size).sum::<u64>();
            }
            Frame::Committed(log_id) => self.committed = Some(log_id),
        }
    }
}

fn command_size(entry: &RaftEntry) -> u64 {
    match &entry.payload {
        openraft::EntryPayload::Normal(command) => command.records.len() as u64,
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => 0,
    }
}

/// Why the metadata of a node cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("cannot {operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{} has format version {version}, which a newer version of this program wrote", path.display())]
    NewerFormat { path: PathBuf, version: u16 },
    #[error("{} is damaged at byte {position}: what is there was durable once", path.display())]
    Damaged { path: PathBuf, position: u64 },
    #[error("{} belongs to node {found}, not to node {expected}", path.display())]
    WrongNode { path: PathBuf, expected: i32, found: i32 },
    #[error("{} belongs to directory {found}, not to directory {expected}", path.display())]
    WrongDirectory { path: PathBuf, expected: ottla_types::Uuid, found: ottla_types::Uuid },
    #[error("entry {missing} is missing from the log in {}", path.display())]
    MissingEntry { path: PathBuf, missing: u64 },
    #[error("the log in {} starts after entry {purged}, and there is no snapshot up to it", path.display())]
    MissingSnapshot { path: PathBuf, purged: u64 },
    #[error("the log in {} is missing: there is only a snapshot", path.display())]
    MissingLog { path: PathBuf },
    #[error("there is no metadata in {}, but the node has been in a cluster before", path.display())]
    MissingMetadata { path: PathBuf },
}

/// What [`read_log`] found.
pub(crate) struct ReadLog {
    pub(crate) content: LogContent,
    pub(crate) files: LogFiles,
    pub(crate) voter: VoterId,
}

/// Reads the log in `directory` and readies it for writing; `None` when nothing was ever durable there.
pub(crate) fn read_log(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    segment_bytes: u64,
) -> Result<Option<ReadLog>, RecoveryError> {
    let sequences = file_sequences(disk.as_ref(), directory)?;
    let mut content = LogContent::default();
    let mut preamble = Preamble::default();
    let mut older = Vec::new();
    let mut voter = None;
    for (position, &sequence) in sequences.iter().enumerate() {
        let path = directory.join(file_name(sequence));
        let is_last = position + 1 == sequences.len();
        let bytes = Bytes::from(disk.read_file(&path, MAX_FILE_SIZE).map_err(io_error("read", &path))?);
        let read = read_file(&path, &bytes, is_last)?;
        let Some(header) = read.header else {
            // The last file was torn when it was made. Without it the log is what it was before.
            if position == 0 {
                return Ok(None);
            }
            disk.remove_file(&path).map_err(io_error("remove", &path))?;
            disk.sync_dir(directory).map_err(io_error("sync", directory))?;
            return read_log(disk, directory, segment_bytes);
        };
        if header.sequence != sequence || *voter.get_or_insert(header.voter) != header.voter {
            return Err(RecoveryError::Damaged { path, position: 0 });
        }
        let mut last_index = None;
        for frame in read.frames {
            match &frame {
                Frame::Vote(vote) => preamble.vote = Some(*vote),
                Frame::Purge(log_id) => preamble.purged = Some(*log_id),
                Frame::Entry(entry) => last_index = last_index.max(Some(entry.log_id.index)),
                Frame::Truncate(_) | Frame::Committed(_) => {}
            }
            content.apply(frame);
        }
        if !is_last {
            older.push(OlderFile { sequence, last_index });
            continue;
        }
        let file = disk.open(&path, OpenMode::ReadWrite).map_err(io_error("open", &path))?;
        if read.length < bytes.len() as u64 {
            tracing::warn!(
                path = %path.display(),
                kept = read.length,
                cut = bytes.len() as u64 - read.length,
                "cutting the torn tail of the metadata log"
            );
            // Durable before anything is written here: what is cut must not come back behind it.
            file.set_len(read.length).map_err(io_error("cut", &path))?;
            file.sync_all().map_err(io_error("sync", &path))?;
        }
        check_continuity(&content, directory)?;
        if read.durable_length == 0 {
            // There is one batch only: a process that was killed may not have come to sync the name of its file.
            sync_names(&**disk, directory).map_err(io_error("sync", directory))?;
        }
        let files = LogFiles {
            disk: Arc::clone(disk),
            directory: directory.to_owned(),
            header,
            file,
            length: read.length,
            durable_length: read.durable_length,
            last_index,
            older,
            preamble,
            segment_bytes,
        };
        return Ok(Some(ReadLog { content, files, voter: header.voter }));
    }
    Ok(None)
}

/// The numbers of the log's files: the longest run without a gap that ends with the last. What is before a gap was
/// deleted, and a crash undid that for some.
fn file_sequences(disk: &dyn Disk, directory: &Path) -> Result<Vec<u64>, RecoveryError> {
    if !disk.exists(directory).map_err(io_error("look for", directory))? {
        return Ok(Vec::new());
    }
    let entries = disk.read_dir(directory).map_err(io_error("list", directory))?;
    let sequences: Vec<u64> = entries.iter().filter_map(|entry| sequence_of(&entry.name)).collect();
    let start = (1..sequences.len()).rev().find(|&place| sequences[place - 1] + 1 != sequences[place]).unwrap_or(0);
    for &sequence in &sequences[..start] {
        let path = directory.join(file_name(sequence));
        disk.remove_file(&path).map_err(io_error("remove", &path))?;
    }
    Ok(sequences[start..].to_vec())
}

struct ReadFile {
    /// `None` when the file was torn before anything in it was durable.
    header: Option<Header>,
    frames: Vec<Frame>,
    /// Where the next frame goes.
    length: u64,
    /// What its last batch found durable. The batch itself may be known to the page cache only.
    durable_length: u64,
}

fn read_file(path: &Path, bytes: &Bytes, is_last: bool) -> Result<ReadFile, RecoveryError> {
    let damaged = |position: usize| RecoveryError::Damaged { path: path.to_owned(), position: position as u64 };
    let may_be_torn = |position: usize| is_last && !proves_durable(bytes, position);
    let header = match Header::read(bytes) {
        Ok(header) => header,
        Err(HeaderError::NewerVersion(version)) => {
            return Err(RecoveryError::NewerFormat { path: path.to_owned(), version });
        }
        Err(HeaderError::Invalid) if may_be_torn(0) => {
            return Ok(ReadFile { header: None, frames: Vec::new(), length: 0, durable_length: 0 });
        }
        Err(HeaderError::Invalid) => return Err(damaged(0)),
    };
    let mut frames = Vec::new();
    let mut position = HEADER_SIZE;
    let mut durable_length = 0;
    while position < bytes.len() {
        match Frame::read(&bytes.slice(position..)) {
            Ok(read) => {
                frames.push(read.frame);
                durable_length = durable_length.max(read.durable_length);
                position += read.size;
            }
            Err(_) if may_be_torn(position) => break,
            Err(_) => return Err(damaged(position)),
        }
    }
    // The first batch of a file holds at least one frame; a header alone was not durable.
    let header = (!frames.is_empty()).then_some(header);
    if header.is_none() && !is_last {
        return Err(damaged(position));
    }
    Ok(ReadFile { header, frames, length: position as u64, durable_length })
}

/// Whether a frame after `position` was written when the byte there was durable.
pub(crate) fn proves_durable(bytes: &[u8], position: usize) -> bool {
    (position + 1..bytes.len())
        .any(|place| Frame::durable_length(&bytes[place..]).is_some_and(|length| length > position as u64))
}

fn check_continuity(content: &LogContent, directory: &Path) -> Result<(), RecoveryError> {
    let first = content.purged.map_or(0, |purged| purged.index + 1);
    for (expected, &found) in (first..).zip(content.entries.keys()) {
        if expected != found {
            return Err(RecoveryError::MissingEntry { path: directory.to_owned(), missing: expected });
        }
    }
    Ok(())
}

pub(crate) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecoveryError {
    let path = path.to_owned();
    move |source| RecoveryError::Io { operation, path, source }
}
