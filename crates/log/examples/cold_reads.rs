//! What verifying costs a read from files: seconds per GiB of the first read of each range, and of those after it.
//!
//! `cargo run --release -p ottla-log --example cold_reads -- [MIB] [DIRECTORY]`: 1024 MiB by default, written to a directory
//! that goes afterwards. Everything is in the system's cache, so that the disk does not count. Seconds are those a core
//! worked for it, as Linux counts them, so that what else the machine does counts little.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a command for people")]
#![allow(clippy::disallowed_methods, reason = "it reads what the system counts of its own thread")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_log::{AppendOrigin, BatchToAppend, LogManager, LogSettings, NewPartition, PartitionLog};
use ottla_record::{BatchBuilder, BatchHeader, Compression};
use ottla_rt::World;
use ottla_types::{LeaderEpoch, TopicPartition, Uuid};

/// As consumers ask by default.
const FETCH_BYTES: usize = 1 << 20;
const GIB: f64 = (1_u64 << 30) as f64;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mib: u64 = arguments.next().map_or(1024, |text| text.parse().expect("a number of MiB"));
    let root = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    println!("| batches of | first read, s/GiB | again, s/GiB |");
    println!("|---|---|---|");
    for batch_bytes in [1 << 10, 16 << 10, 1 << 20] {
        let directory = tempfile::tempdir_in(&root).unwrap();
        runtime.block_on(write(directory.path(), batch_bytes, mib << 20));
        let (first, again) = runtime.block_on(read(directory.path()));
        println!("| {} KiB | {first:.3} | {again:.3} |", batch_bytes >> 10);
    }
}

fn partition() -> TopicPartition {
    TopicPartition::new("cold", 0)
}

async fn open(directory: &Path) -> LogManager {
    let mut settings = LogSettings::new(vec![directory.to_path_buf()], 1);
    // All reads are to come from files.
    settings.hot_tail_bytes = 0;
    LogManager::open(World::os(), settings, |_| LogConfig::default()).await.unwrap()
}

async fn write(directory: &Path, batch_bytes: usize, total: u64) {
    let manager = open(directory).await;
    let wanted =
        NewPartition { topic_partition: partition(), topic_id: Uuid([1; 16]), config: Arc::new(LogConfig::default()) };
    let log = manager.create(vec![wanted]).await.pop().unwrap().unwrap();
    let mut builder = BatchBuilder::new(Compression::NONE);
    let value = vec![b'v'; 1000];
    for number in 0..batch_bytes.div_ceil(1 << 10) {
        builder.append(number as i64, None, Some(&value), &[]).unwrap();
    }
    let bytes = builder.finish().unwrap();
    let header = BatchHeader::parse(&bytes).unwrap();
    for _ in 0..total.div_ceil(bytes.len() as u64) {
        let batch = BatchToAppend { bytes: &bytes, header: &header, origin: AppendOrigin::Client };
        log.append(batch, LeaderEpoch(0), 1).unwrap();
    }
    manager.shutdown(-1).await;
}

/// Seconds for a GiB: of reads that verify, and of reads of what was verified.
async fn read(directory: &Path) -> (f64, f64) {
    let manager = open(directory).await;
    let log = manager.get(&partition()).unwrap();
    // Into the system's cache.
    for base in log.segment_base_offsets() {
        let path = directory.join("cold-0").join(format!("{base:020}.log"));
        World::os().disk.read_file(&path, u64::MAX).unwrap();
    }
    let result = (read_all(&log), read_all(&log));
    manager.shutdown(-1).await;
    result
}

fn read_all(log: &PartitionLog) -> f64 {
    let begun = worked();
    let (mut next, mut bytes) = (0, 0_u64);
    while next < log.log_end_offset() {
        let read = log.read(next, FETCH_BYTES, true, i64::MAX).unwrap();
        bytes += read.bytes as u64;
        next = read.end_offset;
    }
    worked().saturating_sub(begun).as_secs_f64() / (bytes as f64 / GIB)
}

/// How long a core has worked for this thread.
fn worked() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
