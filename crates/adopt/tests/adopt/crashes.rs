//! A process that dies at any moment of an adoption: the directory is Kafka's or ours, and another run completes it.

use std::path::{Path, PathBuf};

use ottla_adopt::{AdoptionState, execute, inspect};
use ottla_image::MetadataImage;
use ottla_rt::memory::{Failure, Fault, Operation, PowerLoss};

use crate::generator::*;

fn kafka(seed: u64) -> KafkaDirectory {
    let mut log = beginning();
    for number in 1..=20 {
        log.batch(&[topic(&format!("t{number}"), topic_id(number)), partition(topic_id(number), 0)]);
    }
    let kafka = KafkaDirectory::with_log(seed, &log);
    kafka.partition(DIRECTORY, "t1-0", topic_id(1), b"records");
    kafka
}

fn expected() -> MetadataImage {
    let kafka = kafka(60);
    execute(&kafka.world, &settings()).unwrap();
    adopted_image(&kafka.world, DIRECTORY)
}

/// After whatever happened: a start finds nothing of ours or all of it, and another run completes. Whether it was ours.
fn completes(kafka: &KafkaDirectory, before: &[(PathBuf, Vec<u8>)], expected: &MetadataImage) -> bool {
    let world = kafka.machine.world();
    for (path, content) in before {
        assert_eq!(world.disk.read_file(path, 1 << 30).unwrap(), *content, "{}", path.display());
    }
    let adopted = world.disk.exists(&Path::new(DIRECTORY).join("ottla-metadata")).unwrap();
    if adopted {
        assert_eq!(adopted_image(&world, DIRECTORY), *expected);
    }
    let state = execute(&world, &settings()).unwrap().state;
    assert_eq!(state, if adopted { AdoptionState::AdoptedBefore } else { AdoptionState::Adopted });
    assert_eq!(adopted_image(&world, DIRECTORY), *expected);
    assert_eq!(inspect(&world, &settings()).unwrap().state, AdoptionState::AdoptedBefore);
    assert!(!world.disk.exists(&Path::new(DIRECTORY).join("ottla-metadata.adopting")).unwrap());
    adopted
}

#[test]
fn power_lost_at_every_operation() {
    let expected = expected();
    let losses = |seed| [PowerLoss::LoseUnsynced, PowerLoss::KeepUnsynced, PowerLoss::Arbitrary { seed }];
    let (mut kafkas, mut ours) = (0, 0);
    for kind in 0..losses(0).len() {
        for operations in 0.. {
            let kafka = kafka(61 + operations);
            let before = kafka.content();
            kafka.machine.disk.power_off_after(operations);
            let done = execute(&kafka.world, &settings());
            if kafka.machine.disk.is_powered() {
                assert_eq!(done.unwrap().state, AdoptionState::Adopted);
                break;
            }
            kafka.machine.disk.lose_power(losses(operations)[kind]);
            if completes(&kafka, &before, &expected) { ours += 1 } else { kafkas += 1 }
        }
    }
    assert!(kafkas > 100 && ours > 0, "{kafkas} times Kafka's, {ours} times ours");
}

#[test]
fn what_was_adopted_survives_a_power_loss() {
    let expected = expected();
    let kafka = kafka(62);
    let before = kafka.content();
    execute(&kafka.world, &settings()).unwrap();
    kafka.machine.disk.lose_power(PowerLoss::LoseUnsynced);
    assert!(completes(&kafka, &before, &expected));
}

#[test]
fn a_disk_that_refuses() {
    let expected = expected();
    for operation in [Operation::Write, Operation::SetLen, Operation::Sync, Operation::SyncDir, Operation::Rename] {
        for nth in 0.. {
            let kafka = kafka(2_000 + nth);
            let before = kafka.content();
            kafka.machine.disk.inject(Fault::nth(operation, nth, Failure::NoSpace));
            let done = execute(&kafka.world, &settings());
            let failures = kafka.machine.disk.failed_operations();
            kafka.machine.disk.clear_faults();
            if failures == 0 {
                assert!(nth > 0, "no {operation:?} was met");
                break;
            }
            assert!(done.is_err(), "{operation:?} {nth}");
            completes(&kafka, &before, &expected);
        }
    }
}
