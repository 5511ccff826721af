//! How a server ends.

use crate::binary::Server;

const CLEAN: &str = ".kafka_cleanshutdown";

#[test]
fn a_signal_to_stop_ends_it_in_order() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    server.produce("t", "one\n");
    let stopped = server.stop();
    assert!(stopped.data().join(CLEAN).exists());
    let server = stopped.start();
    assert_eq!(server.run("consume t --from-beginning --max-records 1"), "one\n");
}

#[test]
fn a_second_signal_ends_it_at_once_and_nothing_acknowledged_is_lost() {
    let server = Server::start_overheard();
    server.run("topic create t --partitions 1");
    server.produce("t", "one\ntwo\n");
    let (stopped, stderr) = server.stop_at_once();
    assert!(stderr.contains("stopped at once by a second SIG"), "{stderr}");
    assert!(!stopped.data().join(CLEAN).exists(), "the next start has to recover");
    let server = stopped.start();
    assert_eq!(server.run("consume t --from-beginning --max-records 2"), "one\ntwo\n");
}
