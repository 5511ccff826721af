//! Produces a number of records, as fast as they go or at a rate, and waits until each is acknowledged.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use crate::arguments::Arguments;
use crate::latencies::Latencies;
use crate::pace::Pace;
use crate::payload::payloads;

const PATIENCE: Duration = Duration::from_secs(60);

/// Sends how long each delivery took since the record was due, or that it failed.
struct Deliveries(mpsc::Sender<Result<u64, KafkaError>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Instant>;

    fn delivery(&self, result: &DeliveryResult<'_>, due: Box<Instant>) {
        let outcome = match result {
            Ok(_) => Ok(due.elapsed().as_nanos() as u64),
            Err((error, _)) => Err(error.clone()),
        };
        // The receiver is gone when another delivery has failed before: then the load has ended.
        let _ = self.0.send(outcome);
    }
}

pub fn run(arguments: &Arguments) -> Result<String, String> {
    let topic = arguments.text("topic")?;
    let records = arguments.number("records")?;
    let size = arguments.number("size")?;
    let rate = arguments.number_or("rate", 0)?;
    let partitions = arguments.number_or("partitions", 1)?;
    let payloads = payloads(size as usize);
    let (sender, deliveries) = mpsc::channel();
    let producer: ThreadedProducer<Deliveries> = arguments
        .client(false)?
        .create_with_context(Deliveries(sender))
        .map_err(|error| format!("cannot make a producer: {error}"))?;
    producer.client().fetch_metadata(Some(topic), PATIENCE).map_err(|error| format!("no metadata: {error}"))?;
    let collector = std::thread::spawn(move || collect(&deliveries, records));

    let begun = Instant::now();
    let mut sender = Sender { producer: &producer, topic, payloads: &payloads, partitions, sent: 0 };
    if rate == 0 {
        while sender.sent < records {
            sender.send(Instant::now())?;
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
    let (latencies, ended) = collector.join().map_err(|_| "the collector panicked".to_owned())??;
    let seconds = ended.duration_since(begun).as_secs_f64();
    Ok(format!(
        "{{\"records\": {records}, \"bytes\": {}, \"seconds\": {seconds:.6}{}}}",
        records * size,
        latencies.json_fields()
    ))
}

struct Sender<'a> {
    producer: &'a ThreadedProducer<Deliveries>,
    topic: &'a str,
    payloads: &'a [Vec<u8>],
    partitions: u64,
    sent: u64,
}

impl Sender<'_> {
    /// Waits while the client's queue is full: the broker is behind.
    fn send(&mut self, due: Instant) -> Result<(), String> {
        let payload = &self.payloads[(self.sent % self.payloads.len() as u64) as usize];
        // Runs of records for one partition, as a sticky partitioner makes them.
        let partition = (self.sent / 100 % self.partitions) as i32;
        let mut record = BaseRecord::<(), [u8], Box<Instant>>::with_opaque_to(self.topic, Box::new(due))
            .partition(partition)
            .payload(payload);
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

fn collect(deliveries: &mpsc::Receiver<Result<u64, KafkaError>>, records: u64) -> Result<(Latencies, Instant), String> {
    let mut latencies = Latencies::with_capacity(records as usize);
    while (latencies.len() as u64) < records {
        match deliveries.recv_timeout(PATIENCE) {
            Ok(Ok(nanoseconds)) => latencies.add(nanoseconds),
            Ok(Err(error)) => return Err(format!("a delivery failed: {error}")),
            Err(_) => {
                return Err(format!("{} of {records} records acknowledged, then none for 60 s", latencies.len()));
            }
        }
    }
    Ok((latencies, Instant::now()))
}
