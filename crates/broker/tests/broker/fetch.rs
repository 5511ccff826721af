//! Fetch: waiting, waking, bounds, sessions and errors.

use std::time::Duration;

use ottla_protocol::FetchedRecords;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use ottla_types::ErrorCode;

use crate::support::{batch, create_topic, fetch, fetch_raw, fetch_request, produce, start, text, values};

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_is_woken_by_data() {
    let (_directory, broker) = start().await;
    let (reader, writer) = (broker.connect().await, broker.connect().await);
    create_topic(&writer, "t", 1, &[]).await;
    // The wait is far longer than the test may take.
    let waiting = tokio::spawn(async move { fetch(&reader, "t", 0, 0, 600_000).await });
    produce(&writer, "t", 0, -1, batch(&["late"])).await;
    let read = tokio::time::timeout(Duration::from_secs(15), waiting).await.expect("woken").unwrap();
    assert_eq!(values(&read), ["late"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_read_is_an_empty_answer_not_a_null() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let read = fetch(&connection, "t", 0, 0, 0).await;
    assert_eq!(read.records.and_then(FetchedRecords::into_bytes).as_deref(), Some(&b""[..]));
    assert_eq!((read.error_code, read.high_watermark), (0, 0));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_outside_the_log_are_refused() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    produce(&connection, "t", 0, -1, batch(&["a", "b"])).await;
    for offset in [-1, 3, i64::MAX] {
        let read = fetch(&connection, "t", 0, offset, 10_000).await;
        assert_eq!(read.error_code, ErrorCode::OffsetOutOfRange.code(), "offset {offset}");
    }
    let mut wrong_epoch = fetch_request("t", 0, 0, 10_000);
    wrong_epoch.topics[0].partitions[0].current_leader_epoch = 1000;
    let response = fetch_raw(&connection, &wrong_epoch).await;
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::UnknownLeaderEpoch.code());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_the_limit_still_comes() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    let large = "x".repeat(100_000);
    produce(&connection, "t", 0, -1, batch(&[&large])).await;
    produce(&connection, "t", 0, -1, batch(&[&large])).await;
    produce(&connection, "t", 1, -1, batch(&[&large])).await;
    let mut request = fetch_request("t", 0, 0, 0);
    request.max_bytes = 1000;
    let mut second = request.topics[0].partitions[0].clone();
    second.partition = 1;
    request.topics[0].partitions.push(second);
    let response = fetch_raw(&connection, &request).await;
    let partitions = &response.responses[0].partitions;
    assert_eq!(values(&partitions[0]).len(), 1, "the first batch comes whole, and nothing after it");
    assert_eq!(values(&partitions[1]).len(), 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_answers_what_is_new() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    let mut request = fetch_request("t", 0, 0, 0);
    let mut second = request.topics[0].partitions[0].clone();
    second.partition = 1;
    request.topics[0].partitions.push(second);
    request.session_epoch = 0;
    let full = fetch_raw(&connection, &request).await;
    assert!(full.session_id > 0);
    assert_eq!(full.responses[0].partitions.len(), 2);

    produce(&connection, "t", 1, -1, batch(&["a"])).await;
    let mut next = fetch_request("t", 0, 0, 0);
    next.topics.clear();
    next.session_id = full.session_id;
    next.session_epoch = 1;
    let news = fetch_raw(&connection, &next).await;
    assert_eq!(news.responses[0].partitions.len(), 1);
    assert_eq!(values(&news.responses[0].partitions[0]), ["a"]);

    let wrong = fetch_raw(&connection, &next).await;
    assert_eq!(wrong.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
    next.session_id += 1;
    let unknown = fetch_raw(&connection, &next).await;
    assert_eq!(unknown.error_code, ErrorCode::FetchSessionIdNotFound.code());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_calls_itself_a_follower_is_refused() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let mut request = fetch_request("t", 0, 0, 0);
    request.replica_id = 1;
    let response = fetch_raw(&connection, &request).await;
    assert_eq!(response.error_code, ErrorCode::ClusterAuthorizationFailed.code());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time_and_by_marker() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    for timestamp in [1_000_i64, 3_000, 2_000] {
        let mut builder = ottla_record::BatchBuilder::new(ottla_record::Compression::new(ottla_record::Codec::None));
        builder.append(timestamp, None, Some(b"x"), &[]).unwrap();
        produce(&connection, "t", 0, -1, builder.finish().unwrap()).await;
    }
    for (timestamp, offset, found) in
        [(-1, 3, -1), (-2, 0, -1), (-3, 1, 3_000), (0, 0, 1_000), (1_001, 1, 3_000), (3_001, -1, -1)]
    {
        let partition = ListOffsetsPartition { partition_index: 0, current_leader_epoch: -1, timestamp };
        let topic = ListOffsetsTopic { name: text("t"), partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let response = connection.send(&request).await.unwrap();
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.offset, partition.timestamp), (0, offset, found), "{timestamp}");
    }
    broker.stop().await;
}
