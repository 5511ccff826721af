//! How often each process consumed a record while its group gave it partitions: a hint at how exact "exactly once" was,
//! not a verdict, since a group promises nothing to one member across rebalances.

use std::collections::{BTreeMap, HashSet};

use crate::history::{Action, Event, Outcome, Process};
use crate::tables::Tables;

/// How many records a process was given so many times, while it was subscribed.
pub(crate) fn consume_counts(tables: &Tables, events: &[Event]) -> BTreeMap<u64, u64> {
    let mut subscribed: HashSet<Process> = HashSet::new();
    let mut consumed: Vec<(Process, u32)> = Vec::new();
    for event in events {
        let Event::Completed(id) = *event else { continue };
        let operation = tables.history.operation(id);
        if operation.outcome != Outcome::Ok {
            continue;
        }
        match operation.action {
            Action::Subscribe { .. } => {
                subscribed.insert(operation.process);
            }
            Action::Assign { .. } => {
                subscribed.remove(&operation.process);
            }
            Action::Transact(_) if subscribed.contains(&operation.process) => {
                consumed.extend(tables.reads(id).iter().map(|read| (operation.process, read.record)));
            }
            Action::Transact(_) | Action::Crash => {}
        }
    }
    consumed.sort_unstable();
    let mut counts = BTreeMap::new();
    for same in consumed.chunk_by(|one, other| one == other) {
        *counts.entry(same.len() as u64).or_insert(0) += 1;
    }
    counts
}
