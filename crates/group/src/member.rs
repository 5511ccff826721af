//! A member of a live group.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::hard::RecordedMember;
use crate::outcome::RequestToken;

/// A way of assigning partitions that a member supports, with what the member has to say under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: Arc<str>,
    pub metadata: Bytes,
}

/// A member of a live group, with the requests it has parked.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub member_id: Arc<str>,
    pub group_instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// In the order of preference.
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    /// Whether it has never completed a join.
    pub is_new: bool,
    pub awaiting_join: Option<RequestToken>,
    pub awaiting_sync: Option<RequestToken>,
}

impl Member {
    pub fn is_static(&self) -> bool {
        self.group_instance_id.is_some()
    }

    /// What the member says under `protocol`; empty for one it does not support.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|candidate| &*candidate.name == protocol)
            .map(|found| found.metadata.clone())
            .unwrap_or_default()
    }

    /// The first of its protocols that is among `candidates`.
    pub fn vote<'a>(&'a self, candidates: &BTreeSet<Arc<str>>) -> Option<&'a Arc<str>> {
        self.protocols.iter().map(|protocol| &protocol.name).find(|name| candidates.contains(*name))
    }

    /// The distinct names of its protocols.
    pub fn protocol_names(&self) -> BTreeSet<&Arc<str>> {
        self.protocols.iter().map(|protocol| &protocol.name).collect()
    }

    /// Whether a session deadline that has come may pass: a parked request shows the member alive, except that one
    /// which has never completed a join may be the ghost of a client that gave up.
    pub fn has_satisfied_heartbeat(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub(crate) fn from_record(recorded: &RecordedMember, protocol: Option<&Arc<str>>) -> Member {
        let protocols = protocol
            .map(|name| Protocol { name: name.clone(), metadata: recorded.subscription.clone() })
            .into_iter()
            .collect();
        Member {
            member_id: recorded.member_id.clone(),
            group_instance_id: recorded.group_instance_id.clone(),
            client_id: recorded.client_id.clone(),
            client_host: recorded.client_host.clone(),
            rebalance_timeout_ms: if recorded.rebalance_timeout_ms == -1 {
                recorded.session_timeout_ms
            } else {
                recorded.rebalance_timeout_ms
            },
            session_timeout_ms: recorded.session_timeout_ms,
            protocols,
            assignment: recorded.assignment.clone(),
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
        }
    }

    pub(crate) fn to_record(&self, protocol: &str, assignment: Bytes) -> RecordedMember {
        RecordedMember {
            member_id: self.member_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }
}
