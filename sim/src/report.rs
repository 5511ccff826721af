//! What a run did, as one line that the campaign reads back from its child processes.

use std::collections::BTreeMap;
use std::fmt;

use ottla_rt::memory::{self, Operation};

macro_rules! counts {
    ($($name:ident: $label:literal),* $(,)?) => {
        /// Things that happened. A campaign whose faults never struck has shown nothing, so they are printed.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $(pub $name: u64,)*
        }

        impl Counts {
            pub fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)*
            }

            /// The line that [`Counts::parse`] reads.
            pub fn encode(&self) -> String {
                [$(format!(concat!(stringify!($name), "={}"), self.$name)),*].join(" ")
            }

            pub fn parse(line: &str) -> Counts {
                let mut counts = Counts::default();
                for field in line.split_whitespace() {
                    let Some((name, value)) = field.split_once('=') else { continue };
                    match name {
                        $(stringify!($name) => counts.$name = value.parse().unwrap_or(0),)*
                        _ => {}
                    }
                }
                counts
            }

            /// Each count with what it counts, in order.
            pub fn labelled(&self) -> Vec<(&'static str, u64)> {
                vec![$(($label, self.$name)),*]
            }
        }
    };
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.labelled().iter().map(|(label, count)| format!("{count} {label}")).collect();
        formatter.write_str(&parts.join(", "))
    }
}

impl Counts {
    /// Takes in what the disk's faults struck.
    pub fn struck(&mut self, struck: &BTreeMap<(Operation, memory::Failure), u64>) {
        for ((operation, failure), count) in struck {
            let counter = match (failure, operation) {
                (memory::Failure::Short | memory::Failure::Interrupted, _) => &mut self.interrupted_or_short,
                (memory::Failure::NoSpace, Operation::Write) => &mut self.no_space_write,
                (memory::Failure::NoSpace, _) => &mut self.no_space_name,
                (memory::Failure::Io, Operation::Write | Operation::SetLen) => &mut self.io_write,
                (memory::Failure::Io, Operation::Sync) => &mut self.io_sync,
                (memory::Failure::Io, Operation::SyncDir) => &mut self.io_sync_dir,
                (memory::Failure::Io, Operation::Read | Operation::ReadDir) => &mut self.io_read,
                (memory::Failure::Io, _) => &mut self.io_name,
            };
            *counter += count;
        }
    }

    /// The kinds of faults that never struck: nothing was shown of them.
    pub fn not_run(&self) -> Vec<&'static str> {
        let labelled = self.labelled();
        let faults = labelled.iter().take_while(|(label, _)| *label != LAST_FAULT);
        faults.filter(|(_, count)| *count == 0).map(|(label, _)| *label).collect()
    }
}

/// The counts before this one are of faults that the log can meet.
const LAST_FAULT: &str = "network faults";

counts! {
    kills: "kills",
    power_losses: "power losses",
    files_at_risk: "files with unsynced bytes",
    names_at_risk: "unsynced names",
    torn_pages: "torn pages",
    disk_faults: "disk faults",
    io_write: "failed writes",
    io_sync: "failed syncs",
    io_sync_dir: "failed directory syncs",
    io_read: "failed reads",
    io_name: "failed opens, renames and removals",
    no_space_write: "writes without space",
    no_space_name: "names without space",
    interrupted_or_short: "interrupted or short calls",
    in_append: "faults in appends",
    in_roll: "faults in rolls",
    in_flush: "faults in flushes",
    in_truncate: "faults in truncations",
    in_checkpoint: "faults in checkpoints and snapshots",
    in_upkeep: "faults in upkeep",
    in_delete_records: "faults in deletions of records",
    in_create: "faults in creations",
    in_delete: "faults in deletions",
    in_move: "faults in moves",
    page_cache_kills: "kills with page-cache",
    page_cache_power_losses: "power losses with page-cache",
    moves_interrupted: "moves interrupted",
    network_faults: "network faults",
    partitions_moved: "partitions moved",
    clean_stops: "clean stops",
    starts: "starts",
    acknowledged: "records acknowledged",
    observed: "records read along",
    verified: "records read back",
    commits_acknowledged: "commits acknowledged",
    records_deleted: "records deleted",
    topics_deleted: "topics deleted",
    disk_operations: "disk operations",
}

/// How one seed ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub counts: Counts,
    pub trace: u64,
    pub events: u64,
    pub failure: Option<Failure>,
}

/// How a seed failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A promise was broken, or the server stopped by itself.
    Broken,
    /// A panic, caught by the server or not; its promises may hold all the same.
    Panicked,
    /// What the faults broke did not come back.
    NotHealed,
    /// The simulator's own process ended without a report, or ran for too long.
    Crashed,
}

impl FailureKind {
    const REPORTED: [FailureKind; 3] = [FailureKind::Broken, FailureKind::Panicked, FailureKind::NotHealed];

    fn name(self) -> &'static str {
        match self {
            FailureKind::Broken => "broken",
            FailureKind::Panicked => "panicked",
            FailureKind::NotHealed => "not healed",
            FailureKind::Crashed => "crashed",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind.name(), self.reason)
    }
}

const PREFIX: &str = "report";
const FAILURE: &str = " failure: ";

impl Report {
    pub fn encode(&self) -> String {
        let head = format!("{PREFIX} trace={:016x} events={} {}", self.trace, self.events, self.counts.encode());
        match &self.failure {
            None => head,
            Some(failure) => format!("{head}{FAILURE}{}", failure.to_string().replace('\n', " | ")),
        }
    }

    pub fn parse(line: &str) -> Option<Report> {
        let line = line.strip_prefix(PREFIX)?;
        let (head, failure) = match line.split_once(FAILURE) {
            Some((head, failure)) => (head, Some(Failure::parse(failure)?)),
            None => (line, None),
        };
        let field = |name: &str| head.split_whitespace().find_map(|field| field.strip_prefix(name));
        Some(Report {
            counts: Counts::parse(head),
            trace: u64::from_str_radix(field("trace=")?, 16).ok()?,
            events: field("events=")?.parse().ok()?,
            failure,
        })
    }
}

impl Failure {
    fn parse(text: &str) -> Option<Failure> {
        FailureKind::REPORTED.into_iter().find_map(|kind| {
            let reason = text.strip_prefix(kind.name())?.strip_prefix(": ")?;
            Some(Failure { kind, reason: reason.to_owned() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_back_as_written() {
        let counts = Counts { kills: 3, verified: 17, ..Counts::default() };
        let failed = |kind| Some(Failure { kind, reason: "lost: x=3 | second line".to_owned() });
        for failure in FailureKind::REPORTED.map(failed).into_iter().chain([None]) {
            let report = Report { counts, trace: 0xab, events: 9, failure };
            assert_eq!(Report::parse(&report.encode()), Some(report));
        }
        assert_eq!(Report::parse("thread main panicked"), None);
    }
}
