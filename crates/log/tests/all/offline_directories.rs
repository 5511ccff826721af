//! Log directories that cannot be used when a node starts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_log::{LogError, LogManager, NewPartition};
use ottla_rt::memory::{Failure, Fault, Operation};
use ottla_types::TopicPartition;

use crate::support::*;

async fn open(machine: &Machine) -> Result<LogManager, LogError> {
    let mut settings = Machine::settings();
    settings.log_dirs = vec![PathBuf::from("/a"), PathBuf::from("/b")];
    let config = machine.config.clone();
    LogManager::open(machine.memory.world(), settings, move |_| config.clone()).await
}

async fn create(machine: &Machine, manager: &LogManager, numbers: std::ops::Range<i32>) {
    let wanted = numbers.map(|number| NewPartition {
        topic_partition: TopicPartition::new(TOPIC, number),
        topic_id: TOPIC_ID,
        config: Arc::new(machine.config.clone()),
    });
    for made in manager.create(wanted.collect()).await {
        made.unwrap();
    }
}

#[test]
fn the_other_directories_go_on() {
    block_on(async {
        let operations = [
            Operation::Open,
            Operation::Read,
            Operation::ReadDir,
            Operation::Lock,
            Operation::CreateDir,
            Operation::Remove,
        ];
        for operation in operations {
            let machine = Machine::new(1);
            let manager = open(&machine).await.unwrap();
            create(&machine, &manager, 0..4).await;
            for log in manager.partitions() {
                append(&log, &Batch::of(&["here"])).unwrap();
                flush(&manager, &log).await;
            }
            let id = manager.directories()[1].id;
            manager.shutdown(-1).await;
            drop(manager);
            let fault = Fault { count: 1_000, ..Fault::nth(operation, 0, Failure::Io).on("/b") };
            machine.memory.disk.inject(fault);
            let manager = open(&machine).await.unwrap();
            let online: Vec<_> = manager.directories().iter().map(|directory| directory.online).collect();
            assert_eq!(online, [true, false], "{operation:?}");
            assert!(manager.directories()[1].id.is_none_or(|found| Some(found) == id));
            assert_eq!(manager.partitions().len(), 2, "{operation:?}");
            for log in manager.partitions() {
                assert_eq!(values_from(&log, 0, 100).len(), 1);
                append(&log, &Batch::of(&["more"])).unwrap();
                flush(&manager, &log).await;
            }
            create(&machine, &manager, 4..6).await;
            assert!(manager.partitions().iter().all(|log| log.path().starts_with("/a")));
            manager.shutdown(-1).await;
            drop(manager);

            machine.memory.disk.clear_faults();
            let manager = open(&machine).await.unwrap();
            assert!(manager.directories().iter().all(|directory| directory.online), "{operation:?}");
            assert_eq!(manager.directories()[1].id, id);
            assert_eq!(manager.partitions().len(), 6);
            let records: i64 = manager.partitions().iter().map(|log| log.log_end_offset()).sum();
            assert_eq!(records, 6, "{operation:?}");
        }
    });
}

#[test]
fn a_directory_with_a_damaged_identity_is_offline() {
    block_on(async {
        let machine = Machine::new(1);
        let manager = open(&machine).await.unwrap();
        manager.shutdown(-1).await;
        drop(manager);
        let disk = machine.memory.disk.mount();
        disk.write_file_atomically(Path::new("/b/meta.properties"), b"version=1\nnode.id=1\n").unwrap();
        let manager = open(&machine).await.unwrap();
        assert!(manager.directories()[0].online && !manager.directories()[1].online);
        let mark = Path::new("/b/.kafka_cleanshutdown");
        assert!(disk.exists(mark).unwrap(), "nothing in it is touched");
    });
}

#[test]
fn without_any_directory_the_first_reason_is_told() {
    block_on(async {
        let machine = Machine::new(1);
        machine.memory.disk.inject(Fault { count: 1_000, ..Fault::nth(Operation::Lock, 0, Failure::Io) });
        let refused = open(&machine).await.err().unwrap();
        assert!(refused.to_string().starts_with("lock /a: "), "{refused}");
    });
}
