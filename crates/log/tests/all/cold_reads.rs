//! Bits that change on the disk: readers from files get good batches or an error.

use std::io::IoSlice;
use std::sync::Arc;

use ottla_log::{AppendOrigin, BatchToAppend, LogManager, PartitionLog, ReadError};
use ottla_record::{BatchHeader, batches};
use ottla_rt::OpenMode;
use ottla_types::LeaderEpoch;

use crate::support::*;

const FIRST: &str = "00000000000000000000.log";
const BATCHES: i64 = 240;

/// Batches of two records in several segments, with an index entry for each batch but the first.
async fn written() -> (Machine, LogManager, Arc<PartitionLog>) {
    let machine = Machine::with_config(1, |config| {
        config.segment_bytes = 2_500;
        config.index_interval_bytes = 1;
    });
    let (manager, log) = machine.start().await;
    for number in 0..BATCHES {
        append_with_epoch(&log, &Batch::of(&[&format!("{number:040}"), "second"]), (number / 7) as i32).unwrap();
    }
    flush(&manager, &log).await;
    assert!(log.segment_base_offsets().len() >= 10);
    assert!(!log.is_hot(log.segment_base_offsets()[7]));
    (machine, manager, log)
}

/// Positions and headers of the batches in a segment.
fn batches_of(machine: &Machine, name: &str) -> Vec<(usize, BatchHeader)> {
    let bytes = machine.read(name);
    let mut position = 0;
    let mut found = Vec::new();
    for batch in batches(&bytes) {
        let (header, batch) = batch.unwrap();
        found.push((position, header));
        position += batch.len();
    }
    found
}

/// The offset after what a read gives, all of which has to be good.
fn read_to(log: &PartitionLog, offset: i64) -> Result<i64, ReadError> {
    let bytes = log.read(offset, 1 << 20, true, i64::MAX)?.to_bytes().unwrap();
    let mut next = offset;
    for batch in batches(&bytes) {
        let (header, batch) = batch.unwrap();
        ottla_record::verify_crc(batch).unwrap();
        assert_eq!(header.base_offset, next);
        assert_eq!(log.epoch_at(next), Some(header.partition_leader_epoch));
        next = header.next_offset();
    }
    Ok(next)
}

fn assert_damaged(read: Result<i64, ReadError>, expected: usize, what: &str) {
    match read {
        Err(ReadError::Damaged { position, .. }) => assert_eq!(position, expected as u64, "{what}"),
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn whatever_bit_of_a_batch_changes() {
    block_on(async {
        let (machine, _manager, log) = written().await;
        let batches = batches_of(&machine, FIRST);
        assert_eq!(read_to(&log, 0).unwrap(), log.segment_base_offsets()[1]);
        for number in [0, 1, 9, batches.len() - 1] {
            let (position, header) = batches[number];
            // Every bit of what no checksum covers, some of the others.
            for bit in (0..17 * 8).chain((17 * 8..header.size_in_bytes() * 8).step_by(11)) {
                let what = format!("bit {bit} of batch {number}");
                machine.flip(FIRST, position * 8 + bit);
                // As after a while: what was verified may have been read from the disk again.
                reopen(&log);
                if number > 0 {
                    assert_eq!(read_to(&log, 0).unwrap(), header.base_offset, "{what}");
                }
                assert_damaged(read_to(&log, header.base_offset), position, &what);
                assert_damaged(read_to(&log, header.base_offset + 1), position, &what);
                // What comes later is there for those who go on, in another segment, and in this one.
                let later = log.segment_base_offsets()[1];
                assert!(read_to(&log, later).unwrap() > later, "{what}");
                if let Some((_, after_next)) = batches.get(number + 2) {
                    assert!(read_to(&log, after_next.base_offset).unwrap() > after_next.base_offset, "{what}");
                }
                machine.flip(FIRST, position * 8 + bit);
                reopen(&log);
                assert_eq!(read_to(&log, 0).unwrap(), later, "{what}, and back");
            }
        }
    });
}

/// Reads a little of so many other files that the first is closed.
fn reopen(log: &PartitionLog) {
    // A file that was used stays for another round.
    for _ in 0..3 {
        for base in &log.segment_base_offsets()[1..] {
            log.read(*base, 1, true, i64::MAX).unwrap();
        }
    }
}

#[test]
fn a_checksum_is_computed_once_and_headers_are_checked_always() {
    block_on(async {
        let (machine, _manager, log) = written().await;
        let (position, header) = batches_of(&machine, FIRST)[5];
        let end = read_to(&log, 0).unwrap();
        let payload = (position + header.size_in_bytes() - 1) * 8;
        let epoch = (position + 15) * 8;
        machine.flip(FIRST, payload);
        let read = log.read(0, 1 << 20, true, i64::MAX).unwrap();
        assert_eq!(read.bytes, machine.read(FIRST).len(), "verified when it was read first");
        machine.flip(FIRST, epoch);
        assert_eq!(read_to(&log, 0).unwrap(), header.base_offset);
        assert_damaged(read_to(&log, header.base_offset), position, "epoch");
        machine.flip(FIRST, epoch);
        reopen(&log);
        assert_eq!(read_to(&log, 0).unwrap(), header.base_offset, "verified anew in a file opened anew");
        machine.flip(FIRST, payload);
        assert_eq!(read_to(&log, 0).unwrap(), end, "damage is not remembered");
    });
}

#[test]
fn a_file_that_lost_its_end() {
    block_on(async {
        let (machine, _manager, log) = written().await;
        let batches = batches_of(&machine, FIRST);
        let (position, header) = batches[batches.len() - 2];
        let whole = machine.read(FIRST);
        for cut in [position, position + 1, position + 61, position + 90] {
            machine.overwrite(FIRST, &whole[..cut]);
            assert_eq!(read_to(&log, 0).unwrap(), header.base_offset, "{cut}");
            assert_damaged(read_to(&log, header.base_offset), position, "cut");
            let next = log.segment_base_offsets()[1];
            assert!(read_to(&log, next).unwrap() > next);
            assert!(!log.is_offline(), "one file is damaged, not the disk");
        }
    });
}

#[test]
fn what_replaces_verified_bytes_is_not_verified() {
    block_on(async {
        let machine = Machine::new(1);
        let (_manager, log) = machine.start().await;
        for _ in 0..10 {
            append(&log, &Batch::sized(1_000)).unwrap();
        }
        assert_eq!(read_to(&log, 0).unwrap(), 10);
        log.truncate_to(5).unwrap();
        for _ in 0..10 {
            append(&log, &Batch::sized(1_001)).unwrap();
        }
        let (position, header) = batches_of(&machine, FIRST)[7];
        machine.flip(FIRST, (position + 500) * 8);
        assert_eq!(read_to(&log, 0).unwrap(), 7);
        assert_damaged(read_to(&log, header.base_offset), position, "payload");
    });
}

#[test]
fn times_are_not_looked_up_in_damaged_batches() {
    block_on(async {
        let (machine, _manager, log) = written().await;
        let (position, _) = batches_of(&machine, FIRST)[5];
        let found = log.offset_for_timestamp(1_000).unwrap().unwrap();
        assert_eq!(found.offset, 0);
        // Of the greatest timestamp in the header.
        machine.flip(FIRST, (position + 35) * 8);
        // Only what has to be read for the answer counts.
        assert_eq!(log.offset_for_timestamp(1_000).unwrap().unwrap().offset, 0);
        assert!(matches!(log.offset_for_timestamp(1_002), Ok(None) | Err(ReadError::Damaged { .. })));
    });
}

#[test]
fn holes_are_no_damage() {
    block_on(async {
        let machine = Machine::new(1);
        let (_manager, log) = machine.start().await;
        // As the leader's cleaner left them.
        for base_offset in [0, 3, 10, 11, 500] {
            let (bytes, mut header) = Batch::sized(1_000).build();
            header.base_offset = base_offset;
            header.partition_leader_epoch = 0;
            log.append_as_follower(&[(bytes, header)], 0).unwrap();
        }
        for _ in 0..4 {
            append(&log, &Batch::sized(1_000)).unwrap();
        }
        for (offset, first) in [(0, 0), (1, 3), (3, 3), (4, 10), (11, 11), (12, 500), (500, 500)] {
            let read = log.read(offset, 1, true, i64::MAX).unwrap().to_bytes().unwrap();
            assert_eq!(BatchHeader::parse(&read).unwrap().base_offset, first, "from {offset}");
        }
        // A batch that was moved up meets the one behind it, a batch that was moved down the one before.
        let batches = batches_of(&machine, FIRST);
        for (number, bit) in [(1, 3), (2, 0), (3, 1), (4, 3)] {
            let (position, header) = batches[number];
            machine.flip(FIRST, position * 8 + 7 * 8 + bit);
            let read = log.read(header.base_offset, 1, true, i64::MAX);
            assert_damaged(read.map(|_| 0), position, &format!("batch {number}"));
            machine.flip(FIRST, position * 8 + 7 * 8 + bit);
        }
    });
}

/// Three large batches, on a disk of the operating system's, and their position.
async fn large_batches(node: &Node, appended_ms: i64) -> (LogManager, Arc<PartitionLog>) {
    let (manager, log) = node.start().await;
    for _ in 0..3 {
        let (bytes, header) = Batch::sized(100_000).build();
        let batch = BatchToAppend { bytes: &bytes, header: &header, origin: AppendOrigin::Client };
        log.append(batch, LeaderEpoch(0), appended_ms).unwrap();
    }
    flush(&manager, &log).await;
    (manager, log)
}

/// Flips a bit in the middle of the log of partition 0.
fn flip_on_disk(node: &Node) {
    let path = node.directory().join("orders-0").join(FIRST);
    let file = node.world.disk.open(&path, OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 150_000).unwrap();
    byte[0] ^= 1;
    file.write_all_at(&[IoSlice::new(&byte)], 150_000).unwrap();
}

#[test]
fn what_was_written_long_ago_is_not_sent_from_the_systems_cache_unverified() {
    block_on(async {
        for (age_ms, unverified) in [(0, true), (30_000, true), (61_000, false), (-5_000, false)] {
            let node = Node::new();
            let now_ms = node.world.clock.wall_ms();
            let (_manager, log) = large_batches(&node, now_ms - age_ms).await;
            assert!(log.is_hot(0));
            flip_on_disk(&node);
            let read = log.read(0, 1 << 20, true, i64::MAX).unwrap();
            assert_eq!(read.end_offset, if unverified { 3 } else { 1 }, "{age_ms} ms old");
        }
    });
}

#[test]
fn what_has_left_memory_is_verified_though_it_was_sent_before() {
    block_on(async {
        let node = Node::new();
        let (manager, log) = large_batches(&node, node.world.clock.wall_ms()).await;
        assert_eq!(read_to(&log, 0).unwrap(), 3, "sent from the system's cache");
        flip_on_disk(&node);
        // As after a while without appends.
        manager.expire(i64::MAX).await;
        assert!(!log.is_hot(0));
        assert_eq!(read_to(&log, 0).unwrap(), 1);
        let size = Batch::sized(100_000).build().0.len();
        assert_damaged(read_to(&log, 1), size, "the second batch");
        assert_eq!(read_to(&log, 2).unwrap(), 3);
    });
}
