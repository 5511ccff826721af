//! The group coordinator's state machine, as the driver knows one.

use std::sync::Arc;

use bytes::Bytes;
use ottla_group::{
    Continuation, DecodedRecord, GroupCoordinator, GroupRecord, Outcome, Released, ReleasedResponse, RequestToken,
    Response, StoreFailure,
};
use ottla_protocol::{DecodeError, EncodeError};

use super::machine::{EncodedRecord, Now, StateMachine, Step, Token};
use super::state_log::CommitFailure;

impl StateMachine for GroupCoordinator {
    type Record = GroupRecord;
    type Continuation = Continuation;
    type Release = ReleasedResponse;

    fn scope(record: &GroupRecord) -> Arc<str> {
        Arc::clone(record.group())
    }

    fn encode(record: &GroupRecord) -> Result<EncodedRecord, EncodeError> {
        record.encode()
    }

    fn replay(&mut self, now: Now, record: GroupRecord) {
        GroupCoordinator::replay(self, now.into(), record);
    }

    fn replay_encoded(
        &mut self,
        now: Now,
        transaction_of: Option<i64>,
        key: Bytes,
        value: Option<Bytes>,
    ) -> Result<(), DecodeError> {
        match (DecodedRecord::decode(key, value)?, transaction_of) {
            (DecodedRecord::Known(record), None) => GroupCoordinator::replay(self, now.into(), record),
            (DecodedRecord::Known(record), Some(producer_id)) => {
                GroupCoordinator::replay_transactional(self, now.into(), producer_id, record);
            }
            (DecodedRecord::Other(record_type), _) => {
                tracing::warn!(record_type, "a record of a kind of group that is not served is passed over");
            }
        }
        Ok(())
    }

    fn replay_transaction_end(&mut self, producer_id: i64, committed: bool) {
        GroupCoordinator::replay_transaction_end(self, producer_id, committed);
    }

    fn handle_loaded(&mut self, now: Now) -> Step<Self, ()> {
        GroupCoordinator::handle_loaded(self, now.into()).into()
    }

    fn handle_unload(&mut self) -> Vec<(Token, ReleasedResponse)> {
        GroupCoordinator::handle_unload(self).into_iter().map(release).collect()
    }

    fn handle_stored(
        &mut self,
        now: Now,
        continuation: Continuation,
        result: Result<(), CommitFailure>,
    ) -> Step<Self, ()> {
        let result = result.map_err(|failure| match failure {
            CommitFailure::Unavailable | CommitFailure::TimedOut => StoreFailure::Unavailable,
            CommitFailure::Lost => StoreFailure::NotLeader,
            CommitFailure::TooLarge => StoreFailure::TooLarge,
        });
        GroupCoordinator::handle_stored(self, now.into(), continuation, result).into()
    }

    fn next_deadline_ms(&self) -> Option<i64> {
        GroupCoordinator::next_deadline_ms(self)
    }

    fn handle_due_timer(&mut self, now: Now) -> Option<Step<Self, ()>> {
        GroupCoordinator::handle_due_timer(self, now.into()).map(Step::from)
    }
}

impl<R> From<Outcome<R>> for Step<GroupCoordinator, R> {
    fn from(outcome: Outcome<R>) -> Self {
        let Outcome { response, released, records, divisible, stored } = outcome;
        let response = match response {
            Response::Now(response) => Some(response),
            Response::Parked => None,
        };
        let released = released.into_iter().map(release).collect();
        Step { response, released, records, divisible, continuation: stored }
    }
}

impl From<Now> for ottla_group::Now {
    fn from(now: Now) -> Self {
        ottla_group::Now { monotonic_ms: now.monotonic_ms, wall_ms: now.wall_ms }
    }
}

impl From<Token> for RequestToken {
    fn from(token: Token) -> Self {
        RequestToken(token.0)
    }
}

fn release(released: Released) -> (Token, ReleasedResponse) {
    (Token(released.token.0), released.response)
}
