//! What is known of transactions while the cleaner walks a log.
//!
//! Everything the cleaner sees is decided: it stays below the last stable offset. Records of aborted transactions go at
//! once. A marker stays as long as a batch of its transaction does, or an open reader may still need it.

use std::collections::{BTreeMap, BTreeSet};

use ottla_record::{BatchHeader, ControlType};

use crate::transactions::AbortedTransaction;

/// What a control batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Marker(ControlType),
    /// Not about transactions.
    Other,
    /// Its record is gone already.
    Empty,
}

#[derive(Clone, Debug, Default)]
pub(super) struct CleanedTransactions {
    /// Not reached yet, by their first offset and producer.
    ahead: BTreeMap<(i64, i64), AbortedTransaction>,
    /// By producer; whether a batch of it was met.
    aborted: BTreeMap<i64, (AbortedTransaction, bool)>,
    /// Producers with batches of a transaction that was committed, its marker not reached yet.
    committed: BTreeSet<i64>,
}

/// Whether a control batch is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MarkerVerdict {
    /// No batch of its transaction is left.
    pub(super) discardable: bool,
    /// The transaction stays in the index.
    pub(super) indexed: Option<AbortedTransaction>,
}

impl CleanedTransactions {
    /// Makes transactions known before their first batch is met.
    pub(super) fn add(&mut self, aborted: impl IntoIterator<Item = AbortedTransaction>) {
        self.ahead.extend(aborted.into_iter().map(|aborted| ((aborted.first_offset, aborted.producer_id), aborted)));
    }

    /// A batch of records: whether its transaction was aborted, so that it can go.
    pub(super) fn on_data(&mut self, header: &BatchHeader) -> bool {
        self.reach(header.last_offset());
        if !header.attributes.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some((aborted, met)) if aborted.last_offset > header.last_offset() => {
                *met = true;
                return true;
            }
            // Over, although its marker was not met: this is another.
            Some(_) => drop(self.aborted.remove(&header.producer_id)),
            None => {}
        }
        self.committed.insert(header.producer_id);
        false
    }

    pub(super) fn on_control(&mut self, header: &BatchHeader, control: Control) -> MarkerVerdict {
        self.reach(header.last_offset());
        let without_index = |discardable| MarkerVerdict { discardable, indexed: None };
        match control {
            Control::Empty => without_index(true),
            Control::Other => without_index(false),
            Control::Marker(ControlType::Commit) => without_index(!self.committed.remove(&header.producer_id)),
            Control::Marker(ControlType::Abort) => match self.aborted.remove(&header.producer_id) {
                Some((aborted, true)) => MarkerVerdict { discardable: false, indexed: Some(aborted) },
                _ => without_index(true),
            },
        }
    }

    fn reach(&mut self, offset: i64) {
        while let Some(next) = self.ahead.first_entry().filter(|next| next.key().0 <= offset) {
            let next = next.remove();
            self.aborted.entry(next.producer_id).or_insert((next, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cleaner::tests::header;

    fn data(producer_id: i64, offset: i64) -> BatchHeader {
        let mut header = header(offset, 1);
        header.producer_id = producer_id;
        header.attributes = header.attributes.with_transactional(true);
        header
    }

    fn aborted(producer_id: i64, first_offset: i64, last_offset: i64) -> AbortedTransaction {
        AbortedTransaction { first_offset, producer_id, last_offset, last_stable_offset: last_offset + 1 }
    }

    const ABORT: Control = Control::Marker(ControlType::Abort);
    const COMMIT: Control = Control::Marker(ControlType::Commit);

    #[test]
    fn records_of_aborted_transactions_go_and_their_marker_stays_for_a_while() {
        let mut transactions = CleanedTransactions::default();
        transactions.add([aborted(1, 10, 14), aborted(1, 20, 22)]);
        assert!(!transactions.on_data(&data(2, 9)), "another producer's");
        assert!(transactions.on_data(&data(1, 10)));
        assert!(!transactions.on_data(&header(11, 1)), "no transaction at all");
        let verdict = transactions.on_control(&data(1, 14), ABORT);
        assert_eq!(verdict, MarkerVerdict { discardable: false, indexed: Some(aborted(1, 10, 14)) });
        assert!(!transactions.on_data(&data(1, 15)), "committed between two that were aborted");
        assert!(!transactions.on_control(&data(1, 16), COMMIT).discardable);
        // The second one's batches were cleaned away before: nobody needs its marker.
        let verdict = transactions.on_control(&data(1, 22), ABORT);
        assert_eq!(verdict, MarkerVerdict { discardable: true, indexed: None });
    }

    #[test]
    fn a_marker_without_batches_can_go() {
        let mut transactions = CleanedTransactions::default();
        assert!(transactions.on_control(&data(1, 0), COMMIT).discardable);
        transactions.on_data(&data(1, 1));
        assert!(!transactions.on_control(&data(1, 2), COMMIT).discardable);
        assert!(transactions.on_control(&data(1, 3), COMMIT).discardable, "of the next transaction");
        assert!(transactions.on_control(&data(1, 4), Control::Empty).discardable);
        assert!(!transactions.on_control(&data(1, 5), Control::Other).discardable);
    }
}
