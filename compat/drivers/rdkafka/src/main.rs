//! The driver of the crate rdkafka: JSON lines on stdin, one answer each on stdout, requests side by side.

mod admin;
mod consumers;
mod load;
mod records;

use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex, OnceLock};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde_json::{Map, Value, json};

use crate::admin::Admin;
use crate::consumers::Consumers;
use crate::load::Loads;
use crate::records::Records;

const CAPABILITIES: &[&str] = &[
    "assign",
    "commit",
    "cooperative",
    "empties",
    "empty-records",
    "eof",
    "group",
    "idempotence",
    "load",
    "log-append-time",
    "lz4",
    "null-headers",
    "offset-reset",
    "offsets-of-acks",
    "ordered-headers",
    "range",
    "reconnect",
    "roundrobin",
    "seek",
    "snappy",
    "static",
    "timestamps",
    "zstd",
];

/// As Cargo.toml pins it; the crate does not tell.
const RDKAFKA_VERSION: &str = "0.39.0";

/// What a failed operation answers: Kafka's name of the error where it has one, and words.
pub struct Failure {
    pub name: String,
    pub message: String,
}

impl Failure {
    pub fn new(name: &str, message: impl ToString) -> Failure {
        Failure { name: name.to_owned(), message: message.to_string() }
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Failure {
        let code = match &error {
            KafkaError::AdminOp(code) => Some(*code),
            other => other.rdkafka_error_code(),
        };
        let name = code.map_or("CLIENT_ERROR".to_owned(), code_name);
        Failure { name, message: error.to_string() }
    }
}

/// Kafka's name of a code that librdkafka gives.
pub fn code_name(code: RDKafkaErrorCode) -> String {
    use RDKafkaErrorCode as Code;
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => "UNKNOWN_TOPIC_OR_PARTITION",
        Code::MessageSizeTooLarge => "MESSAGE_TOO_LARGE",
        Code::InvalidTopic => "INVALID_TOPIC_EXCEPTION",
        Code::OffsetOutOfRange => "OFFSET_OUT_OF_RANGE",
        Code::InvalidTimestamp => "INVALID_TIMESTAMP",
        Code::InvalidRecord => "INVALID_RECORD",
        Code::MessageTimedOut => "DELIVERY_TIMEOUT",
        Code::AutoOffsetReset => "NO_OFFSET_AND_NO_RESET",
        Code::FencedInstanceId => "FENCED_INSTANCE_ID",
        other => return kafka_spelling(&format!("{other:?}")),
    }
    .to_owned()
}

/// Words run together, as Kafka spells them: `TopicAlreadyExists` is TOPIC_ALREADY_EXISTS.
pub fn kafka_spelling(name: &str) -> String {
    let mut spelled = String::new();
    let mut before = 'A';
    for letter in name.chars() {
        if letter.is_uppercase() && before.is_lowercase() {
            spelled.push('_');
        }
        spelled.extend(letter.to_uppercase());
        before = letter;
    }
    spelled
}

pub type Answer = Result<Value, Failure>;

/// A consumer's or a producer's configuration, from settings under the Java clients' names.
pub fn configured(bootstrap: &str, fixed: &[(&str, &str)], settings: &Value) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .set("log.connection.close", "false");
    for (key, value) in fixed {
        config.set(*key, *value);
    }
    for (key, value) in settings.as_object().unwrap_or(&Map::new()) {
        let value = value.as_str().unwrap_or_default();
        let name = match key.as_str() {
            "fetch.max.wait.ms" => "fetch.wait.max.ms",
            "max.request.size" => "message.max.bytes",
            "max.block.ms" => continue, // no such notion: the delivery timeout covers it
            other => other,
        };
        let value = if (name, value) == ("auto.offset.reset", "none") { "error" } else { value };
        config.set(name, value);
    }
    config
}

pub fn text<'a>(args: &'a Value, name: &str) -> Result<&'a str, Failure> {
    args[name].as_str().ok_or_else(|| Failure::new("BAD_ARGUMENTS", format!("{name} is missing")))
}

/// Nanoseconds of a monotonic clock.
pub fn now_ns() -> u64 {
    static BEGAN: OnceLock<std::time::Instant> = OnceLock::new();
    BEGAN.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
}

struct Driver {
    admin: Admin,
    records: Records,
    consumers: Consumers,
    loads: Loads,
}

impl Driver {
    fn new(bootstrap: &str) -> Driver {
        Driver {
            admin: Admin::new(bootstrap),
            records: Records::new(bootstrap),
            consumers: Consumers::new(bootstrap),
            loads: Loads::new(bootstrap),
        }
    }

    fn run(&self, op: &str, args: &Value) -> Answer {
        match op {
            "metadata" => self.records.metadata(args),
            "produce" => self.records.produce(args),
            "read" => self.records.read(args),
            "offsets" => self.records.offsets(args),
            "consumer_open" => self.consumers.open(args),
            "consumer_state" => self.consumers.state(args),
            "consumer_take" => self.consumers.take(args),
            "consumer_do" => self.consumers.act(args),
            "consumer_close" => self.consumers.close(args),
            "load_start" => self.loads.start(args),
            "load_state" => self.loads.state(args),
            "load_stop" => self.loads.stop(args),
            "create_topic" => self.admin.create_topic(args),
            "delete_topic" => self.admin.delete_topic(args),
            "create_partitions" => self.admin.create_partitions(args),
            "delete_records" => self.admin.delete_records(args),
            "describe_cluster" => self.admin.describe_cluster(),
            "describe_configs" => self.admin.describe_configs(args),
            "config_entries" => self.admin.config_entries(args),
            "alter_configs" => self.admin.alter_configs(args),
            "list_groups" => self.admin.list_groups(),
            "describe_group" => self.admin.describe_group(args),
            "delete_group" => self.admin.delete_group(args),
            _ => Err(Failure::new("NO_SUCH_OPERATION", op)),
        }
    }
}

fn hello() -> Value {
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    let version = format!("rdkafka {RDKAFKA_VERSION}, librdkafka {librdkafka}");
    let capabilities = [CAPABILITIES, admin::CAPABILITIES].concat();
    json!({"client": "rdkafka", "version": version, "capabilities": capabilities})
}

fn main() {
    let driver: Arc<Mutex<Option<Arc<Driver>>>> = Arc::default();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let driver = Arc::clone(&driver);
        std::thread::spawn(move || {
            let request: Value = serde_json::from_str(&line).expect("a request in JSON");
            let op = request["op"].as_str().unwrap_or_default();
            let result = if op == "hello" {
                let bootstrap = request["args"]["bootstrap"].as_str().unwrap_or_default();
                *driver.lock().expect("no panic under the lock") = Some(Arc::new(Driver::new(bootstrap)));
                Ok(hello())
            } else {
                let bound = driver.lock().expect("no panic under the lock").clone();
                bound.map_or_else(|| Err(Failure::new("NO_HELLO", op)), |bound| bound.run(op, &request["args"]))
            };
            let answer = match result {
                Ok(result) => json!({"id": request["id"], "result": result}),
                Err(failure) => {
                    eprintln!("{op} failed: {}: {}", failure.name, failure.message);
                    json!({"id": request["id"], "error": {"name": failure.name, "message": failure.message}})
                }
            };
            let mut output = std::io::stdout().lock();
            writeln!(output, "{answer}").and_then(|()| output.flush()).expect("the runner reads answers");
        });
    }
}
