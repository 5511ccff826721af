//! Metadata, topics and configurations.

use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use ottla_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::metadata_request::MetadataRequest;
use ottla_types::{ErrorCode, Uuid};

use crate::support::{self, batch, create_topic, metadata, produce, start, start_with, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_made_and_can_be_used_at_once() {
    let (_directory, broker) = start_with(&[("num.partitions", "3")]).await;
    let connection = broker.connect().await;
    let response = metadata(&connection, &["fresh"], false).await;
    assert_eq!(response.topics[0].error_code, ErrorCode::UnknownTopicOrPartition.code());
    let response = metadata(&connection, &["fresh"], true).await;
    let topic = &response.topics[0];
    assert_eq!((topic.error_code, topic.partitions.len()), (0, 3));
    assert_eq!(topic.partitions[2].leader_id, response.brokers[0].node_id);
    assert_eq!(response.brokers[0].port, i32::from(broker.port));
    assert_eq!(produce(&connection, "fresh", 2, -1, batch(&["a"])).await.error_code, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_topic_is_made_where_that_is_switched_off() {
    let (_directory, broker) = start_with(&[("auto.create.topics.enable", "false")]).await;
    let connection = broker.connect().await;
    let response = metadata(&connection, &["fresh", "not/legal"], true).await;
    let codes: Vec<_> = response.topics.iter().map(|topic| ErrorCode::from_code(topic.error_code).unwrap()).collect();
    assert_eq!(codes, [ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidTopicException]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn version_0_lists_all_topics_by_an_empty_list_and_later_ones_by_null() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "b", 1, &[]).await;
    create_topic(&connection, "a", 1, &[]).await;
    let empty = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    let all = MetadataRequest { topics: None, ..Default::default() };
    for (request, version, expected) in [(&empty, 0, 2), (&empty, 1, 0), (&all, 1, 2), (&all, 13, 2)] {
        let response = connection.send_as(request, version, support::TIMEOUT).await.unwrap();
        assert_eq!(response.topics.len(), expected, "version {version}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_deleted_by_name_and_by_id() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "a", 1, &[]).await;
    let id = create_topic(&connection, "b", 1, &[]).await;
    let state = |name: Option<&str>, topic_id| DeleteTopicState { name: name.map(text), topic_id };
    let request = DeleteTopicsRequest {
        topics: vec![
            state(Some("a"), Uuid::ZERO),
            state(None, id),
            state(Some("c"), Uuid::ZERO),
            state(None, Uuid([9; 16])),
        ],
        timeout_ms: 5000,
        ..Default::default()
    };
    let response = connection.send(&request).await.unwrap();
    let mut codes: Vec<_> = response.responses.iter().map(|topic| topic.error_code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 0, ErrorCode::UnknownTopicOrPartition.code(), ErrorCode::UnknownTopicId.code()]);
    let after = metadata(&connection, &["a", "b"], false).await;
    assert!(after.topics.iter().all(|topic| topic.error_code == ErrorCode::UnknownTopicOrPartition.code()));
    let again = create_topic(&connection, "b", 1, &[]).await;
    assert_ne!(again, id, "an id is never used again");
    assert_eq!(produce(&connection, "b", 0, -1, batch(&["a"])).await.base_offset, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_topics_are_refused_with_kafkas_codes() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "exists", 1, &[]).await;
    for (name, partitions, replicas, expected) in [
        ("exists", 1, 1, ErrorCode::TopicAlreadyExists),
        ("not/legal", 1, 1, ErrorCode::InvalidTopicException),
        ("", 1, 1, ErrorCode::InvalidTopicException),
        ("none", 0, 1, ErrorCode::InvalidPartitions),
        ("many", 1, 3, ErrorCode::InvalidReplicationFactor),
    ] {
        let topic = CreatableTopic {
            name: text(name),
            num_partitions: partitions,
            replication_factor: replicas,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, validate_only: false };
        let response = connection.send(&request).await.unwrap();
        assert_eq!(ErrorCode::from_code(response.topics[0].error_code), Some(expected), "{:?}", response.topics[0]);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_say_where_they_come_from() {
    let (_directory, broker) = start_with(&[("log.retention.ms", "1000000")]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[("segment.bytes", "2000000")]).await;
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: text("t"),
            configuration_keys: Some(vec![text("segment.bytes"), text("retention.ms"), text("max.message.bytes")]),
        }],
        include_synonyms: true,
        include_documentation: true,
    };
    let response = connection.send(&request).await.unwrap();
    let found: Vec<_> = response.results[0]
        .configs
        .iter()
        .map(|config| (config.name.to_string(), config.value.clone().unwrap().to_string(), config.config_source))
        .collect();
    assert_eq!(
        found,
        [
            ("max.message.bytes".to_owned(), "1048588".to_owned(), 5),
            ("retention.ms".to_owned(), "1000000".to_owned(), 4),
            ("segment.bytes".to_owned(), "2000000".to_owned(), 1),
        ]
    );
    let cluster = connection.send(&DescribeClusterRequest::default()).await.unwrap();
    assert_eq!((cluster.error_code, cluster.brokers.len(), cluster.cluster_id.len()), (0, 1, 22));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_named_twice_is_made_once() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    let made = metadata(&connection, &["twice", "twice"], true).await;
    assert!(!made.topics.is_empty() && made.topics.iter().all(|topic| topic.error_code == 0), "{:?}", made.topics);
    broker.stop().await;
}
