//! CreatePartitions.

use ottla_controller::{
    CreatePartitions, CreatePartitionsError, CreatePartitionsRequestError, CreateTopics, GrownTopic, NewTopic,
    RegisterBroker, create_partitions, register_broker,
};
use ottla_image::MetadataImage;
use ottla_types::{ErrorCode, NodeId};

use crate::support::{cluster, commit, create, registration, topic};

/// Brokers 1, 2 and 3, the last one fenced, with topic `t` of two partitions and two replicas.
fn image() -> MetadataImage {
    let mut image = cluster(&[1, 2]);
    let fenced = register_broker(&image, &RegisterBroker { fenced: true, ..registration(3, 1) });
    commit(&mut image, fenced).unwrap();
    let new = NewTopic { partitions: 2, replication_factor: 2, ..topic("t") };
    create(&mut image, &CreateTopics { topics: vec![new], validate_only: false }).remove(0).1.unwrap();
    image
}

fn grown(count: i32, assignments: Option<&[&[i32]]>) -> GrownTopic {
    let nodes = |replicas: &&[i32]| replicas.iter().copied().map(NodeId).collect();
    GrownTopic { name: "t".into(), count, assignments: assignments.map(|all| all.iter().map(nodes).collect()) }
}

/// Lets `t` grow; its partitions afterwards.
fn check(count: i32, assignments: Option<&[&[i32]]>, expected: Result<usize, (ErrorCode, &str)>) {
    let mut image = image();
    let request = CreatePartitions { topics: vec![grown(count, assignments)], validate_only: false };
    let outcome = create_partitions(&image, &request, 5).unwrap();
    let result = commit(&mut image, outcome).remove(0).1;
    let topic = image.topic_by_name("t").unwrap();
    match (result, expected) {
        (Ok(()), Ok(partitions)) => {
            assert_eq!(topic.partition_count(), partitions);
            for (_, registration) in topic.partitions() {
                assert_eq!(registration.replicas.len(), 2);
                assert_eq!(registration.leader, registration.isr.first().copied());
                assert!(!registration.isr.contains(&NodeId(3)), "a fenced broker is not in sync");
            }
        }
        (Err(error), Err((code, message))) => {
            assert_eq!((error.error_code(), error.to_string().as_str()), (code, message));
            assert_eq!(topic.partition_count(), 2);
        }
        (result, expected) => panic!("{count} {assignments:?}: {result:?}, not {expected:?}"),
    }
}

#[test]
fn topics_grow_by_placement_and_by_assignment() {
    check(5, None, Ok(5));
    check(3, Some(&[&[2, 1]]), Ok(3));
    check(4, Some(&[&[1, 3], &[3, 2]]), Ok(4));
    let invalid = ErrorCode::InvalidReplicaAssignment;
    check(
        3,
        Some(&[&[1]]),
        Err((
            invalid,
            "The manual partition assignment includes a partition with 1 replica(s), but this is not consistent with \
             previous partitions, which have 2 replica(s).",
        )),
    );
    check(
        3,
        Some(&[&[3, 4]]),
        Err((invalid, "The manual partition assignment includes broker 4, but no such broker is registered.")),
    );
    check(
        4,
        Some(&[&[1, 2], &[2, 2]]),
        Err((invalid, "The manual partition assignment includes the broker 2 more than once.")),
    );
    check(2, Some(&[]), Err((ErrorCode::InvalidPartitions, "Topic already has 2 partition(s).")));
}

#[test]
fn a_partition_of_fenced_brokers_only_is_refused() {
    let mut image = cluster(&[1]);
    create(&mut image, &CreateTopics { topics: vec![topic("t")], validate_only: false }).remove(0).1.unwrap();
    let fenced = register_broker(&image, &RegisterBroker { fenced: true, ..registration(3, 1) });
    commit(&mut image, fenced).unwrap();
    let request = CreatePartitions { topics: vec![grown(3, Some(&[&[3]]))], validate_only: false };
    let outcome = create_partitions(&image, &request, 0).unwrap();
    assert!(outcome.records.is_empty());
    let error = outcome.response[0].1.clone().unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::InvalidReplicaAssignment);
    assert!(error.to_string().contains("for partition 2 are fenced"), "{error}");
}

#[test]
fn a_request_is_bounded_as_a_whole() {
    let mut image = image();
    create(&mut image, &CreateTopics { topics: vec![topic("u")], validate_only: false }).remove(0).1.unwrap();
    let second = |count| GrownTopic { name: "u".into(), count, assignments: None };
    for (count, allowed) in [(5_002, true), (5_003, false), (i32::MAX, false)] {
        let topics = vec![grown(5_002, None), second(count)];
        let decided = create_partitions(&image, &CreatePartitions { topics, validate_only: false }, 0);
        match decided {
            Ok(outcome) => assert!(allowed && outcome.records.len() == 10_000),
            Err(error) => assert!(!allowed && error == CreatePartitionsRequestError::TooManyPartitions),
        }
    }
}

#[test]
fn validation_alone_changes_nothing() {
    let image = image();
    let topics = vec![grown(9, None), GrownTopic { name: "nobody".into(), count: 1, assignments: None }];
    let outcome = create_partitions(&image, &CreatePartitions { topics, validate_only: true }, 0).unwrap();
    assert!(outcome.records.is_empty());
    let results: Vec<_> = outcome.response.into_iter().map(|(_, result)| result).collect();
    assert_eq!(results, [Ok(()), Err(CreatePartitionsError::UnknownTopic)]);
}
