//! The journals of two log directories, and partitions that go from one to the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_log::{JournalSettings, LogManager, MoveReplicaError, MoveSettings, NewPartition, PartitionLog};
use ottla_rt::memory::{Failure, Fault, Operation, PowerLoss};

use crate::support::*;

const A: &str = "/a";
const B: &str = "/b";

/// Every small append goes through the journal.
async fn open(machine: &Machine) -> LogManager {
    let mut settings = Machine::settings();
    settings.log_dirs = vec![PathBuf::from(A), PathBuf::from(B)];
    settings.journal = JournalSettings { from_partitions: 1, file_bytes: 1 << 20 };
    settings.reserve_bytes = 0;
    settings.hot_tail_bytes = 1 << 20;
    let config = machine.config.clone();
    let manager = LogManager::open(machine.memory.world(), settings, move |_| config.clone()).await.unwrap();
    manager.start_moves(MoveSettings { threads: 1, bytes_per_second: f64::MAX });
    manager
}

/// Made and durable, so that its appends are for the journal. The first is in `/a`, the second in `/b`.
async fn create(machine: &Machine, manager: &LogManager, number: i32) -> Arc<PartitionLog> {
    let config = Arc::new(machine.config.clone());
    let wanted = NewPartition { topic_partition: partition(number), topic_id: TOPIC_ID, config };
    let log = manager.create(vec![wanted]).await.pop().unwrap().unwrap();
    append(&log, &Batch::of(&["cut"])).unwrap();
    log.truncate_to(0).unwrap();
    log
}

/// Lets flushers and moves run: no clock is involved.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it does not come to that");
}

async fn append_durably(manager: &LogManager, log: &Arc<PartitionLog>, value: &str) {
    append(log, &Batch::of(&[value])).unwrap();
    flush(manager, log).await;
}

async fn move_to(manager: &LogManager, log: &PartitionLog, directory: &str) {
    manager.move_replica(log.topic_partition(), Path::new(directory)).await.unwrap();
    until(|| manager.futures().is_empty()).await;
    assert_eq!(log.path().parent(), Some(Path::new(directory)));
}

fn journal_bytes(machine: &Machine, directory: &str) -> u64 {
    let entries = machine.memory.disk.mount().read_dir(Path::new(directory)).unwrap();
    entries.iter().filter(|entry| entry.name.starts_with("ottla.journal")).map(|entry| entry.len).sum()
}

fn contents(log: &PartitionLog) -> Vec<String> {
    text(&values_from(log, 0, 10_000)).into_iter().map(|(_, value)| value).collect()
}

/// What a start finds of partition 0 or 1 when nothing that was not synced is left.
async fn after_a_power_loss(machine: &Machine, number: i32) -> Vec<String> {
    machine.memory.disk.clear_faults();
    machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
    let manager = open(machine).await;
    contents(&manager.get(&partition(number)).unwrap())
}

#[test]
fn the_journal_of_the_directory_it_leaves_says_nothing_of_it_any_more() {
    block_on(async {
        let machine = Machine::new(1);
        let manager = open(&machine).await;
        let log = create(&machine, &manager, 0).await;
        append_durably(&manager, &log, "old").await;
        append_durably(&manager, &log, "older").await;
        assert!(journal_bytes(&machine, A) > 0, "it is the journal that is tested");
        move_to(&manager, &log, B).await;
        log.truncate_to(0).unwrap();
        append_durably(&manager, &log, "new").await;
        // Where "old" would be written over it.
        move_to(&manager, &log, A).await;
        drop((manager, log));
        assert_eq!(after_a_power_loss(&machine, 0).await, ["new"]);
    });
}

#[test]
fn what_the_journal_it_comes_to_holds_is_settled() {
    block_on(async {
        let machine = Machine::new(1);
        let manager = open(&machine).await;
        let (log, other) = (create(&machine, &manager, 0).await, create(&machine, &manager, 1).await);
        append_durably(&manager, &log, "first").await;
        append_durably(&manager, &other, "other").await;
        move_to(&manager, &log, B).await;
        for value in ["second", "third"] {
            let before = journal_bytes(&machine, B);
            append_durably(&manager, &log, value).await;
            assert_eq!(journal_bytes(&machine, B) > before, value == "third", "the first sync is of its new file");
        }
        manager.checkpoint().await;
        until(|| journal_bytes(&machine, B) == 0).await;
        drop((manager, log, other));
        assert_eq!(after_a_power_loss(&machine, 0).await, ["first", "second", "third"]);
    });
}

/// The old journal is settled while the partition, which it still names as one of its own, is in the new one.
#[test]
fn settling_the_journal_it_left_is_no_matter_of_the_new_one() {
    block_on(async {
        let machine = Machine::new(1);
        let manager = open(&machine).await;
        let log = create(&machine, &manager, 0).await;
        append_durably(&manager, &log, "first").await;
        move_to(&manager, &log, B).await;
        append_durably(&manager, &log, "second").await;
        append_durably(&manager, &log, "third").await;
        // Of the old directory no file of this partition is synced, and none is opened.
        machine.memory.disk.inject(Fault::nth(Operation::Sync, 0, Failure::Io).on("/b/orders-0"));
        manager.checkpoint().await;
        until(|| !manager.directories()[1].online && journal_bytes(&machine, A) == 0).await;
        assert!(manager.directories()[0].online, "whose disk is whole");
        drop((manager, log));
        assert_eq!(after_a_power_loss(&machine, 0).await, ["first", "second", "third"]);
    });
}

/// There was no space to tell the journal of a deletion; a partition of that name and id does not come there before.
#[test]
fn what_a_journal_says_of_a_deleted_partition_is_not_written_into_one_that_comes() {
    block_on(async {
        let machine = Machine::new(1);
        let manager = open(&machine).await;
        create(&machine, &manager, 0).await;
        let deleted = create(&machine, &manager, 1).await;
        append_durably(&manager, &deleted, "old").await;
        append_durably(&manager, &deleted, "older").await;
        machine.memory.disk.inject(Fault::nth(Operation::Write, 0, Failure::NoSpace).on("/b/ottla.journal"));
        manager.delete(&partition(1)).await.unwrap();
        let asked = manager.move_replica(&partition(1), Path::new(A)).await;
        assert!(matches!(asked, Err(MoveReplicaError::UnknownPartition(_))), "{asked:?}");
        let log = create(&machine, &manager, 1).await;
        append_durably(&manager, &log, "new").await;
        assert_eq!(log.path().as_ref(), Path::new("/a/orders-1"));
        move_to(&manager, &log, B).await;
        drop((manager, deleted, log));
        assert_eq!(after_a_power_loss(&machine, 1).await, ["new"]);
    });
}
