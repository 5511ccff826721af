//! Every served API in every version: a sensible request, and one about things that do not exist, get an answer that
//! can be read. A field that an old version cannot carry would close the connection instead.

use std::fmt::Debug;

use bytes::Bytes;
use ottla_protocol::messages::alter_configs_request::{self, AlterConfigsRequest};
use ottla_protocol::messages::api_versions_request::ApiVersionsRequest;
use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use ottla_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use ottla_protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use ottla_protocol::messages::describe_producers_request::{DescribeProducersRequest, TopicRequest};
use ottla_protocol::messages::describe_topic_partitions_request::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest as DescribedTopic,
};
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::heartbeat_request::HeartbeatRequest;
use ottla_protocol::messages::incremental_alter_configs_request::{self, IncrementalAlterConfigsRequest};
use ottla_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use ottla_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
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
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use ottla_protocol::{ApiKey, RequestMessage};
use ottla_types::{ErrorCode, Uuid};

use crate::support::{
    TIMEOUT, TestBroker, batch, create_topic, fetch_request, metadata, produce_request, start, text, topic_id,
};

const UNKNOWN_ID: Uuid = Uuid([7; 16]);

/// Sends a request in every version its API is served in, and hands each answer to `check`.
async fn every<R: RequestMessage>(
    broker: &TestBroker,
    make: impl Fn(i16) -> R,
    check: impl Fn(i16, &R::Response),
) -> ApiKey
where
    R::Response: Debug,
{
    let connection = broker.connect().await;
    for version in R::API_KEY.valid_versions() {
        let answer = connection.send_as(&make(version), version, TIMEOUT).await;
        let answer = answer.unwrap_or_else(|error| panic!("{} version {version}: {error}", R::API_KEY.name()));
        check(version, &answer);
    }
    R::API_KEY
}

#[tokio::test(flavor = "multi_thread")]
async fn apis_of_records() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let id = topic_id(&connection, "t").await;

    for (name, topic, partition, records, expected) in [
        ("t", id, 0, batch(&["a"]), ErrorCode::None),
        ("t", id, 9, batch(&["a"]), ErrorCode::UnknownTopicOrPartition),
        ("t", id, 0, Bytes::from_static(b"nonsense"), ErrorCode::CorruptMessage),
        ("nobody", UNKNOWN_ID, 0, batch(&["a"]), ErrorCode::UnknownTopicOrPartition),
    ] {
        let make = |version| {
            let mut request = produce_request(name, partition, -1, Some(records.clone()));
            if version >= 13 {
                request.topic_data[0].name = text("");
                request.topic_data[0].topic_id = topic;
            }
            request
        };
        every(&broker, make, |version, answer| {
            let answer = &answer.responses[0].partition_responses[0];
            let by_id = version >= 13 && expected == ErrorCode::UnknownTopicOrPartition && name == "nobody";
            let expected = if by_id { ErrorCode::UnknownTopicId } else { expected };
            // What stands for "not a batch" is Kafka's choice of two.
            let code = ErrorCode::from_code(answer.error_code).unwrap();
            let same = code == expected || (expected == ErrorCode::CorruptMessage && code == ErrorCode::InvalidRecord);
            assert!(same, "version {version}: {answer:?}");
        })
        .await;
    }

    for (name, topic, offset, expected) in [
        ("t", id, 0, ErrorCode::None),
        ("t", id, 1_000_000, ErrorCode::OffsetOutOfRange),
        ("nobody", UNKNOWN_ID, 0, ErrorCode::UnknownTopicOrPartition),
    ] {
        for session_epoch in [-1, 0] {
            let make = |version| {
                let mut request = fetch_request(name, 0, offset, 0);
                request.isolation_level = 1;
                request.session_epoch = if version >= 7 { session_epoch } else { -1 };
                if version >= 13 {
                    request.topics[0].topic = text("");
                    request.topics[0].topic_id = topic;
                }
                request
            };
            every(&broker, make, |version, answer| {
                let expected = if version >= 13 && name == "nobody" { ErrorCode::UnknownTopicId } else { expected };
                let answer = &answer.responses[0].partitions[0];
                assert_eq!(ErrorCode::from_code(answer.error_code), Some(expected), "version {version}");
                assert_eq!(answer.records.as_ref().unwrap().is_empty(), expected.is_error(), "version {version}");
            })
            .await;
        }
    }
    let lost = |version| {
        let mut request = fetch_request("t", 0, 0, 0);
        if version >= 7 {
            (request.session_id, request.session_epoch) = (77, 3);
        }
        if version >= 13 {
            request.topics[0].topic = text("");
            request.topics[0].topic_id = id;
        }
        request
    };
    every(&broker, lost, |version, answer| {
        let expected = if version >= 7 { ErrorCode::FetchSessionIdNotFound } else { ErrorCode::None };
        assert_eq!(ErrorCode::from_code(answer.error_code), Some(expected), "version {version}");
    })
    .await;

    for timestamp in [-1, -2, 0, i64::MAX, -3, -4, -5, -6, -7] {
        for name in ["t", "nobody"] {
            let make = |_| ListOffsetsRequest {
                replica_id: -1,
                topics: vec![ListOffsetsTopic {
                    name: text(name),
                    partitions: vec![ListOffsetsPartition { partition_index: 0, current_leader_epoch: -1, timestamp }],
                }],
                ..Default::default()
            };
            every(&broker, make, |version, answer| {
                let code = ErrorCode::from_code(answer.topics[0].partitions[0].error_code).unwrap();
                let first = match timestamp {
                    -3 => 7,
                    -4 => 8,
                    -5 => 9,
                    -6 => 11,
                    -7 => i16::MAX,
                    _ => 1,
                };
                let expected = match name {
                    "t" if version < first => ErrorCode::UnsupportedVersion,
                    "t" => ErrorCode::None,
                    _ => ErrorCode::UnknownTopicOrPartition,
                };
                assert_eq!(code, expected, "timestamp {timestamp}, version {version}");
            })
            .await;
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apis_of_the_cluster() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[("retention.ms", "1000")]).await;

    let named = |version: i16| ApiVersionsRequest {
        client_software_name: if version >= 3 { text("test") } else { text("") },
        client_software_version: if version >= 3 { text("1") } else { text("") },
        ..Default::default()
    };
    every(&broker, named, |_, answer| assert_eq!(answer.error_code, 0)).await;

    for names in [None, Some(vec!["t", "made-on-demand", "not/valid"])] {
        let make = |version: i16| {
            let topic = |name: &&str| MetadataRequestTopic { name: Some(text(name)), ..Default::default() };
            let all = if version == 0 { Some(Vec::new()) } else { None };
            MetadataRequest {
                topics: names.as_ref().map_or(all, |names| Some(names.iter().map(topic).collect())),
                // Version 3 and before cannot say no.
                allow_auto_topic_creation: version < 4,
                include_topic_authorized_operations: version >= 8,
                include_cluster_authorized_operations: (8..=10).contains(&version),
            }
        };
        every(&broker, make, |version, answer| {
            assert_eq!(answer.brokers.len(), 1, "version {version}");
            let t = answer.topics.iter().find(|topic| topic.name.as_deref() == Some("t")).unwrap();
            assert_eq!((t.error_code, t.partitions.len()), (0, 2), "version {version}");
        })
        .await;
    }
    let by_id = |version: i16| MetadataRequest {
        topics: (version >= 1)
            .then(|| {
                let wanted = MetadataRequestTopic {
                    name: (version < 10).then(|| text("t")),
                    topic_id: if version >= 10 { UNKNOWN_ID } else { Uuid::ZERO },
                };
                vec![wanted]
            })
            .or(Some(Vec::new())),
        ..Default::default()
    };
    every(&broker, by_id, |version, answer| {
        let expected = if version < 12 { ErrorCode::InvalidRequest } else { ErrorCode::UnknownTopicId };
        // Before, there are no ids to ask with.
        if version >= 10 {
            assert_eq!(ErrorCode::from_code(answer.topics[0].error_code), Some(expected), "version {version}");
        }
    })
    .await;

    for name in ["made", "not/valid", "t"] {
        let make = |version: i16| CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: if name == "made" { text(&format!("made-{version}")) } else { text(name) },
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            }],
            timeout_ms: 10_000,
            validate_only: false,
        };
        every(&broker, make, |version, answer| {
            let expected = match name {
                "made" => ErrorCode::None,
                "t" => ErrorCode::TopicAlreadyExists,
                _ => ErrorCode::InvalidTopicException,
            };
            assert_eq!(ErrorCode::from_code(answer.topics[0].error_code), Some(expected), "version {version}");
        })
        .await;
    }

    for name in ["made", "absent"] {
        let make = |version: i16| {
            let wanted = if name == "made" && version != 1 { format!("made-{}", version + 1) } else { name.to_owned() };
            let state = DeleteTopicState { name: Some(text(&wanted)), ..Default::default() };
            DeleteTopicsRequest {
                topics: if version >= 6 { vec![state] } else { Vec::new() },
                topic_names: if version >= 6 { Vec::new() } else { vec![text(&wanted)] },
                timeout_ms: 10_000,
            }
        };
        every(&broker, make, |version, answer| {
            let exists = name == "made" && (2..=6).contains(&version);
            if exists || name == "absent" {
                let expected = if exists { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition };
                assert_eq!(ErrorCode::from_code(answer.responses[0].error_code), Some(expected), "version {version}");
            }
        })
        .await;
    }
    let unknown_id = |version: i16| DeleteTopicsRequest {
        topics: (version >= 6).then(|| DeleteTopicState { name: None, topic_id: UNKNOWN_ID }).into_iter().collect(),
        timeout_ms: 10_000,
        ..Default::default()
    };
    every(&broker, unknown_id, |version, answer| {
        if version >= 6 {
            assert_eq!(answer.responses[0].error_code, ErrorCode::UnknownTopicId.code());
        }
    })
    .await;

    for transactional in [false, true] {
        let make = |_| InitProducerIdRequest {
            transactional_id: transactional.then(|| text("x")),
            transaction_timeout_ms: 1000,
            ..Default::default()
        };
        every(&broker, make, |version, answer| {
            assert_eq!(answer.error_code != 0, transactional, "version {version}");
        })
        .await;
    }

    for (resource_type, name, expected) in [
        (2, "t", Some(ErrorCode::None)),
        (2, "absent", Some(ErrorCode::UnknownTopicOrPartition)),
        (2, "not/valid", Some(ErrorCode::InvalidTopicException)),
        (4, "1", Some(ErrorCode::None)),
        (4, "", Some(ErrorCode::None)),
        (4, "x", Some(ErrorCode::InvalidRequest)),
        (8, "1", Some(ErrorCode::None)),
        (16, "m", Some(ErrorCode::None)),
        (32, "g", Some(ErrorCode::None)),
        (99, "1", Some(ErrorCode::InvalidRequest)),
    ] {
        let make = |version: i16| DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type,
                resource_name: text(name),
                configuration_keys: None,
            }],
            include_synonyms: version >= 1,
            include_documentation: version >= 3,
        };
        every(&broker, make, |version, answer| {
            if let Some(expected) = expected {
                let code = ErrorCode::from_code(answer.results[0].error_code);
                assert_eq!(code, Some(expected), "{resource_type} {name:?}, version {version}");
            }
        })
        .await;
    }

    for (resource_type, name, expected) in [
        (2, "t", ErrorCode::None),
        (2, "absent", ErrorCode::UnknownTopicOrPartition),
        (4, "2", ErrorCode::InvalidRequest),
        (99, "1", ErrorCode::InvalidRequest),
    ] {
        let make = |_| AlterConfigsRequest {
            resources: vec![alter_configs_request::AlterConfigsResource {
                resource_type,
                resource_name: text(name),
                configs: Vec::new(),
            }],
            validate_only: true,
        };
        every(&broker, make, |version, answer| {
            assert_eq!(answer.responses[0].error_code, expected.code(), "{resource_type} {name:?}, version {version}");
        })
        .await;
        let make = |_| IncrementalAlterConfigsRequest {
            resources: vec![incremental_alter_configs_request::AlterConfigsResource {
                resource_type,
                resource_name: text(name),
                configs: Vec::new(),
            }],
            validate_only: true,
        };
        every(&broker, make, |version, answer| {
            assert_eq!(answer.responses[0].error_code, expected.code(), "{resource_type} {name:?}, version {version}");
        })
        .await;
    }

    for resource_type in [4, 99] {
        let make = |version| ListConfigResourcesRequest {
            resource_types: if version >= 1 { vec![resource_type] } else { Vec::new() },
        };
        every(&broker, make, |version, answer| {
            assert_eq!(answer.error_code == 0, resource_type == 4 || version == 0, "version {version}");
        })
        .await;
    }

    for endpoint_type in [1, 2, 3] {
        let make = |version: i16| DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            endpoint_type: if version >= 1 { endpoint_type } else { 1 },
            ..Default::default()
        };
        every(&broker, make, |version, answer| {
            assert_eq!(answer.error_code == 0, endpoint_type == 1 || version == 0, "version {version}");
        })
        .await;
    }
    assert_eq!(metadata(&connection, &["t"], false).await.topics[0].error_code, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apis_of_partitions() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    create_topic(&connection, "growing", 1, &[]).await;

    for (name, partition) in [("t", 0), ("t", 9), ("nobody", 0), ("not/valid", -1)] {
        let exists = (name, partition) == ("t", 0);
        let expected = if exists { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition };

        let delete = |_| DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: text(name),
                partitions: vec![DeleteRecordsPartition { partition_index: partition, offset: 0 }],
            }],
            timeout_ms: 10_000,
        };
        every(&broker, delete, |version, answer| {
            let found = &answer.topics[0].partitions[0];
            assert_eq!(ErrorCode::from_code(found.error_code), Some(expected), "{name}, version {version}");
            assert_eq!(found.low_watermark, if exists { 0 } else { -1 }, "{name}, version {version}");
        })
        .await;

        let epoch = |version| OffsetForLeaderEpochRequest {
            replica_id: if version >= 3 { -1 } else { -2 },
            topics: vec![OffsetForLeaderTopic {
                topic: text(name),
                partitions: vec![OffsetForLeaderPartition { partition, current_leader_epoch: -1, leader_epoch: 0 }],
            }],
        };
        every(&broker, epoch, |version, answer| {
            let found = &answer.topics[0].partitions[0];
            assert_eq!(ErrorCode::from_code(found.error_code), Some(expected), "{name}, version {version}");
            assert_eq!(found.end_offset, if exists { 0 } else { -1 }, "{name}, version {version}");
        })
        .await;

        let producers = |_| DescribeProducersRequest {
            topics: vec![TopicRequest { name: text(name), partition_indexes: vec![partition] }],
        };
        every(&broker, producers, |version, answer| {
            let expected = if name == "not/valid" { ErrorCode::InvalidTopicException } else { expected };
            let code = answer.topics[0].partitions[0].error_code;
            assert_eq!(ErrorCode::from_code(code), Some(expected), "{name}, version {version}");
        })
        .await;

        let log_dirs = |_| DescribeLogDirsRequest {
            topics: Some(vec![DescribableLogDirTopic { topic: text(name), partitions: vec![partition] }]),
        };
        every(&broker, log_dirs, |version, answer| {
            assert_eq!((answer.error_code, answer.results[0].error_code), (0, 0), "version {version}");
            assert_eq!(answer.results[0].topics.len(), usize::from(exists), "{name}, version {version}");
        })
        .await;

        let describe = |_| DescribeTopicPartitionsRequest {
            topics: vec![DescribedTopic { name: text(name) }],
            response_partition_limit: 10,
            cursor: Some(Cursor { topic_name: text(name), partition_index: partition }),
        };
        every(&broker, describe, |_, answer| {
            let expected = match name {
                "t" => ErrorCode::None,
                "nobody" => ErrorCode::UnknownTopicOrPartition,
                _ => ErrorCode::InvalidRequest,
            };
            assert_eq!(ErrorCode::from_code(answer.topics[0].error_code), Some(expected), "{name}");
        })
        .await;

        for assigned in [false, true] {
            let grow = |version: i16| CreatePartitionsRequest {
                topics: vec![CreatePartitionsTopic {
                    name: if name == "t" { text(if exists { "growing" } else { "nobody" }) } else { text(name) },
                    count: 2 + i32::from(version) + if assigned { 10 } else { 0 },
                    assignments: assigned.then(|| vec![CreatePartitionsAssignment { broker_ids: vec![1] }]),
                }],
                timeout_ms: 10_000,
                validate_only: false,
            };
            every(&broker, grow, |version, answer| {
                let code = ErrorCode::from_code(answer.results[0].error_code).unwrap();
                let expected = match (exists, assigned) {
                    (false, _) => ErrorCode::UnknownTopicOrPartition,
                    // There are five by then, and the replicas of one are given.
                    (true, true) => ErrorCode::InvalidReplicaAssignment,
                    (true, false) => ErrorCode::None,
                };
                assert_eq!(code, expected, "{name}, version {version}");
            })
            .await;
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apis_of_groups() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let id = topic_id(&connection, "t").await;

    // Before there is an offsets topic, and after.
    for round in ["before", "after"] {
        for group in ["", "nobody", "group"] {
            apis_of_group(&broker, group, id, round).await;
        }
        for key_type in [0, 1, 2, 5] {
            let make = |version: i16| FindCoordinatorRequest {
                key: if version >= 4 { text("") } else { text("group") },
                key_type: if version >= 1 { key_type } else { 0 },
                coordinator_keys: if version >= 4 { vec![text("group"), text("")] } else { Vec::new() },
            };
            every(&broker, make, |version, answer| {
                let code = answer.coordinators.first().map_or(answer.error_code, |found| found.error_code);
                assert_eq!(code == 0, key_type == 0 || version == 0, "version {version}: {answer:?}");
            })
            .await;
        }
    }
    broker.stop().await;
}

async fn apis_of_group(broker: &TestBroker, group: &str, id: Uuid, round: &str) {
    let about = |version: i16| format!("{group:?} {round}, version {version}");
    let join = |version: i16| JoinGroupRequest {
        // A group for each version: what a test leaves behind would have the next one wait.
        group_id: if group == "group" { text(&format!("group-{round}-{version}")) } else { text(group) },
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: if version >= 1 { 1000 } else { -1 },
        member_id: if group == "nobody" { text("member") } else { text("") },
        protocol_type: text("consumer"),
        protocols: vec![JoinGroupRequestProtocol { name: text("range"), metadata: Bytes::from_static(b"m") }],
        reason: (version >= 8).then(|| text("because")),
        ..Default::default()
    };
    every(broker, join, |version, answer| {
        let code = ErrorCode::from_code(answer.error_code).unwrap();
        match (group, round) {
            ("", _) => assert_eq!(code, ErrorCode::InvalidGroupId, "{}", about(version)),
            ("group", "after") if version < 4 => assert_eq!(code, ErrorCode::None, "{}", about(version)),
            ("group", "after") => assert_eq!(code, ErrorCode::MemberIdRequired, "{}", about(version)),
            _ => assert!(code.is_error(), "{}", about(version)),
        }
    })
    .await;

    let sync = |_| SyncGroupRequest {
        group_id: text(group),
        generation_id: 1,
        member_id: text("member"),
        assignments: vec![SyncGroupRequestAssignment { member_id: text("member"), assignment: Bytes::new() }],
        ..Default::default()
    };
    every(broker, sync, |version, answer| assert_ne!(answer.error_code, 0, "{}", about(version))).await;

    let heartbeat = |_| HeartbeatRequest {
        group_id: text(group),
        generation_id: 1,
        member_id: text("member"),
        group_instance_id: None,
    };
    every(broker, heartbeat, |version, answer| assert_ne!(answer.error_code, 0, "{}", about(version))).await;

    let leave = |version: i16| {
        let member = MemberIdentity {
            member_id: text("member"),
            reason: (version >= 5).then(|| text("because")),
            ..Default::default()
        };
        LeaveGroupRequest {
            group_id: text(group),
            member_id: if version >= 3 { text("") } else { text("member") },
            members: if version >= 3 { vec![member] } else { Vec::new() },
        }
    };
    every(broker, leave, |version, answer| {
        let code = answer.members.first().map_or(answer.error_code, |member| member.error_code);
        assert_ne!(code, 0, "{}", about(version));
    })
    .await;

    for (name, topic) in [("t", id), ("nobody", UNKNOWN_ID)] {
        let commit = |version: i16| OffsetCommitRequest {
            group_id: text(group),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: if version >= 10 { text("") } else { text(name) },
                topic_id: if version >= 10 { topic } else { Uuid::ZERO },
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: 5,
                    committed_leader_epoch: if version >= 6 { 0 } else { -1 },
                    committed_metadata: None,
                }],
            }],
            ..Default::default()
        };
        every(broker, commit, |version, answer| {
            let code = answer.topics[0].partitions[0].error_code;
            if name == "nobody" || round == "before" {
                assert_ne!(code, 0, "{}", about(version));
            } else if group == "group" {
                assert_eq!(code, 0, "{}", about(version));
            }
        })
        .await;

        for all in [false, true] {
            let fetch = |version: i16| {
                let topics = vec![OffsetFetchRequestTopics {
                    name: if version >= 10 { text("") } else { text(name) },
                    topic_id: if version >= 10 { topic } else { Uuid::ZERO },
                    partition_indexes: vec![0],
                }];
                let all = all && version >= 2;
                let old = OffsetFetchRequestTopic { name: text(name), partition_indexes: vec![0] };
                let of_group = OffsetFetchRequestGroup {
                    group_id: text(group),
                    topics: (!all).then_some(topics),
                    ..Default::default()
                };
                OffsetFetchRequest {
                    group_id: if version >= 8 { text("") } else { text(group) },
                    topics: if version >= 8 { Some(Vec::new()) } else { (!all).then(|| vec![old]) },
                    groups: if version >= 8 { vec![of_group] } else { Vec::new() },
                    require_stable: version >= 7,
                }
            };
            every(broker, fetch, |version, answer| {
                let offset = match answer.groups.first() {
                    Some(group) => group.topics.first().map(|topic| topic.partitions[0].committed_offset),
                    None => answer.topics.first().map(|topic| topic.partitions[0].committed_offset),
                };
                if group == "group" && round == "after" && name == "t" {
                    assert_eq!(offset, Some(5), "{}: {answer:?}", about(version));
                }
            })
            .await;
        }
    }

    let describe =
        |version: i16| DescribeGroupsRequest { groups: vec![text(group)], include_authorized_operations: version >= 3 };
    every(broker, describe, |version, answer| assert_eq!(answer.groups.len(), 1, "{}", about(version))).await;

    let list = |version: i16| ListGroupsRequest {
        states_filter: if version >= 4 { vec![text("Empty"), text("nonsense")] } else { Vec::new() },
        types_filter: if version >= 5 { vec![text("classic")] } else { Vec::new() },
    };
    every(broker, list, |version, answer| assert_eq!(answer.error_code, 0, "{}", about(version))).await;

    let forget = |_| OffsetDeleteRequest {
        group_id: text(group),
        topics: vec![OffsetDeleteRequestTopic {
            name: text("t"),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    every(broker, forget, |version, answer| {
        let deletes = !group.is_empty() && round == "after";
        assert_eq!(answer.error_code == 0, deletes, "{}", about(version));
    })
    .await;

    let delete = |_| DeleteGroupsRequest { groups_names: vec![text(group), text(group)] };
    every(broker, delete, |version, answer| {
        let [result] = &answer.results[..] else { panic!("{}: {answer:?}", about(version)) };
        // Version 0 deleted it.
        let deletes = round == "after" && version == 0;
        assert_eq!(result.error_code == 0, deletes, "{}: {result:?}", about(version));
    })
    .await;
}
