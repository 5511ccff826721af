//! The indexes of a segment, checked against its batches as these are walked.
//!
//! An index that is wrong costs a rebuild, never a record; still it says that bytes have changed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_record::BatchHeader;
use ottla_rt::{Disk, DiskFile, OpenMode};

use super::finding::{Issue, Sink, Weight};
use crate::index::{IndexEntry, OffsetEntry, TimeEntry};
use crate::segment::MAX_RELATIVE_OFFSET;

const BLOCK_ENTRIES: u64 = 4096;

/// Reads the entries of an index file, one after the other.
struct Entries<E> {
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    base_offset: i64,
    /// Whole entries in the file.
    count: u64,
    next: u64,
    block: Vec<u8>,
    block_start: u64,
    previous: Option<E>,
    /// The entry that is compared next, and its place in the file.
    current: Option<(u64, E)>,
    ended: bool,
}

impl<E: IndexEntry> Entries<E> {
    fn open(disk: &dyn Disk, path: PathBuf, base_offset: i64, sink: &mut Sink<'_>) -> Entries<E> {
        let mut entries = Entries {
            path,
            file: None,
            base_offset,
            count: 0,
            next: 0,
            block: Vec::new(),
            block_start: 0,
            previous: None,
            current: None,
            ended: false,
        };
        match disk.open(&entries.path, OpenMode::Read).and_then(|file| Ok((file.len()?, file))) {
            Ok((length, file)) => {
                let entry = E::SIZE as u64;
                if length % entry != 0 {
                    sink.problem(
                        &entries.path,
                        Some(length - length % entry),
                        None,
                        Issue::IndexLength { entry, length },
                    );
                }
                entries.count = length / entry;
                entries.file = Some(file);
            }
            // Indexes are made when they are missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => sink.problem(&entries.path, None, None, Issue::Unreadable(error)),
        }
        entries.advance(sink);
        entries
    }

    /// The entry to compare, and its position in the file.
    fn current(&self) -> Option<(u64, E)> {
        self.current
    }

    fn advance(&mut self, sink: &mut Sink<'_>) {
        self.current = None;
        while self.next < self.count {
            let entry = match self.read(self.next) {
                Ok(entry) => entry,
                Err(error) => {
                    sink.problem(&self.path, None, None, Issue::Unreadable(error));
                    self.next = self.count;
                    return;
                }
            };
            let position = self.next * E::SIZE as u64;
            self.next += 1;
            // Behind its entries a preallocated file holds zeros.
            if entry.is_vacant() {
                self.ended = true;
                continue;
            }
            let offset = Some(entry.offset(self.base_offset));
            if self.ended {
                sink.problem(&self.path, Some(position), offset, Issue::IndexBehindEnd);
                self.next = self.count;
                return;
            }
            let follows = self.previous.is_none_or(|previous| {
                entry.key() > previous.key() && entry.offset(self.base_offset) >= previous.offset(self.base_offset)
            });
            if !follows || entry.offset(0) > MAX_RELATIVE_OFFSET {
                sink.problem(&self.path, Some(position), offset, Issue::IndexOrder);
                continue;
            }
            sink.summary.index_entries += 1;
            self.previous = Some(entry);
            self.current = Some((position, entry));
            return;
        }
    }

    fn read(&mut self, index: u64) -> io::Result<E> {
        let size = E::SIZE as u64;
        if index < self.block_start || (index - self.block_start) * size >= self.block.len() as u64 {
            let count = (self.count - index).min(BLOCK_ENTRIES);
            self.block.resize((count * size) as usize, 0);
            self.block_start = index;
            let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
            file.read_exact_at(&mut self.block, index * size)?;
        }
        let start = ((index - self.block_start) * size) as usize;
        Ok(E::decode(&self.block[start..start + E::SIZE]))
    }
}

/// Both indexes of one segment.
pub(super) struct IndexCheck {
    offsets: Entries<OffsetEntry>,
    times: Entries<TimeEntry>,
    max_timestamp: i64,
    /// Batches whose times are not known came before.
    times_in_doubt: bool,
}

impl IndexCheck {
    pub(super) fn open(
        disk: &dyn Disk,
        offset_index: PathBuf,
        time_index: PathBuf,
        base_offset: i64,
        sink: &mut Sink<'_>,
    ) -> IndexCheck {
        IndexCheck {
            offsets: Entries::open(disk, offset_index, base_offset, sink),
            times: Entries::open(disk, time_index, base_offset, sink),
            max_timestamp: -1,
            times_in_doubt: false,
        }
    }

    /// A good batch begins here.
    pub(super) fn batch(&mut self, position: u64, header: &BatchHeader, sink: &mut Sink<'_>) {
        self.target(position, Some(header), sink);
        while let Some((place, entry)) = self.times.current() {
            let offset = entry.offset(self.times.base_offset);
            if header.last_offset() < offset {
                break;
            }
            self.compare_time(place, entry, offset, header, sink);
            self.times.advance(sink);
        }
        // A batch that a cleaner has emptied keeps its time, and no record has it.
        if header.record_count > 0 {
            self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        }
    }

    fn compare_time(&self, place: u64, entry: TimeEntry, offset: i64, header: &BatchHeader, sink: &mut Sink<'_>) {
        let stated = entry.timestamp;
        let (path, place, offset) = (&self.times.path, Some(place), Some(offset));
        if header.base_offset > entry.offset(self.times.base_offset) {
            if !self.times_in_doubt {
                sink.problem(path, place, offset, Issue::TimeIndexOffset);
            }
        } else if self.max_timestamp > stated || header.max_timestamp < stated {
            let found = self.max_timestamp.max(header.max_timestamp);
            sink.problem(path, place, offset, Issue::TimeIndexTime { stated, found });
        } else if header.max_timestamp > stated {
            // Brokers before 4.0 named the record, within its batch.
            let last = Some(header.last_offset()) == offset;
            let weight = if last { Weight::Problem } else { Weight::Note };
            sink.found(weight, path, place, offset, Issue::TimeIndexTime { stated, found: header.max_timestamp });
        }
    }

    /// A batch begins here whose header cannot be believed.
    pub(super) fn damaged_batch(&mut self, position: u64, sink: &mut Sink<'_>) {
        self.target(position, None, sink);
        self.times_in_doubt = true;
    }

    /// What is before this position is damaged: entries that point there say nothing.
    pub(super) fn skip_to(&mut self, position: u64, sink: &mut Sink<'_>) {
        while self.offsets.current().is_some_and(|(_, entry)| u64::from(entry.position) < position) {
            self.offsets.advance(sink);
        }
        self.times_in_doubt = true;
    }

    fn target(&mut self, position: u64, header: Option<&BatchHeader>, sink: &mut Sink<'_>) {
        while let Some((place, entry)) = self.offsets.current() {
            let target = u64::from(entry.position);
            let offset = entry.offset(self.offsets.base_offset);
            if target > position {
                return;
            }
            if target < position {
                sink.problem(&self.offsets.path, Some(place), Some(offset), Issue::IndexTarget { target });
            } else if let Some(header) = header
                && header.last_offset() != offset
            {
                // Brokers before 4.0 named the last batch of an append, and pointed at the first. Look-ups work with it.
                let weight = if offset > header.last_offset() { Weight::Note } else { Weight::Problem };
                let issue = Issue::IndexOffset { target, found: header.last_offset() };
                sink.found(weight, &self.offsets.path, Some(place), Some(offset), issue);
            }
            self.offsets.advance(sink);
        }
    }

    /// The segment ends here; `whole` unless it ends in damage.
    pub(super) fn finish(mut self, whole: bool, sink: &mut Sink<'_>) {
        while let Some((place, entry)) = self.offsets.current() {
            if whole {
                let offset = entry.offset(self.offsets.base_offset);
                let issue = Issue::IndexTarget { target: u64::from(entry.position) };
                sink.problem(&self.offsets.path, Some(place), Some(offset), issue);
            }
            self.offsets.advance(sink);
        }
        while let Some((place, entry)) = self.times.current() {
            if whole && !self.times_in_doubt {
                let offset = entry.offset(self.times.base_offset);
                sink.problem(&self.times.path, Some(place), Some(offset), Issue::TimeIndexOffset);
            }
            self.times.advance(sink);
        }
    }
}
