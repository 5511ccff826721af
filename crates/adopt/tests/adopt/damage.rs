//! Metadata logs that are cut, flipped, or not of this world.

use bytes::Bytes;
use ottla_adopt::{AdoptError, AdoptionState, KafkaRecord, MetadataLogError, Misfit, RecordError, execute, inspect};
use ottla_protocol::records::begin_transaction_record::BeginTransactionRecord;
use ottla_protocol::records::end_transaction_record::EndTransactionRecord;
use ottla_protocol::records::no_op_record::NoOpRecord;
use ottla_protocol::records::producer_ids_record::ProducerIdsRecord;
use ottla_protocol::records::remove_topic_record::RemoveTopicRecord;
use ottla_protocol::records::unregister_broker_record::UnregisterBrokerRecord;

use crate::generator::*;

fn failed(kafka: &KafkaDirectory) -> MetadataLogError {
    let before = kafka.content();
    let looked = inspect(&kafka.world, &settings()).unwrap_err();
    let executed = execute(&kafka.world, &settings()).unwrap_err();
    assert_eq!(looked.to_string(), executed.to_string());
    assert_eq!(kafka.content(), before);
    match looked {
        AdoptError::MetadataLog(error) => error,
        other => panic!("{other}"),
    }
}

fn killed(kafka: &KafkaDirectory) {
    kafka.remove(&format!("{DIRECTORY}/.kafka_cleanshutdown"));
}

/// A log of several batches, and where each ends.
fn several_batches() -> (LogBytes, Vec<usize>) {
    let mut log = beginning();
    let mut ends = vec![log.bytes.len()];
    for number in 1..=4 {
        log.batch(&[topic(&format!("t{number}"), topic_id(number)), partition(topic_id(number), 0)]);
        ends.push(log.bytes.len());
    }
    (log, ends)
}

#[test]
fn cut_at_every_byte() {
    let (log, ends) = several_batches();
    let first_end = ends[0];
    for length in first_end..=log.bytes.len() {
        let kafka = KafkaDirectory::new(40);
        kafka.segment(0, &log.bytes[..length]);
        let whole = ends.iter().filter(|end| **end <= length).count() - 1;
        let is_torn = !ends.contains(&length);
        if is_torn {
            let error = failed(&kafka);
            assert!(matches!(error, MetadataLogError::Damaged { .. }) && error.is_cut_off(), "{length}: {error}");
        }
        killed(&kafka);
        let report = inspect(&kafka.world, &settings()).unwrap();
        assert_eq!((report.state, report.topics.len()), (AdoptionState::Adoptable, whole), "{length}");
        assert_eq!(report.source.torn_bytes > 0, is_torn);
    }
}

#[test]
fn every_bit_of_a_batch_in_the_middle() {
    let (log, ends) = several_batches();
    for position in ends[1]..ends[2] {
        let mut bytes = log.bytes.clone();
        bytes[position] ^= 1 << (position % 8);
        let kafka = KafkaDirectory::new(41);
        kafka.segment(0, &bytes);
        killed(&kafka);
        let relative = position - ends[1];
        // The leader's epoch is not covered by the checksum, and nothing depends on it here.
        if (12..16).contains(&relative) {
            assert_eq!(inspect(&kafka.world, &settings()).unwrap().topics.len(), 4);
            continue;
        }
        let error = failed(&kafka);
        assert!(
            matches!(&error, MetadataLogError::Damaged { position, .. } if *position == ends[1] as u64),
            "byte {relative}: {error}"
        );
    }
}

#[test]
fn damage_in_an_earlier_segment_is_no_torn_write() {
    let (log, ends) = several_batches();
    let kafka = KafkaDirectory::new(42);
    kafka.segment(0, &log.bytes[..ends[1] - 3]);
    let mut later = LogBytes::starting_at(log.next_offset);
    later.batch(&[NoOpRecord::default().into()]);
    kafka.segment(log.next_offset, &later.bytes);
    killed(&kafka);
    let error = failed(&kafka);
    assert!(error.is_cut_off(), "{error}");
}

#[test]
fn a_missing_segment_or_snapshot() {
    let mut later = LogBytes::starting_at(50);
    later.batch(&[NoOpRecord::default().into()]);
    let kafka = KafkaDirectory::new(43);
    kafka.segment(50, &later.bytes);
    assert!(matches!(failed(&kafka), MetadataLogError::NoSnapshot { found: 50, .. }));
    let mut snapshot = LogBytes::default();
    snapshot.snapshot_header().snapshot_footer();
    kafka.snapshot(40, 1, &snapshot.bytes);
    assert!(matches!(failed(&kafka), MetadataLogError::Gap { expected: 40, found: 50, .. }));
    kafka.snapshot(50, 1, &snapshot.bytes);
    assert_eq!(inspect(&kafka.world, &settings()).unwrap().source.end_offset, 51);
    kafka.segment(60, &later.bytes);
    assert!(matches!(failed(&kafka), MetadataLogError::Damaged { position: 0, offset: 51, .. }));
}

#[test]
fn snapshots_that_are_not_whole() {
    let mut snapshot = LogBytes::default();
    snapshot.snapshot_header().batch(&[topic("t", topic_id(1))]);
    let without_footer = snapshot.bytes.clone();
    snapshot.snapshot_footer();
    let kafka = KafkaDirectory::new(44);
    for length in 0..snapshot.bytes.len() {
        kafka.snapshot(7, 1, &snapshot.bytes[..length]);
        let error = failed(&kafka);
        let at_batch = length == 0 || length == without_footer.len() || matches!(error, MetadataLogError::NoFooter(_));
        assert!(at_batch || error.is_cut_off(), "{length}: {error}");
    }
    kafka.snapshot(7, 1, &snapshot.bytes);
    assert_eq!(inspect(&kafka.world, &settings()).unwrap().topics.len(), 1);
}

#[test]
fn an_empty_metadata_directory() {
    let kafka = KafkaDirectory::new(45);
    kafka.file(&format!("{DIRECTORY}/__cluster_metadata-0/quorum-state"), b"{}");
    assert!(matches!(failed(&kafka), MetadataLogError::Empty(_)));
}

#[test]
fn records_of_a_later_kafka_are_named() {
    let unknown_type = Bytes::from_static(b"\x01\x1e\x00\x00");
    let unknown_version = Bytes::from_static(b"\x01\x02\x07\x00");
    for (value, expected) in [
        (unknown_type, RecordError::UnknownType(30)),
        (unknown_version, RecordError::UnknownVersion { record: "TopicRecord", version: 7 }),
    ] {
        let mut log = beginning();
        let at = log.next_offset;
        log.values(&[value]);
        let error = failed(&KafkaDirectory::with_log(46, &log));
        match &error {
            MetadataLogError::Record { offset, reason, .. } => assert_eq!((*offset, reason), (at, &expected)),
            other => panic!("{other}"),
        }
        assert!(error.to_string().contains(&format!("offset {at} ")), "{error}");
    }
    let mut log = beginning();
    log.control(7, &Bytes::from_static(b"\x00\x00"));
    let error = failed(&KafkaDirectory::with_log(47, &log));
    assert!(matches!(error, MetadataLogError::Record { reason: RecordError::UnknownControlType(7), .. }), "{error}");
}

#[test]
fn records_that_do_not_fit() {
    let ids =
        |next_producer_id| KafkaRecord::from(ProducerIdsRecord { broker_id: 1, broker_epoch: 4, next_producer_id });
    for (records, expected) in [
        (vec![RemoveTopicRecord { topic_id: topic_id(1) }.into()], Misfit::UnknownTopic(topic_id(1))),
        (vec![partition(topic_id(1), 0)], Misfit::UnknownTopic(topic_id(1))),
        (vec![topic("t", topic_id(1)), topic("t", topic_id(2))], Misfit::TopicExists("t".into())),
        (vec![topic("a", topic_id(1)), topic("b", topic_id(1))], Misfit::TopicExists("b".into())),
        (vec![ids(2_000), ids(1_000)], Misfit::ProducerIds { existing: 2_000, found: 1_000 }),
        (vec![EndTransactionRecord::default().into()], Misfit::NoTransaction),
        (
            vec![BeginTransactionRecord::default().into(), BeginTransactionRecord::default().into()],
            Misfit::NestedTransaction,
        ),
        (
            vec![UnregisterBrokerRecord { broker_id: NODE, broker_epoch: 3 }.into()],
            Misfit::BrokerEpoch { broker_id: NODE, existing: 4, found: 3 },
        ),
        (vec![UnregisterBrokerRecord { broker_id: 8, broker_epoch: 3 }.into()], Misfit::UnknownBroker(8)),
    ] {
        let mut log = beginning();
        log.batch(&records);
        match failed(&KafkaDirectory::with_log(48, &log)) {
            MetadataLogError::Misfit { reason, .. } => assert_eq!(reason, expected),
            other => panic!("{other}"),
        }
    }
    let mut log = beginning();
    log.batch(&[topic("../../etc", topic_id(1))]);
    let error = failed(&KafkaDirectory::with_log(49, &log));
    assert!(matches!(error, MetadataLogError::Misfit { reason: Misfit::TopicName(_), .. }), "{error}");
}

#[test]
fn partitions_with_gaps_make_no_sense() {
    let mut log = beginning();
    log.batch(&[topic("t", topic_id(1)), partition(topic_id(1), 1)]);
    let kafka = KafkaDirectory::with_log(50, &log);
    let error = execute(&kafka.world, &settings()).unwrap_err();
    assert!(matches!(error, AdoptError::Metadata(_)), "{error}");
}
