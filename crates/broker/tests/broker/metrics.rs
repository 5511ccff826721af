//! What the node counts of itself, by what clients do.

use ottla_broker::MetricsSnapshot;
use ottla_protocol::ApiKey;
use ottla_protocol::messages::produce_request::PartitionProduceData;
use ottla_rt::World;
use ottla_types::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::gated_disk::gated;
use crate::support::{
    TIMEOUT, batch, counted, create_topic, fetch, fetch_raw, fetch_request, metadata, produce, produce_request, start,
    start_on, start_with,
};

#[tokio::test(flavor = "multi_thread")]
async fn produces_and_fetches_are_counted_by_api_and_by_topic() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "counted", 1, &[]).await;
    let records = batch(&["one", "two"]);
    for _ in 0..3 {
        assert_eq!(produce(&connection, "counted", 0, -1, records.clone()).await.error_code, 0);
    }
    let missing = produce(&connection, "counted", 7, -1, records.clone()).await;
    assert_eq!(missing.error_code, ErrorCode::UnknownTopicOrPartition.code());
    let mut damaged = records.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = produce(&connection, "counted", 0, -1, damaged.into()).await;
    assert_eq!(damaged.error_code, ErrorCode::CorruptMessage.code());
    let fetched = fetch(&connection, "counted", 0, 0, 0).await.records.unwrap();

    let of = |snapshot: &MetricsSnapshot, api| snapshot.apis.get(&api).map_or(0, ottla_broker::ApiSnapshot::count);
    let snapshot = counted(&broker.server, |now| of(now, ApiKey::Produce) == 5 && of(now, ApiKey::Fetch) == 1).await;
    let api = &snapshot.apis[&ApiKey::Produce];
    assert_eq!(api.requests.keys().copied().collect::<Vec<_>>(), [12]);
    assert_eq!(api.errors(ErrorCode::None), 3);
    assert_eq!(api.errors(ErrorCode::UnknownTopicOrPartition), 1);
    assert_eq!(api.errors(ErrorCode::CorruptMessage), 1);
    assert!(api.request_bytes.sum() > 5 * records.len() as u64);
    for stage in [&api.total_micros, &api.queue_micros, &api.local_micros, &api.remote_micros, &api.send_micros] {
        assert_eq!(stage.count(), 5);
    }
    assert!(api.remote_micros.sum() > 0, "three of them waited for a flush");
    assert!(api.remote_micros.sum() <= api.total_micros.sum());
    assert!(snapshot.apis[&ApiKey::Fetch].response_bytes.sum() > fetched.len() as u64);

    let topic = &snapshot.topics["counted"];
    assert_eq!((topic.messages_in, topic.bytes_in), (6, 3 * records.len() as u64));
    assert_eq!((topic.total_produce_requests, topic.invalid_message_crc_records), (4, 1));
    assert_eq!((topic.total_fetch_requests, topic.bytes_out), (1, fetched.len() as u64));
    assert_eq!(snapshot.all_topics.bytes_out, topic.bytes_out);
    assert!(snapshot.log_flush_micros.count() >= 1);
    assert_eq!((snapshot.waiting_produces, snapshot.waiting_fetches), (0, 0));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn produces_that_are_refused_before_the_append_are_counted() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "strict", 1, &[("min.insync.replicas", "2")]).await;
    create_topic(&connection, "__consumer_offsets", 1, &[]).await;
    for (topic, acks, error, expected) in [
        ("strict", -1, ErrorCode::NotEnoughReplicas, (1, 1)),
        ("strict", 1, ErrorCode::None, (2, 1)),
        ("__consumer_offsets", -1, ErrorCode::InvalidTopicException, (1, 0)),
    ] {
        assert_eq!(produce(&connection, topic, 0, acks, batch(&["a"])).await.error_code, error.code(), "{topic}");
        let snapshot = broker.server.metrics();
        let of = &snapshot.topics[topic];
        assert_eq!((of.total_produce_requests, of.failed_produce_requests), expected, "{topic}");
    }
    let all = broker.server.metrics().all_topics;
    assert_eq!((all.total_produce_requests, all.failed_produce_requests), (3, 1));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_fetch_is_in_the_purgatory_until_it_is_answered() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "parked", 1, &[]).await;
    let waiting = broker.connect().await;
    let parked = tokio::spawn(async move { fetch(&waiting, "parked", 0, 0, 20_000).await });
    counted(&broker.server, |now| now.waiting_fetches == 1).await;
    assert_eq!(produce(&connection, "parked", 0, -1, batch(&["wakes it"])).await.error_code, 0);
    assert!(parked.await.unwrap().records.is_some_and(|records| !records.is_empty()));
    counted(&broker.server, |now| now.waiting_fetches == 0).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_counts_once_however_often_it_is_woken() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "parked", 1, &[]).await;
    let reader = broker.connect().await;
    let mut request = fetch_request("parked", 0, 0, 600_000);
    request.min_bytes = 300;
    let parked = tokio::spawn(async move { fetch_raw(&reader, &request).await });
    counted(&broker.server, |now| now.waiting_fetches == 1).await;
    let small = batch(&["wakes it"]);
    for _ in 0..300_usize.div_ceil(small.len()) {
        assert_eq!(produce(&connection, "parked", 0, -1, small.clone()).await.error_code, 0);
    }
    assert!(parked.await.unwrap().responses[0].partitions[0].error_code == 0);
    assert_eq!(broker.server.metrics().topics["parked"].total_fetch_requests, 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_partition_of_a_produce_that_waits_is_in_the_purgatory() {
    let directory = tempfile::tempdir().unwrap();
    let (world, syncs_go_on) = gated(World::os());
    let broker = start_on(world, directory.path(), &[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 3, &[]).await;
    let mut request = produce_request("t", 0, -1, None);
    request.topic_data[0].partition_data =
        (0..3).map(|index| PartitionProduceData { index, records: Some(batch(&["waits"])) }).collect();
    syncs_go_on.send_replace(false);
    let waiting = tokio::spawn(async move { connection.send_at_most(&request, 12, TIMEOUT).await.unwrap() });
    counted(&broker.server, |now| now.waiting_produces == 3).await;
    syncs_go_on.send_replace(true);
    let answer = waiting.await.unwrap();
    assert!(answer.responses[0].partition_responses.iter().all(|partition| partition.error_code == 0));
    counted(&broker.server, |now| now.waiting_produces == 0).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_by_listener() {
    let (_directory, broker) = start_with(&[("max.connections.per.ip", "2")]).await;
    let first = broker.connect().await;
    metadata(&first, &[], false).await;
    let mut second = tokio::net::TcpStream::connect(("127.0.0.1", broker.port)).await.unwrap();
    counted(&broker.server, |now| now.listeners["PLAINTEXT"].connections == 2).await;
    let mut third = tokio::net::TcpStream::connect(("127.0.0.1", broker.port)).await.unwrap();
    assert_eq!(third.read(&mut [0; 1]).await.unwrap(), 0, "closed at once");
    second.write_all(&i32::MAX.to_be_bytes()).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 0, "closed for the length of its frame");
    drop(first);
    let snapshot = counted(&broker.server, |now| now.listeners["PLAINTEXT"].connections == 0).await;
    let listener = &snapshot.listeners["PLAINTEXT"];
    assert_eq!((listener.created, listener.closed, listener.refused, listener.rejected), (2, 2, 1, 1));
    assert!(listener.bytes_in > 4 && listener.bytes_out > 0);
    broker.stop().await;
}
