//! BrokerRegistration.
//!
//! A new incarnation of a broker may have lost the tail of its logs. So every partition it leads gets a new leader
//! epoch with the registration: offsets of a lost tail are not given out again in the epoch they had.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_image::{
    BrokerListener, BrokerRegistration, MetadataImage, MetadataRecord, PartitionChange, SupportedFeature, directory_id,
};
use ottla_types::{BrokerEpoch, ErrorCode, NodeId, Uuid};

use crate::Outcome;

/// What a broker says when it registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterBroker {
    pub cluster_id: Arc<str>,
    pub node_id: NodeId,
    /// A new one for each start of the process.
    pub incarnation_id: Uuid,
    pub listeners: Vec<BrokerListener>,
    pub rack: Option<Arc<str>>,
    pub features: Vec<SupportedFeature>,
    pub log_dirs: Vec<Uuid>,
    pub cordoned_log_dirs: Vec<Uuid>,
    /// Whether the earlier incarnation still sends heartbeats.
    pub earlier_is_alive: bool,
    /// Whether a new incarnation may not serve yet. A node that is broker and sole controller may at once.
    pub fenced: bool,
}

/// Why a broker cannot register.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterBrokerError {
    #[error("Expected cluster ID {expected}, but got cluster ID {found}")]
    WrongCluster { expected: Arc<str>, found: Arc<str> },
    #[error(
        "Another broker is registered with that broker id. If the broker was recently restarted this should \
         self-resolve once the heartbeat manager expires the broker's session."
    )]
    Duplicate,
    #[error("No directories specified in request")]
    NoDirectories,
    #[error("Reserved directory ID in request")]
    ReservedDirectory,
    #[error("Duplicate directory ID in request")]
    DuplicateDirectory,
    #[error("Broker {owner} is already registered with directory {directory}")]
    DirectoryTaken { owner: NodeId, directory: Uuid },
    #[error(
        "Unable to register because the broker does not support finalized version {level} of {feature}. The broker \
         wants a version between {min_level} and {max_level}, inclusive."
    )]
    UnsupportedFeature { feature: Arc<str>, level: i16, min_level: i16, max_level: i16 },
}

impl RegisterBrokerError {
    pub fn error_code(&self) -> ErrorCode {
        match self {
            RegisterBrokerError::WrongCluster { .. } => ErrorCode::InconsistentClusterId,
            RegisterBrokerError::Duplicate => ErrorCode::DuplicateBrokerRegistration,
            RegisterBrokerError::NoDirectories
            | RegisterBrokerError::ReservedDirectory
            | RegisterBrokerError::DuplicateDirectory
            | RegisterBrokerError::DirectoryTaken { .. } => ErrorCode::InvalidRegistration,
            RegisterBrokerError::UnsupportedFeature { .. } => ErrorCode::UnsupportedVersion,
        }
    }
}

/// Registers a broker; the answer is its epoch. The same incarnation keeps the epoch it has.
pub fn register_broker(
    image: &MetadataImage,
    request: &RegisterBroker,
) -> Outcome<Result<BrokerEpoch, RegisterBrokerError>> {
    if let Err(error) = check(image, request) {
        return Outcome::unchanged(Err(error));
    }
    let existing = image.broker(request.node_id);
    let same = existing.filter(|existing| existing.incarnation_id == request.incarnation_id);
    let broker_epoch = same.map_or(image.next_broker_epoch(), |same| same.broker_epoch);
    let registration = BrokerRegistration {
        node_id: request.node_id,
        incarnation_id: request.incarnation_id,
        broker_epoch,
        listeners: request.listeners.clone(),
        rack: request.rack.clone(),
        features: request.features.clone(),
        log_dirs: request.log_dirs.clone(),
        cordoned_log_dirs: request.cordoned_log_dirs.clone(),
        fenced: same.map_or(request.fenced, |same| same.fenced),
        in_controlled_shutdown: same.is_some_and(|same| same.in_controlled_shutdown),
    };
    let mut records = vec![MetadataRecord::RegisterBroker(registration)];
    if same.is_none() {
        lead_in_new_epochs(image, request, &mut records);
    }
    Outcome { response: Ok(broker_epoch), records }
}

/// A new epoch for each partition the broker leads, and for those without a leader that it may lead now.
fn lead_in_new_epochs(image: &MetadataImage, request: &RegisterBroker, records: &mut Vec<MetadataRecord>) {
    let node_id = request.node_id;
    for topic in image.topics() {
        for (partition, registration) in topic.partitions() {
            let leads = registration.leader == Some(node_id);
            let may_lead = registration.leader.is_none() && registration.isr.contains(&node_id) && !request.fenced;
            if leads || may_lead {
                let change = PartitionChange { leader: Some(Some(node_id)), ..PartitionChange::default() };
                records.push(MetadataRecord::PartitionChange { topic_id: topic.topic_id, partition, change });
            }
        }
    }
}

fn check(image: &MetadataImage, request: &RegisterBroker) -> Result<(), RegisterBrokerError> {
    if let Some(expected) = image.cluster_id()
        && *expected != request.cluster_id
    {
        let (expected, found) = (Arc::clone(expected), Arc::clone(&request.cluster_id));
        return Err(RegisterBrokerError::WrongCluster { expected, found });
    }
    let existing = image.broker(request.node_id);
    if request.earlier_is_alive && existing.is_some_and(|existing| existing.incarnation_id != request.incarnation_id) {
        return Err(RegisterBrokerError::Duplicate);
    }
    check_directories(image, request)?;
    for (feature, level) in image.features() {
        let supported = request.features.iter().find(|supported| supported.name == *feature);
        let (min_level, max_level) = supported.map_or((0, 0), |supported| (supported.min_level, supported.max_level));
        if !(min_level..=max_level).contains(&level) {
            let feature = Arc::clone(feature);
            return Err(RegisterBrokerError::UnsupportedFeature { feature, level, min_level, max_level });
        }
    }
    Ok(())
}

fn check_directories(image: &MetadataImage, request: &RegisterBroker) -> Result<(), RegisterBrokerError> {
    if request.log_dirs.is_empty() {
        return Err(RegisterBrokerError::NoDirectories);
    }
    if request.log_dirs.iter().any(|&directory| directory_id::is_reserved(directory)) {
        return Err(RegisterBrokerError::ReservedDirectory);
    }
    let distinct: BTreeSet<&Uuid> = request.log_dirs.iter().collect();
    if distinct.len() != request.log_dirs.len() {
        return Err(RegisterBrokerError::DuplicateDirectory);
    }
    for broker in image.brokers().filter(|broker| broker.node_id != request.node_id) {
        if let Some(&directory) = broker.log_dirs.iter().find(|directory| distinct.contains(directory)) {
            return Err(RegisterBrokerError::DirectoryTaken { owner: broker.node_id, directory });
        }
    }
    Ok(())
}
