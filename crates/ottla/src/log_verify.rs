//! `ottla log verify`: is everything in a log directory as it was written?

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use ottla_log::{Finding, VerifyReport, VerifySummary};
use ottla_quorum::{MetadataCheck, MetadataFinding};
use ottla_rt::{DiskLock, World};
use serde_json::{Value, json};

use crate::output::Output;
use crate::tool;

/// Where Ottla keeps its metadata in the first log directory.
const METADATA_DIRECTORY: &str = "ottla-metadata";
/// How often it is said how far the check is.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct LogVerifyArguments {
    /// A log directory (log.dirs) of Ottla or Apache Kafka, or the directory of one partition.
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Check although a broker uses the directory: what it is just writing may look torn.
    #[arg(long)]
    in_use: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &LogVerifyArguments) -> ExitCode {
    tool::conclude(verify_all(arguments))
}

fn verify_all(arguments: &LogVerifyArguments) -> anyhow::Result<()> {
    let mut problems = 0;
    for directory in &arguments.directories {
        problems += verify(directory, arguments).with_context(|| directory.display().to_string())?.problems;
    }
    match problems {
        0 => Ok(()),
        1 => anyhow::bail!("there is 1 problem"),
        _ => anyhow::bail!("there are {problems} problems"),
    }
}

fn verify(directory: &Path, arguments: &LogVerifyArguments) -> anyhow::Result<VerifySummary> {
    let world = World::os();
    let _lock = lock(&world, directory, arguments.in_use)?;
    let mut printer = Printer {
        output: Output::new(),
        json: arguments.json,
        failed: None,
        // Progress is for somebody who waits.
        next_progress: io::stderr().is_terminal().then(|| Instant::now() + PROGRESS_PERIOD),
        shown: false,
    };
    let summary =
        ottla_log::verify(&*world.disk, directory, arguments.in_use, &mut printer).context("cannot be read")?;
    printer.clear_progress();
    let metadata = directory.join(METADATA_DIRECTORY);
    let metadata = if metadata.is_dir() {
        Some(ottla_quorum::check_metadata(&*world.disk, &metadata).context("the metadata cannot be read")?)
    } else {
        None
    };
    for finding in metadata.iter().flat_map(|metadata| &metadata.findings) {
        printer.metadata_finding(finding)?;
    }
    if let Some(failed) = printer.failed {
        return Err(failed);
    }
    let mut summary = summary;
    for finding in metadata.iter().flat_map(|metadata| &metadata.findings) {
        *(if finding.is_problem { &mut summary.problems } else { &mut summary.notes }) += 1;
    }
    let metadata = metadata.unwrap_or_default();
    if arguments.json {
        printer.output.json_line(&summary_document(directory, &summary, &metadata))?;
    } else {
        printer.output.line(summary_text(directory, &summary, &metadata))?;
    }
    printer.output.flush()?;
    Ok(summary)
}

/// Keeps brokers from the directory while it is read; it is left as it is.
fn lock(world: &World, directory: &Path, in_use: bool) -> anyhow::Result<Option<Box<dyn DiskLock>>> {
    if in_use {
        return Ok(None);
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for path in [directory.join(".lock"), parent.join(".lock")] {
        if !world.disk.exists(&path).unwrap_or(false) {
            continue;
        }
        match world.disk.lock(&path) {
            Ok(lock) => return Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                anyhow::bail!("a broker uses it; stop the broker, or check all the same with --in-use")
            }
            // Of somebody who may only read: no broker is kept from it.
            Err(error) => eprintln!("ottla: {} cannot be locked: {error}", path.display()),
        }
    }
    Ok(None)
}

struct Printer {
    output: Output,
    json: bool,
    failed: Option<anyhow::Error>,
    next_progress: Option<Instant>,
    shown: bool,
}

impl Printer {
    fn clear_progress(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }

    fn metadata_finding(&mut self, finding: &MetadataFinding) -> anyhow::Result<()> {
        if self.json {
            return self.output.json_line(&json!({
                "kind": if finding.is_problem { "problem" } else { "note" },
                "path": finding.path.display().to_string(),
                "position": finding.position,
                "offset": null,
                "reason": finding.damage.to_string(),
            }));
        }
        let weight = if finding.is_problem { "PROBLEM" } else { "note" };
        let place = finding.position.map_or_else(String::new, |position| format!(" at byte {position}"));
        self.output.line(format_args!("{weight}: {}{place}: {}", finding.path.display(), finding.damage))
    }

    fn print(&mut self, finding: &Finding) -> anyhow::Result<()> {
        if self.json {
            self.output.json_line(&finding_document(finding))?;
        } else {
            self.output.line(finding_text(finding))?;
        }
        self.output.flush()
    }
}

impl VerifyReport for Printer {
    fn finding(&mut self, finding: Finding) {
        if self.failed.is_some() {
            return;
        }
        self.clear_progress();
        self.failed = self.print(&finding).err();
    }

    fn progress(&mut self, done: u64, total: u64) {
        let now = Instant::now();
        if self.next_progress.is_some_and(|next| next <= now) {
            self.next_progress = Some(now + PROGRESS_PERIOD);
            self.shown = true;
            let share = done.saturating_mul(100) / total.max(1);
            eprint!("\r\x1b[K{} of {} MiB, {share} %", done >> 20, total >> 20);
            // Who waits sees it, or does not.
            let _ = io::stderr().flush();
        }
    }
}

fn finding_text(finding: &Finding) -> String {
    let mut text = format!("{}: {}", if finding.is_problem { "PROBLEM" } else { "note" }, finding.path.display());
    if let Some(position) = finding.position {
        let _ = write!(text, " at byte {position}");
    }
    if let Some(offset) = finding.offset {
        let _ = write!(text, ", offset {offset}");
    }
    format!("{text}: {}", finding.issue)
}

fn finding_document(finding: &Finding) -> Value {
    json!({
        "kind": if finding.is_problem { "problem" } else { "note" },
        "path": finding.path.display().to_string(),
        "position": finding.position,
        "offset": finding.offset,
        "reason": finding.issue.to_string(),
    })
}

fn summary_text(directory: &Path, summary: &VerifySummary, metadata: &MetadataCheck) -> String {
    let VerifySummary { partitions, segments, batches, records, bytes, .. } = summary;
    let mut text = format!(
        "{}: {} partitions, {segments} segments, {batches} batches, {records} records, {bytes} bytes; {} index entries, \
         {} producer snapshots, {} checkpoints; ",
        directory.display(),
        partitions,
        summary.index_entries,
        summary.snapshots,
        summary.checkpoints,
    );
    if summary.cleaned_holes > 0 {
        let _ = write!(text, "{} holes left by compaction; ", summary.cleaned_holes);
    }
    if metadata.files > 0 {
        let _ = write!(text, "metadata: {} files, {} frames; ", metadata.files, metadata.items);
    }
    let _ = write!(text, "{} problems, {} notes", summary.problems, summary.notes);
    if summary.untold > 0 {
        let _ = write!(text, ", {} of them not shown", summary.untold);
    }
    text
}

fn summary_document(directory: &Path, summary: &VerifySummary, metadata: &MetadataCheck) -> Value {
    json!({
        "kind": "summary",
        "path": directory.display().to_string(),
        "partitions": summary.partitions,
        "segments": summary.segments,
        "batches": summary.batches,
        "records": summary.records,
        "bytes": summary.bytes,
        "index_entries": summary.index_entries,
        "snapshots": summary.snapshots,
        "checkpoints": summary.checkpoints,
        "cleaned_holes": summary.cleaned_holes,
        "metadata_files": metadata.files,
        "metadata_frames": metadata.items,
        "problems": summary.problems,
        "notes": summary.notes,
        "untold": summary.untold,
    })
}
