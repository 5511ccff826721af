//! The classic consumer group coordinator, as a replicated state machine.
//!
//! [`GroupCoordinator`] is the state of one partition of `__consumer_offsets`: the groups that hash to it, their members
//! and their committed offsets. It does no I/O and knows no clock: time comes in as an argument, records and responses go
//! out as values, and the shell around it appends, replays and answers.
//!
//! # The state it owns
//! - *Hard* ([`HardState`]): what the partition's records say, group metadata and committed offsets. Changed in
//!   [`GroupCoordinator::replay`] and nowhere else.
//! - *Soft* ([`LiveGroup`] and the timers): rebalances in progress, parked requests, pending member ids, session
//!   deadlines. Rebuilt from the hard state when the partition is loaded, lost when it is given up.
//!
//! # How a shell drives it
//! 1. At load: [`replay`](GroupCoordinator::replay) every record of the partition,
//!    [`replay_transactional`](GroupCoordinator::replay_transactional) those of transactions, whose ends are told by
//!    [`replay_transaction_end`](GroupCoordinator::replay_transaction_end); then
//!    [`handle_loaded`](GroupCoordinator::handle_loaded).
//! 2. For each request: call the handler, deliver [`Outcome::released`] at once, append [`Outcome::records`], replay them,
//!    and when they are committed answer [`Response::Now`] and hand [`Outcome::stored`] to
//!    [`handle_stored`](GroupCoordinator::handle_stored). When the append fails nothing is replayed, the request is
//!    answered with an error, and `handle_stored` is told of the failure. A shell that replays ahead of the append drops
//!    the whole coordinator when it fails, and begins with 1.
//! 3. A [`Response::Parked`] request is answered by a [`Released`] of a later outcome that carries its token.
//! 4. At [`next_deadline_ms`](GroupCoordinator::next_deadline_ms) call
//!    [`handle_due_timer`](GroupCoordinator::handle_due_timer) until it returns `None`.
//!
//! # Invariants
//! [`check_invariants`](GroupCoordinator::check_invariants) lists them in code. The chief ones: one generation per group,
//! which never goes back; a parked request is always released; whoever must still act in a rebalance has a deadline.
//!
//! # Deliberately absent
//! The KIP-848 protocol, share and streams groups; committing offsets in transactions (those that Apache Kafka recorded are
//! replayed, [`TransactionalOffsets`]); authorization and the resolution of topic ids, which are the shell's.

mod codec;
mod coordinator;
mod error;
mod group;
mod handlers;
mod hard;
mod invariants;
mod member;
mod outcome;
mod record;
mod request;
mod settings;
mod subscription;
mod timers;
mod transactional_offsets;

pub use codec::DecodedRecord;
pub use coordinator::GroupCoordinator;
pub use error::{GroupError, StoreFailure};
pub use group::{GroupState, LiveGroup};
pub use hard::{HardState, OffsetAndMetadata, RecordedGroup, RecordedMember};
pub use invariants::BrokenInvariant;
pub use member::{Member, Protocol};
pub use outcome::{Continuation, Now, Outcome, Released, ReleasedResponse, RequestToken, Response};
pub use record::GroupRecord;
pub use request::{
    CommitOffsets, CommitPartition, CommitTopic, CommittedPartition, CommittedTopic, DeleteOffsets, DeletedOffsets,
    DeletedPartition, DescribedGroup, DescribedMember, FetchOffsets, FetchTopic, FetchedPartition, FetchedTopic,
    Heartbeat, JoinGroup, JoinRefused, Joined, JoinedMember, LeaveGroup, LeavingMember, LeftMember, ListedGroup,
    SyncGroup, Synced,
};
pub use settings::GroupSettings;
pub use transactional_offsets::TransactionalOffsets;
