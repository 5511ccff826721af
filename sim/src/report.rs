//! What a run did, as one line that the campaign reads back from its child processes.

use std::fmt;

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
        }

        impl fmt::Display for Counts {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                let parts = [$(format!(concat!("{} ", $label), self.$name)),*];
                formatter.write_str(&parts.join(", "))
            }
        }
    };
}

counts! {
    kills: "kills",
    power_losses: "power losses",
    files_at_risk: "files with unsynced bytes",
    names_at_risk: "unsynced names",
    disk_faults: "disk faults",
    network_faults: "network faults",
    clean_stops: "clean stops",
    starts: "starts",
    acknowledged: "records acknowledged",
    observed: "records read along",
    verified: "records read back",
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
