//! The scrubber: how fast, how often, and what it finds.

use std::sync::Arc;
use std::time::Duration;

use ottla_log::{LogManager, PartitionLog, ScrubSettings};
use ottla_record::batches;
use ottla_rt::Clock;

use crate::support::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const SETTINGS: ScrubSettings = ScrubSettings { bytes_per_second: 2_000, interval_ms: DAY_MS };

async fn written() -> (Machine, LogManager, Arc<PartitionLog>) {
    let machine = Machine::with_config(3, |config| config.segment_bytes = 3_000);
    let (manager, log) = machine.start().await;
    for number in 0..100 {
        append_with_epoch(&log, &Batch::of(&[&format!("{number:0100}"), "second"]), number / 30).unwrap();
    }
    flush(&manager, &log).await;
    (machine, manager, log)
}

/// Bytes of all segments but the last.
fn closed_bytes(machine: &Machine, log: &PartitionLog) -> u64 {
    let bases = log.segment_base_offsets();
    let sizes = bases[..bases.len() - 1].iter().map(|base| machine.read(&format!("{base:020}.log")).len() as u64);
    sizes.sum()
}

/// Scrubs for so many seconds.
async fn scrub(machine: &Machine, manager: &LogManager, seconds: u64) {
    for _ in 0..seconds {
        machine.memory.clock.advance(Duration::from_secs(1));
        manager.scrub(SETTINGS, machine.memory.clock.wall_ms()).await;
    }
}

#[test]
fn every_closed_segment_in_its_time_at_the_rate() {
    block_on(async {
        let (machine, manager, log) = written().await;
        let (segments, bytes) = (log.segment_base_offsets().len() as u64 - 1, closed_bytes(&machine, &log));
        assert!(segments > 4);
        // They were written just now.
        scrub(&machine, &manager, 30).await;
        assert_eq!(manager.scrub_status().bytes, 0);
        machine.memory.clock.advance(Duration::from_millis(DAY_MS as u64));
        for rounds in 1..=2 {
            let mut seconds = 0;
            while manager.scrub_status().segments < segments * rounds {
                let before = manager.scrub_status().bytes;
                scrub(&machine, &manager, 1).await;
                // A batch is read to its end.
                assert!(manager.scrub_status().bytes - before < 2_000 + 300, "second {seconds}");
                seconds += 1;
            }
            assert!(seconds >= bytes / 2_000, "{seconds} s for {bytes} bytes");
            scrub(&machine, &manager, 100).await;
            let status = manager.scrub_status();
            assert_eq!((status.segments, status.bytes, status.damaged), (segments * rounds, bytes * rounds, 0));
            assert_eq!((status.pending_bytes, status.total_bytes), (0, bytes));
            machine.memory.clock.advance(Duration::from_millis(DAY_MS as u64));
        }
        manager.scrub(ScrubSettings { bytes_per_second: 0, ..SETTINGS }, machine.memory.clock.wall_ms()).await;
        assert_eq!(manager.scrub_status().bytes, bytes * 2, "off");
    });
}

#[test]
fn what_is_closed_before_a_start_is_verified_after_it() {
    block_on(async {
        let (machine, manager, log) = written().await;
        let bytes = closed_bytes(&machine, &log);
        drop((manager, log));
        machine.memory.disk.kill();
        let (manager, _log) = machine.start().await;
        scrub(&machine, &manager, 60).await;
        assert_eq!(manager.scrub_status().bytes, bytes);
    });
}

#[test]
fn damage_is_counted_and_the_rest_is_verified() {
    block_on(async {
        let (machine, manager, log) = written().await;
        let (segments, bytes) = (log.segment_base_offsets().len() as u64 - 1, closed_bytes(&machine, &log));
        let base = log.segment_base_offsets()[2];
        let name = format!("{base:020}.log");
        let content = machine.read(&name);
        let starts: Vec<usize> =
            batches(&content).map(|batch| batch.unwrap().1.as_ptr() as usize - content.as_ptr() as usize).collect();
        machine.memory.clock.advance(Duration::from_millis(DAY_MS as u64));
        let mut damaged = 0;
        for (bit, found, read_all) in [
            // Base offset: down and up; epoch; a record; the last batch's.
            (starts[3] * 8 + 6 * 8, 1, true),
            (starts[3] * 8 + 7 * 8 + 6, 1, true),
            (starts[4] * 8 + 15 * 8, 1, true),
            (starts[5] * 8 + 80 * 8, 1, true),
            (starts[starts.len() - 1] * 8 + 7 * 8 + 3, 1, true),
            // Length and magic: what follows cannot be found.
            (starts[6] * 8 + 11 * 8 + 1, 1, false),
            (starts[6] * 8 + 16 * 8, 1, false),
        ] {
            machine.flip(&name, bit);
            let before = manager.scrub_status();
            scrub(&machine, &manager, 60).await;
            let status = manager.scrub_status();
            damaged += found;
            assert_eq!(status.damaged, damaged, "bit {bit}");
            assert_eq!(status.segments - before.segments, segments, "bit {bit}");
            assert_eq!(status.bytes - before.bytes == bytes, read_all, "bit {bit}");
            machine.flip(&name, bit);
            machine.memory.clock.advance(Duration::from_millis(DAY_MS as u64));
        }
        assert!(!log.is_offline());
    });
}

#[test]
fn what_goes_meanwhile_is_no_damage() {
    block_on(async {
        let (machine, manager, log) = written().await;
        machine.memory.clock.advance(Duration::from_millis(DAY_MS as u64));
        scrub(&machine, &manager, 1).await;
        assert!(manager.scrub_status().bytes > 0);
        log.note_high_watermark(100);
        let start = log.segment_base_offsets()[4];
        manager.delete_records(vec![(Arc::clone(&log), start)]).await.pop().unwrap().unwrap();
        scrub(&machine, &manager, 2).await;
        log.truncate_to(log.segment_base_offsets()[2]).unwrap();
        scrub(&machine, &manager, 2).await;
        manager.delete(&partition(0)).await.unwrap();
        scrub(&machine, &manager, 100).await;
        assert_eq!(manager.scrub_status().damaged, 0);
        assert_eq!(manager.scrub_status().total_bytes, 0);
    });
}
