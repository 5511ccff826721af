//! Torn tails are cut, damage is refused.

use ottla_quorum::{MetadataQuorum, OpenError, RecoveryError};

use crate::support::{log_file, machine, machine_with, open, process, topic, topic_run};

/// A log of so many topics, and its length after each of them.
fn log_of(topics: usize) -> (std::path::PathBuf, Vec<u8>, Vec<usize>) {
    let machine = machine(1);
    let lengths = process(async {
        let quorum = open(&machine.world()).await.unwrap();
        let mut lengths = vec![log_file(&machine.world()).1.len()];
        for number in 0..topics {
            quorum.submit(topic(number)).await.unwrap();
            lengths.push(log_file(&machine.world()).1.len());
        }
        lengths
    });
    machine.disk.kill();
    let (path, bytes) = log_file(&machine.world());
    (path, bytes, lengths)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    let (path, bytes, lengths) = log_of(4);
    for length in lengths[2]..=bytes.len() {
        let machine = machine_with(&path, &bytes[..length]);
        let expected = lengths.iter().filter(|whole| **whole <= length).count() - 1;
        process(async {
            let quorum = open(&machine.world()).await.unwrap();
            assert_eq!(topic_run(&quorum.image()), expected, "cut at {length}");
            quorum.submit(topic(expected)).await.unwrap();
        });
        machine.disk.kill();
        process(async {
            let quorum = open(&machine.world()).await.unwrap();
            assert_eq!(topic_run(&quorum.image()), expected + 1, "cut at {length}, then written on");
        });
    }
}

#[test]
fn a_first_start_torn_at_any_byte_is_begun_again() {
    let (path, bytes, lengths) = log_of(0);
    for length in 0..lengths[0] {
        let machine = machine_with(&path, &bytes[..length]);
        process(async {
            let quorum = open(&machine.world()).await.unwrap_or_else(|error| panic!("cut at {length}: {error}"));
            assert_eq!(topic_run(&quorum.image()), 0);
            quorum.submit(topic(0)).await.unwrap();
        });
    }
}

#[test]
fn a_wrong_byte_before_the_last_batch_is_refused() {
    let (path, bytes, lengths) = log_of(4);
    let last_batch = lengths[3];
    for place in (0..bytes.len()).filter(|place| !(8..10).contains(place)) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x40;
        let machine = machine_with(&path, &damaged);
        process(async {
            match open(&machine.world()).await {
                Ok(quorum) => {
                    assert!(place >= last_batch, "the damage at {place} went unnoticed");
                    assert_eq!(topic_run(&quorum.image()), 3, "a last batch that is not whole is not there");
                }
                Err(OpenError::Recovery(RecoveryError::Damaged { position, .. })) => {
                    assert!(place < last_batch, "the last batch may be torn at {place}");
                    assert!(position as usize <= place);
                }
                Err(error) => panic!("wrong at {place}: {error}"),
            }
        });
    }
}
