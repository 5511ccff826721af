//! One life of the storage engine: recovery is compared with the model, then random work until death.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow};
use ottla_config::{Durability, LogConfig};
use ottla_log::{
    AppendError, AppendOrigin, Appended, BatchToAppend, ChangeError, LogManager, LogSettings, PartitionLog,
};
use ottla_record::{BatchBuilder, BatchHeader, Compression};
use ottla_rt::World;
use ottla_rt::memory::{Failure, Fault, Operation};
use ottla_types::{LeaderEpoch, TopicPartition};

use super::Shared;
use super::model::{Batch, Existence};
use super::moving::DIRECTORIES;
use super::step::{STEPS, Step};
use crate::driver::Progress;
use crate::history::{Value, values};

/// One producer writes to each partition.
const PRODUCER_ID: i64 = 77;

/// The outer error is what a fault led to, and ends this life; the inner one is an anomaly.
pub(super) type Outcome<T> = anyhow::Result<Result<T, String>>;

/// Takes the value, or passes the anomaly on.
macro_rules! sound {
    ($outcome:expr) => {
        match $outcome {
            Ok(value) => value,
            Err(anomaly) => return Ok(Err(anomaly)),
        }
    };
}
pub(super) use sound;

pub struct Life {
    pub(super) shared: Rc<Shared>,
    pub(super) world: World,
    pub(super) manager: LogManager,
    /// Of the topics in this life.
    pub(super) config: Arc<LogConfig>,
    leader_epoch: LeaderEpoch,
    /// Of the disk, when this life began.
    failures_before: u64,
    broken_invariant: Arc<Mutex<Option<String>>>,
    /// The disk is full for the time being.
    without_room: Cell<bool>,
    /// It was full at some time of this life.
    pub(super) was_full: Cell<bool>,
    /// Partitions on their way to another directory.
    pub(super) moving: RefCell<BTreeMap<TopicPartition, PathBuf>>,
}

impl Life {
    pub async fn run(world: World, shared: Rc<Shared>, progress: &RefCell<Option<Rc<Progress>>>) -> anyhow::Result<()> {
        let progress = progress.borrow().clone().context("the client is registered before the first step")?;
        let mut outcome = Ok(());
        while outcome.is_ok() && !*shared.verified.borrow() {
            outcome = Life::between_stops(&world, &shared, &progress).await?;
        }
        *shared.anomaly.borrow_mut() = outcome.err();
        // The client ends the run.
        std::future::pending().await
    }

    /// From a start to a clean stop.
    async fn between_stops(world: &World, shared: &Rc<Shared>, progress: &Progress) -> Outcome<()> {
        let life = sound!(Life::open(world, shared).await?);
        let choice = &shared.choice;
        while !progress.healing() && !choice.one_in(200) {
            sound!(life.step().await?);
            if choice.one_in(3) {
                tokio::time::sleep(choice.duration_ms(0..20)).await;
            }
        }
        for partition in life.present() {
            sound!(life.read_back(&partition)?);
        }
        life.manager.shutdown(1).await;
        for (partition, model) in shared.partitions.borrow_mut().iter_mut() {
            let log = life.manager.get(partition);
            if log.is_some_and(|log| log.flushed_offset() >= model.end()) {
                model.promised_end = model.end();
            }
        }
        sound!(life.check_invariants());
        sound!(life.check_offline()?);
        drop(life);
        if progress.healing() {
            // And the same after the clean stop.
            let life = sound!(Life::open(world, shared).await?);
            let mut counts = shared.counts.borrow_mut();
            for model in shared.partitions.borrow().values() {
                counts.verified += model.values().count() as u64;
            }
            drop(life);
            *shared.verified.borrow_mut() = true;
        }
        shared.counts.borrow_mut().clean_stops += 1;
        Ok(Ok(()))
    }

    async fn open(world: &World, shared: &Rc<Shared>) -> Outcome<Life> {
        let failures_before = failures(shared);
        let broken_invariant = Arc::new(Mutex::new(None));
        let told = Arc::clone(&broken_invariant);
        let mut settings = LogSettings::new(DIRECTORIES.map(PathBuf::from).to_vec(), 1);
        settings.cluster_id = Some("simulated".to_owned());
        settings.planted = shared.planted;
        settings.hot_tail_bytes = 64 << 10;
        settings.max_open_files = 8;
        settings.journal = shared.journal;
        settings.reserve_bytes = 64 << 10;
        settings.fatal = Arc::new(move |event| {
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("broken invariant: {event:?}"));
        });
        let durability = *shared.choice.of(shared.durabilities);
        let config = Arc::new(LogConfig { durability, ..shared.config.clone() });
        let of_topics = Arc::clone(&config);
        let manager = LogManager::open(world.clone(), settings, move |_| LogConfig::clone(&of_topics)).await?;
        *shared.lives.borrow_mut() += 1;
        let life = Life {
            shared: Rc::clone(shared),
            world: world.clone(),
            manager,
            config,
            leader_epoch: LeaderEpoch(*shared.lives.borrow()),
            failures_before,
            broken_invariant,
            without_room: Cell::new(false),
            was_full: Cell::new(false),
            moving: RefCell::default(),
        };
        if let Some((partition, error)) = life.manager.offline_partitions().into_iter().next() {
            return life.unless_excused(format!("{partition} is offline: {error}"));
        }
        // What is in a directory that cannot be opened is out of reach.
        sound!(life.check_offline()?);
        sound!(life.check_existence());
        for partition in life.present() {
            sound!(life.compare_recovered(&partition)?);
            sound!(life.check_producer(&partition)?);
        }
        shared.note_recovery(durability);
        life.go_on_moving();
        Ok(Ok(life))
    }

    /// An anomaly, unless the disk has failed in this life.
    pub(super) fn unless_excused<T>(&self, what: String) -> Outcome<T> {
        if failures(&self.shared) > self.failures_before {
            return Err(anyhow!(what));
        }
        Ok(Err(what))
    }

    fn check_invariants(&self) -> Result<(), String> {
        match self.broken_invariant.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(broken) => Err(broken),
            None => Ok(()),
        }
    }

    fn present(&self) -> Vec<TopicPartition> {
        self.partitions(|existence| matches!(existence, Existence::Present(_)))
    }

    pub(super) fn partitions(&self, wanted: impl Fn(Existence) -> bool) -> Vec<TopicPartition> {
        let partitions = self.shared.partitions.borrow();
        partitions.iter().filter(|(_, model)| wanted(model.existence)).map(|(partition, _)| partition.clone()).collect()
    }

    pub(super) fn log(&self, partition: &TopicPartition) -> Outcome<Arc<PartitionLog>> {
        match self.manager.get(partition) {
            Some(log) => Ok(Ok(log)),
            None => self.unless_excused(format!("{partition} is not there")),
        }
    }

    fn compare_recovered(&self, partition: &TopicPartition) -> Outcome<()> {
        let log = sound!(self.log(partition)?);
        let (flushed, end) = (log.flushed_offset(), log.log_end_offset());
        if flushed > end || (flushed < end && self.config.durability == Durability::Fsync) {
            return self.unless_excused(format!("{partition} is durable to {flushed}, not {end}"));
        }
        let found = sound!(self.read(&log)?);
        let mut partitions = self.shared.partitions.borrow_mut();
        let Some(model) = partitions.get_mut(partition) else { return Ok(Ok(())) };
        let start = log.log_start_offset();
        let kept = self.shared.is_kept();
        Ok(model.recovered(&found, start, end, flushed, kept).map_err(|anomaly| format!("{partition}: {anomaly}")))
    }

    /// Every value of a log, each batch checked.
    fn read(&self, log: &PartitionLog) -> Outcome<Vec<(i64, Value)>> {
        let end = log.log_end_offset();
        let mut found: Vec<(i64, Value)> = Vec::new();
        let mut offset = log.log_start_offset();
        while offset < end {
            let bytes = match log.read(offset, *self.shared.choice.of(&[1, 700, 1 << 20]), true, end) {
                Ok(read) => read.to_bytes().context("reading")?,
                Err(error) => return self.unless_excused(format!("reading {offset}: {error}")),
            };
            let values = sound!(values(&bytes));
            let Some((last, _)) = values.last() else {
                return self.unless_excused(format!("nothing is read at {offset} of {end}"));
            };
            let next = last + 1;
            found.extend(values.into_iter().filter(|(at, _)| *at >= offset));
            offset = next;
        }
        Ok(Ok(found))
    }

    fn read_back(&self, partition: &TopicPartition) -> Outcome<()> {
        let log = sound!(self.log(partition)?);
        let found = sound!(self.read(&log)?);
        let start = log.log_start_offset();
        let expected: Vec<(i64, Value)> = match self.shared.partitions.borrow().get(partition) {
            Some(model) => model.values().filter(|(offset, _)| *offset >= start).collect(),
            None => Vec::new(),
        };
        self.shared.counts.borrow_mut().observed += found.len() as u64;
        if found == expected {
            return Ok(Ok(()));
        }
        self.unless_excused(format!("{partition} has {} records, {} were appended", found.len(), expected.len()))
    }

    /// The last batch is known as a duplicate, and a gap in the sequence is refused.
    fn check_producer(&self, partition: &TopicPartition) -> Outcome<()> {
        let log = sound!(self.log(partition)?);
        let (last, next_sequence) = match self.shared.partitions.borrow().get(partition) {
            Some(model) => (model.last_batch().cloned(), model.next_sequence),
            None => (None, 0),
        };
        let Some(last) = last else { return Ok(Ok(())) };
        match self.append_bytes(&log, &last.bytes) {
            Ok(Appended { duplicate: true, base_offset, .. }) if base_offset == last.header.base_offset => {}
            Ok(other) => {
                return Ok(Err(format!("{partition}: the batch at {} again: {other:?}", last.header.base_offset)));
            }
            Err(error) => return self.unless_excused(format!("{partition}: the last batch again: {error}")),
        }
        let (bytes, _) = self.batch(next_sequence + 3)?;
        match self.append_bytes(&log, &bytes) {
            Ok(_) => Ok(Err(format!("{partition}: a gap in the sequence was taken"))),
            Err(_) => Ok(Ok(())),
        }
    }

    fn append_bytes(&self, log: &PartitionLog, bytes: &bytes::Bytes) -> Result<Appended, ottla_log::AppendError> {
        let header = BatchHeader::parse(bytes).expect("invariant: built here");
        let batch = BatchToAppend { bytes, header: &header, origin: AppendOrigin::Client };
        log.append(batch, self.leader_epoch, self.world.clock.wall_ms())
    }

    fn batch(&self, sequence: i32) -> anyhow::Result<(bytes::Bytes, Vec<Value>)> {
        let choice = &self.shared.choice;
        let mut builder = BatchBuilder::new(Compression::NONE);
        builder.set_producer(PRODUCER_ID, 0, sequence);
        let largest = *choice.of(&[10, 100, 100, 3000]);
        let mut values = Vec::new();
        for _ in 0..choice.within(1..8) {
            let mut number = self.shared.next_value.borrow_mut();
            let value = Value { producer: 0, number: *number };
            *number += 1;
            let encoded = value.encode(choice.below(largest / 4 * 4) as usize / 8);
            builder.append(self.world.clock.wall_ms(), None, Some(&encoded), &[])?;
            values.push(value);
        }
        Ok((builder.finish()?, values))
    }

    /// One thing out of everything that happens to logs; now and then the disk fails, or is full, in the midst of it.
    async fn step(&self) -> Outcome<()> {
        let choice = &self.shared.choice;
        let present = self.present();
        let (step, partition) = if present.is_empty() || choice.one_in(60) {
            (Step::Create, None)
        } else {
            (Step::choose(choice, self.shared.lazy), Some(choice.of(&present).clone()))
        };
        if choice.one_in(150) {
            let step = if partition.is_some() { *choice.of(&STEPS) } else { step };
            sound!(self.disturbed(step, partition.as_ref()).await?);
        } else {
            sound!(self.perform(step, partition.as_ref()).await?);
        }
        self.count_moves();
        sound!(self.check_offline()?);
        Ok(self.check_invariants())
    }

    async fn perform(&self, step: Step, partition: Option<&TopicPartition>) -> Outcome<()> {
        let Some(partition) = partition else { return self.create().await };
        match step {
            Step::Append => self.append(partition),
            Step::ReadBack => self.read_back(partition),
            Step::Upkeep => {
                self.manager.maintain(self.world.clock.wall_ms()).await;
                Ok(Ok(()))
            }
            Step::Checkpoint => {
                self.manager.checkpoint().await;
                Ok(Ok(()))
            }
            Step::Roll => self.roll(partition),
            Step::Truncate => self.truncate(partition),
            Step::DeleteRecords => self.delete_records(partition).await,
            Step::Create => self.create().await,
            Step::Delete => self.delete(partition).await,
            Step::Move => self.move_replica(partition).await,
            Step::Flush => self.flush(partition).await,
        }
    }

    /// A step whose nth operation on the disk fails. Without space it may be refused, and nothing else.
    async fn disturbed(&self, step: Step, partition: Option<&TopicPartition>) -> Outcome<()> {
        let (choice, disk) = (&self.shared.choice, &self.shared.machine.disk);
        let full = choice.one_in(2);
        let (count, failure) = if full { (choice.within(1..6), Failure::NoSpace) } else { (1, Failure::Io) };
        let kinds = [None, None, Some(Operation::Sync), Some(Operation::SyncDir), Some(Operation::Rename)];
        let operation = if full { None } else { *choice.of(&kinds) };
        let reach = if operation.is_none() { *choice.of(&[2, 8, 25]) } else { 2 };
        let skip = choice.below(reach);
        disk.inject(Fault { operation, path_contains: String::new(), skip, count, failure });
        let struck_before: u64 = disk.struck().values().sum();
        self.without_room.set(full);
        self.was_full.set(full || self.was_full.get());
        let outcome = self.perform(step, partition).await;
        self.without_room.set(false);
        let struck: u64 = disk.struck().values().sum::<u64>() - struck_before;
        disk.clear_faults();
        if full {
            // The room given up for the bookkeeping is kept again before anything is appended.
            self.manager.remove_deleted().await;
        }
        *step.faults(&mut self.shared.counts.borrow_mut()) += struck;
        let offline = self.manager.directories().into_iter().find(|directory| !directory.online);
        match offline {
            Some(directory) if full && step.may_need_room() => Err(anyhow!("{step:?} without space: {directory:?}")),
            Some(directory) if full => self.unless_excused(format!("{step:?} without space: {directory:?}")),
            _ => outcome,
        }
    }

    /// A directory that failed answers nothing, and ends this life.
    fn check_offline(&self) -> Outcome<()> {
        let directories = self.manager.directories();
        let Some(offline) = directories.iter().find(|directory| !directory.online) else { return Ok(Ok(())) };
        for log in self.manager.partitions().iter().filter(|log| Some(log.directory_id()) == offline.id) {
            if log.read(log.log_start_offset(), 1, true, log.log_end_offset()).is_ok() {
                return Ok(Err(format!("{} is read although its directory has failed", log.topic_partition())));
            }
        }
        self.unless_excused(format!("{} is offline", offline.path.display()))
    }

    /// An error the disk explains, or the full disk this step was given: then nothing has happened.
    pub(super) fn unless_refused(&self, what: String, no_space: bool) -> Outcome<()> {
        if no_space && self.without_room.get() {
            return Ok(Ok(()));
        }
        self.unless_excused(what)
    }

    /// Deletes records up to somewhere below what is durable.
    async fn delete_records(&self, partition: &TopicPartition) -> Outcome<()> {
        let log = sound!(self.log(partition)?);
        let choice = &self.shared.choice;
        let durable = log.flushed_offset();
        let offset = {
            let mut partitions = self.shared.partitions.borrow_mut();
            let Some(model) = partitions.get_mut(partition) else { return Ok(Ok(())) };
            let start = log.log_start_offset();
            let offset = start + choice.below((durable - start).max(0) as u64 + 1) as i64;
            model.deleting_to = Some(offset.max(model.deleting_to.unwrap_or(0)));
            offset
        };
        let result = self.manager.delete_records(vec![(Arc::clone(&log), offset)]).await.pop();
        let mut partitions = self.shared.partitions.borrow_mut();
        let Some(model) = partitions.get_mut(partition) else { return Ok(Ok(())) };
        match result {
            Some(Ok(start)) if start == offset => {
                model.promised_end = model.promised_end.max(offset);
                model.deleted_to(offset);
                self.shared.counts.borrow_mut().records_deleted += 1;
                Ok(Ok(()))
            }
            Some(Ok(start)) => Ok(Err(format!("{partition}: records deleted to {offset}, it starts at {start}"))),
            Some(Err(error)) => {
                // The start has moved, and could not be written down: a restart may find it where it was.
                let no_space = matches!(error, ChangeError::NoSpace(_));
                self.unless_refused(format!("{partition}: delete records: {error}"), no_space)
            }
            None => Ok(Err("a deletion of records without a result".to_owned())),
        }
    }

    fn append(&self, partition: &TopicPartition) -> Outcome<()> {
        let log = sound!(self.log(partition)?);
        let sequence = match self.shared.partitions.borrow().get(partition) {
            Some(model) => model.next_sequence,
            None => 0,
        };
        let (bytes, values) = self.batch(sequence)?;
        let appended = match self.append_bytes(&log, &bytes) {
            Ok(appended) => appended,
            Err(error) => {
                let no_space = matches!(error, AppendError::NoSpace(_));
                return self.unless_refused(format!("{partition}: append: {error}"), no_space);
            }
        };
        let mut header = BatchHeader::parse(&bytes)?;
        header.base_offset = appended.base_offset;
        let mut partitions = self.shared.partitions.borrow_mut();
        let Some(model) = partitions.get_mut(partition) else { return Ok(Ok(())) };
        if appended.duplicate || appended.base_offset != model.end() {
            return Ok(Err(format!("{partition}: appended at {}: {appended:?}", model.end())));
        }
        if self.shared.is_acknowledged_by_append() {
            self.shared.counts.borrow_mut().acknowledged += values.len() as u64;
        }
        model.next_sequence = header.last_sequence() + 1;
        model.batches.push(Batch { header, bytes, values });
        if self.shared.choice.one_in(if self.shared.lazy { 60 } else { 3 }) {
            self.manager.request_flush(&log);
            tokio::task::spawn_local(acknowledge(Rc::clone(&self.shared), log, header.next_offset(), model.existence));
        }
        Ok(Ok(()))
    }

    async fn flush(&self, partition: &TopicPartition) -> Outcome<()> {
        let log = sound!(self.log(partition)?);
        let end = log.log_end_offset();
        self.manager.request_flush(&log);
        if let Err(error) = log.wait_flushed(end).await {
            return self.unless_excused(format!("{partition}: flush: {error}"));
        }
        if let Some(model) = self.shared.partitions.borrow_mut().get_mut(partition) {
            model.promised_end = model.promised_end.max(end);
        }
        Ok(Ok(()))
    }

    fn roll(&self, partition: &TopicPartition) -> Outcome<()> {
        let log = sound!(self.log(partition)?);
        match log.roll() {
            Ok(()) => Ok(Ok(())),
            Err(error) => {
                let no_space = matches!(error, AppendError::NoSpace(_));
                self.unless_refused(format!("{partition}: roll: {error}"), no_space)
            }
        }
    }

    fn truncate(&self, partition: &TopicPartition) -> Outcome<()> {
        let log = sound!(self.log(partition)?);
        let mut partitions = self.shared.partitions.borrow_mut();
        let Some(model) = partitions.get_mut(partition) else { return Ok(Ok(())) };
        let mut borders = model.borders();
        borders.retain(|border| *border >= log.log_start_offset());
        let offset = *self.shared.choice.of(&borders[borders.len().saturating_sub(10)..]);
        model.truncating_to = Some(offset);
        let end_before = log.log_end_offset();
        if let Err(error) = log.truncate_to(offset) {
            let refused = matches!(error, ChangeError::NoSpace(_)) && !log.is_offline();
            if refused && self.without_room.get() && log.log_end_offset() == end_before {
                // The journal could not be told of it: nothing has changed.
                model.truncating_to = None;
                return Ok(Ok(()));
            }
            return self.unless_excused(format!("{partition}: truncate: {error}"));
        }
        model.truncating_to = None;
        model.cut(offset);
        Ok(Ok(()))
    }
}

/// Failures of the disk so far that excuse a life's end: a full disk does not.
fn failures(shared: &Shared) -> u64 {
    let disk = &shared.machine.disk;
    let struck = disk.struck();
    let full = struck.iter().filter(|((_, failure), _)| *failure == Failure::NoSpace).map(|(_, count)| count);
    disk.failed_operations() - full.sum::<u64>()
}

/// What a producer is told once its batch is durable.
async fn acknowledge(shared: Rc<Shared>, log: Arc<PartitionLog>, end: i64, existence: Existence) {
    if log.wait_flushed(end).await.is_err() {
        return;
    }
    let mut partitions = shared.partitions.borrow_mut();
    let Some(model) = partitions.get_mut(log.topic_partition()) else { return };
    // Deleted or cut meanwhile: nothing is promised of what is gone.
    if model.existence == existence && model.truncating_to.is_none() && end <= model.end() {
        let newly = model.values().filter(|(offset, _)| (model.promised_end..end).contains(offset)).count();
        model.promised_end = model.promised_end.max(end);
        if !shared.is_acknowledged_by_append() {
            shared.counts.borrow_mut().acknowledged += newly as u64;
        }
    }
}
