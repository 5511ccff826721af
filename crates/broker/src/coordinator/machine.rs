//! What the driver asks of a state machine.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::{DecodeError, EncodeError};

use super::state_log::CommitFailure;

/// The two clocks at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) monotonic_ms: i64,
    pub(crate) wall_ms: i64,
}

/// Names a request that may be parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) u64);

/// A record's key and value; no value is a tombstone.
pub(crate) type EncodedRecord = (Bytes, Option<Bytes>);

/// A state machine whose hard state changes in replay only.
pub(crate) trait StateMachine: Send + 'static {
    type Record: Send + 'static;
    /// What is left to do once the records of a step are committed.
    type Continuation: Send + 'static;
    /// The answer to a request parked earlier.
    type Release: Send + 'static;

    /// What a record changes, as questions name it: a group.
    fn scope(record: &Self::Record) -> Arc<str>;

    fn encode(record: &Self::Record) -> Result<EncodedRecord, EncodeError>;

    /// Applies a record that was just appended.
    fn replay(&mut self, now: Now, record: Self::Record);

    /// Applies a record of the log, at load. One of a transaction has the id of its producer.
    fn replay_encoded(
        &mut self,
        now: Now,
        transaction_of: Option<i64>,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), DecodeError>;

    /// Applies the end of a producer's transaction, at load.
    fn replay_transaction_end(&mut self, producer_id: i64, committed: bool);

    /// Every record of the log has been replayed.
    fn handle_loaded(&mut self, now: Now) -> Step<Self, ()>;

    /// The partition is given up: what every parked request is answered.
    fn handle_unload(&mut self) -> Vec<(Token, Self::Release)>;

    /// The records of the step that left this are committed, or will not be.
    fn handle_stored(
        &mut self,
        now: Now,
        continuation: Self::Continuation,
        result: Result<(), CommitFailure>,
    ) -> Step<Self, ()>;

    /// When [`StateMachine::handle_due_timer`] is to be called next, by the monotonic clock.
    fn next_deadline_ms(&self) -> Option<i64>;

    /// Does what the first due deadline asks for; `None` when none is due.
    fn handle_due_timer(&mut self, now: Now) -> Option<Step<Self, ()>>;
}

/// What a machine decided.
pub(crate) struct Step<M: StateMachine + ?Sized, R> {
    /// The answer, to be given when the records are committed; `None` while the request is parked.
    pub(crate) response: Option<R>,
    /// Answers to parked requests, to be given at once.
    pub(crate) released: Vec<(Token, M::Release)>,
    /// To be appended within one batch, unless `divisible`.
    pub(crate) records: Vec<M::Record>,
    /// Whether each record stands alone, so that those which do not fit a batch may take several.
    pub(crate) divisible: bool,
    pub(crate) continuation: Option<M::Continuation>,
}

impl<M: StateMachine + ?Sized, R> Step<M, R> {
    /// An answer that changes nothing on record.
    pub(crate) fn answer(response: R) -> Self {
        Step {
            response: Some(response),
            released: Vec::new(),
            records: Vec::new(),
            divisible: false,
            continuation: None,
        }
    }
}
