//! What the log remembers of idempotent and transactional producers, to refuse what would come twice or out of order.
//!
//! Per producer id: its epoch, and the last five batches. Invariant: the batches of an entry all carry its epoch.
//! The state is a function of the log's batches (`replay`): it is rebuilt from the newest snapshot and what follows it.

mod snapshot;

use std::collections::BTreeMap;

use ottla_record::BatchHeader;

pub use snapshot::MalformedSnapshot;
pub(crate) use snapshot::{format_snapshot, parse_snapshot};

/// Batches remembered per producer: a client keeps at most five requests in flight.
pub(crate) const WINDOW: usize = 5;

const NO_EPOCH: i16 = -1;
const NO_SEQUENCE: i32 = -1;

/// A batch a producer wrote, as far as recognising it again needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    pub last_sequence: i32,
    pub last_offset: i64,
    /// Last minus first offset, and so last minus first sequence.
    pub offset_delta: i32,
    pub timestamp: i64,
}

impl ProducerBatch {
    /// The sequence of its first record; after the greatest number comes 0.
    pub fn first_sequence(&self) -> i32 {
        let difference = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        difference.rem_euclid(1 << 31) as i32
    }

    pub fn base_offset(&self) -> i64 {
        self.last_offset.saturating_sub(i64::from(self.offset_delta))
    }
}

/// What is known of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    pub producer_epoch: i16,
    pub coordinator_epoch: i32,
    pub last_timestamp: i64,
    pub current_transaction_first_offset: Option<i64>,
    /// At most five, oldest first.
    batches: Vec<ProducerBatch>,
}

impl ProducerEntry {
    fn empty() -> ProducerEntry {
        ProducerEntry {
            producer_epoch: NO_EPOCH,
            coordinator_epoch: -1,
            last_timestamp: -1,
            current_transaction_first_offset: None,
            batches: Vec::new(),
        }
    }

    /// The sequence of the last record, or -1.
    pub fn last_sequence(&self) -> i32 {
        self.batches.last().map_or(NO_SEQUENCE, |batch| batch.last_sequence)
    }

    /// The remembered batches, oldest first.
    pub fn batches(&self) -> &[ProducerBatch] {
        &self.batches
    }

    fn set_epoch(&mut self, epoch: i16) {
        if self.producer_epoch != epoch {
            self.producer_epoch = epoch;
            self.batches.clear();
        }
    }

    fn is_expired(&self, now_ms: i64, expiration_ms: i64) -> bool {
        self.current_transaction_first_offset.is_none() && now_ms.saturating_sub(self.last_timestamp) >= expiration_ms
    }
}

/// What the log has last of a producer: cleaning must not lose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastRecord {
    /// `None`: since its epoch began there was only a marker.
    pub(crate) last_data_offset: Option<i64>,
    pub(crate) producer_epoch: i16,
}

/// What to do with a batch a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SequenceCheck {
    InOrder,
    /// It is in the log already: answered as it was the first time.
    Duplicate(ProducerBatch),
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    #[error(
        "producer {producer_id} sent sequence {found} with epoch {producer_epoch}, after sequence {last} of epoch {last_epoch}"
    )]
    OutOfOrder { producer_id: i64, producer_epoch: i16, found: i32, last: i32, last_epoch: i16 },
    #[error("producer {producer_id} sent epoch {found}, its epoch is {current}")]
    InvalidEpoch { producer_id: i64, found: i16, current: i16 },
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    entries: BTreeMap<i64, ProducerEntry>,
    /// The state covers the log up to here (exclusive).
    end_offset: i64,
}

impl Producers {
    pub(crate) fn new(end_offset: i64, entries: BTreeMap<i64, ProducerEntry>) -> Producers {
        Producers { entries, end_offset }
    }

    pub(crate) fn entries(&self) -> &BTreeMap<i64, ProducerEntry> {
        &self.entries
    }

    /// Where the first open transaction begins.
    pub(crate) fn first_undecided_offset(&self) -> Option<i64> {
        self.entries.values().filter_map(|entry| entry.current_transaction_first_offset).min()
    }

    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// What the log has last of each producer, by id.
    pub(crate) fn last_records(&self) -> BTreeMap<i64, LastRecord> {
        let last = |entry: &ProducerEntry| LastRecord {
            last_data_offset: entry.batches.last().map(|batch| batch.last_offset),
            producer_epoch: entry.producer_epoch,
        };
        self.entries.iter().map(|(id, entry)| (*id, last(entry))).collect()
    }

    pub(crate) fn set_end_offset(&mut self, end_offset: i64) {
        self.end_offset = end_offset;
    }

    /// Decides about a batch of a client. An unknown producer may begin anywhere: its state may have expired (KIP-360).
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<SequenceCheck, SequenceError> {
        let Some(entry) = self.entries.get(&header.producer_id) else { return Ok(SequenceCheck::InOrder) };
        let (first, last) = (header.base_sequence, header.last_sequence());
        if header.producer_epoch == entry.producer_epoch {
            let duplicate =
                entry.batches.iter().find(|batch| batch.first_sequence() == first && batch.last_sequence == last);
            if let Some(batch) = duplicate {
                return Ok(SequenceCheck::Duplicate(*batch));
            }
        }
        check_epoch(header, entry)?;
        let in_order = if header.producer_epoch == entry.producer_epoch {
            follows(entry.last_sequence(), first)
        } else {
            first == 0
        };
        if in_order || entry.producer_epoch == NO_EPOCH {
            Ok(SequenceCheck::InOrder)
        } else {
            Err(SequenceError::OutOfOrder {
                producer_id: header.producer_id,
                producer_epoch: header.producer_epoch,
                found: first,
                last: entry.last_sequence(),
                last_epoch: entry.producer_epoch,
            })
        }
    }

    /// Decides about a batch of a coordinator: it carries no sequence, only the epoch counts.
    pub(crate) fn check_epoch_only(&self, header: &BatchHeader) -> Result<(), SequenceError> {
        self.entries.get(&header.producer_id).map_or(Ok(()), |entry| check_epoch(header, entry))
    }

    /// Takes in a batch that is in the log. `coordinator_epoch` is that of the marker in a control batch, if it has one.
    pub(crate) fn replay(&mut self, header: &BatchHeader, coordinator_epoch: Option<i32>) {
        if header.has_producer_id() {
            if header.attributes.is_control() {
                self.replay_marker(header, coordinator_epoch);
            } else {
                self.replay_data(header);
            }
        }
        self.end_offset = header.next_offset();
    }

    fn replay_data(&mut self, header: &BatchHeader) {
        let entry = self.entries.entry(header.producer_id).or_insert_with(ProducerEntry::empty);
        entry.set_epoch(header.producer_epoch);
        if entry.batches.len() == WINDOW {
            entry.batches.remove(0);
        }
        entry.batches.push(ProducerBatch {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
        entry.last_timestamp = header.max_timestamp;
        if header.attributes.is_transactional() && entry.current_transaction_first_offset.is_none() {
            entry.current_transaction_first_offset = Some(header.base_offset);
        }
    }

    fn replay_marker(&mut self, header: &BatchHeader, coordinator_epoch: Option<i32>) {
        let entry = self.entries.entry(header.producer_id).or_insert_with(ProducerEntry::empty);
        entry.set_epoch(header.producer_epoch);
        entry.current_transaction_first_offset = None;
        entry.last_timestamp = header.max_timestamp;
        if let Some(coordinator_epoch) = coordinator_epoch {
            entry.coordinator_epoch = coordinator_epoch;
        }
    }

    /// Forgets producers that wrote nothing for `producer.id.expiration.ms`.
    pub(crate) fn remove_expired(&mut self, now_ms: i64, expiration_ms: i64) {
        self.entries.retain(|_, entry| !entry.is_expired(now_ms, expiration_ms));
    }
}

fn check_epoch(header: &BatchHeader, entry: &ProducerEntry) -> Result<(), SequenceError> {
    if header.producer_epoch < entry.producer_epoch {
        return Err(SequenceError::InvalidEpoch {
            producer_id: header.producer_id,
            found: header.producer_epoch,
            current: entry.producer_epoch,
        });
    }
    Ok(())
}

fn follows(last: i32, next: i32) -> bool {
    i64::from(next) == i64::from(last) + 1 || (next == 0 && last == i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of producer 7.
    fn batch(epoch: i16, base_sequence: i32, count: i32, base_offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset,
            batch_length: 100,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: ottla_record::Attributes::default(),
            last_offset_delta: count - 1,
            base_timestamp: 0,
            max_timestamp: base_offset,
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence,
            record_count: count,
        }
    }

    fn after(batches: &[BatchHeader]) -> Producers {
        let mut producers = Producers::default();
        for header in batches {
            producers.replay(header, None);
        }
        producers
    }

    #[derive(Debug, PartialEq)]
    enum Verdict {
        InOrder,
        DuplicateAt(i64),
        OutOfOrder,
        InvalidEpoch,
    }

    fn check(producers: &Producers, header: &BatchHeader) -> Verdict {
        match producers.check(header) {
            Ok(SequenceCheck::InOrder) => Verdict::InOrder,
            Ok(SequenceCheck::Duplicate(batch)) => Verdict::DuplicateAt(batch.base_offset()),
            Err(SequenceError::OutOfOrder { .. }) => Verdict::OutOfOrder,
            Err(SequenceError::InvalidEpoch { .. }) => Verdict::InvalidEpoch,
        }
    }

    #[test]
    fn sequences_of_one_epoch() {
        let six: Vec<_> = (0..6).map(|number| batch(0, number * 10, 10, i64::from(number) * 100)).collect();
        let producers = after(&six);
        for (header, expected) in [
            (batch(0, 60, 1, 0), Verdict::InOrder),
            (batch(0, 61, 1, 0), Verdict::OutOfOrder),
            (batch(0, 59, 1, 0), Verdict::OutOfOrder),
            (batch(0, 50, 10, 0), Verdict::DuplicateAt(500)),
            (batch(0, 10, 10, 0), Verdict::DuplicateAt(100)),
            // The sixth batch pushed it out of the window.
            (batch(0, 0, 10, 0), Verdict::OutOfOrder),
            // Part of a known batch is not that batch.
            (batch(0, 50, 9, 0), Verdict::OutOfOrder),
        ] {
            assert_eq!(check(&producers, &header), expected, "{} + {}", header.base_sequence, header.record_count);
        }
    }

    #[test]
    fn epochs() {
        let producers = after(&[batch(3, 0, 10, 0)]);
        for (header, expected) in [
            (batch(2, 10, 1, 0), Verdict::InvalidEpoch),
            (batch(2, 0, 10, 0), Verdict::InvalidEpoch),
            (batch(4, 0, 1, 0), Verdict::InOrder),
            (batch(4, 10, 1, 0), Verdict::OutOfOrder),
            (batch(4, 0, 10, 0), Verdict::InOrder),
        ] {
            assert_eq!(check(&producers, &header), expected, "{} {}", header.producer_epoch, header.base_sequence);
        }
    }

    #[test]
    fn an_unknown_producer_begins_anywhere() {
        assert_eq!(check(&Producers::default(), &batch(5, 1234, 1, 0)), Verdict::InOrder);
    }

    #[test]
    fn sequences_wrap() {
        let producers = after(&[batch(0, i32::MAX - 9, 10, 0)]);
        assert_eq!(producers.entries[&7].last_sequence(), i32::MAX);
        assert_eq!(check(&producers, &batch(0, 0, 5, 0)), Verdict::InOrder);
        assert_eq!(check(&producers, &batch(0, 1, 5, 0)), Verdict::OutOfOrder);

        let across = after(&[batch(0, i32::MAX - 4, 10, 50)]);
        assert_eq!(across.entries[&7].last_sequence(), 4);
        assert_eq!(across.entries[&7].batches()[0].first_sequence(), i32::MAX - 4);
        assert_eq!(check(&across, &batch(0, i32::MAX - 4, 10, 0)), Verdict::DuplicateAt(50));
        assert_eq!(check(&across, &batch(0, 5, 1, 0)), Verdict::InOrder);
    }

    #[test]
    fn expiry_spares_open_transactions() {
        let mut open = batch(0, 0, 1, 1000);
        open.producer_id = 8;
        open.attributes = open.attributes.with_transactional(true);
        let mut producers = after(&[batch(0, 0, 1, 1000), open]);
        producers.remove_expired(1999, 1000);
        assert_eq!(producers.entries.len(), 2);
        producers.remove_expired(2000, 1000);
        assert_eq!(producers.entries.keys().copied().collect::<Vec<_>>(), [8]);
    }

    #[test]
    fn a_marker_ends_the_transaction_and_its_epoch() {
        let mut data = batch(0, 0, 3, 10);
        data.attributes = data.attributes.with_transactional(true);
        let mut marker = batch(1, -1, 1, 13);
        marker.attributes = data.attributes.with_control(true);
        let mut producers = after(&[data]);
        assert_eq!(producers.entries[&7].current_transaction_first_offset, Some(10));
        producers.replay(&marker, Some(4));
        let entry = &producers.entries[&7];
        assert_eq!(entry.current_transaction_first_offset, None);
        assert_eq!((entry.producer_epoch, entry.coordinator_epoch), (1, 4));
        assert_eq!(check(&producers, &batch(1, 0, 1, 0)), Verdict::InOrder);
        assert_eq!(check(&producers, &batch(1, 3, 1, 0)), Verdict::OutOfOrder);
    }
}
