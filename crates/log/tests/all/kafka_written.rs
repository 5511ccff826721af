//! A partition with transactions that Apache Kafka 4.4.0 wrote (`compat/transactions/run`), and what Kafka made of it.

#![allow(clippy::disallowed_methods, reason = "the files are put in place as an operator would")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_log::{AbortedTransaction, LogManager, LogSettings, PartitionLog};
use ottla_rt::World;
use ottla_types::TopicPartition;

use crate::support::*;
use crate::transaction_model::committed_from;

/// What Kafka told.
struct Expected {
    /// What its consumer of committed records was given.
    committed: Vec<(i64, String)>,
    last_stable_offset: i64,
    aborted: Vec<AbortedTransaction>,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/golden/transactions")
}

fn expected() -> Expected {
    let mut expected = Expected { committed: Vec::new(), last_stable_offset: -1, aborted: Vec::new() };
    for line in fs::read_to_string(golden().join("expected.txt")).unwrap().lines() {
        let (kind, rest) = line.split_once(' ').unwrap();
        let numbers = || rest.split(' ').map(|number| number.parse::<i64>().unwrap()).collect::<Vec<_>>();
        match kind {
            "committed" => {
                let (offset, value) = rest.split_once(' ').unwrap();
                expected.committed.push((offset.parse().unwrap(), value.to_owned()));
            }
            "stable" => expected.last_stable_offset = numbers()[0],
            "aborted" => {
                let &[_, producer_id, first_offset, last_offset, last_stable_offset] = &numbers()[..] else {
                    panic!("{line}");
                };
                expected.aborted.push(AbortedTransaction {
                    producer_id,
                    first_offset,
                    last_offset,
                    last_stable_offset,
                });
            }
            _ => panic!("{line}"),
        }
    }
    expected
}

/// A log directory with that partition in it; `clean` as Kafka left it.
fn directory(clean: bool) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let partition = root.path().join("transactions-0");
    fs::create_dir(&partition).unwrap();
    for entry in fs::read_dir(golden()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "expected.txt" {
            fs::copy(entry.path(), partition.join(entry.file_name())).unwrap();
        }
    }
    if clean {
        fs::write(root.path().join(".kafka_cleanshutdown"), r#"{"version":0,"brokerEpoch":1}"#).unwrap();
    }
    root
}

async fn open(root: &Path) -> (LogManager, Arc<PartitionLog>) {
    let settings = LogSettings::new(vec![root.to_path_buf()], 1);
    let manager = LogManager::open(World::os(), settings, |_| ottla_config::LogConfig::default()).await.unwrap();
    let log = manager.get(&TopicPartition::new("transactions", 0)).unwrap();
    (manager, log)
}

fn indexes(root: &Path) -> Vec<(String, Vec<u8>)> {
    let partition = root.join("transactions-0");
    let mut names = files(&partition);
    names.retain(|name| name.ends_with(".txnindex"));
    names.into_iter().map(|name| (name.clone(), fs::read(partition.join(name)).unwrap())).collect()
}

fn check(log: &PartitionLog, expected: &Expected, what: &str) {
    log.note_high_watermark(log.log_end_offset());
    assert_eq!(log.last_stable_offset(), expected.last_stable_offset, "{what}");
    assert_eq!(log.aborted_transactions(0, i64::MAX).unwrap(), expected.aborted, "{what}");
    for max_bytes in [1, 300, 1_000_000] {
        assert_eq!(text(&committed_from(log, 0, max_bytes)), expected.committed, "{what}, {max_bytes} bytes a read");
    }
}

#[test]
fn it_is_read_as_kafka_reads_it() {
    let expected = expected();
    assert!(expected.aborted.len() > 5 && expected.committed.len() > 20);
    block_on(async {
        for clean in [true, false] {
            for spoil in ["nothing", "transaction indexes", "indexes", "snapshots", "all of them"] {
                let root = directory(clean);
                let before = indexes(root.path());
                assert!(before.len() > 2);
                for name in files(&root.path().join("transactions-0")) {
                    let gone = match spoil {
                        "indexes" => name.ends_with("index"),
                        "snapshots" => name.ends_with(".snapshot"),
                        "all of them" => name.ends_with("index") || name.ends_with(".snapshot"),
                        _ => false,
                    };
                    let path = root.path().join("transactions-0").join(&name);
                    if gone {
                        fs::remove_file(path).unwrap();
                    } else if spoil == "transaction indexes" && name.ends_with(".txnindex") {
                        fs::write(path, [0xff; 40]).unwrap();
                    }
                }
                let (manager, log) = open(root.path()).await;
                let what = format!("clean: {clean}, without {spoil}");
                check(&log, &expected, &what);
                // Kafka may have made a file for a segment without an abort.
                let entries = |indexes: &[(String, Vec<u8>)]| -> Vec<_> {
                    indexes.iter().filter(|(_, bytes)| !bytes.is_empty()).cloned().collect()
                };
                assert_eq!(entries(&indexes(root.path())), entries(&before), "{what}");
                manager.shutdown(-1).await;
                drop((manager, log));
                let (_manager, log) = open(root.path()).await;
                check(&log, &expected, &format!("{what}, and again"));
            }
        }
    });
}
