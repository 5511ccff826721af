//! One consumer of a measurement: a thread, a runtime and connections of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ottla_client::{Client, ClientError, ConsumedBatch, Consumer, ConsumerSettings, GroupConsumer, GroupSettings};
use ottla_types::TopicPartition;
use tokio::sync::watch;

use super::ledger::Ledger;
use super::producing::read_stamp;
use super::recorder::Recorder;

/// How long a poll waits before it looks whether the time is over.
const POLL: Duration = Duration::from_millis(100);

/// Where a consumer reads.
#[derive(Clone, Debug)]
pub enum Source {
    /// These partitions, each from its offset.
    Partitions(BTreeMap<TopicPartition, i64>),
    Group(GroupSettings),
}

/// What a consumer does.
#[derive(Clone, Debug)]
pub struct ConsumePlan {
    pub source: Source,
    pub settings: ConsumerSettings,
    /// How many records, by all consumers together.
    pub records: Option<u64>,
    /// Until when, after the start.
    pub duration: Option<Duration>,
    /// Where to end, of each partition; a partition that is not there has no end.
    pub ends: Option<BTreeMap<TopicPartition, i64>>,
    /// Only records of this run count, and say when they were due.
    pub stamp: Option<u64>,
    /// How long to go on without a record.
    pub patience: Duration,
}

pub struct ConsumerWorker {
    pub client: Client,
    pub plan: ConsumePlan,
    pub recorder: Arc<Recorder>,
    /// Of an end-to-end measurement.
    pub ledger: Option<Arc<Ledger>>,
    /// Records read by all consumers.
    pub read: Arc<AtomicU64>,
    pub start: Instant,
    pub stop: watch::Receiver<bool>,
}

/// Why a consumer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    AsPlanned,
    /// There was nothing to read any more.
    Idle,
}

enum Reader {
    Alone(Box<Consumer>),
    Member(Box<GroupConsumer>),
}

impl ConsumerWorker {
    pub async fn run(mut self) -> anyhow::Result<Ended> {
        let mut stop = self.stop.clone();
        let mut reader = tokio::select! {
            reader = Reader::open(&self.client, &self.plan) => reader?,
            _ = stop.wait_for(|&stop| stop) => return Ok(Ended::AsPlanned),
        };
        let ended = self.read(&mut reader).await;
        // The group must not wait for a member that is gone, nor we for a coordinator that is.
        let left = match reader {
            Reader::Alone(_) => Ok(()),
            Reader::Member(member) => {
                let left = tokio::time::timeout(self.plan.patience, member.leave()).await;
                left.unwrap_or(Ok(()))
            }
        };
        left?;
        Ok(ended)
    }

    async fn read(&mut self, reader: &mut Reader) -> Ended {
        let mut progress = Instant::now();
        let mut stop = self.stop.clone();
        while !self.is_over(reader) {
            let polled = tokio::select! {
                biased;
                polled = reader.poll() => polled,
                _ = stop.wait_for(|&stop| stop) => return Ended::AsPlanned,
            };
            match polled {
                Ok(Some(batch)) => {
                    progress = Instant::now();
                    self.count(&batch, progress);
                }
                Ok(None) if progress.elapsed() >= self.plan.patience => return Ended::Idle,
                Ok(None) => {}
                Err(error) => {
                    self.recorder.count(|sample| sample.fail(&error, 1));
                    if progress.elapsed() >= self.plan.patience {
                        return Ended::Idle;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(POLL) => {}
                        _ = stop.wait_for(|&stop| stop) => return Ended::AsPlanned,
                    }
                }
            }
        }
        Ended::AsPlanned
    }

    fn is_over(&self, reader: &Reader) -> bool {
        let read = self.read.load(Ordering::Relaxed);
        let at_end = |ends: &BTreeMap<TopicPartition, i64>| {
            reader
                .positions()
                .iter()
                .all(|(partition, position)| ends.get(partition).is_some_and(|end| position >= end))
        };
        *self.stop.borrow()
            || self.plan.records.is_some_and(|records| read >= records)
            || self.plan.duration.is_some_and(|duration| self.start.elapsed() >= duration)
            || self.plan.ends.as_ref().is_some_and(at_end)
    }

    fn count(&self, batch: &ConsumedBatch, now: Instant) {
        let mut counted = 0;
        self.recorder.count(|sample| {
            sample.latest = Some(now);
            for record in batch.records() {
                let record = match record {
                    Ok(record) => record,
                    Err(error) => return sample.fail(&error, 1),
                };
                let value = record.value.unwrap_or_default();
                if let Some(run) = self.plan.stamp {
                    let Some(stamp) = read_stamp(value, run) else { continue };
                    sample.end_to_end.record(now.saturating_duration_since(self.start + stamp.due));
                    if let Some(ledger) = &self.ledger {
                        ledger.received(stamp.id);
                    }
                }
                counted += 1;
                sample.consumed.add(1, (record.key.map_or(0, <[u8]>::len) + value.len()) as u64);
            }
        });
        self.read.fetch_add(counted, Ordering::Relaxed);
    }
}

impl Reader {
    async fn open(client: &Client, plan: &ConsumePlan) -> Result<Reader, ClientError> {
        Ok(match &plan.source {
            Source::Partitions(offsets) => {
                let mut consumer = Consumer::new(client.clone(), plan.settings.clone());
                consumer.assign_at(offsets);
                Reader::Alone(Box::new(consumer))
            }
            Source::Group(group) => {
                let joined = GroupConsumer::join(client.clone(), group.clone(), plan.settings.clone());
                Reader::Member(Box::new(joined.await?))
            }
        })
    }

    async fn poll(&mut self) -> Result<Option<ConsumedBatch>, ClientError> {
        match self {
            Reader::Alone(consumer) => consumer.poll_batch(POLL).await,
            Reader::Member(member) => member.poll_batch(POLL).await,
        }
    }

    fn positions(&self) -> BTreeMap<TopicPartition, i64> {
        match self {
            Reader::Alone(consumer) => consumer.positions(),
            Reader::Member(member) => member.positions(),
        }
    }
}
