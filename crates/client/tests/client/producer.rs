//! What a producer does besides carrying records: numbering them, choosing where they go, waiting, ending.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_client::{
    ClientError, Delivery, Partitioner, Producer, ProducerInterceptor, ProducerRecord, ProducerSettings, RecordRef,
    RoundRobinPartitioner, TopicDescription,
};
use ottla_protocol::ApiKey;
use ottla_types::ErrorCode;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::fake::{FakeBroker, Lie, PARTITIONS, TOPIC};

fn record(partition: Option<i32>, value: &str) -> ProducerRecord {
    let value = Some(Bytes::from(value.to_owned()));
    ProducerRecord { topic: TOPIC.to_owned(), partition, value, ..Default::default() }
}

fn producer(broker: &FakeBroker, settings: ProducerSettings) -> Producer {
    Producer::new(broker.client(), settings).unwrap()
}

/// Sends everything as batches of their own, one after the other.
fn one_by_one() -> ProducerSettings {
    ProducerSettings { batch_size: 0, ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn a_producer_the_broker_forgot_goes_on_under_a_raised_epoch() {
    for forgotten in [ErrorCode::OutOfOrderSequenceNumber, ErrorCode::UnknownProducerId] {
        let broker = FakeBroker::default();
        let producer = producer(&broker, one_by_one());
        producer.send(record(Some(0), "a")).await.unwrap().await.unwrap();
        producer.send(record(Some(1), "x")).await.unwrap().await.unwrap();
        broker.lie(ApiKey::Produce, Lie::Error(forgotten));
        for value in ["b", "c"] {
            producer.send(record(Some(0), value)).await.unwrap();
        }
        producer.flush().await;
        producer.send(record(Some(1), "y")).await.unwrap().await.unwrap();
        assert_eq!(broker.values(0), ["a", "b", "c"]);
        assert_eq!(broker.values(1), ["x", "y"]);
        let state = broker.state.lock();
        assert_eq!(state.producers, 1, "a raised epoch needs nobody's leave");
        let written: Vec<_> = state.sequences.iter().zip(&state.epochs).collect();
        let (raised, old): (Vec<_>, Vec<_>) = written.iter().partition(|(_, epoch)| **epoch == 1);
        assert_eq!(raised.iter().map(|(sequence, _)| **sequence).collect::<Vec<_>>(), [(0, 42, 0), (0, 42, 1)]);
        assert_eq!(old.last().unwrap().0, &(1, 42, 1), "the other partition goes on as it was");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_lost_the_end_of_its_log_gets_what_comes_next() {
    let broker = FakeBroker::default();
    let producer = producer(&broker, one_by_one());
    for value in ["a", "b"] {
        producer.send(record(Some(0), value)).await.unwrap().await.unwrap();
    }
    broker.forget_producers();
    for value in ["c", "d", "e", "f", "g", "h"] {
        producer.send(record(Some(0), value)).await.unwrap();
    }
    producer.flush().await;
    assert_eq!(broker.values(0), ["a", "b", "c", "d", "e", "f", "g", "h"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_given_up_in_doubt_raises_the_epoch() {
    let broker = FakeBroker::default();
    let settings = ProducerSettings { delivery_timeout: Duration::from_secs(6), ..one_by_one() };
    let producer = producer(&broker, settings);
    producer.send(record(Some(0), "a")).await.unwrap().await.unwrap();
    // The second attempt is under way when the time is over.
    broker.lie(ApiKey::Produce, Lie::Silence);
    broker.lie(ApiKey::Produce, Lie::Silence);
    let error = producer.send(record(Some(0), "lost")).await.unwrap().await.unwrap_err();
    assert!(matches!(error, ClientError::DeliveryTimedOut { .. }), "{error}");
    producer.send(record(Some(0), "b")).await.unwrap().await.unwrap();
    assert_eq!(broker.values(0), ["a", "lost", "b"], "it may have been written: the result says unknown, not absent");
    assert_eq!(broker.state.lock().epochs, [0, 0, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn order_holds_whatever_the_answers_are() {
    use ErrorCode::{NotEnoughReplicas, NotLeaderOrFollower};
    let broker = FakeBroker::default();
    let producer = producer(&broker, one_by_one());
    let mut expected = Vec::new();
    for round in 0..20 {
        for number in 0..7 {
            let lie = match (round * 7 + number) % 11 {
                0 => Some(Lie::Error(NotLeaderOrFollower)),
                3 => Some(Lie::DoneButLost),
                8 => Some(Lie::Error(NotEnoughReplicas)),
                _ => None,
            };
            if let Some(lie) = lie {
                broker.lie(ApiKey::Produce, lie);
            }
            let value = format!("{round}/{number}");
            producer.send(record(Some(0), &value)).await.unwrap();
            expected.push(value);
        }
    }
    producer.flush().await;
    assert_eq!(broker.values(0), expected);
    assert_eq!(broker.state.lock().producers, 1);
    assert!(broker.state.lock().epochs.iter().all(|&epoch| epoch == 0), "nothing was given up");
}

#[tokio::test(start_paused = true)]
async fn no_room_is_waited_for_but_not_for_ever() {
    let broker = FakeBroker::default();
    let settings = ProducerSettings { buffer_memory: 1000, max_block: Duration::from_secs(3), ..one_by_one() };
    let producer = producer(&broker, settings);
    producer.send(record(Some(0), "a")).await.unwrap().await.unwrap();
    broker.lie(ApiKey::Produce, Lie::Silence);
    let stuck = producer.send(record(Some(0), &"x".repeat(900))).await.unwrap();
    let began = Instant::now();
    let error = producer.send(record(Some(0), &"y".repeat(900))).await.unwrap_err();
    assert!(matches!(error, ClientError::BufferExhausted { .. }), "{error}");
    assert_eq!(began.elapsed().as_secs(), 3);
    // Whoever gives up waiting takes nothing along.
    let waiting = producer.send(record(Some(0), &"z".repeat(900)));
    tokio::time::timeout(Duration::from_secs(1), waiting).await.unwrap_err();
    stuck.await.unwrap();
    producer.send(record(Some(0), &"w".repeat(900))).await.unwrap().await.unwrap();
    assert_eq!(broker.values(0).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_being_made_is_waited_for_but_not_for_ever() {
    let broker = FakeBroker::default();
    let settings = ProducerSettings { max_block: Duration::from_secs(3), ..Default::default() };
    let producer = producer(&broker, settings);
    broker.state.lock().missing = i32::MAX;
    let began = Instant::now();
    let error = producer.send(record(Some(0), "a")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition), "{error}");
    assert!(began.elapsed() <= Duration::from_secs(3));
    broker.state.lock().missing = 3;
    producer.send(record(Some(0), "b")).await.unwrap().await.unwrap();
    assert_eq!(broker.values(0), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_flush_does_not_wait_for_what_comes_after_it() {
    let broker = FakeBroker::default();
    let producer = producer(&broker, ProducerSettings { linger: Duration::from_secs(100), ..Default::default() });
    let before = producer.send(record(Some(0), "before")).await.unwrap();
    let other = producer.clone();
    let sending = tokio::spawn(async move {
        loop {
            other.send(record(Some(1), "after")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let began = Instant::now();
    producer.flush().await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    before.try_result().unwrap().unwrap();
    sending.abort();
}

#[tokio::test(start_paused = true)]
async fn close_sends_what_lingers() {
    let broker = FakeBroker::default();
    let producer = producer(&broker, ProducerSettings { linger: Duration::from_secs(100), ..Default::default() });
    let delivery = producer.send(record(Some(0), "a")).await.unwrap();
    let began = Instant::now();
    producer.close(Duration::from_secs(10)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
    delivery.try_result().unwrap().unwrap();
    let refused = producer.send(record(Some(0), "b")).await;
    assert!(matches!(refused, Err(ClientError::ProducerClosed)));
    producer.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(broker.values(0), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn close_gives_up_in_its_time_and_every_record_has_its_result() {
    let broker = FakeBroker::default();
    let settings = ProducerSettings { buffer_memory: 5000, ..one_by_one() };
    let producer = producer(&broker, settings);
    producer.send(record(Some(0), "a")).await.unwrap().await.unwrap();
    broker.always_lie(ApiKey::Produce, Lie::Silence);
    let mut deliveries = Vec::new();
    for _ in 0..9 {
        deliveries.push(producer.send(record(Some(0), &"x".repeat(500))).await.unwrap());
    }
    let other = producer.clone();
    let without_room = tokio::spawn(async move { other.send(record(Some(0), &"y".repeat(900))).await });
    tokio::task::yield_now().await;
    let began = Instant::now();
    let closed = producer.close(Duration::from_secs(2)).await;
    assert!(matches!(closed, Err(ClientError::CloseTimedOut { .. })));
    assert_eq!(began.elapsed().as_secs(), 2);
    for delivery in deliveries {
        let error = delivery.try_result().unwrap().unwrap_err();
        assert!(matches!(error, ClientError::ProducerClosed), "{error}");
    }
    assert!(matches!(without_room.await.unwrap(), Err(ClientError::ProducerClosed)));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_settles_everything() {
    let broker = FakeBroker::default();
    let producer = producer(&broker, ProducerSettings { linger: Duration::from_secs(100), ..Default::default() });
    let first = producer.clone();
    let delivery = first.send(record(Some(0), "a")).await.unwrap();
    drop(first);
    assert!(delivery.try_result().is_none());
    drop(producer);
    let error = delivery.await.unwrap_err();
    assert!(matches!(error, ClientError::ProducerClosed), "{error}");
}

#[test]
fn a_runtime_that_ends_settles_everything() {
    let broker = FakeBroker::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (producer, delivery) = runtime.block_on(async {
        let settings = ProducerSettings { linger: Duration::from_secs(100), ..Default::default() };
        let producer = producer(&broker, settings);
        let delivery = producer.send(record(Some(0), "a")).await.unwrap();
        (producer, delivery)
    });
    drop(runtime);
    assert!(matches!(delivery.try_result(), Some(Err(ClientError::ProducerClosed))));
    let again = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    again.block_on(async {
        assert!(matches!(producer.send(record(Some(0), "b")).await, Err(ClientError::ProducerClosed)));
        producer.flush().await;
        producer.close(Duration::from_secs(1)).await.unwrap();
    });
}

/// A partition, and an offset or an error.
type Seen = (Option<i32>, Result<i64, String>);

/// Notes what it sees, changes each record, and panics where it is told to.
#[derive(Debug, Default)]
struct Witness {
    results: Mutex<Vec<Seen>>,
}

impl ProducerInterceptor for Witness {
    fn on_send(&self, record: ProducerRecord) -> ProducerRecord {
        assert_ne!(record.value.as_deref(), Some(&b"panic"[..]));
        let headers = vec![(Bytes::from_static(b"seen"), None)];
        ProducerRecord { headers, ..record }
    }

    fn on_acknowledgement(&self, topic: &str, partition: Option<i32>, result: &Result<Delivery, ClientError>) {
        assert_eq!(topic, TOPIC);
        let result = match result {
            Ok(delivery) => Ok(delivery.offset.unwrap()),
            Err(error) => Err(error.to_string()),
        };
        self.results.lock().push((partition, result));
        panic!("nobody minds");
    }
}

#[tokio::test(start_paused = true)]
async fn interceptors_see_every_record_and_every_result_once() {
    let broker = FakeBroker::default();
    let witness = Arc::<Witness>::default();
    let settings = ProducerSettings { interceptors: vec![witness.clone()], ..Default::default() };
    let producer = producer(&broker, settings);
    for value in ["a", "panic", "b"] {
        producer.send(record(Some(0), value)).await.unwrap();
    }
    producer.flush().await;
    broker.lie(ApiKey::Produce, Lie::Error(ErrorCode::InvalidRecord));
    producer.send(record(Some(1), "c")).await.unwrap();
    producer.flush().await;
    producer.send(record(Some(9), "nowhere")).await.unwrap_err();
    let results = witness.results.lock().clone();
    let failed = |text: &str| Err(text.to_owned());
    assert_eq!(
        results,
        [
            (Some(0), Ok(0)),
            (Some(0), Ok(1)),
            (Some(0), Ok(2)),
            (Some(1), failed("partition 1 of topic 'topic': INVALID_RECORD")),
            (Some(9), failed("topic 'topic' has no partition 9")),
        ]
    );
    assert_eq!(broker.values(0), ["a", "panic", "b"]);
}

#[derive(Debug)]
struct ByLength;

impl Partitioner for ByLength {
    fn partition(&self, record: &RecordRef<'_>, topic: &TopicDescription) -> Option<i32> {
        let length = record.value?.len();
        (length < 10).then(|| (length % topic.partitions.len()) as i32)
    }
}

#[tokio::test(start_paused = true)]
async fn a_partitioner_decides_where_the_record_does_not() {
    let broker = FakeBroker::default();
    let settings = ProducerSettings { partitioner: Some(Arc::new(ByLength)), ..Default::default() };
    let by_length = producer(&broker, settings);
    let keyed = |value: &str| ProducerRecord { key: Some(Bytes::from_static(b"abc")), ..record(None, value) };
    for (record, partition) in [
        (record(None, "1"), 1),
        (record(None, "22"), 0),
        (record(Some(0), "1"), 0),
        (keyed("22"), 0),
        // murmur2("abc") is odd.
        (keyed("it does not say anything of this"), 1),
    ] {
        let delivery = by_length.send(record.clone()).await.unwrap().await.unwrap();
        assert_eq!(delivery.partition, partition, "{record:?}");
    }
    let settings =
        ProducerSettings { partitioner: Some(Arc::new(RoundRobinPartitioner::default())), ..Default::default() };
    let in_turn = producer(&broker, settings);
    let mut partitions = Vec::new();
    for _ in 0..4 {
        partitions.push(in_turn.send(keyed("v")).await.unwrap().await.unwrap().partition);
    }
    assert_eq!(partitions, [0, 1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn keys_can_be_ignored() {
    let broker = FakeBroker::default();
    let settings = ProducerSettings { partitioner_ignore_keys: true, batch_size: 100, ..Default::default() };
    let producer = producer(&broker, settings);
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        let keyed = ProducerRecord { key: Some(Bytes::from_static(b"abc")), ..record(None, &"v".repeat(60)) };
        reached.insert(producer.send(keyed).await.unwrap().await.unwrap().partition);
    }
    assert_eq!(reached, (0..PARTITIONS).collect());
}

#[tokio::test(start_paused = true)]
async fn records_without_a_key_fill_batches_whatever_partition_they_go_to() {
    let broker = FakeBroker::default();
    let settings = ProducerSettings { batch_size: 1000, linger: Duration::from_secs(1), ..Default::default() };
    let producer = producer(&broker, settings);
    for _ in 0..1000 {
        producer.send(record(None, &"v".repeat(60))).await.unwrap();
    }
    producer.flush().await;
    let batches: usize = broker.state.lock().logs.values().map(Vec::len).sum();
    // Thirteen of these records fit a batch.
    assert_eq!(batches, 1000_usize.div_ceil(13));
}
