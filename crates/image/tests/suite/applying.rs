//! Applying records.

use std::sync::Arc;

use ottla_image::{ConfigResource, ImageError, MetadataImage, MetadataRecord, PartitionChange, PartitionRegistration};
use ottla_types::{LeaderEpoch, NodeId, PartitionEpoch, Uuid};
use proptest::prelude::*;

use crate::generated::plausible_records;

fn topic(name: &str, id: u8) -> MetadataRecord {
    MetadataRecord::Topic { name: name.into(), topic_id: Uuid([id; 16]) }
}

fn partition(id: u8, partition: i32, replicas: &[i32]) -> MetadataRecord {
    let replicas: Vec<NodeId> = replicas.iter().copied().map(NodeId).collect();
    let directories = vec![Uuid::ZERO; replicas.len()];
    MetadataRecord::Partition {
        topic_id: Uuid([id; 16]),
        partition,
        registration: PartitionRegistration::new(replicas, directories),
    }
}

fn change(id: u8, partition: i32, change: PartitionChange) -> MetadataRecord {
    MetadataRecord::PartitionChange { topic_id: Uuid([id; 16]), partition, change }
}

fn image(records: &[MetadataRecord]) -> MetadataImage {
    let image = MetadataImage::default().apply_all(records).expect("the records fit");
    image.check_invariants();
    image
}

#[test]
fn a_topic_lives_and_dies() {
    let before = image(&[topic("a.b", 1), partition(1, 0, &[1, 2]), partition(1, 1, &[2, 1])]);
    assert_eq!(before.topic_id("a.b"), Some(Uuid([1; 16])));
    assert_eq!(before.partition("a.b", 1).unwrap().leader, Some(NodeId(2)));
    assert_eq!(before.partition_count(), 2);
    assert_eq!(before.colliding_topic("a_b").map(|name| &**name), Some("a.b"));
    assert_eq!(before.colliding_topic("ab"), None);
    assert_eq!(before.colliding_topic("a_c"), None);

    let config = MetadataRecord::Config {
        resource: ConfigResource::topic("a.b"),
        key: "retention.ms".into(),
        value: Some("1".into()),
    };
    let after = before.apply_all(&[config, MetadataRecord::RemoveTopic { topic_id: Uuid([1; 16]) }]).unwrap();
    after.check_invariants();
    assert_eq!(after, MetadataImage::default());
    assert_eq!(before.topic_count(), 1, "an earlier image does not move");
}

#[test]
fn equal_partitions_of_a_topic_are_one_in_memory() {
    let image = image(&[
        topic("t", 1),
        partition(1, 0, &[1, 2]),
        partition(1, 1, &[2, 1]),
        partition(1, 2, &[1, 2]),
        partition(1, 3, &[2, 1]),
        change(1, 2, PartitionChange { isr: Some(vec![NodeId(1)]), ..Default::default() }),
    ]);
    let of = |number| image.partition("t", number).unwrap();
    assert!(Arc::ptr_eq(of(1), of(3)));
    assert_eq!((&of(0).isr[..], &of(2).isr[..]), (&[NodeId(1), NodeId(2)][..], &[NodeId(1)][..]));
}

#[test]
fn epochs_move_with_changes() {
    let image = image(&[
        topic("t", 1),
        partition(1, 0, &[1, 2, 3]),
        change(1, 0, PartitionChange { isr: Some(vec![NodeId(1)]), ..Default::default() }),
        change(1, 0, PartitionChange { leader: Some(Some(NodeId(1))), ..Default::default() }),
        change(1, 0, PartitionChange { leader: Some(None), ..Default::default() }),
    ]);
    let partition = image.partition("t", 0).unwrap();
    assert_eq!(partition.partition_epoch, PartitionEpoch(3));
    assert_eq!(partition.leader_epoch, LeaderEpoch(2), "a leader named, even the same one, moves the leader epoch");
    assert_eq!(partition.leader, None);
    assert_eq!(partition.isr, [NodeId(1)]);
}

#[test]
fn directories_follow_their_replicas() {
    let directories = PartitionChange { directories: Some(vec![Uuid([8; 16]), Uuid([9; 16])]), ..Default::default() };
    let replicas = PartitionChange { replicas: Some(vec![NodeId(3), NodeId(2)]), ..Default::default() };
    let isr = PartitionChange { isr: Some(vec![NodeId(2)]), leader: Some(Some(NodeId(2))), ..Default::default() };
    let image = image(&[
        topic("t", 1),
        partition(1, 0, &[1, 2]),
        change(1, 0, directories),
        change(1, 0, isr),
        change(1, 0, replicas),
    ]);
    let partition = image.partition("t", 0).unwrap();
    assert_eq!(partition.directories, [Uuid::ZERO, Uuid([9; 16])]);
    assert_eq!(partition.directory(NodeId(2)), Some(Uuid([9; 16])));
    assert_eq!(partition.directory(NodeId(1)), None);
}

#[test]
fn what_does_not_fit_is_refused() {
    let base = image(&[topic("t", 1), partition(1, 0, &[1]), topic("u", 2)]);
    let id = Uuid([1; 16]);
    let unknown = Uuid([9; 16]);
    let producer_ids =
        |next_producer_id| MetadataRecord::ProducerIds { node_id: NodeId(1), broker_epoch: 0.into(), next_producer_id };
    let cases = [
        (vec![topic("t", 3)], ImageError::TopicNameTaken { name: "t".into(), existing: id }),
        (vec![topic("v", 1)], ImageError::TopicIdTaken { topic_id: id, existing: "t".into() }),
        (vec![MetadataRecord::RemoveTopic { topic_id: unknown }], ImageError::UnknownTopic { topic_id: unknown }),
        (vec![partition(9, 0, &[1])], ImageError::UnknownTopic { topic_id: unknown }),
        (vec![partition(1, 2, &[1])], ImageError::PartitionOutOfOrder { topic_id: id, expected: 1, found: 2 }),
        (vec![partition(1, -1, &[1])], ImageError::PartitionOutOfOrder { topic_id: id, expected: 1, found: -1 }),
        (vec![change(1, 1, PartitionChange::default())], ImageError::UnknownPartition { topic_id: id, partition: 1 }),
        (
            vec![MetadataRecord::UnregisterBroker { node_id: NodeId(4), broker_epoch: 1.into() }],
            ImageError::UnknownBroker { node_id: NodeId(4) },
        ),
        (vec![producer_ids(2000), producer_ids(1000)], ImageError::ProducerIdsUsed { existing: 2000, found: 1000 }),
    ];
    for (records, expected) in cases {
        assert_eq!(base.apply_all(&records), Err(expected), "{records:?}");
    }
    for replicas in [&[][..], &[1, 1]] {
        let result = base.apply_all(&[partition(1, 1, replicas)]);
        assert!(matches!(result, Err(ImageError::InvalidPartition { partition: 1, .. })), "{result:?}");
    }
}

proptest! {
    /// Invariants hold after every record, a refused one changes nothing, and a snapshot builds the same image.
    #[test]
    fn images_keep_their_invariants(records in plausible_records()) {
        let mut image = MetadataImage::default();
        for record in &records {
            let before = image.clone();
            if image.apply(record).is_err() {
                prop_assert_eq!(&image, &before);
            }
            image.check_invariants();
        }
        let rebuilt = MetadataImage::default().apply_all(&image.to_records()).unwrap();
        rebuilt.check_invariants();
        prop_assert_eq!(&rebuilt, &image);
        prop_assert_eq!(rebuilt.to_records(), image.to_records());
    }
}
