//! Which records of an end-to-end measurement were acknowledged, and which came: each is known by its producer and its
//! number, so that one that comes twice does not make up for one that is lost. Two bits for a record.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// A record of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordId {
    /// Which producer; below 2^16.
    pub producer: usize,
    /// Which of its records, from 0 on; below 2^48.
    pub number: u64,
}

const NUMBER_BITS: u32 = 48;

impl RecordId {
    pub fn to_u64(self) -> u64 {
        (self.producer as u64) << NUMBER_BITS | self.number & ((1 << NUMBER_BITS) - 1)
    }

    pub fn from_u64(value: u64) -> RecordId {
        RecordId { producer: (value >> NUMBER_BITS) as usize, number: value & ((1 << NUMBER_BITS) - 1) }
    }
}

/// The records of all producers of a run.
#[derive(Debug)]
pub struct Ledger(Vec<Account>);

#[derive(Debug, Default)]
struct Account {
    /// How many records there are: what claims a higher number is none of ours, and gets no memory.
    handed_over: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    acknowledged: Bits,
    received: Bits,
    /// Acknowledged, and not received.
    missing: u64,
    duplicates: u64,
}

impl Ledger {
    pub fn new(producers: usize) -> Ledger {
        Ledger((0..producers).map(|_| Account::default()).collect())
    }

    /// Before a record is sent.
    pub fn handed_over(&self, record: RecordId) {
        self.0[record.producer].handed_over.store(record.number + 1, Ordering::Release);
    }

    pub fn acknowledged(&self, record: RecordId) {
        let mut entries = self.0[record.producer].entries.lock();
        if !entries.acknowledged.set(record.number) && !entries.received.has(record.number) {
            entries.missing += 1;
        }
    }

    pub fn received(&self, record: RecordId) {
        let Some(account) = self.0.get(record.producer) else { return };
        if record.number >= account.handed_over.load(Ordering::Acquire) {
            return;
        }
        let mut entries = account.entries.lock();
        if entries.received.set(record.number) {
            entries.duplicates += 1;
        } else if entries.acknowledged.has(record.number) {
            entries.missing -= 1;
        }
    }

    /// Records acknowledged and not received.
    pub fn missing(&self) -> u64 {
        self.0.iter().map(|account| account.entries.lock().missing).sum()
    }

    /// How often a record came that had come before.
    pub fn duplicates(&self) -> u64 {
        self.0.iter().map(|account| account.entries.lock().duplicates).sum()
    }
}

#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn has(&self, number: u64) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Whether it was set before.
    fn set(&mut self, number: u64) -> bool {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let before = self.0[word] & bit != 0;
        self.0[word] |= bit;
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(producer: usize, number: u64) -> RecordId {
        RecordId { producer, number }
    }

    #[test]
    fn a_record_that_comes_twice_does_not_make_up_for_a_lost_one() {
        let ledger = Ledger::new(2);
        for number in 0..100 {
            ledger.handed_over(id(1, number));
            ledger.acknowledged(id(1, number));
        }
        assert_eq!(ledger.missing(), 100);
        for number in (0..99).chain([7]) {
            ledger.received(id(1, number));
        }
        assert_eq!((ledger.missing(), ledger.duplicates()), (1, 1));
        ledger.received(id(1, 99));
        assert_eq!(ledger.missing(), 0);
    }

    #[test]
    fn one_that_was_not_acknowledged_is_not_missed_and_makes_up_for_nothing() {
        let ledger = Ledger::new(1);
        ledger.handed_over(id(0, 1));
        ledger.received(id(0, 0));
        assert_eq!(ledger.missing(), 0);
        ledger.acknowledged(id(0, 1));
        assert_eq!(ledger.missing(), 1);
        // Received before it was acknowledged.
        ledger.acknowledged(id(0, 0));
        assert_eq!(ledger.missing(), 1);
    }

    #[test]
    fn what_others_made_up_gets_no_memory() {
        let ledger = Ledger::new(1);
        ledger.handed_over(id(0, 0));
        for record in [id(0, 1), id(0, (1 << NUMBER_BITS) - 1), id(1, 0), id(60_000, 0)] {
            ledger.received(record);
        }
        assert_eq!((ledger.missing(), ledger.duplicates()), (0, 0));
        assert_eq!(ledger.0[0].entries.lock().received.0.len(), 0);
    }

    #[test]
    fn ids_survive_the_wire() {
        for record in [id(0, 0), id(1023, (1 << NUMBER_BITS) - 1), id(7, 123_456_789_012)] {
            assert_eq!(RecordId::from_u64(record.to_u64()), record);
        }
    }
}
