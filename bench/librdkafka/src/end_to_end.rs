//! One producer and one consumer in one process and on one clock: from when a record is due to when it is read.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::arguments::Arguments;
use crate::latencies::Latencies;
use crate::pace::Pace;
use crate::payload::payloads;

const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(arguments: &Arguments) -> Result<String, String> {
    let topic = arguments.text("topic")?;
    let records = arguments.number("records")?;
    let size = arguments.number("size")?;
    let rate = arguments.number_or("rate", 0)?;
    let producer: ThreadedProducer<DefaultProducerContext> =
        arguments.client(false)?.create().map_err(|error| format!("cannot make a producer: {error}"))?;
    producer.client().fetch_metadata(Some(topic), PATIENCE).map_err(|error| format!("no metadata: {error}"))?;
    let mut config = arguments.client(true)?;
    config.set("group.id", "bench").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().map_err(|error| format!("cannot make a consumer: {error}"))?;
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, 0, Offset::Beginning)
        .and_then(|()| consumer.assign(&assignment))
        .map_err(|error| format!("cannot assign: {error}"))?;

    // A record read first: connections, metadata and the consumer's position are there before anything is timed.
    let epoch = Instant::now();
    let mut payload = payloads(size as usize).swap_remove(0);
    send(&producer, topic, &mut payload, epoch, epoch)?;
    read(&consumer, epoch)?;

    let begun = Instant::now();
    let reader = std::thread::spawn(move || -> Result<(Latencies, Instant), String> {
        let mut latencies = Latencies::with_capacity(records as usize);
        while (latencies.len() as u64) < records {
            latencies.add(read(&consumer, epoch)?);
        }
        Ok((latencies, Instant::now()))
    });
    let mut sent = 0;
    let mut pace = (rate > 0).then(|| Pace::new(rate));
    while sent < records {
        let (due, until) = pace.as_mut().map_or_else(|| (Instant::now(), sent + 1), Pace::next_burst);
        while sent < until.min(records) {
            send(&producer, topic, &mut payload, epoch, due)?;
            sent += 1;
        }
    }
    let (latencies, ended) = reader.join().map_err(|_| "the reader panicked".to_owned())??;
    let seconds = ended.duration_since(begun).as_secs_f64();
    Ok(format!(
        "{{\"records\": {records}, \"bytes\": {}, \"seconds\": {seconds:.6}{}}}",
        records * size,
        latencies.json_fields()
    ))
}

/// The first eight bytes of a record say when it was due.
fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    payload: &mut [u8],
    epoch: Instant,
    due: Instant,
) -> Result<(), String> {
    let nanoseconds = due.duration_since(epoch).as_nanos() as u64;
    payload[..8].copy_from_slice(&nanoseconds.to_be_bytes());
    let mut record = BaseRecord::<(), [u8]>::to(topic).partition(0).payload(payload);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                record = same;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(format!("cannot send: {error}")),
        }
    }
}

/// The age of the next record.
fn read(consumer: &BaseConsumer, epoch: Instant) -> Result<u64, String> {
    let message =
        consumer.poll(PATIENCE).ok_or("no record for 60 s")?.map_err(|error| format!("cannot consume: {error}"))?;
    let now = epoch.elapsed().as_nanos() as u64;
    let stamp = message.payload().and_then(|payload| payload.first_chunk::<8>()).ok_or("a record without a stamp")?;
    Ok(now.saturating_sub(u64::from_be_bytes(*stamp)))
}
