//! Requests that wait for what other clients do leave these clients the memory they need.

use bytes::Bytes;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::fetch_request::ForgottenTopic;
use ottla_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};

use crate::groups::{GROUP, commit, commit_request, describe, find, heartbeat, join, join_request, sync};
use crate::support::{
    TIMEOUT, batch, counted, create_topic, fetch_raw, fetch_request, metadata, produce, start, text, values,
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
