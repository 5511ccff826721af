//! What openraft is told about our quorum.

use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, LogId, Membership, RaftTypeConfig, SnapshotMeta, StoredMembership, Vote};
use ottla_types::{NodeId, Uuid};

openraft::declare_raft_types!(
    /// Standard Raft: one leader per term.
    pub(crate) TypeConfig:
        D = Command,
        R = (),
        NodeId = VoterId,
        Node = VoterNode,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

pub(crate) type CommittedLeader = <leader_id_std::LeaderId<u64, VoterId> as RaftLeaderId>::Committed;
pub(crate) type RaftLogId = LogId<CommittedLeader>;
pub(crate) type RaftVote = Vote<leader_id_std::LeaderId<u64, VoterId>>;
pub(crate) type RaftMembership = Membership<VoterId, VoterNode>;
pub(crate) type RaftStoredMembership = StoredMembership<CommittedLeader, VoterId, VoterNode>;
pub(crate) type RaftEntry = <TypeConfig as RaftTypeConfig>::Entry;
pub(crate) type RaftPayload = EntryPayload<Command, VoterId, VoterNode>;
pub(crate) type RaftSnapshotMeta = SnapshotMeta<CommittedLeader, VoterId, VoterNode>;

pub(crate) fn log_id(term: u64, index: u64) -> RaftLogId {
    LogId::new(term.into(), index)
}

/// A member of the quorum: the node and the directory its metadata is in. A node that lost its directory is another
/// member, so nothing it once promised is expected of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct VoterId {
    pub(crate) node_id: NodeId,
    pub(crate) directory_id: Uuid,
}

impl fmt::Display for VoterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.node_id, self.directory_id)
    }
}

/// What is known of a member besides its id. Its endpoints will be here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VoterNode {}

/// One proposal: encoded metadata records, applied together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) records: Bytes,
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes of records", self.records.len())
    }
}
