//! Produce: what is acknowledged, what is refused, and with which code.

use bytes::{Bytes, BytesMut};
use ottla_protocol::FetchedRecords;
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_record::{BatchBuilder, Codec, Compression};
use ottla_types::ErrorCode;

use crate::support::{self, batch, create_topic, fetch, produce, produce_request, start, text, values};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_can_be_read() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "orders", 2, &[]).await;
    let first = produce(&connection, "orders", 1, -1, batch(&["a", "b"])).await;
    assert_eq!((first.error_code, first.base_offset), (0, 0));
    let second = produce(&connection, "orders", 1, 1, batch(&["c"])).await;
    assert_eq!((second.error_code, second.base_offset), (0, 2));
    let read = fetch(&connection, "orders", 1, 0, 1000).await;
    assert_eq!(values(&read), ["a", "b", "c"]);
    assert_eq!((read.high_watermark, read.last_stable_offset, read.log_start_offset), (3, 3, 0));
    assert_eq!(values(&fetch(&connection, "orders", 0, 0, 0).await), [""; 0]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_batches_get_kafkas_codes() {
    let (_directory, broker) = start_limited().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    create_topic(&connection, "compacted", 1, &[("cleanup.policy", "compact")]).await;
    let good = batch(&["a"]);
    let flipped = {
        let mut bytes = BytesMut::from(&good[..]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes.freeze()
    };
    let old_magic = {
        let mut bytes = BytesMut::from(&good[..]);
        bytes[16] = 1;
        bytes.freeze()
    };
    let twice = Bytes::from([&good[..], &good[..]].concat());
    let large = batch(&["x".repeat(3000).as_str()]);
    let future = {
        let mut builder = BatchBuilder::new(Compression::new(Codec::None));
        builder.append(i64::MAX / 2, None, Some(b"a"), &[]).unwrap();
        builder.finish().unwrap()
    };
    for (topic, partition, records, expected) in [
        ("t", 0, flipped, ErrorCode::CorruptMessage),
        ("t", 0, old_magic, ErrorCode::InvalidRecord),
        ("t", 0, twice, ErrorCode::InvalidRecord),
        ("t", 0, Bytes::new(), ErrorCode::InvalidRecord),
        ("t", 0, large, ErrorCode::MessageTooLarge),
        ("t", 0, future, ErrorCode::InvalidTimestamp),
        ("compacted", 0, good.clone(), ErrorCode::InvalidRecord),
        ("t", 1, good.clone(), ErrorCode::UnknownTopicOrPartition),
        ("t", -1, good.clone(), ErrorCode::UnknownTopicOrPartition),
        ("unknown", 0, good.clone(), ErrorCode::UnknownTopicOrPartition),
    ] {
        let response = produce(&connection, topic, partition, -1, records).await;
        assert_eq!(ErrorCode::from_code(response.error_code), Some(expected), "{topic}-{partition}: {response:?}");
        assert_eq!(response.base_offset, -1);
    }
    let refused = produce(&connection, "compacted", 0, -1, good.clone()).await;
    assert_eq!(refused.record_errors.len(), 1, "KIP-467: the record is named");
    assert_eq!(produce(&connection, "t", 0, 2, good.clone()).await.error_code, ErrorCode::InvalidRequiredAcks.code());
    assert_eq!(produce(&connection, "t", 0, -1, good).await.base_offset, 0, "nothing of the above was appended");
    broker.stop().await;
}

fn idempotent() -> InitProducerIdRequest {
    InitProducerIdRequest { transactional_id: None, ..Default::default() }
}

async fn start_limited() -> (tempfile::TempDir, support::TestBroker) {
    support::start_with(&[("message.max.bytes", "2000")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_batch_is_acknowledged_once_and_appended_once() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let id = connection.send(&idempotent()).await.unwrap();
    assert_eq!((id.error_code, id.producer_epoch), (0, 0));
    let sequenced = |sequence: i32, value: &str| {
        let mut builder = BatchBuilder::new(Compression::new(Codec::None));
        builder.set_producer(id.producer_id, 0, sequence);
        builder.append(1_700_000_000_000, None, Some(value.as_bytes()), &[]).unwrap();
        builder.finish().unwrap()
    };
    assert_eq!(produce(&connection, "t", 0, -1, sequenced(0, "a")).await.base_offset, 0);
    assert_eq!(produce(&connection, "t", 0, -1, sequenced(1, "b")).await.base_offset, 1);
    let again = produce(&connection, "t", 0, -1, sequenced(0, "a")).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    let gap = produce(&connection, "t", 0, -1, sequenced(5, "f")).await;
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
    assert_eq!(values(&fetch(&connection, "t", 0, 0, 0).await), ["a", "b"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_refused_at_once() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    let request = InitProducerIdRequest { transactional_id: Some(text("x")), ..Default::default() };
    let response = connection.send(&request).await.unwrap();
    let code = ErrorCode::from_code(response.error_code).unwrap();
    assert!(code.is_error() && !code.is_retriable(), "{code}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_0_is_not_answered_and_its_failure_closes_the_connection() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let id = support::topic_id(&connection, "t").await;
    let mut request = produce_request("t", 0, 0, Some(batch(&["a"])));
    request.topic_data[0].topic_id = id;
    request.topic_data[0].name = text("");
    connection.send_unanswered(&request).await.unwrap();
    // The next answered request comes after it on the same connection.
    let read = fetch(&connection, "t", 0, 0, 5000).await;
    assert_eq!(values(&read), ["a"]);
    request.topic_data[0].partition_data[0].index = 7;
    connection.send_unanswered(&request).await.unwrap();
    let after = connection.send(&idempotent()).await;
    assert!(after.is_err(), "the connection was closed: {after:?}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_append_time_stamps_the_batch() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let response = produce(&connection, "t", 0, -1, batch(&["a"])).await;
    assert!(response.log_append_time_ms > 1_700_000_000_000, "{response:?}");
    let read = fetch(&connection, "t", 0, 0, 0).await;
    let records = read.records.and_then(FetchedRecords::into_bytes).unwrap();
    let (header, _) = ottla_record::batches(&records).next().unwrap().unwrap();
    assert_eq!(header.max_timestamp, response.log_append_time_ms);
    broker.stop().await;
}
