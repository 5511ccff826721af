//! Disks that are full or broken.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_config::Durability;
use ottla_log::{AppendError, ChangeError, FatalEvent, FlushFailed, FlushListener, LogManager, ReadError};
use ottla_rt::memory::{Failure, Fault, Operation, PowerLoss};
use ottla_types::TopicPartition;
use parking_lot::Mutex;

use crate::support::*;

#[derive(Default)]
struct Told {
    flushed: Mutex<Vec<(TopicPartition, i64)>>,
    failed: Mutex<Vec<String>>,
}

impl FlushListener for Told {
    fn flushed(&self, topic_partition: &TopicPartition, flushed_offset: i64) {
        self.flushed.lock().push((topic_partition.clone(), flushed_offset));
    }

    fn directory_failed(&self, directory: &Path, error: &io::Error) {
        self.failed.lock().push(format!("{}: {:?}", directory.display(), error.kind()));
    }
}

#[test]
fn a_full_disk_refuses_and_heals() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        let told = Arc::new(Told::default());
        manager.set_flush_listener(&(told.clone() as Arc<dyn FlushListener>));
        append(&log, &Batch::of(&["first"])).unwrap();
        machine.memory.disk.inject(Fault::nth(Operation::Write, 0, Failure::NoSpace).on(".log"));
        let refused = append(&log, &Batch::of(&["refused"])).unwrap_err();
        assert!(matches!(refused, AppendError::NoSpace(_)) && refused.retriable(), "{refused}");
        assert_eq!(log.log_end_offset(), 1);
        assert_eq!(append(&log, &Batch::of(&["second"])).unwrap().base_offset, 1);
        flush(&manager, &log).await;
        assert_eq!(text(&values_from(&log, 0, 100)), [(0, "first".to_owned()), (1, "second".to_owned())]);
        assert_eq!(*told.failed.lock(), Vec::<String>::new());
        assert!(manager.directories()[0].online);
    });
}

#[test]
fn a_full_disk_at_every_write_of_a_roll() {
    block_on(async {
        for nth in 0..12 {
            for operation in [Operation::Write, Operation::Create, Operation::SetLen] {
                let machine = Machine::with_config(1, |config| config.segment_bytes = 400);
                let (manager, log) = machine.start().await;
                machine.memory.disk.inject(Fault::nth(operation, nth, Failure::NoSpace));
                let mut expected = Vec::new();
                for number in 0..12 {
                    let value = format!("{number:0100}");
                    match append(&log, &Batch::of(&[&value])) {
                        Ok(appended) => expected.push((appended.base_offset, value)),
                        Err(AppendError::NoSpace(_)) => {}
                        Err(error) => panic!("{operation:?} {nth}: {error}"),
                    }
                }
                machine.memory.disk.clear_faults();
                assert!(expected.len() >= 11, "{operation:?} {nth}");
                assert_eq!(text(&values_from(&log, 0, 1_000)), expected, "{operation:?} {nth}");
                drop((manager, log));
                machine.memory.disk.kill();
                let (_manager, log) = machine.start().await;
                assert_eq!(text(&values_from(&log, 0, 1_000)), expected, "{operation:?} {nth}, after a kill");
            }
        }
    });
}

#[test]
fn a_full_disk_does_not_hide_why_records_were_not_deleted() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        append(&log, &Batch::of(&["a", "b"])).unwrap();
        flush(&manager, &log).await;
        machine
            .memory
            .disk
            .inject(Fault::nth(Operation::Write, 0, Failure::NoSpace).on("log-start-offset-checkpoint.tmp"));
        let wanted = [1, 99].map(|offset| (Arc::clone(&log), offset)).to_vec();
        let [moved, beyond] = &manager.delete_records(wanted).await[..] else { panic!("two answers") };
        assert!(matches!(moved, Err(ChangeError::NoSpace(_))), "{moved:?}");
        assert!(matches!(beyond, Err(ChangeError::OffsetOutOfRange { .. })), "{beyond:?}");
        assert_eq!(log.log_start_offset(), 1, "in memory it has moved");
    });
}

#[test]
fn a_full_disk_puts_checkpoints_off_and_lets_retention_make_room() {
    block_on(async {
        let machine = Machine::with_config(1, |config| {
            config.segment_bytes = 700;
            config.retention_bytes = 700;
        });
        let (manager, log) = machine.start().await;
        for _ in 0..20 {
            append(&log, &Batch::sized(100)).unwrap();
        }
        flush(&manager, &log).await;
        log.note_high_watermark(20);
        // Every checkpoint's write fails.
        machine
            .memory
            .disk
            .inject(Fault { count: u64::MAX, ..Fault::nth(Operation::Write, 0, Failure::NoSpace).on("checkpoint") });
        manager.maintain(1_000).await;
        assert!(manager.directories()[0].online);
        assert_eq!(log.segment_base_offsets(), [12, 16]);
        assert_eq!(machine.names_with(".deleted"), Vec::<String>::new(), "the room is there at once");
        drop((manager, log));
        machine.memory.disk.clear_faults();
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let (_manager, log) = machine.start().await;
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (12, 20));
    });
}

#[test]
fn a_disk_without_room_for_a_name_gives_segments_up_all_the_same() {
    // Whether the new start of the log can be written down or not.
    for names in [".log", ""] {
        block_on(async {
            let machine = Machine::with_config(1, |config| {
                config.segment_bytes = 700;
                config.retention_bytes = 700;
            });
            let (manager, log) = machine.start().await;
            for _ in 0..20 {
                append(&log, &Batch::sized(100)).unwrap();
            }
            flush(&manager, &log).await;
            log.note_high_watermark(20);
            let no_room = Fault::nth(Operation::Rename, 0, Failure::NoSpace).on(names);
            machine.memory.disk.inject(Fault { count: u64::MAX, ..no_room });
            manager.apply_retention(1_000).await;
            assert!(manager.directories()[0].online, "{names:?}");
            assert_eq!(log.segment_base_offsets(), [12, 16], "{names:?}");
            assert_eq!(machine.names_with(".log").len(), 2, "{names:?}");
        });
    }
}

#[test]
fn a_failed_sync_takes_the_directory_offline_for_good() {
    block_on(async {
        for operation in [Operation::Sync, Operation::SyncDir] {
            let machine = Machine::with_config(1, |config| config.segment_bytes = 400);
            let (manager, log) = machine.start().await;
            let told = Arc::new(Told::default());
            manager.set_flush_listener(&(told.clone() as Arc<dyn FlushListener>));
            append(&log, &Batch::sized(100)).unwrap();
            flush(&manager, &log).await;
            let flushed = log.flushed_offset();
            machine.memory.disk.inject(Fault::nth(operation, 0, Failure::Io));
            for _ in 0..4 {
                append(&log, &Batch::sized(100)).unwrap();
            }
            manager.request_flush(&log);
            let failed = log.wait_flushed(log.log_end_offset()).await;
            assert_eq!(failed, Err(FlushFailed::DirectoryOffline(partition(0))), "{operation:?}");
            assert_eq!(log.flushed_offset(), flushed);
            manager.request_flush(&log);
            tokio::task::yield_now().await;
            assert!(log.wait_flushed(log.log_end_offset()).await.is_err(), "not tried again");
            assert!(matches!(append(&log, &Batch::of(&["x"])), Err(AppendError::DirectoryOffline(_))));
            assert!(matches!(log.read(0, 100, true, i64::MAX), Err(ReadError::DirectoryOffline(_))));
            assert_eq!(told.failed.lock().len(), 1);
            assert_eq!(*told.flushed.lock(), [(partition(0), flushed)]);
            assert!(!manager.directories()[0].online);
            manager.shutdown(-1).await;
            let disk = machine.memory.disk.mount();
            assert!(!disk.exists(Path::new("/data/.kafka_cleanshutdown")).unwrap(), "no mark on a failed directory");
        }
    });
}

#[test]
fn a_write_error_takes_the_directory_offline() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        append(&log, &Batch::of(&["a"])).unwrap();
        machine.memory.disk.inject(Fault::nth(Operation::Write, 0, Failure::Io).on(".log"));
        assert!(matches!(append(&log, &Batch::of(&["b"])), Err(AppendError::DirectoryOffline(_))));
        assert!(matches!(append(&log, &Batch::of(&["c"])), Err(AppendError::DirectoryOffline(_))));
        assert!(machine.try_create(&manager, 1).await.is_err());
    });
}

#[test]
fn short_and_interrupted_writes_are_continued() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        for nth in 0..4 {
            machine.memory.disk.inject(Fault::nth(Operation::Write, nth, Failure::Short).on(".log"));
            machine.memory.disk.inject(Fault::nth(Operation::Write, nth, Failure::Interrupted).on(".log"));
        }
        for number in 0..20 {
            append(&log, &Batch::of(&[&number.to_string()])).unwrap();
        }
        drop((manager, log));
        machine.memory.disk.kill();
        let (_manager, log) = machine.start().await;
        assert_eq!(values_from(&log, 0, 1_000).len(), 20);
    });
}

#[test]
fn a_broken_invariant_is_told_once_and_stops_the_partition() {
    block_on(async {
        let machine = Machine::new(1);
        let events: Arc<Mutex<Vec<FatalEvent>>> = Arc::default();
        let mut settings = Machine::settings();
        let told = Arc::clone(&events);
        settings.fatal = Arc::new(move |event| told.lock().push(event));
        let config = machine.config.clone();
        let manager = LogManager::open(machine.memory.world(), settings, move |_| config.clone()).await.unwrap();
        let log = machine.try_create(&manager, 0).await.unwrap();
        append(&log, &Batch::of(&["a"])).unwrap();
        let (bytes, mut header) = Batch::of(&["b"]).build();
        header.batch_length += 1;
        let broken =
            ottla_log::BatchToAppend { bytes: &bytes, header: &header, origin: ottla_log::AppendOrigin::Client };
        let append_broken = || log.append(broken, ottla_types::LeaderEpoch(0), 1_000);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(append_broken)).is_err());
        assert_eq!(*events.lock(), [FatalEvent { topic_partition: Some(partition(0)), operation: "append" }]);
        assert!(append(&log, &Batch::of(&["c"])).is_err());
        assert_eq!(events.lock().len(), 1);
    });
}

#[test]
fn a_cut_that_did_not_succeed_and_was_seen_is_made_durable_by_the_start_that_shows_it() {
    for durability in [Durability::Fsync, Durability::PageCache] {
        block_on(async {
            let machine = Machine::with_config(1, |config| {
                config.segment_bytes = 700;
                config.durability = durability;
            });
            let (manager, log) = machine.start().await;
            for _ in 0..8 {
                append(&log, &Batch::sized(100)).unwrap();
            }
            flush(&manager, &log).await;
            manager.checkpoint().await;
            let end = log.segment_base_offsets().last().unwrap() + 1;
            // The file is cut, and not synced.
            machine.memory.disk.inject(Fault::nth(Operation::SetLen, 0, Failure::Io).on("index"));
            assert!(log.truncate_to(end).is_err());
            drop((manager, log));
            machine.memory.disk.clear_faults();
            machine.memory.disk.kill();

            let (manager, log) = machine.start().await;
            assert_eq!(log.log_end_offset(), end);
            drop((manager, log));
            machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);

            let (_manager, log) = machine.start().await;
            assert_eq!(log.log_end_offset(), end, "{durability:?}");
        });
    }
}
