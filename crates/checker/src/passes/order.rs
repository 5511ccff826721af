//! What a process polls and sends should follow the log: record after record, from where it stood.

use std::collections::HashMap;

use crate::anomaly::{Finding, Jump, LISTED, Place};
use crate::findings::Findings;
use crate::history::{Action, Key, OperationId, Outcome, Process};
use crate::tables::{NONE, Tables, Touch};

/// The last record of a key that somebody sent or was given.
#[derive(Clone, Copy)]
struct Stand {
    operation: OperationId,
    touch: Touch,
}

/// What is between one operation and the next of a process.
#[derive(Default)]
struct Standing {
    subscribed: bool,
    polled: HashMap<Key, Stand>,
    sent: HashMap<Key, Stand>,
}

/// At most one entry per key, all of them of the operation looked at.
struct PerKey<T> {
    entries: Vec<Option<(OperationId, T)>>,
    operation: OperationId,
    present: Vec<Key>,
}

impl<T: Copy> PerKey<T> {
    fn new(keys: usize) -> Self {
        PerKey { entries: vec![None; keys], operation: OperationId(NONE), present: Vec::new() }
    }

    /// Forgets the entries of the operation before.
    fn begin(&mut self, operation: OperationId) {
        self.operation = operation;
        self.present.clear();
    }

    fn get(&self, key: Key) -> Option<T> {
        self.entries[key.index()].filter(|(of, _)| *of == self.operation).map(|(_, entry)| entry)
    }

    fn set(&mut self, key: Key, entry: T) {
        if self.get(key).is_none() {
            self.present.push(key);
        }
        self.entries[key.index()] = Some((self.operation, entry));
    }

    fn iter(&self) -> impl Iterator<Item = (Key, T)> {
        self.present.iter().filter_map(|key| Some((*key, self.get(*key)?)))
    }
}

/// What the operation looked at has done so far.
struct Current {
    polled: PerKey<Touch>,
    sent: PerKey<Touch>,
    /// Assigned, subscribed or rebalanced.
    named: PerKey<()>,
}

impl Current {
    fn begin(&mut self, operation: OperationId, named: &[Key]) {
        self.polled.begin(operation);
        self.sent.begin(operation);
        self.named.begin(operation);
        for key in named {
            self.named.set(*key, ());
        }
    }
}

/// Skips and steps back, inside operations and from one to the next.
pub(crate) fn order(tables: &Tables, findings: &mut Findings) {
    let keys = tables.history.key_count();
    let mut standings: HashMap<Process, Standing> = HashMap::new();
    let mut current = Current { polled: PerKey::new(keys), sent: PerKey::new(keys), named: PerKey::new(keys) };
    // A process does one thing after the other, so the order of invocations is that of its completions.
    for id in tables.ids() {
        let operation = tables.history.operation(id);
        let standing = standings.entry(operation.process).or_default();
        match &operation.action {
            Action::Assign { .. } | Action::Subscribe { .. } if operation.outcome == Outcome::Fail => {}
            Action::Assign { keys, seek_to_beginning } => {
                current.begin(id, if *seek_to_beginning { &[] } else { keys });
                standing.bind(false, &current.named);
            }
            Action::Subscribe { keys } => {
                current.begin(id, keys);
                standing.bind(true, &current.named);
            }
            Action::Crash => *standing = Standing::default(),
            Action::Transact(_) => {
                current.begin(id, &operation.rebalanced);
                for key in &operation.rebalanced {
                    standing.polled.remove(key);
                }
                polls(tables, id, standing, &mut current, findings);
                sends(tables, id, standing, &mut current.sent, findings);
                // After anything that is not ok a process has to go back to where it stood.
                if operation.outcome == Outcome::Ok {
                    advance(id, &current.polled, &mut standing.polled);
                    advance(id, &current.sent, &mut standing.sent);
                }
            }
        }
    }
}

impl Standing {
    /// The consumer has other partitions: it stands where it stood in those it keeps.
    fn bind(&mut self, subscribed: bool, kept: &PerKey<()>) {
        self.subscribed = subscribed;
        self.polled.retain(|key, _| kept.get(*key).is_some());
    }
}

fn advance(id: OperationId, last: &PerKey<Touch>, stands: &mut HashMap<Key, Stand>) {
    let known = last.iter().filter(|(_, touch)| touch.position != NONE);
    stands.extend(known.map(|(key, touch)| (key, Stand { operation: id, touch })));
}

fn polls(tables: &Tables, id: OperationId, standing: &Standing, current: &mut Current, findings: &mut Findings) {
    for read in tables.reads(id) {
        let key = tables.key(*read);
        if let Some(before) = current.polled.get(key) {
            if current.named.get(key).is_none() {
                match jump(tables, Stand { operation: id, touch: before }, Stand { operation: id, touch: *read }) {
                    Some(jump) if jump.delta > 1 => findings.note(Finding::IntPollSkip(jump)),
                    Some(jump) => findings.note(Finding::IntNonmonotonicPoll(jump)),
                    None => {}
                }
            }
        } else if let Some(before) = standing.polled.get(&key) {
            let subscribed = standing.subscribed;
            match jump(tables, *before, Stand { operation: id, touch: *read }) {
                Some(jump) if jump.delta > 1 => findings.note_when(Finding::PollSkip(jump), subscribed, false),
                Some(jump) => findings.note_when(Finding::NonmonotonicPoll(jump), subscribed, false),
                None => {}
            }
        }
        current.polled.set(key, *read);
    }
}

fn sends(tables: &Tables, id: OperationId, standing: &Standing, last: &mut PerKey<Touch>, findings: &mut Findings) {
    for send in tables.sends(id) {
        let key = tables.key(*send);
        let now = Stand { operation: id, touch: *send };
        if let Some(before) = last.get(key) {
            match jump(tables, Stand { operation: id, touch: before }, now) {
                Some(jump) if jump.delta > 1 => findings.note(Finding::IntSendSkip(jump)),
                Some(jump) => findings.note(Finding::IntNonmonotonicSend(jump)),
                None => {}
            }
        } else if let Some(before) = standing.sent.get(&key) {
            // Others write in between as they like, but nothing comes before what was there.
            if let Some(jump) = jump(tables, *before, now).filter(|jump| jump.delta < 1) {
                findings.note(Finding::NonmonotonicSend(jump));
            }
        }
        last.set(key, *send);
    }
}

/// How far it is from one record to the other, unless that is known to be right or not known.
fn jump(tables: &Tables, from: Stand, to: Stand) -> Option<Jump> {
    if from.touch.position == NONE || to.touch.position == NONE {
        return None;
    }
    let delta = i64::from(to.touch.position) - i64::from(from.touch.position);
    if delta == 1 {
        return None;
    }
    let between = from.touch.position.saturating_add(1)..to.touch.position;
    let skipped = between.take(LISTED).map(|position| {
        let record = tables.log.records[position as usize];
        tables.records.values[record as usize]
    });
    let place = |stand: Stand| Place {
        operation: stand.operation,
        offset: tables.offset(stand.touch.position),
        value: tables.value(stand.touch),
    };
    Some(Jump { key: tables.key(to.touch), from: place(from), to: place(to), delta, skipped: skipped.collect() })
}
