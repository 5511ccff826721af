//! Transactions as a log sees them: which are open, which were aborted, and up to where every record's fate is known.
//!
//! * [`CompletedTransaction`]: what a marker does, worked out by the producer state.
//! * [`AbortedTransaction`]: an entry of a segment's `.txnindex`, and what a reader of committed records is told.
//! * [`UnstableOffsets`]: the first unstable offset, and with it the last stable offset.
//!
//! The index of a segment has the transactions whose abort markers are in that segment, wherever they began. It is a
//! function of the log and of the producers known before it, so it can be made anew from a producer snapshot and the
//! batches after it; unlike the other indexes it is not looked for in the log when it is used, so it is durable before the
//! flushed offset passes the marker.

mod entry;
mod index;
mod sum;
mod unstable;

pub use entry::{AbortedTransaction, InvalidTransactionIndex};
pub(crate) use entry::{ENTRY_SIZE, EntryCheck, entries};
pub(crate) use index::{IndexWriter, SearchError, TransactionIndex};
pub(crate) use sum::{EntriesSum, MAX_FILE_BYTES as MAX_SUM_FILE_BYTES};
pub(crate) use unstable::UnstableOffsets;

use ottla_record::MarkerError;

/// A transaction that a marker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompletedTransaction {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// That of the marker.
    pub(crate) last_offset: i64,
    pub(crate) aborted: bool,
    /// Where the first transaction begins that is still open, or the offset after the marker.
    pub(crate) last_stable_offset: i64,
}

impl CompletedTransaction {
    /// What the index keeps of it.
    pub(crate) fn as_aborted(&self) -> Option<AbortedTransaction> {
        self.aborted.then_some(AbortedTransaction {
            producer_id: self.producer_id,
            first_offset: self.first_offset,
            last_offset: self.last_offset,
            last_stable_offset: self.last_stable_offset,
        })
    }
}

/// What the coordinator's cluster knows of transactions: from version 2 on a marker carries an epoch of its own (KIP-890).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionVersion(pub i16);

impl TransactionVersion {
    /// Markers carry the epoch of the transaction they end.
    pub const LEGACY: TransactionVersion = TransactionVersion(0);
    /// Markers carry the next epoch.
    pub const EPOCH_BUMPED: TransactionVersion = TransactionVersion(2);

    pub(crate) fn bumps_epochs(self) -> bool {
        self >= TransactionVersion::EPOCH_BUMPED
    }
}

/// Why a batch does not fit the transactions of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    #[error("clients must not write control records")]
    ControlBatchOfClient,
    #[error("a marker cannot be read: {0}")]
    MalformedMarker(#[from] MarkerError),
    #[error("producer {producer_id} has a transaction open since offset {first_offset} and wrote outside of it")]
    NotTransactional { producer_id: i64, first_offset: i64 },
    #[error(
        "a coordinator of epoch {found} ends a transaction of producer {producer_id}, its coordinator has epoch {current}"
    )]
    CoordinatorFenced { producer_id: i64, found: i32, current: i32 },
}
