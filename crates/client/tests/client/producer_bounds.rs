//! What a producer promises of time and memory while its broker does not.

use std::time::Duration;

use bytes::Bytes;
use ottla_client::{Acks, ClientError, Producer, ProducerRecord, ProducerSettings};
use ottla_protocol::ApiKey;
use tokio::time::Instant;

use crate::fake::{FakeBroker, Lie, PARTITIONS, TOPIC};

fn record(partition: i32, bytes: usize) -> ProducerRecord {
    let value = Some(Bytes::from(vec![b'x'; bytes]));
    ProducerRecord { topic: TOPIC.to_owned(), partition: Some(partition), value, ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acknowledged_counts_as_sent_when_it_has_left() {
    let broker = FakeBroker::default();
    let client = broker.client();
    let settings = ProducerSettings { acks: Acks::None, ..Default::default() };
    let mut producer = Producer::new(client.clone(), settings);
    producer.send(record(0, 1)).await.unwrap().await.unwrap();
    broker.state.lock().asleep = true;
    // More than the stream between takes without a reader.
    let mut deliveries = Vec::new();
    for _ in 0..600 {
        deliveries.push(producer.send(record(0, 5_000)).await.unwrap());
    }
    tokio::time::timeout(Duration::from_secs(1), producer.flush()).await.unwrap_err();
    assert!(deliveries.last().unwrap().try_result().is_none());
    broker.wake();
    producer.flush().await;
    assert!(deliveries.iter().all(|delivery| delivery.try_result().unwrap().is_ok()));
    // Whoever leaves after a flush takes nothing along.
    drop((producer, client));
    let everything_came = async {
        while broker.values(0).len() < 601 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), everything_came).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn batches_behind_a_stuck_one_are_given_up_in_their_own_time() {
    for max_in_flight in [1, 5] {
        let broker = FakeBroker::default();
        broker.always_lie(ApiKey::Produce, Lie::Silence);
        let delivery_timeout = Duration::from_secs(10);
        let settings = ProducerSettings { batch_bytes: 1000, delivery_timeout, max_in_flight, ..Default::default() };
        let mut producer = Producer::new(broker.client(), settings);
        let began = Instant::now();
        let mut deliveries = Vec::new();
        for _ in 0..20 {
            deliveries.push(producer.send(record(0, 900)).await.unwrap());
        }
        producer.flush().await;
        // The fake's client waits 6 s for an answer, and whatever is under way at the end is waited for.
        assert!(began.elapsed() <= delivery_timeout + Duration::from_secs(7), "{:?}", began.elapsed());
        for delivery in deliveries {
            delivery.await.unwrap_err();
        }
        assert!(broker.values(0).len() <= max_in_flight, "what was never tried must not be written");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_waited_too_long_says_what_it_waited_for() {
    let broker = FakeBroker::default();
    let mut producer = Producer::new(
        broker.client(),
        ProducerSettings {
            batch_bytes: 1000,
            delivery_timeout: Duration::from_secs(10),
            max_in_flight: 1,
            ..Default::default()
        },
    );
    producer.send(record(0, 1)).await.unwrap().await.unwrap();
    broker.always_lie(ApiKey::Produce, Lie::Silence);
    let _stuck = producer.send(record(0, 900)).await.unwrap();
    let waiting = producer.send(record(0, 900)).await.unwrap();
    let error = waiting.await.unwrap_err();
    assert!(matches!(error, ClientError::DeliveryTimedOut { last: Some(_), .. }), "{error}");
    assert!(error.to_string().contains("not delivered within 10s: no answer from"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn lingering_is_no_part_of_the_time_a_record_is_tried() {
    let broker = FakeBroker::default();
    let settings = ProducerSettings {
        linger: Duration::from_secs(60),
        delivery_timeout: Duration::from_secs(10),
        ..Default::default()
    };
    let mut producer = Producer::new(broker.client(), settings);
    let delivery = producer.send(record(0, 1)).await.unwrap();
    assert_eq!(delivery.await.unwrap().offset, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_producer_without_room_does_not_linger() {
    let broker = FakeBroker::default();
    let settings = ProducerSettings {
        buffer_bytes: 3000,
        batch_bytes: 1 << 20,
        linger: Duration::from_secs(3600),
        ..Default::default()
    };
    let mut producer = Producer::new(broker.client(), settings);
    let began = Instant::now();
    for round in 0..10 {
        producer.send(record(round % PARTITIONS, 1000)).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_get_records() {
    let broker = FakeBroker::default();
    let mut producer = Producer::new(broker.client(), ProducerSettings { batch_bytes: 100, ..Default::default() });
    let refused = producer.send(record(PARTITIONS, 1)).await;
    assert!(matches!(refused, Err(ClientError::UnknownPartition { .. })));
    producer.send(record(0, 1)).await.unwrap().await.unwrap();

    broker.state.lock().added_partitions = 1;
    let delivery = producer.send(record(PARTITIONS, 1)).await.unwrap();
    assert_eq!(delivery.await.unwrap().offset, Some(0), "asked for by its number it is found at once");

    broker.state.lock().added_partitions = 2;
    let asked =
        |broker: &FakeBroker| broker.state.lock().requests.iter().filter(|(api, _)| *api == ApiKey::Metadata).count();
    let before = asked(&broker);
    while asked(&broker) == before {
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let keyless = ProducerRecord { partition: None, ..record(0, 90) };
        reached.insert(producer.send(keyless).await.unwrap().await.unwrap().partition);
    }
    assert_eq!(reached, (0..PARTITIONS + 2).collect(), "records without a key go round all of them");
}
