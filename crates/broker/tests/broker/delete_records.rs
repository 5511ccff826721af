//! DeleteRecords.

use std::collections::BTreeSet;
use std::path::Path;

use ottla_client::Connection;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_rt::memory::{Failure, Fault, MemoryWorld, Operation, PowerLoss};
use ottla_types::ErrorCode;
use tokio::task::JoinHandle;

use crate::support::{
    TestBroker, batch, counted, create_topic, fetch, fetch_raw, fetch_request, produce, start, start_in, start_on,
    text, values,
};

/// The low watermark, or the error.
async fn delete(connection: &Connection, topic: &str, partition: i32, offset: i64) -> Result<i64, ErrorCode> {
    let partitions = vec![DeleteRecordsPartition { partition_index: partition, offset }];
    let topics = vec![DeleteRecordsTopic { name: text(topic), partitions }];
    let response = connection.send(&DeleteRecordsRequest { topics, timeout_ms: 10_000 }).await.unwrap();
    let answer = &response.topics[0].partitions[0];
    match ErrorCode::from_code(answer.error_code).unwrap() {
        ErrorCode::None => Ok(answer.low_watermark),
        error => {
            assert_eq!(answer.low_watermark, -1);
            Err(error)
        }
    }
}

async fn produce_each(connection: &Connection, topic: &str, values: &[&str]) {
    for value in values {
        assert_eq!(produce(connection, topic, 0, -1, batch(&[value])).await.error_code, 0);
    }
}

fn segments(directory: &Path, partition: &str) -> BTreeSet<String> {
    let names = std::fs::read_dir(directory.join(partition)).unwrap().map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|suffix| suffix == "log"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_below_the_offset_are_gone_for_good() {
    for durability in ["fsync", "page-cache"] {
        let machine = MemoryWorld::new(7);
        let data = Path::new("/data");
        let settings = [("ottla.durability", durability)];
        let broker = start_on(machine.world(), data, &settings).await;
        let connection = broker.connect().await;
        create_topic(&connection, "t", 1, &[]).await;
        produce_each(&connection, "t", &["a", "b", "c", "d"]).await;
        assert_eq!(delete(&connection, "t", 0, 2).await, Ok(2));
        assert_eq!(delete(&connection, "t", 0, 1).await, Ok(2), "the start does not go back");
        assert_eq!(fetch(&connection, "t", 0, 1, 0).await.error_code, ErrorCode::OffsetOutOfRange.code());
        assert_eq!(values(&fetch(&connection, "t", 0, 2, 0).await), ["c", "d"]);

        // The power goes; nothing had the time to be written that was not before the answer.
        machine.disk.lose_power(PowerLoss::LoseUnsynced);
        let broker = start_on(machine.world(), data, &settings).await;
        let connection = broker.connect().await;
        assert_eq!(fetch(&connection, "t", 0, 1, 0).await.error_code, ErrorCode::OffsetOutOfRange.code());
        let found = fetch(&connection, "t", 0, 2, 0).await;
        assert_eq!((found.error_code, found.log_start_offset), (0, 2), "{durability}");
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn minus_one_empties_the_partition_and_frees_its_segments() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[("log.segment.delete.delay.ms", "0")]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[("segment.bytes", "1048576")]).await;
    let large = "x".repeat(700_000);
    produce_each(&connection, "t", &[&large, &large, &large]).await;
    assert_eq!(segments(directory.path(), "t-0").len(), 3);
    assert_eq!(delete(&connection, "t", 0, -1).await, Ok(3));
    assert_eq!(segments(directory.path(), "t-0"), BTreeSet::from(["00000000000000000002.log".to_owned()]));
    let found = fetch(&connection, "t", 0, 3, 0).await;
    assert_eq!((found.error_code, found.log_start_offset, found.high_watermark), (0, 3, 3));
    assert_eq!(produce(&connection, "t", 0, -1, batch(&["next"])).await.base_offset, 3);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deleted_is_refused_with_kafkas_codes() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    create_topic(&connection, "compacted", 1, &[("cleanup.policy", "compact")]).await;
    create_topic(&connection, "both", 1, &[("cleanup.policy", "compact,delete")]).await;
    create_topic(&connection, "__consumer_offsets", 1, &[]).await;
    produce_each(&connection, "t", &["a"]).await;
    for (topic, partition, offset, expected) in [
        ("t", 0, 2, Err(ErrorCode::OffsetOutOfRange)),
        ("t", 0, i64::MAX, Err(ErrorCode::OffsetOutOfRange)),
        ("t", 0, -2, Err(ErrorCode::OffsetOutOfRange)),
        ("t", 0, i64::MIN, Err(ErrorCode::OffsetOutOfRange)),
        ("t", 1, 0, Err(ErrorCode::UnknownTopicOrPartition)),
        ("t", -1, 0, Err(ErrorCode::UnknownTopicOrPartition)),
        ("nobody", 0, 0, Err(ErrorCode::UnknownTopicOrPartition)),
        ("compacted", 0, 0, Err(ErrorCode::PolicyViolation)),
        ("__consumer_offsets", 0, 0, Err(ErrorCode::InvalidTopicException)),
        ("both", 0, 0, Ok(0)),
        ("t", 0, 0, Ok(0)),
        ("t", 0, 1, Ok(1)),
    ] {
        assert_eq!(delete(&connection, topic, partition, offset).await, expected, "{topic}-{partition} {offset}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_named_often_is_answered_once_for_the_last_offset() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    produce_each(&connection, "t", &["a", "b"]).await;
    let partitions = |offset| (0..1000).map(move |_| DeleteRecordsPartition { partition_index: 0, offset }).collect();
    let topics = vec![
        DeleteRecordsTopic { name: text("t"), partitions: partitions(2) },
        DeleteRecordsTopic { name: text("t"), partitions: partitions(1) },
    ];
    let response = connection.send(&DeleteRecordsRequest { topics, timeout_ms: 10_000 }).await.unwrap();
    assert_eq!((response.topics.len(), response.topics[0].partitions.len()), (1, 1));
    assert_eq!(response.topics[0].partitions[0].low_watermark, 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_fetch_hears_that_its_offset_is_gone() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    produce_each(&connection, "t", &["a", "b"]).await;
    let parked = parked_at_the_start(&broker).await;
    assert_eq!(delete(&connection, "t", 0, 2).await, Ok(2));
    assert_eq!(parked.await.unwrap(), ErrorCode::OffsetOutOfRange.code());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_fetch_hears_of_a_start_that_a_full_disk_cannot_hold() {
    let machine = MemoryWorld::new(4);
    let broker = start_on(machine.world(), Path::new("/data"), &[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    produce_each(&connection, "t", &["a", "b"]).await;
    let parked = parked_at_the_start(&broker).await;
    machine.disk.inject(Fault::nth(Operation::Write, 0, Failure::NoSpace).on("log-start-offset-checkpoint.tmp"));
    assert_eq!(delete(&connection, "t", 0, 1).await, Err(ErrorCode::KafkaStorageError));
    assert_eq!(parked.await.unwrap(), ErrorCode::OffsetOutOfRange.code());
    broker.stop().await;
}

/// A fetch at offset 0 that waits for more than there is, and the error it is answered.
async fn parked_at_the_start(broker: &TestBroker) -> JoinHandle<i16> {
    let mut waiting = fetch_request("t", 0, 0, 600_000);
    waiting.min_bytes = 1 << 20;
    let reader = broker.connect().await;
    let parked = tokio::spawn(async move { fetch_raw(&reader, &waiting).await.responses[0].partitions[0].error_code });
    counted(&broker.server, |now| now.waiting_fetches == 1).await;
    parked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_a_full_disk_cannot_hold_is_not_promised() {
    let machine = MemoryWorld::new(3);
    let broker = start_on(machine.world(), Path::new("/data"), &[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    produce_each(&connection, "t", &["a", "b"]).await;
    machine.disk.inject(Fault::nth(Operation::Write, 0, Failure::NoSpace).on("log-start-offset-checkpoint.tmp"));
    assert_eq!(delete(&connection, "t", 0, 1).await, Err(ErrorCode::KafkaStorageError));
    assert_eq!(delete(&connection, "t", 0, 1).await, Ok(1), "the disk has room again");
    broker.stop().await;
}
