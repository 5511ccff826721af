//! `ottla perf`: how fast a cluster takes and gives records, and how long each takes. docs/tools.md says what is measured
//! and what the JSON means.

mod arguments;
mod consuming;
mod cpu;
mod html;
mod ledger;
mod pacer;
mod payload;
mod plot;
mod producing;
mod recorder;
mod report;
mod run;
mod schedule;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use ottla_client::{Client, ClientError, ConsumerSettings, GroupSettings, NewTopic, StartAt, TopicDescription};
use ottla_rt::World;
use ottla_types::{ErrorCode, TopicPartition};

use crate::output::Output;
use crate::tool::{self, ClusterArguments};
use arguments::{ConsumeOptions, LoadOptions, ReportOptions, TopicOptions};
use consuming::{ConsumePlan, Source};
use producing::{ProducePlan, STAMP_BYTES};
use report::{Environment, Kind, Report};
use run::Plan;
use schedule::{Rate, Schedule};

const EXAMPLES: &str = "\
Try it:
  ottla perf produce t --partitions 1 --duration 10s                    the most this broker takes
  ottla perf produce t --rate 1000 --duration 10s --linger 0            what a record waits for its acknowledgement
  ottla perf consume t --from-beginning --exit-at-end                   the most this broker gives
  ottla perf e2e t --rate 1000 --duration 10s --html report.html        from one end to the other, with plots

With a fixed rate latencies are counted from when a record was due, so that a stall is seen by every record it delays.
The fields of --json are explained in docs/tools.md.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PerfArguments {
    #[command(subcommand)]
    command: PerfCommand,
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    report: ReportOptions,
}

#[derive(Debug, Subcommand)]
enum PerfCommand {
    /// Write records; measure rates and acknowledgements.
    Produce {
        #[command(flatten)]
        topic: TopicOptions,
        #[command(flatten)]
        load: LoadOptions,
    },
    /// Read records; measure rates.
    Consume(ConsumeOptions),
    /// Write and read in one process; measure from when a record was due to its receipt.
    #[command(name = "e2e")]
    EndToEnd {
        #[command(flatten)]
        topic: TopicOptions,
        #[command(flatten)]
        load: LoadOptions,
        /// How long a broker may wait for the first record of a fetch.
        #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = crate::time::parse_duration)]
        fetch_max_wait: Duration,
        /// Consumers, each on a thread of its own; they share the partitions.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
        consumers: u16,
    },
}

pub fn run(arguments: &PerfArguments) -> ExitCode {
    tool::run(perf(arguments))
}

async fn perf(arguments: &PerfArguments) -> anyhow::Result<()> {
    let client = arguments.cluster.client();
    let warm_up = warm_up(arguments);
    let plan = match &arguments.command {
        PerfCommand::Produce { topic, load } => {
            prepare_topic(&client, topic).await?;
            let producers = producers(arguments, topic, load, warm_up, None)?;
            Plan { producers, consumers: Vec::new(), warm_up, settings: settings(topic, load, warm_up) }
        }
        PerfCommand::Consume(options) => {
            let consumers = consumers(&client, arguments, options, warm_up).await?;
            Plan { producers: Vec::new(), consumers, warm_up, settings: options.settings(warm_up) }
        }
        PerfCommand::EndToEnd { topic, load, fetch_max_wait, consumers } => {
            let described = prepare_topic(&client, topic).await?;
            // Other runs may use the topic too, now or before.
            let run = ottla_rt::random_u64(&*World::os().entropy);
            let producers = producers(arguments, topic, load, warm_up, Some(run))?;
            let settings = ConsumerSettings { fetch_max_wait: *fetch_max_wait, ..ConsumerSettings::default() };
            let offsets = client.resolve_offsets(&partitions_of(&described), StartAt::End).await?;
            let consumers = shared_out(&offsets, usize::from(*consumers)).into_iter().map(|offsets| ConsumePlan {
                source: Source::Partitions(offsets),
                settings: settings.clone(),
                records: None,
                duration: None,
                ends: None,
                stamp: Some(run),
                patience: Duration::MAX,
            });
            Plan { producers, consumers: consumers.collect(), warm_up, settings: self::settings(topic, load, warm_up) }
        }
    };
    let kind = match arguments.command {
        PerfCommand::Produce { .. } => Kind::Produce,
        PerfCommand::Consume(_) => Kind::Consume,
        PerfCommand::EndToEnd { .. } => Kind::EndToEnd,
    };
    let environment = Environment::here(&arguments.cluster.bootstrap_server().to_string());
    let measured = run::measure(kind, plan, arguments.cluster.clone()).await?;
    let report = Report::new(kind, environment, measured);
    let mut output = Output::new();
    if arguments.report.json {
        output.json_document(&report.json())?;
    } else {
        output.line(report.text())?;
    }
    output.flush()?;
    if let Some(file) = &arguments.report.html {
        write(file, &html::render(&report))?;
    }
    report.verdict()
}

fn warm_up(arguments: &PerfArguments) -> Duration {
    let counted = match &arguments.command {
        PerfCommand::Produce { load, .. } | PerfCommand::EndToEnd { load, .. } => load.records.is_some(),
        PerfCommand::Consume(_) => true,
    };
    let default = if counted { Duration::ZERO } else { Duration::from_secs(1) };
    arguments.report.warm_up.unwrap_or(default)
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    eprintln!("the report is in {}", file.display());
    Ok(())
}

/// Makes the topic if its partitions were named, or if brokers make topics by themselves.
async fn prepare_topic(client: &Client, options: &TopicOptions) -> anyhow::Result<std::sync::Arc<TopicDescription>> {
    if let Some(partitions) = options.partitions {
        let topic = NewTopic {
            name: options.topic.clone(),
            partitions: Some(partitions),
            replication_factor: options.replication_factor,
            configs: options.configs.clone(),
            ..NewTopic::default()
        };
        match client.create_topic(&topic).await {
            Err(ClientError::Topic { code: ErrorCode::TopicAlreadyExists, .. }) => {}
            created => {
                created?;
            }
        }
    }
    let described = client.refresh_topic(&options.topic, true).await?;
    let found = described.partitions.len();
    if let Some(partitions) = options.partitions
        && usize::try_from(partitions) != Ok(found)
    {
        anyhow::bail!("topic '{}' exists with {found} partitions, not {partitions}", options.topic);
    }
    Ok(described)
}

fn producers(
    arguments: &PerfArguments,
    topic: &TopicOptions,
    load: &LoadOptions,
    warm_up: Duration,
    stamp: Option<u64>,
) -> anyhow::Result<Vec<ProducePlan>> {
    if stamp.is_some() && *load.record_size.start() < STAMP_BYTES {
        anyhow::bail!("records of e2e carry a time: --record-size is at least {STAMP_BYTES}");
    }
    let count = usize::from(load.producers);
    let duration = load.duration.or_else(|| load.records.is_none().then_some(arguments::DEFAULT_DURATION));
    let plan = |index: usize| ProducePlan {
        topic: topic.topic.clone(),
        schedule: match load.rate {
            Rate::Max => None,
            Rate::PerSecond(rate) => Some(Schedule::new(rate, index, count)),
        },
        records: load
            .records
            .map(|records| records / count as u64 + u64::from((index as u64) < records % count as u64)),
        duration: duration.map(|duration| duration + warm_up),
        sizes: load.record_size.clone(),
        payload: load.payload,
        seed: load.seed.wrapping_add(index as u64),
        key_space: load.key_space,
        stamp,
        settings: load.producer_settings(),
        patience: arguments.cluster.timeout,
    };
    Ok((0..count).map(plan).collect())
}

fn settings(topic: &TopicOptions, load: &LoadOptions, warm_up: Duration) -> Vec<(&'static str, serde_json::Value)> {
    let mut settings = topic.settings();
    settings.extend(load.settings());
    settings.push(("warm_up_seconds", warm_up.as_secs_f64().into()));
    settings
}

async fn consumers(
    client: &Client,
    arguments: &PerfArguments,
    options: &ConsumeOptions,
    warm_up: Duration,
) -> anyhow::Result<Vec<ConsumePlan>> {
    let described = client.refresh_topic(&options.topic, false).await?;
    let partitions = partitions_of(&described);
    let start = if options.from_beginning { StartAt::Beginning } else { StartAt::End };
    let ends = if options.exit_at_end { Some(client.resolve_offsets(&partitions, StartAt::End).await?) } else { None };
    let count = usize::from(options.consumers);
    let sources = if let Some(group) = &options.group {
        let settings = GroupSettings::new(group.clone(), vec![options.topic.clone()], start);
        vec![Source::Group(settings); count]
    } else {
        let offsets = client.resolve_offsets(&partitions, start).await?;
        shared_out(&offsets, count).into_iter().map(Source::Partitions).collect()
    };
    let plan = |source| ConsumePlan {
        source,
        settings: options.consumer_settings(start),
        records: options.records,
        duration: options.duration.map(|duration| duration + warm_up),
        ends: ends.clone(),
        stamp: None,
        patience: if options.duration.is_some() { Duration::MAX } else { arguments.cluster.timeout },
    };
    Ok(sources.into_iter().map(plan).collect())
}

fn partitions_of(topic: &TopicDescription) -> Vec<TopicPartition> {
    let partitions = topic.partitions.keys();
    partitions.map(|&partition| TopicPartition::new(std::sync::Arc::clone(&topic.name), partition)).collect()
}

/// The partitions among so many consumers, as evenly as can be; who would have none is left out.
fn shared_out(offsets: &BTreeMap<TopicPartition, i64>, consumers: usize) -> Vec<BTreeMap<TopicPartition, i64>> {
    let mut shares = vec![BTreeMap::new(); consumers.min(offsets.len()).max(1)];
    let count = shares.len();
    for (position, (partition, &offset)) in offsets.iter().enumerate() {
        shares[position % count].insert(partition.clone(), offset);
    }
    shares
}
