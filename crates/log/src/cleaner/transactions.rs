//! What is known of transactions while the cleaner walks a log.
//!
//! Everything the cleaner sees is decided: it stays below the last stable offset. Records of aborted transactions go at
//! once. A marker stays as long as a batch of its transaction does, or an open reader may still need it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut};
use ottla_record::{BatchHeader, ControlType};

/// A transaction that was aborted, as the transaction index has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AbortedTransaction {
    /// First, so that they sort by it.
    pub(crate) first_offset: i64,
    pub(crate) producer_id: i64,
    /// Of its marker.
    pub(crate) last_offset: i64,
    pub(crate) last_stable_offset: i64,
}

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
    /// Not reached yet.
    ahead: BTreeSet<AbortedTransaction>,
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
    /// Makes transactions known before the first batch at or above `from` is met.
    pub(super) fn add(&mut self, aborted: impl IntoIterator<Item = AbortedTransaction>, from: i64) {
        self.ahead.extend(aborted.into_iter().filter(|aborted| aborted.last_offset >= from));
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
        while let Some(next) = self.ahead.first().filter(|next| next.first_offset <= offset).copied() {
            self.ahead.remove(&next);
            self.aborted.entry(next.producer_id).or_insert((next, false));
        }
    }
}

/// Of an entry of a `.txnindex`, and bytes of one.
const INDEX_VERSION: i16 = 0;
const ENTRY_BYTES: usize = 34;

/// A `.txnindex` with these entries, in Kafka's format.
pub(super) fn format_index(aborted: &[AbortedTransaction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(aborted.len() * ENTRY_BYTES);
    for transaction in aborted {
        bytes.put_i16(INDEX_VERSION);
        bytes.put_i64(transaction.producer_id);
        bytes.put_i64(transaction.first_offset);
        bytes.put_i64(transaction.last_offset);
        bytes.put_i64(transaction.last_stable_offset);
    }
    bytes
}

/// The entries of a `.txnindex`; `None` when it is not one.
pub(super) fn parse_index(mut bytes: &[u8]) -> Option<Vec<AbortedTransaction>> {
    let mut aborted = Vec::new();
    while bytes.len() >= ENTRY_BYTES {
        if bytes.get_i16() != INDEX_VERSION {
            return None;
        }
        let producer_id = bytes.get_i64();
        let (first_offset, last_offset, last_stable_offset) = (bytes.get_i64(), bytes.get_i64(), bytes.get_i64());
        aborted.push(AbortedTransaction { first_offset, producer_id, last_offset, last_stable_offset });
    }
    bytes.is_empty().then_some(aborted)
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
        transactions.add([aborted(1, 2, 4), aborted(1, 10, 14), aborted(1, 20, 22)], 5);
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
