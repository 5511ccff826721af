//! What a flush round takes with many partitions that have each got one small batch: with the journal, without it, and one
//! `fdatasync` of a file that has got as much, in turn.
//!
//! `cargo run --release -p ottla-log --example flush -- DIRECTORY [ROUNDS]`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_config::LogConfig;
use ottla_log::{
    AppendOrigin, BatchToAppend, FlushListener, JournalSettings, LogManager, LogSettings, NewPartition, PartitionLog,
};
use ottla_record::{BatchBuilder, BatchHeader, Compression};
use ottla_rt::{OpenMode, World};
use ottla_types::{LeaderEpoch, TopicPartition, Uuid};
use parking_lot::Mutex;

const COUNTS: [usize; 5] = [1, 10, 100, 1_000, 5_000];

#[derive(Default)]
struct Rounds(Mutex<Vec<Duration>>);

impl FlushListener for Rounds {
    fn flushed(&self, _: &TopicPartition, _: i64) {}

    fn round(&self, took: Duration) {
        self.0.lock().push(took);
    }

    fn directory_failed(&self, directory: &Path, error: &std::io::Error) {
        eprintln!("{}: {error}", directory.display());
        std::process::exit(1);
    }
}

struct Node {
    manager: LogManager,
    logs: Vec<Arc<PartitionLog>>,
    rounds: Arc<Rounds>,
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), rounds) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        eprintln!("usage: flush DIRECTORY [ROUNDS]");
        std::process::exit(2);
    };
    let rounds = rounds.and_then(|text| text.to_str()?.parse().ok()).unwrap_or(40_usize).max(1);
    let world = World::os();
    for count in COUNTS {
        let root = directory.join(format!("ottla-flush-{count}"));
        let journaled = open(
            &world,
            &root.join("journal"),
            count,
            JournalSettings { from_partitions: 1, ..JournalSettings::default() },
        )
        .await;
        let without =
            open(&world, &root.join("files"), count, JournalSettings { file_bytes: 0, ..JournalSettings::default() })
                .await;
        let file = world.disk.open(&root.join("one"), OpenMode::CreateNew).expect("a file of its own");
        let (mut one, mut end) = (Vec::new(), 0);
        for _ in 0..rounds {
            journaled.round().await;
            without.round().await;
            for _ in 0..10 {
                file.write_all_at(&[IoSlice::new(&[7; 200])], end).expect("room for 200 bytes");
                end += 200;
                let begun = world.clock.monotonic();
                file.sync_data().expect("a disk that syncs");
                one.push(world.clock.monotonic().saturating_sub(begun));
            }
        }
        let [journal, files, one] = [journaled.end().await, without.end().await, one].map(percentiles);
        println!(
            "{{\"partitions\": {count}, \"journal p50 ms\": {:.3}, \"journal p99 ms\": {:.3}, \"files p50 ms\": {:.3}, \
             \"files p99 ms\": {:.3}, \"one fdatasync p50 ms\": {:.3}, \"one fdatasync p99 ms\": {:.3}}}",
            journal.0, journal.1, files.0, files.1, one.0, one.1
        );
        std::fs::remove_dir_all(&root).expect("the directory made above");
    }
}

async fn open(world: &World, directory: &Path, partitions: usize, journal: JournalSettings) -> Node {
    let mut settings = LogSettings::new(vec![directory.to_path_buf()], 1);
    settings.journal = journal;
    let config = Arc::new(LogConfig::default());
    let manager = LogManager::open(world.clone(), settings, |_| LogConfig::default()).await.expect("a new directory");
    let wanted = (0..partitions).map(|number| NewPartition {
        topic_partition: TopicPartition::new("flush", number as i32),
        topic_id: Uuid([7; 16]),
        config: Arc::clone(&config),
    });
    let logs = manager.create(wanted.collect()).await.into_iter().map(|made| made.expect("a new partition")).collect();
    let rounds = Arc::new(Rounds::default());
    manager.set_flush_listener(&(rounds.clone() as Arc<dyn FlushListener>));
    let node = Node { manager, logs, rounds };
    // The first round of a partition also makes names durable.
    node.round().await;
    node.rounds.0.lock().clear();
    node
}

impl Node {
    /// Every partition gets a batch, then all of them are flushed. The flusher may need more than one round: it begins with
    /// what it finds.
    async fn round(&self) {
        let (bytes, header) = batch();
        for log in &self.logs {
            let batch = BatchToAppend { bytes: &bytes, header: &header, origin: AppendOrigin::Client };
            log.append(batch, LeaderEpoch(0), 1_000).expect("an append");
        }
        let before = self.rounds.0.lock().len();
        for log in &self.logs {
            self.manager.request_flush(log);
        }
        for log in &self.logs {
            log.wait_flushed(log.log_end_offset()).await.expect("a disk that syncs");
        }
        // Together they are the round that is measured.
        let mut rounds = self.rounds.0.lock();
        let took = rounds.drain(before..).sum();
        rounds.push(took);
    }

    async fn end(self) -> Vec<Duration> {
        self.manager.shutdown(-1).await;
        self.rounds.0.lock().clone()
    }
}

fn batch() -> (Bytes, BatchHeader) {
    let mut builder = BatchBuilder::new(Compression::NONE);
    builder.append(1_000, None, Some(&[b'x'; 130]), &[]).expect("a record");
    let bytes = builder.finish().expect("a batch");
    let header = BatchHeader::parse(&bytes).expect("a whole batch");
    (bytes, header)
}

fn percentiles(mut taken: Vec<Duration>) -> (f64, f64) {
    taken.sort();
    let at = |share: usize| taken[(taken.len() * share / 100).min(taken.len() - 1)].as_secs_f64() * 1e3;
    (at(50), at(99))
}
