//! CreateTopics.

use ottla_controller::{
    CreateTopics, CreateTopicsError, CreateTopicsRequestError, NewTopic, RegisterBroker, create_topics, register_broker,
};
use ottla_image::{ConfigResource, MetadataImage};
use ottla_types::{ErrorCode, NodeId, Uuid};

use crate::support::{DEFAULTS, Rules, cluster, commit, create, registration, topic, with_topics};

type Assignments = &'static [(i32, &'static [i32])];

/// Creates this topic among brokers 1 and 2 (3 is fenced), where `old.one` exists.
fn check(new: NewTopic, expected: Result<(i32, i16), (ErrorCode, &str)>) {
    let mut image = with_topics(cluster(&[1, 2]), &["old.one", "plain"]);
    let fenced = register_broker(&image, &RegisterBroker { fenced: true, ..registration(3, 1) });
    commit(&mut image, fenced).unwrap();
    let before = image.clone();
    let name = new.name.clone();
    let mut results = create(&mut image, &CreateTopics { topics: vec![new], validate_only: false });
    assert_eq!(results.len(), 1);
    let (answered, result) = results.remove(0);
    assert_eq!(answered, name);
    match (result, expected) {
        (Ok(created), Ok((partitions, replication_factor))) => {
            assert_eq!((created.partitions, created.replication_factor), (partitions, replication_factor));
            let topic = image.topic_by_name(&name).unwrap();
            assert_eq!(topic.topic_id, created.topic_id);
            assert_eq!(topic.partition_count() as i32, partitions);
            for (_, registration) in topic.partitions() {
                assert_eq!(registration.replicas.len() as i16, replication_factor);
                assert_eq!(registration.leader, registration.isr.first().copied());
                assert!(!registration.isr.contains(&NodeId(3)), "a fenced broker is not in sync");
            }
        }
        (Err(error), Err((code, message))) => {
            assert_eq!((error.error_code(), error.to_string().as_str()), (code, message));
            assert_eq!(image, before);
        }
        (result, expected) => panic!("{name}: {result:?}, not {expected:?}"),
    }
}

fn sized(partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic { partitions, replication_factor, ..topic("t") }
}

fn assigned(assignments: &[(i32, &[i32])]) -> NewTopic {
    let nodes = |replicas: &[i32]| replicas.iter().copied().map(NodeId).collect();
    let assignments = assignments.iter().map(|(partition, replicas)| (*partition, nodes(replicas))).collect();
    NewTopic { assignments, ..topic("t") }
}

fn configured(configs: &[(&str, Option<&str>)]) -> NewTopic {
    let configs = configs.iter().map(|(key, value)| ((*key).into(), value.map(Into::into))).collect();
    NewTopic { configs, ..topic("t") }
}

#[test]
fn names() {
    use ErrorCode::{InvalidRequest, InvalidTopicException, TopicAlreadyExists};

    check(topic("t"), Ok((2, 1)));
    check(topic("plain"), Err((TopicAlreadyExists, "Topic 'plain' already exists.")));
    check(topic("old.one"), Err((TopicAlreadyExists, "Topic 'old.one' already exists.")));
    check(topic("old_one"), Err((InvalidTopicException, "Topic 'old_one' collides with existing topic: old.one")));
    check(topic(""), Err((InvalidTopicException, "Topic name is invalid: the empty string is not allowed")));
    check(topic(".."), Err((InvalidTopicException, "Topic name is invalid: '..' is not allowed")));
    check(
        topic("a b"),
        Err((
            InvalidTopicException,
            "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
        )),
    );
    check(
        topic("__cluster_metadata"),
        Err((InvalidRequest, "Creation of internal topic __cluster_metadata is prohibited.")),
    );
}

#[test]
fn sizes() {
    use ErrorCode::{InvalidPartitions, InvalidReplicationFactor};

    check(sized(-1, -1), Ok((2, 1)));
    check(sized(7, 2), Ok((7, 2)));
    check(sized(1, 3), Ok((1, 3)));
    let partitions = "Number of partitions was set to an invalid non-positive value.";
    check(sized(0, 1), Err((InvalidPartitions, partitions)));
    check(sized(-2, 1), Err((InvalidPartitions, partitions)));
    let factor = "Replication factor must be larger than 0, or -1 to use the default value.";
    check(sized(1, 0), Err((InvalidReplicationFactor, factor)));
    check(sized(1, -2), Err((InvalidReplicationFactor, factor)));
    check(
        sized(1, 4),
        Err((
            InvalidReplicationFactor,
            "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be reached because \
             only 3 broker(s) are registered or some brokers have all their log directories cordoned.",
        )),
    );
}

#[test]
fn assignments() {
    use ErrorCode::{InvalidReplicaAssignment, InvalidRequest};

    check(assigned(&[(0, &[2, 1]), (1, &[1, 2])]), Ok((2, 2)));
    check(assigned(&[(1, &[3, 1]), (0, &[1, 3])]), Ok((2, 2)));
    let cases: [(Assignments, &str); 7] = [
        (&[(0, &[1]), (0, &[2])], "Found multiple manual partition assignments for partition 0"),
        (&[(0, &[1]), (2, &[2])], "partitions should be a consecutive 0-based integer sequence"),
        (&[(0, &[])], "The manual partition assignment includes an empty replica list."),
        (&[(0, &[9])], "The manual partition assignment includes broker 9, but no such broker is registered."),
        (&[(0, &[1, 1])], "The manual partition assignment includes the broker 1 more than once."),
        (
            &[(0, &[1]), (1, &[1, 2])],
            "The manual partition assignment includes a partition with 2 replica(s), but this is not consistent with \
             previous partitions, which have 1 replica(s).",
        ),
        (
            &[(0, &[3])],
            "All brokers specified in the manual partition assignment for partition 0 are fenced or in controlled \
             shutdown.",
        ),
    ];
    for (assignments, message) in cases {
        check(assigned(assignments), Err((InvalidReplicaAssignment, message)));
    }
    check(
        NewTopic { partitions: 1, ..assigned(&[(0, &[1])]) },
        Err((InvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1.")),
    );
    check(
        NewTopic { replication_factor: 1, ..assigned(&[(0, &[1])]) },
        Err((InvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1.")),
    );
}

#[test]
fn configs() {
    use ErrorCode::InvalidConfig;

    check(configured(&[("retention.ms", Some("5"))]), Ok((2, 1)));
    check(configured(&[("retention.ms", Some("soon"))]), Err((InvalidConfig, "bad retention.ms=soon")));
    check(
        configured(&[("a", None), ("retention.ms", Some("5")), ("b", None)]),
        Err((InvalidConfig, "Null value not supported for topic configs: a,b")),
    );

    let mut image = cluster(&[1]);
    let topics = vec![configured(&[("retention.ms", Some("5"))])];
    let results = create(&mut image, &CreateTopics { topics, validate_only: false });
    let set = image.configs(&ConfigResource::topic("t")).unwrap();
    assert_eq!(**set, results[0].1.as_ref().unwrap().configs);
    assert_eq!(set.get("retention.ms").map(|value| &**value), Some("5"));
}

#[test]
fn one_request_many_topics() {
    let mut image = with_topics(cluster(&[1]), &["there"]);
    let topics = ["a", "twice", "there", "b", "twice"].map(topic).to_vec();
    let results = create(&mut image, &CreateTopics { topics, validate_only: false });
    let codes: Vec<_> = results
        .iter()
        .map(|(name, result)| {
            (&**name, result.as_ref().map_or_else(CreateTopicsError::error_code, |_| ErrorCode::None))
        })
        .collect();
    assert_eq!(
        codes,
        [
            ("a", ErrorCode::None),
            ("twice", ErrorCode::InvalidRequest),
            ("there", ErrorCode::TopicAlreadyExists),
            ("b", ErrorCode::None)
        ]
    );
    assert!(image.topic_by_name("twice").is_none());
    assert_eq!(image.topic_count(), 3);
}

#[test]
fn any_number_of_wrong_topics_is_answered_in_time() {
    // Without partitions they count as nothing, so no limit keeps them out: each pair is refused once, by a look-up.
    let names = (0..100_000).map(|number| format!("topic-{}", number / 2));
    let topics = names.map(|name| NewTopic { partitions: 0, ..topic(&name) }).collect();
    let results = create(&mut cluster(&[1]), &CreateTopics { topics, validate_only: false });
    assert_eq!(results.len(), 50_000);
    assert!(results.iter().all(|(_, result)| *result == Err(CreateTopicsError::Duplicate)));
}

#[test]
fn validating_changes_nothing() {
    let mut image = cluster(&[1]);
    let before = image.clone();
    let results = create(&mut image, &CreateTopics { topics: vec![topic("a"), topic("..")], validate_only: true });
    assert!(results[0].1.is_ok());
    assert!(results[1].1.is_err());
    assert_eq!(image, before);
}

#[test]
fn too_much_at_once_is_refused_as_a_whole() {
    let decide = |image: &MetadataImage, topics: Vec<NewTopic>| {
        let mut next = || Uuid([9; 16]);
        let request = CreateTopics { topics, validate_only: false };
        create_topics(image, &request, DEFAULTS, &Rules, &mut next, 0)
    };
    let image = cluster(&[1]);
    assert_eq!(
        decide(&image, vec![sized(9_000, 1), sized(1_001, 1)]),
        Err(CreateTopicsRequestError::TooManyPartitions)
    );
    assert_eq!(decide(&image, vec![sized(i32::MAX, 1)]), Err(CreateTopicsRequestError::TooManyPartitions));
    // The topic itself takes a record too.
    assert_eq!(decide(&image, vec![sized(10_000, 1)]), Err(CreateTopicsRequestError::TooManyRecords));
    assert_eq!(decide(&image, vec![sized(9_999, 1)]).unwrap().records.len(), 10_000);
}

#[test]
fn without_a_broker_that_serves_nothing_is_created() {
    let mut image = cluster(&[]);
    let outcome = register_broker(&image, &RegisterBroker { fenced: true, ..registration(1, 1) });
    commit(&mut image, outcome).unwrap();
    let results = create(&mut image, &CreateTopics { topics: vec![topic("t")], validate_only: false });
    let error = results[0].1.as_ref().unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::InvalidReplicationFactor);
    assert_eq!(
        error.to_string(),
        "Unable to replicate the partition 1 time(s): All brokers are currently fenced, or have all their log \
         directories cordoned."
    );
}

#[test]
fn a_single_directory_is_assigned_and_several_are_not() {
    let mut image = cluster(&[1]);
    let two = RegisterBroker { log_dirs: vec![Uuid([1; 16]), Uuid([2; 16])], ..registration(2, 1) };
    let outcome = register_broker(&image, &two);
    commit(&mut image, outcome).unwrap();
    create(&mut image, &CreateTopics { topics: vec![assigned(&[(0, &[1, 2])])], validate_only: false });
    let partition = image.partition("t", 0).unwrap();
    assert_eq!(partition.directories, [registration(1, 1).log_dirs[0], Uuid::ZERO]);
}
