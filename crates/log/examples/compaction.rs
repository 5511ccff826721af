//! What compacting costs: `cargo run --release -p ottla-log --example compaction [records [keys [directory]]]`.
//!
//! Writes records with random keys to one partition, compacts it, and tells sizes, times and memory. The directory stays
//! if it was named, so that other tools can look at it.

#![allow(clippy::print_stdout, reason = "an example tells what it did")]
#![allow(clippy::disallowed_methods, reason = "it measures the machine it runs on")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_config::LogConfig;
use ottla_log::{
    AppendOrigin, BatchToAppend, CleanerSettings, Cleaning, LogManager, LogSettings, NewPartition, PartitionLog,
};
use ottla_record::{BatchBuilder, BatchHeader, Compression};
use ottla_rt::World;
use ottla_types::{LeaderEpoch, TopicPartition, Uuid};

const RECORDS_OF_A_BATCH: u64 = 500;
const VALUE_BYTES: usize = 100;
/// Appends that go on meanwhile: how long the slowest of a hundred takes.
const PROBE_EVERY: Duration = Duration::from_millis(2);

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (records, keys) = (number(10_000_000), number(1_000_000).max(1));
    let named = arguments.next().map(PathBuf::from);
    let temporary = std::env::temp_dir().join(format!("ottla-compaction-{}", std::process::id()));
    let directory = named.clone().unwrap_or_else(|| temporary.clone());
    let result = run(&directory, records, keys).await;
    if named.is_none() {
        let _ = World::os().disk.remove_dir_all(&temporary);
    }
    result
}

async fn run(directory: &Path, records: u64, keys: u64) -> io::Result<()> {
    let mut config = LogConfig { segment_bytes: 256 << 20, ..LogConfig::default() };
    config.cleanup_policy.compact = true;
    config.cleanup_policy.delete = false;
    config.min_cleanable_dirty_ratio = 0.0;
    let mut settings = LogSettings::new(vec![directory.to_path_buf()], 1);
    settings.hot_tail_bytes = 1 << 20;
    let defaults = config.clone();
    let manager = LogManager::open(World::os(), settings, move |_| defaults.clone()).await.map_err(io::Error::other)?;
    let [compacted, other] = ["compacted", "other"].map(|topic| NewPartition {
        topic_partition: TopicPartition::new(topic, 0),
        topic_id: Uuid([topic.len() as u8; 16]),
        config: Arc::new(config.clone()),
    });
    let mut logs = manager.create(vec![compacted, other]).await.into_iter();
    let mut next = || logs.next().ok_or(io::ErrorKind::NotFound)?.map_err(io::Error::other);
    let (log, probed) = (next()?, next()?);

    let begun = Instant::now();
    write(&log, records, keys)?;
    log.roll().map_err(io::Error::other)?;
    manager.request_flush(&log);
    log.wait_flushed(log.log_end_offset()).await.map_err(io::Error::other)?;
    log.note_high_watermark(log.log_end_offset());
    println!("{records} records with {keys} keys written in {:.1} s", begun.elapsed().as_secs_f64());

    let quiet = probe(&probed, || std::future::ready(())).await?.1;
    manager.start_cleaner(CleanerSettings { threads: 0, ..CleanerSettings::default() });
    let (before, resident) = (log.size(), resident_bytes()?);
    reset_peak()?;
    let begun = Instant::now();
    let ((outcome, took), busy) = probe(&probed, || async {
        let outcome = manager.clean_filthiest().await;
        (outcome, begun.elapsed())
    })
    .await?;
    let peak = peak_bytes()?;
    let Cleaning::Cleaned { cleaned_to, .. } = outcome else { return Err(io::Error::other(format!("{outcome:?}"))) };
    println!("cleaned up to {cleaned_to} in {:.1} s", took.as_secs_f64());
    println!("size      {:>8.1} MiB before, {:.1} MiB after", mebibytes(before), mebibytes(log.size()));
    println!("read      {:>8.1} MiB/s", 2.0 * mebibytes(before) / took.as_secs_f64());
    println!("memory    {:>8.1} MiB before, {:.1} MiB at most", mebibytes(resident), mebibytes(peak));
    println!("appends to another partition, p99: {quiet:?} before, {busy:?} meanwhile");
    manager.shutdown(-1).await;
    Ok(())
}

fn write(log: &PartitionLog, records: u64, keys: u64) -> io::Result<()> {
    // A generator of its own: the same log each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut value = vec![0; VALUE_BYTES];
    let mut written = 0;
    while written < records {
        let mut builder = BatchBuilder::with_capacity(Compression::NONE, 64 << 10);
        for _ in 0..RECORDS_OF_A_BATCH.min(records - written) {
            let key = format!("key-{:08}", random() % keys);
            value.fill_with(|| random() as u8);
            builder.append(1_767_225_600_000, Some(key.as_bytes()), Some(&value), &[]).map_err(io::Error::other)?;
            written += 1;
        }
        append(log, builder)?;
    }
    Ok(())
}

fn append(log: &PartitionLog, builder: BatchBuilder) -> io::Result<()> {
    let bytes = builder.finish().map_err(io::Error::other)?;
    let header = BatchHeader::parse(&bytes).map_err(io::Error::other)?;
    let batch = BatchToAppend { bytes: &bytes, header: &header, origin: AppendOrigin::Client };
    log.append(batch, LeaderEpoch(0), 1_767_225_600_000).map(drop).map_err(io::Error::other)
}

/// Does something, and appends to a log meanwhile, for half a second at least; tells how long the slowest of a hundred
/// appends took.
async fn probe<T, F: Future<Output = T>>(log: &PartitionLog, work: impl FnOnce() -> F) -> io::Result<(T, Duration)> {
    let mut took = Vec::new();
    let begun = Instant::now();
    let mut work = std::pin::pin!(work());
    let mut outcome = None;
    while outcome.is_none() || begun.elapsed() < Duration::from_millis(500) {
        tokio::select! {
            done = &mut work, if outcome.is_none() => outcome = Some(done),
            () = tokio::time::sleep(PROBE_EVERY) => {}
        }
        let mut builder = BatchBuilder::new(Compression::NONE);
        builder.append(0, Some(b"key"), Some(&[0; VALUE_BYTES]), &[]).map_err(io::Error::other)?;
        let appending = Instant::now();
        append(log, builder)?;
        took.push(appending.elapsed());
    }
    took.sort_unstable();
    let outcome = outcome.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((outcome, took[took.len() * 99 / 100]))
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The peak counts from here.
fn reset_peak() -> io::Result<()> {
    World::os()
        .disk
        .open(Path::new("/proc/self/clear_refs"), ottla_rt::OpenMode::ReadWrite)
        .and_then(|file| file.write_at(&[io::IoSlice::new(b"5")], 0).map(drop))
}

fn resident_bytes() -> io::Result<u64> {
    status("VmRSS:")
}

fn peak_bytes() -> io::Result<u64> {
    status("VmHWM:")
}

fn status(field: &str) -> io::Result<u64> {
    let text = std::fs::read("/proc/self/status").map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    Ok(kibibytes.unwrap_or(0) << 10)
}
