//! `ottla log adopt`: a data directory of Apache Kafka, looked at or taken over.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ottla_adopt::{AdoptOptions, AdoptSettings, AdoptionState, LeftOut, Note, Refusal, Report, execute, inspect};
use ottla_rt::World;
use serde_json::{Value, json};

use crate::output::Output;
use crate::table::{Align, Table};
use crate::tool;
use crate::topic::counted;

/// Notes of one kind that are printed before the others are only counted.
const NOTES_OF_A_KIND: usize = 10;

#[derive(Debug, Args)]
pub struct LogAdoptArguments {
    /// Every directory of Kafka's log.dirs.
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Kafka's metadata.log.dir, if it is set and not one of log.dirs.
    #[arg(long, value_name = "DIR")]
    metadata_log_dir: Option<PathBuf>,
    /// Say what was found and what would change, and change nothing. This is the default.
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Adopt.
    #[arg(long)]
    execute: bool,
    /// Of a cluster of several nodes, keep the replicas that are here and go on with one node.
    #[arg(long)]
    as_single_node: bool,
    /// With --as-single-node: keep replicas that were not in sync too; records acknowledged elsewhere are lost.
    #[arg(long, requires = "as_single_node")]
    accept_out_of_sync: bool,
    /// Leave out ACLs, SCRAM credentials, quotas and delegation tokens, which are not served yet.
    #[arg(long)]
    without_security: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &LogAdoptArguments) -> ExitCode {
    tool::conclude(adopt(arguments))
}

fn adopt(arguments: &LogAdoptArguments) -> anyhow::Result<()> {
    let settings = AdoptSettings {
        log_dirs: arguments.directories.clone(),
        metadata_log_dir: arguments.metadata_log_dir.clone(),
        options: AdoptOptions {
            as_single_node: arguments.as_single_node,
            accept_out_of_sync: arguments.accept_out_of_sync,
            without_security: arguments.without_security,
        },
        features: ottla_broker::supported_features(),
    };
    let world = World::os();
    let report = if arguments.execute { execute(&world, &settings)? } else { inspect(&world, &settings)? };
    let mut output = Output::new();
    if arguments.json {
        output.json_document(&document(&report))?;
    } else {
        print(&report, &mut output)?;
    }
    output.flush()?;
    match report.refusals.len() {
        _ if report.state != AdoptionState::Refused => Ok(()),
        1 => anyhow::bail!("not adopted: {}", report.refusals[0]),
        count => anyhow::bail!("not adopted, for {count} reasons: see above"),
    }
}

fn print(report: &Report, output: &mut Output) -> anyhow::Result<()> {
    print_source(report, output)?;
    let mut topics = Table::new(&[
        ("TOPIC", Align::Left),
        ("PARTITIONS", Align::Right),
        ("FOUND", Align::Right),
        ("BYTES", Align::Right),
        ("ID", Align::Left),
    ]);
    for topic in &report.topics {
        topics.row([
            topic.name.to_string(),
            topic.partitions.to_string(),
            topic.found.to_string(),
            topic.bytes.to_string(),
            topic.topic_id.to_string(),
        ]);
    }
    if !report.topics.is_empty() {
        output.line("")?;
        output.line(topics.render())?;
    }
    section("Left out:", report.left_out.iter().map(LeftOut::to_string).collect(), output)?;
    section("To know:", shortened(&report.notes), output)?;
    section("In the way:", report.refusals.iter().map(Refusal::to_string).collect(), output)?;
    output.line("")?;
    output.line(match report.state {
        AdoptionState::Adoptable => "Nothing was changed. Do it with --execute.",
        AdoptionState::Refused => "Nothing was changed.",
        AdoptionState::Adopted => "Adopted. Kafka's own metadata was left as it is.",
        AdoptionState::AdoptedBefore => "It was adopted before; nothing was changed.",
    })
}

fn print_source(report: &Report, output: &mut Output) -> anyhow::Result<()> {
    let source = &report.source;
    output.line(format_args!("Cluster    {}, node {}", report.cluster_id, report.node_id))?;
    let stop = if report.stopped_cleanly { "in order" } else { "not in order" };
    output.line(format_args!("Stopped    {stop}"))?;
    for directory in &report.directories {
        let partitions = counted(i64::try_from(directory.partitions)?, "partition");
        output.line(format_args!(
            "Directory  {}, {partitions}, {} bytes",
            directory.path.display(),
            directory.bytes
        ))?;
    }
    let snapshot = source.snapshot.as_ref().map_or_else(String::new, |name| format!("{name} and "));
    output.line(format_args!(
        "Metadata   {}: {snapshot}{}, {} up to offset {}",
        report.metadata_log_dir.display(),
        counted(i64::try_from(source.segments)?, "segment"),
        counted(i64::try_from(source.records)?, "record"),
        source.end_offset
    ))?;
    let features: Vec<String> = report
        .features
        .iter()
        .map(|feature| match feature.adopted {
            adopted if adopted == feature.level => format!("{} {adopted}", feature.name),
            adopted => format!("{} {} -> {adopted}", feature.name, feature.level),
        })
        .collect();
    if !features.is_empty() {
        output.line(format_args!("Features   {}", features.join(", ")))?;
    }
    for config in &report.configs {
        let name = if config.name.is_empty() { "(default)" } else { &config.name };
        let keys: Vec<&str> = config.keys.iter().map(|key| &**key).collect();
        output.line(format_args!("Config     {} {name}: {}", config.resource_type, keys.join(", ")))?;
    }
    output.line(format_args!("Producers  ids from {} on are free", report.next_producer_id))
}

fn section(heading: &str, lines: Vec<String>, output: &mut Output) -> anyhow::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    output.line("")?;
    output.line(heading)?;
    for line in lines {
        output.line(format_args!("  {line}"))?;
    }
    Ok(())
}

/// The notes, with keys that are not obeyed gathered once there are many.
fn shortened(notes: &[Note]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut not_obeyed = 0;
    for note in notes {
        if matches!(note, Note::NotObeyed { .. }) {
            not_obeyed += 1;
            if not_obeyed > NOTES_OF_A_KIND {
                continue;
            }
        }
        lines.push(note.to_string());
    }
    if let Some(more) = not_obeyed.checked_sub(NOTES_OF_A_KIND).filter(|more| *more > 0) {
        lines.push(format!("{more} more settings are kept and not obeyed yet: --json lists them"));
    }
    lines
}

fn document(report: &Report) -> Value {
    let source = &report.source;
    json!({
        "state": match report.state {
            AdoptionState::Adoptable => "adoptable",
            AdoptionState::Refused => "refused",
            AdoptionState::Adopted => "adopted",
            AdoptionState::AdoptedBefore => "adopted_before",
        },
        "cluster_id": report.cluster_id,
        "node_id": report.node_id,
        "stopped_cleanly": report.stopped_cleanly,
        "metadata": {
            "directory": report.metadata_log_dir,
            "snapshot": source.snapshot,
            "segments": source.segments,
            "records": source.records,
            "end_offset": source.end_offset,
            "torn_bytes": source.torn_bytes,
            "unfinished_transaction": source.unfinished_transaction,
            "voters": source.voters,
        },
        "directories": report.directories.iter().map(|directory| json!({
            "path": directory.path,
            "id": directory.id.map(|id| id.to_string()),
            "partitions": directory.partitions,
            "bytes": directory.bytes,
        })).collect::<Value>(),
        "topics": report.topics.iter().map(|topic| json!({
            "name": *topic.name,
            "id": topic.topic_id.to_string(),
            "partitions": topic.partitions,
            "found": topic.found,
            "bytes": topic.bytes,
        })).collect::<Value>(),
        "configs": report.configs.iter().map(|config| json!({
            "type": config.resource_type,
            "name": *config.name,
            "keys": config.keys.iter().map(|key| Value::from(&**key)).collect::<Value>(),
        })).collect::<Value>(),
        "features": report.features.iter().map(|feature| json!({
            "name": *feature.name,
            "level": feature.level,
            "adopted": feature.adopted,
        })).collect::<Value>(),
        "next_producer_id": report.next_producer_id,
        "left_out": report.left_out.iter().map(|left_out| json!({
            "kind": left_out.kind(),
            "protects": left_out.protects(),
            "text": left_out.to_string(),
        })).collect::<Value>(),
        "notes": report.notes.iter().map(|note| Value::from(note.to_string())).collect::<Value>(),
        "refusals": report.refusals.iter().map(|refusal| json!({
            "kind": refusal.kind(),
            "text": refusal.to_string(),
        })).collect::<Value>(),
    })
}
