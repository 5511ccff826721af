//! Power lost at every step, and writes that fail.

use ottla_quorum::{MetadataQuorum, QuorumError, QuorumFailure, QuorumSettings, RaftQuorum};
use ottla_rt::memory::{Failure, Fault, MemoryWorld, Operation, PowerLoss};
use ottla_types::ErrorCode;

use crate::support::{machine, make_data_directory, open, process, settings, topic, topic_run};

/// Two processes one after the other, with a snapshot in each. Says how many topics were acknowledged.
fn scenario(machine: &MemoryWorld) -> usize {
    let mut acknowledged = 0;
    for _ in 0..2 {
        let reached = process(async {
            let settings = QuorumSettings { snapshot_entries: 7, ..settings() };
            let quorum = RaftQuorum::open(&machine.world(), settings, |_| Vec::new()).await.ok()?;
            let found = topic_run(&quorum.image());
            assert!(found >= acknowledged, "{acknowledged} were acknowledged, {found} are there");
            for number in found..found + 9 {
                match quorum.submit(topic(number)).await {
                    Ok(_) => acknowledged = number + 1,
                    Err(QuorumError::Failed(_)) => return None,
                    Err(error) => panic!("{error}"),
                }
            }
            // Lets the snapshot and the purge happen.
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            quorum.shutdown().await;
            Some(())
        });
        if reached.is_none() {
            break;
        }
    }
    acknowledged
}

#[test]
fn nothing_acknowledged_is_lost_wherever_power_goes() {
    let whole = machine(7);
    let before = whole.disk.operations();
    assert_eq!(scenario(&whole), 18);
    let steps = whole.disk.operations() - before;
    assert!(steps > 60, "{steps} steps");
    for step in 0..steps {
        for loss in [PowerLoss::LoseUnsynced, PowerLoss::KeepUnsynced, PowerLoss::Arbitrary { seed: step }] {
            let machine = machine(7);
            machine.disk.power_off_after(step);
            let acknowledged = scenario(&machine);
            machine.disk.lose_power(loss);
            process(async {
                let world = machine.world();
                make_data_directory(&world);
                let quorum = open(&world).await.unwrap_or_else(|error| panic!("step {step}, {loss:?}: {error}"));
                let found = topic_run(&quorum.image());
                assert!(
                    (acknowledged..=acknowledged + 1).contains(&found),
                    "step {step}, {loss:?}: {acknowledged} were acknowledged, {found} are there"
                );
                quorum.submit(topic(found)).await.unwrap();
            });
        }
    }
}

#[test]
fn a_disk_that_lies_about_syncs_is_noticed() {
    let lost = (0..40u64).any(|step| {
        let machine = machine(7);
        machine.disk.ignore_syncs(Some(""));
        machine.disk.power_off_after(step);
        let acknowledged = scenario(&machine);
        machine.disk.lose_power(PowerLoss::LoseUnsynced);
        machine.disk.ignore_syncs(None);
        process(async {
            let world = machine.world();
            make_data_directory(&world);
            open(&world).await.is_ok_and(|quorum| topic_run(&quorum.image()) < acknowledged)
        })
    });
    assert!(lost, "the scenario above could not fail");
}

#[test]
fn a_failed_write_or_sync_stops_the_node() {
    for (operation, failure) in
        [(Operation::Write, Failure::Io), (Operation::Write, Failure::NoSpace), (Operation::Sync, Failure::Io)]
    {
        let machine = machine(3);
        process(async {
            let quorum = open(&machine.world()).await.unwrap();
            quorum.submit(topic(0)).await.unwrap();
            machine.disk.inject(Fault::nth(operation, 0, failure));
            let error = quorum.submit(topic(1)).await.unwrap_err();
            assert!(matches!(error, QuorumError::Failed(_)), "{error}");
            assert!(!error.retriable());
            // A client tries again, with the next process.
            assert_eq!(error.error_code(), ErrorCode::KafkaStorageError);
            let reported = quorum.failed().await;
            assert!(matches!(*reported, QuorumFailure::LogWrite(_)), "{reported}");
            // The disk is well again, and nothing is written to it all the same.
            let operations = machine.disk.operations();
            quorum.submit(topic(2)).await.unwrap_err();
            assert_eq!(topic_run(&quorum.image()), 1);
            quorum.shutdown().await;
            assert_eq!(machine.disk.operations(), operations);
        });
        machine.disk.lose_power(PowerLoss::LoseUnsynced);
        process(async {
            // What was written before the sync that failed may be there all the same.
            let found = topic_run(&open(&machine.world()).await.unwrap().image());
            assert!(found == 1 || (found == 2 && operation == Operation::Sync), "{operation:?}: {found}");
        });
    }
}

#[test]
fn short_and_interrupted_writes_are_finished() {
    for failure in [Failure::Short, Failure::Interrupted] {
        let machine = machine(3);
        process(async {
            let quorum = open(&machine.world()).await.unwrap();
            machine.disk.inject(Fault::nth(Operation::Write, 0, failure));
            quorum.submit(topic(0)).await.unwrap();
        });
        machine.disk.lose_power(PowerLoss::LoseUnsynced);
        process(async {
            assert_eq!(topic_run(&open(&machine.world()).await.unwrap().image()), 1);
        });
    }
}

/// A process is killed before it has synced the name of a file it wrote; the next one finds the file in the page cache,
/// uses it, and then power goes.
#[test]
fn a_file_found_in_the_page_cache_only_is_not_lost_with_the_power() {
    for rolls in [false, true] {
        let machine = machine(5);
        let settings = || QuorumSettings { segment_bytes: if rolls { 1 } else { 1 << 20 }, ..settings() };
        let acknowledged = process(async {
            if !rolls {
                machine.disk.inject(Fault::nth(Operation::SyncDir, 0, Failure::Io));
                let opened = RaftQuorum::open(&machine.world(), settings(), |_| Vec::new()).await;
                assert!(opened.is_err(), "the names could not be synced");
                return 0;
            }
            let quorum = RaftQuorum::open(&machine.world(), settings(), |_| Vec::new()).await.unwrap();
            quorum.submit(topic(0)).await.unwrap();
            machine.disk.inject(Fault::nth(Operation::SyncDir, 0, Failure::Io));
            quorum.submit(topic(1)).await.unwrap_err();
            1
        });
        machine.disk.kill();
        machine.disk.clear_faults();
        let acknowledged = process(async {
            let settings = QuorumSettings { segment_bytes: 1 << 20, ..settings() };
            let quorum = RaftQuorum::open(&machine.world(), settings, |_| Vec::new()).await.unwrap();
            let found = topic_run(&quorum.image());
            assert!(found >= acknowledged);
            quorum.submit(topic(found)).await.unwrap();
            found + 1
        });
        machine.disk.lose_power(PowerLoss::LoseUnsynced);
        process(async {
            let quorum = open(&machine.world()).await.unwrap();
            assert_eq!(topic_run(&quorum.image()), acknowledged, "rolls: {rolls}");
        });
    }
}

/// What a killed process wrote and never synced is no proof of damage when power takes it from the next one.
#[test]
fn an_unsynced_batch_that_power_takes_is_not_damage() {
    for seed in 0..60 {
        let machine = machine(seed);
        process(async {
            let quorum = open(&machine.world()).await.unwrap();
            quorum.submit(topic(0)).await.unwrap();
            machine.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io));
            // Larger than a page, so that a part of it can be lost.
            let many = (1..200).flat_map(topic).collect();
            quorum.submit(many).await.unwrap_err();
        });
        machine.disk.kill();
        machine.disk.clear_faults();
        machine.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io));
        assert!(process(open(&machine.world())).is_err());
        machine.disk.lose_power(PowerLoss::Arbitrary { seed });
        machine.disk.clear_faults();
        let quorum = process(open(&machine.world())).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(topic_run(&quorum.image()) >= 1);
    }
}

/// A failed sync leaves its pages in the page cache, clean: the next process sees them, and its own sync finds nothing to
/// do.
#[test]
fn what_a_failed_sync_dropped_is_made_durable_before_it_is_used() {
    for seed in 0..60 {
        for rolls in [false, true] {
            let machine = machine(seed);
            process(async {
                let quorum = open(&machine.world()).await.unwrap();
                quorum.submit(topic(0)).await.unwrap();
                machine.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io));
                let many = (1..200).flat_map(topic).collect();
                quorum.submit(many).await.unwrap_err();
            });
            machine.disk.kill();
            let found = process(async {
                let settings = QuorumSettings { segment_bytes: if rolls { 1 } else { 1 << 20 }, ..settings() };
                let quorum = RaftQuorum::open(&machine.world(), settings, |_| Vec::new()).await.unwrap();
                topic_run(&quorum.image())
            });
            assert_eq!(found, 200, "the cache has everything");
            machine.disk.lose_power(PowerLoss::LoseUnsynced);
            let quorum = process(open(&machine.world())).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(topic_run(&quorum.image()), found, "seed {seed}, rolls: {rolls}");
        }
    }
}
