//! Records in and out, offsets and metadata.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::{Answer, Failure, code_name, configured, now_ns, text};

const WAIT: Duration = Duration::from_secs(30);
const DELIVERY: Duration = Duration::from_secs(50);

/// Hands the outcome of each record to whoever sent it.
pub struct Deliveries;

impl ClientContext for Deliveries {}

/// What a record's sender is told: the partition and offset, or why not.
pub type Outcome = Box<dyn FnOnce(Result<(i32, i64), KafkaError>) + Send + Sync>;

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Outcome>;

    fn delivery(&self, result: &DeliveryResult<'_>, told: Box<Outcome>) {
        match result {
            Ok(message) => told(Ok((message.partition(), message.offset()))),
            Err((error, _)) => told(Err(error.clone())),
        }
    }
}

pub type Sending = ThreadedProducer<Deliveries>;

pub struct Records {
    bootstrap: String,
    producers: Mutex<HashMap<String, Arc<Sending>>>,
}

pub fn bytes(value: &Value) -> Result<Option<Vec<u8>>, Failure> {
    let Some(encoded) = value.as_str() else { return Ok(None) };
    STANDARD.decode(encoded).map(Some).map_err(|error| Failure::new("BAD_ARGUMENTS", error))
}

pub fn record_json(message: &BorrowedMessage<'_>) -> Value {
    let encoded = |data: Option<&[u8]>| data.map(|data| STANDARD.encode(data));
    let (kind, timestamp) = match message.timestamp() {
        Timestamp::CreateTime(at) => (Some("CreateTime"), at),
        Timestamp::LogAppendTime(at) => (Some("LogAppendTime"), at),
        Timestamp::NotAvailable => (None, -1),
    };
    let headers: Vec<Value> = message
        .headers()
        .map(|headers| headers.iter().map(|header| json!([header.key, encoded(header.value)])).collect())
        .unwrap_or_default();
    json!({
        "topic": message.topic(), "partition": message.partition(), "offset": message.offset(), "timestamp_type": kind,
        "timestamp": timestamp, "key": encoded(message.key()), "value": encoded(message.payload()), "headers": headers,
        "arrived_ns": now_ns(),
    })
}

/// What the broker says of a topic. Where its answer is there before the record is, the library says of each that is wrong
/// that it is unknown.
fn why_refused(producer: &Sending, topic: &str, error: KafkaError) -> Failure {
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopic)
        && let Ok(found) = producer.client().fetch_metadata(Some(topic), WAIT)
        && let Some(told) = found.topics().iter().find_map(|each| each.error())
    {
        return Failure { name: code_name(told.into()), message: error.to_string() };
    }
    Failure::from(error)
}

impl Records {
    pub fn new(bootstrap: &str) -> Records {
        Records { bootstrap: bootstrap.to_owned(), producers: Mutex::default() }
    }

    fn reader(&self, settings: &Value) -> Result<BaseConsumer, Failure> {
        let fixed = [
            ("group.id", "compat-reader"),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "error"),
        ];
        Ok(configured(&self.bootstrap, &fixed, settings).create()?)
    }

    fn producer(&self, settings: &Value) -> Result<Arc<Sending>, Failure> {
        let mut producers = self.producers.lock().expect("no panic under the lock");
        let key = settings.to_string();
        if let Some(known) = producers.get(&key) {
            return Ok(Arc::clone(known));
        }
        let made: Sending = configured(&self.bootstrap, &[], settings).create_with_context(Deliveries)?;
        let made = Arc::new(made);
        producers.insert(key, Arc::clone(&made));
        Ok(made)
    }

    pub fn metadata(&self, args: &Value) -> Answer {
        let reader = self.reader(&Value::Null)?;
        let found = reader.fetch_metadata(args["topic"].as_str(), WAIT)?;
        let brokers: Vec<Value> = found
            .brokers()
            .iter()
            .map(|each| json!({"id": each.id(), "host": each.host(), "port": each.port()}))
            .collect();
        let topics: serde_json::Map<String, Value> = found
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|topic| {
                let partitions: Vec<Value> = topic
                    .partitions()
                    .iter()
                    .map(|each| json!({"partition": each.id(), "leader": each.leader(), "replicas": each.replicas()}))
                    .collect();
                (topic.name().to_owned(), Value::from(partitions))
            })
            .collect();
        Ok(json!({"brokers": brokers, "topics": topics}))
    }

    pub fn produce(&self, args: &Value) -> Answer {
        let producer = self.producer(&args["config"])?;
        let topic = text(args, "topic")?;
        let records = args["records"].as_array().map_or(&[][..], Vec::as_slice);
        let (sender, outcomes) = mpsc::channel();
        let sent_ns = now_ns();
        for (index, record) in records.iter().enumerate() {
            let (key, value) = (bytes(&record["key"])?, bytes(&record["value"])?);
            let mut headers = OwnedHeaders::new();
            for pair in record["headers"].as_array().map_or(&[][..], Vec::as_slice) {
                let value = bytes(&pair[1])?;
                headers = headers.insert(Header { key: pair[0].as_str().unwrap_or_default(), value: value.as_deref() });
            }
            let sender = sender.clone();
            let told: Outcome = Box::new(move |outcome| {
                // Nobody listens any more once the operation has timed out.
                let _ = sender.send((index, outcome));
            });
            let mut message: BaseRecord<'_, [u8], [u8], Box<Outcome>> =
                BaseRecord::with_opaque_to(topic, Box::new(told)).headers(headers);
            if let Some(partition) = record["partition"].as_i64() {
                message = message.partition(partition as i32);
            }
            if let Some(key) = &key {
                message = message.key(key.as_slice());
            }
            if let Some(value) = &value {
                message = message.payload(value.as_slice());
            }
            if let Some(at) = record["timestamp"].as_i64() {
                message = message.timestamp(at);
            }
            if let Err((error, message)) = producer.send(message) {
                (message.delivery_opaque)(Err(error));
            }
        }
        drop(sender);
        let mut results = vec![Value::Null; records.len()];
        let deadline = Instant::now() + DELIVERY;
        for _ in 0..records.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            let (index, outcome) =
                outcomes.recv_timeout(left).map_err(|_| Failure::new("DELIVERY_TIMEOUT", "records not delivered"))?;
            results[index] = match outcome {
                Ok((partition, offset)) => json!({"partition": partition, "offset": offset}),
                Err(error) => {
                    let failure = why_refused(&producer, topic, error);
                    json!({"error": failure.name, "message": failure.message})
                }
            };
        }
        Ok(json!({"results": results, "sent_ns": sent_ns, "acked_ns": now_ns()}))
    }

    fn starts(
        reader: &BaseConsumer,
        topic: &str,
        partitions: &[i32],
        start: &Value,
    ) -> Result<TopicPartitionList, Failure> {
        let mut list = TopicPartitionList::new();
        let offset = match start["at"].as_str() {
            Some("beginning") => Offset::Beginning,
            Some("end") => Offset::End,
            _ => Offset::Offset(start["value"].as_i64().unwrap_or_default()),
        };
        for partition in partitions {
            list.add_partition_offset(topic, *partition, offset)?;
        }
        if start["at"] == "timestamp" {
            list = reader.offsets_for_times(list, WAIT)?;
        }
        Ok(list)
    }

    pub fn read(&self, args: &Value) -> Answer {
        let reader = self.reader(&args["config"])?;
        let topic = text(args, "topic")?;
        let partitions: Vec<i32> = args["partitions"]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .filter_map(|each| each.as_i64().map(|each| each as i32))
            .collect();
        reader.assign(&Self::starts(&reader, topic, &partitions, &args["start"])?)?;
        let count = args["count"].as_u64().map(|count| count as usize);
        let deadline = Instant::now() + Duration::from_secs_f64(args["timeout_s"].as_f64().unwrap_or_default());
        let mut records = Vec::new();
        let mut ended = BTreeSet::new();
        while count.map_or(ended.len() < partitions.len(), |count| records.len() < count) {
            if Instant::now() > deadline {
                return Err(Failure::new("READ_TIMEOUT", format!("{} records", records.len())));
            }
            match reader.poll(Duration::from_millis(200)) {
                None => {}
                Some(Ok(message)) => records.push(record_json(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(Err(error)) => {
                    let failure = Failure::from(error);
                    // What the library deals with itself: its broker is away, or comes and goes.
                    if !matches!(
                        failure.name.as_str(),
                        "BrokerTransportFailure" | "AllBrokersDown" | "LeaderNotAvailable"
                    ) {
                        return Err(failure);
                    }
                }
            }
        }
        Ok(json!({"records": records, "ended": ended}))
    }

    pub fn offsets(&self, args: &Value) -> Answer {
        let reader = self.reader(&Value::Null)?;
        let topic = text(args, "topic")?;
        let partition = args["partition"].as_i64().unwrap_or_default() as i32;
        if args["at"] == "timestamp" {
            let mut asked = TopicPartitionList::new();
            asked.add_partition_offset(
                topic,
                partition,
                Offset::Offset(args["timestamp"].as_i64().unwrap_or_default()),
            )?;
            let found = reader.offsets_for_times(asked, WAIT)?;
            let offset = found.elements().first().map_or(Offset::Invalid, |each| each.offset());
            return Ok(Value::from(if let Offset::Offset(offset) = offset { offset } else { -1 }));
        }
        let (low, high) = reader.fetch_watermarks(topic, partition, WAIT)?;
        Ok(Value::from(if args["at"] == "beginning" { low } else { high }))
    }
}

/// Waits until everything the producer holds is delivered or has failed.
pub fn flush(producer: &Sending, wait: Duration) -> Result<(), Failure> {
    Ok(producer.flush(wait)?)
}
