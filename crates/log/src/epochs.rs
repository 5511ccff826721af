//! The leader epochs of a partition: which leader wrote from which offset on (KIP-101).
//!
//! Invariant: epochs and start offsets both rise.

use std::sync::Arc;

use ottla_record::BatchHeader;

use crate::forgotten_epochs::ForgottenEpochs;
use crate::scan::InvalidBatchBytes;

/// Kafka's number for "no epoch".
pub(crate) const NO_EPOCH: i32 = -1;

/// From `start_offset` on, batches carry `epoch`, until the next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    pub epoch: i32,
    pub start_offset: i64,
}

/// The epochs of one partition, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaderEpochs {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochs {
    pub(crate) fn new(entries: Vec<EpochEntry>) -> LeaderEpochs {
        let epochs = LeaderEpochs { entries };
        epochs.check_invariants();
        epochs
    }

    pub(crate) fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    pub(crate) fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// Notes that `epoch` writes from `start_offset` on. Entries it contradicts are removed. Whether anything changed.
    pub(crate) fn assign(&mut self, epoch: i32, start_offset: i64) -> bool {
        assert!(epoch >= 0 && start_offset >= 0, "invariant: an epoch entry is not negative");
        if let Some(latest) = self.latest()
            && latest.epoch == epoch
            && latest.start_offset <= start_offset
        {
            return false;
        }
        while self.latest().is_some_and(|last| last.epoch >= epoch || last.start_offset >= start_offset) {
            self.entries.pop();
        }
        self.entries.push(EpochEntry { epoch, start_offset });
        self.check_invariants();
        true
    }

    /// The log now ends at `end_offset`. Whether anything changed.
    pub(crate) fn truncate_from_end(&mut self, end_offset: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.start_offset < end_offset);
        self.entries.len() != before
    }

    /// Later epochs than this one cannot be. Whether anything changed.
    pub(crate) fn forget_above(&mut self, epoch: i32) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.epoch <= epoch);
        self.entries.len() != before
    }

    /// The log now begins at `start_offset`: the epoch that wrote there begins there. Whether anything changed.
    pub(crate) fn truncate_from_start(&mut self, start_offset: i64) -> bool {
        let covered = self.entries.iter().take_while(|entry| entry.start_offset <= start_offset).count();
        if covered == 0 || (covered == 1 && self.entries[0].start_offset == start_offset) {
            return false;
        }
        self.entries.drain(..covered - 1);
        self.entries[0].start_offset = start_offset;
        self.check_invariants();
        true
    }

    /// The end offset of the largest epoch ≤ the one asked for, as OffsetForLeaderEpoch wants it: `None` when the epoch
    /// is unknown because it is larger than any here.
    pub(crate) fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> Option<(i32, i64)> {
        let latest = self.latest()?;
        if epoch == NO_EPOCH || epoch > latest.epoch {
            return None;
        }
        if epoch == latest.epoch {
            return Some((epoch, log_end_offset));
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end_offset = self.entries[higher].start_offset;
        // Below the first known epoch the answer is that epoch's start: what came before is gone.
        let floor = higher.checked_sub(1).map_or(epoch, |index| self.entries[index].epoch);
        Some((floor, end_offset))
    }

    /// The epoch that wrote this offset.
    pub(crate) fn epoch_at(&self, offset: i64) -> Option<i32> {
        epoch_at(&self.entries, offset)
    }

    /// The entries that tell the epochs of this offset and those after it.
    pub(crate) fn entries_from(&self, offset: i64) -> &[EpochEntry] {
        let after = self.entries.partition_point(|entry| entry.start_offset <= offset);
        &self.entries[after.saturating_sub(1)..]
    }

    fn check_invariants(&self) {
        for pair in self.entries.windows(2) {
            assert!(
                pair[0].epoch < pair[1].epoch && pair[0].start_offset < pair[1].start_offset,
                "invariant: leader epochs rise"
            );
        }
    }
}

/// The epoch among these that wrote this offset.
pub(crate) fn epoch_at(entries: &[EpochEntry], offset: i64) -> Option<i32> {
    let after = entries.partition_point(|entry| entry.start_offset <= offset);
    after.checked_sub(1).map(|index| entries[index].epoch)
}

/// What is known of the epochs of batches from an offset on.
#[derive(Clone, Debug)]
pub(crate) struct KnownEpochs {
    pub(crate) entries: Vec<EpochEntry>,
    /// They count more: the batches had them when the log was adopted.
    pub(crate) forgotten: Arc<ForgottenEpochs>,
}

impl KnownEpochs {
    /// Whether a batch is of the epoch it should be of.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<(), InvalidBatchBytes> {
        let found = header.partition_leader_epoch;
        match self.forgotten.epoch_at(header.last_offset()) {
            Some(expected) if found == expected => Ok(()),
            Some(expected) => Err(InvalidBatchBytes::Epoch { found, expected }),
            None => check_epoch(&self.entries, header),
        }
    }
}

/// Whether a batch is of the epoch that these entries give. What is before the first of them is not known: a log may
/// begin earlier than its epochs after a start, when its own start was not durable.
pub(crate) fn check_epoch(entries: &[EpochEntry], header: &BatchHeader) -> Result<(), InvalidBatchBytes> {
    let found = header.partition_leader_epoch;
    let expected = match (epoch_at(entries, header.last_offset()), entries.first()) {
        (Some(epoch), _) => epoch,
        (None, Some(first)) => found.min(first.epoch),
        (None, None) => found,
    };
    if found == expected { Ok(()) } else { Err(InvalidBatchBytes::Epoch { found, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs::new(entries.iter().map(|&(epoch, start_offset)| EpochEntry { epoch, start_offset }).collect())
    }

    fn pairs(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
        epochs.entries().iter().map(|entry| (entry.epoch, entry.start_offset)).collect()
    }

    #[test]
    fn assigning() {
        for (before, (epoch, offset), after, changed) in [
            (&[][..], (0, 0), &[(0, 0)][..], true),
            (&[(0, 0)], (0, 10), &[(0, 0)], false),
            (&[(0, 0)], (1, 10), &[(0, 0), (1, 10)], true),
            // Nothing was written under epoch 1.
            (&[(0, 0), (1, 10)], (2, 10), &[(0, 0), (2, 10)], true),
            (&[(0, 0), (3, 10)], (2, 20), &[(0, 0), (2, 20)], true),
            (&[(0, 0), (1, 10)], (1, 5), &[(0, 0), (1, 5)], true),
        ] {
            let mut state = epochs(before);
            assert_eq!(state.assign(epoch, offset), changed, "{before:?} + {epoch},{offset}");
            assert_eq!(pairs(&state), after, "{before:?} + {epoch},{offset}");
        }
    }

    #[test]
    fn end_offsets() {
        let state = epochs(&[(2, 10), (4, 20), (7, 30)]);
        for (epoch, expected) in [
            (-1, None),
            (-2, Some((-2, 10))),
            (1, Some((1, 10))),
            (2, Some((2, 20))),
            (3, Some((2, 20))),
            (4, Some((4, 30))),
            (6, Some((4, 30))),
            (7, Some((7, 99))),
            (8, None),
        ] {
            assert_eq!(state.end_offset_for(epoch, 99), expected, "epoch {epoch}");
        }
        assert_eq!(epochs(&[]).end_offset_for(0, 99), None);
    }

    #[test]
    fn truncation() {
        for (start, after) in [
            (0, &[(1, 0), (2, 10), (3, 20)][..]),
            (5, &[(1, 5), (2, 10), (3, 20)]),
            (10, &[(2, 10), (3, 20)]),
            (25, &[(3, 25)]),
        ] {
            let mut state = epochs(&[(1, 0), (2, 10), (3, 20)]);
            state.truncate_from_start(start);
            assert_eq!(pairs(&state), after, "from start {start}");
        }
        for (end, after) in [(30, &[(1, 0), (2, 10), (3, 20)][..]), (20, &[(1, 0), (2, 10)]), (0, &[])] {
            let mut state = epochs(&[(1, 0), (2, 10), (3, 20)]);
            state.truncate_from_end(end);
            assert_eq!(pairs(&state), after, "from end {end}");
        }
    }

    #[test]
    fn epoch_of_an_offset() {
        let state = epochs(&[(2, 10), (4, 20)]);
        for (offset, expected) in [(9, None), (10, Some(2)), (19, Some(2)), (20, Some(4)), (1000, Some(4))] {
            assert_eq!(state.epoch_at(offset), expected, "offset {offset}");
            assert_eq!(epoch_at(state.entries_from(offset), offset), expected, "offset {offset}");
        }
    }
}
