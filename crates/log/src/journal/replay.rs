//! What a start does with the journal, before any partition is recovered: the bytes it speaks of are written where they
//! belong, and synced.
//!
//! Doing it twice gives the same files, so a crash meanwhile costs nothing. The journal is emptied only when everything
//! that was recovered is synced.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_record::BatchHeader;
use ottla_rt::{Disk, DiskFile, OpenMode, World};
use ottla_types::{TopicId, TopicPartition};

use super::empty;
use super::format::{Entry, FRAMES_START, Header, HeaderError, Place, parse_entries};
use super::frame::{Frame, FrameReader, count_frames};
use crate::checkpoint::OffsetCheckpoint;
use crate::error::LogError;
use crate::identity;
use crate::names;

/// So many partitions are written before they are synced: each has files open until then.
const PARTITIONS_AT_ONCE: usize = 256;

/// What was found, and is in the partitions' own files by now.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// The number the next frame gets.
    pub(crate) next_frame: u64,
    pub(crate) partitions: usize,
    used: Vec<(PathBuf, Header)>,
}

impl Replayed {
    /// Removes the files: everything that was recovered is synced.
    pub(crate) fn discard(&self, disk: &dyn Disk, directory: &Path) -> io::Result<()> {
        let mut used = self.used.clone();
        // The older one first: the other may say that something in it is void.
        used.sort_by_key(|(_, header)| header.first_frame);
        for (path, header) in used {
            empty(&*disk.open(&path, OpenMode::ReadWrite)?, Header { settled: true, ..header })?;
        }
        remove_files(disk, directory)
    }
}

pub(super) fn remove_files(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    for name in names::JOURNAL_FILES {
        match disk.remove_file(&directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The first journal file of a directory that has something the partitions' own files may not have.
pub(crate) fn unsettled_file(disk: &dyn Disk, directory: &Path) -> io::Result<Option<PathBuf>> {
    for name in names::JOURNAL_FILES {
        let path = directory.join(name);
        let file = match disk.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let len = file.len()?;
        let mut bytes = vec![0; len.min(FRAMES_START) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let unsettled = match Header::parse(&bytes) {
            Ok(header) => !header.settled,
            Err(HeaderError::NewerVersion(_)) => true,
            Err(HeaderError::Invalid) => count_frames(&*file, FRAMES_START, len)? > 0,
        };
        if unsettled {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Empties a journal that was found together with the mark of a clean stop: whoever stopped knew nothing of it, so it tells
/// of a past that is over.
pub(crate) fn throw_away(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    for name in names::JOURNAL_FILES {
        let path = directory.join(name);
        match disk.open(&path, OpenMode::ReadWrite) {
            Ok(file) => {
                tracing::warn!(path = %path.display(), "the journal is from before the last clean stop: it is thrown away");
                empty(&*file, Header { settled: true, first_frame: 0, salt: 0 })?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes what the journal of a directory holds into the partitions' files.
pub(crate) async fn replay(
    world: &World,
    directory: &Path,
    log_starts: &OffsetCheckpoint,
) -> Result<Replayed, LogError> {
    let disk = &*world.disk;
    let mut journals: Vec<Found> = Vec::new();
    let mut replayed = Replayed { next_frame: 1, ..Replayed::default() };
    for name in names::JOURNAL_FILES {
        let path = directory.join(name);
        let found = read_file(disk, &path)?;
        if let Some(header) = found.header {
            replayed.used.push((path, header));
            replayed.next_frame = replayed.next_frame.max(found.next_frame);
            if !header.settled {
                journals.push(found);
            }
        }
    }
    journals.sort_by_key(|found| found.first_frame);
    for pair in journals.windows(2) {
        // The second was begun when the first had ended, durably.
        if pair[0].next_frame != pair[1].first_frame {
            return Err(LogError::JournalDamaged { path: pair[0].path.clone(), position: pair[0].end });
        }
    }

    let mut partitions: BTreeMap<(TopicPartition, TopicId), Vec<Append<'_>>> = BTreeMap::new();
    for (found, located) in journals.iter().flat_map(|found| found.entries.iter().map(move |entry| (found, entry))) {
        match &located.entry {
            Entry::Appended { place, batches } => {
                let key = (place.topic_partition.clone(), place.topic_id);
                let append = Append { found, frame: located.frame, place, batches: batches.clone() };
                partitions.entry(key).or_default().push(append);
            }
            Entry::Left { topic_partition, topic_id } => {
                partitions.remove(&(topic_partition.clone(), *topic_id));
            }
        }
    }
    replayed.partitions = partitions.len();
    if !partitions.is_empty() {
        tracing::info!(directory = %directory.display(), partitions = partitions.len(), "replaying the journal");
    }
    let partitions: Vec<_> = partitions.into_iter().collect();
    if !partitions.is_empty() {
        // Until the syncs below have succeeded, all of it is in doubt: there is no note.
        match disk.remove_file(&directory.join(names::DOUBTS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &directory.join(names::DOUBTS), error));
            }
            _ => {}
        }
    }
    for round in partitions.chunks(PARTITIONS_AT_ONCE) {
        let mut written = Vec::new();
        for ((topic_partition, topic_id), appends) in round {
            let path = directory.join(names::partition_directory(topic_partition));
            // Deleted since, or made anew with another id: none of it is wanted.
            if is_of(disk, &path, *topic_id)? {
                let log_start = log_starts.get(topic_partition).copied().unwrap_or(0);
                write_partition(disk, &path, log_start, appends, &mut written)?;
            }
        }
        for result in disk.sync_files(written).await {
            result.map_err(|source| io_error("sync partitions of", directory, source))?;
        }
    }
    Ok(replayed)
}

/// An entry and the frame whose payload has its batches.
struct Located {
    entry: Entry,
    frame: Frame,
}

/// Batches that belong into a partition's file.
struct Append<'a> {
    found: &'a Found,
    frame: Frame,
    place: &'a Place,
    /// Of the frame's payload.
    batches: Range<usize>,
}

impl Append<'_> {
    fn read(&self) -> Result<Vec<u8>, LogError> {
        let path = &self.found.path;
        let reader = self.found.reader().expect("invariant: what has entries is open");
        let batches = reader.read_range(&self.frame, self.batches.clone());
        // It was whole a moment ago.
        let damaged = || LogError::JournalDamaged { path: path.clone(), position: self.frame.start() };
        batches.map_err(|source| io_error("read", path, source))?.ok_or_else(damaged)
    }
}

/// A journal file as it was found.
struct Found {
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    len: u64,
    header: Option<Header>,
    first_frame: u64,
    next_frame: u64,
    entries: Vec<Located>,
    /// Where its last whole frame ends.
    end: u64,
}

impl Found {
    fn reader(&self) -> Option<FrameReader<'_>> {
        let (file, header) = (self.file.as_deref()?, self.header?);
        Some(FrameReader { file, len: self.len, salt: header.salt })
    }
}

fn read_file(disk: &dyn Disk, path: &Path) -> Result<Found, LogError> {
    let failed = |source| io_error("read", path, source);
    let mut found = Found {
        path: path.to_path_buf(),
        file: None,
        len: 0,
        header: None,
        first_frame: 0,
        next_frame: 0,
        entries: Vec::new(),
        end: 0,
    };
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(failed(error)),
    };
    found.len = file.len().map_err(failed)?;
    let mut bytes = vec![0; found.len.min(FRAMES_START) as usize];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    let header = match Header::parse(&bytes) {
        Ok(header) => header,
        // Nothing in it is acknowledged before header and first frame are durable, both by one sync. A second frame was
        // written after that.
        Err(HeaderError::Invalid) if count_frames(&*file, FRAMES_START, found.len).map_err(failed)? > 1 => {
            return Err(LogError::JournalDamaged { path: path.to_path_buf(), position: 0 });
        }
        Err(HeaderError::Invalid) => {
            tracing::warn!(path = %path.display(), "a journal file was just begun when the node died");
            return Ok(found);
        }
        Err(HeaderError::NewerVersion(version)) => {
            return Err(LogError::JournalVersion { path: path.to_path_buf(), version });
        }
    };
    found.header = Some(header);
    found.first_frame = header.first_frame;
    found.next_frame = header.first_frame;
    if header.settled {
        return Ok(found);
    }
    found.file = Some(file);
    read_frames(&mut found)?;
    Ok(found)
}

/// Up to the first one that is not whole: the last, or there is damage.
fn read_frames(found: &mut Found) -> Result<(), LogError> {
    let path = found.path.clone();
    let failed = |source| io_error("read", &path, source);
    let damaged = |position| LogError::JournalDamaged { path: path.clone(), position };
    found.end = FRAMES_START;
    loop {
        let reader = found.reader().expect("invariant: the file is open");
        let Some(whole) = reader.read(found.next_frame, found.end).map_err(failed)? else { break };
        if let Some(position) = whole.made_good {
            tracing::warn!(
                path = %path.display(), position, frame = whole.frame.number,
                "a block of the journal is damaged, or was not written to its end: it is made from the others"
            );
        }
        let frame = whole.frame;
        let entries = parse_entries(&whole.payload).map_err(|_| damaged(found.end))?;
        found.entries.extend(entries.into_iter().map(|entry| Located { entry, frame }));
        found.next_frame += 1;
        found.end = frame.end();
    }
    let reader = found.reader().expect("invariant: the file is open");
    if reader.has_later_block(found.next_frame, found.end).map_err(failed)? {
        return Err(damaged(found.end));
    }
    Ok(())
}

/// Whether this is the directory of a partition of that topic.
fn is_of(disk: &dyn Disk, path: &Path, topic_id: TopicId) -> Result<bool, LogError> {
    let metadata = identity::read_partition_metadata(disk, path)
        .map_err(|source| io_error("read", &path.join(names::PARTITION_METADATA), source))?;
    Ok(metadata.is_some_and(|found| found == Ok(topic_id)))
}

fn write_partition(
    disk: &dyn Disk,
    path: &Path,
    log_start: i64,
    appends: &[Append<'_>],
    written: &mut Vec<Arc<dyn DiskFile>>,
) -> Result<(), LogError> {
    let mut open: Option<(i64, Arc<dyn DiskFile>)> = None;
    for append in appends {
        let base_offset = append.place.segment_base_offset;
        let segment = names::offset_file(path, base_offset, names::LOG_SUFFIX);
        let file = match &open {
            Some((base, file)) if *base == base_offset => Arc::clone(file),
            _ => match disk.open(&segment, OpenMode::ReadWrite) {
                Ok(file) => {
                    open = Some((base_offset, Arc::clone(&file)));
                    written.push(Arc::clone(&file));
                    file
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if base_offset < log_start || is_given_up(disk, path, base_offset)? {
                        continue;
                    }
                    return Err(LogError::JournalWithoutSegment { segment });
                }
                Err(source) => return Err(io_error("open", &segment, source)),
            },
        };
        let batches = append.read()?;
        let first = BatchHeader::parse(&batches).map_err(|_| LogError::JournalDamaged {
            path: append.found.path.clone(),
            position: append.frame.start(),
        })?;
        let len = file.len().map_err(|source| io_error("read", &segment, source))?;
        if len < append.place.position || first.base_offset < append.place.offset {
            // What is below was durable when the entry was written.
            return Err(LogError::JournalWithoutSegment { segment });
        }
        file.write_all_at(&[IoSlice::new(&batches)], append.place.position)
            .map_err(|source| io_error("write", &segment, source))?;
    }
    Ok(())
}

/// Whether retention took this segment before it could write down the new start: a later one is the log's first.
fn is_given_up(disk: &dyn Disk, path: &Path, base_offset: i64) -> Result<bool, LogError> {
    let names = disk.read_dir(path).map_err(|source| io_error("list", path, source))?;
    let bases = names.iter().filter_map(|entry| names::parse_offset_file(&entry.name, names::LOG_SUFFIX));
    Ok(bases.min().is_some_and(|first| first > base_offset))
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> LogError {
    LogError::Io { operation, path: path.to_path_buf(), source }
}
