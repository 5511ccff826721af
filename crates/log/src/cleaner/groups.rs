//! Which segments become one: cleaned segments shrink, and without this they would be many and small.

use std::ops::Range;

/// What grouping looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentSize {
    pub(super) base_offset: i64,
    pub(super) log_bytes: u64,
    pub(super) offset_index_bytes: u64,
    pub(super) time_index_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct GroupLimits {
    pub(super) log_bytes: u64,
    pub(super) index_bytes: u64,
    /// No offset at or above it is cleaned.
    pub(super) end_offset: i64,
}

/// Neighbours are put together as long as what they have now fits one segment: its size, its indexes, and the 31 bits an
/// index has for an offset.
pub(super) fn group(segments: &[SegmentSize], limits: &GroupLimits) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut sum: Option<SegmentSize> = None;
    for (index, segment) in segments.iter().enumerate() {
        // The last offset is not known without reading; the next base is above it.
        let next_base = segments.get(index + 1).map_or(limits.end_offset, |next| next.base_offset);
        let together = sum.filter(|first| first.fits(segment, next_base, limits));
        if let (Some(first), Some(group)) = (together, groups.last_mut()) {
            group.end = index + 1;
            sum = Some(first.with(segment));
        } else {
            groups.push(index..index + 1);
            sum = Some(*segment);
        }
    }
    groups
}

impl SegmentSize {
    fn with(&self, other: &SegmentSize) -> SegmentSize {
        SegmentSize {
            base_offset: self.base_offset,
            log_bytes: self.log_bytes + other.log_bytes,
            offset_index_bytes: self.offset_index_bytes + other.offset_index_bytes,
            time_index_bytes: self.time_index_bytes + other.time_index_bytes,
        }
    }

    fn fits(&self, next: &SegmentSize, next_base: i64, limits: &GroupLimits) -> bool {
        let both = self.with(next);
        let last_offset = next_base.saturating_sub(1);
        both.log_bytes <= limits.log_bytes
            && both.offset_index_bytes <= limits.index_bytes
            && both.time_index_bytes <= limits.index_bytes
            && (next.log_bytes == 0 || last_offset.saturating_sub(self.base_offset) <= i64::from(i32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(segments: &[(i64, u64, u64)], log_bytes: u64, index_bytes: u64, end_offset: i64, expected: &[usize]) {
        let sizes: Vec<SegmentSize> = segments
            .iter()
            .map(|(base_offset, log_bytes, index_bytes)| SegmentSize {
                base_offset: *base_offset,
                log_bytes: *log_bytes,
                offset_index_bytes: *index_bytes,
                time_index_bytes: *index_bytes / 2,
            })
            .collect();
        let groups = group(&sizes, &GroupLimits { log_bytes, index_bytes, end_offset });
        let lengths: Vec<usize> = groups.iter().map(Range::len).collect();
        assert_eq!(lengths, expected, "{segments:?}");
    }

    #[test]
    fn by_size_of_log_and_index() {
        check(&[], 100, 100, 0, &[]);
        check(&[(0, 500, 1)], 100, 100, 10, &[1]);
        check(&[(0, 50, 1), (10, 50, 1), (20, 1, 1)], 100, 100, 30, &[2, 1]);
        check(&[(0, 90, 1), (10, 20, 1), (20, 80, 1)], 100, 100, 30, &[1, 2]);
        check(&[(0, 1, 60), (10, 1, 60), (20, 1, 40)], 100, 100, 30, &[1, 2]);
    }

    #[test]
    fn by_the_reach_of_an_index() {
        let far = i64::from(i32::MAX);
        check(&[(0, 1, 1), (10, 1, 1)], 100, 100, far + 1, &[2]);
        check(&[(0, 1, 1), (10, 1, 1)], 100, 100, far + 2, &[1, 1]);
        check(&[(0, 1, 1), (10, 1, 1), (far + 2, 1, 1)], 100, 100, far + 3, &[1, 2]);
        // An empty segment reaches nowhere, so none is left over every 2^31 offsets.
        check(&[(0, 1, 1), (far + 5, 0, 0)], 100, 100, far + 9, &[2]);
    }

    proptest! {
        #[test]
        fn groups_are_all_segments_in_order(sizes in proptest::collection::vec((0..60_u64, 0..60_u64), 0..20)) {
            let segments: Vec<SegmentSize> = sizes
                .iter()
                .enumerate()
                .map(|(index, (log_bytes, index_bytes))| SegmentSize {
                    base_offset: index as i64 * 10,
                    log_bytes: *log_bytes,
                    offset_index_bytes: *index_bytes,
                    time_index_bytes: *index_bytes,
                })
                .collect();
            let limits = GroupLimits { log_bytes: 100, index_bytes: 100, end_offset: 10_000 };
            let groups = group(&segments, &limits);
            let flat: Vec<usize> = groups.iter().cloned().flatten().collect();
            prop_assert_eq!(flat, (0..segments.len()).collect::<Vec<_>>());
            for one in groups {
                let bytes: u64 = segments[one.clone()].iter().map(|segment| segment.log_bytes).sum();
                prop_assert!(one.len() == 1 || bytes <= limits.log_bytes);
            }
        }
    }
}
