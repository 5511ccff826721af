//! What each API asks of an authorizer, and what a client is told that may not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_broker::{Authorizer, Client, Operation, Resource};
use ottla_client::Connection;
use ottla_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use ottla_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use ottla_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use ottla_protocol::messages::describe_producers_request::{DescribeProducersRequest, TopicRequest};
use ottla_protocol::messages::describe_topic_partitions_request::{
    DescribeTopicPartitionsRequest, TopicRequest as DescribedTopic,
};
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::heartbeat_request::HeartbeatRequest;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, IncrementalAlterConfigsRequest,
};
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::join_group_request::JoinGroupRequest;
use ottla_protocol::messages::leave_group_request::LeaveGroupRequest;
use ottla_protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use ottla_protocol::messages::list_groups_request::ListGroupsRequest;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::sync_group_request::SyncGroupRequest;
use ottla_protocol::{ErrorCodes, RequestMessage};
use ottla_types::ErrorCode;
use parking_lot::Mutex;

use crate::support::{TIMEOUT, batch, create_topic, fetch_request, metadata, produce_request, start_authorized, text};

type Asked = (Operation, String);

/// Allows everything until it is told to deny everything; remembers what it was asked.
#[derive(Default)]
struct Recorder {
    denies: AtomicBool,
    asked: Mutex<Vec<Asked>>,
}

impl Recorder {
    fn note(&self, operation: Operation, what: String) -> bool {
        let mut asked = self.asked.lock();
        if !asked.contains(&(operation, what.clone())) {
            asked.push((operation, what));
        }
        !self.denies.load(Ordering::Relaxed)
    }
}

fn shown(resource: Resource<'_>) -> String {
    match resource {
        Resource::Topic(name) => format!("topic {name}"),
        Resource::Group(name) => format!("group {name}"),
        Resource::TransactionalId(name) => format!("transactional id {name}"),
        Resource::Cluster => "cluster".to_owned(),
    }
}

impl Authorizer for Recorder {
    fn allows(&self, client: &Client<'_>, operation: Operation, resource: Resource<'_>) -> bool {
        assert_eq!((client.principal, client.listener), ("User:ANONYMOUS", "PLAINTEXT"));
        assert!(client.host.is_loopback());
        self.note(operation, shown(resource))
    }

    fn allows_any_topic(&self, _client: &Client<'_>, operation: Operation) -> bool {
        self.note(operation, "any topic".to_owned())
    }
}

/// Sends a request; the errors of its response, each once, and what was asked about it.
async fn refused<R: RequestMessage>(
    connection: &Connection,
    recorder: &Recorder,
    request: R,
    version: i16,
) -> (Vec<ErrorCode>, Vec<Asked>) {
    recorder.asked.lock().clear();
    let response = connection.send_at_most(&request, version, TIMEOUT).await.unwrap();
    let mut errors = Vec::new();
    response.error_codes(&mut |code| {
        let code = ErrorCode::from_code(code).unwrap();
        if code.is_error() && !errors.contains(&code) {
            errors.push(code);
        }
    });
    (errors, std::mem::take(&mut recorder.asked.lock()))
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "a table of every API")]
async fn every_api_asks_as_kafka_does_and_answers_with_kafkas_code() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::default());
    let broker = start_authorized(directory.path(), Arc::clone(&recorder) as Arc<dyn Authorizer>).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    recorder.denies.store(true, Ordering::Relaxed);

    macro_rules! check {
        ($request:expr, $version:expr, [$($error:ident),*], [$(($operation:ident, $what:expr)),*]) => {
            let request = $request;
            let shown = format!("{request:?}");
            let (errors, asked) = refused(&connection, &recorder, request, $version).await;
            assert_eq!(errors, [$(ErrorCode::$error),*] as [ErrorCode; _], "{shown}");
            assert_eq!(asked, [$((Operation::$operation, $what.to_owned())),*], "{shown}");
        };
    }
    let newest = i16::MAX;
    check!(produce_request("t", 0, 1, Some(batch(&["a"]))), 12, [TopicAuthorizationFailed], [(Write, "topic t")]);
    check!(produce_request("none", 0, 1, Some(batch(&["a"]))), 12, [TopicAuthorizationFailed], [(Write, "topic none")]);
    check!(fetch_request("t", 0, 0, 0), 12, [TopicAuthorizationFailed], [(Read, "topic t")]);
    let partitions = vec![ListOffsetsPartition { timestamp: -1, current_leader_epoch: -1, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: text("t"), partitions }];
    let list_offsets = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    check!(list_offsets, newest, [TopicAuthorizationFailed], [(Describe, "topic t")]);
    let named = |name: &str| Some(vec![MetadataRequestTopic { name: Some(text(name)), ..Default::default() }]);
    check!(
        MetadataRequest { topics: named("t"), ..Default::default() },
        newest,
        [TopicAuthorizationFailed],
        [(Describe, "topic t")]
    );
    check!(
        MetadataRequest { topics: named("new"), allow_auto_topic_creation: true, ..Default::default() },
        newest,
        [TopicAuthorizationFailed],
        [(Create, "cluster"), (Create, "topic new"), (Describe, "topic new")]
    );
    check!(MetadataRequest { topics: None, ..Default::default() }, newest, [], [(Describe, "topic t")]);
    let topic = CreatableTopic { name: text("new"), num_partitions: 1, replication_factor: 1, ..Default::default() };
    check!(
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, validate_only: false },
        newest,
        [TopicAuthorizationFailed],
        [(Create, "cluster"), (Create, "topic new")]
    );
    let topics = vec![DeleteTopicState { name: Some(text("t")), ..Default::default() }];
    check!(
        DeleteTopicsRequest { topics, timeout_ms: 1000, ..Default::default() },
        newest,
        [TopicAuthorizationFailed],
        [(Delete, "topic t")]
    );
    let topics = vec![CreatePartitionsTopic { name: text("t"), count: 2, assignments: None }];
    check!(
        CreatePartitionsRequest { topics, timeout_ms: 1000, validate_only: false },
        newest,
        [TopicAuthorizationFailed],
        [(Alter, "topic t")]
    );
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 0 }];
    let topics = vec![DeleteRecordsTopic { name: text("t"), partitions }];
    check!(
        DeleteRecordsRequest { topics, timeout_ms: 1000 },
        newest,
        [TopicAuthorizationFailed],
        [(Delete, "topic t")]
    );
    let topics = vec![TopicRequest { name: text("t"), partition_indexes: vec![0] }];
    check!(DescribeProducersRequest { topics }, newest, [TopicAuthorizationFailed], [(Read, "topic t")]);
    let topics = vec![DescribedTopic { name: text("t") }];
    check!(
        DescribeTopicPartitionsRequest { topics, response_partition_limit: 10, cursor: None },
        newest,
        [TopicAuthorizationFailed],
        [(Describe, "topic t")]
    );
    let partitions = vec![OffsetForLeaderPartition { current_leader_epoch: -1, ..Default::default() }];
    let topics = vec![OffsetForLeaderTopic { topic: text("t"), partitions }];
    check!(
        OffsetForLeaderEpochRequest { replica_id: -1, topics },
        newest,
        [TopicAuthorizationFailed],
        [(Describe, "topic t")]
    );
    let configs_of = |resource_type, name: &str| {
        let resource = DescribeConfigsResource { resource_type, resource_name: text(name), configuration_keys: None };
        DescribeConfigsRequest { resources: vec![resource], ..Default::default() }
    };
    check!(configs_of(2, "t"), newest, [TopicAuthorizationFailed], [(DescribeConfigs, "topic t")]);
    check!(configs_of(4, "1"), newest, [ClusterAuthorizationFailed], [(DescribeConfigs, "cluster")]);
    check!(configs_of(32, "g"), newest, [GroupAuthorizationFailed], [(DescribeConfigs, "group g")]);
    let altered = |resource_type, name: &str| {
        let resource = AlterConfigsResource { resource_type, resource_name: text(name), configs: Vec::new() };
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false }
    };
    check!(altered(2, "t"), newest, [TopicAuthorizationFailed], [(AlterConfigs, "topic t")]);
    check!(altered(4, "1"), newest, [ClusterAuthorizationFailed], [(AlterConfigs, "cluster")]);
    check!(altered(32, "g"), newest, [GroupAuthorizationFailed], [(AlterConfigs, "group g")]);
    let listed = ListConfigResourcesRequest::default();
    check!(listed, newest, [ClusterAuthorizationFailed], [(DescribeConfigs, "cluster")]);
    check!(DescribeLogDirsRequest { topics: None }, newest, [ClusterAuthorizationFailed], [(Describe, "cluster")]);
    let init =
        InitProducerIdRequest { transactional_id: None, producer_id: -1, producer_epoch: -1, ..Default::default() };
    check!(init, newest, [ClusterAuthorizationFailed], [(IdempotentWrite, "cluster"), (Write, "any topic")]);

    let coordinator = FindCoordinatorRequest { coordinator_keys: vec![text("g")], ..Default::default() };
    check!(coordinator, newest, [GroupAuthorizationFailed], [(Describe, "group g")]);
    check!(
        JoinGroupRequest { group_id: text("g"), ..Default::default() },
        newest,
        [GroupAuthorizationFailed],
        [(Read, "group g")]
    );
    check!(
        SyncGroupRequest { group_id: text("g"), ..Default::default() },
        newest,
        [GroupAuthorizationFailed],
        [(Read, "group g")]
    );
    check!(
        HeartbeatRequest { group_id: text("g"), ..Default::default() },
        newest,
        [GroupAuthorizationFailed],
        [(Read, "group g")]
    );
    check!(
        LeaveGroupRequest { group_id: text("g"), ..Default::default() },
        newest,
        [GroupAuthorizationFailed],
        [(Read, "group g")]
    );
    let describe = DescribeGroupsRequest { groups: vec![text("g")], include_authorized_operations: true };
    check!(describe, newest, [GroupAuthorizationFailed], [(Describe, "group g")]);
    check!(ListGroupsRequest::default(), newest, [], [(Describe, "cluster")]);
    let delete = DeleteGroupsRequest { groups_names: vec![text("g")] };
    check!(delete, newest, [GroupAuthorizationFailed], [(Delete, "group g")]);
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
    let topics = vec![OffsetDeleteRequestTopic { name: text("t"), partitions }];
    let delete = OffsetDeleteRequest { group_id: text("g"), topics };
    check!(delete, newest, [GroupAuthorizationFailed], [(Delete, "group g")]);
    let partitions = vec![OffsetCommitRequestPartition::default()];
    let topics = vec![OffsetCommitRequestTopic { name: text("t"), partitions, ..Default::default() }];
    let commit = OffsetCommitRequest { group_id: text("g"), topics, ..Default::default() };
    check!(commit, 9, [GroupAuthorizationFailed], [(Read, "group g")]);
    let topics = vec![OffsetFetchRequestTopics { name: text("t"), partition_indexes: vec![0], ..Default::default() }];
    let group = OffsetFetchRequestGroup { group_id: text("g"), topics: Some(topics), ..Default::default() };
    let offsets = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    check!(offsets, 9, [GroupAuthorizationFailed], [(Describe, "group g")]);

    recorder.denies.store(false, Ordering::Relaxed);
    assert_eq!(metadata(&connection, &["t"], false).await.topics[0].error_code, 0, "nothing was deleted");
    assert_eq!(metadata(&connection, &["new"], false).await.topics[0].error_code, 3, "nothing was made");
    broker.stop().await;
}

/// Denies one operation.
struct Without(Operation);

impl Authorizer for Without {
    fn allows(&self, _client: &Client<'_>, operation: Operation, _resource: Resource<'_>) -> bool {
        operation != self.0
    }

    fn allows_any_topic(&self, _client: &Client<'_>, operation: Operation) -> bool {
        operation != self.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn allowed_operations_are_told_to_who_asks() {
    const ALTER: i32 = 1 << 7;
    let directory = tempfile::tempdir().unwrap();
    let broker = start_authorized(directory.path(), Arc::new(Without(Operation::Alter))).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let ask = |version: i16, cluster: bool| {
        let topics = Some(vec![MetadataRequestTopic { name: Some(text("t")), ..Default::default() }]);
        let request = MetadataRequest {
            topics,
            include_topic_authorized_operations: true,
            include_cluster_authorized_operations: cluster,
            ..Default::default()
        };
        let connection = &connection;
        async move { connection.send_at_most(&request, version, TIMEOUT).await.unwrap() }
    };
    let all_of_a_topic = 0b1101_1111_1000 & !ALTER;
    assert_eq!(ask(i16::MAX, false).await.topics[0].topic_authorized_operations, all_of_a_topic);
    let cluster = ask(10, true).await.cluster_authorized_operations;
    assert!(cluster & ALTER == 0 && cluster & (1 << 8) != 0, "{cluster:b}");
    let request = DescribeClusterRequest { include_cluster_authorized_operations: true, ..Default::default() };
    let described = connection.send(&request).await.unwrap();
    assert_eq!(described.cluster_authorized_operations, cluster);
    broker.stop().await;
}
