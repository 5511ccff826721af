//! A broker that serves exactly what Apache Kafka 2.1 serves.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ottla_client::{Acks, Consumer, ConsumerSettings, Producer, ProducerRecord, ProducerSettings};
use ottla_protocol::ApiKey;
use ottla_record::{Codec, Compression};
use ottla_types::{ErrorCode, TopicPartition};

use crate::fake::{FakeBroker, Lie, TOPIC};

fn old_broker() -> FakeBroker {
    let broker = FakeBroker::default();
    broker.state.lock().kafka_2_1 = true;
    broker
}

fn record(value: &str) -> ProducerRecord {
    let value = Some(Bytes::from(value.to_owned()));
    ProducerRecord { topic: TOPIC.to_owned(), partition: Some(0), value, ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn records_go_out_and_come_in() {
    for codec in Codec::ALL {
        for acks in [Acks::None, Acks::Leader, Acks::All] {
            let broker = old_broker();
            let client = broker.client();
            let settings = ProducerSettings { acks, compression: Compression::new(codec), ..Default::default() };
            let producer = Producer::new(client.clone(), settings).unwrap();
            for value in ["a", "b", "c"] {
                producer.send(record(value)).await.unwrap();
            }
            producer.flush().await;
            let mut consumer = Consumer::new(client, ConsumerSettings::default());
            consumer.assign_at(&BTreeMap::from([(TopicPartition::new(TOPIC, 0), 1)]));
            let records = consumer.poll_at_most(10, Duration::from_secs(5)).await.unwrap();
            assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [1, 2], "{codec:?} {acks:?}");
            let requests = broker.state.lock().requests.clone();
            for asked in [(ApiKey::ApiVersions, 0), (ApiKey::Metadata, 7), (ApiKey::Produce, 7), (ApiKey::Fetch, 10)] {
                assert!(requests.contains(&asked), "{asked:?}");
            }
            assert_eq!(requests.contains(&(ApiKey::InitProducerId, 1)), acks == Acks::All);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_producer_writes_once_and_raises_its_epoch() {
    let broker = old_broker();
    let producer = Producer::new(broker.client(), ProducerSettings::default()).unwrap();
    broker.lie(ApiKey::Produce, Lie::DoneButLost);
    broker.lie(ApiKey::Produce, Lie::Error(ErrorCode::NotLeaderOrFollower));
    broker.lie(ApiKey::Produce, Lie::Error(ErrorCode::UnknownProducerId));
    let delivery = producer.send(record("a")).await.unwrap();
    producer.flush().await;
    // The third attempt was refused for the producer, so the fourth is another's to the fake.
    assert_eq!(delivery.await.unwrap().offset, Some(1));
    assert_eq!(broker.state.lock().epochs, [0, 1]);
}
