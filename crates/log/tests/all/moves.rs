//! Partitions that move from one log directory to another.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_log::{LogManager, MoveReplicaError, MoveSettings, NewPartition, PartitionLog};
use ottla_rt::memory::{Failure, Fault, Operation, PowerLoss};

use crate::support::*;

const A: &str = "/a";
const B: &str = "/b";

fn unthrottled() -> MoveSettings {
    MoveSettings { threads: 1, bytes_per_second: f64::MAX }
}

/// The first bytes of a move are its last for an hour.
fn stalled() -> MoveSettings {
    MoveSettings { threads: 1, bytes_per_second: 1.0 }
}

fn machine(change: impl FnOnce(&mut LogConfig)) -> Machine {
    Machine::with_config(1, |config| {
        config.segment_bytes = 400;
        config.file_delete_delay_ms = 1_000;
        change(config);
    })
}

async fn try_open(machine: &Machine) -> Result<LogManager, ottla_log::LogError> {
    let mut settings = Machine::settings();
    settings.log_dirs = vec![PathBuf::from(A), PathBuf::from(B)];
    let config = machine.config.clone();
    LogManager::open(machine.memory.world(), settings, move |_| config.clone()).await
}

async fn open(machine: &Machine) -> LogManager {
    try_open(machine).await.unwrap()
}

/// Partition 0, in `/a` when it is new.
async fn start(machine: &Machine) -> (LogManager, Arc<PartitionLog>) {
    let manager = open(machine).await;
    let wanted =
        NewPartition { topic_partition: partition(0), topic_id: TOPIC_ID, config: Arc::new(machine.config.clone()) };
    let log = manager.create(vec![wanted]).await.pop().unwrap().unwrap();
    (manager, log)
}

fn is_in(log: &PartitionLog, directory: &str) -> bool {
    log.path().parent() == Some(Path::new(directory))
}

/// Lets moves run until this holds.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// Lets moves run until there are none.
async fn settled(manager: &LogManager) {
    until(|| manager.futures().is_empty()).await;
}

async fn fill(manager: &LogManager, log: &Arc<PartitionLog>, count: i32) {
    for number in 0..count {
        let batch = Batch::of(&[&format!("{number:0100}")]).by_producer(77, 0, number);
        append_with_epoch(log, &batch, number / 4).unwrap();
    }
    flush(manager, log).await;
}

fn names(machine: &Machine, directory: &str) -> Vec<String> {
    let entries = machine.memory.disk.mount().read_dir(Path::new(directory)).unwrap();
    entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name).collect()
}

fn contents(log: &PartitionLog) -> Vec<(i64, String)> {
    text(&values_from(log, log.log_start_offset(), 1_000))
}

#[test]
fn a_partition_is_the_same_in_its_new_directory() {
    block_on(async {
        let machine = machine(|_| {});
        let (manager, log) = start(&machine).await;
        fill(&manager, &log, 20).await;
        let ids: Vec<_> = manager.directories().iter().map(|directory| directory.id.unwrap()).collect();
        manager.delete_records(vec![(Arc::clone(&log), 3)]).await.pop().unwrap().unwrap();
        manager.checkpoint().await;
        let before = (contents(&log), log.active_producers(), log.size(), log.segment_base_offsets());
        let epochs = || (0..6).map(|epoch| log.end_offset_for_epoch(epoch)).collect::<Vec<_>>();
        let epochs_before = epochs();
        assert_eq!(log.directory_id(), ids[0]);
        manager.start_moves(unthrottled());
        manager.move_replica(&partition(0), Path::new(B)).await.unwrap();
        settled(&manager).await;
        assert_eq!((log.path().as_ref(), log.directory_id()), (Path::new("/b/orders-0"), ids[1]));
        assert_eq!((contents(&log), log.active_producers(), log.size(), log.segment_base_offsets()), before);
        assert_eq!((epochs(), log.flushed_offset()), (epochs_before, 20));
        let deleted = names(&machine, A);
        assert!(deleted.len() == 1 && deleted[0].ends_with("-delete"), "{deleted:?}");
        machine.memory.clock.advance(Duration::from_secs(1));
        manager.remove_deleted().await;
        assert_eq!(names(&machine, A), Vec::<String>::new());

        // It goes on there, and knows who wrote what.
        assert!(append_with_epoch(&log, &Batch::of(&["y"]).by_producer(77, 0, 19), 5).unwrap().duplicate);
        append_with_epoch(&log, &Batch::of(&["x"]).by_producer(77, 0, 20), 5).unwrap();
        flush(&manager, &log).await;
        let after = contents(&log);
        assert_eq!(after.len(), 18);
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let (manager, log) = start(&machine).await;
        assert!(is_in(&log, B));
        assert_eq!((contents(&log), log.log_start_offset()), (after, 3));
        manager.shutdown(-1).await;
    });
}

#[test]
fn it_can_go_back_and_forth() {
    block_on(async {
        let machine = machine(|_| {});
        let (mut manager, mut log) = start(&machine).await;
        let mut expected = Vec::new();
        for round in 0..6 {
            manager.start_moves(unthrottled());
            let value = format!("{round:0150}");
            append(&log, &Batch::of(&[&value])).unwrap();
            expected.push((round, value));
            flush(&manager, &log).await;
            let target = if round % 2 == 0 { B } else { A };
            manager.move_replica(&partition(0), Path::new(target)).await.unwrap();
            settled(&manager).await;
            assert!(is_in(&log, target));
            if round == 3 {
                drop((manager, log));
                machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
                (manager, log) = start(&machine).await;
            }
            assert_eq!(contents(&log), expected);
        }
    });
}

#[test]
fn appends_go_on_meanwhile() {
    block_on(async {
        let machine = machine(|_| {});
        let (manager, log) = start(&machine).await;
        fill(&manager, &log, 30).await;
        manager.start_moves(unthrottled());
        manager.move_replica(&partition(0), Path::new(B)).await.unwrap();
        let mut number = 30;
        let mut during = 0;
        for turn in 0.. {
            tokio::task::yield_now().await;
            if manager.futures().is_empty() {
                break;
            }
            // A log that grows faster than it is copied is never moved.
            if turn % 4 != 0 {
                continue;
            }
            append_with_epoch(&log, &Batch::of(&[&format!("{number:0100}")]), 9).unwrap();
            number += 1;
            during += 1;
            // Readers too.
            assert_eq!(values_from(&log, number - 3, 100).len(), 3);
        }
        assert!(during > 10 && is_in(&log, B), "{during}");
        // What was appended to the old file, and not flushed, is durable in the new one.
        assert!(log.flushed_offset() >= number - 1);
        flush(&manager, &log).await;
        let expected: Vec<_> = (0..number).map(|number| (number, format!("{number:0100}"))).collect();
        assert_eq!(contents(&log), expected);
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let (_manager, log) = start(&machine).await;
        assert_eq!(contents(&log), expected);
    });
}

/// Everything acknowledged, whatever step of a move the power fails in; and the move goes on afterwards.
#[test]
fn power_may_fail_in_every_step() {
    block_on(async {
        let mut stayed = 0;
        let mut went = 0;
        for operations in 0.. {
            let machine = machine(|_| {});
            let (manager, log) = start(&machine).await;
            fill(&manager, &log, 8).await;
            machine.memory.disk.power_off_after(operations);
            manager.start_moves(unthrottled());
            let begun = manager.move_replica(&partition(0), Path::new(B)).await;
            let mut acknowledged = 8;
            while begun.is_ok() && !manager.futures().is_empty() {
                tokio::task::yield_now().await;
                if append_with_epoch(&log, &Batch::of(&[&format!("{:0100}", log.log_end_offset())]), 2).is_ok() {
                    let end = log.log_end_offset();
                    manager.request_flush(&log);
                    if log.wait_flushed(end).await.is_ok() {
                        acknowledged = end;
                    }
                }
            }
            let finished = machine.memory.disk.is_powered();
            drop((manager, log));
            let loss = match operations % 3 {
                0 => PowerLoss::KeepUnsynced,
                1 => PowerLoss::LoseUnsynced,
                _ => PowerLoss::Arbitrary { seed: operations },
            };
            machine.memory.disk.clear_faults();
            machine.memory.disk.lose_power(loss);

            let (manager, log) = start(&machine).await;
            let found = contents(&log);
            assert!(found.len() as i64 >= acknowledged, "{operations}: {acknowledged} of {found:?}");
            for (offset, value) in &found {
                assert_eq!(*value, format!("{offset:0100}"), "{operations}");
            }
            let named = [A, B].map(|directory| names(&machine, directory).contains(&"orders-0".to_owned()));
            assert_eq!(named, [is_in(&log, A), is_in(&log, B)], "{operations}: one directory has the name");
            if is_in(&log, A) {
                stayed += 1;
            } else {
                went += 1;
            }
            let goes_on = !manager.futures().is_empty();
            manager.start_moves(unthrottled());
            settled(&manager).await;
            assert!(!goes_on || is_in(&log, B), "{operations}");
            assert_eq!(contents(&log), found, "{operations}");
            append_with_epoch(&log, &Batch::of(&["after"]), 2).unwrap();
            flush(&manager, &log).await;
            manager.shutdown(-1).await;
            if finished {
                break;
            }
        }
        assert!(stayed > 20 && went > 2, "{stayed} {went}");
    });
}

#[test]
fn a_target_that_fails_or_is_full_costs_the_move_only() {
    block_on(async {
        let operations = [
            Operation::CreateDir,
            Operation::Create,
            Operation::Write,
            Operation::SetLen,
            Operation::Sync,
            Operation::SyncDir,
            Operation::Rename,
        ];
        for failure in [Failure::NoSpace, Failure::Io] {
            for operation in operations {
                let mut struck = 0;
                for nth in 0.. {
                    let case = format!("{failure:?} of {operation:?} {nth}");
                    let machine = machine(|_| {});
                    let (manager, log) = start(&machine).await;
                    fill(&manager, &log, 8).await;
                    let before = machine.memory.disk.faults_struck();
                    machine.memory.disk.inject(Fault::nth(operation, nth, failure).on(B));
                    manager.start_moves(unthrottled());
                    let begun = manager.move_replica(&partition(0), Path::new(B)).await;
                    settled(&manager).await;
                    let has_struck = machine.memory.disk.faults_struck() > before;
                    machine.memory.disk.clear_faults();
                    let online: Vec<bool> =
                        manager.directories().into_iter().map(|directory| directory.online).collect();
                    let costs_little = failure == Failure::NoSpace && !log.is_offline();
                    assert_eq!(online, [true, !has_struck || costs_little], "{case}");
                    let expected: Vec<_> = (0..8).map(|number| (number, format!("{number:0100}"))).collect();
                    if log.is_offline() {
                        // Whether its new name is durable is not known.
                        assert_eq!(operation, Operation::SyncDir, "{case}");
                    } else {
                        assert_eq!(contents(&log), expected, "{case}");
                        append_with_epoch(&log, &Batch::of(&["more"]), 2).unwrap();
                        flush(&manager, &log).await;
                    }
                    assert_eq!(is_in(&log, A), begun.is_err() || (has_struck && !log.is_offline()), "{case}");
                    let end = log.log_end_offset();
                    drop((manager, log));
                    machine.memory.disk.kill();
                    let (manager, log) = start(&machine).await;
                    assert_eq!(log.log_end_offset(), end, "{case}");
                    assert_eq!(contents(&log)[..8], expected, "{case}");
                    manager.start_moves(unthrottled());
                    settled(&manager).await;
                    if !has_struck {
                        break;
                    }
                    struck += 1;
                }
                assert!(struck > 0, "{failure:?} of {operation:?}");
            }
        }
    });
}

#[test]
fn an_old_directory_that_cannot_be_renamed_is_known_at_the_next_start() {
    block_on(async {
        let machine = machine(|_| {});
        let (manager, log) = start(&machine).await;
        fill(&manager, &log, 5).await;
        machine.memory.disk.inject(Fault::nth(Operation::Rename, 0, Failure::Io).on("/a/orders-0"));
        manager.start_moves(unthrottled());
        manager.move_replica(&partition(0), Path::new(B)).await.unwrap();
        settled(&manager).await;
        assert!(is_in(&log, B) && !manager.directories()[0].online);
        append_with_epoch(&log, &Batch::of(&["after"]), 2).unwrap();
        flush(&manager, &log).await;
        assert_eq!(names(&machine, A), ["orders-0"]);
        drop((manager, log));
        machine.memory.disk.kill();
        let (_manager, log) = start(&machine).await;
        assert!(is_in(&log, B));
        assert_eq!(log.log_end_offset(), 6);
        assert!(names(&machine, A)[0].ends_with("-delete"));
    });
}

/// Without room for another name the old directory goes at once: a start would take it for the partition when that was
/// deleted in its new place.
#[test]
fn an_old_directory_that_has_no_room_for_another_name_does_not_come_back() {
    block_on(async {
        let machine = machine(|_| {});
        let (manager, log) = start(&machine).await;
        fill(&manager, &log, 5).await;
        machine.memory.disk.inject(Fault::nth(Operation::Rename, 0, Failure::NoSpace).on("/a/orders-0"));
        manager.start_moves(unthrottled());
        manager.move_replica(&partition(0), Path::new(B)).await.unwrap();
        settled(&manager).await;
        assert!(is_in(&log, B) && manager.directories()[0].online);
        let read = contents(&log);
        assert_eq!(read.len(), 5);
        manager.delete(&partition(0)).await.unwrap();
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let manager = open(&machine).await;
        assert!(manager.get(&partition(0)).is_none());
        assert_eq!(names(&machine, A), Vec::<String>::new());
    });
}

#[test]
fn the_log_may_change_in_every_way_while_it_moves() {
    block_on(async {
        let machine = machine(|_| {});
        let (manager, log) = start(&machine).await;
        fill(&manager, &log, 20).await;
        manager.start_moves(stalled());
        manager.move_replica(&partition(0), Path::new(B)).await.unwrap();
        until(|| manager.futures()[0].size > 0).await;
        let status = &manager.futures()[0];
        assert!(status.size < log.size() && status.offset_lag > 0 && status.offset_lag < 20, "{status:?}");

        // What was copied first goes, and so does what was to be copied last.
        manager.delete_records(vec![(Arc::clone(&log), 8)]).await.pop().unwrap().unwrap();
        log.truncate_to(15).unwrap();
        for number in 15..18 {
            append_with_epoch(&log, &Batch::of(&[&format!("new {number:0100}")]), 7).unwrap();
        }
        flush(&manager, &log).await;
        let expected = contents(&log);
        manager.start_moves(unthrottled());
        settled(&manager).await;
        assert!(is_in(&log, B));
        assert_eq!(contents(&log), expected);
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let (_manager, log) = start(&machine).await;
        assert_eq!((contents(&log), log.log_start_offset()), (expected, 8));
    });
}

#[test]
fn asking_for_another_directory_gives_a_move_up() {
    block_on(async {
        let machine = machine(|_| {});
        let (manager, log) = start(&machine).await;
        fill(&manager, &log, 20).await;
        manager.start_moves(stalled());
        let go = async |to: &str| manager.move_replica(&partition(0), Path::new(to)).await;
        go(A).await.unwrap();
        assert!(manager.futures().is_empty(), "it is there");
        go(B).await.unwrap();
        until(|| manager.futures()[0].size > 0).await;
        let copy = names(&machine, B);
        assert!(copy.len() == 1 && copy[0].ends_with("-future"), "{copy:?}");
        go(B).await.unwrap();
        assert_eq!(names(&machine, B), copy, "the same move");
        go(A).await.unwrap();
        assert!(manager.futures().is_empty() && is_in(&log, A));
        manager.remove_deleted().await;
        assert_eq!(names(&machine, B), Vec::<String>::new());
        // And it can be asked for again.
        manager.start_moves(unthrottled());
        go(B).await.unwrap();
        settled(&manager).await;
        assert!(is_in(&log, B) && contents(&log).len() == 20);
    });
}

#[test]
fn so_many_are_moved_at_a_time() {
    block_on(async {
        for threads in [1, 2] {
            let machine = machine(|_| {});
            let (manager, first) = start(&machine).await;
            let wanted = NewPartition {
                topic_partition: partition(1),
                topic_id: TOPIC_ID,
                config: Arc::new(machine.config.clone()),
            };
            manager.move_replica(&partition(1), Path::new(A)).await.unwrap_err();
            let second = manager.create(vec![wanted]).await.pop().unwrap().unwrap();
            for log in [&first, &second] {
                fill(&manager, log, 10).await;
                manager.move_replica(log.topic_partition(), Path::new(B)).await.unwrap();
            }
            manager.start_moves(MoveSettings { threads, ..stalled() });
            assert_eq!(manager.move_settings().map(|settings| settings.threads), Some(threads));
            until(|| manager.futures().iter().any(|future| future.size > 0)).await;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let disk = machine.memory.disk.mount();
            let has_files = |copy: &String| !disk.read_dir(&Path::new(B).join(copy)).unwrap().is_empty();
            assert_eq!(names(&machine, B).iter().filter(|copy| has_files(copy)).count(), threads);
            manager.start_moves(unthrottled());
            settled(&manager).await;
            assert!(is_in(&first, B) && is_in(&second, B));
        }
    });
}

#[test]
fn a_deleted_partition_takes_its_copy_along() {
    block_on(async {
        let machine = machine(|_| {});
        let (manager, log) = start(&machine).await;
        fill(&manager, &log, 20).await;
        manager.start_moves(stalled());
        manager.move_replica(&partition(0), Path::new(B)).await.unwrap();
        until(|| manager.futures()[0].size > 0).await;
        manager.delete(&partition(0)).await.unwrap();
        manager.start_moves(unthrottled());
        settled(&manager).await;
        machine.memory.clock.advance(Duration::from_secs(1));
        manager.remove_deleted().await;
        assert_eq!([names(&machine, A), names(&machine, B)], [Vec::<String>::new(), Vec::new()]);
    });
}

#[test]
fn a_move_goes_on_at_the_next_start_with_what_is_the_same() {
    block_on(async {
        for damage in [false, true] {
            let machine = machine(|_| {});
            let (manager, log) = start(&machine).await;
            fill(&manager, &log, 20).await;
            let expected = contents(&log);
            let parts = log.segment_base_offsets().len();
            manager.start_moves(stalled());
            manager.move_replica(&partition(0), Path::new(B)).await.unwrap();
            until(|| manager.futures()[0].size > 0).await;
            manager.shutdown(-1).await;
            drop((manager, log));
            let copy = names(&machine, B).pop().unwrap();
            let first = Path::new(B).join(&copy).join("00000000000000000000.log");
            let disk = machine.memory.disk.mount();
            let mut bytes = disk.read_file(&first, 10_000).unwrap();
            if damage {
                bytes[200] ^= 1;
                disk.write_file_atomically(&first, &bytes).unwrap();
            }
            let (manager, log) = start(&machine).await;
            assert_eq!(names(&machine, B), [copy]);
            assert_eq!(manager.futures().len(), 1);
            manager.start_moves(unthrottled());
            settled(&manager).await;
            assert!(is_in(&log, B) && parts > 3);
            assert_eq!(contents(&log), expected);
            drop((manager, log));
            machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
            let (_manager, log) = start(&machine).await;
            assert_eq!(contents(&log), expected, "damaged: {damage}");
        }
    });
}

#[test]
fn damage_is_not_copied() {
    block_on(async {
        let machine = machine(|_| {});
        let (manager, log) = start(&machine).await;
        fill(&manager, &log, 20).await;
        let path = log.path().join("00000000000000000000.log");
        let disk = machine.memory.disk.mount();
        let file = disk.open(&path, ottla_rt::OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[std::io::IoSlice::new(b"?")], 150).unwrap();
        manager.start_moves(unthrottled());
        manager.move_replica(&partition(0), Path::new(B)).await.unwrap();
        settled(&manager).await;
        assert!(is_in(&log, A) && manager.directories().iter().all(|directory| directory.online));
        manager.remove_deleted().await;
        assert_eq!(names(&machine, B), Vec::<String>::new());
    });
}

#[test]
fn copies_without_their_logs() {
    block_on(async {
        let machine = machine(|_| {});
        let (manager, log) = start(&machine).await;
        manager.shutdown(-1).await;
        drop((manager, log));
        let disk = machine.memory.disk.mount();
        let unique = "0123456789abcdef0123456789abcdef";
        // Of a partition that is not here; and beside the log itself.
        for copy in [format!("/b/other-0.{unique}-future"), format!("/a/orders-0.{unique}-future")] {
            disk.create_dir_all(Path::new(&copy)).unwrap();
        }
        let (manager, _log) = start(&machine).await;
        assert!(manager.futures().is_empty());
        let strays = names(&machine, B);
        assert!(strays.len() == 1 && strays[0].starts_with("other-0.") && strays[0].ends_with("-stray"), "{strays:?}");
        manager.remove_deleted().await;
        assert_eq!(names(&machine, A), ["orders-0"]);
    });
}

#[test]
fn two_directories_of_one_partition_that_nobody_moved_are_refused() {
    block_on(async {
        let machine = machine(|_| {});
        let (manager, log) = start(&machine).await;
        fill(&manager, &log, 3).await;
        manager.shutdown(-1).await;
        drop((manager, log));
        let disk = machine.memory.disk.mount();
        disk.create_dir_all(Path::new("/b/orders-0")).unwrap();
        for name in ["partition.metadata", "00000000000000000000.log"] {
            let bytes = disk.read_file(&Path::new("/a/orders-0").join(name), 10_000).unwrap();
            disk.write_file_atomically(&Path::new("/b/orders-0").join(name), &bytes).unwrap();
        }
        let refused = try_open(&machine).await.err().unwrap();
        assert_eq!(refused.to_string(), "partition orders-0 is in both /a/orders-0 and /b/orders-0");
    });
}

#[test]
fn what_is_refused() {
    block_on(async {
        let machine = machine(|_| {});
        let (manager, log) = start(&machine).await;
        let go = async |name: &str, to: &str| {
            let topic_partition = ottla_types::TopicPartition::new(name, 0);
            manager.move_replica(&topic_partition, Path::new(to)).await.unwrap_err()
        };
        assert!(matches!(go("orders", "/c").await, MoveReplicaError::UnknownDirectory(_)));
        assert!(matches!(go(&"x".repeat(240), "/c").await, MoveReplicaError::NameTooLong(_)));
        assert!(matches!(go("new", B).await, MoveReplicaError::UnknownPartition(_)));
        let disk = machine.memory.disk.mount();
        disk.create_dir_all(Path::new("/b/orders-0")).unwrap();
        assert!(matches!(go("orders", B).await, MoveReplicaError::Occupied(_)));
        disk.remove_dir_all(Path::new("/b/orders-0")).unwrap();

        // It has not been made, and is made where it was said.
        let two = |topic: &str| NewPartition {
            topic_partition: ottla_types::TopicPartition::new(topic, 0),
            topic_id: ottla_types::Uuid([5; 16]),
            config: Arc::new(machine.config.clone()),
        };
        manager.create(vec![two("x"), two("y"), two("new")]).await;
        let made = manager.get(&ottla_types::TopicPartition::new("new", 0)).unwrap();
        assert!(is_in(&made, B));

        machine.memory.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on("/b/new-0"));
        append(&made, &Batch::of(&["x"])).unwrap();
        manager.request_flush(&made);
        made.wait_flushed(1).await.unwrap_err();
        assert!(matches!(go("orders", B).await, MoveReplicaError::DirectoryOffline(_)));
        assert!(matches!(go("new", A).await, MoveReplicaError::PartitionOffline(_)));
        assert!(is_in(&log, A));
    });
}
