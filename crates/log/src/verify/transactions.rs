//! The transaction index of a segment, checked by itself, by its sum, and against the markers its entries name.
//!
//! That an entry is missing cannot be told without the producers of the whole log before it, unless there is a sum.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_record::{BatchHeader, ControlType, EndTransactionMarker};
use ottla_rt::{Disk, DiskFile, OpenMode};

use super::finding::{Issue, Sink, Weight};
use crate::names;
use crate::transactions::{
    AbortedTransaction, ENTRY_SIZE, EntriesSum, EntryCheck, InvalidTransactionIndex, MAX_SUM_FILE_BYTES, entries,
};

/// So many entries are read at once.
const BLOCK_ENTRIES: u64 = 512;

pub(super) struct TransactionCheck {
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    /// Entries that can be right.
    count: u64,
    next: u64,
    block: Vec<AbortedTransaction>,
    /// Not every batch was seen.
    in_doubt: bool,
}

impl TransactionCheck {
    /// Looks at the index by itself. The end of one that is `unfinished` may be missing: a start makes it anew.
    pub(super) fn open(
        disk: &dyn Disk,
        directory: &Path,
        base_offset: i64,
        unfinished: bool,
        sink: &mut Sink<'_>,
    ) -> TransactionCheck {
        let path = names::offset_file(directory, base_offset, names::TRANSACTION_INDEX_SUFFIX);
        let mut check = TransactionCheck { path, file: None, count: 0, next: 0, block: Vec::new(), in_doubt: false };
        match disk.open(&check.path, OpenMode::Read).and_then(|file| Ok((file.len()?, file))) {
            Ok((length, file)) => {
                check.file = Some(file);
                let sum =
                    read_sum(disk, &names::offset_file(directory, base_offset, names::TRANSACTION_SUM_SUFFIX), sink);
                if let Err(error) = check.look_at_entries(length, base_offset, sum, unfinished, sink) {
                    check.give_up(error, sink);
                }
            }
            // There is none when nothing was aborted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => check.give_up(error, sink),
        }
        check
    }

    fn give_up(&mut self, error: io::Error, sink: &mut Sink<'_>) {
        sink.problem(&self.path, None, None, Issue::Unreadable(error));
        (self.count, self.next) = (0, 0);
        self.block.clear();
    }

    fn look_at_entries(
        &mut self,
        length: u64,
        base_offset: i64,
        sum: Option<EntriesSum>,
        unfinished: bool,
        sink: &mut Sink<'_>,
    ) -> io::Result<()> {
        let size = ENTRY_SIZE as u64;
        let weight = if unfinished { Weight::Note } else { Weight::Problem };
        let mut check = EntryCheck::new(base_offset, i64::MAX);
        let mut found = EntriesSum::default();
        let mut fault = None;
        let all = length / size;
        while found.entries < all && fault.is_none() {
            let bytes = self.read(found.entries, (all - found.entries).min(BLOCK_ENTRIES))?;
            for (index, (version, entry)) in entries(&bytes).enumerate() {
                if let Err(reason) = check.next(version, &entry) {
                    fault = Some(reason);
                    break;
                }
                found.add(&bytes[index * ENTRY_SIZE..][..ENTRY_SIZE]);
                // As far as the sum goes.
                if let Some(sum) = sum
                    && found.entries == sum.entries
                    && found != sum
                {
                    let issue = Issue::TransactionIndex(InvalidTransactionIndex::OtherEntries { entries: sum.entries });
                    sink.problem(&self.path, None, None, issue);
                }
            }
        }
        self.count = check.count();
        sink.summary.index_entries += self.count;
        let end = self.count * size;
        match fault {
            Some(reason) => sink.problem(&self.path, Some(end), None, Issue::TransactionIndex(reason)),
            None if length > end => {
                let issue = Issue::TransactionIndex(InvalidTransactionIndex::TrailingBytes(length - end));
                sink.found(weight, &self.path, Some(end), None, issue);
            }
            None => {
                if let Some(sum) = sum.filter(|sum| sum.entries > all) {
                    let issue = Issue::TransactionIndex(InvalidTransactionIndex::OtherEntries { entries: sum.entries });
                    sink.found(weight, &self.path, Some(end), None, issue);
                }
            }
        }
        Ok(())
    }

    fn read(&self, index: u64, count: u64) -> io::Result<Vec<u8>> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; count as usize * ENTRY_SIZE];
        file.read_exact_at(&mut bytes, index * ENTRY_SIZE as u64)?;
        Ok(bytes)
    }

    /// The entry to compare next, and its place in the file.
    fn current(&mut self, sink: &mut Sink<'_>) -> Option<(u64, AbortedTransaction)> {
        if self.next >= self.count {
            return None;
        }
        let in_block = self.next % BLOCK_ENTRIES;
        if in_block == 0 && self.block.is_empty() {
            match self.read(self.next, (self.count - self.next).min(BLOCK_ENTRIES)) {
                // In order of their markers; the last one is the next.
                Ok(bytes) => self.block = entries(&bytes).map(|(_, entry)| entry).collect(),
                Err(error) => {
                    self.give_up(error, sink);
                    return None;
                }
            }
        }
        Some((self.next * ENTRY_SIZE as u64, self.block[in_block as usize]))
    }

    fn advance(&mut self) {
        self.next += 1;
        if self.next.is_multiple_of(BLOCK_ENTRIES) {
            self.block.clear();
        }
    }

    /// Whether an entry says that this batch is a marker.
    pub(super) fn names(&mut self, header: &BatchHeader, sink: &mut Sink<'_>) -> bool {
        self.current(sink).is_some_and(|(_, entry)| entry.last_offset <= header.last_offset())
    }

    /// A good batch that an entry may name; what it says if it is a marker.
    pub(super) fn batch(&mut self, header: &BatchHeader, marker: Option<EndTransactionMarker>, sink: &mut Sink<'_>) {
        while let Some((place, entry)) = self.current(sink)
            && entry.last_offset <= header.last_offset()
        {
            let aborts = marker.is_some_and(|marker| marker.control_type == ControlType::Abort);
            let fits = aborts && entry.last_offset >= header.base_offset && entry.producer_id == header.producer_id;
            if !fits && !self.in_doubt {
                sink.problem(&self.path, Some(place), Some(entry.last_offset), Issue::TransactionIndexMarker);
            }
            self.advance();
        }
    }

    /// Batches were passed over: entries may name them.
    pub(super) fn doubt(&mut self) {
        self.in_doubt = true;
    }

    /// The segment ends here; `whole` unless it ends in damage.
    pub(super) fn finish(mut self, whole: bool, unfinished: bool, sink: &mut Sink<'_>) {
        if !whole || self.in_doubt {
            return;
        }
        let weight = if unfinished { Weight::Note } else { Weight::Problem };
        while let Some((place, entry)) = self.current(sink) {
            sink.found(weight, &self.path, Some(place), Some(entry.last_offset), Issue::TransactionIndexMarker);
            self.advance();
        }
    }
}

fn read_sum(disk: &dyn Disk, path: &Path, sink: &mut Sink<'_>) -> Option<EntriesSum> {
    match disk.read_file(path, MAX_SUM_FILE_BYTES) {
        Ok(bytes) => match EntriesSum::parse(&bytes) {
            Ok(sum) => return Some(sum),
            // A power loss may take it; the next start writes it anew.
            Err(reason) => sink.note(path, None, None, Issue::Sum(reason)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => sink.problem(path, None, None, Issue::Unreadable(error)),
    }
    None
}
