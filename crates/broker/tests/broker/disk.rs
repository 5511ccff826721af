//! A disk that fails under a whole broker: nothing is acknowledged that is not safe, and a full disk heals.

use std::io::IoSlice;
use std::path::Path;

use ottla_client::Connection;
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use ottla_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use ottla_rt::OpenMode;
use ottla_rt::memory::{Failure, Fault, MemoryWorld, Operation};
use ottla_types::ErrorCode;

use crate::support::{
    TIMEOUT, TestBroker, batch, create_topic, fetch, fetch_raw, fetch_request, produce, start_on, text, values,
};

async fn start() -> (MemoryWorld, TestBroker) {
    let machine = MemoryWorld::new(1);
    let broker = start_on(machine.world(), Path::new("/data"), &[]).await;
    (machine, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_a_full_disk_kept_from_being_made_is_made_later() {
    let (machine, broker) = start().await;
    let connection = broker.connect().await;
    machine.disk.inject(Fault::nth(Operation::CreateDir, 0, Failure::NoSpace).on("t-0"));
    create_topic(&connection, "t", 1, &[]).await;
    let mut refused = 0;
    loop {
        let response = produce(&connection, "t", 0, -1, batch(&["a"])).await;
        let code = ErrorCode::from_code(response.error_code).unwrap();
        if code == ErrorCode::None {
            assert_eq!(response.base_offset, 0);
            break;
        }
        assert!(code.is_retriable(), "{code}");
        refused += 1;
    }
    assert!(refused > 0, "the fault was met");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_an_append_and_heals() {
    let (machine, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    assert_eq!(produce(&connection, "t", 0, -1, batch(&["before"])).await.error_code, 0);
    machine.disk.inject(Fault::nth(Operation::Write, 0, Failure::NoSpace).on("t-0/00000000000000000000.log"));
    let refused = produce(&connection, "t", 0, -1, batch(&["refused"])).await;
    let code = ErrorCode::from_code(refused.error_code).unwrap();
    assert!(code.is_error() && code.is_retriable(), "{code}");
    assert_eq!(produce(&connection, "t", 0, -1, batch(&["after"])).await.base_offset, 1);
    assert_eq!(values(&fetch(&connection, "t", 0, 0, 0).await), ["before", "after"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_acknowledges_nothing_and_ends_a_node_without_another_directory() {
    let (machine, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    assert_eq!(produce(&connection, "t", 0, -1, batch(&["safe"])).await.error_code, 0);
    machine.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on("t-0/00000000000000000000.log"));
    let refused = produce(&connection, "t", 0, -1, batch(&["lost"])).await;
    assert_eq!(refused.error_code, ErrorCode::KafkaStorageError.code());
    let reason = broker.server.fatal().await;
    assert!(reason.contains("/data"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bits_that_changed_on_the_disk_are_not_served() {
    let machine = MemoryWorld::new(1);
    let broker = start_on(machine.world(), Path::new("/data"), &[("ottla.memory.hot.tail.bytes", "0")]).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    let size = batch(&["good"]).len() as u64;
    for value in ["good", "rots", "last"] {
        produce(&connection, "t", 0, -1, batch(&[value])).await;
    }
    produce(&connection, "t", 1, -1, batch(&["other"])).await;
    let segment = Path::new("/data/t-0/00000000000000000000.log");
    let file = machine.disk.mount().open(segment, OpenMode::ReadWrite).unwrap();
    // In the record's value.
    file.write_all_at(&[IoSlice::new(b"!")], 2 * size - 2).unwrap();

    let read = |offset| {
        let mut request = fetch_request("t", 0, offset, 0);
        let mut second = request.topics[0].partitions[0].clone();
        (second.partition, second.fetch_offset) = (1, 0);
        request.topics[0].partitions.push(second);
        request
    };
    for (offset, error, expected) in [
        (0, ErrorCode::None, &["good"][..]),
        (1, ErrorCode::CorruptMessage, &[]),
        (2, ErrorCode::None, &["last"]),
        (1, ErrorCode::CorruptMessage, &[]),
    ] {
        let response = fetch_raw(&connection, &read(offset)).await;
        let partitions = &response.responses[0].partitions;
        assert_eq!(partitions[0].error_code, error.code(), "from {offset}");
        assert_eq!(values(&partitions[0]), expected, "from {offset}");
        assert_eq!((partitions[1].error_code, values(&partitions[1])), (0, vec!["other".to_owned()]));
    }
    assert_eq!(produce(&connection, "t", 0, -1, batch(&["more"])).await.base_offset, 3);
    broker.stop().await;
}

/// Tries again, as clients do, until the answer is another than this; gives that and how often it was this.
async fn produce_while(connection: &Connection, topic: &str, records: &[&str], code: ErrorCode) -> (ErrorCode, usize) {
    let trying = async {
        let mut times = 0;
        loop {
            let answer = produce(connection, topic, 0, -1, batch(records)).await;
            let found = ErrorCode::from_code(answer.error_code).unwrap();
            if found != code {
                return (found, times);
            }
            times += 1;
        }
    };
    tokio::time::timeout(TIMEOUT, trying).await.expect("another answer comes")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_fills_up_refuses_appends_only_and_heals_when_a_topic_is_deleted() {
    let machine = MemoryWorld::new(1);
    machine.disk.set_capacity(Some(24 << 20));
    let settings = [("log.initial.task.delay.ms", "0"), ("log.segment.delete.delay.ms", "0")];
    let broker = start_on(machine.world(), Path::new("/data"), &settings).await;
    let connection = broker.connect().await;
    create_topic(&connection, "large", 1, &[]).await;
    create_topic(&connection, "small", 1, &[]).await;
    let reserve = || {
        let entries = machine.disk.mount().read_dir(Path::new("/data")).unwrap();
        entries.iter().find(|entry| entry.name == "ottla.reserve").map_or(0, |entry| entry.len)
    };
    let kept = async {
        while reserve() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, kept).await.expect("a reserve is kept");

    let value = "v".repeat(500_000);
    let (full, appended) = produce_while(&connection, "large", &[&value], ErrorCode::None).await;
    assert!(full == ErrorCode::KafkaStorageError && full.is_retriable() && appended > 30, "{full} after {appended}");
    assert_eq!(produce(&connection, "small", 0, -1, batch(&["x"])).await.error_code, full.code());
    assert_eq!(reserve(), 0, "it is there for the bookkeeping");

    // Everything else goes on, metadata too, and the directory is no failed one.
    assert_eq!(values(&fetch(&connection, "large", 0, 0, 0).await)[0], value);
    let directories = connection.send(&DescribeLogDirsRequest { topics: None }).await.unwrap().results;
    assert_eq!(directories.iter().map(|directory| directory.error_code).collect::<Vec<_>>(), [0]);
    create_topic(&connection, "late", 1, &[]).await;
    let request = DeleteTopicsRequest { topic_names: vec![text("large")], timeout_ms: 10_000, ..Default::default() };
    let deleted = connection.send_as(&request, 5, TIMEOUT).await.unwrap();
    assert_eq!(deleted.responses[0].error_code, 0);
    for topic in ["small", "late"] {
        let (healed, _) = produce_while(&connection, topic, &["after"], full).await;
        assert_eq!(healed, ErrorCode::None, "{topic}");
        assert_eq!(values(&fetch(&connection, topic, 0, 0, 0).await), ["after"]);
    }
    assert_eq!(reserve(), 4 << 20, "kept for the next time");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_directories_go_on_and_a_restart_brings_the_failed_one_back() {
    let machine = MemoryWorld::new(1);
    let start = async || {
        let sets = [("listeners", "PLAINTEXT://127.0.0.1:0"), ("log.dirs", "/one,/two")];
        let sets = sets.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let config = ottla_config::ServerConfig::load(None, &sets, None, true).unwrap().config;
        let server = ottla_broker::Server::start(machine.world(), config).await.unwrap();
        let port = server.listeners()[0].address.port();
        TestBroker { server, port, world: machine.world() }
    };
    let broker = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 2, &[]).await;
    for partition in 0..2 {
        assert_eq!(produce(&connection, "t", partition, -1, batch(&["safe"])).await.error_code, 0);
    }
    machine.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on("/two/t-"));
    let storage_error = ErrorCode::KafkaStorageError.code();
    let mut failed = 0;
    for partition in 0..2 {
        if produce(&connection, "t", partition, -1, batch(&["more"])).await.error_code == storage_error {
            failed = partition;
        }
    }
    let other = 1 - failed;
    // Never tried again.
    assert_eq!(produce(&connection, "t", failed, -1, batch(&["again"])).await.error_code, storage_error);
    assert_eq!(fetch(&connection, "t", failed, 0, 0).await.error_code, storage_error);
    let offset = ListOffsetsPartition { partition_index: failed, current_leader_epoch: -1, timestamp: -1 };
    let topics = vec![ListOffsetsTopic { name: text("t"), partitions: vec![offset] }];
    let listed = connection.send(&ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }).await.unwrap();
    assert_eq!(listed.topics[0].partitions[0].error_code, storage_error);
    assert_eq!(produce(&connection, "t", other, -1, batch(&["on"])).await.error_code, 0);
    assert_eq!(values(&fetch(&connection, "t", other, 0, 0).await), ["safe", "more", "on"]);
    let directories = connection.send(&DescribeLogDirsRequest { topics: None }).await.unwrap().results;
    assert_eq!(directories.iter().map(|directory| directory.error_code).collect::<Vec<_>>(), [0, storage_error]);

    assert!(broker.server.shutdown().await.is_err(), "a directory is offline");
    machine.disk.kill();
    let broker = start().await;
    let connection = broker.connect().await;
    let found = values(&fetch(&connection, "t", failed, 0, 0).await);
    assert_eq!(found[0], "safe", "what was acknowledged");
    assert_eq!(produce(&connection, "t", failed, -1, batch(&["back"])).await.error_code, 0);
    broker.stop().await;
}
