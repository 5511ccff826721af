//! One segment: a `.log` file, its indexes, and what is known of its timestamps.
//!
//! Invariants: bytes below `size` are whole batches, in order; nothing reads beyond `size`; a file with unsynced bytes
//! is pinned (held open) until they are synced.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use ottla_record::{BatchError, BatchHeader};
use ottla_rt::{DiskFile, OpenMode};
use parking_lot::{Mutex, RwLock};

use crate::cleaned_headers::CleanedHeaders;
use crate::directory::Shared;
use crate::handles::FileId;
use crate::index::{IndexEntry, OffsetEntry, SparseIndex, TimeEntry};
use crate::names;
use crate::partition::is_no_space;
use crate::scan::{InvalidBatchBytes, Scanned, Scanner, Verify};
use crate::transactions::TransactionIndex;
use crate::verified::Verified;

/// The largest distance of an offset from its segment's base that Kafka's tools accept.
pub(crate) const MAX_RELATIVE_OFFSET: i64 = i32::MAX as i64;

pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    /// The partition's. It changes with `place` locked, when the partition is moved.
    directory: RwLock<Arc<Path>>,
    shared: Arc<Shared>,
    log_id: FileId,
    offset_index_id: FileId,
    time_index_id: FileId,
    /// Under which names its files are. Held while one is opened by its name.
    place: RwLock<Place>,
    pub(crate) transactions: TransactionIndex,
    pub(crate) cleaned_headers: CleanedHeaders,
    size: AtomicU64,
    /// Has bytes, or a length, that no sync covers yet.
    pub(crate) dirty: AtomicBool,
    /// Its name in the partition's directory is durable.
    pub(crate) name_durable: AtomicBool,
    pinned: Mutex<Option<Arc<dyn DiskFile>>>,
    state: Mutex<SegmentState>,
    /// Absent until a reader needs the file.
    verified: Mutex<Option<Box<Verified>>>,
    /// When all of it was verified, or it was begun; `i64::MIN` when that is not known.
    verified_ms: AtomicI64,
}

pub(crate) struct SegmentState {
    offsets: SparseIndex<OffsetEntry>,
    times: SparseIndex<TimeEntry>,
    /// Whether the index files were looked at.
    loaded: bool,
    /// Where making the indexes anew met damage in the log first. It is not tried again.
    damage: Option<(u64, InvalidBatchBytes)>,
    /// The indexes were made in spite of that damage: they may end before it, and say nothing certain of times.
    in_doubt: bool,
    pub(crate) max_timestamp: i64,
    /// The last offset of the first batch with that timestamp.
    pub(crate) offset_of_max_timestamp: i64,
    first_batch_timestamp: Option<i64>,
    bytes_since_entry: u64,
    /// Where the last batch taken in ends: it may not be published yet.
    noted_end: u64,
    created_ms: i64,
    roll_jitter_ms: i64,
}

/// The names of a segment's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Their own.
    Log,
    /// Being written by the cleaner (`.cleaned`).
    Cleaned,
    /// Complete, about to take the place of others (`.swap`).
    Swap,
    /// None any more: a file of one of these names is another segment's.
    Gone,
}

impl Place {
    fn suffix(self) -> &'static str {
        match self {
            Place::Log | Place::Gone => "",
            Place::Cleaned => names::CLEANED_SUFFIX,
            Place::Swap => names::SWAP_SUFFIX,
        }
    }
}

/// The files of a segment. The log is renamed last: as long as it has its old name the others may have either.
const SUFFIXES: [&str; 6] = [
    names::OFFSET_INDEX_SUFFIX,
    names::TIME_INDEX_SUFFIX,
    names::TRANSACTION_INDEX_SUFFIX,
    names::TRANSACTION_SUM_SUFFIX,
    names::HEADER_SUM_SUFFIX,
    names::LOG_SUFFIX,
];

/// Where a batch stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
    /// Where the offsets before it end.
    pub(crate) previous_end: i64,
}

/// What a search from an index entry gave.
enum Search {
    Found(Located),
    NotThere,
    /// The entry does not point at the batch it names.
    Misled {
        position: u64,
        reason: InvalidBatchBytes,
    },
}

/// A segment cannot be searched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("damaged at byte {position}: {reason}")]
    Damaged { position: u64, reason: InvalidBatchBytes },
}

/// What decides about a roll.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RollLimits {
    pub(crate) segment_bytes: u64,
    pub(crate) segment_ms: i64,
    pub(crate) index_bytes: usize,
}

impl Segment {
    /// A segment whose files exist; `size` bytes of its log are good.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        directory: &Arc<Path>,
        base_offset: i64,
        size: u64,
        roll_jitter_ms: i64,
    ) -> Segment {
        Segment {
            base_offset,
            directory: RwLock::new(Arc::clone(directory)),
            shared: Arc::clone(shared),
            log_id: shared.handles.new_id(),
            offset_index_id: shared.handles.new_id(),
            time_index_id: shared.handles.new_id(),
            place: RwLock::new(Place::Log),
            transactions: TransactionIndex::new(shared.handles.new_id()),
            cleaned_headers: CleanedHeaders::default(),
            size: AtomicU64::new(size),
            dirty: AtomicBool::new(false),
            name_durable: AtomicBool::new(true),
            pinned: Mutex::new(None),
            state: Mutex::new(SegmentState::new(base_offset, shared.world.clock.wall_ms(), roll_jitter_ms)),
            verified: Mutex::new(None),
            verified_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// Makes the file of a new, empty segment. Its name is not durable yet.
    pub(crate) fn create(
        shared: &Arc<Shared>,
        directory: &Arc<Path>,
        base_offset: i64,
        roll_jitter_ms: i64,
    ) -> io::Result<Segment> {
        Segment::create_at(shared, directory, base_offset, roll_jitter_ms, Place::Log)
    }

    /// The same for one the cleaner writes: its names end in `.cleaned`.
    pub(crate) fn create_cleaned(shared: &Arc<Shared>, directory: &Arc<Path>, base_offset: i64) -> io::Result<Segment> {
        Segment::create_at(shared, directory, base_offset, 0, Place::Cleaned)
    }

    fn create_at(
        shared: &Arc<Shared>,
        directory: &Arc<Path>,
        base_offset: i64,
        roll_jitter_ms: i64,
        place: Place,
    ) -> io::Result<Segment> {
        // What an earlier segment with this base left would be believed.
        let named = |suffix: &str| with_suffix(&names::offset_file(directory, base_offset, suffix), place.suffix());
        for suffix in SUFFIXES {
            if place == Place::Cleaned || suffix != names::LOG_SUFFIX {
                remove_if_there(shared, &named(suffix))?;
            }
        }
        let file = shared.world.disk.open(&named(names::LOG_SUFFIX), OpenMode::CreateNew)?;
        let segment = Segment::open(shared, directory, base_offset, 0, roll_jitter_ms);
        *segment.place.write() = place;
        segment.name_durable.store(false, Ordering::SeqCst);
        segment.state.lock().loaded = true;
        segment.note_verified(shared.world.clock.wall_ms());
        shared.handles.insert(segment.log_id, file);
        Ok(segment)
    }

    pub(crate) fn path(&self, suffix: &str) -> PathBuf {
        self.path_at(suffix, *self.place.read())
    }

    fn path_at(&self, suffix: &str, place: Place) -> PathBuf {
        let path = names::offset_file(&self.directory.read(), self.base_offset, suffix);
        // Every flush asks for its own name.
        if place.suffix().is_empty() { path } else { with_suffix(&path, place.suffix()) }
    }

    /// An open file of the segment. One whose names are gone gives only what is still open.
    pub(crate) fn open_file(&self, id: FileId, suffix: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let place = self.place.read();
        if *place == Place::Gone {
            return self.shared.handles.cached(id).ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        self.shared.handles.open(id, &self.path_at(suffix, *place), mode)
    }

    /// Tells it from every other segment, one of the same base offset too.
    pub(crate) fn id(&self) -> FileId {
        self.log_id
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    pub(crate) fn file(&self) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = &*self.pinned.lock() {
            return Ok(Arc::clone(file));
        }
        self.open_file(self.log_id, names::LOG_SUFFIX, OpenMode::ReadWrite)
    }

    /// The same, if it is open.
    pub(crate) fn file_if_open(&self) -> Option<Arc<dyn DiskFile>> {
        self.pinned.lock().clone().or_else(|| self.shared.handles.cached(self.log_id))
    }

    /// Holds the file open until [`Segment::unpin`].
    pub(crate) fn pin(&self, file: &Arc<dyn DiskFile>) {
        *self.pinned.lock() = Some(Arc::clone(file));
    }

    pub(crate) fn unpin(&self) {
        if let Some(file) = self.pinned.lock().take() {
            self.shared.handles.insert(self.log_id, file);
        }
    }

    /// What is known of the file's bytes.
    pub(crate) fn with_verified<T>(&self, work: impl FnOnce(&mut Verified) -> T) -> T {
        work(self.verified.lock().get_or_insert_default())
    }

    /// When all of it was verified, as far as is known.
    pub(crate) fn verified_ms(&self) -> Option<i64> {
        Some(self.verified_ms.load(Ordering::Relaxed)).filter(|time| *time > i64::MIN)
    }

    pub(crate) fn note_verified(&self, now_ms: i64) {
        self.verified_ms.store(now_ms, Ordering::Relaxed);
    }

    fn offset_index_file(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.open_file(self.offset_index_id, names::OFFSET_INDEX_SUFFIX, OpenMode::CreateOrOpen)
    }

    fn time_index_file(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.open_file(self.time_index_id, names::TIME_INDEX_SUFFIX, OpenMode::CreateOrOpen)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Closes the files and forgets them: the segment is gone for new readers. Whoever has a file keeps it.
    pub(crate) fn retire(&self) {
        let mut place = self.place.write();
        *place = Place::Gone;
        self.release_handles();
    }

    /// The same files are in another directory now, synced, and are opened there. Of a `closed` one the indexes are looked at
    /// again when they are needed: they may have been written meanwhile.
    pub(crate) fn relocate(&self, directory: &Arc<Path>, closed: bool) {
        let mut state = self.state.lock();
        let place = self.place.write();
        if closed {
            let (created_ms, roll_jitter_ms) = (state.created_ms, state.roll_jitter_ms);
            *state = SegmentState::new(self.base_offset, created_ms, roll_jitter_ms);
            self.verified_ms.store(i64::MIN, Ordering::Relaxed);
        }
        *self.directory.write() = Arc::clone(directory);
        self.release_handles();
        self.name_durable.store(true, Ordering::SeqCst);
        drop((state, place));
        // What another disk has was not looked at.
        *self.verified.lock() = None;
    }

    /// Whether its names are another segment's, or nobody's.
    pub(crate) fn is_gone(&self) -> bool {
        *self.place.read() == Place::Gone
    }

    fn release_handles(&self) {
        *self.pinned.lock() = None;
        self.transactions.take_unsynced();
        for id in [self.log_id, self.offset_index_id, self.time_index_id, self.transactions.file_id()] {
            self.shared.handles.remove(id);
        }
    }

    /// Whether this batch belongs into the next segment.
    pub(crate) fn should_roll(&self, limits: RollLimits, batch_bytes: u64, header: &BatchHeader, now_ms: i64) -> bool {
        let size = self.size();
        let state = self.state.lock();
        let waited_ms = match state.first_batch_timestamp {
            Some(first) if first >= 0 => header.max_timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(state.created_ms),
        };
        size + batch_bytes > limits.segment_bytes
            || (size > 0 && waited_ms > limits.segment_ms - state.roll_jitter_ms)
            || state.offsets.len() >= limits.index_bytes / OffsetEntry::SIZE
            // One slot stays free for the entry of the roll.
            || state.times.len() + 1 >= limits.index_bytes / TimeEntry::SIZE
            || header.last_offset() - self.base_offset > MAX_RELATIVE_OFFSET
    }

    /// Takes a batch, written at `position`, into the indexes.
    pub(crate) fn note_batch(&self, position: u64, header: &BatchHeader, interval_bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.note_batch(self.base_offset, position, header, interval_bytes);
        if state.offsets.wants_write() || state.times.wants_write() {
            self.write_indexes_locked(&mut state)?;
        }
        Ok(())
    }

    /// Writes what the indexes hold back. They are not synced: a crash costs a rebuild.
    pub(crate) fn write_indexes(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.offsets.has_pending() || state.times.has_pending() {
            self.write_indexes_locked(&mut state)?;
        }
        Ok(())
    }

    fn write_indexes_locked(&self, state: &mut SegmentState) -> io::Result<()> {
        state.offsets.write_pending(&*self.offset_index_file()?)?;
        state.times.write_pending(&*self.time_index_file()?)
    }

    /// Finishes the indexes: the segment is not written to from now on. Returns their files, to be synced. A segment that
    /// was never written to gets none.
    pub(crate) fn close_indexes(&self) -> io::Result<Vec<Arc<dyn DiskFile>>> {
        let mut state = self.state.lock();
        if !state.loaded {
            return Ok(Vec::new());
        }
        if state.first_batch_timestamp.is_none() && state.offsets.len() + state.times.len() == 0 {
            let disk = &self.shared.world.disk;
            let (offsets, times) = (self.path(names::OFFSET_INDEX_SUFFIX), self.path(names::TIME_INDEX_SUFFIX));
            // A stop of thousands of partitions that hold nothing is not to make thousands of files.
            if !disk.exists(&offsets)? && !disk.exists(&times)? {
                return Ok(Vec::new());
            }
        }
        state.push_time_entry(self.base_offset);
        self.write_indexes_locked(&mut state)?;
        let mut files = vec![self.offset_index_file()?, self.time_index_file()?];
        files.extend(self.write_transaction_sum()?);
        Ok(files)
    }

    /// The first batch whose last offset is `offset` or more, in the first `size` bytes.
    pub(crate) fn locate(&self, offset: i64, size: u64) -> Result<Option<Located>, SegmentError> {
        self.ensure_loaded(size)?;
        let target = offset.saturating_sub(self.base_offset);
        // From a batch before the one looked for: it tells where that one has to begin.
        let mut search = self.search(self.entry_before(target)?, size, offset)?;
        if let Search::Misled { position, reason } = search {
            if self.state.lock().damage.is_none() {
                tracing::warn!(
                    path = %self.path(names::LOG_SUFFIX).display(), position, %reason, "index does not fit its segment"
                );
            }
            search = match self.rebuild_indexes(size) {
                Ok(()) => self.search(self.entry_before(target)?, size, offset)?,
                // The batch before it is damaged: an entry of its own may lead there.
                Err(damaged @ SegmentError::Damaged { .. }) => {
                    match self.search(self.entry_before(target.saturating_add(1))?, size, offset) {
                        Ok(found @ Search::Found(_)) => found,
                        _ => return Err(damaged),
                    }
                }
                Err(error) => return Err(error),
            };
        }
        match search {
            Search::Found(located) => Ok(Some(located)),
            Search::NotThere => Ok(None),
            Search::Misled { position, reason } => Err(SegmentError::Damaged { position, reason }),
        }
    }

    /// The same of a reader that begins with the segment, or goes on where one has stopped lately: `None` when a search has
    /// to tell. `reader` is how the file is read.
    pub(crate) fn locate_marked(
        &self,
        file: &Arc<dyn DiskFile>,
        reader: &dyn DiskFile,
        offset: i64,
        size: u64,
    ) -> io::Result<Option<Located>> {
        let marked = if offset == self.base_offset {
            Some(0)
        } else {
            self.with_verified(|verified| verified.position_of(file, offset))
        };
        let Some(marked) = marked.filter(|position| *position < size) else { return Ok(None) };
        Ok(match Scanner::for_header(reader, marked, size).next(Verify::Headers)? {
            Scanned::Batch { position, header } if header.base_offset == offset => {
                Some(Located { position, header, previous_end: offset })
            }
            Scanned::Batch { .. } | Scanned::End | Scanned::Invalid { .. } => None,
        })
    }

    /// The offset after the last batch.
    pub(crate) fn end_offset(&self, size: u64) -> Result<i64, SegmentError> {
        self.ensure_loaded(size)?;
        match self.scan_to_end(self.position_before(i64::MAX)?, size) {
            Err(SegmentError::Damaged { .. }) => {
                self.rebuild_indexes(size)?;
                self.scan_to_end(self.position_before(i64::MAX)?, size)
            }
            other => other,
        }
    }

    fn scan_to_end(&self, start: u64, size: u64) -> Result<i64, SegmentError> {
        let file = self.file()?;
        let mut scanner = Scanner::new(&*file, start, size);
        let mut end_offset = self.base_offset;
        loop {
            match scanner.next(Verify::Headers)? {
                Scanned::Batch { header, .. } => end_offset = header.next_offset(),
                Scanned::End => return Ok(end_offset),
                Scanned::Invalid { position, reason } => return Err(SegmentError::Damaged { position, reason }),
            }
        }
    }

    /// The last index entry of an offset below `base_offset + target`.
    fn entry_before(&self, target: i64) -> io::Result<Option<OffsetEntry>> {
        if target <= 0 {
            return Ok(None);
        }
        let state = self.state.lock();
        state.offsets.floor(&mut || self.offset_index_file(), |entry| i64::from(entry.relative_offset) < target)
    }

    /// Looks for the first batch whose last offset is `offset` or more. A batch that overlaps the one before it is passed
    /// over only if the one that is found follows on what was before.
    fn search(&self, from: Option<OffsetEntry>, size: u64, offset: i64) -> Result<Search, SegmentError> {
        let file = self.file()?;
        let start = from.map_or(0, |entry| u64::from(entry.position));
        let mut scanner = Scanner::for_lookup(&*file, start, size);
        let mut promised = from.map(|entry| entry.offset(self.base_offset));
        let misled = |position, base_offset, last_offset, promised: i64| {
            let reason = InvalidBatchBytes::OutOfPlace {
                base_offset,
                last_offset,
                least: promised,
                bound: promised.saturating_add(1),
            };
            Ok(Search::Misled { position, reason })
        };
        let mut previous_end = self.base_offset;
        let mut previous = None;
        let mut overlap: Option<SegmentError> = None;
        loop {
            let (position, header) = match scanner.next(Verify::Headers)? {
                Scanned::Batch { position, header } => (position, header),
                Scanned::End => {
                    return match (promised, overlap) {
                        (Some(promised), _) => misled(scanner.position(), promised, promised, promised),
                        (None, Some(overlap)) => Err(overlap),
                        (None, None) => self.check_passed(&file, start, previous, size).map(|()| Search::NotThere),
                    };
                }
                Scanned::Invalid { position, reason } if promised.is_some() => {
                    return Ok(Search::Misled { position, reason });
                }
                Scanned::Invalid { position, reason } => return Err(SegmentError::Damaged { position, reason }),
            };
            if let Some(promised) = promised.take()
                && header.last_offset() != promised
            {
                return misled(position, header.base_offset, header.last_offset(), promised);
            }
            if header.base_offset < previous_end && overlap.is_none() {
                overlap =
                    Some(SegmentError::Damaged { position, reason: out_of_place(&header, previous_end, i64::MAX) });
            }
            if header.last_offset() >= offset {
                if header.base_offset != previous_end
                    && let Some(overlap) = overlap
                {
                    return Err(overlap);
                }
                if header.base_offset > offset {
                    self.check_passed(&file, start, previous, position)?;
                }
                return Ok(Search::Found(Located { position, header, previous_end }));
            }
            previous_end = previous_end.max(header.next_offset());
            previous = Some(position);
        }
    }

    /// Nothing from `start` to `end` has the offset looked for: a batch there may be damaged so that it seems not to. The
    /// last one may seem to end earlier; where there are holes, any.
    fn check_passed(
        &self,
        file: &Arc<dyn DiskFile>,
        start: u64,
        last: Option<u64>,
        end: u64,
    ) -> Result<(), SegmentError> {
        self.check_written_headers(file, start, end)?;
        let Some(position) = last else { return Ok(()) };
        match Scanner::for_lookup(&**file, position, end).next(Verify::Checksums)? {
            Scanned::Invalid { position, reason } => Err(SegmentError::Damaged { position, reason }),
            Scanned::Batch { .. } | Scanned::End => Ok(()),
        }
    }

    /// A position at or before the batch with `offset`, as near as the index knows.
    pub(crate) fn position_before(&self, offset: i64) -> io::Result<u64> {
        let target = offset.saturating_sub(self.base_offset);
        if target <= 0 {
            return Ok(0);
        }
        let state = self.state.lock();
        let entry = state
            .offsets
            .floor(&mut || self.offset_index_file(), |entry| i64::from(entry.relative_offset) <= target)?;
        Ok(entry.map_or(0, |entry| u64::from(entry.position)))
    }

    /// An offset before which no record is `timestamp` or younger, as near as the index knows.
    pub(crate) fn offset_before_timestamp(&self, timestamp: i64, size: u64) -> Result<i64, SegmentError> {
        self.check_whole(size)?;
        let Some(mut entry) = self.time_entry_before(timestamp)? else { return Ok(self.base_offset) };
        if !self.is_time_of(entry, size)? {
            tracing::warn!(path = %self.path(names::TIME_INDEX_SUFFIX).display(), "index does not fit its segment");
            self.rebuild_indexes(size)?;
            match self.time_entry_before(timestamp)? {
                Some(rebuilt) => entry = rebuilt,
                None => return Ok(self.base_offset),
            }
        }
        Ok(entry.offset(self.base_offset))
    }

    fn time_entry_before(&self, timestamp: i64) -> io::Result<Option<TimeEntry>> {
        let state = self.state.lock();
        state.times.floor(&mut || self.time_index_file(), |entry| entry.timestamp < timestamp)
    }

    /// Whether the batch a time entry names has that time.
    fn is_time_of(&self, entry: TimeEntry, size: u64) -> Result<bool, SegmentError> {
        let last_offset = entry.offset(self.base_offset);
        Ok(self.locate(last_offset, size)?.is_some_and(|located| {
            located.header.last_offset() == last_offset && located.header.max_timestamp == entry.timestamp
        }))
    }

    /// The largest timestamp in the segment and the last offset of the first batch that has it; -1 for none.
    pub(crate) fn max_timestamp(&self) -> Result<(i64, i64), SegmentError> {
        self.check_whole(self.size())?;
        let state = self.state.lock();
        Ok((state.max_timestamp, state.offset_of_max_timestamp))
    }

    /// What retention counts a segment's age from. Of a damaged one it is not known: it counts as made when it was opened.
    pub(crate) fn youngest_timestamp(&self) -> Result<i64, SegmentError> {
        let max_timestamp = match self.max_timestamp() {
            Ok((max_timestamp, _)) => max_timestamp,
            Err(SegmentError::Damaged { .. }) => -1,
            Err(error) => return Err(error),
        };
        Ok(if max_timestamp >= 0 { max_timestamp } else { self.state.lock().created_ms })
    }

    /// The time of the first batch, if there is one.
    pub(crate) fn first_batch_timestamp(&self) -> Result<Option<i64>, SegmentError> {
        if let Some(first) = self.state.lock().first_batch_timestamp {
            return Ok(Some(first));
        }
        let file = self.file()?;
        match Scanner::for_lookup(&*file, 0, self.size()).next(Verify::Headers)? {
            Scanned::Batch { header, .. } => {
                self.state.lock().first_batch_timestamp = Some(header.max_timestamp);
                Ok(Some(header.max_timestamp))
            }
            Scanned::End => Ok(None),
            Scanned::Invalid { position, reason } => Err(SegmentError::Damaged { position, reason }),
        }
    }

    /// Bytes of the offset index and of the time index.
    pub(crate) fn index_bytes(&self) -> Result<(u64, u64), SegmentError> {
        self.ensure_loaded(self.size())?;
        let state = self.state.lock();
        let (offsets, times) = (state.offsets.len() * OffsetEntry::SIZE, state.times.len() * TimeEntry::SIZE);
        Ok((offsets as u64, times as u64))
    }

    /// Looks at the index files of a closed segment when they are first needed; rebuilds them when they do not fit. Damage
    /// in the log leaves the entries before it: whoever looks further meets it.
    fn ensure_loaded(&self, size: u64) -> Result<(), SegmentError> {
        {
            let mut state = self.state.lock();
            if state.loaded || self.load_indexes(&mut state, size)? {
                return Ok(());
            }
        }
        match self.rebuild_indexes(size) {
            Err(SegmentError::Damaged { .. }) => Ok(()),
            result => result,
        }
    }

    /// The same for what needs all of the segment.
    fn check_whole(&self, size: u64) -> Result<(), SegmentError> {
        self.ensure_loaded(size)?;
        let state = self.state.lock();
        match state.damage {
            Some((position, reason)) if state.in_doubt => Err(SegmentError::Damaged { position, reason }),
            _ => Ok(()),
        }
    }

    fn load_indexes(&self, state: &mut SegmentState, size: u64) -> Result<bool, SegmentError> {
        let Some((offsets, times)) = self.read_index_files()? else { return Ok(false) };
        // A closed segment has at least the time entry of its roll.
        let Some(last_time) = times.last() else { return Ok(size == 0) };
        let within = |relative_offset| i64::from(relative_offset) <= MAX_RELATIVE_OFFSET;
        if !offsets.is_consistent(&*self.offset_index_file()?, |entry: &OffsetEntry| {
            within(entry.relative_offset) && u64::from(entry.position) < size
        })? || !times.is_consistent(&*self.time_index_file()?, |entry: &TimeEntry| within(entry.relative_offset))?
        {
            return Ok(false);
        }
        // Both ends are looked up in the log: an index of another segment rises too.
        let from = offsets
            .floor(&mut || self.offset_index_file(), |entry| entry.relative_offset <= last_time.relative_offset)?;
        let last_time_offset = last_time.offset(self.base_offset);
        let last_time_fits = self.is_latest_time(from, last_time, size)?;
        let last_offset_fits = match offsets.last() {
            Some(last) => self.is_batch_of(u64::from(last.position), size, last.offset(self.base_offset))?,
            None => true,
        };
        if !last_time_fits || !last_offset_fits {
            return Ok(false);
        }
        state.max_timestamp = last_time.timestamp;
        state.offset_of_max_timestamp = last_time_offset;
        state.offsets = offsets;
        state.times = times;
        state.loaded = true;
        Ok(true)
    }

    /// The batch a time entry names, if it has that time; looked for from an offset entry at or before it.
    fn batch_of_time(&self, from: Option<OffsetEntry>, time: TimeEntry, size: u64) -> io::Result<Option<Located>> {
        let last_offset = time.offset(self.base_offset);
        match self.search(from, size, last_offset) {
            Ok(Search::Found(found)) => {
                let fits = found.header.last_offset() == last_offset && found.header.max_timestamp == time.timestamp;
                Ok(fits.then_some(found))
            }
            Ok(Search::NotThere | Search::Misled { .. }) | Err(SegmentError::Damaged { .. }) => Ok(None),
            Err(SegmentError::Io(error)) => Err(error),
        }
    }

    /// Whether a time entry is the last one of the segment: its batch has that time, and none behind it a later one. An
    /// index that has lost its end rises, too.
    fn is_latest_time(&self, from: Option<OffsetEntry>, time: TimeEntry, size: u64) -> io::Result<bool> {
        let Some(found) = self.batch_of_time(from, time, size)? else { return Ok(false) };
        let file = self.file()?;
        let behind = found.position + found.header.size_in_bytes() as u64;
        let mut scanner = Scanner::for_lookup(&*file, behind, size);
        loop {
            match scanner.next(Verify::Headers)? {
                Scanned::Batch { header, .. } if header.max_timestamp > time.timestamp && header.record_count > 0 => {
                    return Ok(false);
                }
                Scanned::Batch { .. } => {}
                // Damage is told to those who read it.
                Scanned::End | Scanned::Invalid { .. } => return Ok(true),
            }
        }
    }

    /// Whether the batch at `position` ends with this offset.
    fn is_batch_of(&self, position: u64, size: u64, last_offset: i64) -> io::Result<bool> {
        let file = self.file()?;
        let scanned = Scanner::for_lookup(&*file, position, size).next(Verify::Headers)?;
        Ok(matches!(scanned, Scanned::Batch { header, .. } if header.last_offset() == last_offset))
    }

    fn read_index_files(&self) -> io::Result<Option<(SparseIndex<OffsetEntry>, SparseIndex<TimeEntry>)>> {
        let offsets = SparseIndex::load(self.base_offset, &*self.offset_index_file()?)?;
        let times = SparseIndex::load(self.base_offset, &*self.time_index_file()?)?;
        Ok(offsets.zip(times))
    }

    /// Makes both indexes anew from the log. Readers wait for it. Batches with a wrong checksum can still be found; where
    /// the log cannot be followed any further the indexes end, or stay as they were, if they could be read.
    pub(crate) fn rebuild_indexes(&self, size: u64) -> Result<(), SegmentError> {
        let mut state = self.state.lock();
        if let Some((position, reason)) = state.damage {
            return Err(SegmentError::Damaged { position, reason });
        }
        let mut rebuilt = SegmentState::new(self.base_offset, state.created_ms, state.roll_jitter_ms);
        rebuilt.loaded = true;
        let stopped = self.scan_into(&mut rebuilt, size.max(state.noted_end))?;
        rebuilt.push_time_entry(self.base_offset);
        rebuilt.in_doubt = rebuilt.damage.is_some();
        state.damage = rebuilt.damage;
        if stopped.is_none() || !state.loaded {
            *state = rebuilt;
        }
        if state.damage.is_none() {
            self.write_indexes_locked(&mut state)?;
        }
        match stopped {
            Some((position, reason)) => Err(SegmentError::Damaged { position, reason }),
            None => Ok(()),
        }
    }

    /// Takes every batch into these indexes. Returns where no more can be found, unless that is the end.
    fn scan_into(&self, state: &mut SegmentState, end: u64) -> io::Result<Option<(u64, InvalidBatchBytes)>> {
        let file = self.file()?;
        let mut scanner = Scanner::new(&*file, 0, end);
        let mut verify = Verify::Checksums;
        let mut next_offset = self.base_offset;
        loop {
            let damage = match scanner.next(verify)? {
                Scanned::Batch { position, header } => match self.check_place(&header, next_offset) {
                    Ok(()) => {
                        state.note_batch(self.base_offset, position, &header, REBUILD_INTERVAL_BYTES);
                        next_offset = header.next_offset();
                        verify = Verify::Checksums;
                        continue;
                    }
                    Err(reason) => (position, reason),
                },
                Scanned::End => return Ok(None),
                Scanned::Invalid {
                    position,
                    reason: reason @ InvalidBatchBytes::Batch(BatchError::CrcMismatch { .. }),
                } => {
                    state.damage.get_or_insert((position, reason));
                    verify = Verify::Headers;
                    continue;
                }
                Scanned::Invalid { position, reason } => (position, reason),
            };
            state.damage.get_or_insert(damage);
            return Ok(Some(damage));
        }
    }

    /// Whether a batch can follow on this offset here.
    fn check_place(&self, header: &BatchHeader, least: i64) -> Result<(), InvalidBatchBytes> {
        let bound = self.base_offset.saturating_add(MAX_RELATIVE_OFFSET + 1);
        if header.base_offset < least || header.last_offset() >= bound {
            return Err(out_of_place(header, least, bound));
        }
        Ok(())
    }

    fn reset_indexes(&self, state: &mut SegmentState) -> io::Result<()> {
        let (created_ms, roll_jitter_ms) = (state.created_ms, state.roll_jitter_ms);
        *state = SegmentState::new(self.base_offset, created_ms, roll_jitter_ms);
        state.loaded = true;
        self.write_indexes_locked(state)
    }

    /// Recovery: nothing is in it, so nothing is in its indexes. Whatever their files hold is cut with the first write, and
    /// nobody looks at them before.
    pub(crate) fn begin_empty(&self) {
        let mut state = self.state.lock();
        *state = SegmentState::new(self.base_offset, state.created_ms, state.roll_jitter_ms);
        state.loaded = true;
    }

    /// Recovery: keeps the index entries of batches that end at or below `below` and stand in the first `len` bytes, if
    /// they can be trusted. Returns where a scan has to begin: the batch the last kept entry points at.
    pub(crate) fn recover_indexes(&self, below: i64, len: u64) -> io::Result<u64> {
        let mut state = self.state.lock();
        let start = match self.read_index_files()? {
            Some((offsets, times)) => self.keep_index_prefix(&mut state, offsets, times, below, len)?,
            None => None,
        };
        if let Some(start) = start {
            state.loaded = true;
            return Ok(start);
        }
        self.reset_indexes(&mut state)?;
        Ok(0)
    }

    fn keep_index_prefix(
        &self,
        state: &mut SegmentState,
        mut offsets: SparseIndex<OffsetEntry>,
        mut times: SparseIndex<TimeEntry>,
        below: i64,
        len: u64,
    ) -> io::Result<Option<u64>> {
        let (offset_file, time_file) = (self.offset_index_file()?, self.time_index_file()?);
        let base_offset = self.base_offset;
        offsets
            .truncate(&*offset_file, |entry| entry.offset(base_offset) < below && u64::from(entry.position) < len)?;
        times.truncate(&*time_file, |entry| entry.offset(base_offset) < below)?;
        // The time index may have lost more of its end than the offset index: the scan begins where both reach.
        let Some(last_time) = times.last() else { return Ok(None) };
        offsets.truncate(&*offset_file, |entry| entry.relative_offset <= last_time.relative_offset)?;
        let Some(last) = offsets.last() else { return Ok(None) };
        // The scan sees the timestamp of that entry's batch again.
        times.truncate(&*time_file, |entry| entry.relative_offset < last.relative_offset)?;
        if !offsets.is_consistent(&*offset_file, |entry| i64::from(entry.relative_offset) <= MAX_RELATIVE_OFFSET)?
            || !times.is_consistent(&*time_file, |entry| i64::from(entry.relative_offset) <= MAX_RELATIVE_OFFSET)?
        {
            return Ok(None);
        }
        let file = self.file()?;
        match Scanner::new(&*file, u64::from(last.position), len).next(Verify::Checksums)? {
            Scanned::Batch { header, .. } if header.last_offset() == last.offset(base_offset) => {}
            _ => return Ok(None),
        }
        // The scan adds this entry's batch again, so the entry goes too, and with it only its own.
        offsets.truncate(&*offset_file, |entry| entry.relative_offset < last.relative_offset)?;
        if let Some(time) = times.last() {
            let from = offsets
                .floor(&mut || Ok(Arc::clone(&offset_file)), |entry| entry.relative_offset <= time.relative_offset)?;
            if self.batch_of_time(from, time, len)?.is_none() {
                return Ok(None);
            }
            state.max_timestamp = time.timestamp;
            state.offset_of_max_timestamp = time.offset(base_offset);
        }
        state.first_batch_timestamp = match Scanner::for_lookup(&*file, 0, len).next(Verify::Headers)? {
            Scanned::Batch { header, .. } => Some(header.max_timestamp),
            Scanned::End | Scanned::Invalid { .. } => return Ok(None),
        };
        state.offsets = offsets;
        state.times = times;
        Ok(Some(u64::from(last.position)))
    }

    /// Cuts the log file at `position`, which begins the batch with `offset`, and the indexes with it.
    pub(crate) fn truncate(&self, position: u64, offset: i64, interval_bytes: u64) -> Result<(), SegmentError> {
        let file = self.file()?;
        self.forget_header_sum()?;
        self.set_size(position);
        self.with_verified(|verified| verified.truncate(position));
        file.set_len(position)?;
        self.truncate_transactions(offset)?;
        self.state.lock().noted_end = 0;
        let start = self.recover_indexes(offset, position)?;
        let mut scanner = Scanner::new(&*file, start, position);
        let mut next_offset = self.base_offset;
        loop {
            match scanner.next(Verify::Headers)? {
                Scanned::Batch { position, header } => {
                    self.check_place(&header, next_offset)
                        .map_err(|reason| SegmentError::Damaged { position, reason })?;
                    self.note_batch(position, &header, interval_bytes)?;
                    next_offset = header.next_offset();
                }
                Scanned::End => return Ok(()),
                Scanned::Invalid { position, reason } => return Err(SegmentError::Damaged { position, reason }),
            }
        }
    }

    /// Renames the segment's files for deletion; missing ones are passed over, and what there is no room for under another
    /// name is removed at once.
    pub(crate) fn mark_deleted(&self) -> io::Result<Vec<PathBuf>> {
        let mut place = self.place.write();
        let before = std::mem::replace(&mut *place, Place::Gone);
        self.release_handles();
        let mut renamed = Vec::new();
        // The log goes first: without it the other files say nothing.
        for suffix in SUFFIXES.into_iter().rev().chain([names::SNAPSHOT_SUFFIX]) {
            let path = self.path_at(suffix, before);
            let deleted = with_suffix(&path, names::DELETED_SUFFIX);
            match rename_if_there(&self.shared, &path, &deleted) {
                Ok(true) => renamed.push(deleted),
                Ok(false) => {}
                Err(error) if is_no_space(&error) => remove_if_there(&self.shared, &path)?,
                Err(error) => return Err(error),
            }
        }
        Ok(renamed)
    }

    /// Gives the segment's files other names, the log last. Missing ones are passed over, but for the log. Who is about to
    /// open one waits; open ones stay.
    pub(crate) fn rename_to(&self, to: Place) -> io::Result<()> {
        let mut place = self.place.write();
        for suffix in SUFFIXES {
            let (before, after) = (self.path_at(suffix, *place), self.path_at(suffix, to));
            let renamed = rename_if_there(&self.shared, &before, &after)?;
            if !renamed && suffix == names::LOG_SUFFIX {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
        *place = to;
        Ok(())
    }

    /// Removes a segment of the cleaner's that is not wanted, whatever names its files have by now, the log first.
    pub(crate) fn discard(&self) -> io::Result<()> {
        let mut place = self.place.write();
        *place = Place::Gone;
        self.release_handles();
        for suffix in SUFFIXES.into_iter().rev() {
            for name in [Place::Cleaned, Place::Swap] {
                remove_if_there(&self.shared, &self.path_at(suffix, name))?;
            }
        }
        Ok(())
    }

    /// Removes the segment's files at once, and under their own names: another name may need room, and a full disk is a
    /// reason to be here.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut place = self.place.write();
        let before = std::mem::replace(&mut *place, Place::Gone);
        self.release_handles();
        for suffix in SUFFIXES.into_iter().rev().chain([names::SNAPSHOT_SUFFIX]) {
            remove_if_there(&self.shared, &self.path_at(suffix, before))?;
        }
        Ok(())
    }
}

/// Rebuilt indexes have Kafka's default spacing.
const REBUILD_INTERVAL_BYTES: u64 = 4096;

impl SegmentState {
    fn new(base_offset: i64, created_ms: i64, roll_jitter_ms: i64) -> SegmentState {
        SegmentState {
            offsets: SparseIndex::new(base_offset),
            times: SparseIndex::new(base_offset),
            loaded: false,
            damage: None,
            in_doubt: false,
            max_timestamp: -1,
            offset_of_max_timestamp: base_offset,
            first_batch_timestamp: None,
            bytes_since_entry: 0,
            noted_end: 0,
            created_ms,
            roll_jitter_ms,
        }
    }

    fn note_batch(&mut self, base_offset: i64, position: u64, header: &BatchHeader, interval_bytes: u64) {
        if position == 0 {
            self.first_batch_timestamp = Some(header.max_timestamp);
        }
        // A batch the cleaner has emptied keeps its time, but has no record of it.
        if header.max_timestamp > self.max_timestamp && header.record_count > 0 {
            self.max_timestamp = header.max_timestamp;
            self.offset_of_max_timestamp = header.last_offset();
        }
        if self.bytes_since_entry > interval_bytes {
            let relative_offset = relative(base_offset, header.last_offset());
            let position = u32::try_from(position).expect("invariant: a segment is below 2 GiB");
            self.offsets.push(OffsetEntry { relative_offset, position });
            self.push_time_entry(base_offset);
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += header.size_in_bytes() as u64;
        self.noted_end = position + header.size_in_bytes() as u64;
    }

    fn push_time_entry(&mut self, base_offset: i64) {
        let timestamp = self.max_timestamp;
        if timestamp > self.times.last().map_or(-1, |last| last.timestamp) {
            let relative_offset = relative(base_offset, self.offset_of_max_timestamp);
            self.times.push(TimeEntry { timestamp, relative_offset });
        }
    }
}

pub(crate) fn out_of_place(header: &BatchHeader, least: i64, bound: i64) -> InvalidBatchBytes {
    let (base_offset, last_offset) = (header.base_offset, header.last_offset());
    InvalidBatchBytes::OutOfPlace { base_offset, last_offset, least, bound }
}

fn relative(base_offset: i64, offset: i64) -> u32 {
    let relative = offset - base_offset;
    assert!((0..=MAX_RELATIVE_OFFSET).contains(&relative), "invariant: an offset is within its segment");
    relative as u32
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether there was something to rename.
fn rename_if_there(shared: &Shared, from: &Path, to: &Path) -> io::Result<bool> {
    match shared.world.disk.rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn remove_if_there(shared: &Shared, path: &Path) -> io::Result<()> {
    match shared.world.disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
