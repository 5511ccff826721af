//! What a history shows, for people (`Display`) and programs (`Serialize`).

mod around;
mod describe;
mod text;

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};

use serde::Serialize;

use crate::anomaly::{Anomaly, Finding};
use crate::cycles::cycles;
use crate::findings::Findings;
use crate::history::{Event, History, Outcome, Step};
use crate::passes::{consumed, lag, order, presence, unseen};
use crate::tables::{MalformedHistory, Tables};

pub use crate::passes::lag::Lag;
pub use crate::passes::unseen::UnseenPoint;

/// How much of what is found is kept. Everything is counted.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// So many findings of each anomaly are kept, the earliest.
    pub findings_per_anomaly: usize,
    /// So many records to each side of a finding are shown.
    pub neighbours: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { findings_per_anomaly: 8, neighbours: 3 }
    }
}

/// Whether a history is one of a correct cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing was found that a correct cluster does not show.
    Valid,
    /// A correct cluster does not show this.
    Invalid,
    /// Nothing was acknowledged, or nothing was read: it says nothing of the cluster.
    Unknown,
}

/// Operations of one kind by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    pub ok: u64,
    pub fail: u64,
    pub info: u64,
}

/// What a history consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// By kind: `assign`, `subscribe`, `send`, `poll`, `txn`, `crash`.
    pub operations: BTreeMap<&'static str, Outcomes>,
    pub processes: u64,
    pub keys: u64,
    /// Records sent by operations that are ok.
    pub acknowledged: u64,
    /// Records polled by operations that are ok, each as often as it was.
    pub polled: u64,
    pub duration_ns: u64,
    /// Why outcomes are unknown, by what the clients were told.
    pub unknown: BTreeMap<String, u64>,
}

/// One anomaly in a history.
#[derive(Clone, Debug, Serialize)]
pub struct Tally {
    pub anomaly: Anomaly,
    /// Found by taking the order of writes for an order of operations.
    pub orders_writes: bool,
    pub forbidden: u64,
    pub allowed: u64,
    /// The earliest of them.
    pub shown: Vec<Shown>,
}

/// One finding, explained.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    pub finding: Finding,
    pub is_allowed: bool,
    pub explanation: String,
    /// What operations did near it, each a line.
    pub around: Vec<String>,
}

/// Everything the analysis has to say about a history.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub verdict: Verdict,
    pub counts: Counts,
    /// The anomalies found.
    pub anomalies: Vec<Tally>,
    pub unseen_over_time: Vec<UnseenPoint>,
    pub worst_lag: Option<Lag>,
    /// How many records a subscribed process was given once, twice, …: information, not a verdict.
    pub consume_counts: BTreeMap<u64, u64>,
    /// The names of keys, by their numbers.
    pub keys: Vec<String>,
}

/// Analyses a history, keeping what [`Options::default`] keeps.
pub fn check(history: &History) -> Result<Report, MalformedHistory> {
    check_with(history, &Options::default())
}

/// Analyses a history.
pub fn check_with(history: &History, options: &Options) -> Result<Report, MalformedHistory> {
    let tables = Tables::new(history)?;
    let events = history.events();
    let mut findings = Findings::new(options.findings_per_anomaly);
    presence::lost_writes(&tables, &mut findings);
    presence::reads(&tables, &mut findings);
    presence::placement(&tables, &mut findings);
    order::order(&tables, &mut findings);
    cycles(&tables, &events, &mut findings);
    let unseen_over_time = unseen::unseen(&tables, &events, &mut findings);

    let anomalies: Vec<Tally> = findings
        .into_tallies()
        .map(|(anomaly, orders_writes, tallied)| Tally {
            anomaly,
            orders_writes,
            forbidden: tallied.forbidden,
            allowed: tallied.allowed,
            shown: show(&tables, tallied.kept, options.neighbours),
        })
        .collect();
    let counts = counts(history, &events);
    let verdict = if anomalies.iter().any(|tally| tally.forbidden > 0) {
        Verdict::Invalid
    } else if counts.acknowledged == 0 || counts.polled == 0 {
        Verdict::Unknown
    } else {
        Verdict::Valid
    };
    Ok(Report {
        verdict,
        counts,
        anomalies,
        unseen_over_time,
        worst_lag: lag::worst_lag(&tables, &events),
        consume_counts: consumed::consume_counts(&tables, &events),
        keys: history.keys().map(|key| history.key_name(key).to_owned()).collect(),
    })
}

impl Report {
    pub fn is_valid(&self) -> bool {
        self.verdict == Verdict::Valid
    }

    /// How often an anomaly was found where it may not be.
    pub fn forbidden(&self, anomaly: Anomaly) -> u64 {
        self.anomalies.iter().filter(|tally| tally.anomaly == anomaly).map(|tally| tally.forbidden).sum()
    }

    /// The findings that were kept, in the order of the anomalies.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.anomalies.iter().flat_map(|tally| &tally.shown).map(|shown| &shown.finding)
    }

    /// Writes it as one JSON object.
    pub fn write_json(&self, mut to: impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut to, self)?;
        to.write_all(b"\n")?;
        to.flush()
    }
}

fn show(tables: &Tables, kept: Vec<(Finding, bool)>, neighbours: u32) -> Vec<Shown> {
    let (mut forbidden, allowed): (Vec<_>, Vec<_>) = kept.into_iter().partition(|(_, is_allowed)| !is_allowed);
    forbidden.extend(allowed);
    let findings: Vec<&Finding> = forbidden.iter().map(|(finding, _)| finding).collect();
    let around = around::around(tables, &findings, neighbours);
    let shown = forbidden.into_iter().zip(around).map(|((finding, is_allowed), around)| {
        let explanation = describe::describe(tables.history, &finding);
        Shown { finding, is_allowed, explanation, around }
    });
    shown.collect()
}

fn counts(history: &History, events: &[Event]) -> Counts {
    // So many different reasons are told apart.
    const REASONS: usize = 32;
    let mut counts = Counts { keys: history.key_count() as u64, ..Counts::default() };
    let mut processes = HashSet::new();
    for operation in history.operations() {
        processes.insert(operation.process);
        let outcomes = counts.operations.entry(operation.action.name()).or_default();
        match operation.outcome {
            Outcome::Ok => outcomes.ok += 1,
            Outcome::Fail => outcomes.fail += 1,
            Outcome::Info => {
                outcomes.info += 1;
                let reason = operation.error.as_deref().unwrap_or("never heard of again");
                let known = counts.unknown.len() < REASONS || counts.unknown.contains_key(reason);
                let reason = if known { reason } else { "other reasons" };
                match counts.unknown.get_mut(reason) {
                    Some(count) => *count += 1,
                    None => drop(counts.unknown.insert(reason.to_owned(), 1)),
                }
            }
        }
        if operation.outcome == Outcome::Ok {
            for step in operation.steps() {
                match step {
                    Step::Send { .. } => counts.acknowledged += 1,
                    Step::Poll(records) => counts.polled += records.len() as u64,
                }
            }
        }
    }
    counts.processes = processes.len() as u64;
    let time_ns = |event: Option<&Event>| match event {
        Some(Event::Invoked(id)) => history.operation(*id).invoked.time_ns,
        Some(Event::Completed(id)) => history.operation(*id).completed.map_or(0, |completed| completed.time_ns),
        None => 0,
    };
    counts.duration_ns = time_ns(events.last()).saturating_sub(time_ns(events.first()));
    counts
}
