//! Which log is cleaned next, and which stretch of it.
//!
//! A log has a clean part (below the cleaner's checkpoint), a dirty part, and one that may not be cleaned yet: the active
//! segment, what is not decided or not durable, what is younger than `min.compaction.lag.ms`.

/// A segment as far as the choice needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentFacts {
    pub(super) base_offset: i64,
    pub(super) bytes: u64,
    /// The youngest record; asked for only with a `min.compaction.lag.ms`.
    pub(super) largest_timestamp: i64,
    /// That of the first batch; asked for only with a `max.compaction.lag.ms`.
    pub(super) first_timestamp: Option<i64>,
}

/// A log as it is, and what its topic wants.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LogFacts {
    pub(super) log_start_offset: i64,
    pub(super) log_end_offset: i64,
    /// Below it everything is decided, replicated and durable.
    pub(super) stable_offset: i64,
    /// Up to where it was cleaned, by the checkpoint.
    pub(super) cleaned_to: Option<i64>,
    /// In order; the last one is active.
    pub(super) segments: Vec<SegmentFacts>,
    pub(super) min_cleanable_dirty_ratio: f64,
    pub(super) min_compaction_lag_ms: i64,
    pub(super) max_compaction_lag_ms: i64,
}

/// What there is to clean in a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Dirty {
    pub(super) first_dirty_offset: i64,
    /// The base of a segment.
    pub(super) first_uncleanable_offset: i64,
    /// The checkpoint was of a log that is no more: it has to be written anew.
    pub(super) checkpoint_invalid: bool,
    pub(super) cleanable_bytes: u64,
    /// Cleanable bytes of all that would be read.
    pub(super) ratio: f64,
    /// `max.compaction.lag.ms` has passed.
    pub(super) overdue: bool,
}

impl LogFacts {
    /// `None`: there is nothing in it.
    pub(super) fn dirty(&self, now_ms: i64) -> Option<Dirty> {
        let (first_dirty_offset, checkpoint_invalid) = match self.cleaned_to {
            Some(offset) if (self.log_start_offset..=self.log_end_offset).contains(&offset) => (offset, false),
            Some(_) => (self.log_start_offset, true),
            None => (self.log_start_offset, false),
        };
        let uncleanable = self.uncleanable_from(first_dirty_offset, now_ms);
        // The first whole segment that may not be touched.
        let active_base = self.segments.last().map_or(0, |active| active.base_offset);
        let first_uncleanable_offset = self
            .segments
            .iter()
            .enumerate()
            .find(|(index, _)| self.end_of(*index) > uncleanable)
            .map_or(active_base, |(_, segment)| segment.base_offset);
        let bytes_of = |from: i64, to: i64| -> u64 {
            let within = |index: &usize| {
                self.segments[*index].base_offset < to
                    && (self.end_of(*index) > from || *index + 1 == self.segments.len())
            };
            (0..self.segments.len()).filter(within).map(|index| self.segments[index].bytes).sum()
        };
        // A segment that the checkpoint is inside of counts as dirty.
        let dirty_base = self.base_of(first_dirty_offset);
        let cleanable_bytes = bytes_of(dirty_base, first_uncleanable_offset);
        let clean_bytes = bytes_of(i64::MIN, dirty_base.min(first_uncleanable_offset));
        let total_bytes = clean_bytes + cleanable_bytes;
        (total_bytes > 0).then(|| Dirty {
            first_dirty_offset,
            first_uncleanable_offset,
            checkpoint_invalid,
            cleanable_bytes,
            ratio: cleanable_bytes as f64 / total_bytes as f64,
            overdue: self.is_overdue(first_dirty_offset, now_ms),
        })
    }

    fn uncleanable_from(&self, first_dirty_offset: i64, now_ms: i64) -> i64 {
        let active_base = self.segments.last().map_or(0, |active| active.base_offset);
        let bound = self.stable_offset.min(active_base);
        let min_lag_ms = self.min_compaction_lag_ms.max(0);
        if min_lag_ms == 0 {
            return bound;
        }
        let too_young = self
            .closed_from(first_dirty_offset)
            .find(|segment| segment.largest_timestamp > now_ms.saturating_sub(min_lag_ms));
        too_young.map_or(bound, |segment| bound.min(segment.base_offset))
    }

    fn is_overdue(&self, first_dirty_offset: i64, now_ms: i64) -> bool {
        let deadline_ms = now_ms.saturating_sub(self.max_compaction_lag_ms.max(0));
        let timestamps = self.closed_from(first_dirty_offset).filter_map(|segment| segment.first_timestamp);
        timestamps.filter(|timestamp| *timestamp > 0).any(|timestamp| timestamp < deadline_ms)
    }

    /// The closed segments that reach above this offset.
    fn closed_from(&self, offset: i64) -> impl Iterator<Item = &SegmentFacts> {
        let closed = self.segments.len().saturating_sub(1);
        (0..closed).filter(move |index| self.end_of(*index) > offset).map(|index| &self.segments[index])
    }

    fn end_of(&self, index: usize) -> i64 {
        self.segments.get(index + 1).map_or(self.log_end_offset, |next| next.base_offset)
    }

    /// The base of the segment with this offset.
    fn base_of(&self, offset: i64) -> i64 {
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        self.segments.get(after.saturating_sub(1)).map_or(offset, |segment| segment.base_offset)
    }
}

impl Dirty {
    /// Whether it is worth it by now.
    pub(super) fn is_due(&self, min_cleanable_dirty_ratio: f64) -> bool {
        self.cleanable_bytes > 0 && (self.overdue || self.ratio > min_cleanable_dirty_ratio)
    }
}

/// The dirtiest of the logs that are due, by its place.
pub(super) fn filthiest(due: &[Dirty]) -> Option<usize> {
    let dirtier = |left: &(usize, &Dirty), right: &(usize, &Dirty)| left.1.ratio.total_cmp(&right.1.ratio);
    due.iter().enumerate().max_by(dirtier).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Segments of 100 bytes and 10 offsets, timestamps as their offsets; the last one is active.
    fn log(segments: i64) -> LogFacts {
        LogFacts {
            log_start_offset: 0,
            log_end_offset: segments * 10,
            stable_offset: segments * 10,
            cleaned_to: None,
            segments: (0..segments)
                .map(|number| SegmentFacts {
                    base_offset: number * 10,
                    bytes: 100,
                    largest_timestamp: number * 10 + 9,
                    first_timestamp: Some(number * 10),
                })
                .collect(),
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
        }
    }

    /// What is dirty, what is not to be touched, the dirty bytes, and the share of them.
    fn check(
        name: &str,
        change: impl FnOnce(&mut LogFacts),
        now_ms: i64,
        expected: Option<(i64, i64, u64, f64)>,
    ) -> Option<Dirty> {
        let mut facts = log(5);
        change(&mut facts);
        let dirty = facts.dirty(now_ms);
        let found = dirty.map(|dirty| {
            (dirty.first_dirty_offset, dirty.first_uncleanable_offset, dirty.cleanable_bytes, dirty.ratio)
        });
        assert_eq!(found, expected, "{name}");
        dirty
    }

    #[test]
    fn what_is_dirty() {
        check("never cleaned", |_| {}, 1_000, Some((0, 40, 400, 1.0)));
        check("cleaned in part", |log| log.cleaned_to = Some(20), 1_000, Some((20, 40, 200, 0.5)));
        check("cleaned", |log| log.cleaned_to = Some(40), 1_000, Some((40, 40, 0, 0.0)));
        check("within a segment", |log| log.cleaned_to = Some(15), 1_000, Some((15, 40, 300, 0.75)));
        check("not stable", |log| log.stable_offset = 25, 1_000, Some((0, 20, 200, 1.0)));
        check("nothing stable", |log| log.stable_offset = 5, 1_000, None);
        check("only an active segment", |facts| *facts = log(1), 1_000, None);
        check("no record", |log| log.segments.iter_mut().for_each(|segment| segment.bytes = 0), 1_000, None);
        check("young", |log| log.min_compaction_lag_ms = 100, 125, Some((0, 20, 200, 1.0)));
        check("all young", |log| log.min_compaction_lag_ms = 100, 50, None);
        check("start within a segment", |log| log.log_start_offset = 15, 1_000, Some((15, 40, 300, 0.75)));
    }

    #[test]
    fn a_checkpoint_of_another_log() {
        for cleaned_to in [5, 51] {
            let change = |log: &mut LogFacts| {
                log.log_start_offset = 10;
                log.cleaned_to = Some(cleaned_to);
            };
            let dirty = check("invalid", change, 1_000, Some((10, 40, 300, 0.75))).unwrap();
            assert!(dirty.checkpoint_invalid, "{cleaned_to}");
        }
        assert!(!log(5).dirty(0).unwrap().checkpoint_invalid, "never cleaned is nothing to mend");
    }

    #[test]
    fn when_it_is_due() {
        let mut facts = log(5);
        facts.cleaned_to = Some(20);
        let dirty = facts.dirty(1_000).unwrap();
        assert!(!dirty.is_due(0.5), "the ratio must be passed");
        assert!(dirty.is_due(0.49));
        facts.max_compaction_lag_ms = 100;
        assert!(!facts.dirty(120).unwrap().overdue, "the oldest dirty segment begins at 20");
        assert!(facts.dirty(121).unwrap().is_due(0.9));
        facts.cleaned_to = Some(40);
        assert!(!facts.dirty(10_000).unwrap().is_due(0.0), "nothing to clean is never due");
    }

    #[test]
    fn the_dirtiest_is_next() {
        let of = |ratio| Dirty {
            first_dirty_offset: 0,
            first_uncleanable_offset: 0,
            checkpoint_invalid: false,
            cleanable_bytes: 1,
            ratio,
            overdue: false,
        };
        assert_eq!(filthiest(&[]), None);
        assert_eq!(filthiest(&[of(0.1), of(0.9), of(0.5)]), Some(1));
    }

    proptest! {
        #[test]
        fn what_is_cleaned_is_closed_and_stable(
            segments in 1..8_i64,
            start in 0..80_i64,
            stable in 0..80_i64,
            cleaned_to in proptest::option::of(0..100_i64),
            min_lag in 0..60_i64,
            now_ms in 0..120_i64,
        ) {
            let mut facts = log(segments);
            facts.log_start_offset = start.min(facts.log_end_offset);
            facts.stable_offset = stable.clamp(facts.log_start_offset, facts.log_end_offset);
            facts.cleaned_to = cleaned_to;
            facts.min_compaction_lag_ms = min_lag;
            let Some(dirty) = facts.dirty(now_ms) else { return Ok(()) };
            let bound = dirty.first_uncleanable_offset;
            prop_assert!(bound <= facts.stable_offset && bound <= (segments - 1) * 10);
            prop_assert!(facts.segments.iter().any(|segment| segment.base_offset == bound));
            prop_assert!((0.0..=1.0).contains(&dirty.ratio));
            let cleaned = |segment: &&SegmentFacts| segment.base_offset >= dirty.first_dirty_offset && segment.base_offset < bound;
            for segment in facts.segments.iter().filter(cleaned) {
                prop_assert!(min_lag == 0 || segment.largest_timestamp <= now_ms - min_lag);
            }
        }
    }
}
