//! Ottla's own metadata: files of the quorum's log, and snapshots.

use std::path::Path;

use bytes::Bytes;
use ottla_quorum::{EntryId, Inspected, inspect_metadata};
use serde_json::{Value, json};

use super::{Style, small};
use crate::output::Output;
use crate::topic::counted;

/// Shows what stands in a file; whether it is in order.
pub fn dump(path: &Path, bytes: &Bytes, style: Style, output: &mut Output) -> anyhow::Result<bool> {
    let mut printed = Ok(());
    let outcome = inspect_metadata(bytes, is_last(path), &mut |position, item| {
        if printed.is_ok() {
            printed = show(position, &item, style, output);
        }
    });
    printed?;
    match outcome {
        Ok(()) => Ok(true),
        Err((position, damage)) => small::damage_at(position, &damage.to_string(), style, output),
    }
}

/// Whether no file of the log follows this one.
fn is_last(path: &Path) -> bool {
    let Some(name) = path.file_name() else { return true };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(directory) else { return true };
    !entries.flatten().any(|entry| {
        entry.path().extension().is_some_and(|extension| extension == "log") && entry.file_name().as_os_str() > name
    })
}

fn show(position: u64, item: &Inspected, style: Style, output: &mut Output) -> anyhow::Result<()> {
    if style.json {
        return output.json_line(&document(position, item));
    }
    output.line(format_args!("{} at {position}", text(item)))?;
    if let Inspected::Records { records, .. } | Inspected::Snapshot { records, .. } = item
        && !style.batches_only
    {
        records.iter().try_for_each(|record| output.line(format_args!("  {record:?}")))?;
    }
    Ok(())
}

fn text(item: &Inspected) -> String {
    match item {
        Inspected::Header { voter, sequence } => format!("file {sequence} of voter {voter}"),
        Inspected::Vote { term, voter, committed } => {
            format!("{} for {voter} in term {term}", if *committed { "committed vote" } else { "vote" })
        }
        Inspected::Blank(id) => format!("entry {id}: a leader begins"),
        Inspected::Membership { id, voters } => format!("entry {id}: voters {}", voters.join(", ")),
        Inspected::Records { id, records } => format!("entry {id}: {}", counted(records.len() as i64, "record")),
        Inspected::Truncate(Some(index)) => format!("entries after {index} are removed"),
        Inspected::Truncate(None) => "all entries are removed".to_owned(),
        Inspected::Purge(id) => format!("entries up to {id} are in a snapshot"),
        Inspected::Committed(id) => format!("entries up to {id} are committed"),
        Inspected::Snapshot { last: Some(last), records } => {
            format!("snapshot up to entry {last}: {}", counted(records.len() as i64, "record"))
        }
        Inspected::Snapshot { last: None, records } => {
            format!("snapshot of an empty log: {}", counted(records.len() as i64, "record"))
        }
    }
}

fn document(position: u64, item: &Inspected) -> Value {
    let entry = |kind: &str, id: &EntryId| json!({"kind": kind, "index": id.index, "term": id.term});
    let mut document = match item {
        Inspected::Header { voter, sequence } => json!({"kind": "header", "voter": voter, "sequence": sequence}),
        Inspected::Vote { term, voter, committed } => {
            json!({"kind": "vote", "term": term, "voter": voter, "committed": committed})
        }
        Inspected::Blank(id) => entry("blank", id),
        Inspected::Membership { id, voters } => {
            let mut document = entry("membership", id);
            document["voters"] = json!(voters);
            document
        }
        Inspected::Records { id, .. } => entry("records", id),
        Inspected::Truncate(index) => json!({"kind": "truncate", "index": index}),
        Inspected::Purge(id) => entry("purge", id),
        Inspected::Committed(id) => entry("committed", id),
        Inspected::Snapshot { last, .. } => {
            json!({"kind": "snapshot", "index": last.map(|id| id.index), "term": last.map(|id| id.term)})
        }
    };
    if let Inspected::Records { records, .. } | Inspected::Snapshot { records, .. } = item {
        document["records"] = records.iter().map(|record| format!("{record:?}")).collect();
    }
    document["position"] = json!(position);
    document
}
