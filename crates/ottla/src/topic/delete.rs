//! `ottla topic delete` and `ottla topic delete-records`.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::Args;
use ottla_client::{Client, ClientError, StartAt};
use ottla_types::{ErrorCode, TopicPartition};
use serde_json::{Value, json};

use super::counted;
use crate::output::Output;
use crate::table::{Align, Table};
use crate::time::parse_timestamp;

#[derive(Debug, Args)]
pub struct DeleteArguments {
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// A topic that does not exist is no error.
    #[arg(long)]
    if_exists: bool,
}

#[derive(Debug, Args)]
pub struct DeleteRecordsArguments {
    topic: String,
    #[command(flatten)]
    limit: LimitArguments,
    /// Only in this partition; may be repeated.
    #[arg(long = "partition", value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    /// Say what would be deleted, and delete nothing.
    #[arg(long)]
    validate_only: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct LimitArguments {
    /// Records before this offset.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    before_offset: Option<i64>,
    /// Records before the first one of this time or later: milliseconds, or UTC as in 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp)]
    before_time: Option<i64>,
    /// Every record there is now.
    #[arg(long)]
    all: bool,
}

impl LimitArguments {
    fn start_at(&self) -> StartAt {
        match (self.before_offset, self.before_time) {
            (Some(offset), _) => StartAt::Offset(offset),
            (None, Some(time)) => StartAt::Timestamp(time),
            (None, None) => StartAt::End,
        }
    }
}

pub async fn delete(
    client: &Client,
    output: &mut Output,
    arguments: &DeleteArguments,
    json: bool,
) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    for name in &arguments.topics {
        let deleted = match client.delete_topic(name).await {
            Err(ClientError::Topic { code: ErrorCode::UnknownTopicOrPartition, .. }) if arguments.if_exists => false,
            Err(ClientError::Topic { code: ErrorCode::UnknownTopicOrPartition, .. }) => {
                return Err(ClientError::UnknownTopic { topic: name.clone() }).context("nothing to delete");
            }
            done => done.map(|()| true)?,
        };
        documents.push(json!({"topic": name, "deleted": deleted}));
        if !json {
            output.line(format_args!("{name} {}", if deleted { "deleted" } else { "does not exist" }))?;
            output.flush()?;
        }
    }
    if json { output.json_document(&Value::Array(documents)) } else { Ok(()) }
}

/// What is deleted in one partition.
struct Cut {
    beginning: i64,
    before: i64,
}

impl Cut {
    fn records(&self) -> i64 {
        (self.before - self.beginning).max(0)
    }
}

pub async fn delete_records(
    client: &Client,
    output: &mut Output,
    arguments: &DeleteRecordsArguments,
    json: bool,
) -> anyhow::Result<()> {
    let name = &arguments.topic;
    let topic = client.refresh_topic(name, false).await?;
    if let Some(&partition) = arguments.partitions.iter().find(|wanted| !topic.partitions.contains_key(wanted)) {
        return Err(ClientError::UnknownPartition { topic: name.clone(), partition }.into());
    }
    let chosen = topic
        .partitions
        .keys()
        .filter(|partition| arguments.partitions.is_empty() || arguments.partitions.contains(partition));
    let chosen: Vec<TopicPartition> = chosen.map(|&partition| TopicPartition::new(name.as_str(), partition)).collect();
    let beginnings = client.resolve_offsets(&chosen, StartAt::Beginning).await?;
    let ends = client.resolve_offsets(&chosen, StartAt::End).await?;
    let limits = client.resolve_offsets(&chosen, arguments.limit.start_at()).await?;
    if let Some((partition, &offset)) = limits.iter().find(|(partition, offset)| **offset > ends[*partition]) {
        let (topic, partition) = (name.clone(), partition.partition);
        return Err(ClientError::OffsetOutOfRange { topic, partition, offset }.into());
    }
    let cuts: BTreeMap<TopicPartition, Cut> = limits
        .into_iter()
        .map(|(at, before)| {
            let beginning = beginnings[&at];
            (at, Cut { beginning, before: before.max(beginning) })
        })
        .collect();
    let mut failures = Vec::new();
    if !arguments.validate_only {
        let before = cuts.iter().filter(|(_, cut)| cut.records() > 0).map(|(at, cut)| (at.clone(), cut.before));
        let results = client.delete_records(&before.collect()).await?;
        failures.extend(results.into_values().filter_map(Result::err));
    }
    if json {
        let partitions: Value = cuts
            .iter()
            .map(|(at, cut)| {
                json!({
                    "partition": at.partition,
                    "log_start_offset": cut.beginning,
                    "before_offset": cut.before,
                    "offsets": cut.records(),
                })
            })
            .collect();
        output.json_document(
            &json!({"topic": name, "validate_only": arguments.validate_only, "partitions": partitions}),
        )?;
    } else {
        output.line(table(&cuts))?;
        if arguments.validate_only {
            output.line("\nNothing was deleted.")?;
        }
    }
    output.flush()?;
    let count = failures.len() as i64;
    match failures.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(anyhow::Error::from(first).context(format!("{} failed", counted(count, "partition")))),
    }
}

fn table(cuts: &BTreeMap<TopicPartition, Cut>) -> String {
    let mut table = Table::new(&[
        ("PARTITION", Align::Right),
        ("BEGINNING", Align::Right),
        ("NEW BEGINNING", Align::Right),
        ("OFFSETS", Align::Right),
    ]);
    for (at, cut) in cuts {
        table.row([
            at.partition.to_string(),
            cut.beginning.to_string(),
            cut.before.to_string(),
            cut.records().to_string(),
        ]);
    }
    table.render()
}
