//! Sparse indexes of a segment: offset → position (`.index`, 8 bytes an entry) and timestamp → offset (`.timeindex`,
//! 12 bytes an entry), in Kafka's format.
//!
//! Indexes are caches: whatever they say is checked against the log where it is used, and they are rebuilt when it is
//! not so. The entries of the active segment collect in memory and go to the file a block at a time.

mod entry;

use std::io::{self, IoSlice};

pub(crate) use entry::{IndexEntry, OffsetEntry, TimeEntry};
use ottla_rt::DiskFile;

/// So many entries are kept back before they are written: one write for 2 MiB of log at the default interval.
const BLOCK_ENTRIES: usize = 512;

/// One index: entries in the file, then entries not written yet. Keys rise strictly.
pub(crate) struct SparseIndex<E> {
    base_offset: i64,
    in_file: u32,
    pending: Vec<E>,
    last: Option<E>,
}

impl<E: IndexEntry> SparseIndex<E> {
    pub(crate) fn new(base_offset: i64) -> SparseIndex<E> {
        SparseIndex { base_offset, in_file: 0, pending: Vec::new(), last: None }
    }

    /// Takes an index file as it is found; `None` when its length or its last entry cannot be right. Kafka preallocates
    /// the file of an active segment, so zeros at its end are not entries.
    pub(crate) fn load(base_offset: i64, file: &dyn DiskFile) -> io::Result<Option<SparseIndex<E>>> {
        let len = file.len()?;
        if len % E::SIZE as u64 != 0 || len / E::SIZE as u64 > i32::MAX as u64 {
            return Ok(None);
        }
        let in_file = (len / E::SIZE as u64) as u32;
        let mut index: SparseIndex<E> = SparseIndex { base_offset, in_file, pending: Vec::new(), last: None };
        // Binary search for the end of the entries: zeros follow.
        if index.in_file > 0 && Self::read(file, index.in_file - 1)?.is_vacant() {
            let (mut filled, mut vacant) = (0, index.in_file - 1);
            while filled < vacant {
                let middle = filled + (vacant - filled) / 2;
                if Self::read(file, middle)?.is_vacant() { vacant = middle } else { filled = middle + 1 }
            }
            index.in_file = filled;
        }
        if index.in_file > 0 {
            let last = Self::read(file, index.in_file - 1)?;
            let first = Self::read(file, 0)?;
            if last.offset(base_offset) < base_offset || last.key() < first.key() {
                return Ok(None);
            }
            index.last = Some(last);
        }
        Ok(Some(index))
    }

    pub(crate) fn len(&self) -> usize {
        self.in_file as usize + self.pending.len()
    }

    pub(crate) fn last(&self) -> Option<E> {
        self.last
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether enough entries wait for a write to be worth it.
    pub(crate) fn wants_write(&self) -> bool {
        self.pending.len() >= BLOCK_ENTRIES
    }

    pub(crate) fn push(&mut self, entry: E) {
        if let Some(last) = self.last {
            assert!(entry.key() > last.key(), "invariant: the keys of an index rise");
        }
        self.pending.push(entry);
        self.last = Some(entry);
    }

    /// Writes what is pending, at its place; the file is cut there.
    pub(crate) fn write_pending(&mut self, file: &dyn DiskFile) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(self.pending.len() * E::SIZE);
        for entry in &self.pending {
            entry.encode(&mut bytes);
        }
        let start = u64::from(self.in_file) * E::SIZE as u64;
        let end = start + bytes.len() as u64;
        if !bytes.is_empty() {
            file.write_all_at(&[IoSlice::new(&bytes)], start)?;
        }
        if file.len()? != end {
            file.set_len(end)?;
        }
        self.in_file += self.pending.len() as u32;
        self.pending = Vec::new();
        Ok(())
    }

    /// The last entry for which `at_or_before` holds; it must hold for a prefix of the entries.
    pub(crate) fn floor(
        &self,
        file: &mut dyn FnMut() -> io::Result<std::sync::Arc<dyn DiskFile>>,
        at_or_before: impl Fn(&E) -> bool,
    ) -> io::Result<Option<E>> {
        if self.pending.first().is_some_and(&at_or_before) {
            let after = self.pending.partition_point(&at_or_before);
            return Ok(Some(self.pending[after - 1]));
        }
        if self.in_file == 0 {
            return Ok(None);
        }
        if self.pending.is_empty()
            && let Some(last) = self.last
            && at_or_before(&last)
        {
            return Ok(Some(last));
        }
        let file = file()?;
        let (mut low, mut high) = (0, self.in_file);
        // Halve until one block is left, then read that block whole.
        while (high - low) as usize > BLOCK_ENTRIES {
            let middle = low + (high - low) / 2;
            if at_or_before(&Self::read(&*file, middle)?) { low = middle } else { high = middle }
        }
        let mut bytes = vec![0; (high - low) as usize * E::SIZE];
        file.read_exact_at(&mut bytes, u64::from(low) * E::SIZE as u64)?;
        let entries: Vec<E> = bytes.chunks_exact(E::SIZE).map(E::decode).collect();
        let after = entries.partition_point(at_or_before);
        Ok(after.checked_sub(1).map(|index| entries[index]))
    }

    /// Keeps the prefix of entries for which `keep` holds.
    pub(crate) fn truncate(&mut self, file: &dyn DiskFile, keep: impl Fn(&E) -> bool) -> io::Result<()> {
        let kept_pending = self.pending.partition_point(&keep);
        self.pending.truncate(kept_pending);
        if self.pending.is_empty() {
            let (mut low, mut high) = (0, self.in_file);
            while low < high {
                let middle = low + (high - low) / 2;
                if keep(&Self::read(file, middle)?) { low = middle + 1 } else { high = middle }
            }
            self.in_file = low;
            file.set_len(u64::from(low) * E::SIZE as u64)?;
        }
        self.last = match self.pending.last() {
            Some(last) => Some(*last),
            None if self.in_file > 0 => Some(Self::read(file, self.in_file - 1)?),
            None => None,
        };
        Ok(())
    }

    /// Whether the entries in the file rise, every one within the bounds given.
    pub(crate) fn is_consistent(&self, file: &dyn DiskFile, within: impl Fn(&E) -> bool) -> io::Result<bool> {
        let mut previous: Option<E> = None;
        let mut next = 0;
        while next < self.in_file {
            let count = (self.in_file - next).min(BLOCK_ENTRIES as u32);
            let mut bytes = vec![0; count as usize * E::SIZE];
            file.read_exact_at(&mut bytes, u64::from(next) * E::SIZE as u64)?;
            for entry in bytes.chunks_exact(E::SIZE).map(E::decode) {
                let rises = previous.is_none_or(|previous| {
                    entry.key() > previous.key() && entry.offset(self.base_offset) >= previous.offset(self.base_offset)
                });
                if !rises || !within(&entry) {
                    return Ok(false);
                }
                previous = Some(entry);
            }
            next += count;
        }
        Ok(true)
    }

    fn read(file: &dyn DiskFile, index: u32) -> io::Result<E> {
        let mut bytes = [0; 16];
        file.read_exact_at(&mut bytes[..E::SIZE], u64::from(index) * E::SIZE as u64)?;
        Ok(E::decode(&bytes[..E::SIZE]))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ottla_rt::{OpenMode, World};

    use super::*;

    fn file(directory: &tempfile::TempDir, content: &[u8]) -> Arc<dyn DiskFile> {
        let file = World::os().disk.open(&directory.path().join("index"), OpenMode::CreateOrOpen).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(&[IoSlice::new(content)], 0).unwrap();
        file
    }

    fn entry(number: u32) -> OffsetEntry {
        OffsetEntry { relative_offset: number * 10, position: number * 100 }
    }

    #[test]
    fn floor_over_file_and_memory() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(&directory, b"");
        for in_file in [0, 1, 511, 512, 513, 2000] {
            let mut index: SparseIndex<OffsetEntry> = SparseIndex::new(0);
            for number in 1..=2000 {
                index.push(entry(number));
                if number == in_file {
                    index.write_pending(&*file).unwrap();
                }
            }
            for target in [0, 9, 10, 11, 5115, 5120, 5125, 19_999, 20_000, 30_000] {
                let found =
                    index.floor(&mut || Ok(Arc::clone(&file)), |entry| entry.relative_offset <= target).unwrap();
                let expected = (target / 10 > 0).then(|| entry((target / 10).min(2000)));
                assert_eq!(found, expected, "{in_file} in the file, target {target}");
            }
        }
    }

    #[test]
    fn bytes_are_kafkas() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(&directory, b"");
        let mut index: SparseIndex<TimeEntry> = SparseIndex::new(100);
        index.push(TimeEntry { timestamp: 0x0102_0304_0506, relative_offset: 7 });
        index.write_pending(&*file).unwrap();
        let mut bytes = [0; 12];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 7]);
        let loaded: SparseIndex<TimeEntry> = SparseIndex::load(100, &*file).unwrap().unwrap();
        assert_eq!(loaded.last(), index.last());
    }

    #[test]
    fn a_preallocated_file_ends_at_its_zeros() {
        let directory = tempfile::tempdir().unwrap();
        for filled in [0_u32, 1, 2, 5] {
            let mut content = Vec::new();
            for number in 1..=filled {
                entry(number).encode(&mut content);
            }
            content.resize(64, 0);
            let file = file(&directory, &content);
            let index: SparseIndex<OffsetEntry> = SparseIndex::load(0, &*file).unwrap().unwrap();
            assert_eq!(index.len(), filled as usize);
            assert_eq!(index.last(), (filled > 0).then(|| entry(filled)));
        }
    }

    #[test]
    fn torn_and_garbled_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let torn = file(&directory, &[1; 9]);
        assert!(SparseIndex::<OffsetEntry>::load(0, &*torn).unwrap().is_none());
        let mut falling = Vec::new();
        entry(2).encode(&mut falling);
        entry(1).encode(&mut falling);
        let falling = file(&directory, &falling);
        assert!(SparseIndex::<OffsetEntry>::load(0, &*falling).unwrap().is_none());
    }

    #[test]
    fn truncation_cuts_file_and_memory() {
        let directory = tempfile::tempdir().unwrap();
        for (keep_below, expected) in [(0, 0), (1, 0), (2, 1), (4, 3), (5, 4), (9, 6)] {
            let file = file(&directory, b"");
            let mut index: SparseIndex<OffsetEntry> = SparseIndex::new(0);
            for number in 1..=6 {
                index.push(entry(number));
                if number == 3 {
                    index.write_pending(&*file).unwrap();
                }
            }
            index.truncate(&*file, |entry| entry.relative_offset < keep_below * 10).unwrap();
            assert_eq!(index.len(), expected);
            assert_eq!(index.last(), (expected > 0).then(|| entry(expected as u32)));
            index.write_pending(&*file).unwrap();
            assert_eq!(file.len().unwrap(), expected as u64 * 8);
        }
    }
}
