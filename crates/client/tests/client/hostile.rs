//! A broker that sends anything at all: errors, never a panic, never for ever.

use std::collections::BTreeMap;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_client::{
    Client, ClientError, ConnectionError, Consumer, ConsumerSettings, GroupConsumer, GroupSettings, NewTopic, Producer,
    ProducerRecord, ProducerSettings, StartAt,
};
use ottla_protocol::ApiKey;
use ottla_types::TopicPartition;

use crate::fake::{FakeBroker, Lie, TOPIC};

/// Set by a panic in the code under test, also in tasks nobody waits for. The fake broker may well panic over what it is
/// asked after its own lies.
static PANICKED: AtomicBool = AtomicBool::new(false);

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            print(info);
            if info.location().is_none_or(|location| !location.file().contains("tests/client")) {
                PANICKED.store(true, Ordering::SeqCst);
            }
        }));
    });
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, longest: u64) -> Bytes {
        let length = self.next() % (longest + 1);
        // Small numbers are likelier to mean something.
        (0..length)
            .map(|_| if self.next().is_multiple_of(2) { (self.next() % 4) as u8 } else { self.next() as u8 })
            .collect()
    }
}

async fn produce(client: &Client) -> Result<(), ClientError> {
    let settings = ProducerSettings { delivery_timeout: Duration::from_secs(20), ..Default::default() };
    let producer = Producer::new(client.clone(), settings).unwrap();
    let value = Some(Bytes::from_static(b"value"));
    let sent = producer.send(ProducerRecord { topic: TOPIC.to_owned(), value, ..Default::default() }).await?;
    sent.await.map(|_| ())
}

async fn consume(client: &Client) -> Result<(), ClientError> {
    let partition = TopicPartition::new(TOPIC, 0);
    let offsets = client.resolve_offsets(std::slice::from_ref(&partition), StartAt::Beginning).await?;
    let mut consumer = Consumer::new(client.clone(), ConsumerSettings::default());
    consumer.assign_at(&BTreeMap::from([(partition.clone(), offsets[&partition])]));
    for _ in 0..3 {
        consumer.poll_at_most(10, Duration::from_secs(60)).await?;
    }
    Ok(())
}

async fn consume_in_group(client: &Client) -> Result<(), ClientError> {
    let settings = GroupSettings::new("group".to_owned(), vec![TOPIC.to_owned()], StartAt::Beginning);
    let mut member = GroupConsumer::join(client.clone(), settings, ConsumerSettings::default()).await?;
    for _ in 0..3 {
        member.poll(10, Duration::from_secs(10)).await?;
    }
    member.leave().await
}

async fn create(client: &Client) -> Result<(), ClientError> {
    let topic = NewTopic { name: TOPIC.to_owned(), ..NewTopic::default() };
    client.create_topic(&topic).await.map(|_| ())
}

/// Everything a client does ends, in an error or not, within an hour of paused time.
async fn everything_ends(broker: &FakeBroker, what: &str) -> Vec<Result<(), ClientError>> {
    let client = broker.client();
    let all = async {
        vec![create(&client).await, produce(&client).await, consume(&client).await, consume_in_group(&client).await]
    };
    let results = tokio::time::timeout(Duration::from_secs(3600), all).await;
    assert!(!PANICKED.load(Ordering::SeqCst), "{what}: something panicked");
    results.unwrap_or_else(|_| panic!("{what}: does not end"))
}

const APIS: &[ApiKey] = &[
    ApiKey::ApiVersions,
    ApiKey::Metadata,
    ApiKey::CreateTopics,
    ApiKey::InitProducerId,
    ApiKey::Produce,
    ApiKey::ListOffsets,
    ApiKey::Fetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::OffsetFetch,
    ApiKey::OffsetCommit,
];

#[tokio::test(start_paused = true)]
async fn an_honest_broker_serves_everything() {
    let results = everything_ends(&FakeBroker::default(), "honest").await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn random_bodies() {
    watch_panics();
    for &api in APIS {
        for seed in 0..20 {
            let broker = FakeBroker::default();
            broker.always_lie(api, Lie::Body(Random(seed).bytes(200)));
            everything_ends(&broker, &format!("{api:?}, seed {seed}")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_lie() {
    watch_panics();
    let frame = |length: i32, rest: &[u8]| {
        let mut bytes = BytesMut::new();
        bytes.put_i32(length);
        bytes.put(rest);
        bytes.freeze()
    };
    for raw in [
        frame(i32::MAX, b"few"),
        frame(256 << 20, b"few"),
        frame(-1, b""),
        frame(0, b""),
        frame(3, b"abc"),
        frame(4, &[0; 4]),
        frame(100, b"cut off"),
        Bytes::new(),
    ] {
        for &api in &[ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::Fetch] {
            let broker = FakeBroker::default();
            broker.always_lie(api, Lie::Raw(raw.clone()));
            let results = everything_ends(&broker, &format!("{api:?} {raw:?}")).await;
            assert!(results.iter().any(Result::is_err), "{api:?} {raw:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn random_bytes_from_the_first_one_on() {
    watch_panics();
    for seed in 0..40 {
        let broker = FakeBroker::default();
        broker.always_lie(ApiKey::ApiVersions, Lie::Raw(Random(seed).bytes(2000)));
        let results = everything_ends(&broker, &format!("seed {seed}")).await;
        assert!(results.iter().all(Result::is_err), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_and_strange_correlation_ids() {
    watch_panics();
    for &api in APIS {
        for lie in [Lie::Silence, Lie::WrongCorrelationId, Lie::DoneButLost] {
            let broker = FakeBroker::default();
            broker.always_lie(api, lie.clone());
            let results = everything_ends(&broker, &format!("{api:?} {lie:?}")).await;
            // Heartbeats may fail unnoticed for as long as a session lasts.
            assert!(api == ApiKey::Heartbeat || results.iter().any(Result::is_err), "{api:?} {lie:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_named() {
    let broker = FakeBroker::default();
    broker.always_lie(ApiKey::ApiVersions, Lie::Silence);
    let began = tokio::time::Instant::now();
    let error = broker.client().metadata(None, false).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unreachable { source: ConnectionError::TimedOut { .. }, .. }), "{error}");
    assert_eq!(error.to_string(), "no answer from fake:9092 within 5s");
    assert!(began.elapsed() <= Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn damaged_batches() {
    watch_panics();
    for seed in 0..200 {
        let broker = FakeBroker::default();
        produce(&broker.client()).await.unwrap();
        let mut random = Random(seed);
        {
            let mut state = broker.state.lock();
            let log = state.logs.values_mut().next().unwrap();
            let mut batch = log[0].to_vec();
            for _ in 0..=random.next() % 3 {
                let position = random.next() as usize % batch.len();
                // The length and the magic byte stay: the fake broker reads them as well.
                if !(8..12).contains(&position) && position != 16 {
                    batch[position] = random.next() as u8;
                }
            }
            if random.next().is_multiple_of(4) {
                ottla_record::stamp_crc(&mut batch);
            }
            let fetched = state.logs.keys().next().copied();
            let log = fetched.and_then(|partition| state.logs.remove(&partition)).map(|_| vec![batch.into()]);
            state.logs.insert(0, log.unwrap());
        }
        everything_ends(&broker, &format!("seed {seed}")).await;
    }
}
