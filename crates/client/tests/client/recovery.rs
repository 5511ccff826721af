//! A cluster whose brokers all move: clients find it again at the bootstrap servers (KIP-899, KIP-1102).

use std::time::Duration;

use bytes::Bytes;
use ottla_client::{Client, ClientError, MetadataRecoveryStrategy, Producer, ProducerRecord, ProducerSettings};
use ottla_protocol::ApiKey;
use ottla_types::ErrorCode;

use crate::fake::{FakeBroker, Lie, TOPIC};

async fn produce(client: &Client) -> Result<Option<i64>, ClientError> {
    let settings = ProducerSettings { delivery_timeout: Duration::from_secs(20), ..Default::default() };
    let producer = Producer::new(client.clone(), settings).unwrap();
    let value = Some(Bytes::from_static(b"value"));
    let record = ProducerRecord { topic: TOPIC.to_owned(), partition: Some(0), value, ..Default::default() };
    Ok(producer.send(record).await?.await?.offset)
}

fn at_old() -> FakeBroker {
    let broker = FakeBroker::default();
    broker.state.lock().advertised = Some("old");
    broker
}

#[tokio::test(start_paused = true)]
async fn brokers_that_are_gone_are_looked_for_at_the_bootstrap_servers() {
    for (strategy, found) in [(MetadataRecoveryStrategy::Rebootstrap, true), (MetadataRecoveryStrategy::None, false)] {
        let broker = at_old();
        let client = broker.client_with(|settings| settings.metadata_recovery_strategy = strategy);
        assert_eq!(produce(&client).await.unwrap(), Some(0));
        {
            let mut state = broker.state.lock();
            state.unreachable.insert("old");
            state.advertised = Some("new");
        }
        // Both connections end.
        broker.lie(ApiKey::Produce, Lie::DoneButLost);
        broker.lie(ApiKey::Metadata, Lie::DoneButLost);
        assert_eq!(produce(&client).await.ok().flatten(), found.then_some(1), "{strategy:?}");
        assert_eq!(broker.state.lock().connected_to.iter().any(|host| host == "new"), found);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_can_send_its_clients_away() {
    let broker = at_old();
    let client = broker.client();
    produce(&client).await.unwrap();
    let before = broker.state.lock().connected_to.len();
    broker.lie(ApiKey::Metadata, Lie::Error(ErrorCode::RebootstrapRequired));
    broker.state.lock().advertised = Some("new");
    client.refresh_topic(TOPIC, false).await.unwrap();
    produce(&client).await.unwrap();
    assert_eq!(broker.state.lock().connected_to[before..], ["fake", "new"]);
}

#[tokio::test(start_paused = true)]
async fn brokers_that_describe_nothing_for_long_are_given_up() {
    for (trigger, given_up) in [(Duration::from_secs(300), true), (Duration::from_secs(3600), false)] {
        let broker = at_old();
        let client = broker.client_with(|settings| settings.metadata_recovery_rebootstrap_trigger = trigger);
        produce(&client).await.unwrap();
        let before = broker.state.lock().connected_to.len();
        broker.always_lie(ApiKey::Metadata, Lie::Silence);
        tokio::time::sleep(Duration::from_secs(1200)).await;
        let state = broker.state.lock();
        assert!(state.connected_to.len() > before);
        assert_eq!(state.connected_to[before..].iter().any(|host| host == "fake"), given_up, "{trigger:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_is_described_again_before_it_is_old() {
    let broker = FakeBroker::default();
    let client = broker.client_with(|settings| settings.metadata_max_age = Duration::from_secs(60));
    let asked = || broker.state.lock().requests.iter().filter(|(api, _)| *api == ApiKey::Metadata).count();
    client.topic(TOPIC).await.unwrap();
    assert_eq!(asked(), 1);
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert_eq!(asked(), 11);
    drop(client);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(asked(), 11, "it ends with the client");
}

#[tokio::test(start_paused = true)]
async fn what_many_miss_is_asked_for_once() {
    let broker = FakeBroker::default();
    let client = broker.client();
    let asking = (0..100).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.topic(TOPIC).await.map(|topic| topic.partitions.len()) })
    });
    for asked in asking.collect::<Vec<_>>() {
        asked.await.unwrap().unwrap();
    }
    let requests = broker.state.lock().requests.clone();
    assert_eq!(requests.iter().filter(|(api, _)| *api == ApiKey::Metadata).count(), 1);
}
