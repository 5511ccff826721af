//! Many topics, and topics of many partitions, at the size a test has time for.

use std::path::Path;

use ottla_client::Connection;
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::create_topics_response::CreatableTopicResult;
use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use ottla_protocol::messages::describe_topic_partitions_request::{Cursor, DescribeTopicPartitionsRequest};
use ottla_rt::memory::{MemoryWorld, PowerLoss};
use ottla_types::ErrorCode;

use crate::support::{batch, create_topic, fetch, metadata, produce, start, start_on, text, values};

fn sized(name: &str, partitions: i32) -> CreatableTopic {
    CreatableTopic { name: text(name), num_partitions: partitions, replication_factor: 1, ..Default::default() }
}

async fn create(
    connection: &Connection,
    topics: Vec<CreatableTopic>,
    validate_only: bool,
) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest { topics, timeout_ms: 60_000, validate_only };
    connection.send(&request).await.unwrap().topics
}

async fn delete(connection: &Connection, names: &[String]) -> Vec<ErrorCode> {
    let topics = names.iter().map(|name| DeleteTopicState { name: Some(text(name)), ..Default::default() }).collect();
    let request = DeleteTopicsRequest { topics, timeout_ms: 60_000, ..Default::default() };
    let responses = connection.send(&request).await.unwrap().responses;
    responses.iter().map(|topic| ErrorCode::from_code(topic.error_code).unwrap()).collect()
}

/// Every partition, page by page.
async fn count_partitions(connection: &Connection) -> usize {
    let (mut count, mut cursor) = (0, None);
    loop {
        let request = DescribeTopicPartitionsRequest { response_partition_limit: 300, cursor, ..Default::default() };
        let page = connection.send(&request).await.unwrap();
        count += page.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>();
        let Some(next) = page.next_cursor else { return count };
        cursor = Some(Cursor { topic_name: next.topic_name, partition_index: next.partition_index });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_made_in_a_loop_are_all_there_and_all_go_at_once() {
    let machine = MemoryWorld::new(5);
    let broker = start_on(machine.world(), Path::new("/data"), &[]).await;
    let connection = broker.connect().await;
    let names: Vec<String> = (0..200).map(|number| format!("topic-{number}")).collect();
    for name in &names {
        create_topic(&connection, name, 1, &[]).await;
    }
    broker.stop().await;

    let broker = start_on(machine.world(), Path::new("/data"), &[]).await;
    let connection = broker.connect().await;
    assert_eq!(count_partitions(&connection).await, 200);
    for name in names.iter().step_by(50) {
        assert_eq!(produce(&connection, name, 0, -1, batch(&["a"])).await.base_offset, 0);
    }
    assert_eq!(delete(&connection, &names).await, vec![ErrorCode::None; 200]);
    assert_eq!(count_partitions(&connection).await, 0);
    assert_eq!(delete(&connection, &names).await, vec![ErrorCode::UnknownTopicOrPartition; 200]);
    create_topic(&connection, &names[0], 1, &[]).await;
    assert!(values_of(&connection, &names[0]).await.is_empty(), "it begins anew");
    broker.stop().await;
}

async fn values_of(connection: &Connection, topic: &str) -> Vec<String> {
    values(&fetch(connection, topic, 0, 0, 0).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_many_partitions_survives_a_kill() {
    let machine = MemoryWorld::new(6);
    let broker = start_on(machine.world(), Path::new("/data"), &[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "wide", 300, &[]).await;
    for partition in [0, 99, 299] {
        assert_eq!(produce(&connection, "wide", partition, -1, batch(&["a"])).await.error_code, 0);
    }
    machine.disk.kill();

    let broker = start_on(machine.world(), Path::new("/data"), &[]).await;
    let connection = broker.connect().await;
    assert_eq!(count_partitions(&connection).await, 300);
    for partition in [0, 99, 299] {
        assert_eq!(values(&fetch(&connection, "wide", partition, 0, 0).await), ["a"]);
    }
    // One that was empty before the kill.
    assert_eq!(produce(&connection, "wide", 150, -1, batch(&["b"])).await.base_offset, 0);
    broker.stop().await;

    let broker = start_on(machine.world(), Path::new("/data"), &[]).await;
    let connection = broker.connect().await;
    assert_eq!(values(&fetch(&connection, "wide", 150, 0, 0).await), ["b"]);
    assert_eq!(delete(&connection, &["wide".to_owned()]).await, [ErrorCode::None]);
    broker.stop().await;
}

/// Empty partitions are not made durable; the metadata knows them.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_many_partitions_survives_a_power_loss() {
    let machine = MemoryWorld::new(7);
    let broker = start_on(machine.world(), Path::new("/data"), &[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "wide", 300, &[]).await;
    for partition in [0, 99, 299] {
        assert_eq!(produce(&connection, "wide", partition, -1, batch(&["a"])).await.error_code, 0);
    }
    machine.disk.lose_power(PowerLoss::LoseUnsynced);

    let broker = start_on(machine.world(), Path::new("/data"), &[]).await;
    let connection = broker.connect().await;
    assert_eq!(count_partitions(&connection).await, 300);
    for partition in [0, 99, 299] {
        assert_eq!(values(&fetch(&connection, "wide", partition, 0, 0).await), ["a"]);
    }
    assert_eq!(produce(&connection, "wide", 150, -1, batch(&["b"])).await.base_offset, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_at_once_is_refused_and_nothing_is_made() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    let many = |count: i32| (0..count).map(|number| sized(&format!("t{number}"), 1)).collect();
    for topics in [
        many(10_001),
        vec![sized("t0", i32::MAX)],
        vec![sized("t0", 10_001)],
        // With the topic's own it would be a record more than one decision may have, as in Kafka.
        vec![sized("t0", 10_000)],
        vec![sized("t0", 9_000), sized("t1", 1_001)],
    ] {
        let asked = topics.len();
        let results = create(&connection, topics, false).await;
        assert_eq!(results.len(), asked);
        assert!(results.iter().all(|topic| topic.error_code == ErrorCode::PolicyViolation.code()));
    }
    assert_eq!(count_partitions(&connection).await, 0);
    // A client's question makes topics too, and no more at once.
    let names: Vec<String> = (0..10_001).map(|number| format!("asked-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let answer = metadata(&connection, &names, true).await;
    assert!(answer.topics.iter().all(|topic| topic.error_code == ErrorCode::UnknownTopicOrPartition.code()));
    assert_eq!(count_partitions(&connection).await, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_assignments_and_settings_are_checked_before_anything_is_made() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "has.dot", 1, &[]).await;
    let longest = "n".repeat(249);
    let too_long = "n".repeat(250);
    let assigned = |partitions: &[(i32, &[i32])]| CreatableTopic {
        num_partitions: -1,
        replication_factor: -1,
        assignments: partitions
            .iter()
            .map(|(partition_index, nodes)| CreatableReplicaAssignment {
                partition_index: *partition_index,
                broker_ids: nodes.to_vec(),
            })
            .collect(),
        ..sized("t", -1)
    };
    let set = |key: &str, value: Option<&str>| CreatableTopic {
        configs: vec![CreatableTopicConfig { name: text(key), value: value.map(text) }],
        ..sized("t", 1)
    };
    let replicated = |replication_factor| CreatableTopic { replication_factor, ..sized("t", 1) };
    for (topic, expected) in [
        (sized(&longest, 1), ErrorCode::None),
        (sized(&too_long, 1), ErrorCode::InvalidTopicException),
        (sized(".", 1), ErrorCode::InvalidTopicException),
        (sized("..", 1), ErrorCode::InvalidTopicException),
        (sized("", 1), ErrorCode::InvalidTopicException),
        (sized("nul\0", 1), ErrorCode::InvalidTopicException),
        (sized("has_dot", 1), ErrorCode::InvalidTopicException),
        (sized("__cluster_metadata", 1), ErrorCode::InvalidRequest),
        (sized("t", -2), ErrorCode::InvalidPartitions),
        (sized("t", i32::MIN), ErrorCode::InvalidPartitions),
        (replicated(0), ErrorCode::InvalidReplicationFactor),
        (replicated(2), ErrorCode::InvalidReplicationFactor),
        (replicated(i16::MIN), ErrorCode::InvalidReplicationFactor),
        (assigned(&[(0, &[1]), (1, &[1])]), ErrorCode::None),
        (assigned(&[(0, &[1]), (0, &[1])]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[(1, &[1])]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[(-1, &[1])]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[(0, &[])]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[(0, &[2])]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[(0, &[1, 1])]), ErrorCode::InvalidReplicaAssignment),
        (CreatableTopic { num_partitions: 1, ..assigned(&[(0, &[1])]) }, ErrorCode::InvalidRequest),
        (set("retention.ms", Some("60000")), ErrorCode::None),
        (set("retention.ms", Some("soon")), ErrorCode::InvalidConfig),
        (set("retention.ms", None), ErrorCode::InvalidConfig),
        (set("no.such.key", Some("1")), ErrorCode::InvalidConfig),
    ] {
        let results = create(&connection, vec![topic.clone()], true).await;
        let result = &results[0];
        assert_eq!(ErrorCode::from_code(result.error_code), Some(expected), "{topic:?}: {result:?}");
        assert_eq!(result.topic_config_error_code, 0);
        // What it would have is told: every setting, and where it comes from.
        let told = result.configs.as_deref().unwrap_or_default();
        assert_eq!(told.is_empty(), expected.is_error(), "{topic:?}");
        if let Some(own) = told.iter().find(|config| config.config_source == 1) {
            assert_eq!((&*own.name, own.value.as_deref()), ("retention.ms", Some("60000")));
        }
    }
    assert_eq!(count_partitions(&connection).await, 1, "only validated");
    broker.stop().await;
}
