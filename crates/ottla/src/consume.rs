//! `ottla consume`: the records of a topic, from where one says, alone or as a member of a group.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ottla_client::{
    AutoOffsetReset, Client, ClientError, ConsumedRecord, Consumer, ConsumerSettings, GroupConsumer, GroupSettings,
    StartAt,
};
use ottla_types::TopicPartition;
use serde_json::{Map, Value, json};

use crate::json as as_json;
use crate::output::Output;
use crate::process;
use crate::produce::parse_separator;
use crate::time::parse_timestamp;
use crate::tool::{self, ClusterArguments};
use crate::topic::counted;

/// The most records handed out at once.
const RECORDS_AT_ONCE: usize = 10_000;
const WAIT: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub struct ConsumeArguments {
    topic: String,
    #[command(flatten)]
    start: StartArguments,
    /// Only this partition; may be repeated.
    #[arg(long = "partition", value_name = "N", value_parser = clap::value_parser!(i32).range(0..), conflicts_with = "group")]
    partitions: Vec<i32>,
    /// Read as a member of this group: where it left off, sharing the partitions with its other members.
    #[arg(long, value_name = "GROUP", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    group: Option<String>,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    max_records: Option<u64>,
    /// Stop where the topic ends now.
    #[arg(long)]
    exit_at_end: bool,
    /// Print keys as well, with this between key and value; "\t" is a tab.
    #[arg(long, value_name = "TEXT", value_parser = parse_separator)]
    key_separator: Option<String>,
    /// Print each record as a line of JSON, with its key, headers, offset and timestamp.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct StartArguments {
    /// Begin with the oldest record.
    #[arg(long)]
    from_beginning: bool,
    /// Begin with the next record that is produced; this is the default.
    #[arg(long)]
    from_end: bool,
    /// Begin at this offset of each partition; -N is N records before the end.
    #[arg(long, value_name = "OFFSET", allow_negative_numbers = true, conflicts_with = "group")]
    offset: Option<i64>,
    /// Begin with the first record of this time or later: milliseconds, or UTC as in 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    from_timestamp: Option<i64>,
}

impl StartArguments {
    fn start_at(&self) -> StartAt {
        match (self.offset, self.from_timestamp) {
            (Some(offset), _) if offset < 0 => StartAt::BeforeEnd(offset.saturating_neg()),
            (Some(offset), _) => StartAt::Offset(offset),
            (None, Some(timestamp)) => StartAt::Timestamp(timestamp),
            (None, None) if self.from_beginning => StartAt::Beginning,
            (None, None) => StartAt::End,
        }
    }
}

pub fn run(arguments: &ConsumeArguments) -> ExitCode {
    tool::run(consume(arguments))
}

async fn consume(arguments: &ConsumeArguments) -> anyhow::Result<()> {
    let client = arguments.cluster.client();
    let stop = process::stop_signal();
    tokio::pin!(stop);
    let mut printer = Printer::new(arguments);
    let mut source = tokio::select! {
        source = Source::open(&client, arguments) => source?,
        signal = &mut stop => {
            signal.context("signals cannot be watched")?;
            return printer.conclude();
        }
    };
    // An error must not keep a member from leaving: the group would wait for it.
    let read = tokio::select! {
        read = read(&client, &mut source, &mut printer, arguments.exit_at_end) => read,
        signal = &mut stop => signal.map(|_| ()).context("signals cannot be watched"),
    };
    let left = source.close().await;
    read?;
    left?;
    printer.conclude()
}

async fn read(
    client: &Client,
    source: &mut Source,
    printer: &mut Printer<'_>,
    exit_at_end: bool,
) -> anyhow::Result<()> {
    let mut ends: Option<BTreeMap<TopicPartition, i64>> = None;
    loop {
        if exit_at_end {
            let positions = source.positions();
            // A rebalance brings other partitions.
            if !ends.as_ref().is_some_and(|ends| ends.keys().eq(positions.keys())) {
                let partitions: Vec<TopicPartition> = positions.keys().cloned().collect();
                ends = Some(client.resolve_offsets(&partitions, StartAt::End).await?);
            }
            let end = |partition| ends.as_ref().and_then(|ends| ends.get(partition).copied());
            if positions.iter().all(|(partition, &position)| end(partition).is_some_and(|end| position >= end)) {
                return Ok(());
            }
        }
        let wanted = printer.wanted();
        if wanted == 0 {
            return Ok(());
        }
        let records = source.poll(wanted).await?;
        for record in &records {
            printer.print(record)?;
        }
        if !records.is_empty() {
            printer.output.flush()?;
        }
    }
}

enum Source {
    Alone(Box<Consumer>),
    Member(Box<GroupConsumer>),
}

impl Source {
    async fn open(client: &Client, arguments: &ConsumeArguments) -> Result<Source, ClientError> {
        let start = arguments.start.start_at();
        let topic = client.refresh_topic(&arguments.topic, false).await?;
        if let Some(group) = &arguments.group {
            let settings = GroupSettings::new(group.clone(), vec![arguments.topic.clone()], start);
            let consumer_settings = ConsumerSettings { auto_offset_reset: start.into(), ..ConsumerSettings::default() };
            let joined = GroupConsumer::join(client.clone(), settings, consumer_settings).await?;
            return Ok(Source::Member(Box::new(joined)));
        }
        let mut partitions: Vec<i32> = topic.partitions.keys().copied().collect();
        if !arguments.partitions.is_empty() {
            if let Some(&partition) = arguments.partitions.iter().find(|wanted| !partitions.contains(wanted)) {
                return Err(ClientError::UnknownPartition { topic: arguments.topic.clone(), partition });
            }
            partitions.clone_from(&arguments.partitions);
        }
        let partitions: Vec<TopicPartition> =
            partitions.iter().map(|&partition| TopicPartition::new(arguments.topic.as_str(), partition)).collect();
        let offsets = client.resolve_offsets(&partitions, start).await?;
        if let StartAt::Offset(offset) = start {
            let ends = client.resolve_offsets(&partitions, StartAt::End).await?;
            if let Some((partition, _)) = ends.iter().find(|(_, end)| offset > **end) {
                let (topic, partition) = (partition.topic.to_string(), partition.partition);
                return Err(ClientError::OffsetOutOfRange { topic, partition, offset });
            }
        }
        let alone = ConsumerSettings { auto_offset_reset: AutoOffsetReset::None, ..ConsumerSettings::default() };
        let mut consumer = Consumer::new(client.clone(), alone);
        consumer.assign_at(&offsets);
        Ok(Source::Alone(Box::new(consumer)))
    }

    async fn poll(&mut self, max_records: usize) -> Result<Vec<ConsumedRecord>, ClientError> {
        match self {
            Source::Alone(consumer) => consumer.poll_at_most(max_records, WAIT).await,
            Source::Member(member) => member.poll(max_records, WAIT).await,
        }
    }

    fn positions(&self) -> BTreeMap<TopicPartition, i64> {
        match self {
            Source::Alone(consumer) => consumer.positions(),
            Source::Member(member) => member.positions(),
        }
    }

    async fn close(self) -> Result<(), ClientError> {
        match self {
            Source::Alone(_) => Ok(()),
            Source::Member(member) => member.leave().await,
        }
    }
}

struct Printer<'a> {
    output: Output,
    key_separator: Option<&'a str>,
    json: bool,
    printed: u64,
    max_records: u64,
}

impl Printer<'_> {
    fn new(arguments: &ConsumeArguments) -> Printer<'_> {
        Printer {
            output: Output::new(),
            key_separator: arguments.key_separator.as_deref(),
            json: arguments.json,
            printed: 0,
            max_records: arguments.max_records.unwrap_or(u64::MAX),
        }
    }

    /// How many records may be printed now.
    fn wanted(&self) -> usize {
        usize::try_from(self.max_records - self.printed).map_or(RECORDS_AT_ONCE, |left| left.min(RECORDS_AT_ONCE))
    }

    fn print(&mut self, record: &ConsumedRecord) -> anyhow::Result<()> {
        self.printed += 1;
        if self.json {
            return self.output.json_line(&document(record));
        }
        if let Some(separator) = self.key_separator {
            self.output.bytes(record.key.as_deref().unwrap_or(b"null"))?;
            self.output.bytes(separator.as_bytes())?;
        }
        self.output.bytes(record.value.as_deref().unwrap_or(b"null"))?;
        self.output.bytes(b"\n")
    }

    fn conclude(mut self) -> anyhow::Result<()> {
        self.output.flush()?;
        eprintln!("{} consumed", counted(self.printed as i64, "record"));
        Ok(())
    }
}

fn document(record: &ConsumedRecord) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), json!(&*record.topic));
    object.insert("partition".to_owned(), json!(record.partition));
    object.insert("offset".to_owned(), json!(record.offset));
    object.insert("timestamp".to_owned(), json!(record.timestamp));
    object.insert("timestamp_type".to_owned(), json!(record.timestamp_type.name()));
    as_json::put_bytes(&mut object, "key", record.key.as_deref());
    as_json::put_bytes(&mut object, "value", record.value.as_deref());
    let headers = record.headers.iter().map(|(key, value)| (&key[..], value.as_deref()));
    object.insert("headers".to_owned(), as_json::headers(headers));
    Value::Object(object)
}
