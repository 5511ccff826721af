//! The way back: Kafka's metadata learns the leader epochs of the logs, and nothing else.

use std::path::{Path, PathBuf};

use ottla_adopt::{
    GiveBackError, GiveBackSettings, KafkaMetadata, RaisedEpoch, give_back, inspect_give_back, read_metadata_log,
};
use ottla_image::PartitionRegistration;
use ottla_protocol::records::begin_transaction_record::BeginTransactionRecord;
use ottla_rt::memory::PowerLoss;
use ottla_types::{LeaderEpoch, PartitionEpoch, TopicPartition};

use crate::generator::*;

const AHEAD: i32 = 1 << 20;

fn settings() -> GiveBackSettings {
    GiveBackSettings { log_dirs: vec![PathBuf::from(DIRECTORY)], metadata_log_dir: None }
}

/// Two topics: one whose log is of higher epochs than Kafka's metadata, one without a directory.
fn written() -> LogBytes {
    let mut log = beginning();
    log.batch(&[topic("orders", topic_id(1)), topic("other", topic_id(2))]).batch(&[
        partition(topic_id(1), 0),
        partition(topic_id(2), 0),
        config(2, "orders", "retention.ms", Some("7")),
    ]);
    log
}

fn with_records(kafka: &KafkaDirectory) {
    kafka.partition(DIRECTORY, "orders-0", topic_id(1), b"");
    kafka.file(&format!("{DIRECTORY}/orders-0/leader-epoch-checkpoint"), b"0\n2\n0 0\n40 100\n");
}

fn segment(base_offset: i64) -> PathBuf {
    PathBuf::from(format!("{DIRECTORY}/__cluster_metadata-0/{base_offset:020}.log"))
}

fn metadata(kafka: &KafkaDirectory) -> KafkaMetadata {
    let directory = PathBuf::from(format!("{DIRECTORY}/__cluster_metadata-0"));
    read_metadata_log(&*kafka.machine.world().disk, &directory, false).unwrap().metadata
}

/// With the leader epochs of the two partitions, everything else as it was.
fn with_epochs(mut metadata: KafkaMetadata, orders: i32, other: i32) -> KafkaMetadata {
    for (number, epoch) in [(1, orders), (2, other)] {
        let registration = metadata.topics.get_mut(&topic_id(number)).unwrap().partitions.get_mut(&0).unwrap();
        *registration = PartitionRegistration {
            leader_epoch: LeaderEpoch(epoch),
            partition_epoch: PartitionEpoch(registration.partition_epoch.0 + 1),
            ..registration.clone()
        };
    }
    metadata
}

#[test]
fn kafka_leads_in_epochs_nobody_has_seen() {
    let log = written();
    let kafka = KafkaDirectory::with_log(1, &log);
    with_records(&kafka);
    let (before, content) = (metadata(&kafka), kafka.content());
    let seen = inspect_give_back(&kafka.world, &settings()).unwrap();
    assert!(!seen.done);
    assert_eq!(kafka.content(), content, "a look changes nothing");
    let of = |topic: &str, log, raised| RaisedEpoch {
        topic_partition: TopicPartition::new(topic, 0),
        kafka: 3,
        log,
        raised,
    };
    assert_eq!(seen.partitions, [of("orders", Some(40), AHEAD + 40), of("other", None, AHEAD + 3)]);

    let done = give_back(&kafka.world, &settings()).unwrap();
    assert!(done.done);
    assert_eq!(done.partitions, seen.partitions);
    assert_eq!(metadata(&kafka), with_epochs(before, AHEAD + 40, AHEAD + 3));
    for (path, bytes) in content {
        let now = kafka.world.disk.read_file(&path, 1 << 30).unwrap();
        if path == segment(0) {
            assert!(now.starts_with(&bytes) && now.len() > bytes.len(), "the log goes on where it ended");
        } else {
            assert_eq!(now, bytes, "{} was changed", path.display());
        }
    }
    let again = give_back(&kafka.world, &settings()).unwrap();
    assert_eq!(again.partitions[0].raised, 2 * AHEAD + 40, "once more does no harm");
}

#[test]
fn many_partitions_are_several_batches() {
    let partitions: Vec<_> = (0..12_000).map(|number| partition(topic_id(1), number)).collect();
    let mut log = beginning();
    log.batch(&[topic("many", topic_id(1))]);
    partitions.chunks(1_000).for_each(|chunk| {
        log.batch(chunk);
    });
    let kafka = KafkaDirectory::with_log(2, &log);
    assert_eq!(give_back(&kafka.world, &settings()).unwrap().partitions.len(), 12_000);
    let epochs = metadata(&kafka).topics[&topic_id(1)].partitions.values().map(|found| found.leader_epoch.0).min();
    assert_eq!(epochs, Some(AHEAD + 3));
}

#[test]
fn where_kafka_goes_on_writing() {
    let log = written();
    // A segment that was begun, and has nothing yet.
    let begun = KafkaDirectory::with_log(3, &log);
    begun.segment(log.next_offset, b"");
    // Half a batch at the end: Kafka was killed, or we were.
    let torn = KafkaDirectory::with_log(4, &log);
    torn.segment(0, &[&log.bytes[..], &log.bytes[..50]].concat());
    // A snapshot of everything, and the segment that follows it.
    let snapshot = KafkaDirectory::new(5);
    let mut records = LogBytes::default();
    records
        .snapshot_header()
        .batch(&[feature_level("metadata.version", 30), broker(NODE, vec![directory_id(1)])])
        .batch(&[topic("orders", topic_id(1)), topic("other", topic_id(2))])
        .batch(&[partition(topic_id(1), 0), partition(topic_id(2), 0), config(2, "orders", "retention.ms", Some("7"))])
        .snapshot_footer();
    snapshot.snapshot(70, 5, &records.bytes);
    for (kafka, segment_of, from) in [(&begun, log.next_offset, 0), (&torn, 0, log.bytes.len()), (&snapshot, 70, 0)] {
        with_records(kafka);
        let before = if from == 0 { metadata(kafka) } else { metadata(&KafkaDirectory::with_log(6, &log)) };
        let done = give_back(&kafka.world, &settings()).unwrap();
        assert_eq!(done.torn_bytes, if from == 0 { 0 } else { 50 });
        assert_eq!(metadata(kafka), with_epochs(before, AHEAD + 40, AHEAD + 3));
        assert!(kafka.world.disk.read_file(&segment(segment_of), 1 << 30).unwrap().len() > from + 100);
    }
}

#[test]
fn what_stands_in_the_way() {
    let mut voters = written();
    voters.leader_change(&[NODE, 2]);
    let refused = |log: &LogBytes| {
        let kafka = KafkaDirectory::with_log(7, log);
        let before = kafka.content();
        let error = give_back(&kafka.world, &settings()).unwrap_err();
        assert_eq!(kafka.content(), before);
        error
    };
    let error = refused(&voters);
    assert!(matches!(&error, GiveBackError::OtherVoters { node_id: NODE, voters } if *voters == [NODE, 2]), "{error}");
    let mut unfinished = written();
    unfinished.batch(&[BeginTransactionRecord::default().into()]);
    let error = refused(&unfinished);
    assert!(matches!(error, GiveBackError::UnfinishedTransaction), "{error}");

    let kafka = KafkaDirectory::with_log(8, &written());
    kafka.file(&format!("{DIRECTORY}/ottla-metadata/meta"), b"");
    let error = give_back(&kafka.world, &settings()).unwrap_err();
    assert!(matches!(error, GiveBackError::StillOurs(_)), "{error}");

    let kafka = KafkaDirectory::with_log(9, &written());
    kafka.snapshot(1_000, 5, &{
        let mut records = LogBytes::default();
        records.snapshot_header().snapshot_footer();
        records.bytes
    });
    let error = give_back(&kafka.world, &settings()).unwrap_err();
    assert!(matches!(error, GiveBackError::BehindSnapshot { expected: 1_000, .. }), "{error}");

    let kafka = KafkaDirectory::with_log(10, &written());
    let lock = kafka.world.disk.lock(Path::new(&format!("{DIRECTORY}/.lock"))).unwrap();
    let error = give_back(&kafka.world, &settings()).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(lock);
}

#[test]
fn power_lost_at_every_operation() {
    let before = metadata(&KafkaDirectory::with_log(11, &written()));
    let raised = with_epochs(before.clone(), AHEAD + 40, AHEAD + 3);
    let (mut old, mut new) = (0, 0);
    for operations in 0.. {
        let kafka = KafkaDirectory::with_log(12 + operations, &written());
        with_records(&kafka);
        kafka.machine.disk.power_off_after(operations);
        let done = give_back(&kafka.world, &settings());
        if kafka.machine.disk.is_powered() {
            assert!(done.unwrap().done);
            break;
        }
        kafka.machine.disk.lose_power(PowerLoss::Arbitrary { seed: operations });
        let world = kafka.machine.world();
        let directory = PathBuf::from(format!("{DIRECTORY}/__cluster_metadata-0"));
        let found = read_metadata_log(&*world.disk, &directory, true).unwrap().metadata;
        assert!(found == before || found == raised, "after {operations} operations");
        if found == before {
            old += 1;
        } else {
            new += 1;
        }
        assert!(give_back(&world, &settings()).unwrap().done);
        let now = metadata(&kafka);
        assert!(now.topics[&topic_id(1)].partitions[&0].leader_epoch.0 >= AHEAD + 40);
    }
    assert!(old > 5, "{old} times as before, {new} times raised");
}
