//! Produces a number of records, as fast as they go or at a rate, and waits until each is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use crate::arguments::Arguments;
use crate::latencies::Latencies;
use crate::pace::Pace;
use crate::payload::payloads;

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// What became of the records. The client's one polling thread writes it; nothing is allocated for a record.
struct Outcome {
    epoch: Instant,
    acknowledged: AtomicU64,
    last: Mutex<Instant>,
    failed: Mutex<Option<KafkaError>>,
    /// Kept for a rate; as fast as it goes, a latency says how long the client's own queue is.
    latencies: Option<Mutex<Latencies>>,
}

struct Deliveries {
    outcome: Arc<Outcome>,
    records: u64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    /// When the record was due, in nanoseconds since the epoch.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due: usize) {
        let outcome = &self.outcome;
        if let Err((error, _)) = result {
            outcome.failed.lock().get_or_insert_with(|| error.clone());
            return;
        }
        if let Some(latencies) = &outcome.latencies {
            latencies.lock().add(outcome.epoch.elapsed().as_nanos() as u64 - due as u64);
        }
        if outcome.acknowledged.load(Ordering::Relaxed) + 1 == self.records {
            *outcome.last.lock() = Instant::now();
        }
        outcome.acknowledged.fetch_add(1, Ordering::Release);
    }
}

pub fn run(arguments: &Arguments) -> Result<String, String> {
    let topic = arguments.text("topic")?;
    let records = arguments.number("records")?;
    let size = arguments.number("size")?;
    let rate = arguments.number_or("rate", 0)?;
    let partitions = arguments.number_or("partitions", 1)?;
    // Runs of records for one partition, as a sticky partitioner makes them.
    let in_a_row = arguments.number_or("in-a-row", 100)?.max(1);
    let payloads = payloads(size as usize);
    let epoch = Instant::now();
    let outcome = Arc::new(Outcome {
        epoch,
        acknowledged: AtomicU64::new(0),
        last: Mutex::new(epoch),
        failed: Mutex::new(None),
        latencies: (rate > 0).then(|| Mutex::new(Latencies::with_capacity(records as usize))),
    });
    let producer: ThreadedProducer<Deliveries> = arguments
        .client(false)?
        .create_with_context(Deliveries { outcome: Arc::clone(&outcome), records })
        .map_err(|error| format!("cannot make a producer: {error}"))?;
    // Connections and metadata are there before anything is timed.
    producer.client().fetch_metadata(Some(topic), PATIENCE).map_err(|error| format!("no metadata: {error}"))?;

    let begun = Instant::now();
    let mut sender = Sender { producer: &producer, topic, payloads: &payloads, partitions, in_a_row, epoch, sent: 0 };
    if rate == 0 {
        while sender.sent < records {
            sender.send(begun)?;
        }
    } else {
        let mut pace = Pace::new(rate);
        while sender.sent < records {
            let (due, until) = pace.next_burst();
            while sender.sent < until.min(records) {
                sender.send(due)?;
            }
        }
    }
    wait(&outcome, records)?;
    let seconds = outcome.last.lock().duration_since(begun).as_secs_f64();
    let latencies = outcome.latencies.as_ref().map(|latencies| std::mem::take(&mut *latencies.lock()));
    Ok(format!(
        "{{\"records\": {records}, \"bytes\": {}, \"seconds\": {seconds:.6}{}}}",
        records * size,
        latencies.unwrap_or_default().json_fields()
    ))
}

struct Sender<'a> {
    producer: &'a ThreadedProducer<Deliveries>,
    topic: &'a str,
    payloads: &'a [Vec<u8>],
    partitions: u64,
    in_a_row: u64,
    epoch: Instant,
    sent: u64,
}

impl Sender<'_> {
    /// Waits while the client's queue is full: the broker is behind.
    fn send(&mut self, due: Instant) -> Result<(), String> {
        let payload = &self.payloads[(self.sent % self.payloads.len() as u64) as usize];
        let partition = (self.sent / self.in_a_row % self.partitions) as i32;
        let opaque = due.duration_since(self.epoch).as_nanos() as usize;
        let mut record =
            BaseRecord::<(), [u8], usize>::with_opaque_to(self.topic, opaque).partition(partition).payload(payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                    record = same;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(format!("cannot send: {error}")),
            }
        }
        self.sent += 1;
        Ok(())
    }
}

/// Until every record is acknowledged; an error when one failed, or none came for a minute.
fn wait(outcome: &Outcome, records: u64) -> Result<(), String> {
    let (mut seen, mut progress) = (0, Instant::now());
    loop {
        if let Some(error) = outcome.failed.lock().as_ref() {
            return Err(format!("a delivery failed: {error}"));
        }
        let acknowledged = outcome.acknowledged.load(Ordering::Acquire);
        if acknowledged == records {
            return Ok(());
        }
        if acknowledged > seen {
            (seen, progress) = (acknowledged, Instant::now());
        } else if progress.elapsed() > PATIENCE {
            return Err(format!("{acknowledged} of {records} records acknowledged, then none for 60 s"));
        }
        std::thread::sleep(LOOK);
    }
}
