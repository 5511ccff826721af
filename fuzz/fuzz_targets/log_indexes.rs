//! Indexes of a partition's segments (offsets, times, aborted transactions) with what the fuzzer does to them, over logs
//! that are as they were written. Indexes are caches: whatever is in them, a start must serve the same records, the same
//! aborted transactions and the same offsets by time as without it.

#![no_main]

use std::cell::OnceCell;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_config::LogConfig;
use ottla_fuzz::files::{self, Files, block_on};
use ottla_fuzz::partition;
use ottla_log::{
    AbortedTransaction, AppendOrigin, BatchToAppend, EndTransaction, PartitionLog, TimestampAndOffset,
    TransactionVersion,
};
use ottla_record::{BatchBuilder, BatchHeader, Compression, ControlType};
use ottla_rt::memory::MemoryWorld;
use ottla_types::LeaderEpoch;

/// Batches of the history.
const ROUNDS: i64 = 60;

struct Image {
    files: Files,
    served: Served,
}

/// Everything that readers get.
struct Served {
    reads: Vec<(i64, Bytes)>,
    committed: Vec<(i64, Vec<AbortedTransaction>)>,
    middle: Vec<Bytes>,
    times: Vec<Option<TimestampAndOffset>>,
    latest: Option<TimestampAndOffset>,
}

const PARTS: [&str; 5] = ["reads", "reads of committed records", "reads in the middle", "times", "the latest time"];

impl Served {
    /// One text for each.
    fn parts(&self) -> [String; 5] {
        [
            format!("{:?}", self.reads),
            format!("{:?}", self.committed),
            format!("{:?}", self.middle),
            format!("{:?}", self.times),
            format!("{:?}", self.latest),
        ]
    }
}

std::thread_local! {
    static CLEAN: OnceCell<Image> = const { OnceCell::new() };
    static KILLED: OnceCell<Image> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    let [mode, data @ ..] = data else { return };
    let clean = mode & 1 == 0;
    // An index of transactions is known by its sum: with both of them anything, nothing tells what was there.
    let transactions = if mode & 2 == 0 { ".txnindex" } else { ".txnsum" };
    let changed = |name: &str| [".index", ".timeindex", transactions].iter().any(|suffix| name.ends_with(suffix));
    let check = |image: &Image| {
        let mut files = image.files.clone();
        let indexes = files.iter_mut().filter(|(path, _)| path.to_str().is_some_and(changed));
        files::change(&mut indexes.map(|(_, bytes)| bytes).collect::<Vec<_>>(), data, shift);
        block_on(async {
            let memory = files::put(&files);
            let manager = partition::open(&memory, config()).await.expect("the directory is in order");
            let log = manager.get(&partition::name()).expect("its logs are in order");
            let served = served(&log);
            for (number, (found, expected)) in served.parts().into_iter().zip(image.served.parts()).enumerate() {
                assert_eq!(found, expected, "{}", PARTS[number]);
            }
        });
    };
    if clean { &CLEAN } else { &KILLED }.with(|image| check(image.get_or_init(|| block_on(written(clean)))));
});

/// Makes a number another one near it, or moves bytes within the file.
fn shift(kind: u8, bytes: &mut Vec<u8>, place: usize, given: &[u8]) {
    let Some(&[high, low]) = given.first_chunk::<2>() else { return };
    if kind == 0 {
        let place = place * 4 % (bytes.len() + 1);
        if let Some(number) = bytes.get_mut(place..).and_then(|bytes| bytes.first_chunk_mut::<4>()) {
            let delta = i32::from(i16::from_be_bytes([high, low]));
            *number = i32::from_be_bytes(*number).wrapping_add(delta).to_be_bytes();
        }
    } else if let Some(from) = bytes.get(place % (bytes.len() + 1)..) {
        let part = from[..from.len().min(usize::from(low))].to_vec();
        let to = usize::from(high) * 4 % (bytes.len() + 1);
        bytes.iter_mut().skip(to).zip(part).for_each(|(byte, other)| *byte = other);
    }
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 2_000, index_interval_bytes: 100, ..LogConfig::default() }
}

fn served(log: &PartitionLog) -> Served {
    let end = log.log_end_offset();
    log.note_high_watermark(end);
    let stable = log.last_stable_offset();
    let (mut reads, mut committed) = (Vec::new(), Vec::new());
    let mut next = 0;
    while next < end {
        let read = log.read(next, 1_000, true, end).expect("the log is in order");
        assert!(read.end_offset > next, "a read makes progress");
        next = read.end_offset;
        reads.push((next, read.to_bytes().expect("memory can be read")));
    }
    next = 0;
    while next < stable {
        let found = log.read_committed(next, 700, true, stable).expect("the log is in order");
        assert!(found.read.end_offset > next, "a read makes progress");
        next = found.read.end_offset;
        committed.push((next, found.aborted));
    }
    let at =
        |offset| log.read(offset, 1, true, end).expect("the log is in order").to_bytes().expect("memory can be read");
    let time = |timestamp| log.offset_for_timestamp(timestamp).expect("the log is in order");
    Served {
        reads,
        committed,
        middle: (0..end).step_by(7).map(at).collect(),
        times: (990..1_000 + ROUNDS * 10 + 20).step_by(13).map(time).collect(),
        latest: log.offset_of_max_timestamp().expect("the log is in order"),
    }
}

/// The files of a node that has written, transactions too, and has stopped or was killed.
async fn written(clean: bool) -> Image {
    let memory = MemoryWorld::new(1);
    let (manager, log) = partition::create(&memory, config()).await;
    let mut sequences = [0; 2];
    for number in 0..ROUNDS {
        let mut builder = BatchBuilder::new(Compression::NONE);
        if number % 3 == 0 {
            let producer = number % 2;
            builder.set_producer(100 + producer, 0, sequences[producer as usize]);
            builder.set_transactional(true);
            sequences[producer as usize] += 1;
        }
        builder.append(1_000 + number * 10, None, Some(&[b'x'; 50]), &[]).expect("a record");
        let bytes = builder.finish().expect("a batch");
        let header = BatchHeader::parse(&bytes).expect("it was built");
        let batch = BatchToAppend { bytes: &bytes, header: &header, origin: AppendOrigin::Client };
        log.append(batch, LeaderEpoch((number / 20) as i32), 0).expect("it is in order");
        if number % 7 == 5 {
            let end = EndTransaction {
                producer_id: 100 + number / 7 % 2,
                producer_epoch: 0,
                coordinator_epoch: 0,
                result: if number % 3 == 0 { ControlType::Commit } else { ControlType::Abort },
                transaction_version: TransactionVersion::LEGACY,
            };
            let marked =
                log.append_end_transaction_marker(&end, LeaderEpoch((number / 20) as i32), 1_005 + number * 10);
            marked.expect("it is in order");
        }
        if number == ROUNDS / 2 {
            manager.request_flush(&log);
            log.wait_flushed(log.log_end_offset()).await.expect("the disk works");
            manager.checkpoint().await;
        }
    }
    manager.request_flush(&log);
    log.wait_flushed(log.log_end_offset()).await.expect("the disk works");
    if clean {
        manager.shutdown(0).await;
    }
    drop((manager, log));
    memory.disk.kill();
    let files = files::take(&memory, &["/data", "/data/t-0"]);
    let memory = files::put(&files);
    let manager = partition::open(&memory, config()).await.expect("the directory is in order");
    let served = served(&manager.get(&partition::name()).expect("its logs are in order"));
    let aborted = served.committed.iter().map(|(_, aborted)| aborted.len()).sum::<usize>();
    assert!(aborted > 2 && served.reads.len() > 4, "{aborted}");
    Image { files, served }
}
