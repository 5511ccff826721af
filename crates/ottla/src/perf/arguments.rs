//! What one can say to `ottla perf`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ottla_client::{Acks, ConsumerSettings, ProducerSettings, StartAt};
use ottla_record::{Codec, Compression};
use serde_json::{Value, json};

use super::payload::{PayloadKind, parse_sizes};
use super::schedule::{Rate, parse_rate};
use crate::produce::{AcksArgument, parse_codec};
use crate::time::parse_duration;
use crate::topic::parse_setting;

/// How long is produced if neither a duration nor a number of records is given.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct ReportOptions {
    /// Time at the start that is shown but does not count, in whole seconds; 1s unless the load is counted by --records,
    /// or is to be consumed.
    #[arg(long, value_name = "DURATION", value_parser = parse_wait, global = true)]
    pub warm_up: Option<Duration>,
    /// Print the result as JSON, for machines.
    #[arg(long, global = true)]
    pub json: bool,
    /// Write a report with plots, one file that needs no other.
    #[arg(long, value_name = "FILE", global = true)]
    pub html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct TopicOptions {
    pub topic: String,
    /// Make the topic with so many partitions if it does not exist.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: Option<i32>,
    /// On how many brokers each partition of a topic that is made is.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..), requires = "partitions")]
    pub replication_factor: Option<i16>,
    /// A setting of a topic that is made; may be repeated.
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_setting, requires = "partitions")]
    pub configs: Vec<(String, String)>,
}

impl TopicOptions {
    pub fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("topic", json!(self.topic)), ("partitions", json!(self.partitions))]
    }
}

#[derive(Debug, Args)]
pub struct LoadOptions {
    /// Records a second by all producers together, whatever the broker does (an open loop); or max: as fast as
    /// --buffer-memory allows (a closed loop).
    #[arg(long, value_name = "N", default_value = "max", value_parser = parse_rate)]
    pub rate: Rate,
    /// Stop after so many records, warm-up included.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub records: Option<u64>,
    /// Stop after this time, not counting the warm-up; 10s if --records is not given either.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Bytes of a value, or two numbers between which they vary, such as 100-2000.
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = parse_sizes)]
    pub record_size: RangeInclusive<usize>,
    /// What values contain; it decides how well they compress.
    #[arg(long, value_enum, default_value_t = PayloadKind::Text)]
    pub payload: PayloadKind,
    /// Other values and keys for another number.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How many different keys there are; 0 is records without a key.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub key_space: u64,
    /// Producers, each on a thread and connections of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub producers: u16,
    /// Who must have a record before it is acknowledged.
    #[arg(long, value_enum, default_value_t = AcksArgument::All)]
    pub acks: AcksArgument,
    /// Whether a batch is written once however often it is sent; only with acks=all.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub idempotence: bool,
    #[arg(long, value_name = "CODEC", default_value = "none", value_parser = parse_codec)]
    pub compression: Codec,
    /// How long a batch that is not full waits for more records.
    #[arg(long, value_name = "DURATION", default_value = "5ms", value_parser = parse_wait)]
    pub linger: Duration,
    /// The most bytes of a batch before compression.
    #[arg(long, value_name = "BYTES", default_value_t = 512 << 10, value_parser = parse_bytes)]
    pub batch_size: usize,
    /// The most bytes of each producer's records that are not acknowledged.
    #[arg(long, value_name = "BYTES", default_value_t = 32 << 20, value_parser = parse_bytes)]
    pub buffer_memory: usize,
    /// How many batches of a partition may be under way.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_in_flight: u16,
    /// How long a record is tried.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    pub delivery_timeout: Duration,
}

impl LoadOptions {
    pub fn producer_settings(&self) -> ProducerSettings {
        ProducerSettings {
            acks: Acks::from(self.acks),
            enable_idempotence: self.idempotence,
            compression: Compression::new(self.compression),
            batch_size: self.batch_size,
            linger: self.linger,
            buffer_memory: self.buffer_memory,
            max_in_flight_requests_per_connection: usize::from(self.max_in_flight),
            delivery_timeout: self.delivery_timeout,
            // The broker decides what is too large.
            max_request_size: usize::MAX,
            ..ProducerSettings::default()
        }
    }

    pub fn settings(&self) -> Vec<(&'static str, Value)> {
        let (smallest, largest) = (self.record_size.start(), self.record_size.end());
        vec![
            (
                "rate",
                match self.rate {
                    Rate::Max => json!("max"),
                    Rate::PerSecond(rate) => json!(rate),
                },
            ),
            ("records", json!(self.records)),
            ("duration_seconds", json!(self.duration.map(|duration| duration.as_secs_f64()))),
            ("record_size", if smallest == largest { json!(smallest) } else { json!(format!("{smallest}-{largest}")) }),
            ("payload", json!(self.payload.name())),
            ("seed", json!(self.seed)),
            ("key_space", json!(self.key_space)),
            ("producers", json!(self.producers)),
            ("acks", json!(self.acks.to_possible_value().map(|value| value.get_name().to_owned()))),
            ("idempotence", json!(self.idempotence && self.acks == AcksArgument::All)),
            ("compression", json!(self.compression.name())),
            ("linger_ms", json!(self.linger.as_millis() as u64)),
            ("batch_size", json!(self.batch_size)),
            ("buffer_memory", json!(self.buffer_memory)),
            ("max_in_flight", json!(self.max_in_flight)),
        ]
    }
}

#[derive(Debug, Args)]
pub struct ConsumeOptions {
    pub topic: String,
    /// Begin with the oldest record, not with the next one.
    #[arg(long)]
    pub from_beginning: bool,
    /// Read as members of this group.
    #[arg(long, value_name = "GROUP", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub group: Option<String>,
    /// Stop after so many records, warm-up included.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub records: Option<u64>,
    /// Stop after this time, not counting the warm-up.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Stop where the topic ends now.
    #[arg(long)]
    pub exit_at_end: bool,
    /// Consumers, each on a thread of its own; they share the partitions.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub consumers: u16,
    /// How long a broker may wait for the first record of a fetch.
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = parse_duration)]
    pub fetch_max_wait: Duration,
    /// The most bytes of an answer.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20, value_parser = parse_fetch_bytes)]
    pub fetch_max_bytes: i32,
    /// The most bytes of an answer for one partition.
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, value_parser = parse_fetch_bytes)]
    pub max_partition_fetch_bytes: i32,
}

impl ConsumeOptions {
    pub fn consumer_settings(&self, start: StartAt) -> ConsumerSettings {
        ConsumerSettings {
            fetch_max_bytes: self.fetch_max_bytes,
            max_partition_fetch_bytes: self.max_partition_fetch_bytes,
            fetch_max_wait: self.fetch_max_wait,
            auto_offset_reset: start.into(),
            ..ConsumerSettings::default()
        }
    }

    pub fn settings(&self, warm_up: Duration) -> Vec<(&'static str, Value)> {
        vec![
            ("topic", json!(self.topic)),
            ("from_beginning", json!(self.from_beginning)),
            ("group", json!(self.group)),
            ("records", json!(self.records)),
            ("duration_seconds", json!(self.duration.map(|duration| duration.as_secs_f64()))),
            ("exit_at_end", json!(self.exit_at_end)),
            ("consumers", json!(self.consumers)),
            ("fetch_max_wait_ms", json!(self.fetch_max_wait.as_millis() as u64)),
            ("fetch_max_bytes", json!(self.fetch_max_bytes)),
            ("max_partition_fetch_bytes", json!(self.max_partition_fetch_bytes)),
            ("warm_up_seconds", json!(warm_up.as_secs_f64())),
        ]
    }
}

/// A duration, or 0 for none.
fn parse_wait(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    if !digits.is_empty() && digits.bytes().all(|digit| digit == b'0') {
        Ok(Duration::ZERO)
    } else {
        parse_duration(text)
    }
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    const MOST: usize = 1 << 30;
    let bytes = text.parse().ok().filter(|bytes| (1..=MOST).contains(bytes));
    bytes.ok_or_else(|| format!("'{text}' is not a number of bytes from 1 to {MOST}"))
}

fn parse_fetch_bytes(text: &str) -> Result<i32, String> {
    parse_bytes(text).and_then(|bytes| i32::try_from(bytes).map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_may_be_nothing() {
        for (text, wait) in [
            ("0", Some(Duration::ZERO)),
            ("0ms", Some(Duration::ZERO)),
            ("5ms", Some(Duration::from_millis(5))),
            ("10s", Some(Duration::from_secs(10))),
            ("ms", None),
            ("", None),
        ] {
            assert_eq!(parse_wait(text).ok(), wait, "{text}");
        }
    }
}
