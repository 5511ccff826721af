//! Log directories: whose they are, who has them; partitions made and deleted in them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use std::sync::Arc;

use ottla_log::{LogError, LogManager, NewPartition, PartitionLog};
use ottla_rt::memory::PowerLoss;
use ottla_types::{TopicPartition, Uuid};

use crate::support::*;

fn new_partition(machine: &Machine, topic: &str, number: i32, id: Uuid) -> NewPartition {
    NewPartition {
        topic_partition: TopicPartition::new(topic, number),
        topic_id: id,
        config: Arc::new(machine.config.clone()),
    }
}

#[test]
fn another_node_or_cluster_is_refused_and_nothing_changed() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, _) = machine.start().await;
        assert_eq!(manager.cluster_id(), "cluster");
        manager.shutdown(-1).await;
        drop(manager);
        let disk = machine.memory.disk.mount();
        let meta = disk.read_file(Path::new("/data/meta.properties"), 1_000).unwrap();
        for (node_id, cluster_id, expected) in [
            (2, "cluster", "log directory /data belongs to node 1, this is node 2"),
            (1, "other", "log directory /data belongs to cluster cluster, this is a node of cluster other"),
        ] {
            let mut settings = Machine::settings();
            settings.node_id = node_id;
            settings.cluster_id = Some(cluster_id.to_owned());
            // A second, new directory must not be made either.
            settings.log_dirs.push(PathBuf::from("/more"));
            let config = machine.config.clone();
            let refused = LogManager::open(machine.memory.world(), settings, move |_| config.clone()).await;
            assert_eq!(refused.err().unwrap().to_string(), expected);
            assert!(!disk.exists(Path::new("/more")).unwrap());
            assert!(disk.exists(Path::new("/data/.kafka_cleanshutdown")).unwrap());
            assert_eq!(disk.read_file(Path::new("/data/meta.properties"), 1_000).unwrap(), meta);
        }
    });
}

#[test]
fn a_malformed_identity_is_refused() {
    block_on(async {
        let machine = Machine::new(1);
        let disk = machine.memory.disk.mount();
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk.write_file_atomically(Path::new("/data/meta.properties"), b"version=1\nnode.id=1\n").unwrap();
        let refused = machine.try_open().await.err().unwrap();
        assert_eq!(refused.to_string(), "/data/meta.properties cannot be used: it has no cluster.id");
    });
}

#[test]
fn a_directory_in_use_is_refused() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, _log) = machine.start().await;
        assert!(matches!(machine.try_open().await, Err(LogError::Locked(_))));
        manager.shutdown(-1).await;
        drop(manager);
        assert!(machine.try_open().await.is_ok());
    });
}

#[test]
fn partitions_survive_from_their_first_flush_on() {
    block_on(async {
        let mut machine = Machine::new(1);
        machine.config.segment_bytes = 1_000_000;
        let manager = machine.open().await;
        let wanted: Vec<_> =
            (0..50).map(|number| new_partition(&machine, "__consumer_offsets", number, Uuid([9; 16]))).collect();
        let create = async |manager: &LogManager| -> Vec<Arc<PartitionLog>> {
            manager.create(wanted.clone()).await.into_iter().map(Result::unwrap).collect()
        };
        let made = create(&manager).await;
        drop((manager, made));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let manager = machine.open().await;
        assert_eq!(manager.partitions().len(), 0, "what is empty has nothing that could be lost");

        let made = create(&manager).await;
        for log in &made[..20] {
            append(log, &Batch::of(&["a"])).unwrap();
            manager.request_flush(log);
        }
        for log in &made[..20] {
            log.wait_flushed(1).await.unwrap();
        }
        drop((manager, made));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let manager = machine.open().await;
        assert_eq!(manager.partitions().len(), 20);
        assert!(manager.partitions().iter().all(|log| log.topic_id() == Some(Uuid([9; 16])) && log.size() > 0));
        let again = manager.create(wanted).await;
        assert!(again.iter().all(Result::is_ok), "made already");
        let other = manager.create(vec![new_partition(&machine, "__consumer_offsets", 3, Uuid([8; 16]))]).await;
        assert!(matches!(other[0], Err(LogError::TopicIdMismatch { .. })));
        assert_eq!(manager.topic_ids().len(), 1);
    });
}

#[test]
fn partitions_are_spread_over_the_directories() {
    block_on(async {
        let machine = Machine::new(1);
        let open = async || {
            let mut settings = Machine::settings();
            settings.log_dirs = vec![PathBuf::from("/a"), PathBuf::from("/b/nested"), PathBuf::from("/c")];
            let config = machine.config.clone();
            LogManager::open(machine.memory.world(), settings, move |_| config.clone()).await.unwrap()
        };
        let manager = open().await;
        let wanted: Vec<_> = (0..9).map(|number| new_partition(&machine, "t", number, TOPIC_ID)).collect();
        manager.create(wanted).await;
        let ids: Vec<_> = manager.directories().iter().map(|directory| directory.id).collect();
        for id in &ids {
            let there = manager.partitions().iter().filter(|log| Some(log.directory_id()) == *id).count();
            assert_eq!(there, 3);
        }
        manager.shutdown(7).await;
        drop(manager);
        let disk = machine.memory.disk.mount();
        let mark = disk.read_file(Path::new("/b/nested/.kafka_cleanshutdown"), 100).unwrap();
        assert_eq!(mark, b"{\"version\":0,\"brokerEpoch\":7}");
        let manager = open().await;
        assert_eq!(manager.directories().iter().map(|directory| directory.id).collect::<Vec<_>>(), ids);
        assert_eq!(manager.partitions().len(), 9);
    });
}

#[test]
fn deletion_is_by_rename_and_its_name_is_free_at_once() {
    block_on(async {
        let machine = Machine::with_config(1, |config| config.file_delete_delay_ms = 1_000);
        let (manager, log) = machine.start().await;
        for _ in 0..5 {
            append(&log, &Batch::of(&["old"])).unwrap();
        }
        flush(&manager, &log).await;
        log.advance_log_start_offset(2).unwrap();
        manager.checkpoint().await;
        manager.delete(&partition(0)).await.unwrap();
        assert!(manager.get(&partition(0)).is_none());
        assert!(manager.delete(&partition(0)).await.is_err());
        assert!(append(&log, &Batch::of(&["x"])).is_err());
        assert!(log.read(3, 100, true, i64::MAX).is_err());
        let directories = || {
            let disk = machine.memory.disk.mount();
            let entries = disk.read_dir(Path::new("/data")).unwrap();
            entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name).collect::<Vec<_>>()
        };
        assert!(directories()[0].starts_with("orders-0.") && directories()[0].ends_with("-delete"));

        // The new one knows nothing of the old one's checkpoints.
        let log = machine.try_create(&manager, 0).await.unwrap();
        assert_eq!(append(&log, &Batch::of(&["new"])).unwrap().base_offset, 0);
        drop((manager, log));
        machine.memory.disk.kill();
        let (manager, log) = machine.start().await;
        assert_eq!(text(&values_from(&log, 0, 100)), [(0, "new".to_owned())]);

        // What a crash left to delete is deleted after the start.
        assert_eq!(directories().len(), 2);
        machine.memory.clock.advance(Duration::from_secs(1));
        manager.remove_deleted().await;
        assert_eq!(directories(), ["orders-0"]);
    });
}

#[test]
fn interrupted_creations_are_removed() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, _log) = machine.start().await;
        drop(manager);
        machine.memory.disk.kill();
        let disk = machine.memory.disk.mount();
        for (name, metadata) in [("t-0", None), ("t-1", Some(&b"version: 0\ntop"[..])), ("t-2", Some(b""))] {
            let path = Path::new("/data").join(name);
            disk.create_dir_all(&path).unwrap();
            if let Some(metadata) = metadata {
                disk.write_file_atomically(&path.join("partition.metadata"), metadata).unwrap();
                disk.write_file_atomically(&path.join("00000000000000000000.log"), b"").unwrap();
            }
        }
        let manager = machine.open().await;
        assert_eq!(manager.partitions().len(), 1);
        assert_eq!(manager.offline_partitions(), []);
        assert!(!disk.exists(Path::new("/data/t-1")).unwrap());
    });
}

/// The system may have written the records of a partition that was never flushed, but not whose they are.
#[test]
fn records_of_a_topic_nobody_knows_are_set_aside() {
    for metadata in [None, Some(&b""[..])] {
        block_on(async {
            let machine = Machine::new(1);
            let (manager, log) = machine.start().await;
            append(&log, &Batch::of(&["a"])).unwrap();
            drop((manager, log));
            machine.memory.disk.kill();
            machine.remove("partition.metadata");
            if let Some(metadata) = metadata {
                machine.write("partition.metadata", metadata);
            }
            let manager = machine.open().await;
            assert_eq!((manager.partitions().len(), manager.offline_partitions().len()), (0, 0));
            let names = machine.memory.disk.mount().read_dir(Path::new("/data")).unwrap();
            assert!(names.iter().any(|entry| entry.name.starts_with("orders-0.") && entry.name.ends_with("-stray")));
            let log = machine.try_create(&manager, 0).await.unwrap();
            assert_eq!(log.log_end_offset(), 0);
        });
    }
}

/// An earlier partition of this name was durable, and the checkpoint said so; this one never was.
#[test]
fn what_was_durable_of_a_deleted_partition_is_not_asked_of_the_next() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        append(&log, &Batch::of(&["durable"])).unwrap();
        flush(&manager, &log).await;
        manager.checkpoint().await;
        manager.delete(log.topic_partition()).await.unwrap();
        drop(log);
        let log = machine.try_create(&manager, 0).await.unwrap();
        append(&log, &Batch::of(&["never flushed"])).unwrap();
        drop((manager, log));
        machine.memory.disk.kill();
        machine.write("partition.metadata", b"version: 0\ntop");
        let manager = machine.open().await;
        assert_eq!((manager.partitions().len(), manager.offline_partitions()), (0, vec![]));
    });
}

#[test]
fn an_empty_partition_stays_new_through_a_clean_stop() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        manager.shutdown(-1).await;
        drop((manager, log));
        let (manager, log) = machine.start().await;
        append(&log, &Batch::of(&["a"])).unwrap();
        flush(&manager, &log).await;
        drop((manager, log));
        machine.memory.disk.lose_power(PowerLoss::LoseUnsynced);
        let (_manager, log) = machine.start().await;
        assert_eq!(log.log_end_offset(), 1);
    });
}

#[test]
fn malformed_checkpoints_cost_a_scan_and_nothing_else() {
    block_on(async {
        for name in ["recovery-point-offset-checkpoint", "replication-offset-checkpoint", "log-start-offset-checkpoint"]
        {
            let machine = Machine::new(1);
            let (manager, log) = machine.start().await;
            for _ in 0..5 {
                append(&log, &Batch::of(&["v"])).unwrap();
            }
            flush(&manager, &log).await;
            manager.maintain(1_000).await;
            drop((manager, log));
            machine.memory.disk.kill();
            machine.memory.disk.mount().write_file_atomically(&Path::new("/data").join(name), b"0\nx\n").unwrap();
            let (_manager, log) = machine.start().await;
            assert_eq!(values_from(&log, 0, 100).len(), 5, "{name}");
        }
    });
}

#[test]
fn epochs_are_rebuilt_from_the_log() {
    block_on(async {
        for (what, bytes) in [("garbled", Some(&b"0\n1\n5 x\n"[..])), ("empty", Some(b"0\n0\n")), ("missing", None)] {
            let machine = Machine::with_config(1, |config| config.segment_bytes = 300);
            let (manager, log) = machine.start().await;
            for epoch in [0, 0, 2, 2, 2, 5] {
                append_with_epoch(&log, &Batch::sized(100), epoch).unwrap();
            }
            flush(&manager, &log).await;
            manager.checkpoint().await;
            let ends: Vec<_> = (0..6).map(|epoch| log.end_offset_for_epoch(epoch)).collect();
            assert_eq!(ends, [Some((0, 2)), Some((0, 2)), Some((2, 5)), Some((2, 5)), Some((2, 5)), Some((5, 6))]);
            drop((manager, log));
            machine.memory.disk.kill();
            assert_eq!(machine.read("leader-epoch-checkpoint"), b"0\n3\n0 0\n2 2\n5 5\n");
            match bytes {
                Some(bytes) => machine.write("leader-epoch-checkpoint", bytes),
                None => machine.remove("leader-epoch-checkpoint"),
            }
            let (_manager, log) = machine.start().await;
            assert_eq!((0..6).map(|epoch| log.end_offset_for_epoch(epoch)).collect::<Vec<_>>(), ends, "{what}");
            assert!(append_with_epoch(&log, &Batch::of(&["x"]), 4).is_err(), "an older leader");
        }
    });
}

/// A power loss during a cut of the new partition would leave records without the id of their topic, and the old one's
/// recovery point would say that the id had been durable.
#[test]
fn a_partition_made_again_is_in_no_checkpoint_before_its_first_flush() {
    block_on(async {
        let machine = Machine::new(1);
        let (manager, log) = machine.start().await;
        append(&log, &Batch::of(&["old"])).unwrap();
        flush(&manager, &log).await;
        let points = || {
            let disk = machine.memory.disk.mount();
            let bytes = disk.read_file(Path::new("/data/recovery-point-offset-checkpoint"), 1_000).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        manager.checkpoint().await;
        assert_eq!(points(), "0\n1\norders 0 1\n");
        manager.delete(&partition(0)).await.unwrap();
        let log = machine.try_create(&manager, 0).await.unwrap();
        append(&log, &Batch::of(&["new"])).unwrap();
        assert_eq!(points(), "0\n0\n");
        manager.checkpoint().await;
        assert_eq!(points(), "0\n0\n");
        flush(&manager, &log).await;
        manager.checkpoint().await;
        assert_eq!(points(), "0\n1\norders 0 1\n");
    });
}
