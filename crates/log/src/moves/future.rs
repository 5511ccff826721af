//! The copy of a partition's log in the directory it moves to (`-future`).
//!
//! It is the same log, file by file and byte by byte, so that it can take the log's place under an open partition: what is
//! known of its segments holds for both. Nothing of it counts before that, so it needs no recovery; of what an earlier process
//! left, the segments it had synced are compared with the log's, and kept as far as they are the same. A segment it had not
//! is copied anew: that its bytes can be read does not say that a sync of them would write them, if one has failed.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_rt::{Disk, DiskFile, OpenMode};

use super::plan::{self, Copied, Source, Step};
use super::{MoveError, mark};
use crate::directory::Directory;
use crate::handles::FileId;
use crate::identity;
use crate::names;
use crate::partition::{MovingView, PartitionLog};
use crate::planted::Planted;
use crate::scan::{Scanned, Scanner, Verify};
use crate::segment::{Segment, remove_if_there};

/// What one step copies or compares, but for a batch that is larger.
const STEP_BYTES: u64 = 1 << 20;
/// Read and written at once.
const BUFFER_BYTES: u64 = 256 * 1024;
/// What a copy may have unsynced: the rest must not hold up its last step.
const UNSYNCED_BYTES: u64 = 64 << 20;
/// What may be missing when appends are held up for the rest.
const TOLERATED_BYTES: u64 = 256 * 1024;
/// What is copied while they are: more may have come since they were.
const LOCKED_BYTES: u64 = 8 << 20;

/// What goes with a segment's log.
const SIDE_FILES: [&str; 5] = [
    names::OFFSET_INDEX_SUFFIX,
    names::TIME_INDEX_SUFFIX,
    names::TRANSACTION_INDEX_SUFFIX,
    names::TRANSACTION_SUM_SUFFIX,
    names::HEADER_SUM_SUFFIX,
];

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// So many bytes were read or written.
    Moved(u64),
    /// What is missing can be copied while appends wait.
    CaughtUp,
}

pub(crate) struct FutureLog {
    target: Arc<Directory>,
    path: Arc<Path>,
    copies: Vec<SegmentCopy>,
    /// The cuts of the log that the copies know; `None` before the first step.
    truncations: Option<u64>,
    /// The segments this process has begun, by their base offsets.
    begun: BTreeSet<i64>,
    epochs_written: Option<String>,
    buffer: Vec<u8>,
}

struct SegmentCopy {
    segment: Arc<Segment>,
    /// Whole batches, the same as the segment's.
    bytes: u64,
    /// Behind the last of them.
    end_offset: i64,
    /// Up to where the bytes are the same, while what an earlier copy left is looked at.
    comparing: Option<u64>,
    finished: bool,
    file: Option<Arc<dyn DiskFile>>,
    unsynced: u64,
}

/// A file that was copied, not synced, and its length.
type CopiedFile = (Arc<dyn DiskFile>, u64);

impl FutureLog {
    /// A copy that may have something already; its directory is there.
    pub(super) fn new(target: &Arc<Directory>, path: PathBuf) -> FutureLog {
        FutureLog {
            target: Arc::clone(target),
            path: Arc::from(path),
            copies: Vec::new(),
            truncations: None,
            begun: BTreeSet::new(),
            epochs_written: None,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn target(&self) -> &Arc<Directory> {
        &self.target
    }

    pub(crate) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Bytes of its segments.
    pub(super) fn size(&self) -> u64 {
        self.copies.iter().map(|copy| copy.bytes).sum()
    }

    /// Behind its last record; 0 before the first.
    pub(super) fn log_end_offset(&self) -> i64 {
        self.copies.iter().map(|copy| copy.end_offset).max().unwrap_or(0)
    }

    /// Copies or compares some more.
    pub(super) fn step(&mut self, log: &PartitionLog) -> Result<Progress, MoveError> {
        let view = log.moving_view();
        if self.truncations != Some(view.truncations) {
            // Who knows what was written where the cut was: all of it is compared.
            self.copies.clear();
            self.truncations = Some(view.truncations);
        }
        let done = match self.next_step(&view, TOLERATED_BYTES) {
            Step::Remove { copied } => self.remove(copied).map(|()| 0),
            Step::Begin { source } => self.begin_segment(&view, source).map(|()| 0),
            Step::Compare { copied } => self.compare(copied),
            Step::Copy { source, copied } => self.copy(&view, source, copied),
            Step::Finish { copied } => self.finish_segment(copied),
            Step::CaughtUp => return Ok(Progress::CaughtUp),
        };
        match done {
            Ok(bytes) => Ok(Progress::Moved(bytes)),
            // Retention or a cut came between: there is another plan now.
            Err(MoveError::Source { .. } | MoveError::Damaged { .. }) if is_outdated(log, &view) => {
                Ok(Progress::Moved(0))
            }
            Err(error) => Err(error),
        }
    }

    /// Does everything ahead that need not be done while appends wait. Retention, cuts and the cleaner do.
    pub(crate) fn prepare(&mut self, log: &PartitionLog, moves: u64) -> Result<(), MoveError> {
        if self.truncations != Some(log.moving_view().truncations) {
            return Err(MoveError::Behind);
        }
        if let Some(topic_id) = log.topic_id() {
            let text = identity::format_partition_metadata(topic_id);
            let name = self.path.join(names::PARTITION_METADATA);
            let written = self.disk().write_file_atomically(&name, text.as_bytes());
            written.map_err(MoveError::target("write", &name))?;
        }
        mark::write(self.disk(), &self.path, moves).map_err(MoveError::target("write", &self.path))?;
        for copied in 0..self.copies.len() {
            self.sync(copied)?;
        }
        self.copy_the_rest(log)?;
        self.sync_names()?;
        let parent = &self.target.path;
        self.disk().sync_dir(parent).map_err(MoveError::target("sync", parent))
    }

    /// Copies what is missing, durably. Nobody appends meanwhile.
    pub(crate) fn complete(&mut self, log: &PartitionLog) -> Result<(), MoveError> {
        let view = log.moving_view();
        let missing: u64 = view.segments.iter().map(|(_, size)| *size).sum::<u64>().saturating_sub(self.size());
        if self.truncations != Some(view.truncations) || missing > LOCKED_BYTES {
            return Err(MoveError::Behind);
        }
        loop {
            match self.next_step(&view, 0) {
                Step::Remove { copied } => self.remove(copied)?,
                Step::Begin { source } => self.begin_segment(&view, source)?,
                Step::Compare { copied } => drop(self.compare(copied)?),
                Step::Copy { source, copied } => drop(self.copy(&view, source, copied)?),
                Step::Finish { copied } => drop(self.finish_segment(copied)?),
                Step::CaughtUp => break,
            }
        }
        self.copy_the_rest(log)?;
        for copied in 0..self.copies.len() {
            self.sync(copied)?;
        }
        self.sync_names()
    }

    fn disk(&self) -> &dyn Disk {
        &*self.target.shared.world.disk
    }

    fn next_step(&self, view: &MovingView, tolerated: u64) -> Step {
        let source: Vec<Source<FileId>> =
            view.segments.iter().map(|(segment, bytes)| Source { id: segment.id(), bytes: *bytes }).collect();
        let copied = |copy: &SegmentCopy| Copied {
            id: copy.segment.id(),
            bytes: copy.bytes,
            comparing: copy.comparing.is_some(),
            finished: copy.finished,
        };
        let copies: Vec<Copied<FileId>> = self.copies.iter().map(copied).collect();
        plan::next_step(&source, &copies, tolerated)
    }

    fn file_of(&self, base_offset: i64, suffix: &str) -> PathBuf {
        names::offset_file(&self.path, base_offset, suffix)
    }

    fn remove(&mut self, copied: usize) -> Result<(), MoveError> {
        let copy = self.copies.remove(copied);
        let base_offset = copy.segment.base_offset;
        drop(copy);
        // First the marker: it is of these.
        for suffix in [names::COPIED_SUFFIX].into_iter().chain(SIDE_FILES).chain([names::LOG_SUFFIX]) {
            let path = self.file_of(base_offset, suffix);
            remove_if_there(&self.target.shared, &path).map_err(MoveError::target("remove", &path))?;
        }
        Ok(())
    }

    fn begin_segment(&mut self, view: &MovingView, source: usize) -> Result<(), MoveError> {
        let segment = &view.segments[source].0;
        let path = self.file_of(segment.base_offset, names::LOG_SUFFIX);
        let failed = MoveError::target("open", &path);
        let file = self.disk().open(&path, OpenMode::CreateOrOpen).map_err(&failed)?;
        let mut there = file.len().map_err(&failed)?;
        let marker = self.file_of(segment.base_offset, names::COPIED_SUFFIX);
        if there > 0 && self.begun.insert(segment.base_offset) && !self.disk().exists(&marker).map_err(&failed)? {
            file.set_len(0).map_err(&failed)?;
            there = 0;
        }
        self.begun.insert(segment.base_offset);
        self.copies.push(SegmentCopy {
            segment: Arc::clone(segment),
            bytes: 0,
            end_offset: segment.base_offset,
            comparing: (there > 0).then_some(0),
            finished: false,
            file: Some(file),
            // What an earlier process wrote may be in memory only.
            unsynced: there,
        });
        Ok(())
    }

    /// Looks at what there is already. Bytes that are the same are kept, up to the last whole batch of them.
    fn compare(&mut self, copied: usize) -> Result<u64, MoveError> {
        let copy = &mut self.copies[copied];
        let path = names::offset_file(&self.path, copy.segment.base_offset, names::LOG_SUFFIX);
        let failed = MoveError::target("read", &path);
        let target = open_copy(&*self.target.shared.world.disk, &path, &mut copy.file)?;
        let source = source_file(&copy.segment)?;
        let size = copy.segment.size();
        let from = copy.comparing.unwrap_or(0);
        let limit = target.len().map_err(&failed)?.min(size);
        let to = limit.min(from + STEP_BYTES);
        let same = same_bytes(&*source, &*target, from..to, &copy.segment, &failed)?;
        let mut scanner = Scanner::new(&*source, copy.bytes, size);
        loop {
            match scanner.next(Verify::Headers).map_err(|error| source_failed(&copy.segment, error))? {
                Scanned::Batch { header, .. } if scanner.position() <= same => {
                    copy.bytes = scanner.position();
                    copy.end_offset = header.next_offset();
                }
                Scanned::Batch { .. } | Scanned::End => break,
                Scanned::Invalid { position, reason } => return Err(damaged(&copy.segment, position, reason)),
            }
        }
        copy.comparing = Some(same);
        if same < to || to == limit {
            target.set_len(copy.bytes).map_err(&failed)?;
            copy.comparing = None;
        }
        Ok(to - from)
    }

    /// Copies whole batches whose checksums are right: damage is not spread.
    fn copy(&mut self, view: &MovingView, source: usize, copied: usize) -> Result<u64, MoveError> {
        let size = view.segments[source].1;
        let copy = &mut self.copies[copied];
        let path = names::offset_file(&self.path, copy.segment.base_offset, names::LOG_SUFFIX);
        let target = open_copy(&*self.target.shared.world.disk, &path, &mut copy.file)?;
        let file = source_file(&copy.segment)?;
        let from = copy.bytes;
        let mut scanner = Scanner::new(&*file, from, size);
        let mut end_offset = copy.end_offset;
        while scanner.position() - from < STEP_BYTES {
            match scanner.next(Verify::Checksums).map_err(|error| source_failed(&copy.segment, error))? {
                Scanned::Batch { header, .. } => end_offset = header.next_offset(),
                Scanned::End => break,
                Scanned::Invalid { position, reason } => return Err(damaged(&copy.segment, position, reason)),
            }
        }
        let to = scanner.position();
        copy_range(&*file, &*target, from..to, &mut self.buffer, &copy.segment, &path)?;
        copy.bytes = to;
        copy.end_offset = end_offset;
        copy.unsynced += to - from;
        if copy.unsynced >= UNSYNCED_BYTES {
            self.sync(copied)?;
        }
        Ok(to - from)
    }

    /// A closed segment is copied: its other files follow, and all of it is synced.
    fn finish_segment(&mut self, copied: usize) -> Result<u64, MoveError> {
        self.sync(copied)?;
        let segment = Arc::clone(&self.copies[copied].segment);
        let mut bytes = 0;
        for suffix in SIDE_FILES {
            if let Some((file, len)) = self.copy_side_file(&segment, suffix)? {
                file.sync_data().map_err(MoveError::target("sync", &self.path))?;
                bytes += len;
            }
        }
        let marker = self.file_of(segment.base_offset, names::COPIED_SUFFIX);
        self.disk().open(&marker, OpenMode::CreateOrOpen).map_err(MoveError::target("create", &marker))?;
        let copy = &mut self.copies[copied];
        copy.finished = true;
        copy.file = None;
        Ok(bytes)
    }

    fn sync(&mut self, copied: usize) -> Result<(), MoveError> {
        let copy = &mut self.copies[copied];
        if copy.unsynced > 0 && !self.target.shared.has_planted(Planted::CopyNotSynced) {
            let path = names::offset_file(&self.path, copy.segment.base_offset, names::LOG_SUFFIX);
            let file = open_copy(&*self.target.shared.world.disk, &path, &mut copy.file)?;
            file.sync_data().map_err(MoveError::target("sync", &path))?;
            copy.unsynced = 0;
        }
        Ok(())
    }

    /// The file and its length, unless the segment has none.
    fn copy_side_file(&mut self, segment: &Arc<Segment>, suffix: &str) -> Result<Option<CopiedFile>, MoveError> {
        let from = segment.path(suffix);
        let to = self.file_of(segment.base_offset, suffix);
        self.copy_file(&from, &to, segment)
    }

    fn copy_file(&mut self, from: &Path, to: &Path, segment: &Arc<Segment>) -> Result<Option<CopiedFile>, MoveError> {
        let disk = &*self.target.shared.world.disk;
        let failed = MoveError::target("write", to);
        let source = match disk.open(from, OpenMode::Read) {
            Ok(source) => source,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                remove_if_there(&self.target.shared, to).map_err(&failed)?;
                return Ok(None);
            }
            Err(error) => return Err(MoveError::source("open", from)(error)),
        };
        let len = source.len().map_err(MoveError::source("read", from))?;
        let target = disk.open(to, OpenMode::CreateOrOpen).map_err(&failed)?;
        target.set_len(len).map_err(&failed)?;
        copy_range(&*source, &*target, 0..len, &mut self.buffer, segment, to)?;
        Ok(Some((target, len)))
    }

    /// What is not a closed segment: the active one's indexes, producer snapshots, leader epochs. What is there besides goes.
    fn copy_the_rest(&mut self, log: &PartitionLog) -> Result<(), MoveError> {
        let view = log.moving_view();
        let Some((active, _)) = view.segments.last() else { return Ok(()) };
        for suffix in SIDE_FILES {
            let copied = self.copy_side_file(active, suffix)?;
            // The others are made again from the log after a crash.
            if let Some((file, _)) = copied.filter(|_| suffix == names::TRANSACTION_INDEX_SUFFIX) {
                file.sync_data().map_err(MoveError::target("sync", &self.path))?;
            }
        }
        let there = self.disk().read_dir(&self.path).map_err(MoveError::target("list", &self.path))?;
        let mut wanted: BTreeSet<String> =
            [names::PARTITION_METADATA, names::LEADER_EPOCH_CHECKPOINT, names::MOVE_MARK].map(str::to_owned).into();
        if let Some(forgotten) = log.forgotten_epochs() {
            let path = self.path.join(names::FORGOTTEN_EPOCHS);
            let written = self.disk().write_file_atomically(&path, &forgotten.format());
            written.map_err(MoveError::target("write", &path))?;
            wanted.insert(names::FORGOTTEN_EPOCHS.to_owned());
        }
        for (segment, _) in &view.segments {
            for suffix in SIDE_FILES.into_iter().chain([names::LOG_SUFFIX]) {
                wanted.insert(format!("{:020}{suffix}", segment.base_offset));
            }
        }
        let home = log.path();
        for entry in self.disk().read_dir(&home).map_err(MoveError::source("list", &home))? {
            if names::parse_offset_file(&entry.name, names::SNAPSHOT_SUFFIX).is_none() {
                continue;
            }
            if !there.iter().any(|copy| copy.name == entry.name && copy.len == entry.len) {
                self.copy_file(&home.join(&entry.name), &self.path.join(&entry.name), active)?;
            }
            wanted.insert(entry.name);
        }
        for entry in there.iter().filter(|entry| !wanted.contains(&entry.name)) {
            let path = self.path.join(&entry.name);
            remove_if_there(&self.target.shared, &path).map_err(MoveError::target("remove", &path))?;
        }
        let epochs = log.epochs_text();
        if self.epochs_written.as_ref() != Some(&epochs) {
            let path = self.path.join(names::LEADER_EPOCH_CHECKPOINT);
            let written = self.disk().write_file_atomically(&path, epochs.as_bytes());
            written.map_err(MoveError::target("write", &path))?;
            self.epochs_written = Some(epochs);
        }
        Ok(())
    }

    fn sync_names(&self) -> Result<(), MoveError> {
        self.disk().sync_dir(&self.path).map_err(MoveError::target("sync", &self.path))
    }
}

/// Whether the log has had segments removed, replaced or cut since.
fn is_outdated(log: &PartitionLog, view: &MovingView) -> bool {
    let now = log.moving_view();
    now.truncations != view.truncations
        || view.segments.iter().zip(&now.segments).any(|((before, _), (now, _))| !Arc::ptr_eq(before, now))
}

fn open_copy(
    disk: &dyn Disk,
    path: &Path,
    file: &mut Option<Arc<dyn DiskFile>>,
) -> Result<Arc<dyn DiskFile>, MoveError> {
    if let Some(file) = file {
        return Ok(Arc::clone(file));
    }
    let opened = disk.open(path, OpenMode::ReadWrite).map_err(MoveError::target("open", path))?;
    *file = Some(Arc::clone(&opened));
    Ok(opened)
}

fn source_file(segment: &Segment) -> Result<Arc<dyn DiskFile>, MoveError> {
    segment.file().map_err(|error| source_failed(segment, error))
}

fn source_failed(segment: &Segment, error: io::Error) -> MoveError {
    MoveError::source("read", &segment.path(names::LOG_SUFFIX))(error)
}

fn damaged(segment: &Segment, position: u64, reason: crate::scan::InvalidBatchBytes) -> MoveError {
    MoveError::Damaged { path: segment.path(names::LOG_SUFFIX), position, reason }
}

/// Up to where the range is the same in both.
fn same_bytes(
    source: &dyn DiskFile,
    target: &dyn DiskFile,
    range: std::ops::Range<u64>,
    segment: &Segment,
    failed: impl Fn(io::Error) -> MoveError,
) -> Result<u64, MoveError> {
    let mut position = range.start;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    while position < range.end {
        let len = (range.end - position).min(BUFFER_BYTES) as usize;
        left.resize(len, 0);
        right.resize(len, 0);
        source.read_exact_at(&mut left, position).map_err(|error| source_failed(segment, error))?;
        target.read_exact_at(&mut right, position).map_err(&failed)?;
        if let Some(index) = left.iter().zip(&right).position(|(left, right)| left != right) {
            return Ok(position + index as u64);
        }
        position += len as u64;
    }
    Ok(position)
}

fn copy_range(
    source: &dyn DiskFile,
    target: &dyn DiskFile,
    range: std::ops::Range<u64>,
    buffer: &mut Vec<u8>,
    segment: &Segment,
    path: &Path,
) -> Result<(), MoveError> {
    let mut position = range.start;
    while position < range.end {
        let len = (range.end - position).min(BUFFER_BYTES) as usize;
        buffer.resize(len, 0);
        source.read_exact_at(buffer, position).map_err(|error| source_failed(segment, error))?;
        target.write_all_at(&[IoSlice::new(buffer)], position).map_err(MoveError::target("write", path))?;
        position += len as u64;
    }
    Ok(())
}
