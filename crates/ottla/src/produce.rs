//! `ottla produce`: lines of standard input or files become records.

mod lines;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use ottla_client::{Acks, Client, ClientError, Delivery, PendingDelivery, Producer, ProducerRecord, ProducerSettings};
use ottla_record::{Codec, Compression};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::output::Output;
use crate::process;
use crate::tool::{self, ClusterArguments};
use crate::topic::{counted, parse_setting};
pub use lines::parse_separator;
use lines::{Line, LineFormat, Origin};

/// Whoever waits longer than this is told how far it is, again and again.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(3);
/// The most bytes in a batch: input comes as fast as it can be read.
const BATCH_SIZE: usize = 512 << 10;

#[derive(Debug, Args)]
pub struct ProduceArguments {
    topic: String,
    /// Files with one record a line, instead of standard input; "-" is standard input.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Each line is a key, this separator, and a value; "\t" is a tab.
    #[arg(long, value_name = "TEXT", value_parser = parse_separator)]
    key_separator: Option<String>,
    /// A header of every record; may be repeated.
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = parse_setting)]
    header: Vec<(String, String)>,
    /// Each line begins with headers and a tab: key:value,key:value<TAB>rest.
    #[arg(long)]
    headers: bool,
    /// A key or value that is this text becomes null.
    #[arg(long, value_name = "TEXT")]
    null_marker: Option<String>,
    /// The partition of every record; otherwise the key decides.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    #[arg(long, value_name = "CODEC", default_value = "none", value_parser = parse_codec)]
    compression: Codec,
    /// Who must have a record before it counts as written. "all" also means: once, however often it had to be sent.
    #[arg(long, value_enum, default_value_t = AcksArgument::All)]
    acks: AcksArgument,
    /// Print where each record went as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AcksArgument {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

impl From<AcksArgument> for Acks {
    fn from(acks: AcksArgument) -> Acks {
        match acks {
            AcksArgument::None => Acks::None,
            AcksArgument::Leader => Acks::Leader,
            AcksArgument::All => Acks::All,
        }
    }
}

pub fn parse_codec(name: &str) -> Result<Codec, String> {
    Codec::from_name(name).ok_or_else(|| format!("'{name}' is none of {}", Codec::ALL.map(Codec::name).join(", ")))
}

pub fn run(arguments: &ProduceArguments) -> ExitCode {
    tool::run(produce(arguments))
}

async fn produce(arguments: &ProduceArguments) -> anyhow::Result<()> {
    let client = arguments.cluster.client();
    // Makes the topic if the brokers do that, and fails before anything is read if they do not.
    client.refresh_topic(&arguments.topic, true).await?;
    let producer = Producer::new(client.clone(), settings(arguments))?;
    let format = LineFormat {
        key_separator: arguments.key_separator.clone().map(String::into_bytes),
        headers: arguments.headers,
        null_marker: arguments.null_marker.clone().map(String::into_bytes),
    };
    let mut run = Run {
        arguments,
        client,
        producer,
        format,
        output: Output::new(),
        under_way: VecDeque::new(),
        sent: 0,
        acknowledged: 0,
        failure: None,
    };
    run.everything().await?;
    run.output.flush()?;
    let written = counted(run.acknowledged, "record");
    if let Some(failure) = run.failure {
        return Err(failure.context(format!("stopped after {written}")));
    }
    eprintln!("{written} produced to {}", arguments.topic);
    Ok(())
}

fn settings(arguments: &ProduceArguments) -> ProducerSettings {
    let defaults = ProducerSettings::default();
    ProducerSettings {
        acks: arguments.acks.into(),
        compression: Compression::new(arguments.compression),
        batch_size: BATCH_SIZE,
        // Lingering is no part of what the user set.
        delivery_timeout: arguments.cluster.timeout + defaults.linger,
        // The broker decides what is too large.
        max_request_size: usize::MAX,
        ..defaults
    }
}

/// A record on its way: where it came from, and its result to come.
struct UnderWay {
    origin: Origin,
    result: PendingDelivery,
}

struct Run<'a> {
    arguments: &'a ProduceArguments,
    client: Client,
    producer: Producer,
    format: LineFormat,
    output: Output,
    under_way: VecDeque<UnderWay>,
    sent: i64,
    acknowledged: i64,
    /// The first thing that went wrong; after it nothing more is read.
    failure: Option<anyhow::Error>,
}

impl Run<'_> {
    async fn everything(&mut self) -> anyhow::Result<()> {
        let mut input = Some(lines::read(self.arguments.files.clone()));
        let mut progress = interval_at(Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = process::stop_signal();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                lines = lines::next(&mut input), if input.is_some() => match lines {
                    None => input = None,
                    Some(Err(error)) => {
                        self.failure.get_or_insert(error);
                        input = None;
                    }
                    Some(Ok(lines)) => self.send(lines).await,
                },
                result = first(&mut self.under_way), if !self.under_way.is_empty() => self.settle(result)?,
                _ = progress.tick() => {
                    eprintln!("{} sent, {} acknowledged", counted(self.sent, "record"), self.acknowledged);
                }
                signal = &mut stop, if input.is_some() => {
                    signal.context("signals cannot be watched")?;
                    input = None;
                }
            }
            if self.failure.is_some() {
                input = None;
            }
            if input.is_none() && self.under_way.is_empty() {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, lines: Vec<Line>) {
        for line in lines {
            if self.failure.is_some() {
                return;
            }
            let sent = match self.record(&line) {
                Ok(record) => self.producer.send(record).await.map_err(anyhow::Error::from),
                Err(error) => Err(error),
            };
            match sent {
                Ok(result) => {
                    self.sent += 1;
                    self.under_way.push_back(UnderWay { origin: line.origin, result });
                }
                Err(error) => self.failure = Some(error.context(line.origin)),
            }
        }
    }

    fn record(&self, line: &Line) -> anyhow::Result<ProducerRecord> {
        let parsed = self.format.parse(&line.bytes)?;
        let fixed = self.arguments.header.iter();
        let fixed = fixed.map(|(key, value)| (Bytes::from(key.clone()), Some(Bytes::from(value.clone()))));
        Ok(ProducerRecord {
            topic: self.arguments.topic.clone(),
            partition: self.arguments.partition,
            timestamp: Some(self.client.world().clock.wall_ms()),
            key: parsed.key,
            value: parsed.value,
            headers: fixed.chain(parsed.headers).collect(),
        })
    }

    fn settle(&mut self, (origin, result): (Origin, Result<Delivery, ClientError>)) -> anyhow::Result<()> {
        match result {
            Err(error) => {
                let error = anyhow::Error::from(error).context(origin);
                self.failure.get_or_insert(error);
            }
            Ok(delivery) => {
                self.acknowledged += 1;
                if self.arguments.json {
                    self.output.json_line(&json!({
                        "topic": self.arguments.topic,
                        "partition": delivery.partition,
                        "offset": delivery.offset,
                        "timestamp": delivery.timestamp,
                    }))?;
                    if self.under_way.is_empty() {
                        self.output.flush()?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The result of the oldest record under way, which there must be. Nothing is lost if the future is dropped.
async fn first(under_way: &mut VecDeque<UnderWay>) -> (Origin, Result<Delivery, ClientError>) {
    let Some(oldest) = under_way.front() else { return std::future::pending().await };
    let result = oldest.result.wait().await;
    let origin = oldest.origin.clone();
    under_way.pop_front();
    (origin, result)
}
