//! Connections that come and go, limits on them that are reached and released, and quiet ones that are closed.

use std::time::Duration;

use ottla_protocol::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::configs::{BROKER, set};
use crate::support::{TIMEOUT, TestBroker, counted, start, start_with};

async fn raw(broker: &TestBroker) -> TcpStream {
    TcpStream::connect(("127.0.0.1", broker.port)).await.unwrap()
}

/// An ApiVersions request of version 0, framed.
fn api_versions() -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 10];
    bytes.extend(ApiKey::ApiVersions.code().to_be_bytes());
    bytes.extend([0, 0, 0, 0, 0, 7, 255, 255]);
    bytes
}

/// Asks, and reads the whole answer.
async fn served(stream: &mut TcpStream) -> bool {
    if stream.write_all(&api_versions()).await.is_err() {
        return false;
    }
    let Ok(length) = stream.read_i32().await else { return false };
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.is_ok() && answer.starts_with(&[0, 0, 0, 7])
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.expect("in time")
}

/// Descriptors of this process, and its resident memory in bytes.
fn resources() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    (descriptors, pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096)
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_connections_leave_nothing_behind() {
    let (_directory, broker) = start().await;
    let wave = async || {
        let mut streams = Vec::new();
        for _ in 0..250 {
            streams.push(raw(&broker).await);
        }
        // Some say something, some half of it, some nothing.
        for (index, stream) in streams.iter_mut().enumerate() {
            match index % 3 {
                0 => assert!(served(stream).await),
                1 => stream.write_all(&[0, 0, 1]).await.unwrap(),
                _ => {}
            }
        }
    };
    wave().await;
    counted(&broker.server, |now| now.connections == 0).await;
    let (descriptors_before, memory_before) = resources();
    for _ in 0..20 {
        wave().await;
    }
    let snapshot = counted(&broker.server, |now| now.connections == 0).await;
    let listener = &snapshot.listeners["PLAINTEXT"];
    assert_eq!((listener.created, listener.closed, listener.connections), (5_250, 5_250, 0));
    let (descriptors_after, memory_after) = resources();
    // Tests of this process run side by side and have some of their own; a leak would be of thousands.
    assert!(descriptors_after < descriptors_before + 1_000, "{descriptors_before} became {descriptors_after}");
    assert!(memory_after < memory_before + (64 << 20), "{memory_before} bytes became {memory_after}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_the_next_connection_is_served_once_another_ends() {
    let (_directory, broker) = start_with(&[("max.connections", "2")]).await;
    let mut first = raw(&broker).await;
    let mut second = raw(&broker).await;
    assert!(served(&mut first).await && served(&mut second).await);
    let mut third = raw(&broker).await;
    let mut waiting = std::pin::pin!(served(&mut third));
    // It is in the backlog, and the broker is as alive as before.
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    assert!(served(&mut first).await);
    drop(second);
    assert!(in_time(waiting).await);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn above_a_lowered_limit_the_quietest_connection_is_closed() {
    let (_directory, broker) = start().await;
    let mut quiet = raw(&broker).await;
    assert!(served(&mut quiet).await);
    let connection = broker.connect().await;
    set(&connection, BROKER, "", "max.connections", "1").await;
    assert_eq!(in_time(quiet.read(&mut [0; 1])).await.unwrap(), 0, "closed by the broker");
    counted(&broker.server, |now| now.connections == 1).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_connections_of_a_listener_are_closed_after_its_own_time() {
    let (_directory, broker) = start_with(&[("listener.name.plaintext.connections.max.idle.ms", "40")]).await;
    let mut quiet = raw(&broker).await;
    assert!(served(&mut quiet).await);
    assert_eq!(in_time(quiet.read(&mut [0; 1])).await.unwrap(), 0, "closed by the broker");
    let snapshot = counted(&broker.server, |now| now.connections == 0).await;
    assert_eq!(snapshot.listeners["PLAINTEXT"].expired, 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_has_a_limit_of_its_own_on_requests() {
    let settings = [("listener.name.plaintext.socket.request.max.bytes", "100"), ("socket.request.max.bytes", "2000")];
    let (_directory, broker) = start_with(&settings).await;
    let mut stream = raw(&broker).await;
    assert!(served(&mut stream).await);
    stream.write_all(&101_i32.to_be_bytes()).await.unwrap();
    assert_eq!(in_time(stream.read(&mut [0; 1])).await.unwrap(), 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faster_connections_than_the_rate_wait_to_be_accepted() {
    let (_directory, broker) = start_with(&[("max.connection.creation.rate", "10")]).await;
    // Ten seconds' worth may come at once, as in Kafka; eleven are too many however long these take.
    for _ in 0..112 {
        assert!(served(&mut raw(&broker).await).await);
    }
    let snapshot = counted(&broker.server, |now| now.connections == 0).await;
    assert!(snapshot.listeners["PLAINTEXT"].throttled_micros > 0);
    broker.stop().await;
}
