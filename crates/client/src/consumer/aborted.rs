//! Which batches of a fetch belong to transactions that were aborted.

use std::collections::{HashSet, VecDeque};

use ottla_protocol::messages::fetch_response::AbortedTransaction;

/// The aborted transactions among fetched records. Batches are told in the order of their offsets.
#[derive(Debug, Default)]
pub(crate) struct AbortedTransactions {
    /// Those that begin later, by their first offset.
    later: VecDeque<(i64, i64)>,
    /// The producers whose transaction at this place was aborted.
    open: HashSet<i64>,
}

impl AbortedTransactions {
    pub(crate) fn new(transactions: &[AbortedTransaction]) -> AbortedTransactions {
        let mut later: Vec<(i64, i64)> =
            transactions.iter().map(|aborted| (aborted.first_offset, aborted.producer_id)).collect();
        later.sort_unstable();
        AbortedTransactions { later: later.into(), open: HashSet::new() }
    }

    /// Whether a transactional batch that ends with this offset is one of them.
    pub(crate) fn contains(&mut self, producer_id: i64, last_offset: i64) -> bool {
        self.advance(last_offset);
        self.open.contains(&producer_id)
    }

    /// An abort marker at this offset: what the producer writes later is another transaction.
    pub(crate) fn aborted(&mut self, producer_id: i64, offset: i64) {
        self.advance(offset);
        self.open.remove(&producer_id);
    }

    fn advance(&mut self, offset: i64) {
        while let Some(&(first_offset, producer_id)) = self.later.front()
            && first_offset <= offset
        {
            self.later.pop_front();
            self.open.insert(producer_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_open_and_end() {
        let aborted =
            |producer_id, first_offset| AbortedTransaction { producer_id, first_offset, ..Default::default() };
        // Out of order, as a broker may have them.
        let mut transactions = AbortedTransactions::new(&[aborted(2, 7), aborted(1, 3), aborted(1, 20)]);
        assert!(!transactions.contains(1, 2), "before it began");
        assert!(transactions.contains(1, 4));
        assert!(!transactions.contains(2, 5));
        assert!(transactions.contains(2, 9));
        transactions.aborted(1, 10);
        assert!(!transactions.contains(1, 12), "the next one was committed");
        assert!(transactions.contains(2, 12));
        assert!(transactions.contains(1, 21), "and the one after that was not");
    }
}
