//! `ottla group reset-offsets`: a plan, and on demand its execution.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use ottla_client::{Client, ClientError, CommittedOffset, GroupDescription, PartitionResults, StartAt};
use ottla_types::TopicPartition;
use serde_json::{Value, json};

use super::plan_file;
use super::selection::Selection;
use crate::output::Output;
use crate::table::{Align, Table};
use crate::time::{parse_span, parse_timestamp};
use crate::topic::counted;

#[derive(Debug, Args)]
pub struct ResetArguments {
    group: String,
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    selection: Selection,
    /// Do it. Without this, nothing changes.
    #[arg(long)]
    execute: bool,
    /// Print the plan as lines of topic,partition,offset, as --from-file and Kafka's tools read it.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArguments {
    /// To the oldest records.
    #[arg(long, requires = "selection")]
    to_earliest: bool,
    /// To the end: only what is produced from now on is read.
    #[arg(long, requires = "selection")]
    to_latest: bool,
    /// To this offset.
    #[arg(long, requires = "selection", value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// So many records on, or back with -N.
    #[arg(long, requires = "selection", value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To the first record that is not older than this, such as 30m, 2h, 1d12h or PT2H.
    #[arg(long, requires = "selection", value_name = "DURATION", value_parser = parse_span)]
    by_duration: Option<i64>,
    /// To the first record of this time or later: milliseconds, or UTC as in 2026-01-31T12:00:00Z.
    #[arg(long, requires = "selection", value_name = "TIME", value_parser = parse_timestamp)]
    to_datetime: Option<i64>,
    /// To where the group stands, or the end where it has no offset.
    #[arg(long, requires = "selection")]
    to_current: bool,
    /// To the offsets of a plan: CSV, or the JSON this prints.
    #[arg(long, value_name = "FILE", conflicts_with = "selection")]
    from_file: Option<PathBuf>,
}

/// One partition of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    current: Option<i64>,
    new: i64,
    log_start: i64,
    log_end: i64,
    note: Option<String>,
}

pub async fn reset(client: &Client, output: &mut Output, arguments: &ResetArguments, json: bool) -> anyhow::Result<()> {
    let name = &arguments.group;
    let group = match client.describe_group(name).await {
        Ok(group) => Some(group),
        // Offsets may be laid down before the first member comes.
        Err(ClientError::UnknownGroup { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let active = group.as_ref().filter(|group| !group.members.is_empty());
    if let Some(group) = active.filter(|_| arguments.execute) {
        anyhow::bail!(still_active(group));
    }
    let committed = client.committed_offsets(name).await?;
    let from_file = match &arguments.target.from_file {
        Some(path) => Some(plan_file::read(path, name)?),
        None => None,
    };
    let partitions: BTreeSet<TopicPartition> = match &from_file {
        Some(offsets) => offsets.keys().cloned().collect(),
        None => arguments.selection.partitions(client, &committed).await?,
    };
    if partitions.is_empty() {
        anyhow::bail!("group '{name}' has committed no offsets; name topics with --topic");
    }
    let plan = plan(client, &arguments.target, from_file.as_ref(), &partitions, &committed).await?;
    let failures = if arguments.execute {
        let offsets = plan.iter().map(|(partition, step)| (partition.clone(), step.new)).collect();
        let results = client.commit_group_offsets(name, &offsets).await?;
        let code = |(at, result): (TopicPartition, Result<(), _>)| Some(format!("{at}: {}", result.err()?));
        results.into_iter().filter_map(code).collect()
    } else {
        Vec::new()
    };
    if json {
        output.json_document(&document(name, &plan, arguments.execute))?;
    } else if arguments.csv {
        for (at, step) in &plan {
            output.line(format_args!("{},{},{}", at.topic, at.partition, step.new))?;
        }
    } else {
        output.line(table(&plan))?;
    }
    output.flush()?;
    anyhow::ensure!(failures.is_empty(), "not everything was changed: {}", failures.join("; "));
    if arguments.execute {
        eprintln!("{} of group '{name}' changed", counted(plan.len() as i64, "offset"));
    } else {
        eprintln!("Nothing was changed. Do it with --execute.");
        if let Some(group) = active {
            eprintln!("Before that: {}", still_active(group));
        }
        if group.is_none() {
            eprintln!("There is no group '{name}' yet; --execute makes it.");
        }
    }
    Ok(())
}

fn still_active(group: &GroupDescription) -> String {
    const NAMED: usize = 3;
    let mut members: Vec<String> = group
        .members
        .iter()
        .take(NAMED)
        .map(|member| format!("{} at {}", member.client_id, member.client_host.trim_start_matches('/')))
        .collect();
    if group.members.len() > NAMED {
        members.push("others".to_owned());
    }
    format!(
        "group '{}' is in use by {} ({}), who would overwrite its offsets; stop them all and try again when \
         `ottla group describe {}` says Empty (a member that was killed is gone after its session timeout)",
        group.group,
        counted(group.members.len() as i64, "member"),
        members.join(", "),
        group.group
    )
}

async fn plan(
    client: &Client,
    target: &TargetArguments,
    from_file: Option<&BTreeMap<TopicPartition, i64>>,
    partitions: &BTreeSet<TopicPartition>,
    committed: &BTreeMap<TopicPartition, CommittedOffset>,
) -> anyhow::Result<BTreeMap<TopicPartition, Step>> {
    let all: Vec<TopicPartition> = partitions.iter().cloned().collect();
    let starts = existing(client.resolve_each_offset(&all, StartAt::Beginning).await?)?;
    let ends = existing(client.resolve_each_offset(&all, StartAt::End).await?)?;
    let time = match (target.to_datetime, target.by_duration) {
        (Some(time), _) => Some(time),
        (None, Some(ago)) => Some(client.world().clock.wall_ms().saturating_sub(ago)),
        (None, None) => None,
    };
    let of_time = match time {
        Some(time) => existing(client.resolve_each_offset(&all, StartAt::Timestamp(time)).await?)?,
        None => BTreeMap::new(),
    };
    let mut plan = BTreeMap::new();
    for partition in partitions {
        let (log_start, log_end) = (starts[partition], ends[partition]);
        let current = committed.get(partition).map(|committed| committed.offset);
        let wanted = if let Some(offsets) = from_file {
            offsets[partition]
        } else if let Some(offset) = target.to_offset {
            offset
        } else if let Some(shift) = target.shift_by {
            let Some(current) = current else {
                anyhow::bail!("{partition} cannot be shifted: the group has no offset there");
            };
            current.saturating_add(shift)
        } else if time.is_some() {
            of_time[partition]
        } else if target.to_current {
            current.unwrap_or(log_end)
        } else if target.to_earliest {
            log_start
        } else {
            log_end
        };
        plan.insert(partition.clone(), step(current, wanted, log_start, log_end));
    }
    Ok(plan)
}

/// An offset that does not exist gives way to the nearest that does, as in Kafka's tools.
fn step(current: Option<i64>, wanted: i64, log_start: i64, log_end: i64) -> Step {
    let new = wanted.clamp(log_start, log_end.max(log_start));
    let note = match wanted {
        _ if wanted < new => Some(format!("{wanted} is before the oldest record")),
        _ if wanted > new => Some(format!("{wanted} is after the end")),
        _ => None,
    };
    Step { current, new, log_start, log_end, note }
}

/// All of them, or the first error: a plan for a part would surprise.
fn existing(offsets: PartitionResults<i64>) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
    offsets.into_iter().map(|(partition, offset)| Ok((partition, offset?))).collect()
}

fn table(plan: &BTreeMap<TopicPartition, Step>) -> String {
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("PARTITION", Align::Right),
        ("CURRENT", Align::Right),
        ("NEW", Align::Right),
        ("BEGINNING", Align::Right),
        ("END", Align::Right),
        ("LAG AFTER", Align::Right),
        ("", Align::Left),
    ]);
    for (at, step) in plan {
        table.row([
            at.topic.to_string(),
            at.partition.to_string(),
            step.current.map_or_else(|| "-".to_owned(), |current| current.to_string()),
            step.new.to_string(),
            step.log_start.to_string(),
            step.log_end.to_string(),
            (step.log_end - step.new).to_string(),
            step.note.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}

fn document(group: &str, plan: &BTreeMap<TopicPartition, Step>, executed: bool) -> Value {
    let partitions: Value = plan
        .iter()
        .map(|(at, step)| {
            json!({
                "topic": &*at.topic,
                "partition": at.partition,
                "current_offset": step.current,
                "new_offset": step.new,
                "log_start_offset": step.log_start,
                "log_end_offset": step.log_end,
                "note": step.note,
            })
        })
        .collect();
    json!({"group": group, "executed": executed, "partitions": partitions})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_stay_in_the_log() {
        for (wanted, new, noted) in [(5, 5, false), (10, 10, false), (3, 5, true), (11, 10, true), (i64::MIN, 5, true)]
        {
            let step = step(Some(7), wanted, 5, 10);
            assert_eq!((step.new, step.note.is_some()), (new, noted), "{wanted}");
        }
    }
}
