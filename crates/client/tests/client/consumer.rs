//! A consumer of partitions: what it asks brokers for, and what it makes of their answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ottla_client::{AutoOffsetReset, ClientError, ConsumedRecord, Consumer, ConsumerSettings, IsolationLevel};
use ottla_protocol::messages::fetch_request::FetchRequest;
use ottla_protocol::messages::fetch_response::{
    AbortedTransaction, FetchResponse, FetchableTopicResponse, PartitionData,
};
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use ottla_protocol::{ApiKey, Request, Response, StrBytes};
use ottla_record::{BatchBuilder, Codec, Compression, ControlMarker, ControlType, control_marker};
use ottla_types::{ErrorCode, TopicPartition};
use parking_lot::Mutex;

use crate::fake::{FakeBroker, Lie, NODE, TOPIC, TOPIC_ID};

const SECOND: Duration = Duration::from_secs(1);

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, number)
}

/// A batch of values, which begins at this offset.
fn batch(base_offset: i64, leader_epoch: i32, values: &[&str]) -> Bytes {
    transactional(base_offset, leader_epoch, values, None)
}

fn transactional(base_offset: i64, leader_epoch: i32, values: &[&str], producer_id: Option<i64>) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::new(Codec::None));
    if let Some(producer_id) = producer_id {
        builder.set_producer(producer_id, 0, 0);
        builder.set_transactional(true);
    }
    builder.set_position(base_offset, leader_epoch);
    for value in values {
        builder.append(1000, None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.finish().unwrap()
}

fn marker(control_type: ControlType, producer_id: i64, base_offset: i64) -> Bytes {
    let marker = ControlMarker {
        control_type,
        producer_id,
        producer_epoch: 0,
        coordinator_epoch: 0,
        timestamp: 1000,
        base_offset,
        partition_leader_epoch: 0,
    };
    control_marker(&marker).unwrap()
}

fn filled(batches: &[Bytes]) -> FakeBroker {
    let broker = FakeBroker::default();
    broker.state.lock().logs.insert(0, batches.to_vec());
    broker
}

/// Reads partition 0 from its beginning, and goes nowhere else by itself.
fn strict() -> ConsumerSettings {
    ConsumerSettings { auto_offset_reset: AutoOffsetReset::None, ..Default::default() }
}

fn consumer(broker: &FakeBroker, settings: ConsumerSettings) -> Consumer {
    let mut consumer = Consumer::new(broker.client(), settings);
    consumer.assign_at(&BTreeMap::from([(partition(0), 0)]));
    consumer
}

fn values(records: &[ConsumedRecord]) -> Vec<&str> {
    records.iter().map(|record| std::str::from_utf8(record.value.as_deref().unwrap()).unwrap()).collect()
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<ConsumedRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        let polled = consumer.poll_at_most(count - records.len(), 60 * SECOND).await.unwrap();
        assert!(!polled.is_empty(), "only {} of {count} records came", records.len());
        records.extend(polled);
    }
    records
}

fn answer(answers: Vec<PartitionData>) -> FetchResponse {
    let topic = FetchableTopicResponse { topic_id: TOPIC_ID, partitions: answers, ..Default::default() };
    FetchResponse { responses: vec![topic], ..Default::default() }
}

fn fetch(request: &Request) -> &FetchRequest {
    match request {
        Request::Fetch(fetch) => fetch,
        other => panic!("not a fetch: {:?}", other.api_key()),
    }
}

/// Two nodes, of which the first leads partition 0 with this epoch.
fn metadata(leader_epoch: i32) -> Response {
    let broker = |node_id, host: &str| MetadataResponseBroker {
        node_id,
        host: StrBytes::from(host.to_owned()),
        port: 9092,
        ..Default::default()
    };
    let partition = MetadataResponsePartition {
        partition_index: 0,
        leader_id: NODE,
        leader_epoch,
        replica_nodes: vec![NODE, NODE + 1],
        isr_nodes: vec![NODE, NODE + 1],
        ..Default::default()
    };
    Response::Metadata(MetadataResponse {
        brokers: vec![broker(NODE, "fake"), broker(NODE + 1, "near")],
        topics: vec![MetadataResponseTopic {
            name: Some(StrBytes::from(TOPIC)),
            topic_id: TOPIC_ID,
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    })
}

/// Session id, epoch, and the partitions named, of every fetch that came.
type Fetches = Arc<Mutex<Vec<(i32, i32, Vec<(i32, i64)>)>>>;

/// A broker with sessions; it ends or forgets them as told.
fn with_sessions(broker: &FakeBroker, codes: &'static [(usize, ErrorCode)]) -> Fetches {
    let fetches = Fetches::default();
    let (seen, state) = (Arc::clone(&fetches), Arc::clone(&broker.state));
    let positions: Mutex<BTreeMap<i32, i64>> = Mutex::default();
    broker.script(ApiKey::Fetch, move |_, request| {
        let fetch = fetch(request);
        let asked: Vec<(i32, i64)> = fetch
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|asked| (asked.partition, asked.fetch_offset))
            .collect();
        let mut seen = seen.lock();
        let code = codes.iter().find(|(at, _)| *at == seen.len()).map(|(_, code)| *code);
        seen.push((fetch.session_id, fetch.session_epoch, asked.clone()));
        if let Some(code) = code {
            return Some(Response::Fetch(FetchResponse { error_code: code.code(), ..Default::default() }));
        }
        let mut positions = positions.lock();
        if fetch.session_epoch <= 0 {
            positions.clear();
        }
        positions.extend(asked);
        let logs = state.lock().logs.clone();
        let answers = positions.iter().filter_map(|(&number, &offset)| {
            let batches = logs.get(&number).into_iter().flatten();
            let records: Vec<u8> = batches
                .filter(|batch| ottla_record::BatchHeader::parse(batch).unwrap().next_offset() > offset)
                .take(1)
                .flat_map(|batch| batch.iter().copied())
                .collect();
            let news = fetch.session_epoch == 0 || !records.is_empty();
            let records = Some(Bytes::from(records).into());
            news.then(|| PartitionData { partition_index: number, records, ..Default::default() })
        });
        Some(Response::Fetch(FetchResponse { session_id: 99, ..answer(answers.collect()) }))
    });
    fetches
}

#[tokio::test(start_paused = true)]
async fn a_session_is_told_only_what_changed() {
    let broker = filled(&[batch(0, 0, &["a"]), batch(1, 0, &["b"])]);
    let fetches = with_sessions(&broker, &[]);
    let mut consumer = Consumer::new(broker.client(), strict());
    consumer.assign_at(&BTreeMap::from([(partition(0), 0), (partition(1), 0)]));
    assert_eq!(values(&read(&mut consumer, 2).await), ["a", "b"]);
    let seen = fetches.lock().clone();
    assert_eq!(seen[..2], [(0, 0, vec![(0, 0), (1, 0)]), (99, 1, vec![(0, 1)])]);
    drop(consumer);
    tokio::time::sleep(SECOND).await;
    let (id, epoch, named) = fetches.lock().last().unwrap().clone();
    assert_eq!((id, epoch, named), (99, -1, vec![]), "the session is ended");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_gone_is_begun_again_and_nothing_is_lost() {
    for (code, id) in [(ErrorCode::FetchSessionIdNotFound, 0), (ErrorCode::InvalidFetchSessionEpoch, 99)] {
        let codes: &'static [(usize, ErrorCode)] = Box::leak(Box::new([(1, code)]));
        let broker = filled(&[batch(0, 0, &["a"]), batch(1, 0, &["b"])]);
        let fetches = with_sessions(&broker, codes);
        let mut consumer = consumer(&broker, strict());
        assert_eq!(values(&read(&mut consumer, 2).await), ["a", "b"], "{code:?}");
        assert_eq!(fetches.lock()[2], (id, 0, vec![(0, 1)]), "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_committed_records_are_read() {
    let batches = [
        transactional(0, 0, &["aborted"], Some(1)),
        transactional(1, 0, &["committed"], Some(2)),
        batch(2, 0, &["plain"]),
        marker(ControlType::Abort, 1, 3),
        marker(ControlType::Commit, 2, 4),
        transactional(5, 0, &["later"], Some(1)),
        marker(ControlType::Commit, 1, 6),
    ];
    for (isolation_level, expected) in [
        (IsolationLevel::ReadCommitted, vec!["committed", "plain", "later"]),
        (IsolationLevel::ReadUncommitted, vec!["aborted", "committed", "plain", "later"]),
    ] {
        let broker = filled(&batches);
        let all = Bytes::from(batches.concat());
        broker.script(ApiKey::Fetch, move |_, request| {
            let committed = fetch(request).isolation_level == 1;
            let aborted = AbortedTransaction { producer_id: 1, first_offset: 0, ..Default::default() };
            let new = fetch(request).topics[0].partitions[0].fetch_offset < 7;
            Some(Response::Fetch(answer(vec![PartitionData {
                partition_index: 0,
                high_watermark: 7,
                last_stable_offset: 7,
                aborted_transactions: committed.then(|| vec![aborted]),
                records: Some(if new { all.clone() } else { Bytes::new() }.into()),
                ..Default::default()
            }])))
        });
        let mut consumer = consumer(&broker, ConsumerSettings { isolation_level, ..strict() });
        assert_eq!(values(&read(&mut consumer, expected.len()).await), expected);
        assert_eq!(consumer.poll(Duration::from_millis(1)).await.unwrap(), []);
        assert_eq!(consumer.positions()[&partition(0)], 7, "behind the last marker");
        assert_eq!(consumer.lag(&partition(0)), Some(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_nearby_is_read_from_until_it_fails() {
    let broker = FakeBroker::default();
    broker.script(ApiKey::Metadata, |_, _| Some(metadata(0)));
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    broker.script(ApiKey::Fetch, move |host, request| {
        let fetch = fetch(request);
        assert_eq!(&*fetch.rack_id, "r1");
        seen.lock().push(host.to_owned());
        let offset = fetch.topics[0].partitions[0].fetch_offset;
        let data = PartitionData { partition_index: 0, records: Some(Bytes::new().into()), ..Default::default() };
        let data = match (host, offset) {
            ("fake", 0) => PartitionData { preferred_read_replica: NODE + 1, ..data },
            ("near", 0) => PartitionData { records: Some(batch(0, 0, &["near"]).into()), ..data },
            ("near", _) => PartitionData { error_code: ErrorCode::OffsetOutOfRange.code(), ..data },
            (_, 1) => PartitionData { records: Some(batch(1, 0, &["leader"]).into()), ..data },
            _ => data,
        };
        Some(Response::Fetch(answer(vec![data])))
    });
    let mut consumer = consumer(&broker, ConsumerSettings { client_rack: "r1".to_owned(), ..strict() });
    assert_eq!(values(&read(&mut consumer, 2).await), ["near", "leader"]);
    assert_eq!(asked.lock()[..4], ["fake", "near", "near", "fake"]);
}

/// A broker of "a" and "b" of epoch 3, whose leader is replaced by one of epoch 4 that has this many of them.
fn replaced_leader(kept: i64) -> (FakeBroker, Arc<AtomicI32>) {
    let broker = FakeBroker::default();
    let epoch = Arc::new(AtomicI32::new(3));
    let now = Arc::clone(&epoch);
    broker.script(ApiKey::Metadata, move |_, _| Some(metadata(now.load(Ordering::SeqCst))));
    let now = Arc::clone(&epoch);
    broker.script(ApiKey::Fetch, move |_, request| {
        let asked = fetch(request).topics[0].partitions[0].clone();
        let data = PartitionData { partition_index: 0, records: Some(Bytes::new().into()), ..Default::default() };
        let current = now.load(Ordering::SeqCst);
        let data = match asked.fetch_offset {
            _ if asked.current_leader_epoch < current => {
                PartitionData { error_code: ErrorCode::FencedLeaderEpoch.code(), ..data }
            }
            0 if current == 3 => PartitionData { records: Some(batch(0, 3, &["a", "b"]).into()), ..data },
            1 if current == 4 => PartitionData { records: Some(batch(1, 4, &["new"]).into()), ..data },
            2 if current == 4 => PartitionData { records: Some(batch(2, 4, &["newer"]).into()), ..data },
            _ => data,
        };
        Some(Response::Fetch(answer(vec![data])))
    });
    broker.script(ApiKey::OffsetForLeaderEpoch, move |_, request| {
        let Request::OffsetForLeaderEpoch(request) = request else { panic!("{:?}", request.api_key()) };
        let asked = &request.topics[0].partitions[0];
        assert_eq!((asked.current_leader_epoch, asked.leader_epoch), (4, 3));
        let end = EpochEndOffset { partition: 0, leader_epoch: 3, end_offset: kept, ..Default::default() };
        let topic = OffsetForLeaderTopicResult { topic: StrBytes::from(TOPIC), partitions: vec![end] };
        Some(Response::OffsetForLeaderEpoch(OffsetForLeaderEpochResponse { topics: vec![topic], ..Default::default() }))
    });
    (broker, epoch)
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_with_everything_is_read_on_from() {
    let (broker, epoch) = replaced_leader(2);
    let mut consumer = consumer(&broker, strict());
    assert_eq!(values(&read(&mut consumer, 2).await), ["a", "b"]);
    epoch.store(4, Ordering::SeqCst);
    assert_eq!(values(&read(&mut consumer, 1).await), ["newer"]);
}

#[tokio::test(start_paused = true)]
async fn records_that_were_read_and_truncated() {
    let (broker, epoch) = replaced_leader(1);
    let mut careful = consumer(&broker, strict());
    read(&mut careful, 2).await;
    epoch.store(4, Ordering::SeqCst);
    let error = careful.poll(60 * SECOND).await.unwrap_err();
    assert!(
        matches!(error, ClientError::LogTruncation { offset: 2, diverging_offset: Some(1), .. }),
        "without a policy it is an error: {error}"
    );
    careful.seek(&partition(0), 2).unwrap();
    assert_eq!(values(&read(&mut careful, 1).await), ["newer"], "and one may go on");

    epoch.store(3, Ordering::SeqCst);
    let mut other = consumer(&broker, ConsumerSettings::default());
    read(&mut other, 2).await;
    epoch.store(4, Ordering::SeqCst);
    assert_eq!(values(&read(&mut other, 2).await), ["new", "newer"], "otherwise from where the logs part");
}

#[tokio::test(start_paused = true)]
async fn what_was_fetched_and_truncated_before_it_was_read_is_fetched_again() {
    let (broker, epoch) = replaced_leader(1);
    let mut consumer = consumer(&broker, strict());
    assert_eq!(values(&read(&mut consumer, 1).await), ["a"]);
    // "b" is there, but not handed out.
    consumer.pause(&[partition(0)]).unwrap();
    epoch.store(4, Ordering::SeqCst);
    // Until the client looks again who leads what.
    tokio::time::sleep(301 * SECOND).await;
    assert_eq!(consumer.poll(2 * SECOND).await.unwrap(), []);
    consumer.resume(&[partition(0)]).unwrap();
    assert_eq!(values(&read(&mut consumer, 2).await), ["new", "newer"]);
}

#[tokio::test(start_paused = true)]
async fn policies_say_where_to_begin() {
    let hour = Duration::from_secs(3600);
    let wall = FakeBroker::default().client().world().clock.wall_ms();
    for (policy, timestamps, begins_at) in [
        (AutoOffsetReset::Earliest, vec![-2..=-2], 10),
        (AutoOffsetReset::Latest, vec![-1..=-1], 30),
        (AutoOffsetReset::ByTimestamp(77), vec![77..=77], 20),
        (AutoOffsetReset::ByTimestamp(99), vec![99..=99, -1..=-1], 30),
        (AutoOffsetReset::ByDuration(hour), vec![wall - 3_600_000..=wall - 3_000_000], 20),
    ] {
        let broker = FakeBroker::default();
        let asked: Arc<Mutex<Vec<i64>>> = Arc::default();
        let seen = Arc::clone(&asked);
        broker.script(ApiKey::ListOffsets, move |_, request| {
            let Request::ListOffsets(list) = request else { panic!("{:?}", request.api_key()) };
            let timestamp = list.topics[0].partitions[0].timestamp;
            seen.lock().push(timestamp);
            let offset = match timestamp {
                -2 => 10,
                -1 => 30,
                99 => -1,
                _ => 20,
            };
            let found = ListOffsetsPartitionResponse { partition_index: 0, offset, ..Default::default() };
            let topic = ListOffsetsTopicResponse { name: StrBytes::from(TOPIC), partitions: vec![found] };
            Some(Response::ListOffsets(ListOffsetsResponse { topics: vec![topic], ..Default::default() }))
        });
        let settings = ConsumerSettings { auto_offset_reset: policy, ..Default::default() };
        let mut consumer = Consumer::new(broker.client(), settings);
        consumer.assign([partition(0)]);
        assert_eq!(consumer.position(&partition(0)).await.unwrap(), begins_at, "{policy:?}");
        let asked = asked.lock();
        assert_eq!(asked.len(), timestamps.len(), "{policy:?} {asked:?}");
        assert!(asked.iter().zip(&timestamps).all(|(asked, range)| range.contains(asked)), "{policy:?} {asked:?}");
    }
    let broker = FakeBroker::default();
    let mut consumer = Consumer::new(broker.client(), strict());
    consumer.assign([partition(0)]);
    let error = consumer.poll(SECOND).await.unwrap_err();
    assert!(matches!(error, ClientError::NoPosition { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn seek_pause_and_resume() {
    let broker = filled(&[batch(0, 0, &["a", "b", "c", "d"])]);
    broker.state.lock().logs.insert(1, vec![batch(0, 0, &["x", "y"])]);
    let mut consumer = Consumer::new(broker.client(), strict());
    consumer.assign_at(&BTreeMap::from([(partition(0), 0), (partition(1), 0)]));
    assert_eq!(values(&read(&mut consumer, 1).await), ["a"]);
    consumer.pause(&[partition(0)]).unwrap();
    assert_eq!(values(&read(&mut consumer, 2).await), ["x", "y"], "the middle of a batch waits");
    assert_eq!(consumer.poll(SECOND).await.unwrap(), []);
    assert_eq!(consumer.paused().collect::<Vec<_>>(), [&partition(0)]);
    consumer.resume(&[partition(0)]).unwrap();
    assert_eq!(values(&read(&mut consumer, 1).await), ["b"]);
    consumer.seek(&partition(0), 3).unwrap();
    consumer.seek(&partition(1), 1).unwrap();
    let mut rest = read(&mut consumer, 2).await;
    rest.sort_by_key(|record| record.partition);
    assert_eq!(values(&rest), ["d", "y"]);
    consumer.seek_to_beginning(&[partition(0)]).unwrap();
    assert_eq!(consumer.position(&partition(0)).await.unwrap(), 0);
    consumer.seek_to_end(&[partition(0)]).unwrap();
    assert_eq!(consumer.position(&partition(0)).await.unwrap(), 4);
    let ends = consumer.end_offsets(&[partition(0), partition(1)]).await.unwrap();
    assert_eq!(ends.into_values().map(Result::unwrap).collect::<Vec<_>>(), [4, 2]);
    let beginnings = consumer.beginning_offsets(&[partition(0)]).await.unwrap();
    assert_eq!(beginnings.into_values().map(Result::unwrap).collect::<Vec<_>>(), [0]);
    consumer.assign([partition(1)]);
    assert_eq!(consumer.assignment().collect::<Vec<_>>(), [&partition(1)]);
    assert!(matches!(consumer.seek(&partition(0), 0), Err(ClientError::NotAssigned { partition: 0, .. })));
    assert!(matches!(consumer.pause(&[partition(0)]), Err(ClientError::NotAssigned { partition: 0, .. })));
}

#[tokio::test(start_paused = true)]
async fn polls_that_are_given_up_lose_nothing() {
    let broker = filled(&[batch(0, 0, &["a", "b"]), batch(2, 0, &["c"])]);
    let mut consumer = consumer(&broker, strict());
    let mut seen = Vec::new();
    for _ in 0..1000 {
        let poll = tokio::time::timeout(Duration::from_micros(100), consumer.poll_at_most(1, 60 * SECOND));
        if let Ok(records) = poll.await {
            seen.extend(records.unwrap().iter().map(|record| record.offset));
        }
        if seen.len() == 3 {
            break;
        }
    }
    assert_eq!(seen, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_handed_out_is_bounded() {
    const BATCH: usize = 100_000;
    let broker = FakeBroker::default();
    let fetches = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&fetches);
    let value = "v".repeat(BATCH);
    broker.script(ApiKey::Fetch, move |_, request| {
        counted.fetch_add(1, Ordering::SeqCst);
        let asked = &fetch(request).topics[0].partitions[0];
        let records = Some(batch(asked.fetch_offset, 0, &[&value]).into());
        Some(Response::Fetch(answer(vec![PartitionData { partition_index: 0, records, ..Default::default() }])))
    });
    let bytes = 4 * BATCH as i32;
    for settings in [
        ConsumerSettings { max_partition_fetch_bytes: bytes, ..strict() },
        ConsumerSettings { fetch_max_bytes: bytes, ..strict() },
    ] {
        fetches.store(0, Ordering::SeqCst);
        let mut consumer = consumer(&broker, settings);
        for polled in 1..=20 {
            assert_eq!(read(&mut consumer, 1).await[0].offset, polled - 1);
            // Everything it would ask for by itself.
            tokio::time::sleep(SECOND).await;
            let ahead = fetches.load(Ordering::SeqCst) as i64 - polled;
            assert!(ahead <= 5, "{ahead} fetches ahead of what was handed out");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_work_for_long_is_an_error_and_is_tried_on() {
    let broker = filled(&[batch(0, 0, &["a"])]);
    broker.always_lie(ApiKey::Fetch, Lie::Error(ErrorCode::NotLeaderOrFollower));
    let mut consumer = consumer(&broker, strict());
    let began = tokio::time::Instant::now();
    let error = consumer.poll(3600 * SECOND).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NotLeaderOrFollower));
    let took = began.elapsed();
    assert!((20 * SECOND..25 * SECOND).contains(&took), "{took:?}");
    broker.state.lock().lies.clear();
    assert_eq!(values(&read(&mut consumer, 1).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_partitions_that_were_not_asked_for_is_not_believed() {
    let broker = FakeBroker::default();
    broker.script(ApiKey::Fetch, |_, _| {
        let records = Some(batch(0, 0, &["a"]).into());
        Some(Response::Fetch(answer(vec![PartitionData { partition_index: 1, records, ..Default::default() }])))
    });
    let mut consumer = consumer(&broker, strict());
    assert!(matches!(consumer.poll(SECOND).await, Err(ClientError::Incomplete(ApiKey::Fetch))));
    assert_eq!(consumer.positions(), BTreeMap::from([(partition(0), 0)]));
}
