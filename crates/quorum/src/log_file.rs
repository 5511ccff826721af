//! The files of the log: writing batches of frames, rolling, deleting what a snapshot has made needless.
//!
//! Every batch is durable before the next one is written. A new file begins with the state of the log (vote, purge),
//! so it needs no earlier file except for entries after the last purge.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_rt::{Disk, DiskFile, OpenMode};

use crate::frame::{Frame, Header};
use crate::types::{RaftLogId, RaftVote, VoterId};

const SUFFIX: &str = ".log";

/// The name of a file of the log.
pub(crate) fn file_name(sequence: u64) -> String {
    format!("{sequence:020}{SUFFIX}")
}

/// Makes the names in the directory durable, and those on the way to it.
pub(crate) fn sync_names(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    for ancestor in directory.ancestors() {
        let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        match disk.sync_dir(ancestor) {
            // Not ours to read, so not made by us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && ancestor != directory => {}
            result => result?,
        }
    }
    Ok(())
}

/// The number in the name of a file of the log.
pub(crate) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// An earlier file, and the last entry in it.
#[derive(Debug)]
pub(crate) struct OlderFile {
    pub(crate) sequence: u64,
    pub(crate) last_index: Option<u64>,
}

/// The parts of the log's state that a new file begins with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Preamble {
    pub(crate) vote: Option<RaftVote>,
    pub(crate) purged: Option<RaftLogId>,
}

/// The file being written, and those before it.
pub(crate) struct LogFiles {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: PathBuf,
    pub(crate) header: Header,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where the next batch goes; everything before is durable, but for what a killed process left.
    pub(crate) length: u64,
    /// How much of the file is known to be durable.
    pub(crate) durable_length: u64,
    pub(crate) last_index: Option<u64>,
    pub(crate) older: Vec<OlderFile>,
    pub(crate) preamble: Preamble,
    /// A file that is longer than this is followed by another.
    pub(crate) segment_bytes: u64,
}

impl LogFiles {
    /// Makes the first file of a log, with these frames, and makes its directory and all names durable.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        voter: VoterId,
        frames: &[Frame],
        segment_bytes: u64,
    ) -> io::Result<LogFiles> {
        disk.create_dir_all(directory)?;
        let header = Header { voter, sequence: 1 };
        let file = disk.open(&directory.join(file_name(1)), OpenMode::CreateOrOpen)?;
        // What a start that was cut short has left.
        file.set_len(0)?;
        let mut files = LogFiles {
            disk: Arc::clone(disk),
            directory: directory.to_owned(),
            header,
            file,
            length: 0,
            durable_length: 0,
            last_index: None,
            older: Vec::new(),
            preamble: Preamble::default(),
            segment_bytes,
        };
        files.append_batch(frames)?;
        sync_names(&**disk, directory)?;
        Ok(files)
    }

    /// At a start. The sync of the last batch may have failed; then the system's cache shows the batch, and the next sync,
    /// which every start comes to, would find nothing to do.
    pub(crate) fn write_unsynced_anew(&self) -> io::Result<()> {
        let mut bytes = vec![0; self.length.saturating_sub(self.durable_length) as usize];
        self.file.read_exact_at(&mut bytes, self.durable_length)?;
        self.file.write_all_at(&[IoSlice::new(&bytes)], self.durable_length)
    }

    /// Writes frames and makes them durable. After an error the files must not be written again.
    pub(crate) fn write(&mut self, frames: &[Frame]) -> io::Result<()> {
        let purged =
            frames.iter().rev().find_map(|frame| if let Frame::Purge(log_id) = frame { Some(*log_id) } else { None });
        // After a purge the old files can go, all but the one being written: so a purge ends it.
        if purged.is_some() {
            // The snapshot that makes it possible may have been named by a process that was killed before it synced that.
            self.disk.sync_dir(&self.directory)?;
        }
        if self.length >= self.segment_bytes || purged.is_some() {
            self.roll(frames)?;
        } else {
            self.append_batch(frames)?;
        }
        if let Some(purged) = purged {
            self.delete_up_to(purged.index)?;
        }
        Ok(())
    }

    fn append_batch(&mut self, frames: &[Frame]) -> io::Result<()> {
        let mut bytes = Vec::new();
        if self.length == 0 {
            self.header.put(&mut bytes);
        }
        for frame in frames {
            frame.put(self.durable_length, &mut bytes);
            self.note(frame);
        }
        self.file.write_all_at(&[IoSlice::new(&bytes)], self.length)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        self.durable_length = self.length;
        Ok(())
    }

    fn roll(&mut self, frames: &[Frame]) -> io::Result<()> {
        let preamble = self.preamble;
        let sequence = self.header.sequence + 1;
        if self.durable_length < self.length {
            // What the last process wrote at its end, and nobody has synced since.
            self.file.sync_data()?;
        }
        // A start after a crash in the middle of this may find the file; it is empty or torn then, and was removed.
        let file = self.disk.open(&self.directory.join(file_name(sequence)), OpenMode::CreateNew)?;
        self.older.push(OlderFile { sequence: self.header.sequence, last_index: self.last_index });
        self.header.sequence = sequence;
        self.file = file;
        self.length = 0;
        self.durable_length = 0;
        self.last_index = None;
        let state = preamble.vote.map(Frame::Vote).into_iter().chain(preamble.purged.map(Frame::Purge));
        let batch: Vec<Frame> = state.chain(frames.iter().cloned()).collect();
        self.append_batch(&batch)?;
        self.disk.sync_dir(&self.directory)
    }

    /// Deletes the oldest files while a snapshot has all their entries. A deletion that a crash undoes is done again at
    /// the next start.
    fn delete_up_to(&mut self, purged_index: u64) -> io::Result<()> {
        while let Some(oldest) = self.older.first() {
            if oldest.last_index.is_some_and(|last_index| last_index > purged_index) {
                break;
            }
            self.disk.remove_file(&self.directory.join(file_name(oldest.sequence)))?;
            self.older.remove(0);
        }
        Ok(())
    }

    fn note(&mut self, frame: &Frame) {
        match frame {
            Frame::Vote(vote) => self.preamble.vote = Some(*vote),
            Frame::Purge(log_id) => self.preamble.purged = Some(*log_id),
            Frame::Entry(entry) => self.last_index = self.last_index.max(Some(entry.log_id.index)),
            Frame::Truncate(_) | Frame::Committed(_) => {}
        }
    }
}
