//! Bytes no client sends. Whatever happens to such a connection, others are undisturbed.

use std::time::Duration;

use ottla_protocol::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{TestBroker, batch, create_topic, fetch, produce, start, values};

async fn raw(broker: &TestBroker) -> TcpStream {
    TcpStream::connect(("127.0.0.1", broker.port)).await.unwrap()
}

/// Sends bytes; true if the broker closes the connection without an answer.
async fn closed_after(broker: &TestBroker, bytes: &[u8]) -> bool {
    let mut stream = raw(broker).await;
    // The broker may close while it is still being written to.
    let _ = stream.write_all(bytes).await;
    let mut byte = [0];
    match tokio::time::timeout(Duration::from_secs(10), stream.read(&mut byte)).await.expect("an answer or a close") {
        Ok(count) => count == 0,
        Err(_) => true,
    }
}

pub fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes()[..], body].concat()
}

/// A request header with a null client id, in both forms.
pub fn header(api_key: i16, version: i16, flexible: bool) -> Vec<u8> {
    let mut bytes = [&api_key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1], &[255, 255]].concat();
    if flexible {
        bytes.push(0);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_requests_close_their_connection_only() {
    let (_directory, broker) = start().await;
    let healthy = broker.connect().await;
    create_topic(&healthy, "t", 1, &[]).await;
    let huge_array = [header(3, 1, false), i32::MAX.to_be_bytes().to_vec()].concat();
    let huge_compact_array = [header(3, 9, true), vec![0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    let many_tags = [header(18, 3, false), vec![0x80, 0xad, 0xe2, 0x04]].concat();
    let negative_string = [header(10, 0, false), vec![0x80, 0x00]].concat();
    for (what, bytes) in [
        ("a negative frame length", (-5i32).to_be_bytes().to_vec()),
        ("a frame beyond the limit", i32::MAX.to_be_bytes().to_vec()),
        ("an empty frame", framed(&[])),
        ("one byte", framed(&[0])),
        ("an unknown api key", framed(&header(9999, 0, false))),
        ("an api that is not served", framed(&header(ApiKey::WriteTxnMarkers.code(), 1, true))),
        ("an unknown version", framed(&header(3, 99, true))),
        ("an array of 2^31-1", framed(&huge_array)),
        ("a compact array of 2^32-1", framed(&huge_compact_array)),
        ("10 million tags", framed(&many_tags)),
        ("a string of negative length", framed(&negative_string)),
    ] {
        assert!(closed_after(&broker, &bytes).await, "{what}");
    }
    assert_eq!(produce(&healthy, "t", 0, -1, batch(&["alive"])).await.error_code, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_served_api_survives_truncation_at_every_byte() {
    let (_directory, broker) = start().await;
    let healthy = broker.connect().await;
    // A well-formed produce request, cut everywhere: each cut frame is answered or closes its connection.
    let request = crate::support::produce_request("t", 0, -1, Some(batch(&["a"])));
    let mut output = ottla_protocol::Encoder::new();
    request.encode(&mut output, 9).unwrap();
    let body = [header(0, 9, true), output.finish_contiguous().unwrap().to_vec()].concat();
    for end in 0..body.len() {
        assert!(closed_after(&broker, &framed(&body[..end])).await, "cut at {end}");
    }
    create_topic(&healthy, "t", 1, &[]).await;
    assert_eq!(values(&fetch(&healthy, "t", 0, 0, 0).await), [""; 0], "nothing was appended");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_half_sent_and_unread_connections_disturb_nobody() {
    let (_directory, broker) = start().await;
    let healthy = broker.connect().await;
    create_topic(&healthy, "t", 1, &[]).await;
    let value = "x".repeat(500_000);
    for _ in 0..4 {
        produce(&healthy, "t", 0, -1, batch(&[&value])).await;
    }
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(raw(&broker).await);
    }
    for stream in held.iter_mut().take(50) {
        // A frame of 50 MB is announced and never sent.
        stream.write_all(&[3, 0, 0, 0, 0, 0]).await.unwrap();
    }
    // A client that asks again and again and never reads an answer.
    let mut greedy = raw(&broker).await;
    let mut output = ottla_protocol::Encoder::new();
    crate::support::fetch_request("t", 0, 0, 0).encode(&mut output, 12).unwrap();
    let request = framed(&[header(1, 12, true), output.finish_contiguous().unwrap().to_vec()].concat());
    let _ = tokio::time::timeout(Duration::from_secs(2), async {
        for _ in 0..10_000 {
            greedy.write_all(&request).await.unwrap();
        }
    })
    .await;
    assert_eq!(produce(&healthy, "t", 0, -1, batch(&["alive"])).await.error_code, 0);
    drop(held);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decompression_bomb_is_refused_and_nothing_of_it_is_kept() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let mut builder = ottla_record::BatchBuilder::new(ottla_record::Compression::new(ottla_record::Codec::Zstd));
    let zeros = vec![0; 1 << 20];
    for _ in 0..40 {
        builder.append(1_700_000_000_000, None, Some(&zeros), &[]).unwrap();
    }
    let bomb = builder.finish().unwrap();
    assert!(bomb.len() < 100_000, "40 MiB of zeros in {} bytes", bomb.len());
    let refused = produce(&connection, "t", 0, -1, bomb).await;
    assert_eq!(refused.error_code, ottla_types::ErrorCode::InvalidRecord.code(), "{refused:?}");
    assert_eq!(produce(&connection, "t", 0, -1, batch(&["alive"])).await.base_offset, 0);
    broker.stop().await;
}
