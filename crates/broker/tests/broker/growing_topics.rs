//! CreatePartitions.

use ottla_client::Connection;
use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use ottla_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use ottla_types::ErrorCode;

use crate::support::{batch, create_topic, fetch, metadata, produce, start, start_in, text, values};

fn topic(name: &str, count: i32) -> CreatePartitionsTopic {
    CreatePartitionsTopic { name: text(name), count, assignments: None }
}

fn assigned(name: &str, count: i32, assignments: &[&[i32]]) -> CreatePartitionsTopic {
    let assignments = assignments.iter().map(|nodes| CreatePartitionsAssignment { broker_ids: nodes.to_vec() });
    CreatePartitionsTopic { assignments: Some(assignments.collect()), ..topic(name, count) }
}

async fn grow(
    connection: &Connection,
    topics: Vec<CreatePartitionsTopic>,
    validate_only: bool,
) -> Vec<CreatePartitionsTopicResult> {
    let request = CreatePartitionsRequest { topics, timeout_ms: 10_000, validate_only };
    connection.send(&request).await.unwrap().results
}

fn codes(results: &[CreatePartitionsTopicResult]) -> Vec<(&str, ErrorCode)> {
    results.iter().map(|result| (&*result.name, ErrorCode::from_code(result.error_code).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_partitions_can_be_used_at_once_and_survive() {
    let directory = tempfile::tempdir().unwrap();
    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    produce(&connection, "t", 0, -1, batch(&["old"])).await;
    assert_eq!(codes(&grow(&connection, vec![topic("t", 3)], false).await), [("t", ErrorCode::None)]);
    assert_eq!(produce(&connection, "t", 2, -1, batch(&["new"])).await.error_code, 0);
    assert_eq!(codes(&grow(&connection, vec![assigned("t", 4, &[&[1]])], false).await), [("t", ErrorCode::None)]);
    assert_eq!(produce(&connection, "t", 3, -1, batch(&["newest"])).await.error_code, 0);
    broker.stop().await;

    let broker = start_in(directory.path(), &[]).await;
    let connection = broker.connect().await;
    assert_eq!(metadata(&connection, &["t"], false).await.topics[0].partitions.len(), 4);
    for (partition, expected) in [(0, "old"), (2, "new"), (3, "newest")] {
        assert_eq!(values(&fetch(&connection, "t", partition, 0, 0).await), [expected]);
    }
    assert_eq!(produce(&connection, "t", 1, -1, batch(&["first"])).await.base_offset, 0);
    broker.stop().await;
}

/// Clients take a partition without a leader for an error of the whole answer, also where it is another's topic that grows.
#[tokio::test(flavor = "multi_thread")]
async fn a_growing_topic_has_a_leader_for_every_partition_it_shows() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let onlooker = broker.connect().await;
    for count in 2..=60 {
        let look = async {
            loop {
                let shown = metadata(&onlooker, &["t"], false).await.topics.remove(0).partitions;
                let leaderless: Vec<_> =
                    shown.iter().filter(|each| each.error_code != 0 || each.leader_id != 1).collect();
                assert!(leaderless.is_empty(), "{leaderless:?}");
                if shown.len() == count as usize {
                    break;
                }
            }
        };
        let (grown, ()) = tokio::join!(grow(&connection, vec![topic("t", count)], false), look);
        assert_eq!(codes(&grown), [("t", ErrorCode::None)]);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_counts_and_assignments_are_refused_with_kafkas_codes() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    for (wanted, expected, message) in [
        (topic("t", 2), ErrorCode::InvalidPartitions, "Topic already has 2 partition(s)."),
        (
            topic("t", 1),
            ErrorCode::InvalidPartitions,
            "The topic t currently has 2 partition(s); 1 would not be an increase.",
        ),
        (
            topic("t", i32::MIN),
            ErrorCode::InvalidPartitions,
            "The topic t currently has 2 partition(s); -2147483648 would not be an increase.",
        ),
        (topic("nobody", 3), ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition."),
        (topic("", 3), ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition."),
        (topic("t", i32::MAX), ErrorCode::PolicyViolation, "Excessively large number of partitions per request."),
        (
            assigned("t", 4, &[&[1]]),
            ErrorCode::InvalidReplicaAssignment,
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (
            assigned("t", 3, &[&[]]),
            ErrorCode::InvalidReplicaAssignment,
            "The manual partition assignment includes an empty replica list.",
        ),
        (
            assigned("t", 3, &[&[77]]),
            ErrorCode::InvalidReplicaAssignment,
            "The manual partition assignment includes broker 77, but no such broker is registered.",
        ),
        (
            assigned("t", 3, &[&[1, 1]]),
            ErrorCode::InvalidReplicaAssignment,
            "The manual partition assignment includes the broker 1 more than once.",
        ),
    ] {
        let name = wanted.name.clone();
        let results = grow(&connection, vec![wanted], false).await;
        assert_eq!(codes(&results), [(&*name, expected)]);
        assert_eq!(results[0].error_message.as_deref(), Some(message));
    }
    assert_eq!(metadata(&connection, &["t"], false).await.topics[0].partitions.len(), 2);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_named_twice_does_not_grow_and_others_do() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    for name in ["twice", "once"] {
        create_topic(&connection, name, 1, &[]).await;
    }
    let wanted = || vec![topic("twice", 2), topic("once", 2), topic("twice", 3)];
    let expected = [("twice", ErrorCode::InvalidRequest), ("once", ErrorCode::None)];
    assert_eq!(codes(&grow(&connection, wanted(), true).await), expected);
    let count = async |name: &str| metadata(&connection, &[name], false).await.topics[0].partitions.len();
    assert_eq!((count("twice").await, count("once").await), (1, 1), "only validated");
    assert_eq!(codes(&grow(&connection, wanted(), false).await), expected);
    assert_eq!((count("twice").await, count("once").await), (1, 2));
    assert!(grow(&connection, Vec::new(), false).await.is_empty());
    broker.stop().await;
}
