//! What the log remembers of idempotent and transactional producers, to refuse what would come twice or out of order.
//!
//! Per producer id: its epoch, the last five batches, and where its open transaction begins. Invariants: the batches of an
//! entry all carry its epoch; `ongoing` has exactly the open transactions of the entries.
//! The state is a function of the log's batches (`replay`): it is rebuilt from the newest snapshot and what follows it.

mod snapshot;

use std::collections::{BTreeMap, BTreeSet};

use ottla_record::{BatchHeader, ControlType, EndTransactionMarker};

pub use snapshot::MalformedSnapshot;
pub(crate) use snapshot::{format_snapshot, parse_snapshot};

use crate::transactions::{CompletedTransaction, TransactionError, TransactionVersion};

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
    /// First offset and producer of every open transaction.
    ongoing: BTreeSet<(i64, i64)>,
    /// The state covers the log up to here (exclusive).
    end_offset: i64,
}

impl Producers {
    pub(crate) fn new(end_offset: i64, entries: BTreeMap<i64, ProducerEntry>) -> Producers {
        let ongoing = entries
            .iter()
            .filter_map(|(producer_id, entry)| Some((entry.current_transaction_first_offset?, *producer_id)))
            .collect();
        Producers { entries, ongoing, end_offset }
    }

    pub(crate) fn entries(&self) -> &BTreeMap<i64, ProducerEntry> {
        &self.entries
    }

    /// Where the first open transaction begins.
    pub(crate) fn first_undecided_offset(&self) -> Option<i64> {
        self.ongoing.first().map(|(first_offset, _)| *first_offset)
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

    /// While its transaction is open, a producer writes nothing else.
    pub(crate) fn check_transaction(&self, header: &BatchHeader) -> Result<(), TransactionError> {
        let open = self.entries.get(&header.producer_id).and_then(|entry| entry.current_transaction_first_offset);
        match open {
            Some(first_offset) if !header.attributes.is_transactional() => {
                Err(TransactionError::NotTransactional { producer_id: header.producer_id, first_offset })
            }
            _ => Ok(()),
        }
    }

    /// Decides about the epoch of a marker. From version 2 on it has to be a new one, but a marker that comes again ends
    /// nothing and is let through, as is one whose epoch cannot be greater.
    pub(crate) fn check_marker_epoch(
        &self,
        header: &BatchHeader,
        version: TransactionVersion,
    ) -> Result<(), SequenceError> {
        let Some(entry) = self.entries.get(&header.producer_id) else { return Ok(()) };
        let ends_open_one = entry.current_transaction_first_offset.is_some() && header.producer_epoch < i16::MAX;
        if version.bumps_epochs() && header.producer_epoch == entry.producer_epoch && ends_open_one {
            return Err(SequenceError::InvalidEpoch {
                producer_id: header.producer_id,
                found: header.producer_epoch,
                current: entry.producer_epoch,
            });
        }
        check_epoch(header, entry)
    }

    /// A coordinator that another one has replaced ends nothing.
    pub(crate) fn check_coordinator_epoch(
        &self,
        producer_id: i64,
        marker: EndTransactionMarker,
    ) -> Result<(), TransactionError> {
        let found = marker.coordinator_epoch;
        match self.entries.get(&producer_id) {
            Some(ProducerEntry { coordinator_epoch: current, .. }) if *current > found => {
                Err(TransactionError::CoordinatorFenced { producer_id, found, current: *current })
            }
            _ => Ok(()),
        }
    }

    /// The transaction that this batch ends, if it does: one without a record here has no end either.
    pub(crate) fn completion(
        &self,
        header: &BatchHeader,
        marker: Option<EndTransactionMarker>,
    ) -> Option<CompletedTransaction> {
        let (marker, producer_id) = (marker?, header.producer_id);
        let first_offset = self.entries.get(&producer_id)?.current_transaction_first_offset?;
        let next_open = self.ongoing.iter().find(|(_, id)| *id != producer_id).map(|(first_offset, _)| *first_offset);
        Some(CompletedTransaction {
            producer_id,
            first_offset,
            last_offset: header.base_offset,
            aborted: marker.control_type == ControlType::Abort,
            last_stable_offset: next_open.unwrap_or(header.base_offset + 1),
        })
    }

    /// Takes in a batch that is in the log, and tells the transaction it ends. `marker` is that of a control batch; one
    /// without is what the cleaner left of it, and changes nothing.
    pub(crate) fn replay(
        &mut self,
        header: &BatchHeader,
        marker: Option<EndTransactionMarker>,
    ) -> Option<CompletedTransaction> {
        let completed = self.completion(header, marker);
        if header.has_producer_id() {
            match marker {
                Some(marker) => self.replay_marker(header, marker),
                None if header.attributes.is_control() => {}
                None => self.replay_data(header),
            }
        }
        if let Some(completed) = &completed {
            self.ongoing.remove(&(completed.first_offset, completed.producer_id));
        }
        self.end_offset = header.next_offset();
        completed
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
            self.ongoing.insert((header.base_offset, header.producer_id));
        }
    }

    fn replay_marker(&mut self, header: &BatchHeader, marker: EndTransactionMarker) {
        let entry = self.entries.entry(header.producer_id).or_insert_with(ProducerEntry::empty);
        entry.set_epoch(header.producer_epoch);
        entry.current_transaction_first_offset = None;
        entry.last_timestamp = header.max_timestamp;
        entry.coordinator_epoch = marker.coordinator_epoch;
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

    fn of(producer_id: i64, mut header: BatchHeader) -> BatchHeader {
        header.producer_id = producer_id;
        header
    }

    fn transactional(mut header: BatchHeader) -> BatchHeader {
        header.attributes = header.attributes.with_transactional(true);
        header
    }

    /// A marker of producer 7.
    fn marker(epoch: i16, base_offset: i64) -> BatchHeader {
        let mut header = transactional(batch(epoch, -1, 1, base_offset));
        header.attributes = header.attributes.with_control(true);
        header
    }

    fn end(control_type: ControlType, coordinator_epoch: i32) -> EndTransactionMarker {
        EndTransactionMarker { control_type, coordinator_epoch }
    }

    const ABORT: ControlType = ControlType::Abort;
    const COMMIT: ControlType = ControlType::Commit;

    #[test]
    fn a_marker_ends_the_transaction_and_its_epoch() {
        let mut producers = after(&[transactional(batch(0, 0, 3, 10))]);
        assert_eq!(producers.entries[&7].current_transaction_first_offset, Some(10));
        assert_eq!(producers.first_undecided_offset(), Some(10));
        let completed = producers.replay(&marker(1, 13), Some(end(ABORT, 4))).unwrap();
        assert_eq!((completed.first_offset, completed.last_offset, completed.aborted), (10, 13, true));
        assert_eq!(completed.last_stable_offset, 14);
        let entry = &producers.entries[&7];
        assert_eq!(entry.current_transaction_first_offset, None);
        assert_eq!(producers.first_undecided_offset(), None);
        assert_eq!((entry.producer_epoch, entry.coordinator_epoch), (1, 4));
        assert_eq!(check(&producers, &batch(1, 0, 1, 0)), Verdict::InOrder);
        assert_eq!(check(&producers, &batch(1, 3, 1, 0)), Verdict::OutOfOrder);
        assert_eq!(producers.replay(&marker(1, 14), Some(end(COMMIT, 5))), None, "it ends nothing");
        assert_eq!(producers.entries[&7].coordinator_epoch, 5);
        let before = producers.entries.clone();
        assert_eq!(producers.replay(&marker(3, 15), None), None, "emptied by the cleaner");
        assert_eq!((producers.entries, producers.end_offset), (before, 16));
    }

    #[test]
    fn what_is_stable_when_a_transaction_ends_is_what_the_others_leave() {
        let mut producers = after(&[
            transactional(batch(0, 0, 3, 10)),
            of(8, transactional(batch(0, 0, 1, 13))),
            of(9, batch(0, 0, 1, 14)),
            transactional(batch(0, 3, 1, 15)),
        ]);
        assert_eq!(producers.first_undecided_offset(), Some(10));
        let completed = producers.replay(&marker(0, 16), Some(end(COMMIT, 0))).unwrap();
        assert_eq!((completed.first_offset, completed.aborted, completed.last_stable_offset), (10, false, 13));
        assert_eq!(producers.first_undecided_offset(), Some(13));
        assert_eq!(Producers::new(17, producers.entries.clone()).first_undecided_offset(), Some(13), "from a snapshot");
    }

    #[test]
    fn coordinators_and_their_epochs() {
        let mut producers = after(&[transactional(batch(3, 0, 1, 10))]);
        let legacy = TransactionVersion::LEGACY;
        let bumped = TransactionVersion::EPOCH_BUMPED;
        for (epoch, version, expected) in [
            (2, legacy, false),
            (3, legacy, true),
            (4, legacy, true),
            (2, bumped, false),
            (3, bumped, false),
            (4, bumped, true),
        ] {
            let checked = producers.check_marker_epoch(&marker(epoch, 11), version);
            assert_eq!(checked.is_ok(), expected, "epoch {epoch}, {version:?}");
        }
        producers.replay(&marker(4, 11), Some(end(ABORT, 6)));
        assert!(producers.check_marker_epoch(&marker(4, 12), bumped).is_ok(), "the same marker again");
        assert!(producers.check_marker_epoch(&marker(3, 12), bumped).is_err());
        producers.replay(&transactional(batch(i16::MAX, 0, 1, 12)), None);
        assert!(producers.check_marker_epoch(&marker(i16::MAX, 13), bumped).is_ok(), "there is no greater epoch");
        let fenced = producers.check_coordinator_epoch(7, end(COMMIT, 5));
        assert_eq!(fenced, Err(TransactionError::CoordinatorFenced { producer_id: 7, found: 5, current: 6 }));
        assert_eq!(producers.check_coordinator_epoch(7, end(COMMIT, 6)), Ok(()));
        assert_eq!(producers.check_coordinator_epoch(8, end(COMMIT, 0)), Ok(()), "an unknown producer");
    }

    #[test]
    fn nothing_comes_between_the_records_of_a_transaction() {
        let producers = after(&[transactional(batch(0, 0, 1, 10)), of(8, batch(0, 0, 1, 11))]);
        let refused = producers.check_transaction(&batch(0, 1, 1, 0));
        assert_eq!(refused, Err(TransactionError::NotTransactional { producer_id: 7, first_offset: 10 }));
        assert_eq!(producers.check_transaction(&transactional(batch(0, 1, 1, 0))), Ok(()));
        assert_eq!(producers.check_transaction(&of(8, batch(0, 1, 1, 0))), Ok(()));
        assert_eq!(producers.check_transaction(&of(9, batch(0, 1, 1, 0))), Ok(()));
    }
}
