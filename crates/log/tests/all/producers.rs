//! Sequences of idempotent producers, and that they survive whatever the log survives.

use ottla_log::{AppendError, SequenceError};

use crate::support::*;

fn is_out_of_order(result: &Result<ottla_log::Appended, AppendError>) -> bool {
    matches!(result, Err(AppendError::Sequence { source: SequenceError::OutOfOrder { .. }, .. }))
}

#[test]
fn duplicates_are_answered_as_the_first_time() {
    block_on(async {
        let machine = Machine::new(1);
        let (_manager, log) = machine.start().await;
        let batch = |sequence| Batch::of(&["a", "b"]).by_producer(5, 0, sequence);
        for sequence in [0, 2, 4, 6, 8, 10] {
            append(&log, &batch(sequence)).unwrap();
        }
        let end = log.log_end_offset();
        for sequence in [10, 8, 6, 4, 2] {
            let again = append(&log, &batch(sequence)).unwrap();
            assert!(again.duplicate);
            assert_eq!((again.base_offset, again.last_offset), (i64::from(sequence), i64::from(sequence) + 1));
            assert_eq!(again.acknowledge_when_flushed, Some(i64::from(sequence) + 2));
        }
        assert!(is_out_of_order(&append(&log, &batch(0))), "out of the window of five");
        assert!(is_out_of_order(&append(&log, &batch(14))), "a gap");
        assert_eq!(log.log_end_offset(), end);
        let fenced = append(&log, &Batch::of(&["x"]).by_producer(5, 1, 0)).unwrap();
        assert!(!fenced.duplicate);
        assert!(matches!(
            append(&log, &batch(12)),
            Err(AppendError::Sequence { source: SequenceError::InvalidEpoch { .. }, .. })
        ));
    });
}

#[test]
fn sequences_go_on_after_the_greatest() {
    block_on(async {
        let machine = Machine::new(1);
        let (_manager, log) = machine.start().await;
        append(&log, &Batch::of(&["a", "b"]).by_producer(5, 0, i32::MAX - 1)).unwrap();
        assert!(is_out_of_order(&append(&log, &Batch::of(&["c"]).by_producer(5, 0, 1))));
        append(&log, &Batch::of(&["c"]).by_producer(5, 0, 0)).unwrap();
        append(&log, &Batch::of(&["d"]).by_producer(5, 0, 1)).unwrap();
    });
}

#[test]
fn the_state_survives_stops_without_its_snapshots_too() {
    block_on(async {
        for clean in [true, false] {
            for spoil in ["keep", "remove", "garble"] {
                let machine = Machine::with_config(1, |config| config.segment_bytes = 500);
                let (manager, log) = machine.start().await;
                for sequence in 0..30 {
                    append(&log, &Batch::of(&["some value"]).by_producer(5, 3, sequence)).unwrap();
                    append(&log, &Batch::of(&["other"])).unwrap();
                }
                if clean {
                    manager.shutdown(-1).await;
                }
                drop((manager, log));
                machine.memory.disk.kill();
                let snapshots = machine.names_with(".snapshot");
                assert!(snapshots.len() > 3);
                for name in &snapshots {
                    match spoil {
                        "remove" => machine.remove(name),
                        "garble" => machine.write(name, b"\0\x01garbled"),
                        _ => {}
                    }
                }
                let (_manager, log) = machine.start().await;
                let what = format!("clean: {clean}, snapshots: {spoil}");
                let (id, entry) = log.active_producers().pop().unwrap();
                assert_eq!((id, entry.producer_epoch, entry.last_sequence()), (5, 3, 29), "{what}");
                assert!(append(&log, &Batch::of(&["some value"]).by_producer(5, 3, 29)).unwrap().duplicate, "{what}");
                assert!(is_out_of_order(&append(&log, &Batch::of(&["x"]).by_producer(5, 3, 31))), "{what}");
                assert!(!append(&log, &Batch::of(&["x"]).by_producer(5, 3, 30)).unwrap().duplicate, "{what}");
            }
        }
    });
}

#[test]
fn silent_producers_are_forgotten() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        append(&log, &Batch::of(&["a"]).at(1_000).by_producer(5, 0, 0)).unwrap();
        let day = 24 * 60 * 60 * 1_000;
        manager.expire(999 + day).await;
        assert_eq!(log.active_producers().len(), 1);
        manager.expire(1_000 + day).await;
        assert_eq!(log.active_producers().len(), 0);
        append(&log, &Batch::of(&["b"]).by_producer(5, 0, 77)).unwrap();
    });
}
