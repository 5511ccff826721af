//! What operations did near findings: the part of the history a person has to look at.

use std::collections::HashMap;

use crate::anomaly::{Cycle, Finding};
use crate::history::{Key, OperationId, Value};
use crate::tables::{NONE, Tables, Touch};

use super::describe::{line, record};

/// So many operations are shown near one finding, and so many records of each.
const LINES: usize = 24;
const RECORDS: usize = 16;
/// A finding has so many places at most that are looked at.
const PLACES: usize = 4;

/// The positions and records that belong to findings, and to which of these.
#[derive(Default)]
struct Near {
    positions: HashMap<u32, Vec<usize>>,
    records: HashMap<u32, Vec<usize>>,
}

/// For each finding the operations that touched its neighbourhood, in the order of their invocations.
pub(super) fn around(tables: &Tables, findings: &[&Finding], neighbours: u32) -> Vec<Vec<String>> {
    let mut near = Near::default();
    let mut lines: Vec<Vec<String>> = vec![Vec::new(); findings.len()];
    for (at, finding) in findings.iter().enumerate() {
        let (key, offsets, values) = match places(finding) {
            Ok(places) => places,
            Err(cycle) => {
                let operations = cycle.steps.iter().map(|step| step.from).take(LINES);
                lines[at] = operations.map(|id| line(id, tables.history.operation(id), &whole(tables, id))).collect();
                continue;
            }
        };
        for position in offsets.iter().take(PLACES).filter_map(|offset| tables.log.position(key, *offset)) {
            let range = tables.log.range(key);
            let first = range.start.max(position.saturating_sub(neighbours));
            for position in first..range.end.min(position.saturating_add(neighbours).saturating_add(1)) {
                let of = near.positions.entry(position).or_default();
                if of.last() != Some(&at) {
                    of.push(at);
                }
            }
        }
        for record in values.iter().take(PLACES).filter_map(|value| tables.records.find(key, *value)) {
            near.records.entry(record).or_default().push(at);
        }
    }
    if near.positions.is_empty() && near.records.is_empty() {
        return lines;
    }
    let mut here: Vec<(usize, String)> = Vec::new();
    for id in tables.ids() {
        here.clear();
        near.look(tables, tables.sends(id), "sent", &mut here);
        near.look(tables, tables.reads(id), "polled", &mut here);
        // The steps of each finding stay in their order.
        here.sort_by_key(|(finding, _)| *finding);
        for of_one in here.chunk_by(|one, other| one.0 == other.0) {
            let lines = &mut lines[of_one[0].0];
            match lines.len() {
                0..LINES => {
                    let steps: Vec<&str> = of_one.iter().map(|(_, step)| step.as_str()).take(RECORDS).collect();
                    lines.push(line(id, tables.history.operation(id), &steps.join(", ")));
                }
                LINES => lines.push("…".to_owned()),
                _ => {}
            }
        }
    }
    lines
}

impl Near {
    fn look(&self, tables: &Tables, touches: &[Touch], verb: &str, into: &mut Vec<(usize, String)>) {
        for touch in touches {
            let by_position = self.positions.get(&touch.position);
            let Some(findings) = by_position.or_else(|| self.records.get(&touch.record)) else { continue };
            let offset = (touch.position != NONE).then(|| tables.offset(touch.position));
            for finding in findings {
                into.push((*finding, format!("{verb} {}", record(tables.value(*touch), offset))));
            }
        }
    }
}

/// Where a finding is: offsets of its key, and values of which no offset may be known. A cycle is nowhere.
fn places(finding: &Finding) -> Result<(Key, Vec<i64>, Vec<Value>), &Cycle> {
    Ok(match finding {
        Finding::LostWrite { key, offset, value, .. }
        | Finding::NeverSent { key, offset, value, .. }
        | Finding::AbortedRead { key, offset, value, .. }
        | Finding::PrecommittedRead { key, offset, value, .. } => (*key, vec![*offset], vec![*value]),
        Finding::Unseen { key, values, .. } => (*key, Vec::new(), values.clone()),
        Finding::Duplicate { key, offsets, value, .. } => (*key, offsets.clone(), vec![*value]),
        Finding::InconsistentOffsets { key, offset, values, .. } => (*key, vec![*offset], values.clone()),
        Finding::IntPollSkip(jump)
        | Finding::IntNonmonotonicPoll(jump)
        | Finding::PollSkip(jump)
        | Finding::NonmonotonicPoll(jump)
        | Finding::IntSendSkip(jump)
        | Finding::IntNonmonotonicSend(jump)
        | Finding::NonmonotonicSend(jump) => (jump.key, vec![jump.from.offset, jump.to.offset], Vec::new()),
        Finding::Cycle(cycle) => return Err(cycle),
    })
}

/// What an operation sent and polled, with the names of the keys.
fn whole(tables: &Tables, id: OperationId) -> String {
    let step = |verb: &str, touch: &Touch| {
        let offset = (touch.position != NONE).then(|| tables.offset(touch.position));
        let key = tables.history.key_name(tables.key(*touch));
        format!("{verb} {} {key}", record(tables.value(*touch), offset))
    };
    let sends = tables.sends(id).iter().map(|send| step("sent", send));
    let reads = tables.reads(id).iter().map(|read| step("polled", read));
    let mut text = sends.chain(reads).take(RECORDS).collect::<Vec<_>>().join(", ");
    if tables.sends(id).len() + tables.reads(id).len() > RECORDS {
        text.push_str(", …");
    }
    text
}
