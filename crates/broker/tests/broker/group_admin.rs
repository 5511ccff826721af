//! Groups as an administrator handles them: listed, described and deleted, alone and by the thousand.

use std::collections::BTreeMap;

use ottla_client::Connection;
use ottla_protocol::StrBytes;
use ottla_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use ottla_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use ottla_protocol::messages::join_group_request::JoinGroupRequest;
use ottla_protocol::messages::list_groups_request::ListGroupsRequest;
use ottla_protocol::messages::offset_commit_request::OffsetCommitRequest;
use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::messages::offset_delete_response::OffsetDeleteResponse;
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestGroup};
use ottla_types::{ErrorCode, Uuid};

use crate::groups::{GROUP, commit, commit_request, committed, describe, find, join, join_request, sync};
use crate::support::{TIMEOUT, create_topic, start, start_in, start_with, text};

/// Kafka's bits for read, delete, describe, describe configs and alter configs.
const GROUP_OPERATIONS: i32 = (1 << 3) | (1 << 6) | (1 << 8) | (1 << 10) | (1 << 11);

async fn delete(connection: &Connection, groups: &[&str]) -> Vec<(String, i16)> {
    let request = DeleteGroupsRequest { groups_names: groups.iter().map(|group| text(group)).collect() };
    let results = connection.send(&request).await.unwrap().results;
    assert!(results.iter().all(|result| result.error_message.is_none()));
    results.iter().map(|result| (result.group_id.to_string(), result.error_code)).collect()
}

async fn delete_offsets(connection: &Connection, group: &str, topics: &[(&str, &[i32])]) -> OffsetDeleteResponse {
    let topics = topics
        .iter()
        .map(|(name, partitions)| OffsetDeleteRequestTopic {
            name: text(name),
            partitions: partitions
                .iter()
                .map(|&partition_index| OffsetDeleteRequestPartition { partition_index })
                .collect(),
        })
        .collect();
    connection.send(&OffsetDeleteRequest { group_id: text(group), topics }).await.unwrap()
}

/// Errors by topic and partition.
fn errors(response: &OffsetDeleteResponse) -> BTreeMap<(String, i32), i16> {
    assert_eq!(response.error_code, 0);
    let topics = response.topics.iter();
    topics
        .flat_map(|topic| {
            topic.partitions.iter().map(|one| ((topic.name.to_string(), one.partition_index), one.error_code))
        })
        .collect()
}

/// Group, state, protocol type and type of each group, once all are loaded.
async fn list(connection: &Connection, states: &[&str], types: &[&str]) -> Vec<String> {
    let filter = |words: &[&str]| words.iter().map(|word| text(word)).collect::<Vec<StrBytes>>();
    let request = ListGroupsRequest { states_filter: filter(states), types_filter: filter(types) };
    let response = loop {
        let response = connection.send(&request).await.unwrap();
        if response.error_code != ErrorCode::CoordinatorLoadInProgress.code() {
            break response;
        }
    };
    assert_eq!(response.error_code, 0);
    let mut groups: Vec<_> = response
        .groups
        .iter()
        .map(|group| format!("{} {} {} {}", group.group_id, group.group_state, group.protocol_type, group.group_type))
        .collect();
    groups.sort();
    groups
}

fn commit_of(group: &str, topic: &str, offsets: &[(i32, i64)]) -> OffsetCommitRequest {
    OffsetCommitRequest { group_id: text(group), ..commit_request(None, topic, Uuid::ZERO, offsets) }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_groups_stay_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    let topic_id = create_topic(&connection, "t", 2, &[]).await;
    let missing = ErrorCode::GroupIdNotFound.code();
    assert_eq!(
        delete(&connection, &["early"]).await,
        [("early".to_owned(), ErrorCode::NotCoordinator.code())],
        "there is no coordinator before there is an offsets topic"
    );

    find(&connection, GROUP).await;
    let member = join(&connection).await;
    sync(&connection, &member, &[(&member.member_id, "all")]).await;
    commit(&connection, &commit_request(Some(&member), "t", topic_id, &[(0, 5)]), 10).await;
    for group in ["simple", "other", ""] {
        assert_eq!(commit(&connection, &commit_of(group, "t", &[(0, 1), (1, 2)]), 9).await, [(0, 0), (1, 0)]);
    }
    let non_empty = ErrorCode::NonEmptyGroup.code();
    let results = delete(&connection, &["simple", GROUP, "nobody", "simple", ""]).await;
    let expected = [("simple", 0), (GROUP, non_empty), ("nobody", missing), ("", 0)];
    assert_eq!(results, expected.map(|(group, error)| (group.to_owned(), error)), "each once, in order");
    assert_eq!(delete(&connection, &["simple"]).await, [("simple".to_owned(), missing)]);
    assert_eq!(delete(&connection, &[]).await, []);
    let listed = [format!("{GROUP} Stable consumer classic"), "other Empty  classic".to_owned()];
    assert_eq!(list(&connection, &[], &[]).await, listed);
    broker.stop().await;

    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    assert_eq!(describe(&connection, "simple").await.group_state, text("Dead"));
    assert_eq!(list(&connection, &[], &[]).await, listed);
    assert_eq!(committed(&connection).await.len(), 1, "what the deletion refused is untouched");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_offsets_stay_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    create_topic(&connection, "u", 1, &[]).await;
    let code = |response: OffsetDeleteResponse| {
        assert!(response.topics.is_empty(), "an error is the whole answer");
        ErrorCode::from_code(response.error_code).unwrap()
    };
    let early = delete_offsets(&connection, GROUP, &[("t", &[0])]).await;
    assert_eq!(code(early), ErrorCode::NotCoordinator);
    find(&connection, GROUP).await;
    assert_eq!(code(delete_offsets(&connection, "", &[("t", &[0])]).await), ErrorCode::InvalidGroupId);
    for topics in [&[("t", &[0, 9][..]), ("none", &[0])][..], &[]] {
        assert_eq!(code(delete_offsets(&connection, GROUP, topics).await), ErrorCode::GroupIdNotFound);
    }

    commit(&connection, &commit_of(GROUP, "t", &[(0, 1), (1, 2)]), 9).await;
    commit(&connection, &commit_of(GROUP, "u", &[(0, 3)]), 9).await;
    assert!(delete_offsets(&connection, GROUP, &[]).await.topics.is_empty());
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let response = delete_offsets(&connection, GROUP, &[("none", &[0, 1]), ("t", &[9, 1, -1]), ("u", &[])]).await;
    let expected =
        [(("none", 0), unknown), (("none", 1), unknown), (("t", -1), unknown), (("t", 1), 0), (("t", 9), unknown)];
    let expected = expected.map(|((topic, partition), error)| ((topic.to_owned(), partition), error));
    assert_eq!(errors(&response), expected.into());
    assert_eq!(response.topics.len(), 2, "one entry per topic");
    let left = [("t".to_owned(), 0), ("u".to_owned(), 0)];
    assert_eq!(committed(&connection).await.into_keys().collect::<Vec<_>>(), left);
    broker.stop().await;

    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    assert_eq!(committed(&connection).await.into_keys().collect::<Vec<_>>(), left);
    // Its member says nothing that can be read about topics, so it may need any.
    let member = join(&connection).await;
    sync(&connection, &member, &[(&member.member_id, "all")]).await;
    let response = delete_offsets(&connection, GROUP, &[("t", &[0])]).await;
    assert_eq!(errors(&response), [(("t".to_owned(), 0), ErrorCode::GroupSubscribedToTopic.code())].into());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_by_state_and_type() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    assert!(list(&connection, &[], &[]).await.is_empty(), "before there is an offsets topic");
    create_topic(&connection, "t", 1, &[]).await;
    find(&connection, GROUP).await;
    let member = join(&connection).await;
    sync(&connection, &member, &[(&member.member_id, "all")]).await;
    commit(&connection, &commit_of("simple", "t", &[(0, 1)]), 9).await;

    let (stable, empty) = (format!("{GROUP} Stable consumer classic"), "simple Empty  classic".to_owned());
    let both = [stable.clone(), empty.clone()];
    let none: [String; 0] = [];
    let cases: &[(&[&str], &[&str], &[String])] = &[
        (&[], &[], &both),
        (&["Stable"], &[], std::slice::from_ref(&stable)),
        (&["sTABLE"], &["CLASSIC"], std::slice::from_ref(&stable)),
        (&[" empty\t"], &[], std::slice::from_ref(&empty)),
        (&["Stable", "Empty", "nonsense"], &[], &both),
        (&["Dead"], &[], &none),
        (&["nonsense"], &[], &none),
        (&[""], &[], &none),
        (&["Assigning", "Reconciling", "NotReady"], &[], &none),
        (&[], &["consumer", "share", "streams"], &none),
        (&[], &["nonsense"], &none),
        (&[], &[" classic"], &none),
        (&[], &["nonsense", "Classic"], &both),
    ];
    for (states, types, expected) in cases {
        assert_eq!(list(&connection, states, types).await, *expected, "{states:?} {types:?}");
    }
    for version in 0..=5 {
        let response = connection.send_at_most(&ListGroupsRequest::default(), version, TIMEOUT).await.unwrap();
        let group = response.groups.iter().find(|group| &*group.group_id == GROUP).unwrap();
        assert_eq!(&*group.protocol_type, "consumer");
        assert_eq!(&*group.group_state, if version >= 4 { "Stable" } else { "" });
        assert_eq!(&*group.group_type, if version >= 5 { "classic" } else { "" });
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_described_in_every_version() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    find(&connection, GROUP).await;
    let member = join(&connection).await;
    sync(&connection, &member, &[(&member.member_id, "all")]).await;
    commit(&connection, &commit_of("simple", "t", &[(0, 1)]), 9).await;
    for version in 0..=6 {
        for asked in [false, true] {
            let request = DescribeGroupsRequest {
                groups: [GROUP, "simple", "none", "", GROUP].map(text).to_vec(),
                include_authorized_operations: asked && version >= 3,
            };
            let groups = connection.send_at_most(&request, version, TIMEOUT).await.unwrap().groups;
            let missing = if version >= 6 { ErrorCode::GroupIdNotFound.code() } else { 0 };
            let found: Vec<_> =
                groups.iter().map(|group| (&*group.group_id, &*group.group_state, group.error_code)).collect();
            assert_eq!(
                found,
                [(GROUP, "Stable", 0), ("simple", "Empty", 0), ("none", "Dead", missing), ("", "Dead", missing),],
                "version {version}: a group named twice is described once"
            );
            let operations = |present| if asked && version >= 3 && present { GROUP_OPERATIONS } else { i32::MIN };
            assert_eq!(groups[0].authorized_operations, operations(true));
            assert_eq!(groups[1].authorized_operations, operations(true));
            assert_eq!(groups[2].authorized_operations, operations(version < 6));
            let message = (version >= 6).then_some("Group none not found.");
            assert_eq!(groups[2].error_message.as_deref(), message);
            let [described] = &groups[0].members[..] else { panic!("{groups:?}") };
            assert_eq!((&*described.client_id, &described.member_assignment[..]), ("test", &b"all"[..]));
            assert_eq!((&*groups[0].protocol_type, &*groups[0].protocol_data), ("consumer", "range"));
            assert_eq!((&*groups[1].protocol_type, &*groups[1].protocol_data), ("", ""));
        }
    }
    broker.stop().await;
}

/// Partitions refused at once and partitions the coordinator answers for come in one entry, by name and by id.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_answers_each_topic_once() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    let topic_id = create_topic(&connection, "t", 1, &[]).await;
    find(&connection, GROUP).await;
    for version in 2..=10 {
        let mut request = commit_request(None, "t", topic_id, &[(0, 5), (9, 1)]);
        let mut again = request.topics[0].clone();
        again.partitions.remove(1);
        again.partitions[0].committed_metadata = Some(text(&"x".repeat(4_097)));
        let mut unknown = again.clone();
        (unknown.name, unknown.topic_id) = (text("none"), Uuid([9; 16]));
        request.topics.extend([again, unknown.clone(), unknown]);
        let response = connection.send_at_most(&request, version, TIMEOUT).await.unwrap();
        assert_eq!(response.topics.len(), 2, "version {version}: {response:?}");
        let errors = |topic: usize| {
            let partitions = response.topics[topic].partitions.iter();
            let mut errors: Vec<_> = partitions.map(|one| (one.partition_index, one.error_code)).collect();
            errors.sort_unstable();
            errors
        };
        let known = response.topics.iter().position(|topic| topic.topic_id == topic_id || *topic.name == *"t").unwrap();
        let (too_large, missing) =
            (ErrorCode::OffsetMetadataTooLarge.code(), ErrorCode::UnknownTopicOrPartition.code());
        assert_eq!(errors(known), [(0, 0), (0, too_large), (9, missing)], "version {version}");
        let nobody = if version >= 10 { ErrorCode::UnknownTopicId.code() } else { missing };
        assert_eq!(errors(1 - known), [(0, nobody), (0, nobody)], "version {version}");
        assert_eq!(committed(&connection).await.into_values().collect::<Vec<_>>(), [(5, "note".to_owned())]);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_groups_are_listed_described_and_deleted() {
    const COUNT: usize = 10_000;
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[("ottla.durability", "page-cache")]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    find(&connection, GROUP).await;
    let names: Vec<String> = (0..COUNT).map(|number| format!("group-{number}")).collect();
    for name in &names {
        assert_eq!(commit(&connection, &commit_of(name, "t", &[(0, 1)]), 9).await, [(0, 0)]);
    }
    assert_eq!(list(&connection, &["empty"], &[]).await.len(), COUNT);
    let groups: Vec<_> = names.iter().map(|name| text(name)).collect();
    let request = DescribeGroupsRequest { groups: groups.clone(), include_authorized_operations: false };
    let described = connection.send(&request).await.unwrap().groups;
    assert!(described.iter().map(|group| &group.group_id).eq(&groups), "in the order they were asked for");
    assert!(described.iter().all(|group| *group.group_state == *"Empty"));
    let fetch = OffsetFetchRequest {
        groups: groups
            .iter()
            .map(|group| OffsetFetchRequestGroup { group_id: group.clone(), topics: None, ..Default::default() })
            .collect(),
        require_stable: true,
        ..Default::default()
    };
    let fetched = connection.send(&fetch).await.unwrap().groups;
    assert_eq!(fetched.iter().filter(|group| group.topics.len() == 1).count(), COUNT);

    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let deleted = delete(&connection, &names[1..]).await;
    assert!(deleted.iter().all(|(_, error)| *error == 0));
    assert_eq!(list(&connection, &[], &[]).await, ["group-0 Empty  classic"]);
    broker.stop().await;
    let broker = start_in(directory.path(), &[]).await;
    assert_eq!(list(&broker.connect().await, &[], &[]).await, ["group-0 Empty  classic"]);
    broker.stop().await;
}

/// A group id may be as long as the protocol can say.
#[tokio::test(flavor = "multi_thread")]
async fn long_group_ids_are_ids() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    find(&connection, GROUP).await;
    let long = "g".repeat(i16::MAX as usize);
    assert_eq!(commit(&connection, &commit_of(&long, "t", &[(0, 7)]), 9).await, [(0, 0)]);
    assert_eq!(list(&connection, &[], &[]).await, [format!("{long} Empty  classic")]);
    assert_eq!(describe(&connection, &long).await.group_state, text("Empty"));
    assert_eq!(errors(&delete_offsets(&connection, &long, &[("t", &[0])]).await), [(("t".to_owned(), 0), 0)].into());
    assert_eq!(delete(&connection, &[&long]).await, [(long, 0)]);
    broker.stop().await;
}

/// A retention of its own, which old clients may give with a commit, is over at once; the deletion is on record.
#[tokio::test(flavor = "multi_thread")]
async fn expired_offsets_stay_expired() {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("offsets.retention.check.interval.ms", "20")];
    let broker = start_in(directory.path(), &settings).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    find(&connection, GROUP).await;
    assert_eq!(commit(&connection, &commit_of(GROUP, "t", &[(0, 1)]), 9).await, [(0, 0)]);
    let request = OffsetCommitRequest { retention_time_ms: 1, ..commit_of(GROUP, "t", &[(1, 2)]) };
    for version in 2..=4 {
        assert_eq!(commit(&connection, &request, version).await, [(1, 0)]);
        let expired = async {
            while committed(&connection).await.len() > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIMEOUT, expired).await.expect("the offset goes");
    }
    let other = OffsetCommitRequest { group_id: text("other"), ..request };
    commit(&connection, &other, 2).await;
    let gone = async {
        while describe(&connection, "other").await.group_state != text("Dead") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, gone).await.expect("the group goes with its last offset");
    broker.stop().await;

    let broker = start_in(directory.path(), &settings).await;
    let connection = broker.connect().await;
    assert_eq!(committed(&connection).await.into_keys().collect::<Vec<_>>(), [("t".to_owned(), 0)]);
    assert_eq!(list(&connection, &[], &[]).await, [format!("{GROUP} Empty  classic")]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_the_configurations() {
    let settings = [
        ("group.max.size", "1"),
        ("group.min.session.timeout.ms", "20000"),
        ("group.max.session.timeout.ms", "30000"),
        ("offset.metadata.max.bytes", "3"),
    ];
    let (_directory, broker) = start_with(&settings).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    find(&connection, GROUP).await;
    let with_session = |session_timeout_ms| JoinGroupRequest { session_timeout_ms, ..join_request("", None) };
    for (session_timeout_ms, error) in [
        (19_999, ErrorCode::InvalidSessionTimeout),
        (30_001, ErrorCode::InvalidSessionTimeout),
        (-1, ErrorCode::InvalidSessionTimeout),
        (i32::MAX, ErrorCode::InvalidSessionTimeout),
        (20_000, ErrorCode::None),
        (30_000, ErrorCode::GroupMaxSizeReached),
    ] {
        let joined = connection.send_at_most(&with_session(session_timeout_ms), 3, TIMEOUT).await.unwrap();
        assert_eq!(joined.error_code, error.code(), "{session_timeout_ms} ms");
    }

    let mut request = commit_of("simple", "t", &[(0, 1), (1, 2)]);
    for (partition, metadata) in [(0, "abc"), (1, "abcd")] {
        request.topics[0].partitions[partition].committed_metadata = Some(text(metadata));
    }
    let too_large = ErrorCode::OffsetMetadataTooLarge.code();
    assert_eq!(commit(&connection, &request, 9).await, [(0, 0), (1, too_large)]);
    broker.stop().await;
}

/// One step that an append refuses: the others go on, and nothing of it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_larger_than_a_batch_is_refused_whole() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 300, &[]).await;
    find(&connection, GROUP).await;
    let offsets: Vec<_> = (0..300).map(|partition| (partition, 5)).collect();
    let mut request = commit_of(GROUP, "t", &offsets);
    for partition in &mut request.topics[0].partitions {
        partition.committed_metadata = Some(text(&"x".repeat(4_096)));
    }
    let answers = commit(&connection, &request, 9).await;
    assert_eq!(answers.len(), 300);
    assert!(answers.iter().all(|(_, error)| *error == ErrorCode::UnknownServerError.code()), "{answers:?}");
    assert!(committed(&connection).await.is_empty());
    request.topics[0].partitions.truncate(200);
    assert!(commit(&connection, &request, 9).await.iter().all(|(_, error)| *error == 0));

    // What is deleted one by one needs no batch of its own.
    let deleted = delete(&connection, &[GROUP]).await;
    assert_eq!(deleted, [(GROUP.to_owned(), 0)]);
    broker.stop().await;
    let broker = start_in(directory.path(), &[]).await;
    assert!(committed(&broker.connect().await).await.is_empty());
    broker.stop().await;
}
