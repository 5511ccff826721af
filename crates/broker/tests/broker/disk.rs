//! A disk that fails under a whole broker: nothing is acknowledged that is not safe, and a full disk heals.

use std::path::Path;

use ottla_rt::memory::{Failure, Fault, MemoryWorld, Operation};
use ottla_types::ErrorCode;

use crate::support::{TestBroker, batch, create_topic, fetch, produce, start_on, values};

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
