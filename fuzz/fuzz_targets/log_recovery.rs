//! A partition's files with what the fuzzer does to them: segments, indexes, producer snapshots, leader epochs,
//! checkpoints. A start must come to an end, serve nothing but batches whose checksum is right, take an append if the
//! partition came up, and find it again after the next start.

#![no_main]

use std::cell::OnceCell;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_config::LogConfig;
use ottla_log::{
    AppendOrigin, BatchToAppend, Finding, LogManager, LogSettings, NewPartition, PartitionLog, ReadError, VerifyReport,
};
use ottla_record::{BatchBuilder, BatchHeader, Compression, stamp_crc};
use ottla_rt::OpenMode;
use ottla_rt::memory::MemoryWorld;
use ottla_types::{LeaderEpoch, TopicPartition, Uuid};

type Files = Vec<(PathBuf, Vec<u8>)>;

std::thread_local! {
    static CLEAN: OnceCell<Files> = const { OnceCell::new() };
    static KILLED: OnceCell<Files> = const { OnceCell::new() };
}

const MOST_CHANGES: usize = 12;

fuzz_target!(|data: &[u8]| {
    let [choice, data @ ..] = data else { return };
    let clean = choice & 1 == 0;
    let mut files = if clean { &CLEAN } else { &KILLED }.with(|files| files.get_or_init(|| written(clean)).clone());
    change(&mut files, data);
    let memory = MemoryWorld::new(1);
    let disk = memory.disk.mount();
    for (path, bytes) in &files {
        disk.create_dir_all(path.parent().expect("a file is in a directory")).expect("memory is there");
        let file = disk.open(path, OpenMode::CreateOrOpen).expect("memory is there");
        file.write_all_at(&[IoSlice::new(bytes)], 0).expect("memory is there");
    }
    ottla_log::verify(&*disk, Path::new("/data"), false, &mut Ignored).expect("the directory is there");
    block_on(async {
        let Some(manager) = open(&memory).await else { return };
        let Some(log) = manager.get(&partition()) else { return };
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
        let manager = open(&memory).await.expect("the directory was left in order");
        let log = manager.get(&partition()).expect("the partition was left in order");
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

/// Each change takes a few bytes of the input: what, which file, where, and with what.
fn change(files: &mut Files, mut data: &[u8]) {
    for _ in 0..MOST_CHANGES {
        let [what, file, high, low, count, rest @ ..] = data else { return };
        let index = usize::from(*file) % files.len();
        let bytes = &mut files[index].1;
        let place = usize::from(u16::from_be_bytes([*high, *low])) % (bytes.len() + 1);
        let count = usize::from(*count).min(rest.len());
        let (given, rest) = rest.split_at(count);
        data = rest;
        match what % 7 {
            0 => bytes.iter_mut().skip(place).zip(given).for_each(|(byte, given)| *byte ^= given),
            1 => bytes.iter_mut().skip(place).zip(given).for_each(|(byte, given)| *byte = *given),
            2 => bytes.truncate(place),
            3 => bytes.resize(place + 4 * count, 0),
            4 => drop(bytes.splice(place..place, given.iter().copied())),
            5 => *bytes = given.to_vec(),
            // A batch whose content is another, and whose checksum fits.
            _ => restamp(bytes, place, given),
        }
    }
}

fn restamp(bytes: &mut [u8], number: usize, given: &[u8]) {
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

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
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

async fn open(memory: &MemoryWorld) -> Option<LogManager> {
    let mut settings = LogSettings::new(vec![PathBuf::from("/data")], 1);
    settings.cluster_id = Some("cluster".to_owned());
    settings.hot_tail_bytes = 0;
    settings.fatal = Arc::new(|event| panic!("{event:?}"));
    LogManager::open(memory.world(), settings, |_| config()).await.ok()
}

/// The files of a node that has written, and has stopped or was killed.
fn written(clean: bool) -> Files {
    let memory = MemoryWorld::new(1);
    block_on(async {
        let manager = open(&memory).await.expect("an empty directory");
        let wanted = NewPartition { topic_partition: partition(), topic_id: Uuid([7; 16]), config: Arc::new(config()) };
        let log = manager.create(vec![wanted]).await.pop().expect("one").expect("it is made");
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
    });
    memory.disk.kill();
    let disk = memory.disk.mount();
    let mut files = Files::new();
    for directory in ["/data", "/data/t-0"] {
        for entry in disk.read_dir(Path::new(directory)).expect("it was made") {
            if !entry.is_dir {
                let path = Path::new(directory).join(&entry.name);
                files.push((path.clone(), disk.read_file(&path, u64::MAX).expect("it is there")));
            }
        }
    }
    files
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(future)
}
