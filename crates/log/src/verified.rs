//! What is known of the bytes of an open segment: which of them were found good, where readers stopped, and where they are
//! damaged.
//!
//! Checksums are computed once for what readers ask for, as long as the file stays open: what was read again from the
//! disk may have changed there. Headers are looked at each time, since a reader cannot check them by itself.
//!
//! Invariant: ranges are in order, none touches the next, and each begins and ends where a batch does.

use std::sync::{Arc, Weak};

use ottla_rt::DiskFile;

/// Readers that follow the log leave one range. More are of readers that jump; the smallest of them is forgotten first.
const MOST_RANGES: usize = 32;

/// So many readers that go on where they stopped need no look-up.
const MOST_MARKS: usize = 8;

/// So many damaged places are told of once each.
const MOST_REPORTED: usize = 32;

/// Good ranges of one file, marks in it, and the damage that was told of. At most half a kibibyte.
#[derive(Default)]
pub(crate) struct Verified {
    /// The file the ranges are of. Holding its name keeps another file from being taken for it.
    file: Option<Weak<dyn DiskFile>>,
    ranges: Ranges,
    /// Of a segment the cleaner wrote: where the headers are those it wrote.
    headers: Ranges,
    /// Offsets at which one batch ends and the next begins, and where that is. The latest is the last.
    marks: Vec<(i64, u32)>,
    reported: Vec<u32>,
}

impl Verified {
    /// The ranges found good in this open file; none when it was opened since.
    pub(crate) fn ranges_of(&mut self, file: &Arc<dyn DiskFile>) -> Ranges {
        self.forget_unless(file);
        self.ranges.clone()
    }

    /// These bytes are good batches.
    pub(crate) fn insert(&mut self, file: &Arc<dyn DiskFile>, start: u64, end: u64) {
        self.forget_unless(file);
        self.ranges.insert(start, end);
    }

    /// Whether the headers in this range were compared with their sums.
    pub(crate) fn has_headers(&mut self, file: &Arc<dyn DiskFile>, start: u64, end: u64) -> bool {
        self.forget_unless(file);
        self.headers.contain(start, end)
    }

    /// The headers in this range are those that were written.
    pub(crate) fn insert_headers(&mut self, file: &Arc<dyn DiskFile>, start: u64, end: u64) {
        self.forget_unless(file);
        self.headers.insert(start, end);
    }

    /// Where the batch begins that follows on this offset, if it was met lately.
    pub(crate) fn position_of(&mut self, file: &Arc<dyn DiskFile>, offset: i64) -> Option<u64> {
        self.forget_unless(file);
        self.marks.iter().find(|(marked, _)| *marked == offset).map(|(_, position)| u64::from(*position))
    }

    /// One batch ends at this offset, and the next begins at this position.
    pub(crate) fn mark(&mut self, file: &Arc<dyn DiskFile>, offset: i64, position: u64) {
        self.forget_unless(file);
        let Ok(position) = u32::try_from(position) else { return };
        self.marks.retain(|(marked, _)| *marked != offset);
        if self.marks.len() == MOST_MARKS {
            self.marks.remove(0);
        }
        self.marks.push((offset, position));
    }

    /// The file was cut here: what will be written there is not what was verified.
    pub(crate) fn truncate(&mut self, end: u64) {
        self.ranges.truncate(end);
        self.headers.truncate(end);
        self.marks.retain(|(_, position)| u64::from(*position) < end);
        self.reported.retain(|position| u64::from(*position) < end);
    }

    /// Whether this damage was not told of yet.
    pub(crate) fn is_news(&mut self, position: u64) -> bool {
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        if self.reported.contains(&position) {
            return false;
        }
        if self.reported.len() == MOST_REPORTED {
            self.reported.remove(0);
        }
        self.reported.push(position);
        true
    }

    fn forget_unless(&mut self, file: &Arc<dyn DiskFile>) {
        let same = self.file.as_ref().is_some_and(|known| std::ptr::addr_eq(known.as_ptr(), Arc::as_ptr(file)));
        if !same {
            self.file = Some(Arc::downgrade(file));
            self.ranges = Ranges::default();
            self.headers = Ranges::default();
            self.marks.clear();
        }
    }
}

/// Disjoint ranges of positions in a segment, which is shorter than 4 GiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// Whether one range holds all of these bytes.
    pub(crate) fn contain(&self, start: u64, end: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| u64::from(*first) <= start);
        after.checked_sub(1).is_some_and(|index| u64::from(self.0[index].1) >= end)
    }

    fn insert(&mut self, start: u64, end: u64) {
        let (Ok(mut start), Ok(mut end)) = (u32::try_from(start), u32::try_from(end)) else { return };
        if start >= end {
            return;
        }
        let first = self.0.partition_point(|(_, other_end)| *other_end < start);
        let after = self.0.partition_point(|(other_start, _)| *other_start <= end);
        if first < after {
            start = start.min(self.0[first].0);
            end = end.max(self.0[after - 1].1);
        }
        self.0.splice(first..after, [(start, end)]);
        if self.0.len() > MOST_RANGES {
            let sizes = self.0.iter().map(|(start, end)| end - start);
            if let Some((smallest, _)) = sizes.enumerate().min_by_key(|(_, size)| *size) {
                self.0.remove(smallest);
            }
        }
    }

    fn truncate(&mut self, end: u64) {
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        self.0.retain(|(start, _)| *start < end);
        if let Some(last) = self.0.last_mut() {
            last.1 = last.1.min(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use ottla_rt::OpenMode;
    use ottla_rt::memory::MemoryWorld;

    use super::*;

    #[test]
    fn ranges_grow_together() {
        for (inserted, expected) in [
            (&[(0, 10)][..], &[(0, 10)][..]),
            (&[(0, 10), (10, 20)], &[(0, 20)]),
            (&[(10, 20), (0, 10)], &[(0, 20)]),
            (&[(0, 10), (20, 30)], &[(0, 10), (20, 30)]),
            (&[(0, 10), (20, 30), (10, 20)], &[(0, 30)]),
            (&[(0, 10), (20, 30), (40, 50), (5, 45)], &[(0, 50)]),
            (&[(0, 50), (10, 20)], &[(0, 50)]),
            (&[(20, 30), (0, 10), (12, 14)], &[(0, 10), (12, 14), (20, 30)]),
            (&[(5, 5), (u64::from(u32::MAX), 1 << 33)], &[]),
        ] {
            let mut ranges = Ranges::default();
            for (start, end) in inserted {
                ranges.insert(*start, *end);
            }
            assert_eq!(ranges.0, expected, "{inserted:?}");
        }
    }

    #[test]
    fn what_they_contain() {
        let ranges = Ranges(vec![(10, 20), (30, 40)]);
        for (start, end, expected) in
            [(10, 20, true), (12, 13, true), (9, 12, false), (15, 35, false), (30, 41, false), (40, 50, false)]
        {
            assert_eq!(ranges.contain(start, end), expected, "{start}..{end}");
        }
    }

    #[test]
    fn the_smallest_of_too_many_goes() {
        let mut ranges = Ranges::default();
        for number in 0..100 {
            ranges.insert(number * 100, number * 100 + 50);
        }
        ranges.insert(10_000, 10_001);
        assert_eq!(ranges.0.len(), MOST_RANGES);
        assert!(!ranges.contain(10_000, 10_001));
    }

    #[test]
    fn a_cut_takes_what_is_above() {
        let mut ranges = Ranges(vec![(10, 20), (30, 40)]);
        ranges.truncate(35);
        assert_eq!(ranges.0, [(10, 20), (30, 35)]);
        ranges.truncate(30);
        assert_eq!(ranges.0, [(10, 20)]);
        ranges.truncate(0);
        assert_eq!(ranges, Ranges::default());
    }

    #[test]
    fn a_file_opened_anew_is_not_known() {
        let disk = MemoryWorld::new(1).disk.mount();
        let open = || disk.open("/file".as_ref(), OpenMode::CreateOrOpen).unwrap();
        let (first, second) = (open(), open());
        let mut verified = Verified::default();
        verified.insert(&first, 0, 10);
        assert!(verified.ranges_of(&first).contain(0, 10));
        assert!(!verified.ranges_of(&second).contain(0, 10));
        assert!(!verified.ranges_of(&first).contain(0, 10), "forgotten for good");
    }

    #[test]
    fn where_readers_stopped() {
        let disk = MemoryWorld::new(1).disk.mount();
        let file = disk.open("/file".as_ref(), OpenMode::CreateOrOpen).unwrap();
        let mut verified = Verified::default();
        for number in 0..20 {
            verified.mark(&file, number, number as u64 * 100);
            verified.mark(&file, 0, 7);
        }
        let kept: Vec<i64> = (0..20).filter(|offset| verified.position_of(&file, *offset).is_some()).collect();
        assert_eq!(kept, [0, 13, 14, 15, 16, 17, 18, 19]);
        assert_eq!((verified.position_of(&file, 0), verified.position_of(&file, 13)), (Some(7), Some(1_300)));
        verified.truncate(1_500);
        assert_eq!((verified.position_of(&file, 14), verified.position_of(&file, 15)), (Some(1_400), None));
    }

    #[test]
    fn damage_is_news_once() {
        let mut verified = Verified::default();
        assert!(verified.is_news(5) && !verified.is_news(5) && verified.is_news(6));
        verified.truncate(6);
        assert!(!verified.is_news(5) && verified.is_news(6));
    }
}
