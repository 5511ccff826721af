//! Where the replicas of new partitions go.
//!
//! Leaders go round the brokers that serve; the other replicas go to racks and brokers the partition does not use yet,
//! serving brokers before fenced ones, and with a growing distance, so that no two brokers share all their partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_image::{BrokerRegistration, MetadataImage};
use ottla_types::NodeId;

/// Why replicas cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    #[error("Invalid replication factor {0}: the replication factor must be positive.")]
    NotPositive(i16),
    #[error("All brokers are currently fenced, or have all their log directories cordoned.")]
    NoUsableBroker,
    #[error(
        "The target replication factor of {replication_factor} cannot be reached because only {brokers} broker(s) are \
         registered or some brokers have all their log directories cordoned."
    )]
    TooFewBrokers { replication_factor: i16, brokers: usize },
}

/// Replicas for so many partitions, the leader first. `start` says which broker leads the first of them; given at
/// random, topics of few partitions spread too.
pub fn place(
    image: &MetadataImage,
    partitions: usize,
    replication_factor: i16,
    start: u64,
) -> Result<Vec<Vec<NodeId>>, PlacementError> {
    let count = usize::try_from(replication_factor)
        .ok()
        .filter(|count| *count > 0)
        .ok_or(PlacementError::NotPositive(replication_factor))?;
    let brokers = in_rack_order(image);
    let serving = brokers.iter().filter(|broker| !broker.fenced).count();
    if serving == 0 {
        return Err(PlacementError::NoUsableBroker);
    }
    if count > brokers.len() {
        return Err(PlacementError::TooFewBrokers { replication_factor, brokers: brokers.len() });
    }
    let leaders: Vec<usize> = (0..brokers.len()).filter(|&position| !brokers[position].fenced).collect();
    let first = (start % serving as u64) as usize;
    Ok((0..partitions)
        .map(|partition| {
            let leader = leaders[(first + partition) % serving];
            // Each round of leaders puts the next replica one further from its leader.
            let distance = 1 + (partition / serving) % brokers.len().saturating_sub(1).max(1);
            replicas_of(&brokers, leader, distance, count)
        })
        .collect())
}

fn replicas_of(brokers: &[Candidate], leader: usize, distance: usize, count: usize) -> Vec<NodeId> {
    let mut chosen = vec![leader];
    let mut rack_use: BTreeMap<&Option<Arc<str>>, usize> = BTreeMap::from([(&brokers[leader].rack, 1)]);
    while chosen.len() < count {
        let next = (0..brokers.len())
            .map(|step| (leader + distance + step) % brokers.len())
            .filter(|position| !chosen.contains(position))
            .min_by_key(|&position| {
                let broker = &brokers[position];
                (rack_use.get(&broker.rack).copied().unwrap_or(0), broker.fenced)
            })
            .expect("invariant: there are at least as many brokers as replicas");
        *rack_use.entry(&brokers[next].rack).or_default() += 1;
        chosen.push(next);
    }
    chosen.into_iter().map(|position| brokers[position].node_id).collect()
}

struct Candidate {
    node_id: NodeId,
    rack: Option<Arc<str>>,
    fenced: bool,
}

/// The brokers that may take replicas, one of each rack in turn.
fn in_rack_order(image: &MetadataImage) -> Vec<Candidate> {
    let mut racks: BTreeMap<&Option<Arc<str>>, Vec<&BrokerRegistration>> = BTreeMap::new();
    for broker in image.brokers().filter(|broker| takes_replicas(broker)) {
        racks.entry(&broker.rack).or_default().push(broker);
    }
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|place| racks.values().filter_map(move |brokers| brokers.get(place)))
        .map(|broker| Candidate { node_id: broker.node_id, rack: broker.rack.clone(), fenced: !serves(broker) })
        .collect()
}

/// Whether a broker can lead and be in sync now.
pub(crate) fn serves(broker: &BrokerRegistration) -> bool {
    !broker.fenced && !broker.in_controlled_shutdown
}

/// Whether any directory of the broker takes new replicas.
pub(crate) fn takes_replicas(broker: &BrokerRegistration) -> bool {
    broker.log_dirs.is_empty() || broker.log_dirs.iter().any(|directory| !broker.cordoned_log_dirs.contains(directory))
}
