//! Classic groups over the wire: membership, offsets, what survives a restart, and the records that keep it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ottla_client::Connection;
use ottla_group::{DecodedRecord, GroupRecord};
use ottla_protocol::FetchedRecords;
use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::heartbeat_request::HeartbeatRequest;
use ottla_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_protocol::messages::join_group_response::JoinGroupResponse;
use ottla_protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use ottla_protocol::messages::list_groups_request::ListGroupsRequest;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use ottla_record::{BATCH_OVERHEAD, Records};
use ottla_types::{ErrorCode, Uuid};

use crate::support::{TIMEOUT, create_topic, fetch, metadata, start, start_in, text};

pub const GROUP: &str = "group";
pub const OFFSETS: &str = "__consumer_offsets";

pub async fn find(connection: &Connection, key: &str) {
    let request = FindCoordinatorRequest { key: text(key), ..Default::default() };
    let response = connection.send_at_most(&request, 3, TIMEOUT).await.unwrap();
    assert_eq!(response.error_code, 0, "{response:?}");
}

pub fn join_request(member_id: &str, instance: Option<&str>) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: text(GROUP),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        member_id: text(member_id),
        group_instance_id: instance.map(text),
        protocol_type: text("consumer"),
        protocols: vec![JoinGroupRequestProtocol { name: text("range"), metadata: Bytes::from_static(b"meta") }],
        reason: None,
    }
}

/// Joins as clients do: with an empty member id, then with the one that was given.
pub async fn join(connection: &Connection) -> JoinGroupResponse {
    let first = connection.send(&join_request("", None)).await.unwrap();
    assert_eq!(first.error_code, ErrorCode::MemberIdRequired.code());
    let joined = connection.send_at_most(&join_request(&first.member_id, None), 9, TIMEOUT).await.unwrap();
    assert_eq!(joined.error_code, 0, "{joined:?}");
    joined
}

pub async fn sync(connection: &Connection, joined: &JoinGroupResponse, assignments: &[(&str, &'static str)]) -> Bytes {
    let request = SyncGroupRequest {
        group_id: text(GROUP),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some(text("consumer")),
        protocol_name: Some(text("range")),
        assignments: assignments
            .iter()
            .map(|(member_id, assignment)| SyncGroupRequestAssignment {
                member_id: text(member_id),
                assignment: Bytes::from_static(assignment.as_bytes()),
            })
            .collect(),
        ..Default::default()
    };
    let response = connection.send(&request).await.unwrap();
    assert_eq!(response.error_code, 0);
    response.assignment
}

pub async fn heartbeat(connection: &Connection, joined: &JoinGroupResponse) -> i16 {
    let request = HeartbeatRequest {
        group_id: text(GROUP),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: None,
    };
    connection.send(&request).await.unwrap().error_code
}

pub fn commit_request(
    member: Option<&JoinGroupResponse>,
    topic: &str,
    id: Uuid,
    offsets: &[(i32, i64)],
) -> OffsetCommitRequest {
    let partitions = offsets
        .iter()
        .map(|&(partition_index, committed_offset)| OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_leader_epoch: 0,
            committed_metadata: Some(text("note")),
        })
        .collect();
    OffsetCommitRequest {
        group_id: text(GROUP),
        generation_id_or_member_epoch: member.map_or(-1, |joined| joined.generation_id),
        member_id: member.map(|joined| joined.member_id.clone()).unwrap_or_default(),
        topics: vec![OffsetCommitRequestTopic { name: text(topic), topic_id: id, partitions }],
        ..Default::default()
    }
}

/// The errors by partition.
pub async fn commit(connection: &Connection, request: &OffsetCommitRequest, version: i16) -> Vec<(i32, i16)> {
    let response = connection.send_at_most(request, version, TIMEOUT).await.unwrap();
    let topics = response.topics.iter();
    topics.flat_map(|topic| topic.partitions.iter().map(|one| (one.partition_index, one.error_code))).collect()
}

/// Offset and metadata of every partition the group has committed, by version 7, once they are loaded.
pub async fn committed(connection: &Connection) -> BTreeMap<(String, i32), (i64, String)> {
    let request = OffsetFetchRequest { group_id: text(GROUP), topics: None, ..Default::default() };
    let response = loop {
        let response = connection.send_at_most(&request, 7, TIMEOUT).await.unwrap();
        if response.error_code != ErrorCode::CoordinatorLoadInProgress.code() {
            break response;
        }
    };
    assert_eq!(response.error_code, 0);
    let mut offsets = BTreeMap::new();
    for topic in response.topics {
        for one in topic.partitions {
            let metadata = one.metadata.unwrap_or_default().to_string();
            offsets.insert((topic.name.to_string(), one.partition_index), (one.committed_offset, metadata));
        }
    }
    offsets
}

/// Describes the group, once its partition is loaded.
pub async fn describe(connection: &Connection, group: &str) -> DescribedGroup {
    let request = DescribeGroupsRequest { groups: vec![text(group)], include_authorized_operations: true };
    loop {
        let described = connection.send(&request).await.unwrap().groups.remove(0);
        if described.error_code != ErrorCode::CoordinatorLoadInProgress.code() {
            return described;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_question_for_a_coordinator_makes_the_offsets_topic() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    assert!(connection.send(&ListGroupsRequest::default()).await.unwrap().groups.is_empty());

    let request = FindCoordinatorRequest { coordinator_keys: vec![text("a"), text("b")], ..Default::default() };
    let response = connection.send(&request).await.unwrap();
    assert_eq!(response.coordinators.len(), 2);
    for found in &response.coordinators {
        assert_eq!((found.error_code, found.node_id, found.port), (0, 1, i32::from(broker.port)), "{found:?}");
    }
    let topic = metadata(&connection, &[OFFSETS], false).await.topics.remove(0);
    assert!(topic.is_internal);
    assert_eq!(topic.partitions.len(), 50);

    let resource = DescribeConfigsResource { resource_type: 2, resource_name: text(OFFSETS), configuration_keys: None };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let configs = connection.send(&request).await.unwrap().results.remove(0).configs;
    for (key, value) in
        [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")]
    {
        let found = configs.iter().find(|config| *config.name == *key).and_then(|config| config.value.as_deref());
        assert_eq!(found, Some(value), "{key}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinators_that_are_not_served_are_refused_for_good() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    for (key_type, error) in [
        (1, ErrorCode::TransactionalIdAuthorizationFailed),
        (2, ErrorCode::InvalidRequest),
        (9, ErrorCode::InvalidRequest),
    ] {
        assert!(!error.is_retriable());
        for version in 1..=3 {
            let request = FindCoordinatorRequest { key: text("id"), key_type, ..Default::default() };
            let response = connection.send_at_most(&request, version, TIMEOUT).await.unwrap();
            assert_eq!((response.error_code, response.node_id), (error.code(), -1));
        }
        let request = FindCoordinatorRequest { key_type, coordinator_keys: vec![text("id")], ..Default::default() };
        let response = connection.send(&request).await.unwrap();
        assert_eq!((response.coordinators[0].error_code, response.coordinators[0].node_id), (error.code(), -1));
    }
    assert_eq!(
        metadata(&connection, &[OFFSETS], false).await.topics[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_a_group_commit_and_come_back_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[]).await;
    let first = broker.connect().await;
    let topic_id = create_topic(&first, "t", 2, &[]).await;
    find(&first, GROUP).await;
    let leader = join(&first).await;
    assert_eq!((leader.generation_id, &leader.leader), (1, &leader.member_id));
    assert_eq!(sync(&first, &leader, &[(&leader.member_id, "alone")]).await, "alone");

    // A second member: the first learns of it by its heartbeat, and both join the next generation.
    let second = broker.connect().await;
    let given = second.send(&join_request("", None)).await.unwrap().member_id;
    let joining = tokio::spawn(async move { (second.send(&join_request(&given, None)).await.unwrap(), second) });
    while heartbeat(&first, &leader).await == 0 {
        tokio::task::yield_now().await;
    }
    let leader = first.send(&join_request(&leader.member_id, None)).await.unwrap();
    let (follower, second) = joining.await.unwrap();
    assert_eq!((leader.generation_id, follower.generation_id), (2, 2));
    assert_eq!(leader.members.len(), 2);
    assert!(follower.members.is_empty());
    let assignments = [(&*leader.member_id, "left"), (&*follower.member_id, "right")];
    let (left, right) = tokio::join!(sync(&first, &leader, &assignments), sync(&second, &follower, &[]));
    assert_eq!((left, right), (Bytes::from_static(b"left"), Bytes::from_static(b"right")));

    let request = commit_request(Some(&leader), "t", topic_id, &[(0, 5), (1, 7), (9, 1)]);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let mut errors = commit(&first, &request, 10).await;
    errors.sort_unstable();
    assert_eq!(errors, [(0, 0), (1, 0), (9, unknown)]);
    let stranger = OffsetCommitRequest { member_id: text("stranger"), ..request };
    let refused = ErrorCode::UnknownMemberId.code();
    assert!(commit(&first, &stranger, 9).await.contains(&(0, refused)));
    broker.stop().await;

    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    let expected: BTreeMap<_, _> =
        [(0, 5), (1, 7)].map(|(partition, offset)| (("t".to_owned(), partition), (offset, "note".to_owned()))).into();
    let described = describe(&connection, GROUP).await;
    assert_eq!(committed(&connection).await, expected);
    assert_eq!((&*described.group_state, &*described.protocol_data), ("Stable", "range"));
    let mut members: Vec<_> =
        described.members.iter().map(|member| (&*member.member_id, &member.member_assignment[..])).collect();
    members.sort_unstable();
    let mut expected = vec![(&*leader.member_id, &b"left"[..]), (&*follower.member_id, &b"right"[..])];
    expected.sort_unstable();
    assert_eq!(members, expected);
    assert_eq!(heartbeat(&connection, &leader).await, 0, "the session goes on");

    let leaving =
        [&leader, &follower].map(|joined| MemberIdentity { member_id: joined.member_id.clone(), ..Default::default() });
    let request = LeaveGroupRequest { group_id: text(GROUP), members: leaving.to_vec(), ..Default::default() };
    let left = connection.send(&request).await.unwrap();
    assert_eq!(left.members.iter().map(|member| member.error_code).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(&*describe(&connection, GROUP).await.group_state, "Empty");
    let listed = connection.send(&ListGroupsRequest::default()).await.unwrap().groups;
    assert_eq!(listed.len(), 1);
    assert_eq!((&*listed[0].group_id, &*listed[0].group_state, &*listed[0].group_type), (GROUP, "Empty", "classic"));
    let none = ListGroupsRequest { types_filter: vec![text("consumer")], ..Default::default() };
    assert!(connection.send(&none).await.unwrap().groups.is_empty());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_read_in_every_version() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    let topic_id = create_topic(&connection, "t", 2, &[]).await;
    find(&connection, GROUP).await;
    for version in 2..=10 {
        let request = commit_request(None, "t", topic_id, &[(0, i64::from(version))]);
        assert_eq!(commit(&connection, &request, version).await, [(0, 0)], "version {version}");
        for fetch_version in 1..=7 {
            let topics = vec![OffsetFetchRequestTopic { name: text("t"), partition_indexes: vec![0, 1] }];
            let request = OffsetFetchRequest { group_id: text(GROUP), topics: Some(topics), ..Default::default() };
            let response = connection.send_at_most(&request, fetch_version, TIMEOUT).await.unwrap();
            let found: Vec<_> =
                response.topics[0].partitions.iter().map(|one| (one.committed_offset, one.error_code)).collect();
            assert_eq!(found, [(i64::from(version), 0), (-1, 0)], "version {fetch_version}");
        }
        for fetch_version in 8..=10 {
            let unknown = Uuid([9; 16]);
            let topics = [topic_id, unknown].map(|topic_id| OffsetFetchRequestTopics {
                name: if topic_id == unknown { text("u") } else { text("t") },
                topic_id,
                partition_indexes: vec![0],
            });
            let group = |topics| OffsetFetchRequestGroup { group_id: text(GROUP), topics, ..Default::default() };
            let stranger = OffsetFetchRequestGroup { group_id: text("stranger"), topics: None, ..Default::default() };
            let groups = vec![group(Some(topics.to_vec())), group(None), stranger];
            let request = OffsetFetchRequest { groups, require_stable: true, ..Default::default() };
            let response = connection.send_at_most(&request, fetch_version, TIMEOUT).await.unwrap();
            let asked = &response.groups[0].topics;
            let answer = |id: Uuid, name: &str| {
                let topic = asked.iter().find(|topic| topic.topic_id == id || *topic.name == *name);
                topic.map(|topic| (topic.partitions[0].committed_offset, topic.partitions[0].error_code))
            };
            let nobody = if fetch_version == 10 { ErrorCode::UnknownTopicId.code() } else { 0 };
            if fetch_version == 10 {
                assert_eq!(answer(topic_id, "-"), Some((i64::from(version), 0)));
                assert_eq!(answer(unknown, "-"), Some((-1, nobody)));
                assert_eq!(response.groups[1].topics[0].topic_id, topic_id);
            } else {
                assert_eq!(answer(Uuid([8; 16]), "t"), Some((i64::from(version), 0)));
                assert_eq!(answer(Uuid([8; 16]), "u"), Some((-1, nobody)));
                assert_eq!(&*response.groups[1].topics[0].name, "t");
            }
            assert_eq!(response.groups[1].topics[0].partitions[0].committed_offset, i64::from(version));
            assert!(response.groups[2].topics.is_empty());
            assert_eq!(response.groups[2].error_code, 0);
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_joining_works() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    find(&connection, GROUP).await;
    for version in 0..=9 {
        let mut joined = connection.send_at_most(&join_request("", None), version, TIMEOUT).await.unwrap();
        if version >= 4 {
            assert_eq!(joined.error_code, ErrorCode::MemberIdRequired.code());
            joined = connection.send_at_most(&join_request(&joined.member_id, None), version, TIMEOUT).await.unwrap();
        }
        assert_eq!(
            (joined.error_code, &joined.leader, joined.members.len()),
            (0, &joined.member_id, 1),
            "version {version}"
        );
        assert_eq!(joined.member_id.len(), "test-".len() + 36);
        for sync_version in 0..=5 {
            let request = SyncGroupRequest {
                group_id: text(GROUP),
                generation_id: joined.generation_id,
                member_id: joined.member_id.clone(),
                ..Default::default()
            };
            let response = connection.send_at_most(&request, sync_version, TIMEOUT).await.unwrap();
            assert_eq!(response.error_code, 0, "version {sync_version}");
        }
        let leave_version = version.min(5);
        let member = MemberIdentity { member_id: joined.member_id.clone(), ..Default::default() };
        let request = if leave_version < 3 {
            LeaveGroupRequest { group_id: text(GROUP), member_id: joined.member_id.clone(), ..Default::default() }
        } else {
            LeaveGroupRequest { group_id: text(GROUP), members: vec![member], ..Default::default() }
        };
        let left = connection.send_at_most(&request, leave_version, TIMEOUT).await.unwrap();
        assert_eq!(left.error_code, 0);
        let again = connection.send_at_most(&request, leave_version, TIMEOUT).await.unwrap();
        let error = if leave_version < 3 { again.error_code } else { again.members[0].error_code };
        assert_eq!(error, ErrorCode::UnknownMemberId.code(), "version {leave_version}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_does_not_exist_is_described_by_version() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    find(&connection, GROUP).await;
    let request = DescribeGroupsRequest { groups: vec![text("none")], include_authorized_operations: false };
    for version in 0..=6 {
        let group = connection.send_at_most(&request, version, TIMEOUT).await.unwrap().groups.remove(0);
        let error = if version < 6 { 0 } else { ErrorCode::GroupIdNotFound.code() };
        assert_eq!((&*group.group_state, group.error_code), ("Dead", error), "version {version}");
        let message = (version == 6).then_some("Group none not found.");
        assert_eq!(group.error_message.as_deref(), message);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_named_often_is_told_once() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    let topic_id = create_topic(&connection, "t", 2, &[]).await;
    find(&connection, GROUP).await;
    let request = commit_request(None, "t", topic_id, &[(0, 7), (1, 8)]);
    commit(&connection, &request, 9).await;
    let groups = vec![text(GROUP), text("none"), text(GROUP)];
    let request = DescribeGroupsRequest { groups, include_authorized_operations: false };
    let described = connection.send(&request).await.unwrap().groups;
    let described: Vec<_> = described.iter().map(|group| &*group.group_id).collect();
    assert_eq!(described, [GROUP, "none"]);

    let everything = OffsetFetchRequestGroup { group_id: text(GROUP), topics: None, ..Default::default() };
    let one = OffsetFetchRequestTopics { name: text("t"), topic_id, partition_indexes: vec![1], ..Default::default() };
    let one = OffsetFetchRequestGroup { topics: Some(vec![one]), ..everything.clone() };
    let groups = vec![everything.clone(), one.clone(), everything, one];
    let request = OffsetFetchRequest { groups, ..Default::default() };
    let groups = connection.send(&request).await.unwrap().groups;
    let partitions: Vec<_> = groups.iter().map(|group| group.topics[0].partitions.len()).collect();
    assert_eq!(partitions, [2, 1, 0], "what was committed with an offset may be far longer than the question");
    broker.stop().await;
}

/// What lag exporters read.
#[tokio::test(flavor = "multi_thread")]
async fn the_records_are_kafkas() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    let topic_id = create_topic(&connection, "t", 1, &[]).await;
    find(&connection, GROUP).await;
    commit(&connection, &commit_request(None, "t", topic_id, &[(0, 42)]), 10).await;

    // "group".hashCode() is 98629247.
    let data = fetch(&connection, OFFSETS, 98_629_247 % 50, 0, 0).await;
    let records = data.records.and_then(FetchedRecords::into_bytes).unwrap();
    let (header, batch) = ottla_record::batches(&records).next().unwrap().unwrap();
    let mut decoded = Vec::new();
    for record in Records::new(&header, &batch[BATCH_OVERHEAD..]) {
        let record = record.unwrap();
        let (key, value) = (record.key.unwrap(), record.value.map(Bytes::copy_from_slice));
        decoded.push(DecodedRecord::decode(Bytes::copy_from_slice(key), value).unwrap());
    }
    let [DecodedRecord::Known(GroupRecord::OffsetCommit { group, topic, partition, value: Some(value) })] =
        &decoded[..]
    else {
        panic!("{decoded:?}");
    };
    assert_eq!((&**group, &**topic, *partition), (GROUP, "t", 0));
    assert_eq!((value.offset, value.leader_epoch, &*value.metadata, value.topic_id), (42, Some(0), "note", topic_id));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_a_deleted_topic_go_with_it() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    for topic in ["t", "u"] {
        create_topic(&connection, topic, 1, &[]).await;
    }
    find(&connection, GROUP).await;
    for topic in ["t", "u"] {
        assert_eq!(commit(&connection, &commit_request(None, topic, Uuid::ZERO, &[(0, 1)]), 9).await, [(0, 0)]);
    }
    let topics = vec![DeleteTopicState { name: Some(text("t")), ..Default::default() }];
    let deleted =
        connection.send(&DeleteTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() }).await.unwrap();
    assert_eq!(deleted.responses[0].error_code, 0);
    let forgotten = async {
        while committed(&connection).await.len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, forgotten).await.expect("the offsets go");
    assert_eq!(committed(&connection).await.into_keys().collect::<Vec<_>>(), [("u".to_owned(), 0)]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_join_does_not_hold_up_the_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[("group.initial.rebalance.delay.ms", "60000")]).await;
    let connection = broker.connect().await;
    find(&connection, GROUP).await;
    let given = connection.send(&join_request("", None)).await.unwrap().member_id;
    let joining = tokio::spawn(async move { connection.send(&join_request(&given, None)).await });
    let other = broker.connect().await;
    while describe(&other, GROUP).await.members.is_empty() {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::from_secs(5), broker.stop()).await.expect("the broker stops");
    if let Ok(answer) = joining.await.unwrap() {
        assert_eq!(answer.error_code, ErrorCode::NotCoordinator.code());
    }
}
