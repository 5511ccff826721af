//! `ottla group list`.

use clap::Args;
use ottla_client::{Client, GroupFilter, ListedGroup};
use serde_json::{Value, json};

use crate::output::Output;
use crate::table::{Align, Table};

/// Kafka's, of every kind of group.
const STATES: [&str; 9] = [
    "PreparingRebalance",
    "CompletingRebalance",
    "Stable",
    "Dead",
    "Empty",
    "Assigning",
    "Reconciling",
    "NotReady",
    "Unknown",
];

const TYPES: [&str; 4] = ["Classic", "Consumer", "Share", "Streams"];

#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only groups in one of these states, such as stable,empty.
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = parse_state)]
    states: Vec<String>,
    /// Only groups of these types: classic, consumer, share, streams.
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = parse_type)]
    types: Vec<String>,
}

fn one_of(names: &[&str], text: &str) -> Result<String, String> {
    let found = names.iter().find(|name| name.eq_ignore_ascii_case(text.trim()));
    found.map(|name| (*name).to_owned()).ok_or_else(|| format!("'{text}' is none of {}", names.join(", ")))
}

fn parse_state(text: &str) -> Result<String, String> {
    one_of(&STATES, text)
}

fn parse_type(text: &str) -> Result<String, String> {
    one_of(&TYPES, text)
}

pub async fn list(client: &Client, output: &mut Output, arguments: &ListArguments, json: bool) -> anyhow::Result<()> {
    let filter = GroupFilter { states: arguments.states.clone(), types: arguments.types.clone() };
    let groups = client.list_groups(&filter).await?;
    if json {
        return output.json_document(&groups.iter().map(document).collect::<Value>());
    }
    if groups.is_empty() {
        let filtered = !(filter.states.is_empty() && filter.types.is_empty());
        return output.line(if filtered { "No group is like that." } else { "There are no groups yet." });
    }
    let mut table =
        Table::new(&[("GROUP", Align::Left), ("STATE", Align::Left), ("TYPE", Align::Left), ("PROTOCOL", Align::Left)]);
    for group in groups {
        let protocol = if group.protocol_type.is_empty() { "-".to_owned() } else { group.protocol_type };
        table.row([group.group, group.state, group.group_type.name().to_owned(), protocol]);
    }
    output.line(table.render())
}

fn document(group: &ListedGroup) -> Value {
    json!({
        "group": group.group,
        "state": group.state,
        "type": group.group_type.name(),
        "protocol_type": group.protocol_type,
    })
}
