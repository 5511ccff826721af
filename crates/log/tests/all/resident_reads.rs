//! Readers that find what they want in the system's cache do not wait for the disk.

use std::sync::Arc;

use ottla_log::{AppendOrigin, BatchToAppend, LogManager, LogRead, PartitionLog, ReadChunk, ReadError};
use ottla_types::LeaderEpoch;

use crate::support::*;

const FIRST: &str = "00000000000000000000.log";
const MANY: usize = 1 << 20;

/// So many batches of one record of this size, and a hot tail of three kilobytes.
async fn written(segment_bytes: i32, batches: usize, record_bytes: usize) -> (Machine, LogManager, Arc<PartitionLog>) {
    let machine = Machine::with_config(1, |config| config.segment_bytes = segment_bytes);
    let (manager, log) = machine.start().await;
    for _ in 0..batches {
        append(&log, &Batch::sized(record_bytes)).unwrap();
    }
    flush(&manager, &log).await;
    machine.memory.disk.set_cached(true);
    (machine, manager, log)
}

fn resident(log: &PartitionLog, offset: i64, max_bytes: usize) -> Option<LogRead> {
    log.read_resident(offset, max_bytes, true, i64::MAX)
}

/// A log whose hot tail has room for large batches.
async fn with_hot_tail(machine: &Machine) -> (LogManager, Arc<PartitionLog>) {
    let mut settings = Machine::settings();
    settings.hot_tail_bytes = 1 << 20;
    let config = machine.config.clone();
    let manager = LogManager::open(machine.memory.world(), settings, move |_| config.clone()).await.unwrap();
    let log = machine.try_create(&manager, 0).await.unwrap();
    (manager, log)
}

/// File positions and lengths, and where it ends.
fn shape(read: &LogRead) -> (Vec<(Option<u64>, usize)>, i64) {
    let place = |chunk: &ReadChunk| match chunk {
        ReadChunk::Memory(_) => None,
        ReadChunk::File { position, .. } => Some(*position),
    };
    (read.chunks.iter().map(|chunk| (place(chunk), chunk.len())).collect(), read.end_offset)
}

#[test]
fn a_reader_from_the_beginning_waits_for_no_disk() {
    block_on(async {
        let (_machine, _manager, log) = written(20_000, 50, 1_000).await;
        assert_eq!(log.segment_base_offsets().len(), 3);
        let mut offset = 0;
        let mut bytes = Vec::new();
        while offset < log.log_end_offset() {
            // A closed file is opened by who may wait.
            let read = match resident(&log, offset, 3_500) {
                Some(read) => read,
                None if log.segment_base_offsets().contains(&offset) => {
                    log.read(offset, 3_500, true, i64::MAX).unwrap()
                }
                None => panic!("a reader that goes on at {offset}"),
            };
            assert_eq!(shape(&read), shape(&log.read(offset, 3_500, true, i64::MAX).unwrap()));
            bytes.extend_from_slice(&read.to_bytes().unwrap());
            offset = read.end_offset;
        }
        assert_eq!(ottla_record::batches(&bytes).map(Result::unwrap).count(), 50);
        assert_eq!(resident(&log, offset, 1).unwrap().bytes, 0);
    });
}

#[test]
fn what_is_not_in_the_cache_is_not_waited_for() {
    block_on(async {
        let (machine, _manager, log) = written(MANY as i32, 8, 100).await;
        assert!(resident(&log, 0, MANY).is_some());
        machine.memory.disk.set_cached(false);
        assert!(resident(&log, 0, MANY).is_none());
        let newest = log.log_end_offset() - 1;
        assert!(log.is_hot(newest) && resident(&log, newest, MANY).is_some(), "it is in memory");
    });
}

#[test]
fn a_reader_that_begins_somewhere_needs_a_look_up() {
    block_on(async {
        let (_machine, _manager, log) = written(MANY as i32, 20, 1_000).await;
        assert!(resident(&log, 5, 3_500).is_none());
        let end = log.read(5, 3_500, true, i64::MAX).unwrap().end_offset;
        assert_eq!(resident(&log, end, 3_500).unwrap().end_offset, end + 3);
        assert_eq!(resident(&log, 5, 3_500).unwrap().end_offset, end, "for another reader from there");
    });
}

#[test]
fn bounds_are_those_of_other_reads() {
    block_on(async {
        let (_machine, _manager, log) = written(MANY as i32, 20, 1_000).await;
        assert_eq!(log.read_resident(0, 10, false, i64::MAX).unwrap().bytes, 0);
        assert_eq!(log.read_resident(0, 10, true, i64::MAX).unwrap().end_offset, 1);
        assert_eq!(log.read_resident(0, MANY, true, 4).unwrap().end_offset, 4);
        assert_eq!(log.read_resident(0, MANY, true, 0).unwrap().bytes, 0);
        assert!(log.read_resident(-1, MANY, true, i64::MAX).is_none(), "an error is told by a read");
        assert!(log.read_resident(21, MANY, true, i64::MAX).is_none());
    });
}

#[test]
fn much_at_once_is_left_to_who_may_take_long() {
    block_on(async {
        let (_machine, _manager, log) = written(8 << 20, 4, 600_000).await;
        assert!(resident(&log, 0, 2 << 20).is_none());
        assert_eq!(resident(&log, 0, MANY).unwrap().end_offset, 1);
    });
}

#[test]
fn damage_is_not_served() {
    block_on(async {
        let (machine, _manager, log) = written(MANY as i32, 20, 1_000).await;
        let size = Batch::sized(1_000).build().0.len();
        machine.flip(FIRST, (4 * size + 500) * 8);
        assert_eq!(resident(&log, 0, MANY).unwrap().end_offset, 4, "what comes before");
        assert!(resident(&log, 4, MANY).is_none());
        assert!(matches!(log.read(4, MANY, true, i64::MAX), Err(ReadError::Damaged { .. })));
    });
}

#[test]
fn large_batches_of_the_hot_tail_are_in_the_cache_only() {
    block_on(async {
        let machine = Machine::new(1);
        let (_manager, log) = with_hot_tail(&machine).await;
        for bytes in [100, 80_000, 100, 90_000, 5_000] {
            let (bytes, header) = Batch::sized(bytes).build();
            let batch = BatchToAppend { bytes: &bytes, header: &header, origin: AppendOrigin::Client };
            log.append(batch, LeaderEpoch(0), machine.memory.world().clock.wall_ms()).unwrap();
        }
        assert!(log.is_hot(0));
        let whole = machine.read(FIRST);
        for cached in [false, true] {
            machine.memory.disk.set_cached(cached);
            for (offset, in_memory) in [(0, true), (1, false), (2, true), (3, false), (4, true)] {
                let found = log.read_resident(offset, 1_000, true, offset + 1);
                assert_eq!(found.is_some(), in_memory || cached, "from {offset}, {cached}");
                let read = log.read(offset, MANY, true, i64::MAX).unwrap();
                assert_eq!(read.end_offset, 5);
                assert!(whole.ends_with(&read.to_bytes().unwrap()), "from {offset}, {cached}");
            }
        }
    });
}

#[test]
fn a_large_batch_of_the_hot_tail_that_left_the_cache_is_verified() {
    block_on(async {
        let machine = Machine::new(1);
        let (_manager, log) = with_hot_tail(&machine).await;
        append(&log, &Batch::sized(80_000)).unwrap();
        append(&log, &Batch::sized(80_000)).unwrap();
        let size = machine.read(FIRST).len() / 2;
        machine.flip(FIRST, (size + 40_000) * 8);
        assert_eq!(log.read(0, MANY, true, i64::MAX).unwrap().end_offset, 1);
        assert!(matches!(log.read(1, MANY, true, i64::MAX), Err(ReadError::Damaged { .. })));
    });
}
