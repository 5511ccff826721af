//! The `.txnindex` of one segment: its aborted transactions, in the order of their markers.
//!
//! The file is made with the first entry. Entries go to the file at once: a transaction that is aborted is rare beside the
//! batches of a log, and a search needs no memory for them. What they sum up to is known; the first search of an open file
//! compares it.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use ottla_rt::{DiskFile, OpenMode};
use parking_lot::Mutex;

use super::entry::{self, AbortedTransaction, ENTRY_SIZE, EntryCheck, InvalidTransactionIndex};
use super::sum::{self, EntriesSum};
use crate::handles::FileId;
use crate::names;
use crate::segment::{Segment, remove_if_there};

/// So many entries are read and written at once.
const BLOCK_ENTRIES: u64 = 512;

/// What a segment has in memory of its transaction index.
pub(crate) struct TransactionIndex {
    file_id: FileId,
    state: Mutex<State>,
    /// The open file whose entries were found to be those that were written.
    verified: Mutex<Option<Weak<dyn DiskFile>>>,
    /// Held open while it has entries that are not synced.
    unsynced: Mutex<Option<Arc<dyn DiskFile>>>,
}

/// What an entry's way to the file means for the next flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppendedEntry {
    /// Nothing else in the file waits for a flush.
    pub(crate) is_first_unsynced: bool,
    /// The file's name may not be durable.
    pub(crate) is_new_name: bool,
}

#[derive(Clone, Copy)]
struct State {
    entries: u64,
    /// The marker of the last entry; means nothing without one.
    last_offset: i64,
    sum: u32,
}

impl State {
    const EMPTY: State = State { entries: 0, last_offset: -1, sum: 0 };

    fn entries_sum(&self) -> EntriesSum {
        EntriesSum { entries: self.entries, sum: self.sum }
    }

    /// The same with more entries, which have these bytes.
    fn with(&self, bytes: &[u8], last_offset: i64) -> State {
        let mut sum = self.entries_sum();
        sum.add(bytes);
        State { entries: sum.entries, last_offset, sum: sum.sum }
    }
}

/// What a look at a file gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Entries from the first on that are right.
    pub(crate) entries: u64,
    pub(crate) fault: Option<InvalidTransactionIndex>,
}

/// A search of an index fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Invalid(#[from] InvalidTransactionIndex),
}

impl TransactionIndex {
    pub(crate) fn new(file_id: FileId) -> TransactionIndex {
        TransactionIndex {
            file_id,
            state: Mutex::new(State::EMPTY),
            verified: Mutex::new(None),
            unsynced: Mutex::new(None),
        }
    }

    pub(crate) fn file_id(&self) -> FileId {
        self.file_id
    }

    /// The file, if it has entries that were not synced. The caller syncs them.
    pub(crate) fn take_unsynced(&self) -> Option<Arc<dyn DiskFile>> {
        self.unsynced.lock().take()
    }

    /// Whether there is an entry whose marker stands at `offset` or above.
    pub(crate) fn reaches(&self, offset: i64) -> bool {
        let state = self.state.lock();
        state.entries > 0 && state.last_offset >= offset
    }
}

impl Segment {
    pub(crate) fn transaction_index_file(&self, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.open_file(self.transactions.file_id, names::TRANSACTION_INDEX_SUFFIX, mode)
    }

    /// Adds a transaction whose abort marker is in this segment. After an error the index is as it was.
    pub(crate) fn append_aborted(&self, aborted: &AbortedTransaction) -> io::Result<AppendedEntry> {
        let pinned = self.transactions.unsynced.lock().clone();
        let file = match pinned {
            Some(file) => file,
            None => self.transaction_index_file(OpenMode::CreateOrOpen)?,
        };
        let is_new_name = self.write_aborted(&*file, aborted)?;
        let is_first_unsynced = self.transactions.unsynced.lock().replace(file).is_none();
        Ok(AppendedEntry { is_first_unsynced, is_new_name })
    }

    /// Recovery: the same, for a file that is synced when all partitions are recovered.
    pub(crate) fn recover_aborted(&self, aborted: &AbortedTransaction) -> io::Result<()> {
        self.write_aborted(&*self.transaction_index_file(OpenMode::CreateOrOpen)?, aborted).map(|_| ())
    }

    /// Whether it is the first entry.
    fn write_aborted(&self, file: &dyn DiskFile, aborted: &AbortedTransaction) -> io::Result<bool> {
        let mut state = self.transactions.state.lock();
        assert!(
            state.entries == 0 || aborted.last_offset > state.last_offset,
            "invariant: markers rise in a transaction index"
        );
        let position = state.entries * ENTRY_SIZE as u64;
        let mut bytes = Vec::with_capacity(ENTRY_SIZE);
        aborted.encode(&mut bytes);
        if let Err(error) = file.write_all_at(&[IoSlice::new(&bytes)], position) {
            // The next entry is written over what there is of this one, so if this fails too nothing is lost.
            let _ = file.set_len(position);
            return Err(error);
        }
        let is_first = state.entries == 0;
        *state = state.with(&bytes, aborted.last_offset);
        Ok(is_first)
    }

    /// Gives `found` the transactions with records or a marker in `from..upper_bound`. Whether no later segment can have
    /// more of them.
    pub(crate) fn collect_aborted(
        &self,
        from: i64,
        upper_bound: i64,
        found: &mut Vec<AbortedTransaction>,
    ) -> Result<bool, SearchError> {
        let state = *self.transactions.state.lock();
        if state.entries == 0 || state.last_offset < from {
            return Ok(false);
        }
        let file = self.transaction_index_file(OpenMode::ReadWrite)?;
        self.verify_entries(&file)?;
        let mut check = EntryCheck::new(self.base_offset, i64::MAX);
        let mut next = first_reaching(&*file, state.entries, from)?;
        while next < state.entries {
            let count = (state.entries - next).min(BLOCK_ENTRIES);
            for (version, aborted) in entry::entries(&read_block(&*file, next, count)?) {
                check.next(version, &aborted)?;
                if aborted.overlaps(from, upper_bound) {
                    found.push(aborted);
                }
                if aborted.last_stable_offset >= upper_bound {
                    return Ok(true);
                }
            }
            next += count;
        }
        Ok(false)
    }

    /// The entries of this open file are those that were written; looked at once.
    fn verify_entries(&self, file: &Arc<dyn DiskFile>) -> Result<(), SearchError> {
        let is_verified = |known: &Weak<dyn DiskFile>| std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(file));
        if self.transactions.verified.lock().as_ref().is_some_and(is_verified) {
            return Ok(());
        }
        loop {
            let expected = self.transactions.state.lock().entries_sum();
            let found = sum_of(&**file, expected.entries);
            if matches!(&found, Ok(found) if *found == expected) {
                *self.transactions.verified.lock() = Some(Arc::downgrade(file));
                return Ok(());
            }
            // More entries than there were are no difference; a cut meanwhile is.
            if self.transactions.state.lock().entries < expected.entries {
                continue;
            }
            found?;
            return Err(InvalidTransactionIndex::OtherEntries { entries: expected.entries }.into());
        }
    }

    /// Writes the sum of the entries beside them. Returns the file, to be synced: unsynced it may be lost, and nothing else.
    pub(crate) fn write_transaction_sum(&self) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let sum = self.transactions.state.lock().entries_sum();
        if sum.entries == 0 {
            return Ok(None);
        }
        let path = self.path(names::TRANSACTION_SUM_SUFFIX);
        let file = self.shared().world.disk.open(&path, OpenMode::CreateOrOpen)?;
        file.write_all_at(&[IoSlice::new(&sum.format())], 0)?;
        Ok(Some(file))
    }

    /// The sum beside the index, if there is one that can be used.
    pub(crate) fn read_transaction_sum(&self) -> io::Result<Option<EntriesSum>> {
        let path = self.path(names::TRANSACTION_SUM_SUFFIX);
        match self.shared().world.disk.read_file(&path, sum::MAX_FILE_BYTES) {
            Ok(bytes) => match EntriesSum::parse(&bytes) {
                Ok(sum) => Ok(Some(sum)),
                Err(reason) => {
                    // It may have been lost with the power.
                    tracing::debug!(path = %path.display(), %reason, "a sum of index entries is not used");
                    Ok(None)
                }
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Recovery: the sum beside the index is that of its entries.
    pub(crate) fn complete_transaction_sum(&self) -> io::Result<()> {
        let expected = self.transactions.state.lock().entries_sum();
        if expected.entries > 0 && self.read_transaction_sum()? != Some(expected) {
            self.write_transaction_sum()?;
        }
        Ok(())
    }

    /// Whether the first entries of the index are those this is the sum of.
    pub(crate) fn has_entries(&self, sum: &EntriesSum) -> io::Result<bool> {
        let file = self.transaction_index_file(OpenMode::ReadWrite)?;
        Ok(sum_of(&*file, sum.entries)? == *sum)
    }

    /// Forgets the entries of markers at `offset` and above, durably: one that came back would speak of other records.
    pub(crate) fn truncate_transactions(&self, offset: i64) -> io::Result<()> {
        if !self.transactions.reaches(offset) {
            return Ok(());
        }
        let file = self.transaction_index_file(OpenMode::ReadWrite)?;
        let mut state = self.transactions.state.lock();
        *state = state_below(&*file, state.entries, offset)?;
        file.set_len(state.entries * ENTRY_SIZE as u64)?;
        file.sync_data()?;
        // Should it come back, the index is made anew at the next start.
        remove_if_there(self.shared(), &self.path(names::TRANSACTION_SUM_SUFFIX))
    }

    /// Syncs entries that wait for a flush.
    pub(crate) fn sync_transactions(&self) -> io::Result<()> {
        self.transactions.take_unsynced().map_or(Ok(()), |file| file.sync_data())
    }

    /// Recovery: looks at every entry of a file of `len` bytes, for a segment that ends at `end_offset`.
    pub(crate) fn check_transaction_index(&self, len: u64, end_offset: i64) -> io::Result<Verdict> {
        let file = self.transaction_index_file(OpenMode::ReadWrite)?;
        let mut check = EntryCheck::new(self.base_offset, end_offset);
        let (all, rest) = (len / ENTRY_SIZE as u64, len % ENTRY_SIZE as u64);
        while check.count() < all {
            let count = (all - check.count()).min(BLOCK_ENTRIES);
            for (version, aborted) in entry::entries(&read_block(&*file, check.count(), count)?) {
                if let Err(fault) = check.next(version, &aborted) {
                    return Ok(Verdict { entries: check.count(), fault: Some(fault) });
                }
            }
        }
        let fault = (rest > 0).then_some(InvalidTransactionIndex::TrailingBytes(rest));
        Ok(Verdict { entries: all, fault })
    }

    /// Recovery: the index has, of its first `entries` entries, those of markers below `offset`. Whether the file changed:
    /// then it is to be synced.
    pub(crate) fn keep_transactions(&self, entries: u64, offset: i64) -> io::Result<bool> {
        let file = self.transaction_index_file(OpenMode::ReadWrite)?;
        let kept = state_below(&*file, entries, offset)?;
        let len = kept.entries * ENTRY_SIZE as u64;
        let is_longer = file.len()? != len;
        if is_longer {
            file.set_len(len)?;
        }
        *self.transactions.state.lock() = kept;
        Ok(is_longer)
    }

    /// Recovery: begins an index that takes the file's place once it is whole.
    pub(crate) fn replace_transactions(&self) -> io::Result<IndexWriter> {
        let mut path = self.path(names::TRANSACTION_INDEX_SUFFIX).into_os_string();
        path.push(names::TEMPORARY_SUFFIX);
        let path = PathBuf::from(path);
        let file = self.shared().world.disk.open(&path, OpenMode::CreateOrOpen)?;
        file.set_len(0)?;
        Ok(IndexWriter { file, state: State::EMPTY, temporary: path, pending: Vec::new() })
    }

    /// Recovery: the segment's index is what the writer wrote, durably.
    pub(crate) fn finish_transactions(&self, mut writer: IndexWriter) -> io::Result<()> {
        writer.write_pending()?;
        writer.file.sync_all()?;
        let disk = &*self.shared().world.disk;
        // The old file must not be read under the new one's name.
        self.shared().handles.remove(self.transactions.file_id);
        let path = self.path(names::TRANSACTION_INDEX_SUFFIX);
        disk.rename(&writer.temporary, &path)?;
        if let Some(directory) = path.parent() {
            disk.sync_dir(directory)?;
        }
        *self.transactions.state.lock() = writer.state;
        Ok(())
    }

    /// Recovery: no transaction was aborted in this segment.
    pub(crate) fn remove_transactions(&self) -> io::Result<()> {
        self.shared().handles.remove(self.transactions.file_id);
        remove_if_there(self.shared(), &self.path(names::TRANSACTION_SUM_SUFFIX))?;
        remove_if_there(self.shared(), &self.path(names::TRANSACTION_INDEX_SUFFIX))
    }
}

/// Writes an index anew, a block at a time.
pub(crate) struct IndexWriter {
    file: Arc<dyn DiskFile>,
    state: State,
    /// Where the file stands until it is whole.
    temporary: PathBuf,
    pending: Vec<AbortedTransaction>,
}

impl IndexWriter {
    pub(crate) fn push(&mut self, aborted: AbortedTransaction) -> io::Result<()> {
        self.pending.push(aborted);
        if self.pending.len() as u64 >= BLOCK_ENTRIES { self.write_pending() } else { Ok(()) }
    }

    fn write_pending(&mut self) -> io::Result<()> {
        let Some(last) = self.pending.last() else { return Ok(()) };
        let last_offset = last.last_offset;
        let mut bytes = Vec::with_capacity(self.pending.len() * ENTRY_SIZE);
        for aborted in &self.pending {
            aborted.encode(&mut bytes);
        }
        self.file.write_all_at(&[IoSlice::new(&bytes)], self.state.entries * ENTRY_SIZE as u64)?;
        self.state = self.state.with(&bytes, last_offset);
        self.pending.clear();
        Ok(())
    }
}

/// The first of the entries whose marker stands at `offset` or above; their number without one.
fn first_reaching(file: &dyn DiskFile, entries: u64, offset: i64) -> io::Result<u64> {
    let (mut low, mut high) = (0, entries);
    while high - low > BLOCK_ENTRIES {
        let middle = low + (high - low) / 2;
        if last_offset_of(file, middle)? < offset { low = middle + 1 } else { high = middle }
    }
    let block = read_block(file, low, high - low)?;
    let below = entry::entries(&block).take_while(|(_, aborted)| aborted.last_offset < offset).count();
    Ok(low + below as u64)
}

/// What is left of the first `entries` entries without those at `offset` and above.
fn state_below(file: &dyn DiskFile, entries: u64, offset: i64) -> io::Result<State> {
    let kept = first_reaching(file, entries, offset)?;
    let last_offset = if kept > 0 { last_offset_of(file, kept - 1)? } else { -1 };
    let EntriesSum { entries, sum } = sum_of(file, kept)?;
    Ok(State { entries, last_offset, sum })
}

/// What the first `entries` entries sum up to.
fn sum_of(file: &dyn DiskFile, entries: u64) -> io::Result<EntriesSum> {
    let mut sum = EntriesSum::default();
    while sum.entries < entries {
        sum.add(&read_block(file, sum.entries, (entries - sum.entries).min(BLOCK_ENTRIES))?);
    }
    Ok(sum)
}

fn last_offset_of(file: &dyn DiskFile, index: u64) -> io::Result<i64> {
    let block = read_block(file, index, 1)?;
    Ok(entry::entries(&block).next().map_or(-1, |(_, aborted)| aborted.last_offset))
}

fn read_block(file: &dyn DiskFile, index: u64, count: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count as usize * ENTRY_SIZE];
    file.read_exact_at(&mut bytes, index * ENTRY_SIZE as u64)?;
    Ok(bytes)
}
