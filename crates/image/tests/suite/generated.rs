//! Arbitrary records, and sequences of records that fit together.

use std::sync::Arc;

use ottla_image::{
    BrokerListener, BrokerRegistration, BrokerRegistrationChange, ConfigResource, ConfigResourceType,
    LeaderRecoveryState, MetadataRecord, PartitionChange, PartitionRegistration, SecurityProtocol, SupportedFeature,
};
use ottla_types::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, Uuid};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just(""), Just("a"), Just("orders.v1"), Just("žluťoučký"), Just("x_y")].prop_map(Arc::from)
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid)
}

fn nodes() -> impl Strategy<Value = Vec<NodeId>> {
    vec(any::<i32>().prop_map(NodeId), 0..4)
}

fn recovery() -> impl Strategy<Value = LeaderRecoveryState> {
    prop_oneof![Just(LeaderRecoveryState::Recovered), Just(LeaderRecoveryState::Recovering)]
}

fn registration() -> impl Strategy<Value = PartitionRegistration> {
    (
        (nodes(), vec(uuid(), 0..4), nodes(), nodes(), nodes(), nodes(), nodes()),
        (option::of(any::<i32>().prop_map(NodeId)), recovery(), any::<i32>(), any::<i32>()),
    )
        .prop_map(
            |((replicas, directories, isr, adding, removing, eligible, last), (leader, state, epoch, changes))| {
                PartitionRegistration {
                    replicas,
                    directories,
                    isr,
                    adding_replicas: adding,
                    removing_replicas: removing,
                    eligible_leader_replicas: eligible,
                    last_known_eligible_leader_replicas: last,
                    leader,
                    leader_recovery_state: state,
                    leader_epoch: LeaderEpoch(epoch),
                    partition_epoch: PartitionEpoch(changes),
                }
            },
        )
}

fn change() -> impl Strategy<Value = PartitionChange> {
    (
        (option::of(nodes()), option::of(vec(uuid(), 0..4)), option::of(nodes()), option::of(nodes())),
        (option::of(nodes()), option::of(nodes()), option::of(nodes())),
        (option::of(option::of(any::<i32>().prop_map(NodeId))), option::of(recovery())),
    )
        .prop_map(|((replicas, directories, isr, adding), (removing, eligible, last), (leader, state))| {
            PartitionChange {
                replicas,
                directories,
                isr,
                adding_replicas: adding,
                removing_replicas: removing,
                eligible_leader_replicas: eligible,
                last_known_eligible_leader_replicas: last,
                leader,
                leader_recovery_state: state,
            }
        })
}

fn broker() -> impl Strategy<Value = BrokerRegistration> {
    let listener = (text(), text(), any::<u16>(), 0i16..4).prop_map(|(name, host, port, protocol)| BrokerListener {
        name,
        host,
        port,
        security_protocol: SecurityProtocol::from_code(protocol).expect("one of the four"),
    });
    let feature = (text(), any::<i16>(), any::<i16>()).prop_map(|(name, min_level, max_level)| SupportedFeature {
        name,
        min_level,
        max_level,
    });
    (
        (any::<i32>(), uuid(), any::<i64>(), vec(listener, 0..3), option::of(text())),
        (vec(feature, 0..3), vec(uuid(), 0..3), vec(uuid(), 0..3), any::<bool>(), any::<bool>()),
    )
        .prop_map(
            |((node_id, incarnation_id, epoch, listeners, rack), (features, dirs, cordoned, fenced, leaving))| {
                BrokerRegistration {
                    node_id: NodeId(node_id),
                    incarnation_id,
                    broker_epoch: BrokerEpoch(epoch),
                    listeners,
                    rack,
                    features,
                    log_dirs: dirs,
                    cordoned_log_dirs: cordoned,
                    fenced,
                    in_controlled_shutdown: leaving,
                }
            },
        )
}

/// Any record whatever, sensible or not.
pub fn any_record() -> impl Strategy<Value = MetadataRecord> {
    let resource_type = prop_oneof![
        Just(ConfigResourceType::Topic),
        Just(ConfigResourceType::Broker),
        Just(ConfigResourceType::ClientMetrics),
        Just(ConfigResourceType::Group)
    ];
    prop_oneof![
        text().prop_map(|cluster_id| MetadataRecord::ClusterId { cluster_id }),
        (text(), uuid()).prop_map(|(name, topic_id)| MetadataRecord::Topic { name, topic_id }),
        uuid().prop_map(|topic_id| MetadataRecord::RemoveTopic { topic_id }),
        (uuid(), any::<i32>(), registration()).prop_map(|(topic_id, partition, registration)| {
            MetadataRecord::Partition { topic_id, partition, registration }
        }),
        (uuid(), any::<i32>(), change()).prop_map(|(topic_id, partition, change)| MetadataRecord::PartitionChange {
            topic_id,
            partition,
            change
        }),
        (resource_type, text(), text(), option::of(text())).prop_map(|(resource_type, name, key, value)| {
            MetadataRecord::Config { resource: ConfigResource { resource_type, name }, key, value }
        }),
        broker().prop_map(MetadataRecord::RegisterBroker),
        (any::<i32>(), any::<i64>()).prop_map(|(node_id, epoch)| MetadataRecord::UnregisterBroker {
            node_id: NodeId(node_id),
            broker_epoch: BrokerEpoch(epoch)
        }),
        (
            (any::<i32>(), any::<i64>(), option::of(any::<bool>()), option::of(any::<bool>())),
            (option::of(vec(uuid(), 0..3)), option::of(vec(uuid(), 0..3)))
        )
            .prop_map(|((node_id, epoch, fenced, in_controlled_shutdown), (log_dirs, cordoned_log_dirs))| {
                MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChange {
                    node_id: NodeId(node_id),
                    broker_epoch: BrokerEpoch(epoch),
                    fenced,
                    in_controlled_shutdown,
                    log_dirs,
                    cordoned_log_dirs,
                })
            }),
        any::<i64>().prop_map(|epoch| MetadataRecord::NextBrokerEpoch { broker_epoch: BrokerEpoch(epoch) }),
        (text(), any::<i16>()).prop_map(|(name, level)| MetadataRecord::FeatureLevel { name, level }),
        (any::<i32>(), any::<i64>(), any::<i64>()).prop_map(|(node_id, epoch, next_producer_id)| {
            MetadataRecord::ProducerIds { node_id: NodeId(node_id), broker_epoch: BrokerEpoch(epoch), next_producer_id }
        }),
    ]
}

/// Records over a handful of names, so that many of them can be applied, one after the other.
pub fn plausible_records() -> impl Strategy<Value = Vec<MetadataRecord>> {
    let id = |topic: u8| Uuid([topic; 16]);
    let topic_id = (1u8..6).prop_map(id);
    let step = prop_oneof![
        3 => (1u8..6).prop_map(move |topic| MetadataRecord::Topic {
            name: format!("topic.{}", topic % 4).into(),
            topic_id: id(topic)
        }),
        1 => topic_id.clone().prop_map(|topic_id| MetadataRecord::RemoveTopic { topic_id }),
        5 => (topic_id.clone(), 0i32..4, 1usize..4).prop_map(|(topic_id, partition, replicas)| {
            let replicas: Vec<NodeId> = (0..replicas as i32).map(NodeId).collect();
            let directories = vec![Uuid::ZERO; replicas.len()];
            MetadataRecord::Partition {
                topic_id,
                partition,
                registration: PartitionRegistration::new(replicas, directories),
            }
        }),
        5 => (topic_id, 0i32..4, option::of(option::of(0i32..3))).prop_map(|(topic_id, partition, leader)| {
            let change = PartitionChange {
                leader: leader.map(|leader| leader.map(NodeId)),
                isr: Some(vec![NodeId(0)]),
                ..PartitionChange::default()
            };
            MetadataRecord::PartitionChange { topic_id, partition, change }
        }),
        3 => (0i32..3, 0u8..3, any::<bool>()).prop_map(|(node, key, set)| MetadataRecord::Config {
            resource: ConfigResource::broker(NodeId(node)),
            key: format!("key{key}").into(),
            value: set.then(|| "value".into())
        }),
        2 => (0i32..3, 0i64..40).prop_map(|(node, epoch)| MetadataRecord::RegisterBroker(BrokerRegistration {
            node_id: NodeId(node),
            incarnation_id: Uuid([node as u8; 16]),
            broker_epoch: BrokerEpoch(epoch),
            listeners: Vec::new(),
            rack: None,
            features: Vec::new(),
            log_dirs: Vec::new(),
            cordoned_log_dirs: Vec::new(),
            fenced: false,
            in_controlled_shutdown: false,
        })),
        1 => (0i32..3, 0i64..40).prop_map(|(node, epoch)| MetadataRecord::UnregisterBroker {
            node_id: NodeId(node),
            broker_epoch: BrokerEpoch(epoch)
        }),
        1 => (0u8..3, 0i16..3)
            .prop_map(|(name, level)| MetadataRecord::FeatureLevel { name: format!("f{name}").into(), level }),
        1 => (0i64..9).prop_map(|blocks| MetadataRecord::ProducerIds {
            node_id: NodeId(0),
            broker_epoch: BrokerEpoch(0),
            next_producer_id: blocks * 1000
        }),
    ];
    vec(step, 0..80)
}
