//! What a handler hands back to the shell.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::GroupError;
use crate::member::Member;
use crate::record::GroupRecord;
use crate::request::{JoinRefused, Joined, Synced};

/// The two clocks at one instant: deadlines use the first, records and retention the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back.
    pub monotonic_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
}

/// Names a request that may be parked; chosen by the shell, unique among the requests it has outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestToken(pub u64);

/// What a handler decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<R> {
    /// The answer to this request. [`Response::Now`] is delivered when `records` are committed (at once if there are none).
    pub response: Response<R>,
    /// Answers to requests parked earlier, to be delivered at once: they do not depend on `records`.
    pub released: Vec<Released>,
    /// To be appended as one unit, unless `divisible`, replayed, and committed.
    pub records: Vec<GroupRecord>,
    /// Whether each record stands alone, so that a crash may keep the first of them only.
    pub divisible: bool,
    /// To be handed back when `records` are committed, or cannot be.
    pub stored: Option<Continuation>,
}

/// Whether a request has its answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Response<R> {
    Now(R),
    /// A later outcome releases it.
    Parked,
}

/// The answer to a parked request.
#[derive(Clone, Debug, PartialEq)]
pub struct Released {
    pub token: RequestToken,
    pub response: ReleasedResponse,
}

/// A parked request is a JoinGroup or a SyncGroup.
#[derive(Clone, Debug, PartialEq)]
pub enum ReleasedResponse {
    Join(Result<Joined, JoinRefused>),
    Sync(Result<Synced, GroupError>),
}

/// What remains to be done once the records of an outcome are stored, or could not be.
#[derive(Clone, Debug, PartialEq)]
pub enum Continuation {
    /// A group came into being.
    GroupCreated { group: Arc<str> },
    /// The leader's assignment: members get theirs when it is stored.
    AssignmentStored { group: Arc<str>, generation: i32, assignments: BTreeMap<Arc<str>, Bytes> },
    /// A static member came back under a new member id while the group was stable.
    StaticMemberReplaced {
        group: Arc<str>,
        generation: i32,
        /// The id it has now.
        member_id: Arc<str>,
        /// What it was, should the records not be stored.
        previous: Box<Member>,
        /// Who led before.
        previous_leader: Arc<str>,
        /// Whether the client understands being told not to compute an assignment (KIP-814).
        can_skip_assignment: bool,
    },
}

impl<R> Outcome<R> {
    /// An answer that changes nothing.
    pub(crate) fn now(response: R) -> Self {
        Effects::default().with(Response::Now(response))
    }
}

/// What a handler has gathered so far, besides its response.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub released: Vec<Released>,
    pub records: Vec<GroupRecord>,
    pub divisible: bool,
    pub stored: Option<Continuation>,
}

impl Effects {
    /// Of records that stand alone.
    pub fn divisible() -> Self {
        Effects { divisible: true, ..Effects::default() }
    }

    pub fn release_join(&mut self, token: RequestToken, response: Result<Joined, JoinRefused>) {
        self.released.push(Released { token, response: ReleasedResponse::Join(response) });
    }

    pub fn release_sync(&mut self, token: RequestToken, response: Result<Synced, GroupError>) {
        self.released.push(Released { token, response: ReleasedResponse::Sync(response) });
    }

    pub fn with<R>(self, response: Response<R>) -> Outcome<R> {
        Outcome {
            response,
            released: self.released,
            records: self.records,
            divisible: self.divisible,
            stored: self.stored,
        }
    }
}
