//! What is taken over, and how.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_adopt::{AdoptionState, KafkaRecord, LeftOut, Note, execute, inspect};
use ottla_image::{ConfigResource, ConfigResourceType, PartitionRegistration, directory_id as reserved};
use ottla_protocol::records::abort_transaction_record::AbortTransactionRecord;
use ottla_protocol::records::begin_transaction_record::BeginTransactionRecord;
use ottla_protocol::records::end_transaction_record::EndTransactionRecord;
use ottla_protocol::records::partition_change_record::PartitionChangeRecord;
use ottla_protocol::records::partition_record::PartitionRecord;
use ottla_protocol::records::producer_ids_record::ProducerIdsRecord;
use ottla_protocol::records::remove_topic_record::RemoveTopicRecord;
use ottla_record::{BatchBuilder, Compression, ControlMarker, ControlType, control_marker};
use ottla_types::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, TopicPartition, Uuid};

use crate::generator::*;

fn begin() -> KafkaRecord {
    BeginTransactionRecord::default().into()
}

fn end() -> KafkaRecord {
    EndTransactionRecord::default().into()
}

fn abort() -> KafkaRecord {
    AbortTransactionRecord::default().into()
}

fn producer_ids(next_producer_id: i64) -> KafkaRecord {
    ProducerIdsRecord { broker_id: NODE, broker_epoch: 4, next_producer_id }.into()
}

fn change(topic_id: Uuid, partition_id: i32) -> PartitionChangeRecord {
    PartitionChangeRecord { topic_id, partition_id, ..PartitionChangeRecord::default() }
}

#[test]
fn everything_a_node_serves() {
    let mut log = beginning();
    log.batch(&[topic("orders", topic_id(1)), config(2, "orders", "retention.ms", Some("7"))])
        .batch(&[partition(topic_id(1), 0), partition(topic_id(1), 1)])
        .batch(&[config(4, "", "message.max.bytes", Some("2000000")), config(4, "1", "num.io.threads", Some("9"))])
        .batch(&[
            config(16, "metrics", "interval.ms", Some("30000")),
            config(32, "g", "consumer.session.timeout.ms", Some("50000")),
        ])
        .batch(&[config(2, "orders", "segment.ms", Some("8")), config(2, "orders", "segment.ms", None)])
        .batch(&[feature_level("group.version", 1), producer_ids(3_000)]);
    let kafka = KafkaDirectory::with_log(1, &log);
    kafka.partition(DIRECTORY, "orders-0", topic_id(1), b"12345");
    kafka.partition(DIRECTORY, "orders-1", topic_id(1), b"");
    let before = kafka.content();

    let seen = inspect(&kafka.world, &settings()).unwrap();
    assert_eq!(seen.state, AdoptionState::Adoptable, "{:?}", seen.refusals);
    assert_eq!(kafka.content(), before, "a look changes nothing");
    assert_eq!((seen.cluster_id.as_str(), seen.node_id, seen.stopped_cleanly), (CLUSTER_ID, NODE, true));
    assert_eq!(
        (seen.source.end_offset, seen.source.segments, seen.next_producer_id),
        (log.next_offset, 1, FIRST_PRODUCER_ID)
    );
    let topics: Vec<_> =
        seen.topics.iter().map(|topic| (&*topic.name, topic.partitions, topic.found, topic.bytes)).collect();
    assert_eq!(topics, [("orders", 2, 2, 5)]);
    let features: Vec<_> =
        seen.features.iter().map(|feature| (&*feature.name, feature.level, feature.adopted)).collect();
    assert_eq!(features, [("group.version", 1, 0), ("metadata.version", 30, 33)]);
    assert_eq!(seen.left_out, [LeftOut::Feature { name: "group.version".into(), level: 1 }]);

    let done = execute(&kafka.world, &settings()).unwrap();
    assert_eq!(done.state, AdoptionState::Adopted);
    for (path, content) in &before {
        assert_eq!(kafka.world.disk.read_file(path, 1 << 30).unwrap(), *content, "{} was changed", path.display());
    }
    let image = adopted_image(&kafka.world, DIRECTORY);
    image.check_invariants();
    assert_eq!(image.topic_id("orders"), Some(topic_id(1)));
    let expected = PartitionRegistration {
        leader: None,
        leader_epoch: LeaderEpoch(3),
        partition_epoch: PartitionEpoch(7),
        ..PartitionRegistration::new(vec![NodeId(NODE)], vec![directory_id(1)])
    };
    for number in 0..2 {
        assert_eq!(**image.partition("orders", number).unwrap(), expected);
    }
    let set = |resource_type, name: &str| -> Vec<(String, String)> {
        let resource = ConfigResource { resource_type, name: name.into() };
        let configs = image.configs(&resource).unwrap();
        configs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    };
    let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    assert_eq!(set(ConfigResourceType::Topic, "orders"), pair("retention.ms", "7"));
    assert_eq!(set(ConfigResourceType::Broker, ""), pair("message.max.bytes", "2000000"));
    assert_eq!(set(ConfigResourceType::Broker, "1"), pair("num.io.threads", "9"));
    assert_eq!(set(ConfigResourceType::ClientMetrics, "metrics"), pair("interval.ms", "30000"));
    assert_eq!(set(ConfigResourceType::Group, "g"), pair("consumer.session.timeout.ms", "50000"));
    assert_eq!((image.feature_level("metadata.version"), image.feature_level("group.version")), (33, 0));
    assert_eq!(image.next_producer_id(), FIRST_PRODUCER_ID);
    let registered = image.broker(NodeId(NODE)).unwrap();
    assert_eq!((registered.broker_epoch, registered.log_dirs.clone()), (BrokerEpoch(4), vec![directory_id(1)]));
    assert_eq!(image.next_broker_epoch(), BrokerEpoch(log.next_offset));
}

#[test]
fn producer_ids_are_above_those_of_kafka() {
    let mut log = beginning();
    log.batch(&[producer_ids(FIRST_PRODUCER_ID + 1)]);
    let kafka = KafkaDirectory::with_log(12, &log);
    assert_eq!(execute(&kafka.world, &settings()).unwrap().next_producer_id, FIRST_PRODUCER_ID + 1);
    assert_eq!(adopted_image(&kafka.world, DIRECTORY).next_producer_id(), FIRST_PRODUCER_ID + 1);
}

#[test]
fn a_second_run_changes_nothing() {
    let mut log = beginning();
    log.batch(&[topic("t", topic_id(1)), partition(topic_id(1), 0)]);
    let kafka = KafkaDirectory::with_log(2, &log);
    assert_eq!(execute(&kafka.world, &settings()).unwrap().state, AdoptionState::Adopted);
    let after = kafka.content();
    assert_eq!(execute(&kafka.world, &settings()).unwrap().state, AdoptionState::AdoptedBefore);
    assert_eq!(inspect(&kafka.world, &settings()).unwrap().state, AdoptionState::AdoptedBefore);
    assert_eq!(kafka.content(), after);
}

#[test]
fn changes_add_up_as_in_kafka() {
    let id = topic_id(1);
    let mut log = beginning();
    log.batch(&[topic("t", id), replicated(id, 0, &[NODE, 2], &[NODE, 2])]).batch(&[
        PartitionChangeRecord { leader: 2, isr: Some(vec![2]), ..change(id, 0) }.into(),
        PartitionChangeRecord { replicas: Some(vec![NODE]), isr: Some(vec![NODE]), leader: NODE, ..change(id, 0) }
            .into(),
        PartitionChangeRecord { directories: Some(vec![directory_id(9)]), ..change(id, 0) }.into(),
    ]);
    let kafka = KafkaDirectory::with_log(3, &log);
    assert_eq!(execute(&kafka.world, &settings()).unwrap().state, AdoptionState::Adopted);
    let image = adopted_image(&kafka.world, DIRECTORY);
    let found = image.partition("t", 0).unwrap();
    assert_eq!((found.leader_epoch, found.partition_epoch), (LeaderEpoch(5), PartitionEpoch(10)));
    assert_eq!((&found.replicas, &found.isr), (&vec![NodeId(NODE)], &vec![NodeId(NODE)]));
    assert_eq!(found.directories, [directory_id(9)]);
}

#[test]
fn transactions_of_records() {
    let topics = |log: &LogBytes| {
        let kafka = KafkaDirectory::with_log(4, log);
        let report = inspect(&kafka.world, &settings()).unwrap();
        let names: Vec<String> = report.topics.iter().map(|topic| topic.name.to_string()).collect();
        (names.join(","), report.source.unfinished_transaction, report.notes.contains(&Note::UnfinishedTransaction))
    };
    let mut ended = beginning();
    ended.batch(&[begin(), topic("a", topic_id(1))]).batch(&[topic("b", topic_id(2)), end()]);
    assert_eq!(topics(&ended), ("a,b".to_owned(), false, false));
    let mut aborted = beginning();
    aborted
        .batch(&[topic("a", topic_id(1)), begin(), topic("b", topic_id(2))])
        .batch(&[abort(), topic("c", topic_id(3))]);
    assert_eq!(topics(&aborted), ("a,c".to_owned(), false, false));
    let mut open = beginning();
    open.batch(&[topic("a", topic_id(1)), begin()]).batch(&[topic("b", topic_id(2))]);
    assert_eq!(topics(&open), ("a".to_owned(), true, true));
}

#[test]
fn a_deleted_topic_stays_deleted() {
    let mut log = beginning();
    log.batch(&[topic("t", topic_id(1)), config(2, "t", "retention.ms", Some("7")), partition(topic_id(1), 0)])
        .batch(&[RemoveTopicRecord { topic_id: topic_id(1) }.into()])
        .batch(&[topic("t", topic_id(2)), partition(topic_id(2), 0)]);
    let kafka = KafkaDirectory::with_log(5, &log);
    kafka.partition(DIRECTORY, "t-0", topic_id(1), b"old");
    let report = execute(&kafka.world, &settings()).unwrap();
    let stray = Path::new(DIRECTORY).join("t-0");
    assert!(report.notes.contains(&Note::Strays { directories: vec![stray.clone()] }), "{:?}", report.notes);
    let missing = vec![TopicPartition::new("t", 0)];
    assert!(report.notes.contains(&Note::PartitionsMissing { partitions: missing }), "{:?}", report.notes);
    assert!(kafka.world.disk.exists(&stray.join("partition.metadata")).unwrap());
    let image = adopted_image(&kafka.world, DIRECTORY);
    assert_eq!(image.topic_id("t"), Some(topic_id(2)));
    assert_eq!(image.topic_configs("t"), None);
}

#[test]
fn the_newest_snapshot_and_what_came_after() {
    let mut old = LogBytes::default();
    old.snapshot_header().batch(&[topic("old", topic_id(8))]).snapshot_footer();
    let mut snapshot = LogBytes::default();
    snapshot
        .snapshot_header()
        .batch(&[feature_level("metadata.version", 31), topic("a", topic_id(1)), partition(topic_id(1), 0)])
        .snapshot_footer();
    let mut first = beginning();
    first.batch(&[topic("never", topic_id(9))]);
    let end = first.next_offset;
    let mut second = LogBytes::starting_at(end);
    second.batch(&[topic("b", topic_id(2))]);
    let mut third = LogBytes::starting_at(second.next_offset);
    third.batch(&[partition(topic_id(2), 0)]);

    let kafka = KafkaDirectory::new(6);
    kafka.snapshot(end - 1, 9, &old.bytes);
    kafka.snapshot(end, 1, &snapshot.bytes);
    for name in
        ["00000000000000000099-0000000001.checkpoint.part", "00000000000000000099-0000000001.checkpoint.deleted"]
    {
        kafka.file(&format!("{DIRECTORY}/__cluster_metadata-0/{name}"), b"half");
    }
    kafka.segment(0, &first.bytes);
    kafka.segment(end, &second.bytes);
    kafka.segment(second.next_offset, &third.bytes);
    let report = inspect(&kafka.world, &settings()).unwrap();
    let names: Vec<_> = report.topics.iter().map(|topic| &*topic.name).collect();
    assert_eq!(names, ["a", "b"], "nothing below the snapshot counts");
    assert_eq!(report.source.snapshot.as_deref(), Some(&*format!("{end:020}-0000000001.checkpoint")));
    assert_eq!(report.source.end_offset, third.next_offset);

    // A node that got the snapshot from its leader may have no log yet.
    for base_offset in [0, end, second.next_offset] {
        kafka.remove(&format!("{DIRECTORY}/__cluster_metadata-0/{base_offset:020}.log"));
    }
    kafka.segment(end, b"");
    let report = inspect(&kafka.world, &settings()).unwrap();
    let names: Vec<_> = report.topics.iter().map(|topic| &*topic.name).collect();
    assert_eq!((names, report.source.end_offset), (vec!["a"], end));
}

#[test]
fn a_metadata_log_apart_and_several_directories() {
    let mut log = LogBytes::default();
    log.leader_change(&[NODE]).batch(&[broker(NODE, vec![directory_id(1), directory_id(2)])]).batch(&[
        topic("t", topic_id(1)),
        partition(topic_id(1), 0),
        partition(topic_id(1), 1),
    ]);
    let kafka = KafkaDirectory::new(7);
    kafka.identity("/kafka/second", CLUSTER_ID, NODE, 2);
    kafka.identity("/kafka/metadata", CLUSTER_ID, NODE, 3);
    kafka.file(&format!("/kafka/metadata/__cluster_metadata-0/{:020}.log", 0), &log.bytes);
    kafka.partition(DIRECTORY, "t-0", topic_id(1), b"one");
    kafka.partition("/kafka/second", "t-1", topic_id(1), b"three");
    let mut settings = settings();
    settings.log_dirs.push(PathBuf::from("/kafka/second"));
    settings.metadata_log_dir = Some(PathBuf::from("/kafka/metadata"));
    let report = execute(&kafka.world, &settings).unwrap();
    assert_eq!(report.state, AdoptionState::Adopted, "{:?}", report.refusals);
    assert!(!report.stopped_cleanly, "the second directory has no mark");
    assert_eq!((report.topics[0].found, report.topics[0].bytes), (2, 8));
    let image = adopted_image(&kafka.world, "/kafka/metadata");
    assert_eq!(image.broker(NodeId(NODE)).unwrap().log_dirs, [directory_id(1), directory_id(2)]);
    assert!(!kafka.world.disk.exists(Path::new("/kafka/data/ottla-metadata")).unwrap());
}

#[test]
fn partitions_of_old_clusters_name_no_directories() {
    let old = PartitionRecord {
        partition_id: 0,
        topic_id: topic_id(1),
        replicas: vec![NODE],
        isr: vec![NODE],
        leader: NODE,
        leader_epoch: 0,
        partition_epoch: 0,
        ..PartitionRecord::default()
    };
    let mut log = beginning();
    log.batch(&[topic("t", topic_id(1))]).values(&[KafkaRecord::from(old).encode(0).unwrap()]);
    let kafka = KafkaDirectory::with_log(8, &log);
    assert_eq!(execute(&kafka.world, &settings()).unwrap().state, AdoptionState::Adopted);
    let image = adopted_image(&kafka.world, DIRECTORY);
    assert_eq!(image.partition("t", 0).unwrap().directories, [reserved::UNASSIGNED]);
}

#[test]
fn one_node_of_several_alone() {
    let mut log = LogBytes::default();
    log.leader_change(&[1, 2, 3])
        .batch(&[broker(1, vec![directory_id(1)]), broker(2, vec![directory_id(2)])])
        .batch(&[topic("mine", topic_id(1)), replicated(topic_id(1), 0, &[2, 1], &[1, 2])])
        .batch(&[
            topic("partly", topic_id(2)),
            replicated(topic_id(2), 0, &[1], &[1]),
            replicated(topic_id(2), 1, &[2], &[2]),
        ])
        .batch(&[topic("elsewhere", topic_id(3)), replicated(topic_id(3), 0, &[2, 3], &[2])])
        .batch(&[config(2, "elsewhere", "retention.ms", Some("7"))]);
    let kafka = KafkaDirectory::with_log(9, &log);
    let mut settings = settings();
    settings.options.as_single_node = true;
    let report = execute(&kafka.world, &settings).unwrap();
    assert_eq!(report.state, AdoptionState::Adopted, "{:?}", report.refusals);
    assert_eq!(report.left_out, [LeftOut::Broker(2), LeftOut::Topic(Arc::from("elsewhere"))]);
    assert!(report.notes.contains(&Note::OneOfSeveralVoters { voters: vec![1, 2, 3] }), "{:?}", report.notes);
    assert!(report.notes.contains(&Note::PartitionsElsewhere { partitions: 1 }), "{:?}", report.notes);
    let image = adopted_image(&kafka.world, DIRECTORY);
    image.check_invariants();
    let mine = image.partition("mine", 0).unwrap();
    assert_eq!((&mine.replicas, &mine.directories), (&vec![NodeId(1)], &vec![directory_id(1)]));
    let partly = image.partition("partly", 1).unwrap();
    assert_eq!((&partly.replicas, partly.leader, partly.isr.len()), (&vec![NodeId(2)], None, 0));
    assert_eq!(image.topic_id("elsewhere"), None);
    assert_eq!(image.config_resources().count(), 0);
    assert_eq!(image.brokers().count(), 1);
}

#[test]
fn offsets_of_transactions_that_have_not_ended_are_named() {
    let mut log = beginning();
    let partitions = (0..4).map(|number| partition(topic_id(1), number));
    log.batch(&[topic("__consumer_offsets", topic_id(1))]).batch(&partitions.collect::<Vec<_>>());
    let kafka = KafkaDirectory::with_log(10, &log);
    let plain = batch_of(None);
    let open = [&plain[..], &batch_of(Some(7))].concat();
    let ended = [&open[..], &end_of(7)].concat();
    let one_of_two = [&open[..], &batch_of(Some(8)), &end_of(7)].concat();
    for (number, content) in [plain, open, ended, one_of_two].iter().enumerate() {
        kafka.partition(DIRECTORY, &format!("__consumer_offsets-{number}"), topic_id(1), content);
    }
    // The end may be in a later segment.
    let next = format!("{DIRECTORY}/__consumer_offsets-1/00000000000000000002.log");
    let report = inspect(&kafka.world, &settings()).unwrap();
    let named = |numbers: &[i32]| {
        let partitions = numbers.iter().map(|number| TopicPartition::new("__consumer_offsets", *number)).collect();
        vec![Note::PendingOffsets { partitions }]
    };
    assert_eq!(report.notes, named(&[1, 3]));
    kafka.file(&next, &end_of(7));
    assert_eq!(inspect(&kafka.world, &settings()).unwrap().notes, named(&[3]));
}

fn batch_of(transaction_of: Option<i64>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::NONE);
    if let Some(producer_id) = transaction_of {
        builder.set_producer(producer_id, 0, 0);
        builder.set_transactional(true);
    }
    builder.append(0, Some(b"key"), Some(b"value"), &[]).unwrap();
    builder.finish().unwrap().to_vec()
}

fn end_of(producer_id: i64) -> Vec<u8> {
    let marker = ControlMarker {
        control_type: ControlType::Commit,
        producer_id,
        producer_epoch: 0,
        coordinator_epoch: 0,
        timestamp: 0,
        base_offset: 0,
        partition_leader_epoch: 0,
    };
    control_marker(&marker).unwrap().to_vec()
}

#[test]
fn leader_epochs_are_not_behind_those_of_the_log() {
    let mut log = beginning();
    log.batch(&[
        topic("t", topic_id(1)),
        partition(topic_id(1), 0),
        partition(topic_id(1), 1),
        partition(topic_id(1), 2),
    ]);
    let kafka = KafkaDirectory::with_log(11, &log);
    for (name, checkpoint) in [("t-0", "0\n2\n1 0\n9 50\n"), ("t-1", "0\n1\n2 0\n"), ("t-2", "nonsense")] {
        kafka.partition(DIRECTORY, name, topic_id(1), b"");
        kafka.file(&format!("{DIRECTORY}/{name}/leader-epoch-checkpoint"), checkpoint.as_bytes());
    }
    assert_eq!(execute(&kafka.world, &settings()).unwrap().state, AdoptionState::Adopted);
    let image = adopted_image(&kafka.world, DIRECTORY);
    let epochs: Vec<i32> = (0..3).map(|number| image.partition("t", number).unwrap().leader_epoch.0).collect();
    assert_eq!(epochs, [9, 3, 3]);
}
