//! The log against a model of it: a list of values, through restarts, kills and power losses.

use std::sync::Arc;

use ottla_config::Durability;
use ottla_log::{JournalSettings, LogManager, PartitionLog};
use ottla_rt::memory::PowerLoss;
use proptest::prelude::*;

use crate::support::*;

const PRODUCER: i64 = 9;

#[derive(Clone, Debug)]
pub enum Step {
    Append {
        records: u8,
        bytes: u16,
    },
    /// The producer's next batch.
    Produce {
        records: u8,
    },
    /// The producer's last batch that is in the log, again.
    Retry,
    Flush,
    Roll,
    Checkpoint,
    /// To this part of what is there, in percent.
    Truncate(u8),
    /// To this part of what is durable, in percent; then retention.
    Trim(u8),
    NewEpoch,
    /// From the next start on.
    Durability(Durability),
    Restart,
    Kill,
    PowerLoss(u64),
}

struct Batched {
    base_offset: i64,
    values: Vec<Vec<u8>>,
    epoch: i32,
    sequence: Option<i32>,
}

impl Batched {
    fn end(&self) -> i64 {
        self.base_offset + self.values.len() as i64
    }
}

/// A node and what its log has to hold.
pub struct Checked {
    machine: Machine,
    running: Option<(LogManager, Arc<PartitionLog>)>,
    batches: Vec<Batched>,
    start: i64,
    /// The furthest the start has been: epochs below may be forgotten although a crash brings their records back.
    trimmed: i64,
    durable: i64,
    epoch: i32,
    counter: u32,
}

impl Checked {
    pub fn new(machine: Machine) -> Checked {
        Checked { machine, running: None, batches: Vec::new(), start: 0, trimmed: 0, durable: 0, epoch: 0, counter: 0 }
    }

    fn end(&self) -> i64 {
        self.batches.last().map_or(0, Batched::end)
    }

    fn log(&self) -> &Arc<PartitionLog> {
        &self.running.as_ref().unwrap().1
    }

    /// Starts the node, unless it runs. `None` when the disk is dead.
    async fn run(&mut self) -> Option<()> {
        if self.running.is_none() {
            let manager = self.machine.try_open().await.ok()?;
            let log = self.machine.try_create(&manager, 0).await;
            if self.machine.memory.disk.is_powered() {
                assert!(log.is_ok(), "{:?}", manager.offline_partitions());
            }
            self.running = Some((manager, log.ok()?));
        }
        Some(())
    }

    /// Does a step. `None` when the disk went dead meanwhile: what was under way may have happened or not.
    pub async fn step(&mut self, step: &Step) -> Option<()> {
        self.run().await?;
        match step {
            Step::Append { records, bytes } => {
                let values = self.values(*records, usize::from(*bytes));
                self.append(values, None)?;
            }
            Step::Produce { records } => {
                let values = self.values(*records, 10);
                let sequence = self.next_sequence();
                self.append(values, Some(sequence))?;
            }
            Step::Retry => self.retry()?,
            Step::Flush => {
                let (manager, log) = self.running.clone().unwrap();
                manager.request_flush(&log);
                log.wait_flushed(self.end()).await.ok()?;
                log.note_high_watermark(self.end());
                self.durable = self.end();
            }
            Step::Roll => self.log().roll().ok()?,
            Step::Checkpoint => {
                let manager = self.running.as_ref().unwrap().0.clone();
                manager.checkpoint().await;
                manager.checkpoint_high_watermarks().await;
            }
            Step::Truncate(percent) => self.truncate(*percent)?,
            Step::Trim(percent) => self.trim(*percent).await?,
            Step::NewEpoch => self.epoch += 1,
            Step::Durability(durability) => self.machine.config.durability = *durability,
            Step::Restart => {
                let (manager, log) = self.running.take().unwrap();
                manager.shutdown(-1).await;
                drop((manager, log));
                if !self.machine.memory.disk.is_powered() {
                    return None;
                }
                self.durable = self.end();
                self.restarted(true).await?;
            }
            Step::Kill => {
                self.running = None;
                self.machine.memory.disk.kill();
                self.restarted(false).await?;
                assert_eq!(self.log().log_end_offset(), self.end(), "a kill loses nothing written");
            }
            Step::PowerLoss(seed) => {
                self.running = None;
                self.machine.memory.disk.lose_power(PowerLoss::Arbitrary { seed: *seed });
                self.restarted(false).await?;
            }
        }
        self.machine.memory.disk.is_powered().then_some(())
    }

    fn values(&mut self, records: u8, bytes: usize) -> Vec<Vec<u8>> {
        (0..records.max(1))
            .map(|_| {
                self.counter += 1;
                let mut value = format!("{:06}", self.counter).into_bytes();
                value.resize(value.len() + bytes, b'.');
                value
            })
            .collect()
    }

    fn next_sequence(&self) -> i32 {
        let last = self.batches.iter().rev().find(|batch| batch.sequence.is_some());
        last.map_or(0, |batch| batch.sequence.unwrap() + batch.values.len() as i32)
    }

    fn append(&mut self, values: Vec<Vec<u8>>, sequence: Option<i32>) -> Option<()> {
        let mut batch = Batch::of(&[]);
        batch.values.clone_from(&values);
        if let Some(sequence) = sequence {
            batch = batch.by_producer(PRODUCER, 0, sequence);
        }
        let base_offset = self.end();
        // Noted first: power may go after the write.
        self.batches.push(Batched { base_offset, values, epoch: self.epoch, sequence });
        let appended = append_with_epoch(self.log(), &batch, self.epoch);
        if self.machine.memory.disk.is_powered() {
            let appended = appended.as_ref().unwrap();
            assert_eq!((appended.base_offset, appended.last_offset + 1), (base_offset, self.end()));
            assert!(!appended.duplicate);
        }
        appended.ok().map(|_| ())
    }

    fn retry(&mut self) -> Option<()> {
        let known = self.batches.iter().rev().find(|batch| batch.sequence.is_some());
        // Its producer is forgotten only together with its batches.
        let Some(known) = known.filter(|known| known.base_offset >= self.start) else { return Some(()) };
        let mut batch = Batch::of(&[]);
        batch.values.clone_from(&known.values);
        let batch = batch.by_producer(PRODUCER, 0, known.sequence.unwrap());
        let again = append_with_epoch(self.log(), &batch, self.epoch).ok()?;
        assert!(again.duplicate);
        assert_eq!((again.base_offset, again.last_offset + 1), (known.base_offset, known.end()));
        Some(())
    }

    fn truncate(&mut self, percent: u8) -> Option<()> {
        let target = self.start + (self.end() - self.start) * i64::from(percent.min(100)) / 100;
        if target == self.end() {
            return self.log().truncate_to(target).ok();
        }
        let kept = self.batches.iter().take_while(|batch| batch.end() <= target).count();
        let end = self.batches[..kept].last().map_or(0, Batched::end);
        if end < self.start {
            // The start is inside a batch, and that batch cannot go.
            assert!(self.log().truncate_to(target).is_err());
            return Some(());
        }
        self.durable = self.durable.min(end);
        self.log().truncate_to(target).ok()?;
        self.batches.truncate(kept);
        self.durable = end;
        Some(())
    }

    async fn trim(&mut self, percent: u8) -> Option<()> {
        // With page-cache durability a start knows of less than was promised before it.
        let durable = self.durable.min(self.log().flushed_offset());
        let boundary = durable * i64::from(percent.min(100)) / 100;
        self.start = self.start.max(boundary);
        self.trimmed = self.trimmed.max(boundary);
        let (manager, log) = self.running.clone().unwrap();
        log.advance_log_start_offset(boundary).ok()?;
        manager.apply_retention(1_000).await;
        self.machine.memory.clock.advance(std::time::Duration::from_secs(100));
        manager.remove_deleted().await;
        Some(())
    }

    /// After a start: what is there is what was, from the end of which a part may be missing that was not durable.
    async fn restarted(&mut self, clean: bool) -> Option<()> {
        self.run().await?;
        if !self.machine.memory.disk.is_powered() {
            // Power went during the start: its directory is offline, and it promises nothing.
            return None;
        }
        let log = Arc::clone(self.log());
        let end = log.log_end_offset();
        assert!(end >= self.durable, "durable up to {}, found {end}", self.durable);
        assert!(!clean || end == self.end(), "a clean stop loses nothing");
        while self.end() > end {
            self.batches.pop();
        }
        assert_eq!(self.end().max(end), end, "the log ends between batches");
        if clean || self.machine.config.durability == Durability::Fsync {
            assert_eq!(log.flushed_offset(), end, "recovery syncs what it keeps");
        }
        assert!(log.flushed_offset() <= end);
        self.durable = self.durable.max(log.flushed_offset());
        assert!(log.log_start_offset() <= self.start, "nothing was deleted on its own");
        self.start = log.log_start_offset();
        // An epoch that wrote nothing is forgotten.
        self.epoch = self.epoch.max(log.latest_epoch().unwrap_or(0));
        Some(())
    }

    /// Compares everything that can be read.
    pub fn check(&self) {
        let Some((_, log)) = &self.running else { return };
        assert_eq!(log.log_end_offset(), self.end());
        assert_eq!(log.log_start_offset(), self.start);
        let expected: Vec<(i64, Vec<u8>)> = self
            .batches
            .iter()
            .flat_map(|batch| {
                batch.values.iter().enumerate().map(|(index, value)| (batch.base_offset + index as i64, value.clone()))
            })
            .filter(|(offset, _)| *offset >= self.start)
            .collect();
        for max_bytes in [1, 700, 100_000] {
            assert!(values_from(log, self.start, max_bytes) == expected, "{max_bytes} bytes a read");
        }
        if let Some((offset, _)) = expected.get(expected.len() / 2) {
            assert!(values_from(log, *offset, 500) == expected[expected.len() / 2..]);
        }
        let bases = log.segment_base_offsets();
        assert!(bases.is_sorted_by(|left, right| left < right));
        for batch in self.batches.iter().filter(|batch| batch.base_offset >= self.trimmed) {
            assert_eq!(log.epoch_at(batch.base_offset), Some(batch.epoch), "epoch at {}", batch.base_offset);
        }
    }
}

pub fn small_segments() -> Machine {
    Machine::with_config(1, |config| {
        config.segment_bytes = 2_000;
        config.index_interval_bytes = 200;
        config.file_delete_delay_ms = 50_000;
    })
}

/// Every flush goes through a journal of this size, if that is not 0.
fn journaling(file_bytes: u64) -> Machine {
    let mut machine = small_segments();
    machine.journal = JournalSettings { from_partitions: 1, file_bytes };
    machine
}

fn journal_sizes() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0_u64), 1 => Just(17_000), 1 => Just(40_000), 2 => Just(1 << 20)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..5_u8, 0..350_u16).prop_map(|(records, bytes)| Step::Append { records, bytes }),
        3 => (1..4_u8).prop_map(|records| Step::Produce { records }),
        2 => Just(Step::Retry),
        4 => Just(Step::Flush),
        1 => Just(Step::Roll),
        2 => Just(Step::Checkpoint),
        2 => (0..=100_u8).prop_map(Step::Truncate),
        1 => (0..=100_u8).prop_map(Step::Trim),
        1 => Just(Step::NewEpoch),
        1 => prop_oneof![Just(Durability::Fsync), Just(Durability::PageCache)].prop_map(Step::Durability),
        1 => Just(Step::Restart),
        2 => Just(Step::Kill),
        3 => any::<u64>().prop_map(Step::PowerLoss),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_keeps_what_was_durable(steps in steps(), file_bytes in journal_sizes()) {
        block_on(async {
            let mut checked = Checked::new(journaling(file_bytes));
            for step in &steps {
                checked.step(step).await.unwrap();
                checked.check();
            }
        });
    }
}

/// Found by the property above: the roll's segment was known to the page cache only, and nothing synced its name.
#[test]
fn an_empty_segment_of_a_killed_process_is_made_durable() {
    block_on(async {
        let append = Step::Append { records: 1, bytes: 0 };
        let mut checked = Checked::new(small_segments());
        for step in [
            Step::Restart,
            append.clone(),
            Step::Restart,
            Step::Roll,
            Step::Kill,
            append,
            Step::Restart,
            Step::PowerLoss(5_970_805_802_664_465_599),
        ] {
            checked.step(&step).await.unwrap();
            checked.check();
        }
    });
}

/// A snapshot of batches that were lost came back with its name, and vouched for a batch that was not there.
#[test]
fn a_snapshot_of_lost_batches_does_not_come_back() {
    block_on(async {
        let append = || Step::Append { records: 1, bytes: 0 };
        let mut checked = Checked::new(small_segments());
        for step in [
            append(),
            Step::Roll,
            append(),
            append(),
            Step::Checkpoint,
            Step::Trim(0),
            append(),
            append(),
            Step::Flush,
            Step::Checkpoint,
            Step::Truncate(40),
            Step::Produce { records: 1 },
            Step::Roll,
            Step::PowerLoss(2_694_994_544_203_640_217),
            append(),
            Step::Flush,
            Step::PowerLoss(2_888_522_001_640_137_370),
            Step::Produce { records: 1 },
        ] {
            checked.step(&step).await.unwrap();
            checked.check();
        }
    });
}

/// The epoch file told where an epoch began before the power loss, the batches where it began after it.
#[test]
fn epochs_above_the_recovery_point_are_told_by_the_batches() {
    block_on(async {
        let append = |records, bytes| Step::Append { records, bytes };
        let mut checked = Checked::new(small_segments());
        for step in [
            append(1, 0),
            append(1, 0),
            append(1, 72),
            append(4, 109),
            append(2, 138),
            append(1, 0),
            Step::Produce { records: 1 },
            append(2, 289),
            Step::NewEpoch,
            append(4, 303),
            Step::Checkpoint,
            Step::PowerLoss(14_447_843_739_300_385_711),
            append(1, 0),
            append(2, 0),
            Step::Kill,
        ] {
            checked.step(&step).await.unwrap();
            checked.check();
        }
    });
}

/// Power goes at every single operation of a history that has everything in it.
#[test]
fn power_may_go_at_any_operation() {
    let append = |bytes| Step::Append { records: 2, bytes };
    let history = [
        append(10),
        Step::Produce { records: 2 },
        Step::Flush,
        append(900),
        append(500),
        Step::Flush,
        Step::Checkpoint,
        append(600),
        Step::NewEpoch,
        append(700),
        Step::Truncate(70),
        Step::Produce { records: 1 },
        append(10),
        Step::Flush,
        append(850),
        Step::Trim(60),
        Step::Checkpoint,
        append(400),
        Step::Restart,
        append(300),
        Step::Flush,
        append(800),
        append(30),
    ];
    lose_power_at_any_operation(&history, |when| eprintln!("{when}"));
}

/// The same where the durability changes between starts: what was acknowledged as durable stays so under page-cache
/// durability, which syncs nothing of it again, and behind it.
#[test]
fn power_may_go_at_any_operation_while_the_durability_changes() {
    let append = |bytes| Step::Append { records: 2, bytes };
    let history = [
        append(10),
        append(900),
        Step::Flush,
        append(400),
        Step::Durability(Durability::PageCache),
        Step::Kill,
        append(900),
        Step::Checkpoint,
        append(500),
        Step::Kill,
        Step::Produce { records: 2 },
        Step::Truncate(70),
        append(600),
        Step::Flush,
        append(20),
        Step::Checkpoint,
        Step::NewEpoch,
        append(300),
        Step::Durability(Durability::Fsync),
        Step::Kill,
        append(700),
        Step::Flush,
        append(30),
        Step::Durability(Durability::PageCache),
        Step::Kill,
        append(800),
        append(40),
        Step::Restart,
        append(60),
        Step::Kill,
        Step::Checkpoint,
        append(70),
    ];
    lose_power_at_any_operation(&history, |when| eprintln!("{when}"));
}

fn lose_power_at_any_operation(history: &[Step], tell: impl Fn(&str)) {
    let append = |bytes| Step::Append { records: 2, bytes };
    block_on(async {
        for (loss, file_bytes) in [(0, 0), (1, 0), (2, 0), (2, 1 << 20), (2, 17_000)] {
            let mut last = false;
            let mut operations = 1;
            while !last {
                let mut checked = Checked::new(journaling(file_bytes));
                checked.machine.memory.disk.power_off_after(operations);
                let mut done = 0;
                for step in history {
                    if checked.step(step).await.is_none() {
                        break;
                    }
                    done += 1;
                }
                last = done == history.len();
                let loss = match loss {
                    0 => PowerLoss::LoseUnsynced,
                    1 => PowerLoss::KeepUnsynced,
                    _ => PowerLoss::Arbitrary { seed: operations },
                };
                checked.running = None;
                checked.machine.memory.disk.lose_power(loss);
                tell(&format!(
                    "power went at operation {operations}, after {done} steps, {loss:?}, journal {file_bytes}"
                ));
                checked.restarted(false).await.unwrap();
                checked.check();
                for step in [append(50), Step::Flush, Step::Kill, append(50), Step::Restart] {
                    checked.step(&step).await.unwrap();
                    checked.check();
                }
                operations += 1;
            }
            assert!(operations > 100, "the history has many operations, not {operations}");
        }
    });
}
