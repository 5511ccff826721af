//! Requests that wait for what other clients do, and answers that nobody reads, leave others the memory they need.

use std::time::Duration;

use bytes::Bytes;
use ottla_client::Connection;
use ottla_protocol::messages::fetch_request::ForgottenTopic;
use ottla_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestTopic};
use ottla_protocol::{Encoder, StrBytes};
use ottla_types::Uuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::groups::{GROUP, commit, commit_request, describe, find, heartbeat, join, join_request, sync};
use crate::hostile::{framed, header};
use crate::support::{
    TIMEOUT, batch, counted, create_topic, fetch_raw, fetch_request, metadata, produce, start, start_with, text, values,
};

/// Before it, nobody is first given an id.
const JOIN_VERSION: i16 = 3;

/// Joins a group whose members have half an hour.
fn patient_join(metadata: Bytes) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: text("stuck"),
        session_timeout_ms: 1_800_000,
        rebalance_timeout_ms: i32::MAX,
        protocols: vec![JoinGroupRequestProtocol { name: text("range"), metadata }],
        ..join_request("", None)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_that_wait_do_not_stop_other_groups() {
    // More than the pool of groups' requests has.
    const MEMBERS: usize = 72;
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    let topic_id = create_topic(&connection, "t", 1, &[]).await;
    find(&connection, GROUP).await;
    let joined = join(&connection).await;
    sync(&connection, &joined, &[(&joined.member_id, "everything")]).await;

    // Its first member never joins again: all others wait for it.
    let first = broker.connect().await;
    let answer = first.send_at_most(&patient_join(Bytes::new()), JOIN_VERSION, TIMEOUT).await.unwrap();
    assert_eq!(answer.error_code, 0, "{answer:?}");
    let large = Bytes::from(vec![7; 1 << 20]);
    let mut waiting = Vec::new();
    for _ in 0..MEMBERS {
        let (member, request) = (broker.connect().await, patient_join(large.clone()));
        waiting.push(tokio::spawn(async move { member.send_at_most(&request, JOIN_VERSION, TIMEOUT * 10).await }));
    }
    let all_wait = async {
        while describe(&connection, "stuck").await.members.len() <= MEMBERS {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, all_wait).await.expect("every join is taken up");
    assert!(waiting.iter().all(|member| !member.is_finished()), "and none is answered");

    assert_eq!(heartbeat(&connection, &joined).await, 0);
    assert_eq!(commit(&connection, &commit_request(Some(&joined), "t", topic_id, &[(0, 1)]), 9).await, [(0, 0)]);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_that_wait_do_not_stop_other_requests() {
    // More than the pool they come from has.
    const FETCHES: usize = 18;
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let long_name = StrBytes::from("x".repeat(30_000));
    let forgotten = ForgottenTopic { topic: long_name, partitions: vec![0], ..Default::default() };
    let mut request = fetch_request("t", 0, 0, 600_000);
    request.forgotten_topics_data = vec![forgotten; 134];
    let mut waiting = Vec::new();
    for _ in 0..FETCHES {
        let (reader, request) = (broker.connect().await, request.clone());
        waiting.push(tokio::spawn(async move { fetch_raw(&reader, &request).await }));
    }
    counted(&broker.server, |now| now.waiting_fetches == FETCHES).await;
    assert_eq!(metadata(&connection, &["t"], false).await.topics[0].error_code, 0);
    assert_eq!(produce(&connection, "t", 0, -1, batch(&["at last"])).await.error_code, 0);
    for fetch in waiting {
        assert_eq!(values(&fetch.await.unwrap().responses[0].partitions[0]), ["at last"]);
    }
    broker.stop().await;
}

/// Some 2.5 MB of what a group has committed.
async fn commit_much(connection: &Connection) {
    const PARTITIONS: i32 = 600;
    create_topic(connection, "t", PARTITIONS, &[]).await;
    find(connection, GROUP).await;
    for first in (0..PARTITIONS).step_by(200) {
        let offsets: Vec<_> = (first..first + 200).map(|partition| (partition, 5)).collect();
        let mut request = commit_request(None, "t", Uuid::ZERO, &offsets);
        for partition in &mut request.topics[0].partitions {
            partition.committed_metadata = Some(text(&"x".repeat(4_096)));
        }
        assert!(commit(connection, &request, 9).await.iter().all(|(_, error)| *error == 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_wait_for_those_that_are_being_sent() {
    const VERSION: i16 = 7;
    // All large answers together.
    const POOL: usize = 64 << 20;
    let (_directory, broker) = start_with(&[("socket.send.buffer.bytes", "8192")]).await;
    let connection = broker.connect().await;
    commit_much(&connection).await;
    let everything = OffsetFetchRequest { group_id: text(GROUP), topics: None, ..Default::default() };
    let mut output = Encoder::new();
    everything.encode(&mut output, VERSION).unwrap();
    let asked = framed(&[header(9, VERSION, true), output.finish_contiguous().unwrap().to_vec()].concat());

    let (mut unread, mut held) = (Vec::new(), 0);
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(8192).unwrap();
        let mut stream = socket.connect(([127, 0, 0, 1], broker.port).into()).await.unwrap();
        stream.write_all(&asked).await.unwrap();
        // Its answer has begun to come, and goes no further.
        let length = stream.read_u32().await.unwrap() as usize;
        unread.push(stream);
        assert!(length > 2 << 20, "{length}");
        held += length + 1024;
        if held + length > POOL {
            break;
        }
    }
    let asking = broker.connect().await;
    let mut asking = std::pin::pin!(asking.send_at_most(&everything, VERSION, TIMEOUT));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut asking).await.is_err(), "it waits");
    assert_eq!(metadata(&connection, &[], false).await.brokers.len(), 1, "a small answer does not");
    drop(unread);
    let answer = asking.await.unwrap();
    assert_eq!((answer.error_code, answer.topics[0].partitions.len()), (0, 600));
    broker.stop().await;
}

/// A few bytes for each time it is named, and an answer of thousands.
#[tokio::test(flavor = "multi_thread")]
async fn a_committed_offset_is_told_once() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    commit_much(&connection).await;
    let topics = |times: usize| {
        let topic = OffsetFetchRequestTopic { name: text("t"), partition_indexes: vec![1, 0, 1, 1] };
        Some(vec![topic; times])
    };
    let request = OffsetFetchRequest { group_id: text(GROUP), topics: topics(3), ..Default::default() };
    let answer = connection.send_at_most(&request, 7, TIMEOUT).await.unwrap();
    let told = answer.topics.iter().flat_map(|topic| topic.partitions.iter().map(|one| one.partition_index));
    assert_eq!(told.collect::<Vec<_>>(), [1, 0]);
    broker.stop().await;
}
