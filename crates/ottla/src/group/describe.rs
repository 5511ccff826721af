//! `ottla group describe`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use clap::Args;
use ottla_client::{Client, ClientError, GroupDescription, GroupFilter, GroupMember};
use ottla_types::TopicPartition;
use serde_json::{Value, json};

use super::lag::{self, PartitionLag};
use crate::output::Output;
use crate::table::{Align, Table, bar};
use crate::time::{format_span, format_timestamp};
use crate::topic::counted;

/// How wide the longest bar is.
const BAR: usize = 20;

#[derive(Debug, Args)]
pub struct DescribeArguments {
    #[arg(required_unless_present = "all", value_name = "GROUP")]
    groups: Vec<String>,
    /// Describe every group of consumers.
    #[arg(long, conflicts_with = "groups")]
    all: bool,
    /// Do not look at the records: how far behind in time stays unknown.
    #[arg(long)]
    no_times: bool,
    /// Leave out the partitions.
    #[arg(long)]
    members_only: bool,
}

pub async fn describe(
    client: &Client,
    output: &mut Output,
    arguments: &DescribeArguments,
    json: bool,
) -> anyhow::Result<()> {
    let names = if arguments.all { all_of_consumers(client).await? } else { arguments.groups.clone() };
    let mut documents = Vec::new();
    for (position, name) in names.iter().enumerate() {
        let group = client.describe_group(name).await?;
        let lags = if arguments.members_only {
            BTreeMap::new()
        } else {
            let assigned: BTreeSet<TopicPartition> =
                group.members.iter().flat_map(|member| member.assignment.iter().cloned()).collect();
            let committed = client.committed_offsets(name).await?;
            let lags = lag::of_group(client, committed, &assigned, !arguments.no_times).await;
            lags.with_context(|| format!("group '{name}'"))?
        };
        if json {
            documents.push(document(&group, &lags));
            continue;
        }
        if position > 0 {
            output.line("")?;
        }
        print(output, &group, &lags, arguments.members_only)?;
        output.flush()?;
    }
    if json { output.json_document(&Value::Array(documents)) } else { Ok(()) }
}

async fn all_of_consumers(client: &Client) -> Result<Vec<String>, ClientError> {
    let groups = client.list_groups(&GroupFilter::default()).await?;
    let of_consumers = groups.into_iter().filter(|group| matches!(group.protocol_type.as_str(), "" | "consumer"));
    Ok(of_consumers.map(|group| group.group).collect())
}

fn print(
    output: &mut Output,
    group: &GroupDescription,
    lags: &BTreeMap<TopicPartition, PartitionLag>,
    members_only: bool,
) -> anyhow::Result<()> {
    output.line(format_args!("Group     {}", group.group))?;
    output.line(format_args!("State     {}", group.state))?;
    output.line(format_args!("Type      {}", group.group_type.name()))?;
    if !group.assignor.is_empty() {
        output.line(format_args!("Assignor  {}", group.assignor))?;
    }
    let members = if group.members.is_empty() { "none".to_owned() } else { group.members.len().to_string() };
    output.line(format_args!("Members   {members}"))?;
    if !members_only {
        let behind: i64 = lags.values().filter_map(PartitionLag::records).sum();
        let oldest = lags.values().filter_map(|lag| lag.lag_ms).max();
        let time = oldest.filter(|&oldest| oldest > 0).map(|oldest| format!(", {}", format_span(oldest)));
        output.line(format_args!("Behind    {}{}", counted(behind, "record"), time.unwrap_or_default()))?;
    }
    if !group.members.is_empty() {
        output.line(format_args!("\n{}", members_table(&group.members)))?;
    }
    if members_only {
        return Ok(());
    }
    if lags.is_empty() {
        return output.line("\nThe group has committed no offsets.");
    }
    output.line(format_args!("\n{}", lags_table(group, lags)))?;
    for (partition, problem) in lags.iter().filter_map(|(at, lag)| Some((at, lag.problem.as_ref()?))) {
        output.line(format_args!("{partition}: {problem}"))?;
    }
    Ok(())
}

fn members_table(members: &[GroupMember]) -> String {
    let mut table = Table::new(&[
        ("MEMBER", Align::Left),
        ("CLIENT", Align::Left),
        ("HOST", Align::Left),
        ("PARTITIONS", Align::Left),
    ]);
    for member in members {
        let name = member.instance_id.as_ref().map_or_else(
            || member.member_id.clone(),
            |instance_id| format!("{} (instance {instance_id})", member.member_id),
        );
        table.row([name, member.client_id.clone(), member.client_host.clone(), partitions_text(&member.assignment)]);
    }
    table.render()
}

/// `orders: 0-2,5 payments: 1`.
fn partitions_text(assignment: &BTreeSet<TopicPartition>) -> String {
    let mut topics: BTreeMap<&str, Vec<(i32, i32)>> = BTreeMap::new();
    for partition in assignment {
        let ranges = topics.entry(&partition.topic).or_default();
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == partition.partition => *last = partition.partition,
            _ => ranges.push((partition.partition, partition.partition)),
        }
    }
    let range = |(first, last): &(i32, i32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let topic = |(topic, ranges): (&str, Vec<(i32, i32)>)| {
        format!("{topic}: {}", ranges.iter().map(range).collect::<Vec<_>>().join(","))
    };
    let text = topics.into_iter().map(topic).collect::<Vec<_>>().join(" ");
    if text.is_empty() { "-".to_owned() } else { text }
}

fn reader_of<'a>(group: &'a GroupDescription, partition: &TopicPartition) -> Option<&'a GroupMember> {
    group.members.iter().find(|member| member.assignment.contains(partition))
}

fn lags_table(group: &GroupDescription, lags: &BTreeMap<TopicPartition, PartitionLag>) -> String {
    let mut columns = vec![
        ("TOPIC", Align::Left),
        ("PARTITION", Align::Right),
        ("COMMITTED", Align::Right),
        ("END", Align::Right),
        ("LAG", Align::Right),
        ("BEHIND", Align::Right),
    ];
    let pictured = crate::output::on_terminal();
    if pictured {
        columns.push(("", Align::Left));
    }
    columns.push(("CLIENT", Align::Left));
    let most = lags.values().filter_map(PartitionLag::records).max().unwrap_or(0);
    let shown = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let mut table = Table::new(&columns);
    for (partition, lag) in lags {
        let mut cells = vec![
            partition.topic.to_string(),
            partition.partition.to_string(),
            shown(lag.committed.as_ref().map(|committed| committed.offset)),
            shown(lag.log_end),
            shown(lag.records()),
            lag.lag_ms.map_or_else(|| "-".to_owned(), format_span),
        ];
        if pictured {
            cells.push(bar(lag.records().unwrap_or(0), most, BAR));
        }
        cells.push(reader_of(group, partition).map_or_else(|| "-".to_owned(), |member| member.client_id.clone()));
        table.cells(cells);
    }
    table.render()
}

fn document(group: &GroupDescription, lags: &BTreeMap<TopicPartition, PartitionLag>) -> Value {
    let members: Value = group
        .members
        .iter()
        .map(|member| {
            let assignment: Value =
                member.assignment.iter().map(|at| json!({"topic": &*at.topic, "partition": at.partition})).collect();
            json!({
                "member_id": member.member_id,
                "instance_id": member.instance_id,
                "client_id": member.client_id,
                "client_host": member.client_host,
                "assignment": assignment,
            })
        })
        .collect();
    let partitions: Value = lags
        .iter()
        .map(|(at, lag)| {
            json!({
                "topic": &*at.topic,
                "partition": at.partition,
                "committed_offset": lag.committed.as_ref().map(|committed| committed.offset),
                "committed_leader_epoch": lag.committed.as_ref().and_then(|committed| committed.leader_epoch),
                "committed_metadata": lag.committed.as_ref().map(|committed| &committed.metadata),
                "log_start_offset": lag.log_start,
                "log_end_offset": lag.log_end,
                "lag_records": lag.records(),
                "lag_ms": lag.lag_ms,
                "next_record_time": lag.next_record_ms.map(format_timestamp),
                "member_id": reader_of(group, at).map(|member| &member.member_id),
                "problem": lag.problem,
            })
        })
        .collect();
    json!({
        "group": group.group,
        "type": group.group_type.name(),
        "state": group.state,
        "protocol_type": group.protocol_type,
        "assignor": group.assignor,
        "members": members,
        "partitions": partitions,
        "lag_records": lags.values().filter_map(PartitionLag::records).sum::<i64>(),
        "lag_ms": lags.values().filter_map(|lag| lag.lag_ms).max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_in_few_words() {
        let assignment = |partitions: &[(&str, i32)]| {
            partitions.iter().map(|&(topic, partition)| TopicPartition::new(topic, partition)).collect()
        };
        for (partitions, expected) in [
            (&[][..], "-"),
            (&[("t", 0)], "t: 0"),
            (&[("t", 0), ("t", 1), ("t", 2), ("t", 5), ("u", 1)], "t: 0-2,5 u: 1"),
            (&[("t", 9), ("t", 10), ("t", 12), ("t", 13)], "t: 9-10,12-13"),
        ] {
            assert_eq!(partitions_text(&assignment(partitions)), expected);
        }
    }
}
