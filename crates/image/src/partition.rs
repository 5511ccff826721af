//! A partition's replicas and its leader.

use ottla_types::{LeaderEpoch, NodeId, PartitionEpoch, Uuid};

/// Ids that stand for no directory in particular (Kafka's `DirectoryId`).
pub mod directory_id {
    use ottla_types::Uuid;

    /// The broker has not chosen yet.
    pub const UNASSIGNED: Uuid = Uuid::ZERO;
    /// The directory the replica was in is offline.
    pub const LOST: Uuid = Uuid::ONE;

    /// Whether an id never names a directory: the first hundred are kept for meanings like these.
    pub fn is_reserved(id: Uuid) -> bool {
        u128::from_be_bytes(id.0) < 100
    }
}

/// The committed state of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRegistration {
    /// In order of preference: the first one should lead.
    pub replicas: Vec<NodeId>,
    /// The log directory of each replica, in the order of `replicas`.
    pub directories: Vec<Uuid>,
    pub isr: Vec<NodeId>,
    pub adding_replicas: Vec<NodeId>,
    pub removing_replicas: Vec<NodeId>,
    pub eligible_leader_replicas: Vec<NodeId>,
    pub last_known_eligible_leader_replicas: Vec<NodeId>,
    /// `None` while nobody may lead.
    pub leader: Option<NodeId>,
    pub leader_recovery_state: LeaderRecoveryState,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
}

impl PartitionRegistration {
    /// A new partition: every replica in sync, the first leads, epochs at 0.
    pub fn new(replicas: Vec<NodeId>, directories: Vec<Uuid>) -> Self {
        Self {
            isr: replicas.clone(),
            leader: replicas.first().copied(),
            replicas,
            directories,
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
            eligible_leader_replicas: Vec::new(),
            last_known_eligible_leader_replicas: Vec::new(),
            leader_recovery_state: LeaderRecoveryState::Recovered,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
        }
    }

    /// The log directory of this broker's replica.
    pub fn directory(&self, node_id: NodeId) -> Option<Uuid> {
        let position = self.replicas.iter().position(|&replica| replica == node_id)?;
        self.directories.get(position).copied()
    }

    /// The state after a change: the partition epoch moves on, and with a leader named (even the same one) the leader
    /// epoch too.
    #[must_use]
    pub fn changed(&self, change: &PartitionChange) -> Self {
        let mut next = self.clone();
        next.partition_epoch = PartitionEpoch(self.partition_epoch.0.saturating_add(1));
        if let Some(leader) = change.leader {
            next.leader = leader;
            next.leader_epoch = LeaderEpoch(self.leader_epoch.0.saturating_add(1));
        }
        let lists = [
            (&mut next.replicas, &change.replicas),
            (&mut next.isr, &change.isr),
            (&mut next.adding_replicas, &change.adding_replicas),
            (&mut next.removing_replicas, &change.removing_replicas),
            (&mut next.eligible_leader_replicas, &change.eligible_leader_replicas),
            (&mut next.last_known_eligible_leader_replicas, &change.last_known_eligible_leader_replicas),
        ];
        for (list, changed) in lists {
            if let Some(changed) = changed {
                list.clone_from(changed);
            }
        }
        if let Some(directories) = &change.directories {
            next.directories.clone_from(directories);
        } else if next.replicas != self.replicas {
            next.directories = next
                .replicas
                .iter()
                .map(|&replica| self.directory(replica).unwrap_or(directory_id::UNASSIGNED))
                .collect();
        }
        if let Some(state) = change.leader_recovery_state {
            next.leader_recovery_state = state;
        }
        next
    }

    /// What is wrong with this state, if anything is.
    pub fn violation(&self) -> Option<PartitionViolation> {
        let unknown = |list: &[NodeId]| list.iter().any(|member| !self.replicas.contains(member));
        if self.replicas.is_empty() {
            Some(PartitionViolation::NoReplicas)
        } else if has_duplicates(&self.replicas) {
            Some(PartitionViolation::DuplicateReplica)
        } else if self.directories.len() != self.replicas.len() {
            Some(PartitionViolation::DirectoryCount)
        } else if unknown(&self.isr) || has_duplicates(&self.isr) {
            Some(PartitionViolation::IsrOutsideReplicas)
        } else if self.leader.is_some_and(|leader| !self.replicas.contains(&leader)) {
            Some(PartitionViolation::LeaderOutsideReplicas)
        } else if self.eligible_leader_replicas.iter().any(|member| self.isr.contains(member)) {
            Some(PartitionViolation::EligibleLeaderReplicaInSync)
        } else {
            None
        }
    }
}

/// Which rule a partition's state breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionViolation {
    #[error("there are no replicas")]
    NoReplicas,
    #[error("a replica is listed twice")]
    DuplicateReplica,
    #[error("there is not one directory for each replica")]
    DirectoryCount,
    #[error("the ISR is not a subset of the replicas")]
    IsrOutsideReplicas,
    #[error("the leader is not a replica")]
    LeaderOutsideReplicas,
    #[error("an eligible leader replica is in the ISR")]
    EligibleLeaderReplicaInSync,
}

/// Some fields of a partition; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionChange {
    pub replicas: Option<Vec<NodeId>>,
    pub directories: Option<Vec<Uuid>>,
    pub isr: Option<Vec<NodeId>>,
    pub adding_replicas: Option<Vec<NodeId>>,
    pub removing_replicas: Option<Vec<NodeId>>,
    pub eligible_leader_replicas: Option<Vec<NodeId>>,
    pub last_known_eligible_leader_replicas: Option<Vec<NodeId>>,
    /// `Some(None)` leaves the partition without a leader.
    pub leader: Option<Option<NodeId>>,
    pub leader_recovery_state: Option<LeaderRecoveryState>,
}

/// Whether the leader still has to recover from an unclean election (KIP-704).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum LeaderRecoveryState {
    Recovered = 0,
    Recovering = 1,
}

impl LeaderRecoveryState {
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(LeaderRecoveryState::Recovered),
            1 => Some(LeaderRecoveryState::Recovering),
            _ => None,
        }
    }
}

/// Replica lists are a handful long: comparing pairs beats hashing.
fn has_duplicates(list: &[NodeId]) -> bool {
    list.iter().enumerate().any(|(position, member)| list[..position].contains(member))
}
