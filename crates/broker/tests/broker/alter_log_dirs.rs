//! AlterReplicaLogDirs: partitions move between the log directories of a node, under its clients.

use std::path::Path;

use ottla_broker::Server;
use ottla_client::Connection;
use ottla_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use ottla_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use ottla_protocol::messages::describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult};
use ottla_rt::World;
use ottla_rt::memory::{Failure, Fault, MemoryWorld, Operation};
use ottla_types::ErrorCode;

use crate::configs::set;
use crate::support::{TestBroker, batch, create_topic, fetch, metadata, produce, text, values};

const BROKER: i8 = 4;
const RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

async fn start(world: World, dirs: &str) -> TestBroker {
    let sets =
        [("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned()), ("log.dirs".to_owned(), dirs.to_owned())];
    let config = ottla_config::ServerConfig::load(None, &sets, None, true).unwrap().config;
    let server = Server::start(world.clone(), config).await.unwrap();
    let port = server.listeners()[0].address.port();
    TestBroker { server, port, world }
}

async fn alter(connection: &Connection, wanted: &[(&str, &str, i32)]) -> Vec<ErrorCode> {
    let dirs = wanted
        .iter()
        .map(|(path, topic, partition)| AlterReplicaLogDir {
            path: text(path),
            topics: vec![AlterReplicaLogDirTopic { name: text(topic), partitions: vec![*partition] }],
        })
        .collect();
    let response = connection.send(&AlterReplicaLogDirsRequest { dirs }).await.unwrap();
    let partitions = response.results.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| ErrorCode::from_code(partition.error_code).unwrap()).collect()
}

async fn describe(connection: &Connection) -> Vec<DescribeLogDirsResult> {
    connection.send(&DescribeLogDirsRequest { topics: None }).await.unwrap().results
}

/// What a directory says of a partition.
fn of<'a>(result: &'a DescribeLogDirsResult, topic: &str, partition: i32) -> Option<&'a DescribeLogDirsPartition> {
    let topic = result.topics.iter().find(|found| *found.name == *topic)?;
    topic.partitions.iter().find(|found| found.partition_index == partition)
}

async fn until_in(connection: &Connection, index: usize, topic: &str) {
    loop {
        let all = describe(connection).await;
        let there = of(&all[index], topic, 0).is_some_and(|partition| !partition.is_future_key);
        if there && of(&all[1 - index], topic, 0).is_none() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_under_its_clients() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| directory.path().join(name).display().to_string());
    let dirs = format!("{one},{two}");
    let broker = start(World::os(), &dirs).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[("segment.bytes", "1048576")]).await;
    let large = "x".repeat(10_000);
    for number in 0..300 {
        let value = format!("{number} {large}");
        assert_eq!(produce(&connection, "t", 0, 1, batch(&[&value])).await.error_code, 0);
    }
    for (round, (index, path)) in [(1, &two), (0, &one), (1, &two)].into_iter().enumerate() {
        assert_eq!(alter(&connection, &[(path, "t", 0)]).await, [ErrorCode::None]);
        let first = 300 + round as i64 * 20;
        for number in first..first + 20 {
            let response = produce(&connection, "t", 0, -1, batch(&[&format!("{number}")])).await;
            assert_eq!((response.error_code, response.base_offset), (0, number));
        }
        until_in(&connection, index, "t").await;
        assert!(Path::new(path).join("t-0").exists());
    }
    let read = async |connection: &Connection| {
        let mut found = Vec::new();
        while found.len() < 360 {
            let next = values(&fetch(connection, "t", 0, found.len() as i64, 1_000).await);
            assert!(!next.is_empty(), "{} records", found.len());
            found.extend(next.iter().map(|value| value.split(' ').next().unwrap().parse::<usize>().unwrap()));
        }
        found
    };
    let expected: Vec<usize> = (0..360).collect();
    assert_eq!(read(&connection).await, expected);
    drop(connection);
    broker.stop().await;
    let broker = start(World::os(), &dirs).await;
    let connection = broker.connect().await;
    assert_eq!(read(&connection).await, expected);
    assert!(of(&describe(&connection).await[1], "t", 0).is_some());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_keeps_to_its_rate_and_shows_how_far_it_is() {
    let machine = MemoryWorld::new(1);
    let broker = start(machine.world(), "/one,/two").await;
    let connection = broker.connect().await;
    set(&connection, BROKER, "", RATE, "1").await;
    create_topic(&connection, "t", 1, &[("segment.bytes", "1048576")]).await;
    let large = "x".repeat(400_000);
    for _ in 0..6 {
        assert_eq!(produce(&connection, "t", 0, -1, batch(&[&large])).await.error_code, 0);
    }
    assert_eq!(alter(&connection, &[("/two", "t", 0)]).await, [ErrorCode::None]);
    let (log, copy) = loop {
        let all = describe(&connection).await;
        let copy = of(&all[1], "t", 0).expect("its copy").clone();
        assert!(copy.is_future_key, "so slowly it ends next month");
        if copy.partition_size > 0 {
            break (of(&all[0], "t", 0).expect("the log").clone(), copy);
        }
    };
    assert_eq!((log.is_future_key, log.offset_lag), (false, 0));
    assert!(copy.partition_size < log.partition_size && (1..6).contains(&copy.offset_lag), "{copy:?}");
    set(&connection, BROKER, "", RATE, "1000000000000000").await;
    until_in(&connection, 1, "t").await;
    assert_eq!(fetch(&connection, "t", 0, 5, 1_000).await.high_watermark, 6);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused() {
    let machine = MemoryWorld::new(1);
    let broker = start(machine.world(), "/one,/two").await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    let long = "x".repeat(240);
    for (path, topic, partition, expected) in [
        ("/one", "t", 0, ErrorCode::None),
        ("/three", "t", 0, ErrorCode::LogDirNotFound),
        ("two", "t", 0, ErrorCode::LogDirNotFound),
        ("", "nobody", 0, ErrorCode::LogDirNotFound),
        ("/two", "nobody", 0, ErrorCode::UnknownTopicOrPartition),
        ("/two", "t", 2, ErrorCode::UnknownTopicOrPartition),
        ("/two", "t", -1, ErrorCode::UnknownTopicOrPartition),
        ("/three", &long, 0, ErrorCode::InvalidTopicException),
    ] {
        assert_eq!(alter(&connection, &[(path, topic, partition)]).await, [expected], "{path} {topic} {partition}");
    }
    // Said before it was made.
    create_topic(&connection, "nobody", 1, &[]).await;
    assert!(of(&describe(&connection).await[1], "nobody", 0).is_some());
    // The last one counts.
    assert_eq!(alter(&connection, &[("/three", "t", 0), ("/one", "t", 0)]).await, [ErrorCode::None]);

    machine.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on("/two/nobody-0"));
    let failed = produce(&connection, "nobody", 0, -1, batch(&["x"])).await;
    assert_eq!(failed.error_code, ErrorCode::KafkaStorageError.code());
    for (path, topic) in [("/two", "t"), ("/one", "nobody")] {
        assert_eq!(alter(&connection, &[(path, topic, 0)]).await, [ErrorCode::KafkaStorageError], "{path} {topic}");
    }
    // It is where it is.
    assert_eq!(alter(&connection, &[("/one", "t", 0)]).await, [ErrorCode::None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_offline_at_the_start_costs_its_own_partitions() {
    let machine = MemoryWorld::new(1);
    let broker = start(machine.world(), "/one,/two").await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 4, &[]).await;
    for partition in 0..4 {
        assert_eq!(produce(&connection, "t", partition, -1, batch(&["here"])).await.error_code, 0);
    }
    let all = describe(&connection).await;
    let lost: Vec<i32> = (0..4).filter(|partition| of(&all[1], "t", *partition).is_some()).collect();
    assert_eq!(lost.len(), 2);
    drop(connection);
    broker.stop().await;

    machine.disk.inject(Fault { count: u64::MAX, ..Fault::nth(Operation::Open, 0, Failure::Io).on("/two") });
    let broker = start(machine.world(), "/one,/two").await;
    let connection = broker.connect().await;
    let all = describe(&connection).await;
    assert_eq!((all[0].error_code, all[1].error_code), (0, ErrorCode::KafkaStorageError.code()));
    for partition in &metadata(&connection, &["t"], false).await.topics[0].partitions {
        let index = partition.partition_index;
        let is_lost = lost.contains(&index);
        assert_eq!(partition.leader_id == -1, is_lost, "{partition:?}");
        assert_eq!(partition.offline_replicas, if is_lost { vec![1] } else { Vec::new() });
        let produced = produce(&connection, "t", index, -1, batch(&["more"])).await;
        assert_eq!(produced.error_code != 0, is_lost, "{produced:?}");
    }
    // A new topic finds its place; so do further partitions.
    create_topic(&connection, "new", 3, &[]).await;
    assert_eq!(produce(&connection, "new", 2, -1, batch(&["new"])).await.error_code, 0);
    assert_eq!(alter(&connection, &[("/two", "new", 0)]).await, [ErrorCode::KafkaStorageError]);
    drop(connection);
    assert!(broker.server.shutdown().await.is_err(), "one directory is not stopped cleanly");

    machine.disk.clear_faults();
    let broker = start(machine.world(), "/one,/two").await;
    let connection = broker.connect().await;
    for partition in 0..4 {
        let expected = if lost.contains(&partition) { vec!["here"] } else { vec!["here", "more"] };
        assert_eq!(values(&fetch(&connection, "t", partition, 0, 0).await), expected);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_without_the_directory_of_its_metadata() {
    let machine = MemoryWorld::new(1);
    start(machine.world(), "/one,/two").await.stop().await;
    machine.disk.inject(Fault { count: u64::MAX, ..Fault::nth(Operation::Lock, 0, Failure::Io).on("/one") });
    let sets = [
        ("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned()),
        ("log.dirs".to_owned(), "/one,/two".to_owned()),
    ];
    let config = ottla_config::ServerConfig::load(None, &sets, None, true).unwrap().config;
    let refused = Server::start(machine.world(), config).await.err().unwrap();
    assert_eq!(refused.to_string(), "log directory /one is offline, and the metadata is in it: the log says why");
}
