//! Requests and responses in the coordinator's own words; the shell translates them from and to the protocol.

use std::sync::Arc;

use bytes::Bytes;
use ottla_types::TopicId;

use crate::error::GroupError;
use crate::group::GroupState;
use crate::member::Protocol;
use crate::outcome::RequestToken;

/// JoinGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinGroup {
    pub token: RequestToken,
    pub group: Arc<str>,
    /// Empty when the client has none yet.
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: Arc<str>,
    /// In the order of the client's preference.
    pub protocols: Vec<Protocol>,
    /// The unique end of a member id, should one be needed: the coordinator has no randomness.
    pub new_member_suffix: Arc<str>,
    /// Whether a member without an id is first only given one (KIP-394, version 4 on).
    pub requires_known_member_id: bool,
    /// Whether the client understands `skip_assignment` (KIP-814, version 9 on).
    pub can_skip_assignment: bool,
}

/// A member of a generation, as JoinGroup tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub leader: Arc<str>,
    pub skip_assignment: bool,
    pub member_id: Arc<str>,
    /// Everybody, for the leader; nobody, for the others.
    pub members: Vec<JoinedMember>,
}

/// What the leader learns of a member.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub metadata: Bytes,
}

/// A JoinGroup that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinRefused {
    pub error: GroupError,
    /// The id to join again with; empty for none.
    pub member_id: Arc<str>,
}

/// SyncGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncGroup {
    pub token: RequestToken,
    pub group: Arc<str>,
    pub generation: i32,
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    /// From the leader: who gets what.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// A member's assignment.
#[derive(Clone, Debug, PartialEq)]
pub struct Synced {
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    pub group: Arc<str>,
    pub generation: i32,
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
}

/// LeaveGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaveGroup {
    pub group: Arc<str>,
    pub members: Vec<LeavingMember>,
}

/// Who leaves: by member id, or, with an empty one, by group instance id.
#[derive(Clone, Debug, PartialEq)]
pub struct LeavingMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
}

/// How one departure went.
#[derive(Clone, Debug, PartialEq)]
pub struct LeftMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub error: Option<GroupError>,
}

/// OffsetCommit.
#[derive(Clone, Debug, PartialEq)]
pub struct CommitOffsets {
    pub group: Arc<str>,
    /// Negative for a commit without group membership.
    pub generation: i32,
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    /// An explicit retention (versions 2 to 4).
    pub retention_ms: Option<i64>,
    /// Whether a missing group may be reported as such (version 9 on).
    pub knows_group_id_not_found: bool,
    pub topics: Vec<CommitTopic>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CommitTopic {
    pub topic: Arc<str>,
    /// All zeroes when it is not known.
    pub topic_id: TopicId,
    pub partitions: Vec<CommitPartition>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CommitPartition {
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: Option<i32>,
    pub metadata: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CommittedTopic {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    pub partitions: Vec<CommittedPartition>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CommittedPartition {
    pub partition: i32,
    pub error: Option<GroupError>,
}

/// OffsetFetch, for one group.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchOffsets {
    pub group: Arc<str>,
    /// `None` for everything the group has committed.
    pub topics: Option<Vec<FetchTopic>>,
    /// Whether an offset that an open transaction may change is an error.
    pub require_stable: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FetchTopic {
    pub topic: Arc<str>,
    /// All zeroes when it is not known; otherwise an offset committed for another topic of the same name is not returned.
    pub topic_id: TopicId,
    pub partitions: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FetchedTopic {
    pub topic: Arc<str>,
    /// As asked; when everything was asked for, as committed.
    pub topic_id: TopicId,
    pub partitions: Vec<FetchedPartition>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FetchedPartition {
    pub partition: i32,
    /// -1 when nothing is committed.
    pub offset: i64,
    pub leader_epoch: Option<i32>,
    pub metadata: Arc<str>,
    pub error: Option<GroupError>,
}

/// OffsetDelete.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteOffsets {
    pub group: Arc<str>,
    pub topics: Vec<(Arc<str>, Vec<i32>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DeletedOffsets {
    pub topic: Arc<str>,
    pub partitions: Vec<DeletedPartition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedPartition {
    pub partition: i32,
    pub error: Option<GroupError>,
}

/// A group, as DescribeGroups tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribedGroup {
    pub group: Arc<str>,
    /// [`GroupState::Dead`] for a group that does not exist.
    pub state: GroupState,
    pub protocol_type: Arc<str>,
    /// The protocol in use; empty unless the group is stable.
    pub protocol_name: Arc<str>,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DescribedMember {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    /// Empty unless the group is stable.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// A group, as ListGroups tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedGroup {
    pub group: Arc<str>,
    pub protocol_type: Arc<str>,
    pub state: GroupState,
}
