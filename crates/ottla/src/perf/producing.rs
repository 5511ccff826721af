//! One producer of a measurement: a thread, a runtime and connections of its own.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use ottla_client::{Client, ClientError, PendingDelivery, Producer, ProducerSettings, RecordRef};
use tokio::sync::watch;

use super::ledger::{Ledger, RecordId};
use super::pacer::Pacer;
use super::payload::{PayloadKind, Payloads, Random};
use super::recorder::Recorder;
use super::schedule::Schedule;

/// Records handed over before anything else gets its turn.
const BURST: usize = 64;
/// What a record of an end-to-end measurement begins with: the run, when the record was due, and which one it is.
pub const STAMP_BYTES: usize = 24;

/// What a producer does.
#[derive(Clone, Debug)]
pub struct ProducePlan {
    pub topic: String,
    /// `None` is as fast as possible.
    pub schedule: Option<Schedule>,
    /// How many records; `None` is as many as there is time for.
    pub records: Option<u64>,
    /// When no further record is due, after the start.
    pub duration: Option<Duration>,
    pub sizes: RangeInclusive<usize>,
    pub payload: PayloadKind,
    pub seed: u64,
    /// How many different keys; 0 is none at all.
    pub key_space: u64,
    /// Put the run and the time into each record.
    pub stamp: Option<u64>,
    pub settings: ProducerSettings,
    /// How long the end waits for acknowledgements.
    pub patience: Duration,
}

pub struct ProducerWorker {
    pub client: Client,
    pub plan: ProducePlan,
    pub recorder: Arc<Recorder>,
    /// Which of the producers this is.
    pub index: usize,
    /// Of an end-to-end measurement.
    pub ledger: Option<Arc<Ledger>>,
    /// Everything is measured from here.
    pub start: Instant,
    pub stop: watch::Receiver<bool>,
}

/// A record that waits for its acknowledgement.
struct Sent {
    number: u64,
    delivery: PendingDelivery,
    due: Instant,
    bytes: usize,
}

impl ProducerWorker {
    pub async fn run(mut self) -> anyhow::Result<()> {
        let producer = Producer::new(self.client.clone(), self.plan.settings.clone())?;
        let mut values = Values::new(&self.plan);
        let mut pacer = Pacer::new().context("a timer cannot be made")?;
        let mut sent: VecDeque<Sent> = VecDeque::new();
        let mut count = 0;
        loop {
            let mut burst = 0;
            let mut now = Instant::now();
            let next = loop {
                let due = match self.plan.schedule {
                    Some(schedule) => self.start + schedule.due(count),
                    None => now,
                };
                let over = self.plan.records.is_some_and(|records| count >= records)
                    || self.plan.duration.is_some_and(|duration| due >= self.start + duration);
                if over {
                    break None;
                }
                if due > now || burst == BURST {
                    break Some(due);
                }
                let id = self.id(count);
                if let Some(ledger) = &self.ledger {
                    ledger.handed_over(id);
                }
                let (key, value) = values.next(due.saturating_duration_since(self.start), id);
                let record = RecordRef {
                    topic: &self.plan.topic,
                    partition: None,
                    timestamp: None,
                    key,
                    value: Some(value),
                    headers: &[],
                };
                let bytes = key.map_or(0, <[u8]>::len) + value.len();
                let handed_over = tokio::select! {
                    biased;
                    handed_over = producer.send_ref(&record) => handed_over?,
                    _ = self.stop.wait_for(|&stop| stop) => break None,
                };
                sent.push_back(Sent { number: count, delivery: handed_over, due, bytes });
                count += 1;
                burst += 1;
                if self.plan.schedule.is_some() {
                    now = Instant::now();
                }
            };
            self.settle(&mut sent);
            let Some(next) = next.filter(|_| !*self.stop.borrow()) else { break };
            if burst == BURST {
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                waited = pacer.until(next) => waited.context("the timer cannot be read")?,
                () = oldest(&sent) => {}
                _ = self.stop.wait_for(|&stop| stop) => {}
            }
        }
        self.finish(&producer, sent).await;
        Ok(())
    }

    fn id(&self, number: u64) -> RecordId {
        RecordId { producer: self.index, number }
    }

    /// Counts what was acknowledged, in the order it was sent.
    fn settle(&self, sent: &mut VecDeque<Sent>) {
        self.recorder.count(|sample| {
            while let Some(oldest) = sent.front() {
                let Some(result) = oldest.delivery.try_result() else { break };
                match result {
                    Ok(_) => {
                        sample.produced.add(1, oldest.bytes as u64);
                        if let Some(ledger) = &self.ledger {
                            ledger.acknowledged(self.id(oldest.number));
                        }
                        if let Some(settled_at) = oldest.delivery.settled_at() {
                            let settled_at = settled_at.into_std();
                            sample.acknowledged.record(settled_at.saturating_duration_since(oldest.due));
                            sample.latest = sample.latest.max(Some(settled_at));
                        }
                    }
                    Err(error) => sample.fail(&error, 1),
                }
                sent.pop_front();
            }
            sample.in_flight = sent.len() as u64;
        });
    }

    /// Waits for what is under way, but not for ever.
    async fn finish(&self, producer: &Producer, mut sent: VecDeque<Sent>) {
        let flushed = tokio::time::timeout(self.plan.patience, async {
            let flush = producer.flush();
            tokio::pin!(flush);
            loop {
                tokio::select! {
                    () = &mut flush => break,
                    // Progress is shown until the end.
                    () = oldest(&sent) => self.settle(&mut sent),
                }
            }
        });
        let _ = flushed.await;
        self.settle(&mut sent);
        self.recorder.count(|sample| {
            if !sent.is_empty() {
                sample.fail(&ClientError::ProducerClosed, sent.len() as u64);
            }
            sample.in_flight = 0;
        });
    }
}

/// Waits until the oldest record has its result.
async fn oldest(sent: &VecDeque<Sent>) {
    match sent.front() {
        Some(oldest) => {
            let _ = oldest.delivery.wait().await;
        }
        None => std::future::pending().await,
    }
}

/// Keys and values.
struct Values {
    payloads: Payloads,
    keys: Random,
    key_space: u64,
    stamp: Option<u64>,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Values {
    fn new(plan: &ProducePlan) -> Values {
        Values {
            payloads: Payloads::new(plan.payload, plan.sizes.clone(), plan.seed),
            keys: Random::new(plan.seed ^ 0x6b65_7973),
            key_space: plan.key_space,
            stamp: plan.stamp,
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    fn next(&mut self, due: Duration, id: RecordId) -> (Option<&[u8]>, &[u8]) {
        let key = (self.key_space > 0).then(|| {
            let mut number = self.keys.below(self.key_space);
            self.key.clear();
            self.key.extend(b"key-0000000000");
            let mut place = self.key.len();
            while number > 0 && place > 4 {
                place -= 1;
                self.key[place] = b'0' + (number % 10) as u8;
                number /= 10;
            }
            self.key.as_slice()
        });
        let Some(run) = self.stamp else { return (key, self.payloads.value()) };
        self.value.clear();
        self.value.extend_from_slice(self.payloads.value());
        write_stamp(&mut self.value, &Stamp { run, due, id });
        (key, &self.value)
    }
}

/// What a record of an end-to-end measurement says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub run: u64,
    /// After the start.
    pub due: Duration,
    pub id: RecordId,
}

/// Puts a stamp into the first bytes of a value that has room for it.
fn write_stamp(value: &mut [u8], stamp: &Stamp) {
    if let Some(place) = value.first_chunk_mut::<STAMP_BYTES>() {
        let due = u64::try_from(stamp.due.as_nanos()).unwrap_or(u64::MAX);
        for (place, number) in place.chunks_exact_mut(8).zip([stamp.run, due, stamp.id.to_u64()]) {
            place.copy_from_slice(&number.to_be_bytes());
        }
    }
}

/// The stamp of a record of this run.
pub fn read_stamp(value: &[u8], run: u64) -> Option<Stamp> {
    let (numbers, _) = value.first_chunk::<STAMP_BYTES>()?.as_chunks::<8>();
    let [found, due, id] = [0, 1, 2].map(|place| u64::from_be_bytes(numbers[place]));
    (found == run).then(|| Stamp { run, due: Duration::from_nanos(due), id: RecordId::from_u64(id) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_back_by_their_own_run() {
        let mut value = vec![1; 40];
        let stamp = Stamp { run: 7, due: Duration::from_nanos(123), id: RecordId { producer: 3, number: 99 } };
        write_stamp(&mut value, &stamp);
        assert_eq!(read_stamp(&value, 7), Some(stamp));
        assert_eq!(read_stamp(&value, 8), None);
        assert_eq!(read_stamp(&value[..23], 7), None);
        assert_eq!(value[24..], [1; 16]);
    }
}
