//! Segments that go by age, by size, by DeleteRecords; and rolls by time.

use std::time::Duration;

use ottla_config::{Durability, LogConfig};
use ottla_rt::memory::PowerLoss;

use crate::support::*;

/// 20 records of which every segment holds four, timestamps 0, 100, 200, ...
async fn filled(change: impl FnOnce(&mut LogConfig)) -> Machine {
    let machine = Machine::with_config(1, |config| {
        config.segment_bytes = 700;
        config.segment_ms = i64::MAX;
        change(config);
    });
    let (manager, log) = machine.start().await;
    for number in 0..20 {
        append(&log, &Batch::sized(100).at(number * 100)).unwrap();
    }
    flush(&manager, &log).await;
    log.note_high_watermark(20);
    manager.shutdown(-1).await;
    assert_eq!(log.segment_base_offsets(), [0, 4, 8, 12, 16]);
    machine
}

#[test]
fn by_age() {
    block_on(async {
        for (now_ms, start) in [(1_300, 0), (1_301, 4), (1_701, 8), (2_901, 20), (99_999, 20)] {
            let machine = filled(|config| config.retention_ms = 1_000).await;
            let (manager, log) = machine.start().await;
            manager.apply_retention(now_ms).await;
            assert_eq!(log.log_start_offset(), start, "at {now_ms}");
            assert_eq!(log.log_end_offset(), 20, "at {now_ms}");
            assert_eq!(append(&log, &Batch::sized(100)).unwrap().base_offset, 20, "at {now_ms}");
        }
    });
}

#[test]
fn what_was_never_flushed_goes_by_age_too() {
    block_on(async {
        let machine = Machine::with_config(1, |config| {
            config.durability = Durability::PageCache;
            config.retention_ms = 1_000;
        });
        let (manager, log) = machine.start().await;
        append(&log, &Batch::sized(100).at(0)).unwrap();
        log.note_high_watermark(1);
        manager.apply_retention(99_999).await;
        assert_eq!(log.log_start_offset(), 0, "it is not durable");
        log.wait_flushed(1).await.unwrap();
        manager.apply_retention(99_999).await;
        assert_eq!(log.log_start_offset(), 1);
    });
}

#[test]
fn by_size() {
    block_on(async {
        for (retention_bytes, segments) in [(-1, 5), (10_000, 5), (2_000, 3), (700, 2), (0, 1)] {
            let machine = filled(|config| {
                config.retention_ms = -1;
                config.retention_bytes = retention_bytes;
            })
            .await;
            let (manager, log) = machine.start().await;
            manager.apply_retention(0).await;
            let bases = log.segment_base_offsets();
            assert_eq!(bases.len(), segments, "{retention_bytes} bytes: {bases:?}");
            assert!(retention_bytes < 0 || log.size() as i64 <= retention_bytes + 700);
        }
    });
}

#[test]
fn what_is_not_replicated_stays() {
    block_on(async {
        let machine = Machine::with_config(1, |config| {
            config.segment_bytes = 700;
            config.retention_ms = 1_000;
        });
        let (manager, log) = machine.start().await;
        for number in 0..20 {
            append(&log, &Batch::sized(100).at(number * 100)).unwrap();
        }
        flush(&manager, &log).await;
        log.note_high_watermark(10);
        manager.apply_retention(99_999).await;
        assert_eq!(log.log_start_offset(), 8);
    });
}

#[test]
fn deleted_records_stay_deleted() {
    block_on(async {
        let machine = filled(|config| {
            config.retention_ms = -1;
            config.file_delete_delay_ms = 50;
        })
        .await;
        let (manager, log) = machine.start().await;
        assert!(log.advance_log_start_offset(21).is_err());
        assert_eq!(log.advance_log_start_offset(10).unwrap(), 10);
        assert!(log.read(9, 100, true, i64::MAX).is_err());
        manager.apply_retention(0).await;
        assert_eq!(log.segment_base_offsets(), [8, 12, 16]);
        let deleted = |machine: &Machine| machine.names_with(".deleted").len();
        assert!(deleted(&machine) >= 6);
        manager.remove_deleted().await;
        assert!(deleted(&machine) >= 6, "not yet");
        machine.memory.clock.advance(Duration::from_millis(51));
        manager.remove_deleted().await;
        assert_eq!(deleted(&machine), 0);
        let expected = values_from(&log, 10, 1_000);
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let (_manager, log) = machine.start().await;
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (10, 20));
        assert_eq!(values_from(&log, 10, 1_000), expected);
    });
}

#[test]
fn rolls_by_time() {
    block_on(async {
        let machine = Machine::with_config(1, |config| config.segment_ms = 500);
        let (_manager, log) = machine.start().await;
        for timestamp in [1_000, 1_400, 1_500, 1_501, 1_600, 2_001, 2_002] {
            append(&log, &Batch::of(&["v"]).at(timestamp)).unwrap();
        }
        assert_eq!(log.segment_base_offsets(), [0, 3, 6]);
    });
}
