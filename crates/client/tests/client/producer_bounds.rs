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
    let producer = Producer::new(client.clone(), settings).unwrap();
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
        let settings = ProducerSettings {
            batch_size: 1000,
            delivery_timeout,
            max_in_flight_requests_per_connection: max_in_flight,
            ..Default::default()
        };
        let producer = Producer::new(broker.client(), settings).unwrap();
        let began = Instant::now();
        let mut deliveries = Vec::new();
        for _ in 0..20 {
            deliveries.push(producer.send(record(0, 900)).await.unwrap());
        }
        producer.flush().await;
        assert!(began.elapsed() <= delivery_timeout + Duration::from_secs(1), "{:?}", began.elapsed());
        for delivery in deliveries {
            delivery.await.unwrap_err();
        }
        assert!(broker.values(0).len() <= max_in_flight, "what was never tried must not be written");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_waited_too_long_says_what_it_waited_for() {
    let broker = FakeBroker::default();
    let producer = Producer::new(
        broker.client(),
        ProducerSettings {
            batch_size: 1000,
            delivery_timeout: Duration::from_secs(10),
            max_in_flight_requests_per_connection: 1,
            ..Default::default()
        },
    )
    .unwrap();
    producer.send(record(0, 1)).await.unwrap().await.unwrap();
    broker.always_lie(ApiKey::Produce, Lie::Silence);
    let _stuck = producer.send(record(0, 900)).await.unwrap();
    let waiting = producer.send(record(0, 900)).await.unwrap();
    let error = waiting.await.unwrap_err();
    assert!(matches!(error, ClientError::DeliveryTimedOut { last: Some(_), .. }), "{error}");
    assert!(error.to_string().contains("not delivered within 10s: no answer from"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_record_has_its_result_within_the_delivery_timeout() {
    let broker = FakeBroker::default();
    broker.always_lie(ApiKey::Produce, Lie::Silence);
    let settings = ProducerSettings {
        batch_size: 1000,
        linger: Duration::from_secs(2),
        delivery_timeout: Duration::from_secs(9),
        ..Default::default()
    };
    let producer = Producer::new(broker.client(), settings).unwrap();
    let began = Instant::now();
    let mut deliveries = Vec::new();
    for _ in 0..20 {
        deliveries.push(producer.send(record(0, 900)).await.unwrap());
    }
    for delivery in deliveries {
        let error = delivery.wait().await.unwrap_err();
        assert!(matches!(error, ClientError::DeliveryTimedOut { .. }), "{error}");
        let took = delivery.settled_at().unwrap().duration_since(began);
        // No broker answers, so the attempt under way is what the time ends.
        assert!(took <= Duration::from_millis(9100), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn settings_that_contradict_each_other_are_refused() {
    let settings = |change: fn(&mut ProducerSettings)| {
        let mut settings = ProducerSettings::default();
        change(&mut settings);
        Producer::new(FakeBroker::default().client(), settings).err().map(|error| error.to_string())
    };
    assert_eq!(settings(|_| ()), None);
    // The fake's client has a request.timeout.ms of 5 s.
    assert_eq!(
        settings(|settings| settings.delivery_timeout = Duration::from_millis(5004)).as_deref(),
        Some("delivery.timeout.ms (5.004s) must be at least linger.ms (5ms) and request.timeout.ms (5s) together")
    );
    assert_eq!(settings(|settings| settings.delivery_timeout = Duration::from_millis(5005)), None);
    assert!(settings(|settings| settings.max_in_flight_requests_per_connection = 0).is_some());
    assert!(settings(|settings| settings.buffer_memory = 0).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_producer_without_room_does_not_linger() {
    let broker = FakeBroker::default();
    let settings = ProducerSettings {
        buffer_memory: 3000,
        batch_size: 1 << 20,
        linger: Duration::from_secs(100),
        ..Default::default()
    };
    let producer = Producer::new(broker.client(), settings).unwrap();
    let began = Instant::now();
    for round in 0..10 {
        producer.send(record(round % PARTITIONS, 1000)).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_get_records() {
    let broker = FakeBroker::default();
    let producer = Producer::new(broker.client(), ProducerSettings { batch_size: 100, ..Default::default() }).unwrap();
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
    for _ in 0..1000 {
        let keyless = ProducerRecord { partition: None, ..record(0, 90) };
        reached.insert(producer.send(keyless).await.unwrap().await.unwrap().partition);
    }
    assert_eq!(reached, (0..PARTITIONS + 2).collect(), "records without a key go round all of them");
}
