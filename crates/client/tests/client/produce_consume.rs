//! Records out and in, through the mishaps a cluster has.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ottla_client::{
    Acks, AutoOffsetReset, Client, ClientError, ConsumedRecord, Consumer, ConsumerSettings, Producer, ProducerRecord,
    ProducerSettings, StartAt,
};
use ottla_protocol::ApiKey;
use ottla_record::{Codec, Compression};
use ottla_types::{ErrorCode, TopicPartition};

use crate::fake::{FakeBroker, Lie, TOPIC};

fn record(value: &str) -> ProducerRecord {
    ProducerRecord {
        topic: TOPIC.to_owned(),
        partition: Some(0),
        timestamp: Some(1000),
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from(value.to_owned())),
        headers: vec![(Bytes::from_static(b"h"), None), (Bytes::from_static(b"h"), Some(Bytes::from_static(b"v")))],
    }
}

/// Produces values to partition 0 and gives their offsets.
async fn produce(
    client: &Client,
    settings: ProducerSettings,
    values: &[&str],
) -> Result<Vec<Option<i64>>, ClientError> {
    let producer = Producer::new(client.clone(), settings).unwrap();
    let mut results = Vec::new();
    for value in values {
        results.push(producer.send(record(value)).await?);
    }
    producer.flush().await;
    let mut offsets = Vec::new();
    for result in results {
        // After a flush every result is there.
        offsets.push(result.try_result().unwrap()?.offset);
    }
    Ok(offsets)
}

fn partition_0() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

/// Goes nowhere by itself.
fn strict() -> ConsumerSettings {
    ConsumerSettings { auto_offset_reset: AutoOffsetReset::None, ..Default::default() }
}

async fn consume(client: &Client, offset: i64, max_records: usize) -> Result<Vec<ConsumedRecord>, ClientError> {
    let mut consumer = Consumer::new(client.clone(), strict());
    consumer.assign_at(&BTreeMap::from([(partition_0(), offset)]));
    consumer.poll_at_most(max_records, Duration::from_secs(10)).await
}

#[tokio::test(start_paused = true)]
async fn every_codec_and_every_acks() {
    for codec in Codec::ALL {
        for acks in [Acks::None, Acks::Leader, Acks::All] {
            let broker = FakeBroker::default();
            let client = broker.client();
            let settings = ProducerSettings { acks, compression: Compression::new(codec), ..Default::default() };
            let offsets = produce(&client, settings, &["a", "b", "c"]).await.unwrap();
            let expected = if acks == Acks::None { vec![None; 3] } else { vec![Some(0), Some(1), Some(2)] };
            assert_eq!(offsets, expected, "{codec:?} {acks:?}");
            let records = consume(&client, 1, 10).await.unwrap();
            let read: Vec<_> = records.iter().map(|record| (record.offset, record.value.as_deref().unwrap())).collect();
            assert_eq!(read, [(1, &b"b"[..]), (2, b"c")], "{codec:?} {acks:?}");
            assert_eq!(records[0].key.as_deref(), Some(&b"key"[..]));
            assert_eq!(records[0].headers, record("b").headers);
            assert_eq!(records[0].timestamp, 1000);
            let idempotent = broker.state.lock().sequences[0].1 >= 0;
            assert_eq!(idempotent, acks == Acks::All);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_answer_is_lost_is_written_once() {
    let broker = FakeBroker::default();
    broker.lie(ApiKey::Produce, Lie::DoneButLost);
    broker.lie(ApiKey::Produce, Lie::Error(ErrorCode::NotLeaderOrFollower));
    let offsets = produce(&broker.client(), ProducerSettings::default(), &["a", "b"]).await.unwrap();
    assert_eq!(offsets, [Some(0), Some(1)]);
    assert_eq!(broker.values(0), ["a", "b"]);
    let sequences = broker.state.lock().sequences.clone();
    assert_eq!(sequences, [(0, 42, 0), (0, 42, 0)], "the repeated batch must carry the same sequence");
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_answer_is_lost_is_sent_again_without_idempotence_too() {
    for acks in [Acks::Leader, Acks::All] {
        let broker = FakeBroker::default();
        broker.lie(ApiKey::Produce, Lie::DoneButLost);
        let settings = ProducerSettings { acks, enable_idempotence: false, ..Default::default() };
        let offsets = produce(&broker.client(), settings, &["a"]).await.unwrap();
        assert_eq!(offsets, [Some(1)], "nobody can tell that it was written, so it is written twice");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_reaches_no_broker_uses_up_no_sequence_number() {
    let broker = FakeBroker::default();
    // The first connection asks for the topic, the second one is the leader's.
    broker.state.lock().refused.insert(1);
    let producer = Producer::new(broker.client(), ProducerSettings::default()).unwrap();
    for value in ["a", "b"] {
        let delivery = producer.send(record(value)).await.unwrap();
        delivery.await.unwrap();
    }
    assert_eq!(broker.state.lock().connections, 3);
    assert_eq!(broker.state.lock().sequences, [(0, 42, 0), (0, 42, 1)]);
}

#[tokio::test(start_paused = true)]
async fn sequences_go_on_from_batch_to_batch() {
    let broker = FakeBroker::default();
    let producer = Producer::new(broker.client(), ProducerSettings::default()).unwrap();
    for value in ["a", "b", "c"] {
        producer.send(record(value)).await.unwrap();
        producer.send(record(value)).await.unwrap();
        producer.flush().await;
    }
    assert_eq!(broker.state.lock().sequences, [(0, 42, 0), (0, 42, 2), (0, 42, 4)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_is_split() {
    let broker = FakeBroker::default();
    broker.state.lock().max_batch_records = Some(2);
    let values = ["a", "b", "c", "d", "e"];
    let offsets = produce(&broker.client(), ProducerSettings::default(), &values).await.unwrap();
    assert_eq!(offsets, (0..5).map(Some).collect::<Vec<_>>());
    assert_eq!(broker.values(0), values);
    broker.state.lock().max_batch_records = Some(0);
    let error = produce(&broker.client(), ProducerSettings::default(), &["f"]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_final_is_every_records_result() {
    let broker = FakeBroker::default();
    broker.lie(ApiKey::Produce, Lie::Error(ErrorCode::InvalidRecord));
    let producer = Producer::new(broker.client(), ProducerSettings::default()).unwrap();
    let first = producer.send(record("a")).await.unwrap();
    let second = producer.send(record("b")).await.unwrap();
    for result in [first, second] {
        assert_eq!(result.await.unwrap_err().code(), Some(ErrorCode::InvalidRecord));
    }
    let third = producer.send(record("c")).await.unwrap();
    assert_eq!(third.await.unwrap().offset, Some(0), "the next batch goes on");
}

#[tokio::test(start_paused = true)]
async fn a_silent_leader_is_given_up() {
    let broker = FakeBroker::default();
    broker.always_lie(ApiKey::Produce, Lie::Silence);
    let settings = ProducerSettings { delivery_timeout: Duration::from_secs(30), ..Default::default() };
    let began = tokio::time::Instant::now();
    let error = produce(&broker.client(), settings, &["a"]).await.unwrap_err();
    assert!(matches!(error, ClientError::DeliveryTimedOut { last: Some(_), .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(31), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn keys_meet_and_records_without_one_stay_together() {
    let broker = FakeBroker::default();
    let producer = Producer::new(broker.client(), ProducerSettings::default()).unwrap();
    // murmur2("a") & 0x7fffffff is even, of "21" too; of "abc" odd.
    for (key, partition) in [(Some("a"), 0), (Some("abc"), 1), (Some("21"), 0)] {
        let keyed = ProducerRecord { partition: None, key: key.map(Bytes::from), ..record("v") };
        let delivery = producer.send(keyed).await.unwrap().await.unwrap();
        assert_eq!(delivery.partition, partition, "{key:?}");
    }
    let mut partitions = Vec::new();
    for _ in 0..5 {
        let keyless = ProducerRecord { partition: None, key: None, ..record("v") };
        partitions.push(producer.send(keyless).await.unwrap().await.unwrap().partition);
    }
    partitions.dedup();
    assert_eq!(partitions.len(), 1);
    let nowhere = ProducerRecord { partition: Some(9), ..record("v") };
    assert!(matches!(producer.send(nowhere).await, Err(ClientError::UnknownPartition { partition: 9, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_record_larger_than_the_memory_is_refused() {
    let broker = FakeBroker::default();
    let settings = ProducerSettings { buffer_memory: 1000, ..Default::default() };
    let producer = Producer::new(broker.client(), settings).unwrap();
    let error = producer.send(record(&"x".repeat(2000))).await.unwrap_err();
    assert!(matches!(error, ClientError::RecordTooLarge { limit: 1000, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_survives_errors_that_pass() {
    let broker = FakeBroker::default();
    let client = broker.client();
    produce(&client, ProducerSettings::default(), &["a", "b"]).await.unwrap();
    broker.lie(ApiKey::Fetch, Lie::Error(ErrorCode::NotLeaderOrFollower));
    broker.lie(ApiKey::Fetch, Lie::DoneButLost);
    broker.lie(ApiKey::ListOffsets, Lie::Error(ErrorCode::NotLeaderOrFollower));
    let start = client.resolve_offsets(&[partition_0()], StartAt::BeforeEnd(1)).await.unwrap();
    assert_eq!(start, BTreeMap::from([(partition_0(), 1)]));
    let records = consume(&client, 0, 10).await.unwrap();
    assert_eq!(records.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn positions_follow_what_was_handed_out() {
    let broker = FakeBroker::default();
    let client = broker.client();
    produce(&client, ProducerSettings::default(), &["a", "b", "c"]).await.unwrap();
    produce(&client, ProducerSettings::default(), &["d"]).await.unwrap();
    let mut consumer = Consumer::new(client, ConsumerSettings::default());
    consumer.assign_at(&BTreeMap::from([(partition_0(), 0)]));
    let mut read = Vec::new();
    for expected in [2, 4] {
        let records = consumer.poll_at_most(2, Duration::from_secs(1)).await.unwrap();
        read.extend(records.iter().map(|record| record.offset));
        assert_eq!(consumer.positions()[&partition_0()], expected);
    }
    assert_eq!(read, [0, 1, 2, 3]);
    assert_eq!(consumer.poll_at_most(2, Duration::from_secs(1)).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn an_offset_that_is_gone() {
    let broker = FakeBroker::default();
    let client = broker.client();
    produce(&client, ProducerSettings::default(), &["a"]).await.unwrap();
    broker.lie(ApiKey::Fetch, Lie::Error(ErrorCode::OffsetOutOfRange));
    let error = consume(&client, 7, 10).await.unwrap_err();
    assert!(matches!(error, ClientError::OffsetOutOfRange { offset: 7, .. }), "{error}");
    broker.lie(ApiKey::Fetch, Lie::Error(ErrorCode::OffsetOutOfRange));
    let settings = ConsumerSettings { auto_offset_reset: AutoOffsetReset::Earliest, ..Default::default() };
    let mut consumer = Consumer::new(client, settings);
    consumer.assign_at(&BTreeMap::from([(partition_0(), 7)]));
    assert_eq!(consumer.poll_at_most(10, Duration::from_secs(5)).await.unwrap()[0].offset, 0);
}

#[tokio::test(start_paused = true)]
async fn damaged_records_are_an_error_each_time() {
    let broker = FakeBroker::default();
    let client = broker.client();
    produce(&client, ProducerSettings::default(), &["a"]).await.unwrap();
    {
        let mut state = broker.state.lock();
        let batch = &mut state.logs.get_mut(&0).unwrap()[0];
        let mut damaged = batch.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        *batch = damaged.into();
    }
    let mut consumer = Consumer::new(client, ConsumerSettings::default());
    consumer.assign_at(&BTreeMap::from([(partition_0(), 0)]));
    for _ in 0..2 {
        let error = consumer.poll_at_most(10, Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, ClientError::Records { offset: 0, .. }), "{error}");
    }
}
