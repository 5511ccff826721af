//! `ottla log dump`: what is in the files of a log directory, damage included.
//!
//! It reads files only, with parsers of its own that go on where the broker's would rightly give up.

mod metadata;
mod offsets;
mod segment;
mod small;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::output::Output;
use crate::tool;

#[derive(Debug, Args)]
pub struct LogDumpArguments {
    /// Segments (.log), indexes (.index, .timeindex, .txnindex), producer snapshots (.snapshot), checkpoints, *.properties; the
    /// files of ottla-metadata.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Read the records as those of __consumer_offsets.
    #[arg(long)]
    offsets: bool,
    /// Show batches without their records.
    #[arg(long, conflicts_with = "offsets")]
    batches_only: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// How a file is shown.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub offsets: bool,
    pub batches_only: bool,
    pub json: bool,
}

pub fn run(arguments: &LogDumpArguments) -> ExitCode {
    tool::conclude(dump(arguments))
}

fn dump(arguments: &LogDumpArguments) -> anyhow::Result<()> {
    let style = Style { offsets: arguments.offsets, batches_only: arguments.batches_only, json: arguments.json };
    let mut output = Output::new();
    let mut damaged = Vec::new();
    for file in &arguments.files {
        if arguments.files.len() > 1 && !style.json {
            output.line(format_args!("{}:", file.display()))?;
        }
        let whole = dump_file(file, style, &mut output);
        output.flush()?;
        if !whole.with_context(|| file.display().to_string())? {
            damaged.push(file.display().to_string());
        }
    }
    if damaged.is_empty() { Ok(()) } else { anyhow::bail!("damaged: {}", damaged.join(", ")) }
}

/// Shows a file; whether it is in order.
fn dump_file(path: &Path, style: Style, output: &mut Output) -> anyhow::Result<bool> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // A deleted segment keeps its kind for a while.
    let name = name.strip_suffix(".deleted").unwrap_or(name);
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    if matches!(extension, "log" | "snapshot") && is_metadata(path) {
        return metadata::dump(path, &small::read(path)?, style, output);
    }
    match (stem, extension) {
        (_, "log") => segment::dump(path, style, output),
        (_, "index") => small::offset_index(path, base_offset(stem)?, style, output),
        (_, "timeindex") => small::time_index(path, base_offset(stem)?, style, output),
        (_, "txnindex") => small::transaction_index(path, style, output),
        (_, "snapshot") => small::producer_snapshot(path, style, output),
        ("leader-epoch-checkpoint", "") => small::checkpoint(path, &["epoch", "start_offset"], style, output),
        (
            "recovery-point-offset-checkpoint"
            | "replication-offset-checkpoint"
            | "log-start-offset-checkpoint"
            | "cleaner-offset-checkpoint",
            "",
        ) => small::checkpoint(path, &["topic", "partition", "offset"], style, output),
        (_, "properties") | ("partition", "metadata") => small::properties(path, style, output),
        _ => anyhow::bail!(
            "not a file this tool knows; it reads *.log, *.index, *.timeindex, *.txnindex, *.snapshot, \
             *-checkpoint, meta.properties and partition.metadata"
        ),
    }
}

/// Whether this is a file of Ottla's metadata, whose names are as those of a partition's.
fn is_metadata(path: &Path) -> bool {
    let mut start = [0; 8];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
    read.is_ok() && (ottla_quorum::is_metadata_log(&start) || ottla_quorum::is_metadata_snapshot(&start))
}

fn base_offset(stem: &str) -> anyhow::Result<i64> {
    stem.parse().with_context(|| format!("'{stem}' is not the base offset of a segment, which its indexes count from"))
}
