//! `ottla log dump`.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::binary::{Server, fail, json_lines, ottla, run, succeed};

fn dump(file: PathBuf, words: &str) -> Command {
    let mut command = ottla();
    command.args(["log", "dump"]).arg(file).args(words.split_whitespace());
    command
}

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["kind"].as_str().unwrap()).collect()
}

#[test]
fn segments_indexes_snapshots_and_checkpoints() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1 --config index.interval.bytes=1");
    server.produce("t --key-separator : --compression zstd", "k:v\nk:w\n");
    server.produce("t --acks 1", "x\n");
    let stopped = server.stop();
    let partition = stopped.data().join("t-0");
    let segment = partition.join("00000000000000000000.log");

    let lines = json_lines(&succeed(&mut dump(segment.clone(), "--json")));
    assert_eq!(kinds(&lines), ["batch", "record", "record", "batch", "record"]);
    assert_eq!(lines[0]["compression"], "zstd");
    assert_eq!((lines[0]["base_sequence"].as_i64(), lines[3]["producer_id"].as_i64()), (Some(0), Some(-1)));
    assert_eq!((lines[2]["offset"].as_i64(), lines[2]["value"].as_str()), (Some(1), Some("w")));
    let text = succeed(&mut dump(segment.clone(), ""));
    assert!(text.starts_with("batch 0..=1 at 0: 2 records, "), "{text}");
    assert!(text.contains(" key \"k\" value \"w\"\n"), "{text}");
    let text = succeed(&mut dump(segment, "--batches-only"));
    assert_eq!(text.lines().count(), 2, "{text}");

    let lines = json_lines(&succeed(&mut dump(partition.join("00000000000000000000.index"), "--json")));
    assert_eq!(lines.last().unwrap()["offset"], 2);
    let lines = json_lines(&succeed(&mut dump(partition.join("00000000000000000000.timeindex"), "--json")));
    assert_eq!(lines.last().unwrap()["offset"], 2);
    let lines = json_lines(&succeed(&mut dump(partition.join("00000000000000000003.snapshot"), "--json")));
    assert_eq!((lines[0]["last_offset"].as_i64(), lines[0]["last_sequence"].as_i64()), (Some(1), Some(1)));
    let text = succeed(&mut dump(partition.join("leader-epoch-checkpoint"), ""));
    assert_eq!(text, "epoch  start_offset\n    0             0\n");
    let lines = json_lines(&succeed(&mut dump(stopped.data().join("replication-offset-checkpoint"), "--json")));
    assert_eq!((lines[0]["topic"].as_str(), lines[0]["offset"].as_i64()), (Some("t"), Some(3)));
    let text = succeed(&mut dump(stopped.data().join("meta.properties"), ""));
    assert!(text.contains("node.id"), "{text}");
}

#[test]
fn damage_is_shown_and_is_a_failure() {
    let server = Server::start(&[]);
    server.run("topic create t --partitions 1");
    server.produce("t", "first\n");
    server.produce("t", "second\n");
    let stopped = server.stop();
    let segment = stopped.data().join("t-0/00000000000000000000.log");
    let whole = std::fs::read(&segment).unwrap();
    let first = 12 + u32::from_be_bytes(whole[8..12].try_into().unwrap()) as usize;

    OpenOptions::new().write(true).open(&segment).unwrap().set_len(whole.len() as u64 - 1).unwrap();
    let output = run(&mut dump(segment.clone(), "--json"), b"");
    assert_eq!(output.status.code(), Some(1));
    let lines = json_lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(kinds(&lines), ["batch", "record", "damage"]);
    assert_eq!(lines[2]["position"], first);

    let mut flipped = whole.clone();
    flipped[first - 2] ^= 1;
    std::fs::write(&segment, flipped).unwrap();
    let output = run(&mut dump(segment, "--json"), b"");
    assert_eq!(output.status.code(), Some(1));
    let lines = json_lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(kinds(&lines), ["batch", "damage", "batch", "record"], "what follows a damaged batch is shown");
    assert_eq!(lines[0]["crc_ok"], false);
}

#[test]
fn offsets_of_groups() {
    let server = Server::start(&["group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=1"]);
    server.run("topic create t --partitions 1");
    server.produce("t", "0\n1\n2\n");
    server.run("consume t --group g --from-beginning --max-records 2");
    let stopped = server.stop();
    let segment = stopped.data().join("__consumer_offsets-0/00000000000000000000.log");
    let lines = json_lines(&succeed(&mut dump(segment.clone(), "--offsets --json")));
    let commit = lines.iter().find(|line| line["kind"] == "offset_commit").unwrap();
    assert_eq!((commit["group"].as_str(), commit["topic"].as_str()), (Some("g"), Some("t")));
    assert_eq!(commit["value"]["offset"], 2);
    assert!(kinds(&lines).contains(&"group_metadata"));
    let text = succeed(&mut dump(segment, "--offsets"));
    assert!(text.contains("group \"g\" committed 2 for t-0"), "{text}");
}

#[test]
fn other_files() {
    let directory = tempfile::tempdir().unwrap();
    let refused = fail(&mut dump(directory.path().join("missing.log"), ""), 1);
    assert!(refused.contains("missing.log: cannot be read"), "{refused}");
    let other = directory.path().join("notes.txt");
    std::fs::write(&other, "text").unwrap();
    let refused = fail(&mut dump(other, ""), 1);
    assert!(refused.contains("not a file this tool knows"), "{refused}");
    let empty = directory.path().join("00000000000000000000.log");
    std::fs::write(&empty, "").unwrap();
    assert_eq!(succeed(&mut dump(empty, "")), "");
}
