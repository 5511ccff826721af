//! Placement.

use std::collections::{BTreeMap, BTreeSet};

use ottla_controller::{RegisterBroker, place, register_broker};
use ottla_image::MetadataImage;
use ottla_types::NodeId;

use crate::support::{cluster, commit, registration};

fn racked(brokers: &[(i32, &str, bool)]) -> MetadataImage {
    let mut image = cluster(&[]);
    for (node, rack, fenced) in brokers {
        let request = RegisterBroker { rack: Some((*rack).into()), fenced: *fenced, ..registration(*node, 1) };
        let outcome = register_broker(&image, &request);
        commit(&mut image, outcome).unwrap();
    }
    image
}

fn leaders(placed: &[Vec<NodeId>]) -> BTreeMap<NodeId, usize> {
    let mut counts = BTreeMap::new();
    for replicas in placed {
        *counts.entry(replicas[0]).or_default() += 1;
    }
    counts
}

#[test]
fn leaders_and_replicas_are_spread_evenly() {
    let image = cluster(&[1, 2, 3, 4, 5]);
    for start in 0..7 {
        let placed = place(&image, 20, 3, start).unwrap();
        assert!(leaders(&placed).values().all(|count| *count == 4));
        let mut replicas = BTreeMap::<NodeId, usize>::new();
        for partition in &placed {
            assert_eq!(partition.iter().collect::<BTreeSet<_>>().len(), 3, "replicas are on different brokers");
            for broker in partition {
                *replicas.entry(*broker).or_default() += 1;
            }
        }
        assert!(replicas.values().all(|count| *count == 12), "{replicas:?}");
        let pairs: BTreeSet<_> = placed.iter().map(|partition| (partition[0], partition[1])).collect();
        assert_eq!(pairs.len(), 20, "no two brokers share all their partitions");
    }
}

#[test]
fn the_start_decides_who_leads_first() {
    let image = cluster(&[1, 2, 3]);
    let firsts: BTreeSet<_> = (0..3).map(|start| place(&image, 1, 1, start).unwrap()[0][0]).collect();
    assert_eq!(firsts.len(), 3);
    assert_eq!(place(&image, 5, 2, 1), place(&image, 5, 2, 1));
}

#[test]
fn replicas_are_on_different_racks() {
    let image = racked(&[(1, "a", false), (2, "a", false), (3, "b", false), (4, "b", false), (5, "c", false)]);
    let rack = |node: &NodeId| image.broker(*node).unwrap().rack.clone();
    for start in 0..5 {
        for partition in place(&image, 30, 3, start).unwrap() {
            assert_eq!(partition.iter().map(rack).collect::<BTreeSet<_>>().len(), 3);
        }
        for partition in place(&image, 30, 4, start).unwrap() {
            assert_eq!(partition.iter().map(rack).collect::<BTreeSet<_>>().len(), 3);
        }
    }
}

#[test]
fn fenced_brokers_follow_and_never_lead() {
    let image = racked(&[(1, "a", false), (2, "a", true), (3, "a", false)]);
    let placed = place(&image, 12, 3, 0).unwrap();
    assert_eq!(leaders(&placed), BTreeMap::from([(NodeId(1), 6), (NodeId(3), 6)]));
    for partition in &placed {
        assert_eq!(partition[2], NodeId(2), "brokers that serve come first");
    }
    assert!(place(&image, 12, 2, 0).unwrap().iter().all(|partition| !partition.contains(&NodeId(2))));
}

#[test]
fn cordoned_brokers_take_nothing() {
    let mut image = cluster(&[1, 2]);
    let directories = registration(3, 1).log_dirs;
    let request = RegisterBroker { cordoned_log_dirs: directories, ..registration(3, 1) };
    let outcome = register_broker(&image, &request);
    commit(&mut image, outcome).unwrap();
    assert!(place(&image, 9, 2, 0).unwrap().iter().all(|partition| !partition.contains(&NodeId(3))));
    assert!(place(&image, 1, 3, 0).is_err());
}
