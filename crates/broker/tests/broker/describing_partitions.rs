//! DescribeTopicPartitions, and DescribeCluster.

use ottla_client::Connection;
use ottla_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use ottla_protocol::messages::describe_topic_partitions_request::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use ottla_protocol::messages::describe_topic_partitions_response::{
    DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
};
use ottla_types::ErrorCode;

use crate::support::{create_topic, start, start_with, text};

async fn describe(
    connection: &Connection,
    topics: &[&str],
    limit: i32,
    cursor: Option<(&str, i32)>,
) -> DescribeTopicPartitionsResponse {
    let cursor = cursor.map(|(topic, partition_index)| Cursor { topic_name: text(topic), partition_index });
    let topics = topics.iter().map(|name| TopicRequest { name: text(name) }).collect();
    let request = DescribeTopicPartitionsRequest { topics, response_partition_limit: limit, cursor };
    connection.send(&request).await.unwrap()
}

/// Topics with their partitions, and where to go on.
type Told = (Vec<(String, Vec<i32>)>, Option<(String, i32)>);

fn told(response: &DescribeTopicPartitionsResponse) -> Told {
    let numbers = |partitions: &[DescribeTopicPartitionsResponsePartition]| -> Vec<i32> {
        partitions.iter().map(|partition| partition.partition_index).collect()
    };
    let topics = response.topics.iter();
    let topics = topics.map(|topic| (topic.name.as_ref().unwrap().to_string(), numbers(&topic.partitions))).collect();
    let cursor = response.next_cursor.as_ref();
    (topics, cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index)))
}

fn expected(topics: &[(&str, &[i32])], cursor: Option<(&str, i32)>) -> Told {
    let topics = topics.iter().map(|(name, partitions)| ((*name).to_owned(), partitions.to_vec())).collect();
    (topics, cursor.map(|(name, partition)| (name.to_owned(), partition)))
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_stop_at_the_limit_and_go_on_at_the_cursor() {
    let (_directory, broker) = start_with(&[("max.request.partition.size.limit", "4")]).await;
    let connection = broker.connect().await;
    for (name, partitions) in [("b", 3), ("c", 1), ("a", 2)] {
        create_topic(&connection, name, partitions, &[]).await;
    }
    for (topics, limit, cursor, answer) in [
        (&[][..], 3, None, expected(&[("a", &[0, 1]), ("b", &[0])], Some(("b", 1)))),
        (&[], 3, Some(("b", 1)), expected(&[("b", &[1, 2]), ("c", &[0])], None)),
        // The limit falls between two topics: the next one is named, with its first partition.
        (&[], 2, None, expected(&[("a", &[0, 1])], Some(("b", 0)))),
        // A limit of the broker's; and one that makes no sense.
        (&[], i32::MAX, None, expected(&[("a", &[0, 1]), ("b", &[0, 1])], Some(("b", 2)))),
        (&[], 0, None, expected(&[("a", &[0])], Some(("a", 1)))),
        (&[], i32::MIN, None, expected(&[("a", &[0])], Some(("a", 1)))),
        // Cursors past the end of a topic, of a topic that went, of all topics.
        (&[], 4, Some(("b", i32::MAX)), expected(&[("b", &[]), ("c", &[0])], None)),
        (&[], 4, Some(("bb", 2)), expected(&[("c", &[0])], None)),
        (&[], 4, Some(("z", 0)), expected(&[], None)),
        // Named topics come sorted, each once, from the cursor on.
        (&["c", "a", "c"], 4, None, expected(&[("a", &[0, 1]), ("c", &[0])], None)),
        (&["c", "a"], 4, Some(("c", 0)), expected(&[("c", &[0])], None)),
        (&["nobody", "a"], 4, None, expected(&[("a", &[0, 1]), ("nobody", &[])], None)),
    ] {
        let response = describe(&connection, topics, limit, cursor).await;
        assert_eq!(told(&response), answer, "{topics:?} {limit} {cursor:?}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_cursors_and_names_are_refused_with_kafkas_codes() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "a", 1, &[]).await;
    for (topics, cursor, codes) in [
        (
            &["a", "nobody", "b c"][..],
            None,
            &[ErrorCode::None, ErrorCode::InvalidTopicException, ErrorCode::UnknownTopicOrPartition][..],
        ),
        (&["a"], Some(("z", 0)), &[ErrorCode::InvalidRequest]),
        (&["a"], Some(("a", -1)), &[ErrorCode::InvalidRequest]),
        (&[], Some(("a", -1)), &[]),
    ] {
        let response = describe(&connection, topics, 10, cursor).await;
        let found: Vec<_> =
            response.topics.iter().map(|topic| ErrorCode::from_code(topic.error_code).unwrap()).collect();
        assert_eq!(found, codes, "{topics:?} {cursor:?}");
    }
    let response = describe(&connection, &["a"], 10, None).await;
    let topic = &response.topics[0];
    assert!(!topic.topic_id.is_zero() && topic.topic_authorized_operations > 0 && !topic.is_internal);
    let partition = &topic.partitions[0];
    assert_eq!((partition.leader_id, partition.leader_epoch, partition.error_code), (1, 0, 0));
    assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![1], &vec![1]));
    assert_eq!(partition.eligible_leader_replicas, Some(Vec::new()));
    assert_eq!(partition.last_known_elr, Some(Vec::new()));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_described_to_those_who_ask_a_broker() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    for (endpoint_type, include_fenced_brokers, expected) in [
        (1, false, ErrorCode::None),
        (1, true, ErrorCode::None),
        (2, false, ErrorCode::MismatchedEndpointType),
        (0, false, ErrorCode::UnsupportedEndpointType),
        (-1, true, ErrorCode::UnsupportedEndpointType),
    ] {
        let request = DescribeClusterRequest { endpoint_type, include_fenced_brokers, ..Default::default() };
        let answer = connection.send(&request).await.unwrap();
        assert_eq!(ErrorCode::from_code(answer.error_code), Some(expected));
        assert_eq!(answer.error_message.is_some(), expected.is_error());
        let brokers: Vec<_> = answer.brokers.iter().map(|node| (node.broker_id, node.is_fenced)).collect();
        assert_eq!(brokers, if expected.is_error() { vec![] } else { vec![(1, false)] });
    }
    broker.stop().await;
}
