//! What the memory disk loses, and what it never loses.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ottla_rt::memory::{AtRisk, Failure, Fault, MemoryDisk, Operation, PowerLoss};
use ottla_rt::{Disk, DiskFile, OpenMode};

const PAGE: usize = 4096;

fn create(disk: &dyn Disk, path: &str) -> Arc<dyn DiskFile> {
    disk.open(Path::new(path), OpenMode::CreateNew).unwrap()
}

fn write(file: &Arc<dyn DiskFile>, bytes: &[u8], position: u64) {
    file.write_all_at(&[IoSlice::new(bytes)], position).unwrap();
}

fn content(device: &MemoryDisk, path: &str) -> Vec<u8> {
    device.mount().read_file(Path::new(path), 1 << 30).unwrap()
}

fn names(device: &MemoryDisk, path: &str) -> Vec<String> {
    device.mount().read_dir(Path::new(path)).unwrap().into_iter().map(|entry| entry.name).collect()
}

/// A disk with `/file` durable and open.
fn one_file(durable: &[u8]) -> (MemoryDisk, Arc<dyn DiskFile>) {
    let device = MemoryDisk::new(1);
    let disk = device.mount();
    let file = create(disk.as_ref(), "/file");
    write(&file, durable, 0);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (device, file)
}

/// Everything a seed can leave of what `prepare` did.
fn outcomes<T: Ord>(prepare: impl Fn() -> MemoryDisk, look: impl Fn(&MemoryDisk) -> T) -> BTreeSet<T> {
    let one = |seed| {
        let device = prepare();
        device.lose_power(PowerLoss::Arbitrary { seed });
        look(&device)
    };
    (0..400).map(one).collect()
}

#[test]
fn only_synced_bytes_survive_the_strict_loss() {
    let (device, file) = one_file(b"synced");
    write(&file, b"UNSYNCED and longer", 0);
    assert_eq!(content(&device, "/file"), b"UNSYNCED and longer");
    assert_eq!(device.lose_power(PowerLoss::LoseUnsynced), AtRisk { files: 1, ..AtRisk::default() });
    assert_eq!(content(&device, "/file"), b"synced");
}

#[test]
fn a_spared_cache_loses_nothing() {
    let (device, file) = one_file(b"synced");
    write(&file, b"written back", 0);
    create(device.mount().as_ref(), "/other");
    assert_eq!(device.lose_power(PowerLoss::KeepUnsynced), AtRisk { files: 1, names: 1, ..AtRisk::default() });
    assert_eq!(content(&device, "/file"), b"written back");
    assert_eq!(names(&device, "/"), ["file", "other"]);
}

#[test]
fn a_killed_process_loses_nothing_but_its_handles_and_locks() {
    let (device, file) = one_file(b"synced");
    let disk = device.mount();
    let _held = disk.lock(Path::new("/lock")).unwrap();
    write(&file, b"still in the cache", 0);
    device.kill();
    assert_eq!(content(&device, "/file"), b"still in the cache");
    let dead = file.write_at(&[IoSlice::new(b"a dead process writes nothing")], 0);
    assert!(dead.is_err() && file.sync_data().is_err() && file.len().is_err());
    assert!(disk.exists(Path::new("/file")).is_err());
    device.mount().lock(Path::new("/lock")).unwrap();
    assert_eq!(device.lose_power(PowerLoss::LoseUnsynced).files, 1, "death of a process syncs nothing");
    assert_eq!(content(&device, "/file"), b"synced");
}

#[test]
fn a_lock_of_a_dead_process_does_not_free_the_next_ones() {
    let device = MemoryDisk::new(1);
    let old = device.mount().lock(Path::new("/lock")).unwrap();
    device.kill();
    let disk = device.mount();
    let _new = disk.lock(Path::new("/lock")).unwrap();
    drop(old);
    assert_eq!(disk.lock(Path::new("/lock")).err().map(|error| error.kind()), Some(ErrorKind::WouldBlock));
}

#[test]
fn pages_survive_one_by_one() {
    let found = outcomes(
        || {
            let (device, file) = one_file(&[b'a'; 2 * PAGE]);
            write(&file, &[b'b'; 2 * PAGE], 0);
            device
        },
        |device| {
            let all = content(device, "/file");
            assert_eq!(all.len(), 2 * PAGE);
            all.chunks(PAGE)
                .map(|page| if page.iter().all(|byte| *byte == page[0]) { page[0] as char } else { '?' })
                .collect::<String>()
        },
    );
    for wanted in ["aa", "ab", "ba", "bb", "a?", "?b"] {
        assert!(found.contains(wanted), "{wanted} is not among {found:?}");
    }
}

#[test]
fn pages_tear_at_sectors_only() {
    let found = outcomes(
        || {
            let (device, file) = one_file(&[b'a'; PAGE]);
            write(&file, &[b'b'; PAGE], 0);
            device
        },
        |device| {
            let all = content(device, "/file");
            assert!(all.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            all.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>()
        },
    );
    assert!(found.len() > 20, "only {} ways to tear a page", found.len());
}

#[test]
fn a_page_may_stay_as_it_was_between_two_writes() {
    let found = outcomes(
        || {
            let (device, file) = one_file(b"");
            write(&file, b"first", 0);
            write(&file, b"second", 5);
            device
        },
        |device| content(device, "/file"),
    );
    assert!(found.contains(&b"first"[..]) && found.contains(&b"firstsecond"[..]) && found.contains(&b""[..]));
    let hole = [&b"first"[..], &[0; 6]].concat();
    assert!(found.contains(&hole), "the length can be there without the bytes: {found:?}");
}

#[test]
fn an_appended_file_may_end_at_a_page_border() {
    let found = outcomes(
        || {
            let (device, file) = one_file(b"begin");
            write(&file, &[b'x'; 3 * PAGE], 5);
            device
        },
        |device| content(device, "/file").len(),
    );
    for wanted in [5, PAGE, 2 * PAGE, 3 * PAGE, 3 * PAGE + 5] {
        assert!(found.contains(&wanted), "{wanted} is not among {found:?}");
    }
}

#[test]
fn what_was_synced_survives_every_loss() {
    for seed in 0..400 {
        let (device, file) = one_file(&[b'a'; 3 * PAGE + 7]);
        write(&file, b"appended, not synced", 3 * PAGE as u64 + 7);
        write(&file, &[b'b'; PAGE], 10 * PAGE as u64);
        device.lose_power(PowerLoss::Arbitrary { seed });
        let all = content(&device, "/file");
        let intact = &all[..3 * PAGE / 512 * 512];
        assert!(intact.iter().all(|byte| *byte == b'a'), "seed {seed}");
        assert_eq!(&all[3 * PAGE..3 * PAGE + 7], [b'a'; 7], "seed {seed}");
    }
}

#[test]
fn truncation_may_be_undone_until_synced() {
    let cut = |sync: bool| {
        outcomes(
            || {
                let (device, file) = one_file(&[b'a'; 2 * PAGE]);
                file.set_len(PAGE as u64).unwrap();
                if sync {
                    file.sync_data().unwrap();
                }
                device
            },
            |device| content(device, "/file").len(),
        )
    };
    assert_eq!(cut(false), BTreeSet::from([PAGE, 2 * PAGE]));
    assert_eq!(cut(true), BTreeSet::from([PAGE]));
}

#[test]
fn names_are_lost_without_a_sync_of_their_directory() {
    let device = MemoryDisk::new(1);
    let disk = device.mount();
    disk.create_dir_all(Path::new("/data/topic-0")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    create(disk.as_ref(), "/data/topic-0/kept");
    disk.sync_dir(Path::new("/data/topic-0")).unwrap();
    let lost = create(disk.as_ref(), "/data/topic-0/lost");
    write(&lost, b"content without a name", 0);
    lost.sync_all().unwrap();
    disk.remove_file(Path::new("/data/topic-0/kept")).unwrap();
    assert_eq!(names(&device, "/data/topic-0"), ["lost"]);
    assert_eq!(device.lose_power(PowerLoss::LoseUnsynced).names, 2);
    assert_eq!(names(&device, "/data/topic-0"), ["kept"]);
}

#[test]
fn a_directory_that_is_not_durable_takes_its_files_along() {
    let device = MemoryDisk::new(1);
    let disk = device.mount();
    disk.create_dir_all(Path::new("/data/topic-0")).unwrap();
    create(disk.as_ref(), "/data/topic-0/file").sync_all().unwrap();
    disk.sync_dir(Path::new("/data/topic-0")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    device.lose_power(PowerLoss::LoseUnsynced);
    assert_eq!(names(&device, "/"), ["data"]);
    assert!(names(&device, "/data").is_empty());
}

#[test]
fn a_rename_happens_or_does_not() {
    let found = outcomes(
        || {
            let (device, _) = one_file(b"old");
            let disk = device.mount();
            let new = create(disk.as_ref(), "/file.tmp");
            write(&new, b"new", 0);
            new.sync_all().unwrap();
            disk.rename(Path::new("/file.tmp"), Path::new("/file")).unwrap();
            device
        },
        |device| (names(device, "/").join(" "), content(device, "/file")),
    );
    let expected = [("file", "old"), ("file", "new"), ("file file.tmp", "old")];
    assert_eq!(found, expected.map(|(names, content)| (names.to_owned(), content.as_bytes().to_vec())).into());
}

#[test]
fn a_rename_across_directories_needs_both_synced() {
    let moved = |synced: &[&str]| {
        let device = MemoryDisk::new(1);
        let disk = device.mount();
        disk.create_dir_all(Path::new("/a")).unwrap();
        disk.create_dir_all(Path::new("/b")).unwrap();
        create(disk.as_ref(), "/a/file");
        for directory in ["/", "/a", "/b"] {
            disk.sync_dir(Path::new(directory)).unwrap();
        }
        disk.rename(Path::new("/a/file"), Path::new("/b/file")).unwrap();
        for directory in synced {
            disk.sync_dir(Path::new(directory)).unwrap();
        }
        device.lose_power(PowerLoss::LoseUnsynced);
        (names(&device, "/a").len(), names(&device, "/b").len())
    };
    assert_eq!(moved(&[]), (1, 0));
    assert_eq!(moved(&["/a"]), (1, 0));
    assert_eq!(moved(&["/b"]), (1, 0));
    assert_eq!(moved(&["/b", "/a"]), (0, 1));
}

#[test]
fn a_whole_file_write_is_old_or_new_at_each_step() {
    for operations in 0.. {
        let mut finished = false;
        for seed in 0..20 {
            let (device, _) = one_file(b"old");
            device.power_off_after(operations);
            finished = device.mount().write_file_atomically(Path::new("/file"), b"new").is_ok();
            assert_eq!(finished, device.is_powered());
            device.lose_power(PowerLoss::Arbitrary { seed });
            let all = content(&device, "/file");
            assert!(all == b"new" || (all == b"old" && !finished), "step {operations}, seed {seed}: {all:?}");
        }
        if finished {
            assert!(operations > 4, "power was cut at {operations} steps only");
            return;
        }
    }
}

#[test]
fn the_nth_operation_fails() {
    let (device, file) = one_file(b"");
    device.inject(Fault::nth(Operation::Write, 1, Failure::NoSpace));
    device.inject(Fault::nth(Operation::Rename, 0, Failure::Io).on("/file"));
    write(&file, b"a", 0);
    let error = file.write_at(&[IoSlice::new(b"b")], 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    write(&file, b"c", 1);
    assert_eq!(content(&device, "/file"), b"ac");
    let disk = device.mount();
    assert!(disk.rename(Path::new("/file"), Path::new("/moved")).is_err());
    assert!(disk.exists(Path::new("/file")).unwrap());
    disk.rename(Path::new("/file"), Path::new("/moved")).unwrap();
}

#[test]
fn short_and_interrupted_calls_are_carried_on() {
    let (device, file) = one_file(b"");
    for skip in [0, 1, 3] {
        device.inject(Fault::nth(Operation::Write, skip, Failure::Short));
        device.inject(Fault::nth(Operation::Write, skip + 1, Failure::Interrupted));
        device.inject(Fault::nth(Operation::Read, skip, Failure::Short));
    }
    let bytes: Vec<u8> = (0..10_000_u32).map(|number| number as u8).collect();
    file.write_all_at(&[IoSlice::new(&bytes[..77]), IoSlice::new(&bytes[77..])], 0).unwrap();
    assert_eq!(content(&device, "/file"), bytes);
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (device, file) = one_file(&[1; PAGE]);
    device.set_capacity(Some(3 * PAGE as u64));
    let disk = device.mount();
    assert_eq!(disk.space(Path::new("/")).unwrap().available, 2 * PAGE as u64);
    let other = create(disk.as_ref(), "/other");
    assert_eq!(other.write_at(&[IoSlice::new(&[2; 4 * PAGE])], 100).unwrap(), 2 * PAGE - 100);
    assert_eq!(other.write_at(&[IoSlice::new(b"more")], 2 * PAGE as u64).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(other.write_at(&[IoSlice::new(b"over")], 0).unwrap(), 4, "what has its page already fits");
    disk.remove_file(Path::new("/file")).unwrap();
    assert_eq!(disk.space(Path::new("/")).unwrap().available, 0, "an open file keeps its pages");
    drop(file);
    assert_eq!(disk.space(Path::new("/")).unwrap().available, PAGE as u64);
    write(&other, b"more", 2 * PAGE as u64);
}

#[test]
fn a_failed_sync_drops_pages_and_a_later_one_does_not_notice() {
    let mut lost = 0;
    for seed in 0..40 {
        let device = MemoryDisk::new(seed);
        let file = create(device.mount().as_ref(), "/file");
        device.mount().sync_dir(Path::new("/")).unwrap();
        write(&file, &[b'a'; PAGE], 0);
        device.inject(Fault::nth(Operation::Sync, 0, Failure::Io));
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(content(&device, "/file"), [b'a'; PAGE], "readers still see it");
        assert_eq!(device.lose_power(PowerLoss::KeepUnsynced).files, 0);
        lost += u64::from(content(&device, "/file") != [b'a'; PAGE]);
    }
    assert!((1..40).contains(&lost), "{lost} of 40 failed syncs lost something");
}

#[test]
fn what_a_failed_sync_dropped_is_durable_once_it_is_written_anew() {
    for seed in 0..40 {
        let device = MemoryDisk::new(seed);
        let file = create(device.mount().as_ref(), "/file");
        device.mount().sync_dir(Path::new("/")).unwrap();
        let bytes = [[b'a'; PAGE], [b'b'; PAGE], [b'c'; PAGE]].concat();
        write(&file, &bytes, 0);
        device.inject(Fault::nth(Operation::Sync, 0, Failure::Io));
        assert!(file.sync_data().is_err());
        // By the next process, on the same machine.
        device.kill();
        let file = device.mount().open(Path::new("/file"), OpenMode::ReadWrite).unwrap();
        write(&file, &bytes, 0);
        file.sync_data().unwrap();
        device.lose_power(PowerLoss::LoseUnsynced);
        assert_eq!(content(&device, "/file"), bytes, "seed {seed}");
    }
}

#[test]
fn a_failed_sync_does_not_bring_back_what_was_cut_away_for_good() {
    let (device, file) = one_file(&[b'a'; 3 * PAGE]);
    file.set_len(PAGE as u64).unwrap();
    device.inject(Fault::nth(Operation::Sync, 0, Failure::Io));
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    device.lose_power(PowerLoss::LoseUnsynced);
    assert_eq!(content(&device, "/file"), [b'a'; PAGE]);
}

#[tokio::test(start_paused = true)]
async fn a_sync_covers_what_was_written_before_it_began() {
    let (device, file) = one_file(b"");
    device.set_sync_latency(Some((Duration::from_millis(2), Duration::from_millis(9))));
    write(&file, b"before", 0);
    let sync = device.mount().sync_files(vec![Arc::clone(&file)]);
    write(&file, b" during", 6);
    let started = tokio::time::Instant::now();
    assert!(sync.await[0].is_ok());
    assert!((2..=9).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    device.lose_power(PowerLoss::LoseUnsynced);
    assert_eq!(content(&device, "/file"), b"before");
}

#[tokio::test(start_paused = true)]
async fn power_lost_during_a_sync_fails_it() {
    let (device, file) = one_file(b"");
    device.set_sync_latency(Some((Duration::from_millis(2), Duration::from_millis(2))));
    write(&file, b"bytes", 0);
    let sync = device.mount().sync_files(vec![Arc::clone(&file)]);
    device.lose_power(PowerLoss::LoseUnsynced);
    assert!(sync.await[0].is_err());
    assert_eq!(content(&device, "/file"), b"");
    drop(file);
    assert_eq!(device.lose_power(PowerLoss::KeepUnsynced), AtRisk::default());
}

#[tokio::test(start_paused = true)]
async fn an_overtaken_sync_takes_nothing_back() {
    let (device, file) = one_file(b"");
    device.set_sync_latency(Some((Duration::from_millis(5), Duration::from_millis(5))));
    write(&file, b"early", 0);
    let slow = device.mount().sync_files(vec![Arc::clone(&file)]);
    write(&file, b" late", 5);
    file.sync_data().unwrap();
    assert!(slow.await[0].is_ok());
    device.lose_power(PowerLoss::LoseUnsynced);
    assert_eq!(content(&device, "/file"), b"early late");
}

#[tokio::test]
async fn a_lying_disk_is_found_out_at_the_power_loss() {
    let (device, file) = one_file(b"");
    device.ignore_syncs(Some("fi"));
    write(&file, b"acknowledged", 0);
    file.sync_all().unwrap();
    assert!(device.mount().sync_files(vec![Arc::clone(&file)]).await[0].is_ok());
    device.lose_power(PowerLoss::LoseUnsynced);
    assert_eq!(content(&device, "/file"), b"");
}

#[test]
fn the_same_calls_leave_the_same_trace() {
    let trace = |byte: u8| {
        let (device, file) = one_file(b"");
        write(&file, &[byte; 100], 4000);
        device.lose_power(PowerLoss::Arbitrary { seed: 3 });
        (device.trace(), device.operations(), content(&device, "/file"))
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1).0, trace(2).0);
}
