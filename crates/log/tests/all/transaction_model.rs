//! Transactions against a model of them: what a consumer of committed records is given, the last stable offset and the
//! aborted transactions, through rolls, truncations, restarts, kills and power losses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_log::{AbortedTransaction, AppendOrigin, EndTransaction, LogManager, PartitionLog, TransactionVersion};
use ottla_record::ControlType;
use ottla_rt::memory::PowerLoss;
use ottla_types::LeaderEpoch;
use proptest::prelude::*;

use crate::support::*;

const PRODUCERS: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    /// Records that belong to no transaction.
    Plain {
        records: u8,
    },
    /// A producer's next batch, in a transaction.
    Write {
        producer: u8,
        records: u8,
        bytes: u16,
    },
    /// The end of a producer's transaction, also if it has none.
    End {
        producer: u8,
        commit: bool,
    },
    Flush,
    /// Of what is between it and what is durable, in percent.
    HighWatermark(u8),
    Roll,
    Checkpoint,
    /// To this part of what is there, in percent.
    Truncate(u8),
    /// To this part of what is durable, in percent; then retention.
    Trim(u8),
    Restart,
    Kill,
    PowerLoss(u64),
}

#[derive(Clone, Debug)]
enum Content {
    Plain,
    Data { producer: u8 },
    Marker { producer: u8, commit: bool },
}

#[derive(Clone, Debug)]
struct Batched {
    base_offset: i64,
    content: Content,
    values: Vec<Vec<u8>>,
}

impl Batched {
    fn end(&self) -> i64 {
        self.base_offset + self.values.len().max(1) as i64
    }
}

/// A transaction as the batches tell it.
#[derive(Clone, Debug)]
struct Transaction {
    producer: u8,
    data: Vec<i64>,
    /// Offset of the marker, whether it commits, and what was stable then.
    end: Option<(i64, bool, i64)>,
}

/// A node and what its log has to hold.
struct Checked {
    machine: Machine,
    running: Option<(LogManager, Arc<PartitionLog>)>,
    batches: Vec<Batched>,
    start: i64,
    /// Whether anything was ever deleted: what it had of transactions may be forgotten with it.
    trimmed: bool,
    durable: i64,
    high_watermark: i64,
    counter: u32,
}

impl Checked {
    fn new(machine: Machine) -> Checked {
        Checked {
            machine,
            running: None,
            batches: Vec::new(),
            start: 0,
            trimmed: false,
            durable: 0,
            high_watermark: 0,
            counter: 0,
        }
    }

    fn end(&self) -> i64 {
        self.batches.last().map_or(0, Batched::end)
    }

    fn log(&self) -> &Arc<PartitionLog> {
        &self.running.as_ref().unwrap().1
    }

    /// Every transaction of the log's history, in the order of their first records.
    fn transactions(&self) -> Vec<Transaction> {
        let mut all: Vec<Transaction> = Vec::new();
        let mut open: BTreeMap<u8, usize> = BTreeMap::new();
        for batch in &self.batches {
            match batch.content {
                Content::Plain => {}
                Content::Data { producer } => {
                    let index = *open.entry(producer).or_insert_with(|| {
                        all.push(Transaction { producer, data: Vec::new(), end: None });
                        all.len() - 1
                    });
                    all[index].data.push(batch.base_offset);
                }
                Content::Marker { producer, commit } => {
                    if let Some(index) = open.remove(&producer) {
                        let next_open = open.values().map(|other| all[*other].data[0]).min();
                        let stable = next_open.unwrap_or(batch.base_offset + 1);
                        all[index].end = Some((batch.base_offset, commit, stable));
                    }
                }
            }
        }
        all
    }

    fn is_unstable(&self, transaction: &Transaction) -> bool {
        transaction.end.is_none_or(|(marker, ..)| marker >= self.high_watermark)
    }

    /// The least and the greatest last stable offset there may be. They differ only when the beginning of a transaction was
    /// deleted: a node that starts then need not know of it.
    fn last_stable_offsets(&self) -> (i64, i64) {
        let transactions = self.transactions();
        let unstable = || transactions.iter().filter(|transaction| self.is_unstable(transaction));
        let first = unstable().map(|transaction| transaction.data[0].max(self.start)).min();
        let first_left = unstable().filter_map(|transaction| transaction.data.iter().find(|base| **base >= self.start));
        let bound = |offset: Option<i64>| offset.map_or(self.high_watermark, |offset| offset.min(self.high_watermark));
        (bound(first), bound(first_left.min().copied()))
    }

    fn aborted(&self) -> Vec<AbortedTransaction> {
        let mut aborted: Vec<AbortedTransaction> = self
            .transactions()
            .iter()
            .filter_map(|transaction| match transaction.end {
                Some((last_offset, false, last_stable_offset)) => Some(AbortedTransaction {
                    producer_id: i64::from(transaction.producer),
                    first_offset: transaction.data[0],
                    last_offset,
                    last_stable_offset,
                }),
                _ => None,
            })
            .collect();
        aborted.sort_by_key(|aborted| aborted.last_offset);
        aborted
    }

    /// What a consumer of committed records has to be given in this range.
    fn committed(&self, from: i64, to: i64) -> Vec<(i64, Vec<u8>)> {
        let committed: BTreeSet<i64> = self
            .transactions()
            .into_iter()
            .filter(|transaction| matches!(transaction.end, Some((_, true, _))))
            .flat_map(|transaction| transaction.data)
            .collect();
        self.batches
            .iter()
            .filter(|batch| match batch.content {
                Content::Plain => true,
                Content::Data { .. } => committed.contains(&batch.base_offset),
                Content::Marker { .. } => false,
            })
            .flat_map(|batch| {
                batch.values.iter().enumerate().map(|(index, value)| (batch.base_offset + index as i64, value.clone()))
            })
            .filter(|(offset, _)| (from..to).contains(offset))
            .collect()
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
    async fn step(&mut self, step: &Step) -> Option<()> {
        self.run().await?;
        match step {
            Step::Plain { records } => self.write(Content::Plain, *records, 10)?,
            Step::Write { producer, records, bytes } => {
                self.write(Content::Data { producer: *producer }, *records, usize::from(*bytes))?;
            }
            Step::End { producer, commit } => self.end_transaction(*producer, *commit)?,
            Step::Flush => {
                let (manager, log) = self.running.clone().unwrap();
                manager.request_flush(&log);
                log.wait_flushed(self.end()).await.ok()?;
                self.durable = self.end();
            }
            Step::HighWatermark(percent) => {
                let reach =
                    self.high_watermark + (self.durable - self.high_watermark).max(0) * i64::from(*percent) / 100;
                let ends = self.batches.iter().map(Batched::end).filter(|end| *end <= reach);
                self.high_watermark = ends.max().unwrap_or(0).max(self.high_watermark);
                self.log().note_high_watermark(self.high_watermark);
            }
            Step::Roll => self.log().roll().ok()?,
            Step::Checkpoint => {
                let manager = self.running.as_ref().unwrap().0.clone();
                manager.checkpoint().await;
                manager.checkpoint_high_watermarks().await;
            }
            Step::Truncate(percent) => self.truncate(*percent)?,
            Step::Trim(percent) => self.trim(*percent).await?,
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

    fn write(&mut self, content: Content, records: u8, bytes: usize) -> Option<()> {
        let values: Vec<Vec<u8>> = (0..records.max(1))
            .map(|_| {
                self.counter += 1;
                let mut value = format!("{:06}", self.counter).into_bytes();
                value.resize(value.len() + bytes, b'.');
                value
            })
            .collect();
        let mut batch = Batch::of(&[]);
        batch.values.clone_from(&values);
        if let Content::Data { producer } = content {
            batch = batch.by_producer(i64::from(producer), 0, self.next_sequence(producer)).transactional();
        }
        let base_offset = self.end();
        // Noted first: power may go after the write.
        self.batches.push(Batched { base_offset, content, values });
        // What was deleted may be forgotten, and with it where the sequence was.
        let origin = if self.trimmed { AppendOrigin::Coordinator } else { AppendOrigin::Client };
        let appended = append_from(self.log(), &batch, origin);
        if self.machine.memory.disk.is_powered() {
            let appended = appended.as_ref().unwrap();
            assert_eq!((appended.base_offset, appended.last_offset + 1), (base_offset, self.end()));
            assert!(!appended.duplicate);
        }
        appended.ok().map(|_| ())
    }

    fn next_sequence(&self, wanted: u8) -> i32 {
        let written = self.batches.iter().filter_map(|batch| match batch.content {
            Content::Data { producer } if producer == wanted => Some(batch.values.len() as i32),
            _ => None,
        });
        written.sum()
    }

    fn end_transaction(&mut self, producer: u8, commit: bool) -> Option<()> {
        let base_offset = self.end();
        self.batches.push(Batched { base_offset, content: Content::Marker { producer, commit }, values: Vec::new() });
        let end = end_of(i64::from(producer), 0, 0, if commit { ControlType::Commit } else { ControlType::Abort });
        let appended = self.log().append_end_transaction_marker(&end, LeaderEpoch(0), 1_000);
        if self.machine.memory.disk.is_powered() {
            assert_eq!(appended.as_ref().unwrap().base_offset, base_offset);
        }
        appended.ok().map(|_| ())
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
        self.high_watermark = self.high_watermark.min(end);
        Some(())
    }

    async fn trim(&mut self, percent: u8) -> Option<()> {
        let boundary = self.high_watermark.min(self.durable) * i64::from(percent.min(100)) / 100;
        self.trimmed |= boundary > 0;
        self.start = self.start.max(boundary);
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
        let log = Arc::clone(self.log());
        let end = log.log_end_offset();
        assert!(end >= self.durable, "durable up to {}, found {end}", self.durable);
        assert!(!clean || end == self.end(), "a clean stop loses nothing");
        while self.end() > end {
            self.batches.pop();
        }
        assert_eq!(self.end(), end, "the log ends between batches");
        self.durable = end;
        self.start = log.log_start_offset();
        assert!(log.last_stable_offset() <= log.high_watermark());
        // The sole replica counts all it has.
        log.note_high_watermark(end);
        self.high_watermark = end;
        Some(())
    }

    /// Compares everything that can be asked.
    fn check(&self) {
        let Some((_, log)) = &self.running else { return };
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (self.start, self.end()));
        let stable = log.last_stable_offset();
        let (least, greatest) = self.last_stable_offsets();
        assert!((least..=greatest).contains(&stable), "{least} <= {stable} <= {greatest}");
        if !self.trimmed {
            assert_eq!(least, greatest);
            let unstable: Vec<Transaction> =
                self.transactions().into_iter().filter(|transaction| self.is_unstable(transaction)).collect();
            assert_eq!(log.first_unstable_offset(), unstable.first().map(|transaction| transaction.data[0]));
            assert_eq!(log.aborted_transactions(0, i64::MAX).unwrap(), self.aborted());
            for (from, to) in [(stable / 3, stable / 2), (stable / 2, stable)] {
                // A search may stop as soon as no later one can overlap, so it gives exactly these.
                let overlapping =
                    |aborted: &AbortedTransaction| aborted.last_offset >= from && aborted.first_offset < to;
                let expected: Vec<_> = self.aborted().into_iter().filter(overlapping).collect();
                assert_eq!(log.aborted_transactions(from, to).unwrap(), expected, "{from}..{to}");
            }
        }
        for from in [self.start, i64::midpoint(self.start, stable)] {
            for max_bytes in [1, 700, 100_000] {
                let given = committed_from(log, from, max_bytes);
                assert!(given == self.committed(from, stable), "from {from}, {max_bytes} bytes a read");
            }
        }
    }
}

/// Reads as a consumer of committed records does, and drops what belongs to aborted transactions as it does.
pub fn committed_from(log: &PartitionLog, offset: i64, max_bytes: usize) -> Vec<(i64, Vec<u8>)> {
    let mut values = Vec::new();
    let mut next = offset;
    let stable = log.last_stable_offset();
    while next < stable {
        let found = log.read_committed(next, max_bytes, true, stable).unwrap();
        let bytes = found.read.to_bytes().unwrap();
        values.extend(committed_values(&bytes, found.aborted, next));
        let before = next;
        next = found.read.end_offset;
        assert!(next > before, "a read at {before} makes progress");
    }
    values
}

pub fn end_of(producer_id: i64, producer_epoch: i16, coordinator_epoch: i32, result: ControlType) -> EndTransaction {
    EndTransaction {
        producer_id,
        producer_epoch,
        coordinator_epoch,
        result,
        transaction_version: TransactionVersion::LEGACY,
    }
}

fn small_segments() -> Machine {
    Machine::with_config(1, |config| {
        config.segment_bytes = 1_500;
        config.index_interval_bytes = 200;
        config.file_delete_delay_ms = 50_000;
    })
}

fn steps(trims: bool) -> impl Strategy<Value = Vec<Step>> {
    let producer = || 0..PRODUCERS;
    let step = prop_oneof![
        2 => (1..4_u8).prop_map(|records| Step::Plain { records }),
        8 => (producer(), 1..4_u8, 0..250_u16)
            .prop_map(|(producer, records, bytes)| Step::Write { producer, records, bytes }),
        6 => (producer(), prop::bool::weighted(0.35)).prop_map(|(producer, commit)| Step::End { producer, commit }),
        4 => Just(Step::Flush),
        4 => (0..=100_u8).prop_map(Step::HighWatermark),
        1 => Just(Step::Roll),
        2 => Just(Step::Checkpoint),
        2 => (0..=100_u8).prop_map(Step::Truncate),
        1 => (0..=100_u8).prop_map(move |percent| if trims { Step::Trim(percent) } else { Step::Flush }),
        1 => Just(Step::Restart),
        2 => Just(Step::Kill),
        3 => any::<u64>().prop_map(Step::PowerLoss),
    ];
    proptest::collection::vec(step, 1..70)
}

fn run(steps: &[Step]) {
    block_on(async {
        let mut checked = Checked::new(small_segments());
        for step in steps {
            checked.step(step).await.unwrap();
            checked.check();
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_is_told_as_it_was(steps in steps(false)) {
        run(&steps);
    }

    #[test]
    fn what_retention_leaves_of_a_history_is_given_as_it_was(steps in steps(true)) {
        run(&steps);
    }
}

/// Power goes at every single operation of a history that has everything in it.
#[test]
fn power_may_go_at_any_operation() {
    let write = |producer, bytes| Step::Write { producer, records: 2, bytes };
    let abort = |producer| Step::End { producer, commit: false };
    let commit = |producer| Step::End { producer, commit: true };
    let history = [
        write(0, 10),
        write(1, 200),
        abort(0),
        Step::Flush,
        Step::HighWatermark(100),
        write(2, 400),
        Step::Checkpoint,
        abort(1),
        write(0, 300),
        write(3, 100),
        commit(2),
        Step::Flush,
        abort(3),
        Step::Truncate(80),
        write(3, 10),
        commit(3),
        abort(0),
        Step::Flush,
        Step::Checkpoint,
        write(1, 300),
        abort(1),
        Step::Restart,
        write(2, 10),
        abort(2),
        Step::Flush,
    ];
    block_on(async {
        for loss in 0..3_u64 {
            let mut last = false;
            let mut operations = 1;
            while !last {
                let mut checked = Checked::new(small_segments());
                checked.machine.memory.disk.power_off_after(operations);
                let mut done = 0;
                for step in &history {
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
                eprintln!("power went at operation {operations}, after {done} steps, {loss:?}");
                checked.restarted(false).await.unwrap();
                checked.check();
                for step in [write(0, 50), abort(0), Step::Flush, Step::Kill, write(1, 50), abort(1), Step::Restart] {
                    checked.step(&step).await.unwrap();
                    checked.check();
                }
                operations += 1;
            }
            assert!(operations > 100, "the history has many operations, not {operations}");
        }
    });
}
