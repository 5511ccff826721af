//! Collects what the passes find: every finding counted, some of each kind kept.

use std::collections::BTreeMap;

use crate::anomaly::{Anomaly, Finding};

/// Findings of one history.
#[derive(Debug)]
pub(crate) struct Findings {
    kept_per_anomaly: usize,
    tallies: BTreeMap<(Anomaly, bool), Tallied>,
}

/// Findings of one anomaly.
#[derive(Debug, Default)]
pub(crate) struct Tallied {
    pub forbidden: u64,
    pub allowed: u64,
    /// The first forbidden and the first allowed ones.
    pub kept: Vec<(Finding, bool)>,
}

impl Findings {
    pub fn new(kept_per_anomaly: usize) -> Findings {
        Findings { kept_per_anomaly, tallies: BTreeMap::new() }
    }

    /// Notes what only a cluster that is broken shows, unless it is of a kind that is always allowed.
    pub fn note(&mut self, finding: Finding) {
        self.note_when(finding, false, false);
    }

    /// Notes what was found while the consumer was or was not `subscribed`, with or without the order of writes.
    pub fn note_when(&mut self, finding: Finding, subscribed: bool, orders_writes: bool) {
        let anomaly = finding.anomaly();
        let is_allowed = anomaly.is_allowed(subscribed, orders_writes);
        let tallied = self.tallies.entry((anomaly, orders_writes)).or_default();
        let count = if is_allowed { &mut tallied.allowed } else { &mut tallied.forbidden };
        *count += 1;
        if *count <= self.kept_per_anomaly as u64 {
            tallied.kept.push((finding, is_allowed));
        }
    }

    /// By anomaly, and whether the order of writes was taken into account.
    pub fn into_tallies(self) -> impl Iterator<Item = (Anomaly, bool, Tallied)> {
        self.tallies.into_iter().map(|((anomaly, orders_writes), tallied)| (anomaly, orders_writes, tallied))
    }
}
