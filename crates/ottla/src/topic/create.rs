//! `ottla topic create`.

use clap::Args;
use ottla_client::{Client, CreatedTopic, NewTopic};
use ottla_types::ErrorCode;
use serde_json::{Value, json};

use super::{counted, parse_assignment, parse_setting};
use crate::output::Output;

#[derive(Debug, Args)]
pub struct CreateArguments {
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// How many partitions; otherwise the broker's num.partitions.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// On how many brokers each partition is; otherwise the broker's default.replication.factor.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// The brokers of each partition, its first leader first: 1:2,2:1 is partition 0 on brokers 1 and 2, partition 1 on 2
    /// and 1.
    #[arg(
        long,
        value_name = "ID:ID,...",
        value_parser = parse_assignment,
        conflicts_with_all = ["partitions", "replication_factor"]
    )]
    replica_assignment: Option<std::vec::Vec<Vec<i32>>>,
    /// A setting of the topic, such as retention.ms=3600000; may be repeated.
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_setting)]
    configs: Vec<(String, String)>,
    /// A topic that exists is no error.
    #[arg(long)]
    if_not_exists: bool,
    /// Have the broker check it, and make nothing.
    #[arg(long)]
    validate_only: bool,
}

pub async fn create(
    client: &Client,
    output: &mut Output,
    arguments: &CreateArguments,
    json: bool,
) -> anyhow::Result<()> {
    let assignments = arguments.replica_assignment.iter().flatten().cloned();
    let template = NewTopic {
        name: String::new(),
        partitions: arguments.partitions,
        replication_factor: arguments.replication_factor,
        assignments: (0..).zip(assignments).collect(),
        configs: arguments.configs.clone(),
    };
    let mut documents = Vec::new();
    for name in &arguments.topics {
        let topic = NewTopic { name: name.clone(), ..template.clone() };
        let answered = if arguments.validate_only {
            client.validate_new_topic(&topic).await
        } else {
            client.create_topic(&topic).await
        };
        let created = match answered {
            Err(error) if arguments.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => None,
            created => Some(created?),
        };
        documents.push(document(name, created.as_ref(), arguments.validate_only));
        if !json {
            output.line(match &created {
                None => format!("{name} exists already"),
                Some(created) => {
                    let verb = if arguments.validate_only { "could be created" } else { "created" };
                    format!("{name} {verb} with {}", counted(created.partitions.into(), "partition"))
                }
            })?;
            output.flush()?;
        }
    }
    if json { output.json_document(&Value::Array(documents)) } else { Ok(()) }
}

fn document(name: &str, created: Option<&CreatedTopic>, validate_only: bool) -> Value {
    match created {
        None => json!({"topic": name, "created": false}),
        Some(created) if validate_only => json!({
            "topic": name,
            "created": false,
            "validated": true,
            "partitions": created.partitions,
            "replication_factor": created.replication_factor,
        }),
        Some(created) => json!({
            "topic": name,
            "created": true,
            "id": created.topic_id.to_string(),
            "partitions": created.partitions,
            "replication_factor": created.replication_factor,
        }),
    }
}
