//! `ottla topic alter`.

use clap::Args;
use ottla_client::{Client, ConfigChange, ConfigOperation, ConfigResource};
use serde_json::json;

use super::{counted, parse_assignment, parse_setting};
use crate::config::changes;
use crate::output::Output;

#[derive(Debug, Args)]
pub struct AlterArguments {
    topic: String,
    #[command(flatten)]
    changes: ChangeArguments,
    /// The brokers of each new partition, its first leader first: 1:2,2:1 is one on brokers 1 and 2, one on 2 and 1.
    #[arg(long, value_name = "ID:ID,...", value_parser = parse_assignment, requires = "partitions")]
    replica_assignment: Option<std::vec::Vec<Vec<i32>>>,
    /// Have the broker check it, and change nothing.
    #[arg(long)]
    validate_only: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct ChangeArguments {
    /// How many partitions it shall have. More than now: partitions cannot be taken away, and keys may go to others.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Set a key, such as retention.ms=3600000; may be repeated.
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = parse_setting)]
    configs: Vec<(String, String)>,
    /// Take a key back; may be repeated.
    #[arg(long = "unset", value_name = "KEY")]
    unset: Vec<String>,
}

impl ChangeArguments {
    fn configs(&self) -> Vec<ConfigChange> {
        let set = self.configs.iter().map(|(key, value)| (key, ConfigOperation::Set(value.clone())));
        let unset = self.unset.iter().map(|key| (key, ConfigOperation::Unset));
        set.chain(unset).map(|(key, operation)| ConfigChange { key: key.clone(), operation }).collect()
    }
}

pub async fn alter(client: &Client, output: &mut Output, arguments: &AlterArguments, json: bool) -> anyhow::Result<()> {
    let (name, validate_only) = (&arguments.topic, arguments.validate_only);
    let before = client.refresh_topic(name, false).await?.partitions.len();
    let resource = ConfigResource::topic(name);
    let configs = arguments.changes.configs();
    let assignments = arguments.replica_assignment.as_deref();
    // Two requests: what can be refused of the second is found out before the first.
    if arguments.changes.partitions.is_some() && !configs.is_empty() && !validate_only {
        changes::apply(client, &resource, &configs, true).await?;
    }
    if let Some(partitions) = arguments.changes.partitions {
        client.create_partitions(name, partitions, assignments, validate_only).await?;
        if !json {
            let verb = if validate_only { "could have" } else { "has" };
            output.line(format_args!("{name} {verb} {}, up from {before}", counted(partitions.into(), "partition")))?;
            output.flush()?;
        }
    }
    let planned = match configs.as_slice() {
        [] => None,
        configs => Some(changes::apply(client, &resource, configs, validate_only).await?),
    };
    if json {
        return output.json_document(&json!({
            "topic": name,
            "validate_only": validate_only,
            "partitions": arguments.changes.partitions.map(|after| json!({"old": before, "new": after})),
            "configs": planned.map_or_else(|| json!([]), |planned| planned.document(validate_only)["changes"].take()),
        }));
    }
    if let Some(planned) = planned {
        planned.print_table(output)?;
    }
    if validate_only { output.line("\nNothing was changed. The broker would accept this.") } else { Ok(()) }
}
