//! `ottla log give-back`: a directory with our records, made ready for Apache Kafka.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ottla_adopt::{GiveBackReport, GiveBackSettings, give_back, inspect_give_back};
use ottla_rt::World;
use serde_json::{Value, json};

use crate::output::Output;
use crate::tool;
use crate::topic::counted;

#[derive(Debug, Args)]
pub struct LogGiveBackArguments {
    /// Every directory of Kafka's log.dirs, with Kafka's metadata and our records in place.
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Kafka's metadata.log.dir, if it is set and not one of log.dirs.
    #[arg(long, value_name = "DIR")]
    metadata_log_dir: Option<PathBuf>,
    /// Say what was found and what would change, and change nothing. This is the default.
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Write the leader epochs into Kafka's metadata log.
    #[arg(long)]
    execute: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &LogGiveBackArguments) -> ExitCode {
    tool::conclude(run_give_back(arguments))
}

fn run_give_back(arguments: &LogGiveBackArguments) -> anyhow::Result<()> {
    let settings = GiveBackSettings {
        log_dirs: arguments.directories.clone(),
        metadata_log_dir: arguments.metadata_log_dir.clone(),
    };
    let world = World::os();
    let report = if arguments.execute { give_back(&world, &settings)? } else { inspect_give_back(&world, &settings)? };
    let mut output = Output::new();
    if arguments.json {
        output.json_document(&document(&report))?;
    } else {
        print(&report, &mut output)?;
    }
    output.flush()?;
    Ok(())
}

fn print(report: &GiveBackReport, output: &mut Output) -> anyhow::Result<()> {
    output.line(format_args!("Cluster    {}, node {}", report.cluster_id, report.node_id))?;
    output.line(format_args!("Metadata   {}", report.metadata_log_dir.display()))?;
    if report.torn_bytes > 0 {
        output.line(format_args!("Torn       {} bytes at the end of it, which go", report.torn_bytes))?;
    }
    let highest = |epochs: &mut dyn Iterator<Item = i32>| epochs.max().unwrap_or(0);
    output.line(format_args!(
        "Epochs     {}: up to {} in Kafka's metadata, {} in the logs, {} from now on",
        counted(i64::try_from(report.partitions.len())?, "partition"),
        highest(&mut report.partitions.iter().map(|partition| partition.kafka)),
        highest(&mut report.partitions.iter().filter_map(|partition| partition.log)),
        highest(&mut report.partitions.iter().map(|partition| partition.raised)),
    ))?;
    output.line("")?;
    output.line(if report.done { "Given back. Start Kafka." } else { "Nothing was changed. Do it with --execute." })
}

fn document(report: &GiveBackReport) -> Value {
    json!({
        "state": if report.done { "given_back" } else { "ready" },
        "cluster_id": report.cluster_id,
        "node_id": report.node_id,
        "metadata": { "directory": report.metadata_log_dir, "torn_bytes": report.torn_bytes },
        "partitions": report.partitions.iter().map(|partition| json!({
            "topic": *partition.topic_partition.topic,
            "partition": partition.topic_partition.partition,
            "kafka_epoch": partition.kafka,
            "log_epoch": partition.log,
            "raised_epoch": partition.raised,
        })).collect::<Value>(),
    })
}
