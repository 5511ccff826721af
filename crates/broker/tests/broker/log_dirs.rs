//! DescribeLogDirs, DescribeProducers, OffsetForLeaderEpoch: what a partition's log is asked about.

use ottla_client::Connection;
use ottla_protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use ottla_protocol::messages::describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult};
use ottla_protocol::messages::describe_producers_request::{DescribeProducersRequest, TopicRequest};
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_record::{BatchBuilder, Codec, Compression};
use ottla_rt::memory::{Failure, Fault, MemoryWorld, Operation};
use ottla_types::ErrorCode;

use crate::support::{batch, create_topic, produce, start, start_with, text};

async fn log_dirs(connection: &Connection, topics: Option<&[(&str, &[i32])]>) -> Vec<DescribeLogDirsResult> {
    let topics = topics.map(|topics| {
        topics
            .iter()
            .map(|(topic, partitions)| DescribableLogDirTopic { topic: text(topic), partitions: partitions.to_vec() })
            .collect()
    });
    let response = connection.send(&DescribeLogDirsRequest { topics }).await.unwrap();
    assert_eq!(response.error_code, 0);
    response.results
}

fn described(directory: &DescribeLogDirsResult) -> Vec<(&str, Vec<i32>)> {
    let numbers = |partitions: &[DescribeLogDirsPartition]| partitions.iter().map(|p| p.partition_index).collect();
    directory.topics.iter().map(|topic| (&*topic.name, numbers(&topic.partitions))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn log_directories_tell_sizes_and_room() {
    let directory = tempfile::tempdir().unwrap();
    let dirs = ["one", "two"].map(|name| directory.path().join(name).display().to_string());
    // The directory of the settings gives way to `log.dirs`.
    let sets =
        [("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned()), ("log.dirs".to_owned(), dirs.join(","))];
    let config = ottla_config::ServerConfig::load(None, &sets, None, true).unwrap().config;
    let world = ottla_rt::World::os();
    let server = ottla_broker::Server::start(world.clone(), config).await.unwrap();
    let port = server.listeners()[0].address.port();
    let broker = crate::support::TestBroker { server, port, world };
    let connection = broker.connect().await;
    create_topic(&connection, "t", 3, &[]).await;
    create_topic(&connection, "u", 1, &[]).await;
    for _ in 0..10 {
        produce(&connection, "t", 0, -1, batch(&["some value"])).await;
    }
    let all = log_dirs(&connection, None).await;
    assert_eq!(all.iter().map(|result| result.log_dir.to_string()).collect::<Vec<_>>(), dirs);
    let mut partitions = 0;
    for result in &all {
        assert_eq!((result.error_code, result.is_cordoned), (0, false));
        assert!(result.usable_bytes > 0 && result.usable_bytes <= result.total_bytes, "{result:?}");
        for topic in &result.topics {
            for partition in &topic.partitions {
                let path = format!("{}/{}-{}/{:020}.log", result.log_dir, topic.name, partition.partition_index, 0);
                assert_eq!(partition.partition_size as u64, std::fs::metadata(path).unwrap().len());
                assert_eq!((partition.offset_lag, partition.is_future_key), (0, false));
                partitions += 1;
            }
        }
    }
    assert_eq!(partitions, 4);

    // What does not exist is left out; what is named twice is there once; an empty list is not "all".
    let some = log_dirs(&connection, Some(&[("t", &[1, 1, 9, -1]), ("t", &[1]), ("nobody", &[0])])).await;
    let mut found: Vec<_> = some.iter().flat_map(described).collect();
    found.sort();
    assert_eq!(found, [("t", vec![1])]);
    assert!(log_dirs(&connection, Some(&[])).await.iter().all(|result| result.topics.is_empty()));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_directory_says_so() {
    let machine = MemoryWorld::new(1);
    let sets = [
        ("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned()),
        ("log.dirs".to_owned(), "/one,/two".to_owned()),
    ];
    let config = ottla_config::ServerConfig::load(None, &sets, None, true).unwrap().config;
    let server = ottla_broker::Server::start(machine.world(), config).await.unwrap();
    let port = server.listeners()[0].address.port();
    let broker = crate::support::TestBroker { server, port, world: machine.world() };
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    machine.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on("/two/t-"));
    let mut failed = None;
    for partition in 0..2 {
        if produce(&connection, "t", partition, -1, batch(&["a"])).await.error_code != 0 {
            failed = Some(partition);
        }
    }
    let failed = failed.expect("one of them is in the directory that failed");
    let results = log_dirs(&connection, None).await;
    assert_eq!(results[0].error_code, 0);
    assert_eq!(described(&results[0]), [("t", vec![1 - failed])]);
    let two = &results[1];
    assert_eq!(ErrorCode::from_code(two.error_code), Some(ErrorCode::KafkaStorageError));
    assert_eq!((&*two.log_dir, two.topics.len(), two.total_bytes, two.usable_bytes), ("/two", 0, -1, -1));
    let described =
        DescribeProducersRequest { topics: vec![TopicRequest { name: text("t"), partition_indexes: vec![failed] }] };
    let answer = connection.send(&described).await.unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::KafkaStorageError.code());
    // It cannot stop cleanly with a directory offline.
    assert!(broker.server.shutdown().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_are_described_as_the_log_remembers_them() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    for (producer_id, epoch, sequence) in [(4001, 0, 0), (4001, 0, 1), (4000, 3, 0)] {
        let mut builder = BatchBuilder::new(Compression::new(Codec::None));
        builder.set_producer(producer_id, epoch, sequence);
        builder.append(1_700_000_000_000, None, Some(b"v"), &[]).unwrap();
        assert_eq!(produce(&connection, "t", 0, -1, builder.finish().unwrap()).await.error_code, 0);
    }
    let topic =
        |name: &str, partitions: &[i32]| TopicRequest { name: text(name), partition_indexes: partitions.to_vec() };
    let request = DescribeProducersRequest {
        topics: vec![topic("t", &[0, 1, 7]), topic("t", &[0, 0, 0]), topic("nobody", &[0]), topic("a b", &[0])],
    };
    let topics = connection.send(&request).await.unwrap().topics;
    let partitions = &topics[0].partitions;
    let producers: Vec<_> = partitions[0]
        .active_producers
        .iter()
        .map(|p| (p.producer_id, p.producer_epoch, p.last_sequence, p.coordinator_epoch, p.current_txn_start_offset))
        .collect();
    assert_eq!(producers, [(4000, 3, 0, -1, -1), (4001, 0, 1, -1, -1)]);
    assert_eq!(partitions[0].active_producers[0].last_timestamp, 1_700_000_000_000);
    assert!(partitions[1].active_producers.is_empty());
    let codes: Vec<_> = topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|p| ErrorCode::from_code(p.error_code).unwrap())
        .collect();
    let expected = [
        ErrorCode::None,
        ErrorCode::None,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::InvalidTopicException,
    ];
    assert_eq!(codes, expected);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_end_where_the_next_one_begins() {
    let (_directory, broker) = start_with(&[]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    for value in ["a", "b"] {
        produce(&connection, "t", 0, -1, batch(&[value])).await;
    }
    for (partition, current_leader_epoch, leader_epoch, expected) in [
        (0, -1, 0, (ErrorCode::None, 0, 2)),
        (0, 0, 0, (ErrorCode::None, 0, 2)),
        // Nothing was written there, and still its leader has an epoch.
        (1, -1, 0, (ErrorCode::None, 0, 0)),
        (0, -1, 1, (ErrorCode::None, -1, -1)),
        (0, -1, i32::MAX, (ErrorCode::None, -1, -1)),
        (0, -1, -1, (ErrorCode::None, -1, -1)),
        (0, 1, 0, (ErrorCode::UnknownLeaderEpoch, -1, -1)),
        (0, -2, 0, (ErrorCode::FencedLeaderEpoch, -1, -1)),
        (5, -1, 0, (ErrorCode::UnknownTopicOrPartition, -1, -1)),
        (-1, -1, 0, (ErrorCode::UnknownTopicOrPartition, -1, -1)),
    ] {
        let wanted = OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch };
        // A consumer, a debugging one, and somebody who says it is a broker: the answer is the same.
        for replica_id in [-1, -2, 5] {
            let topics =
                vec![OffsetForLeaderTopic { topic: text("t"), partitions: vec![wanted.clone(), wanted.clone()] }];
            let request = OffsetForLeaderEpochRequest { replica_id, topics };
            let answer = connection.send(&request).await.unwrap();
            assert_eq!(answer.topics[0].partitions.len(), 2, "each is answered, as in Kafka");
            for found in &answer.topics[0].partitions {
                let code = ErrorCode::from_code(found.error_code).unwrap();
                assert_eq!((code, found.leader_epoch, found.end_offset), expected, "{wanted:?}");
            }
        }
    }
    broker.stop().await;
}
