//! `ottla config`: what topics, brokers, groups, client metrics and loggers are set to, and changing that.

pub mod changes;
mod entries;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use ottla_client::{ConfigChange, ConfigOperation, ConfigResource, ConfigResourceType};

use crate::output::Output;
use crate::tool::{self, ClusterArguments};
use crate::topic::parse_setting;

const EXAMPLES: &str = "\
Examples:
  ottla config get --topic orders                              what is set for the topic itself
  ottla config get --topic orders --all                        everything that counts for it, and from where
  ottla config set --topic orders retention.ms=3600000 --append cleanup.policy=compact
  ottla config set --broker-default log.retention.ms=3600000 --validate-only
  ottla config unset --topic orders retention.ms";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigCommand,
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Print JSON, for machines.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Show values, where they come from, and whether they can be changed while brokers run.
    Get {
        #[command(flatten)]
        resource: ResourceArguments,
        /// Only these keys.
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        /// Show every key, not only those that were set.
        #[arg(long, conflicts_with = "keys")]
        all: bool,
        /// Say what each key means.
        #[arg(long)]
        docs: bool,
    },
    /// Change keys, all of them or none; every other key stays as it is.
    Set {
        #[command(flatten)]
        resource: ResourceArguments,
        #[command(flatten)]
        changes: SetArguments,
        /// Say what would change, have the broker check it, and change nothing.
        #[arg(long)]
        validate_only: bool,
    },
    /// Take keys back: what counts without them counts again.
    Unset {
        #[command(flatten)]
        resource: ResourceArguments,
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
        /// Say what would change, have the broker check it, and change nothing.
        #[arg(long)]
        validate_only: bool,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ResourceArguments {
    /// A topic.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// One broker.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    broker: Option<i32>,
    /// The dynamic default of all brokers.
    #[arg(long)]
    broker_default: bool,
    /// A consumer group.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// A subscription to the metrics of clients.
    #[arg(long, value_name = "NAME")]
    client_metrics: Option<String>,
    /// The log levels of one broker.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    broker_logger: Option<i32>,
}

impl ResourceArguments {
    fn resource(&self) -> ConfigResource {
        let id = |id: i32| id.to_string();
        let of = |resource_type, name: &Option<String>| Some(ConfigResource::new(resource_type, name.clone()?));
        of(ConfigResourceType::Topic, &self.topic)
            .or_else(|| of(ConfigResourceType::Broker, &self.broker.map(id)))
            .or_else(|| of(ConfigResourceType::BrokerLogger, &self.broker_logger.map(id)))
            .or_else(|| of(ConfigResourceType::Group, &self.group))
            .or_else(|| of(ConfigResourceType::ClientMetrics, &self.client_metrics))
            .unwrap_or_else(|| ConfigResource::new(ConfigResourceType::Broker, ""))
    }
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct SetArguments {
    /// Values to set.
    #[arg(value_name = "KEY=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
    /// Add elements, separated by commas, to a list; may be repeated.
    #[arg(long, value_name = "KEY=ELEMENTS", value_parser = parse_setting)]
    append: Vec<(String, String)>,
    /// Take elements out of a list; may be repeated.
    #[arg(long, value_name = "KEY=ELEMENTS", value_parser = parse_setting)]
    subtract: Vec<(String, String)>,
}

impl SetArguments {
    fn changes(&self) -> Vec<ConfigChange> {
        let change = |key: &String, operation| ConfigChange { key: key.clone(), operation };
        let set = self.set.iter().map(|(key, value)| change(key, ConfigOperation::Set(value.clone())));
        let append = self.append.iter().map(|(key, value)| change(key, ConfigOperation::Append(value.clone())));
        let subtract = self.subtract.iter().map(|(key, value)| change(key, ConfigOperation::Subtract(value.clone())));
        set.chain(append).chain(subtract).collect()
    }
}

pub fn run(arguments: &ConfigArguments) -> ExitCode {
    tool::run(async {
        let client = arguments.cluster.client();
        let mut output = Output::new();
        let json = arguments.json;
        match &arguments.command {
            ConfigCommand::Get { resource, keys, all, docs } => {
                let choice = if *all { show::Choice::All } else { show::Choice::of_keys(keys) };
                show::show(&client, &mut output, &resource.resource(), &choice, *docs, json).await?;
            }
            ConfigCommand::Set { resource, changes, validate_only } => {
                let (resource, changes) = (resource.resource(), changes.changes());
                let planned = changes::apply(&client, &resource, &changes, *validate_only).await?;
                planned.print(&mut output, *validate_only, json)?;
            }
            ConfigCommand::Unset { resource, keys, validate_only } => {
                let unset = |key: &String| ConfigChange { key: key.clone(), operation: ConfigOperation::Unset };
                let changes: Vec<ConfigChange> = keys.iter().map(unset).collect();
                let planned = changes::apply(&client, &resource.resource(), &changes, *validate_only).await?;
                planned.print(&mut output, *validate_only, json)?;
            }
        }
        output.flush()
    })
}
