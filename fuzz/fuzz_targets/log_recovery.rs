//! A partition's files with what the fuzzer does to them: segments, indexes, producer snapshots, leader epochs,
//! checkpoints. A start must come to an end, serve nothing but batches whose checksum is right, take an append if the
//! partition came up, and find it again after the next start.

#![no_main]

use std::cell::OnceCell;
use std::path::Path;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_config::LogConfig;
use ottla_fuzz::files::{self, Files, block_on, crc32c};
use ottla_fuzz::partition;
use ottla_log::{AppendOrigin, BatchToAppend, Finding, PartitionLog, ReadError, VerifyReport};
use ottla_record::{BatchBuilder, BatchHeader, Compression, stamp_crc};
use ottla_rt::memory::MemoryWorld;
use ottla_types::LeaderEpoch;

/// Version and checksum.
const SNAPSHOT_HEAD: usize = 6;

std::thread_local! {
    static CLEAN: OnceCell<Files> = const { OnceCell::new() };
    static KILLED: OnceCell<Files> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    let [choice, data @ ..] = data else { return };
    let clean = choice & 1 == 0;
    let mut files = if clean { &CLEAN } else { &KILLED }.with(|files| files.get_or_init(|| written(clean)).clone());
    files::change(
        &mut files.iter_mut().map(|(_, bytes)| bytes).collect::<Vec<_>>(),
        data,
        |kind, bytes, place, given| {
            if kind == 0 { restamp_batch(bytes, place, given) } else { restamp_snapshot(bytes, place, given) }
        },
    );
    let memory = files::put(&files);
    ottla_log::verify(&*memory.disk.mount(), Path::new("/data"), false, &mut Ignored).expect("the directory is there");
    block_on(async {
        let Some(manager) = partition::open(&memory, config()).await else { return };
        let Some(log) = manager.get(&partition::name()) else { return };
        serve(&log);
        let epoch = log.latest_epoch().unwrap_or(0);
        let batch = batch(99);
        let header = BatchHeader::parse(&batch).expect("it was built");
        let appended = log.append(
            BatchToAppend { bytes: &batch, header: &header, origin: AppendOrigin::Client },
            LeaderEpoch(epoch),
            0,
        );
        let Ok(appended) = appended else { return };
        manager.request_flush(&log);
        log.wait_flushed(appended.last_offset + 1).await.expect("the disk works");
        manager.shutdown(0).await;
        drop((manager, log));
        memory.disk.kill();
        let manager = partition::open(&memory, config()).await.expect("the directory was left in order");
        let log = manager.get(&partition::name()).expect("the partition was left in order");
        assert_eq!(log.log_end_offset(), appended.last_offset + 1);
        serve(&log);
    });
});

struct Ignored;

impl VerifyReport for Ignored {
    fn finding(&mut self, finding: Finding) {
        assert!(!finding.issue.to_string().is_empty());
    }
}

/// Reads everything there is; what is damaged is passed over.
fn serve(log: &PartitionLog) {
    let mut offset = log.log_start_offset();
    let mut refused = 0;
    while offset < log.log_end_offset() && refused < 100 {
        match log.read(offset, 2_000, true, i64::MAX) {
            Ok(read) => {
                let bytes = read.to_bytes().expect("memory can be read");
                let mut next = offset;
                for batch in ottla_record::batches(&bytes) {
                    let (header, batch) = batch.expect("whole batches are served");
                    ottla_record::verify_crc(batch).expect("good batches are served");
                    assert!(header.last_offset() >= next, "offsets rise");
                    next = header.next_offset();
                }
                assert!(next > offset || read.bytes == 0, "a read makes progress");
                if read.bytes == 0 {
                    return;
                }
                offset = next;
            }
            Err(ReadError::Damaged { .. }) => {
                refused += 1;
                offset += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    for timestamp in [0, 1_005, 1_050, i64::MAX] {
        let _ = log.offset_for_timestamp(timestamp);
    }
    let _ = log.offset_of_max_timestamp();
}

/// Has a batch say something else, with a checksum that fits.
fn restamp_batch(bytes: &mut [u8], number: usize, given: &[u8]) {
    let mut start = 0;
    for _ in 0..number % 32 {
        let Ok(header) = BatchHeader::parse(bytes.get(start..).unwrap_or_default()) else { return };
        start += header.size_in_bytes();
    }
    let Ok(header) = BatchHeader::parse(bytes.get(start..).unwrap_or_default()) else { return };
    let Some(batch) = bytes.get_mut(start..start + header.size_in_bytes()) else { return };
    batch.iter_mut().skip(21).zip(given).for_each(|(byte, given)| *byte ^= given);
    stamp_crc(batch);
}

/// The same with a snapshot of the producers.
fn restamp_snapshot(bytes: &mut [u8], place: usize, given: &[u8]) {
    let Some((head, content)) = bytes.split_first_chunk_mut::<SNAPSHOT_HEAD>() else { return };
    let place = place % (content.len() + 1);
    content.iter_mut().skip(place).zip(given).for_each(|(byte, given)| *byte ^= given);
    head[2..].copy_from_slice(&crc32c(&[content]).to_be_bytes());
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 1_000, index_interval_bytes: 200, ..LogConfig::default() }
}

fn batch(number: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::NONE);
    builder.set_producer(number % 3, 0, (number / 3) as i32);
    builder.append(1_000 + number, None, Some(&[b'x'; 40]), &[]).expect("a record");
    builder.finish().expect("a batch")
}

/// The files of a node that has written, and has stopped or was killed.
fn written(clean: bool) -> Files {
    let memory = MemoryWorld::new(1);
    block_on(async {
        let (manager, log) = partition::create(&memory, config()).await;
        for number in 0..30 {
            let batch = batch(number);
            let header = BatchHeader::parse(&batch).expect("it was built");
            let batch = BatchToAppend { bytes: &batch, header: &header, origin: AppendOrigin::Client };
            log.append(batch, LeaderEpoch((number / 8) as i32), 0).expect("it is in order");
            if number == 20 {
                manager.request_flush(&log);
                log.wait_flushed(20).await.expect("the disk works");
                manager.checkpoint().await;
            }
        }
        if clean {
            manager.shutdown(0).await;
        }
        memory.disk.kill();
        let files = files::take(&memory, &["/data", "/data/t-0"]);
        if !clean {
            // Nothing of it may wait for a flush for ever: that would count as a leak.
            manager.shutdown(0).await;
        }
        files
    })
}
