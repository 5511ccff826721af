//! The lock of a directory is seen by a JVM: Kafka and a node of ours never share a directory.

#![cfg(target_os = "linux")]

use std::os::unix::fs::MetadataExt;

use ottla_rt::World;

/// The kinds of lock this process holds on a file, as the kernel lists them.
fn kinds(inode: u64) -> Vec<String> {
    let process = std::process::id().to_string();
    let listed = std::fs::read_to_string("/proc/locks").unwrap();
    let lines = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // "1: POSIX ADVISORY WRITE <process> <device>:<inode> 0 EOF"
    let ours = lines.filter(|words| {
        words.get(4) == Some(&process.as_str())
            && words.get(5).is_some_and(|place| place.ends_with(&format!(":{inode}")))
    });
    let mut kinds: Vec<String> = ours.map(|words| format!("{} {}", words[1], words[3])).collect();
    kinds.sort();
    kinds
}

#[test]
fn a_lock_is_of_both_kinds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".lock");
    let lock = World::os().disk.lock(&path).unwrap();
    let inode = std::fs::metadata(&path).unwrap().ino();
    assert_eq!(kinds(inode), ["FLOCK WRITE", "POSIX WRITE"]);
    drop(lock);
    assert!(kinds(inode).is_empty());
}
