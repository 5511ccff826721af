//! A volume without room: appends are refused, the bookkeeping goes on, and room that is made is used.

use std::path::Path;
use std::time::Duration;

use ottla_log::{AppendError, LogManager, PartitionLog};
use ottla_rt::memory::{Failure, Fault, Operation, PowerLoss};

use crate::support::*;

const RESERVE: u64 = 32 * 1024;
const CAPACITY: u64 = 400 * 1024;

fn machine() -> Machine {
    let mut machine = Machine::with_config(1, |config| {
        config.segment_bytes = 40_000;
        config.retention_bytes = 80_000;
        config.file_delete_delay_ms = 0;
    });
    machine.reserve_bytes = RESERVE;
    machine
}

fn len_of(machine: &Machine, name: &str) -> u64 {
    let entries = machine.memory.disk.mount().read_dir(Path::new("/data")).unwrap();
    entries.iter().find(|entry| entry.name == name).map_or(0, |entry| entry.len)
}

fn recovery_point(machine: &Machine) -> String {
    let path = Path::new("/data/recovery-point-offset-checkpoint");
    String::from_utf8(machine.memory.disk.mount().read_file(path, 1_000).unwrap()).unwrap()
}

/// Appends until there is no room; returns how many records there are.
fn fill(log: &PartitionLog) -> i64 {
    for _ in 0..10_000 {
        match append(log, &Batch::sized(1_000)) {
            Ok(_) => {}
            Err(AppendError::NoSpace(_)) => return log.log_end_offset(),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{} records are there, and the disk is not full", log.log_end_offset());
}

async fn make_room(machine: &Machine, manager: &LogManager, log: &PartitionLog) {
    log.note_high_watermark(log.log_end_offset());
    manager.apply_retention(1_000).await;
    machine.memory.clock.advance(Duration::from_secs(1));
    manager.remove_deleted().await;
}

#[test]
fn the_bookkeeping_goes_on_and_freed_room_heals() {
    block_on(async {
        let machine = machine();
        machine.memory.disk.set_capacity(Some(CAPACITY));
        let (manager, log) = machine.start().await;
        manager.remove_deleted().await;
        assert_eq!(len_of(&machine, "ottla.reserve"), RESERVE);
        let end = fill(&log);
        assert!(end > 200, "{end}");
        assert_eq!(len_of(&machine, "ottla.reserve"), 0, "it is the bookkeeping's now");
        assert!(matches!(append(&log, &Batch::of(&["small"])), Err(AppendError::NoSpace(_))), "and not an append's");
        flush(&manager, &log).await;
        manager.checkpoint().await;
        assert_eq!(recovery_point(&machine), format!("0\n1\norders 0 {end}\n"));
        assert_eq!(values_from(&log, 0, 10_000).len() as i64, end);
        manager.remove_deleted().await;
        assert!(append(&log, &Batch::of(&["small"])).is_err(), "there is no room yet");

        make_room(&machine, &manager, &log).await;
        assert!(log.log_start_offset() > 0);
        assert_eq!(len_of(&machine, "ottla.reserve"), RESERVE, "kept for the next time");
        assert_eq!(append(&log, &Batch::of(&["after"])).unwrap().base_offset, end);
        flush(&manager, &log).await;
        assert!(manager.directories()[0].online);
        let start = log.log_start_offset();
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let (_manager, log) = machine.start().await;
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (start, end + 1));
    });
}

#[test]
fn it_can_be_filled_again_and_again_and_stopped_cleanly_when_full() {
    block_on(async {
        let machine = machine();
        machine.memory.disk.set_capacity(Some(CAPACITY));
        let mut end = 0;
        for _ in 0..4 {
            let (manager, log) = machine.start().await;
            assert_eq!(log.log_end_offset(), end);
            make_room(&machine, &manager, &log).await;
            end = fill(&log);
            manager.shutdown(-1).await;
            drop((manager, log));
            let disk = machine.memory.disk.mount();
            assert!(disk.exists(Path::new("/data/.kafka_cleanshutdown")).unwrap());
            drop(disk);
            machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        }
        assert!(end > 500, "{end}");
    });
}

#[test]
fn without_a_reserve_a_checkpoint_is_put_off() {
    block_on(async {
        let mut machine = machine();
        machine.reserve_bytes = 0;
        machine.memory.disk.set_capacity(Some(CAPACITY));
        let (manager, log) = machine.start().await;
        append(&log, &Batch::of(&["first"])).unwrap();
        flush(&manager, &log).await;
        manager.checkpoint().await;
        let before = recovery_point(&machine);
        let end = fill(&log);
        flush(&manager, &log).await;
        manager.checkpoint().await;
        assert_eq!(recovery_point(&machine), before);
        assert!(manager.directories()[0].online);
        make_room(&machine, &manager, &log).await;
        assert_eq!(append(&log, &Batch::of(&["after"])).unwrap().base_offset, end);
    });
}

#[test]
fn a_deletion_needs_no_room_for_another_name() {
    block_on(async {
        let machine = machine();
        let (manager, log) = machine.start().await;
        for _ in 0..200 {
            append(&log, &Batch::sized(1_000)).unwrap();
        }
        flush(&manager, &log).await;
        machine
            .memory
            .disk
            .inject(Fault { count: u64::MAX, ..Fault::nth(Operation::Rename, 0, Failure::NoSpace).on("orders-0/") });
        make_room(&machine, &manager, &log).await;
        assert!(manager.directories()[0].online);
        let first = log.segment_base_offsets()[0];
        assert!(first > 0 && log.log_start_offset() == first);
        assert_eq!(machine.names_with(".log").len(), log.segment_base_offsets().len());
        assert_eq!(machine.names_with(".deleted"), Vec::<String>::new());
    });
}

/// Space runs out at each write of the bookkeeping in turn; what was acknowledged is there, and the directory stays.
#[test]
fn no_space_at_any_operation_loses_nothing() {
    block_on(async {
        for operation in
            [Operation::Write, Operation::Create, Operation::SetLen, Operation::Rename, Operation::CreateDir]
        {
            for nth in 0..40 {
                let mut machine = machine();
                machine.config.segment_bytes = 3_000;
                machine.config.retention_bytes = 9_000;
                machine.journal.from_partitions = 1;
                let (manager, log) = machine.start().await;
                manager.remove_deleted().await;
                machine.memory.disk.inject(Fault::nth(operation, nth, Failure::NoSpace));
                let mut acknowledged = 0;
                for step in 0..30 {
                    if append(&log, &Batch::sized(700)).is_ok() {
                        flush(&manager, &log).await;
                        acknowledged = log.log_end_offset();
                    }
                    if step % 7 == 0 {
                        manager.checkpoint().await;
                        make_room(&machine, &manager, &log).await;
                    }
                }
                assert!(manager.directories()[0].online, "{operation:?} {nth}");
                assert!(acknowledged >= 20, "{operation:?} {nth}: {acknowledged}");
                let start = log.log_start_offset();
                drop((manager, log));
                machine.memory.disk.clear_faults();
                machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
                let (_manager, log) = machine.start().await;
                assert!(log.log_start_offset() <= start);
                assert_eq!(log.log_end_offset(), acknowledged, "{operation:?} {nth}");
            }
        }
    });
}
