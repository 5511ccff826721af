//! A disk that fails under a whole broker: nothing is acknowledged that is not safe, and a full disk heals.

use std::io::IoSlice;
use std::path::Path;

use ottla_rt::OpenMode;
use ottla_rt::memory::{Failure, Fault, MemoryWorld, Operation};
use ottla_types::ErrorCode;

use crate::support::{TestBroker, batch, create_topic, fetch, fetch_raw, fetch_request, produce, start_on, values};

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
