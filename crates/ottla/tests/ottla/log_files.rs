//! `ottla log dump`.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
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

#[test]
fn metadata() {
    let server = Server::start(&[]);
    server.run("topic create shop --partitions 2");
    let stopped = server.stop();
    let file = stopped.data().join("ottla-metadata/00000000000000000001.log");
    let lines = json_lines(&succeed(&mut dump(file.clone(), "--json")));
    assert_eq!(kinds(&lines)[0], "header");
    let topics = lines.iter().filter(|line| line["records"].to_string().contains("shop"));
    assert!(topics.count() > 0, "{lines:?}");
    let text = succeed(&mut dump(file.clone(), ""));
    assert!(text.contains("\"shop\"") && text.contains(" of term 1: "), "{text}");

    let summary = json_lines(&succeed(&mut verify(&stopped.data(), "--json"))).pop().unwrap();
    assert_eq!(summary["metadata_files"], 1);
    let mut bytes = std::fs::read(&file).unwrap();
    let position = lines[3]["position"].as_u64().unwrap();
    bytes[position as usize + 20] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let output = run(&mut verify(&stopped.data(), "--json"), b"");
    assert_eq!(output.status.code(), Some(1));
    let found = json_lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!((found[0]["kind"].as_str(), found[0]["position"].as_u64()), (Some("problem"), Some(position)));
    let output = run(&mut dump(file, "--json"), b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"damage\""));
}

fn verify(directory: &Path, words: &str) -> Command {
    let mut command = ottla();
    command.args(["log", "verify"]).arg(directory).args(words.split_whitespace());
    command
}

#[test]
fn a_directory_is_verified() {
    let server = Server::start(&["log.segment.bytes=1048576"]);
    server.run("topic create t --partitions 2 --config index.interval.bytes=1");
    for number in 0..5 {
        server.produce("t --key-separator :", &format!("k:{number}\nl:{number}\n"));
    }
    let refused = fail(&mut verify(&server.data(), ""), 1);
    assert!(refused.contains("a broker uses it"), "{refused}");
    let lines = json_lines(&succeed(&mut verify(&server.data(), "--in-use --json")));
    assert_eq!(kinds(&lines), ["summary"]);
    let stopped = server.stop();
    let before = contents(&stopped.data());
    let lines = json_lines(&succeed(&mut verify(&stopped.data(), "--json")));
    assert_eq!(kinds(&lines), ["summary"]);
    assert_eq!((lines[0]["records"].as_i64(), lines[0]["problems"].as_i64()), (Some(10), Some(0)));
    assert!(lines[0]["index_entries"].as_i64() > Some(3), "{lines:?}");
    let text = succeed(&mut verify(&stopped.data(), ""));
    assert!(text.contains("0 problems, 0 notes"), "{text}");

    let partition = ["t-0", "t-1"].map(|name| stopped.data().join(name));
    let written = |path: &&PathBuf| std::fs::metadata(path.join("00000000000000000000.log")).unwrap().len() > 0;
    let partition = partition.iter().find(written).unwrap();
    let segment = partition.join("00000000000000000000.log");
    let whole = std::fs::read(&segment).unwrap();
    let first = 12 + u32::from_be_bytes(whole[8..12].try_into().unwrap()) as usize;
    let mut flipped = whole.clone();
    flipped[first + 70] ^= 4;
    std::fs::write(&segment, flipped).unwrap();
    for directory in [&stopped.data(), partition] {
        let output = run(&mut verify(directory, "--json"), b"");
        assert_eq!(output.status.code(), Some(1));
        let lines = json_lines(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(kinds(&lines), ["problem", "summary"]);
        assert_eq!(lines[0]["position"], first);
        assert_eq!(lines[0]["path"], segment.display().to_string());
        assert!(lines[0]["offset"].as_i64() > Some(0), "{lines:?}");
    }
    std::fs::write(&segment, whole).unwrap();
    assert_eq!(contents(&stopped.data()), before, "nothing is changed");

    let refused = fail(&mut verify(&stopped.data().join("missing"), ""), 1);
    assert!(refused.contains("missing: cannot be read"), "{refused}");
}

/// Every file below a directory.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    found
}
