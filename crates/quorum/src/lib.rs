//! The metadata quorum: agreement on metadata records, and the image they build.
//!
//! [`MetadataQuorum`] is what the rest of a node sees: propose records, read the image, follow its changes.
//! [`RaftQuorum`] implements it with openraft, on a log and snapshot format of its own.
//!
//! It decides nothing about topics or brokers: the controller's decisions come in as functions from an image to records.
//! So far a quorum has one voter; formats, identities and the write path are those of a larger one.

mod bytes_io;
mod failure;
mod frame;
mod import;
mod inspect;
mod log_file;
mod log_store;
mod network;
mod open;
mod quorum;
mod raft_quorum;
mod recovery;
mod snapshot;
mod state_machine;
mod types;

pub use failure::QuorumFailure;
pub use import::{ImportError, import};
pub use inspect::{
    EntryId, Inspected, MetadataCheck, MetadataDamage, MetadataFinding, check_metadata, inspect_metadata,
    is_metadata_log, is_metadata_snapshot,
};
pub use open::{Bootstrap, OpenError, QuorumIdentity, QuorumSettings};
pub use quorum::{
    Decision, LeaderStatus, LogPosition, MetadataChange, MetadataQuorum, MetadataWatch, QuorumError, decide,
};
pub use raft_quorum::RaftQuorum;
pub use recovery::RecoveryError;

/// The directory a node's metadata is in, inside a log directory.
pub const METADATA_DIRECTORY: &str = "ottla-metadata";

#[cfg(test)]
mod conformance;
