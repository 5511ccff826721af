//! The leader of a partition: how far each replica counts, and the high watermark that follows from it.
//!
//! State: the leader's own log end and flushed offsets, and the high watermark. Every offset is exclusive.
//!
//! Invariants: `high_watermark <= counted offset <= log_end_offset`, `flushed_offset <= log_end_offset`, and the high
//! watermark never goes back while one leader leads.
//!
//! Absent so far: followers. The in-sync replica set is the leader alone, so the high watermark is what the leader
//! counts of itself.

use ottla_types::LeaderEpoch;

/// What a replica must have done with a record for it to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Required {
    /// It is on disk, covered by a finished flush.
    Flushed,
    /// It is appended; the page cache may hold it.
    Appended,
}

/// A partition as its leader sees it.
#[derive(Clone, Debug)]
pub struct Leader {
    leader_epoch: LeaderEpoch,
    required: Required,
    log_end_offset: i64,
    flushed_offset: i64,
    high_watermark: i64,
}

impl Leader {
    /// Takes the lead over a log as recovery left it.
    pub fn new(leader_epoch: LeaderEpoch, required: Required, log_end_offset: i64, flushed_offset: i64) -> Leader {
        assert!(flushed_offset <= log_end_offset, "flushed {flushed_offset} beyond the log end {log_end_offset}");
        let mut leader = Leader { leader_epoch, required, log_end_offset, flushed_offset, high_watermark: 0 };
        leader.high_watermark = leader.counted_offset();
        leader
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    pub fn log_end_offset(&self) -> i64 {
        self.log_end_offset
    }

    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The log grew. Answers the new high watermark if it moved.
    pub fn handle_append(&mut self, log_end_offset: i64) -> Option<i64> {
        // Two appends may be reported in either order; the log's end itself never goes back under a leader.
        self.log_end_offset = self.log_end_offset.max(log_end_offset);
        self.advance()
    }

    /// A flush that covers everything below this offset has finished. Answers the new high watermark if it moved.
    pub fn handle_flush(&mut self, flushed_offset: i64) -> Option<i64> {
        self.log_end_offset = self.log_end_offset.max(flushed_offset);
        self.flushed_offset = self.flushed_offset.max(flushed_offset);
        self.advance()
    }

    /// `ottla.durability` was changed. Answers the new high watermark if it moved; it never moves back, so records
    /// acknowledged under the weaker rule stay visible.
    pub fn handle_requirement(&mut self, required: Required) -> Option<i64> {
        self.required = required;
        self.advance()
    }

    /// Panics if an invariant of the type is broken.
    pub fn check_invariants(&self) {
        assert!(self.high_watermark <= self.log_end_offset);
        assert!(self.flushed_offset <= self.log_end_offset);
    }

    fn counted_offset(&self) -> i64 {
        match self.required {
            Required::Flushed => self.flushed_offset,
            Required::Appended => self.log_end_offset,
        }
    }

    fn advance(&mut self) -> Option<i64> {
        let counted = self.counted_offset();
        assert!(counted <= self.log_end_offset, "counted {counted} beyond the log end {}", self.log_end_offset);
        (counted > self.high_watermark).then(|| {
            self.high_watermark = counted;
            counted
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_counts_when_it_is_flushed() {
        let mut leader = Leader::new(LeaderEpoch(3), Required::Flushed, 10, 10);
        assert_eq!(leader.high_watermark(), 10);
        assert_eq!(leader.handle_append(15), None);
        assert_eq!(leader.handle_flush(12), Some(12));
        assert_eq!(leader.handle_flush(12), None);
        assert_eq!(leader.handle_flush(15), Some(15));
    }

    #[test]
    fn in_page_cache_mode_an_append_is_enough() {
        let mut leader = Leader::new(LeaderEpoch(0), Required::Appended, 0, 0);
        assert_eq!(leader.handle_append(5), Some(5));
        assert_eq!(leader.handle_append(3), None, "reports may overtake each other");
        assert_eq!(leader.handle_flush(5), None);
    }

    #[test]
    fn a_stricter_rule_takes_nothing_back() {
        let mut leader = Leader::new(LeaderEpoch(0), Required::Appended, 0, 0);
        leader.handle_append(5);
        assert_eq!(leader.handle_requirement(Required::Flushed), None);
        assert_eq!(leader.high_watermark(), 5);
        assert_eq!(leader.handle_requirement(Required::Appended), None);
    }

    proptest! {
        #[test]
        fn the_high_watermark_never_passes_what_counts(steps in prop::collection::vec((0u8..3, 0i64..100), 0..60)) {
            let mut leader = Leader::new(LeaderEpoch(0), Required::Flushed, 0, 0);
            let (mut appended, mut flushed, mut before) = (0, 0, 0);
            for (kind, amount) in steps {
                if kind == 0 {
                    appended += amount;
                    leader.handle_append(appended);
                } else {
                    flushed = (flushed + amount).min(appended);
                    leader.handle_flush(flushed);
                }
                leader.check_invariants();
                prop_assert_eq!(leader.high_watermark(), flushed);
                prop_assert!(leader.high_watermark() >= before);
                before = leader.high_watermark();
            }
        }
    }
}
