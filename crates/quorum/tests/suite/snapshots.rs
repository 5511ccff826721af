//! Snapshots bound what is kept and what a start replays.

use ottla_image::MetadataRecord;
use ottla_quorum::{MetadataQuorum, OpenError, QuorumSettings, RaftQuorum, RecoveryError};
use ottla_rt::memory::MemoryWorld;

use crate::support::{files, machine, machine_with, open, process, put_file, settings, topic, topic_run};

fn names(machine: &MemoryWorld) -> Vec<String> {
    let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    files(&machine.world()).iter().map(|(path, _)| name(path)).collect()
}

/// Lets other tasks run until there is one snapshot and one file of the log after it.
async fn settle(machine: &MemoryWorld) {
    for _ in 0..10_000 {
        let names = names(machine);
        if names.len() == 2 && names[1].ends_with(".snapshot") {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the log was not purged: {:?}", names(machine));
}

#[test]
fn the_log_is_bounded_by_entries() {
    let machine = machine(1);
    process(async {
        let settings = QuorumSettings { snapshot_entries: 10, ..settings() };
        let quorum = RaftQuorum::open(&machine.world(), settings, |_| Vec::new()).await.unwrap();
        for number in 0..100 {
            quorum.submit(topic(number)).await.unwrap();
        }
        settle(&machine).await;
        let size: usize = files(&machine.world())
            .iter()
            .filter(|(path, _)| path.extension().unwrap() == "log")
            .map(|(_, bytes)| bytes.len())
            .sum();
        assert!(size < 4_000, "{size} bytes of log are left");
    });
    machine.disk.kill();
    process(async {
        let quorum = open(&machine.world()).await.unwrap();
        assert_eq!(topic_run(&quorum.image()), 100);
        quorum.submit(topic(100)).await.unwrap();
        quorum.shutdown().await;
    });
    process(async { assert_eq!(topic_run(&open(&machine.world()).await.unwrap().image()), 101) });
}

#[test]
fn the_log_is_bounded_by_bytes() {
    let machine = machine(1);
    process(async {
        let settings = QuorumSettings { snapshot_bytes: 2_000, ..settings() };
        let quorum = RaftQuorum::open(&machine.world(), settings, |_| Vec::new()).await.unwrap();
        for number in 0..60 {
            quorum.submit(topic(number)).await.unwrap();
        }
        settle(&machine).await;
        quorum.shutdown().await;
    });
    process(async { assert_eq!(topic_run(&open(&machine.world()).await.unwrap().image()), 60) });
}

#[test]
fn files_roll_by_size() {
    let machine = machine(1);
    process(async {
        let settings = QuorumSettings { segment_bytes: 500, ..settings() };
        let quorum = RaftQuorum::open(&machine.world(), settings, |_| Vec::new()).await.unwrap();
        for number in 0..30 {
            quorum.submit(topic(number)).await.unwrap();
        }
        assert!(names(&machine).len() > 5);
    });
    machine.disk.kill();
    process(async {
        let quorum = open(&machine.world()).await.unwrap();
        assert_eq!(topic_run(&quorum.image()), 30);
        quorum.snapshot().await.unwrap();
        settle(&machine).await;
    });
    machine.disk.kill();
    process(async { assert_eq!(topic_run(&open(&machine.world()).await.unwrap().image()), 30) });
}

#[test]
fn a_snapshot_that_is_lost_or_damaged_is_missed() {
    let first = machine(1);
    process(async {
        let quorum = open(&first.world()).await.unwrap();
        quorum.submit(topic(0)).await.unwrap();
        quorum.snapshot().await.unwrap();
        settle(&first).await;
    });
    first.disk.kill();
    let files = files(&first.world());
    let [(log, log_bytes), (snapshot, snapshot_bytes)] = &files[..] else { panic!("{files:?}") };

    let only_log = machine_with(log, log_bytes);
    let error = process(async { open(&only_log.world()).await.err().expect("refused") });
    assert!(matches!(error, OpenError::Recovery(RecoveryError::MissingSnapshot { .. })), "{error}");

    let only_snapshot = machine_with(snapshot, snapshot_bytes);
    let error = process(async { open(&only_snapshot.world()).await.err().expect("refused") });
    assert!(matches!(error, OpenError::Recovery(RecoveryError::MissingLog { .. })), "{error}");

    for place in 0..snapshot_bytes.len() {
        let mut damaged = snapshot_bytes.clone();
        damaged[place] ^= 0x10;
        let machine = machine_with(log, log_bytes);
        put_file(&machine.world(), snapshot, &damaged);
        let error = process(async { open(&machine.world()).await.err().expect("refused") });
        let expected =
            matches!(error, OpenError::Recovery(RecoveryError::Damaged { .. } | RecoveryError::NewerFormat { .. }));
        assert!(expected, "wrong at {place}: {error}");
    }
}

#[test]
fn a_large_proposal_is_one_entry() {
    let machine = machine(1);
    process(async {
        let quorum = open(&machine.world()).await.unwrap();
        let records: Vec<MetadataRecord> = (0..5_000).flat_map(topic).collect();
        quorum.submit(records).await.unwrap();
        assert_eq!(topic_run(&quorum.image()), 5_000);
    });
    machine.disk.kill();
    process(async { assert_eq!(topic_run(&open(&machine.world()).await.unwrap().image()), 5_000) });
}
