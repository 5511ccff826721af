//! Up to where the fate of every record is known.
//!
//! State: the transactions whose markers the high watermark has not passed, by where they begin, and the first one still
//! open. Pure: the log tells what happened.

use std::collections::BTreeMap;

use super::CompletedTransaction;

/// What keeps the last stable offset of a log below its high watermark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnstableOffsets {
    /// Where the first open transaction begins.
    first_undecided: Option<i64>,
    /// Ended transactions, by first offset, with the offset of their marker: a marker that is not replicated may be lost.
    unreplicated: BTreeMap<i64, i64>,
}

impl UnstableOffsets {
    pub(crate) fn new(
        first_undecided: Option<i64>,
        completed: impl IntoIterator<Item = (i64, i64)>,
    ) -> UnstableOffsets {
        UnstableOffsets { first_undecided, unreplicated: completed.into_iter().collect() }
    }

    /// A transactional batch or a marker was appended. `first_undecided` is where the first open transaction now begins.
    pub(crate) fn handle_append(&mut self, first_undecided: Option<i64>, completed: Option<&CompletedTransaction>) {
        self.first_undecided = first_undecided;
        if let Some(completed) = completed {
            self.unreplicated.insert(completed.first_offset, completed.last_offset);
        }
    }

    /// Markers below the high watermark are final.
    pub(crate) fn handle_high_watermark(&mut self, high_watermark: i64) {
        self.unreplicated.retain(|_, marker| *marker >= high_watermark);
    }

    /// The log ends at `end_offset` now.
    pub(crate) fn handle_truncation(&mut self, end_offset: i64, first_undecided: Option<i64>) {
        self.first_undecided = first_undecided;
        self.unreplicated.retain(|_, marker| *marker < end_offset);
    }

    /// The first offset whose fate is open, if there is one.
    pub(crate) fn first_unstable_offset(&self) -> Option<i64> {
        let unreplicated = self.unreplicated.first_key_value().map(|(first_offset, _)| *first_offset);
        self.first_undecided.into_iter().chain(unreplicated).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(first_offset: i64, last_offset: i64) -> CompletedTransaction {
        CompletedTransaction { producer_id: 1, first_offset, last_offset, aborted: false, last_stable_offset: 0 }
    }

    #[test]
    fn an_ended_transaction_is_unstable_until_its_marker_is_replicated() {
        let mut offsets = UnstableOffsets::default();
        assert_eq!(offsets.first_unstable_offset(), None);
        offsets.handle_append(Some(10), None);
        assert_eq!(offsets.first_unstable_offset(), Some(10));
        // A second one begins at 12, the first ends at 15.
        offsets.handle_append(Some(12), Some(&completed(10, 15)));
        assert_eq!(offsets.first_unstable_offset(), Some(10));
        offsets.handle_high_watermark(15);
        assert_eq!(offsets.first_unstable_offset(), Some(10), "the marker is not below it");
        offsets.handle_high_watermark(16);
        assert_eq!(offsets.first_unstable_offset(), Some(12));
        offsets.handle_append(None, Some(&completed(12, 20)));
        offsets.handle_high_watermark(21);
        assert_eq!(offsets.first_unstable_offset(), None);
        assert_eq!(offsets, UnstableOffsets::default());
    }

    #[test]
    fn a_truncation_opens_what_it_cuts_the_end_of() {
        let mut offsets = UnstableOffsets::new(None, [(10, 15), (12, 20)]);
        offsets.handle_truncation(18, Some(12));
        assert_eq!(offsets.first_unstable_offset(), Some(10));
        offsets.handle_high_watermark(18);
        assert_eq!(offsets.first_unstable_offset(), Some(12));
    }
}
