//! `ottla topic`: making, listing, describing, changing and deleting topics.

mod alter;
mod create;
mod delete;
mod describe;
mod list;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use ottla_client::TopicDescription;
use serde_json::{Value, json};

use crate::output::Output;
use crate::tool::{self, ClusterArguments};

const EXAMPLES: &str = "\
Examples:
  ottla topic create orders --partitions 3 --config retention.ms=3600000
  ottla topic list 'order*'
  ottla topic alter orders --partitions 6 --config cleanup.policy=compact --validate-only
  ottla topic delete-records orders --before-time 2026-01-31T00:00:00Z";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TopicArguments {
    #[command(subcommand)]
    command: TopicCommand,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Print JSON, for machines.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create topics.
    Create(create::CreateArguments),
    /// List topics.
    List(list::ListArguments),
    /// Show partitions, offsets, sizes and settings of topics.
    Describe(describe::DescribeArguments),
    /// Give a topic more partitions, or other settings.
    Alter(alter::AlterArguments),
    /// Delete the oldest records of a topic.
    DeleteRecords(delete::DeleteRecordsArguments),
    /// Delete topics and all their records.
    Delete(delete::DeleteArguments),
}

pub fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("'{text}' is not KEY=VALUE")),
    }
}

/// The brokers of each partition, as Kafka's tools write it: `1:2,2:1` is partition 0 on brokers 1 and 2, partition 1 on
/// 2 and 1.
fn parse_assignment(text: &str) -> Result<Vec<Vec<i32>>, String> {
    let broker = |text: &str| text.trim().parse::<i32>().ok().filter(|&broker| broker >= 0);
    let partition = |text: &str| text.split(':').map(broker).collect::<Option<Vec<i32>>>();
    text.split(',')
        .map(partition)
        .collect::<Option<_>>()
        .ok_or_else(|| format!("'{text}' is not an assignment such as 1:2,2:1 (partition 0 on brokers 1 and 2, ...)"))
}

pub fn run(arguments: &TopicArguments) -> ExitCode {
    tool::run(async {
        let client = arguments.cluster.client();
        let mut output = Output::new();
        let json = arguments.json;
        match &arguments.command {
            TopicCommand::Create(arguments) => create::create(&client, &mut output, arguments, json).await?,
            TopicCommand::List(arguments) => list::list(&client, &mut output, arguments, json).await?,
            TopicCommand::Describe(arguments) => describe::describe(&client, &mut output, arguments, json).await?,
            TopicCommand::Alter(arguments) => alter::alter(&client, &mut output, arguments, json).await?,
            TopicCommand::DeleteRecords(arguments) => {
                delete::delete_records(&client, &mut output, arguments, json).await?;
            }
            TopicCommand::Delete(arguments) => delete::delete(&client, &mut output, arguments, json).await?,
        }
        output.flush()
    })
}

fn summary(topic: &TopicDescription) -> Value {
    json!({
        "topic": &*topic.name,
        "id": topic.topic_id.to_string(),
        "internal": topic.internal,
        "partitions": topic.partitions.len(),
        "replication_factor": replication_factor(topic),
    })
}

fn replication_factor(topic: &TopicDescription) -> usize {
    topic.partitions.values().map(|partition| partition.replicas.len()).max().unwrap_or(0)
}

/// "1 record", "2 records".
pub fn counted(count: i64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A number of bytes as people say it: `512 B`, `1.5 KiB`.
fn format_bytes(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded up to 1024.0 is one of the next unit.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments() {
        for (text, expected) in [
            ("1", Some(vec![vec![1]])),
            ("1:2,2:1", Some(vec![vec![1, 2], vec![2, 1]])),
            ("0, 3", Some(vec![vec![0], vec![3]])),
            ("", None),
            ("1,", None),
            ("1:", None),
            ("a", None),
            ("-1", None),
        ] {
            assert_eq!(parse_assignment(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn bytes_of_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1.0 MiB"),
            (1 << 40, "1.0 TiB"),
            (i64::MAX, "8.0 EiB"),
        ] {
            assert_eq!(format_bytes(bytes), text);
        }
    }
}
