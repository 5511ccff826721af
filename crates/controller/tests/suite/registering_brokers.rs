//! BrokerRegistration.

use ottla_controller::{RegisterBroker, RegisterBrokerError, register_broker};
use ottla_image::{MetadataRecord, PartitionChange, SupportedFeature};
use ottla_types::{BrokerEpoch, ErrorCode, LeaderEpoch, NodeId, Uuid};

use crate::support::{cluster, commit, registration, with_topics};

#[test]
fn a_new_incarnation_leads_in_new_epochs() {
    let mut image = with_topics(cluster(&[1, 2]), &["t"]);
    let led = |image: &ottla_image::MetadataImage, node: i32| {
        let topic = image.topic_by_name("t").unwrap();
        let epochs: Vec<_> = topic
            .partitions()
            .filter(|(_, partition)| partition.leader == Some(NodeId(node)))
            .map(|(_, partition)| (partition.leader_epoch, partition.isr.clone()))
            .collect();
        epochs
    };
    let before = (led(&image, 1), led(&image, 2));
    assert_eq!((before.0.len(), before.1.len()), (1, 1));

    let outcome = register_broker(&image, &registration(1, 2));
    assert_eq!(commit(&mut image, outcome), Ok(BrokerEpoch(2)), "each registration has an epoch of its own");
    assert_eq!(led(&image, 1), [(LeaderEpoch(1), before.0[0].1.clone())]);
    assert_eq!(led(&image, 2), before.1, "what others lead stays");

    // The same incarnation again: its epochs stay.
    let again = RegisterBroker { rack: Some("r".into()), fenced: true, ..registration(1, 2) };
    let outcome = register_broker(&image, &again);
    assert_eq!(commit(&mut image, outcome), Ok(BrokerEpoch(2)));
    assert_eq!(led(&image, 1)[0].0, LeaderEpoch(1));
    let broker = image.broker(NodeId(1)).unwrap();
    assert!(!broker.fenced, "registering again does not fence");
    assert_eq!(broker.rack.as_deref(), Some("r"));
    assert_eq!(image.next_broker_epoch(), BrokerEpoch(3));
}

#[test]
fn a_broker_back_leads_what_nobody_led() {
    let mut image = with_topics(cluster(&[1]), &["t"]);
    let topic_id = image.topic_id("t").unwrap();
    let change = PartitionChange { leader: Some(None), ..PartitionChange::default() };
    image.apply(&MetadataRecord::PartitionChange { topic_id, partition: 1, change }).unwrap();

    let fenced = register_broker(&image, &RegisterBroker { fenced: true, ..registration(1, 2) });
    assert_eq!(fenced.records.len(), 2, "a fenced one leads only what it led");
    let outcome = register_broker(&image, &registration(1, 2));
    commit(&mut image, outcome).unwrap();
    let partition = image.partition("t", 1).unwrap();
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(1)), LeaderEpoch(2)));
}

#[test]
fn who_may_not_register() {
    let mut image = cluster(&[1, 2]);
    image.apply(&MetadataRecord::FeatureLevel { name: "metadata.version".into(), level: 30 }).unwrap();
    let feature = |min_level, max_level| SupportedFeature { name: "metadata.version".into(), min_level, max_level };
    let valid = RegisterBroker { features: vec![feature(7, 30)], ..registration(3, 1) };
    let directory = |byte| Uuid([byte; 16]);
    let cases = [
        (valid.clone(), ErrorCode::None),
        (RegisterBroker { cluster_id: "other".into(), ..valid.clone() }, ErrorCode::InconsistentClusterId),
        (
            RegisterBroker {
                earlier_is_alive: true,
                node_id: NodeId(1),
                incarnation_id: directory(5),
                ..valid.clone()
            },
            ErrorCode::DuplicateBrokerRegistration,
        ),
        (RegisterBroker { log_dirs: vec![], ..valid.clone() }, ErrorCode::InvalidRegistration),
        (RegisterBroker { log_dirs: vec![Uuid::ZERO], ..valid.clone() }, ErrorCode::InvalidRegistration),
        (
            RegisterBroker { log_dirs: vec![directory(1), directory(1)], ..valid.clone() },
            ErrorCode::InvalidRegistration,
        ),
        (RegisterBroker { log_dirs: registration(2, 1).log_dirs, ..valid.clone() }, ErrorCode::InvalidRegistration),
        (RegisterBroker { features: vec![], ..valid.clone() }, ErrorCode::UnsupportedVersion),
        (RegisterBroker { features: vec![feature(7, 29)], ..valid.clone() }, ErrorCode::UnsupportedVersion),
        (RegisterBroker { features: vec![feature(31, 40)], ..valid }, ErrorCode::UnsupportedVersion),
    ];
    for (request, expected) in cases {
        let outcome = register_broker(&image, &request);
        let code = outcome.response.as_ref().map_or_else(RegisterBrokerError::error_code, |_| ErrorCode::None);
        assert_eq!(code, expected, "{request:?}: {:?}", outcome.response);
        assert_eq!(outcome.records.is_empty(), expected != ErrorCode::None);
    }
}
