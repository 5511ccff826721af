//! `ottla topic`: making, listing, describing and deleting topics.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use ottla_client::{Client, ClientError, ConfigEntry, ConfigSource, NewTopic, StartAt, TopicDescription};
use ottla_types::{ErrorCode, TopicPartition};
use serde_json::{Value, json};

use crate::output::Output;
use crate::table::{Align, Table};
use crate::tool::{self, ClusterArguments};

#[derive(Debug, Args)]
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
    Create {
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// How many partitions; otherwise the broker's num.partitions.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// On how many brokers each partition is; otherwise the broker's default.replication.factor.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A setting of the topic, such as retention.ms=3600000; may be repeated.
        #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_setting)]
        configs: Vec<(String, String)>,
        /// A topic that exists is no error.
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List topics.
    List {
        /// Leave out topics of the cluster's own, such as __consumer_offsets.
        #[arg(long)]
        exclude_internal: bool,
    },
    /// Show partitions, offsets and settings of topics.
    Describe {
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// Show every setting, not only those that differ from Kafka's defaults.
        #[arg(long)]
        all_configs: bool,
    },
    /// Delete topics and all their records.
    Delete {
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// A topic that does not exist is no error.
        #[arg(long)]
        if_exists: bool,
    },
}

pub fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("'{text}' is not KEY=VALUE")),
    }
}

pub fn run(arguments: &TopicArguments) -> ExitCode {
    tool::run(async {
        let client = arguments.cluster.client();
        let mut output = Output::new();
        let json = arguments.json;
        match &arguments.command {
            TopicCommand::Create { topics, partitions, replication_factor, configs, if_not_exists } => {
                let template = NewTopic {
                    name: String::new(),
                    partitions: *partitions,
                    replication_factor: *replication_factor,
                    configs: configs.clone(),
                };
                create(&client, &mut output, topics, &template, *if_not_exists, json).await?;
            }
            TopicCommand::List { exclude_internal } => list(&client, &mut output, *exclude_internal, json).await?,
            TopicCommand::Describe { topics, all_configs } => {
                describe(&client, &mut output, topics, *all_configs, json).await?;
            }
            TopicCommand::Delete { topics, if_exists } => {
                delete(&client, &mut output, topics, *if_exists, json).await?;
            }
        }
        output.flush()
    })
}

async fn create(
    client: &Client,
    output: &mut Output,
    topics: &[String],
    template: &NewTopic,
    if_not_exists: bool,
    json: bool,
) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    for name in topics {
        let topic = NewTopic { name: name.clone(), ..template.clone() };
        let created = match client.create_topic(&topic).await {
            Err(error) if if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => None,
            created => Some(created?),
        };
        let text = match &created {
            None => format!("{name} exists already"),
            Some(created) => format!("{name} created with {}", counted(created.partitions.into(), "partition")),
        };
        documents.push(match created {
            None => json!({"topic": name, "created": false}),
            Some(created) => json!({
                "topic": name,
                "created": true,
                "id": created.topic_id.to_string(),
                "partitions": created.partitions,
                "replication_factor": created.replication_factor,
            }),
        });
        if !json {
            output.line(text)?;
            output.flush()?;
        }
    }
    if json { output.json_document(&Value::Array(documents)) } else { Ok(()) }
}

async fn list(client: &Client, output: &mut Output, exclude_internal: bool, json: bool) -> anyhow::Result<()> {
    let cluster = client.metadata(None, false).await?;
    let topics = cluster.topics.into_values().filter_map(Result::ok);
    let topics: Vec<_> = topics.filter(|topic| !(exclude_internal && topic.internal)).collect();
    if json {
        let documents = topics.iter().map(|topic| summary(topic)).collect();
        return output.json_document(&Value::Array(documents));
    }
    if topics.is_empty() {
        return output.line("There are no topics yet; create one with `ottla topic create NAME`.");
    }
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("PARTITIONS", Align::Right),
        ("REPLICAS", Align::Right),
        ("ID", Align::Left),
    ]);
    for topic in topics {
        table.row([
            topic.name.to_string(),
            topic.partitions.len().to_string(),
            replication_factor(&topic).to_string(),
            topic.topic_id.to_string(),
        ]);
    }
    output.line(table.render())
}

async fn describe(
    client: &Client,
    output: &mut Output,
    topics: &[String],
    all_configs: bool,
    json: bool,
) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    for (position, name) in topics.iter().enumerate() {
        let topic = client.refresh_topic(name, false).await?;
        // Nobody can be asked for the offsets of a partition without a leader; the rest is told all the same.
        let led = topic.partitions.values().filter(|partition| partition.leader.is_some());
        let partitions: Vec<TopicPartition> =
            led.map(|partition| TopicPartition::new(name.as_str(), partition.partition)).collect();
        let beginnings = client.resolve_offsets(&partitions, StartAt::Beginning).await?;
        let ends = client.resolve_offsets(&partitions, StartAt::End).await?;
        let mut configs = client.topic_configs(name).await?;
        configs.retain(|config| all_configs || config.source == ConfigSource::Topic);
        let offset = |offsets: &std::collections::BTreeMap<TopicPartition, i64>, partition: i32| {
            offsets.get(&TopicPartition::new(name.as_str(), partition)).copied()
        };
        if json {
            let mut document = summary(&topic);
            document["partitions"] = topic
                .partitions
                .values()
                .map(|partition| {
                    json!({
                        "partition": partition.partition,
                        "leader": partition.leader,
                        "leader_epoch": partition.leader_epoch,
                        "replicas": partition.replicas,
                        "isr": partition.isr,
                        "log_start_offset": offset(&beginnings, partition.partition),
                        "end_offset": offset(&ends, partition.partition),
                    })
                })
                .collect();
            document["configs"] = configs.iter().map(config_document).collect();
            documents.push(document);
            continue;
        }
        if position > 0 {
            output.line("")?;
        }
        output.line(format_args!("Topic     {name}"))?;
        output.line(format_args!("Id        {}", topic.topic_id))?;
        output.line(format_args!("Replicas  {}", replication_factor(&topic)))?;
        for (position, config) in configs.iter().enumerate() {
            let heading = if position == 0 { "Settings" } else { "        " };
            output.line(format_args!("{heading}  {}={}", config.name, config.value.as_deref().unwrap_or("(none)")))?;
        }
        let mut table = Table::new(&[
            ("PARTITION", Align::Right),
            ("LEADER", Align::Right),
            ("EPOCH", Align::Right),
            ("REPLICAS", Align::Left),
            ("ISR", Align::Left),
            ("BEGINNING", Align::Right),
            ("END", Align::Right),
        ]);
        let shown = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        for partition in topic.partitions.values() {
            table.row([
                partition.partition.to_string(),
                partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
                partition.leader_epoch.to_string(),
                joined(&partition.replicas),
                joined(&partition.isr),
                shown(offset(&beginnings, partition.partition)),
                shown(offset(&ends, partition.partition)),
            ]);
        }
        output.line(format_args!("\n{}", table.render()))?;
    }
    if json { output.json_document(&Value::Array(documents)) } else { Ok(()) }
}

async fn delete(
    client: &Client,
    output: &mut Output,
    topics: &[String],
    if_exists: bool,
    json: bool,
) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    for name in topics {
        let deleted = match client.delete_topic(name).await {
            Err(ClientError::Topic { code: ErrorCode::UnknownTopicOrPartition, .. }) if if_exists => false,
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

fn summary(topic: &TopicDescription) -> Value {
    json!({
        "topic": &*topic.name,
        "id": topic.topic_id.to_string(),
        "internal": topic.internal,
        "partitions": topic.partitions.len(),
        "replication_factor": replication_factor(topic),
    })
}

fn config_document(config: &ConfigEntry) -> Value {
    json!({"name": config.name, "value": config.value, "source": config.source.name()})
}

fn replication_factor(topic: &TopicDescription) -> usize {
    topic.partitions.values().map(|partition| partition.replicas.len()).max().unwrap_or(0)
}

fn joined(nodes: &[i32]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// "1 record", "2 records".
pub fn counted(count: i64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
