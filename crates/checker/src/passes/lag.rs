//! How far behind the log consumers were, by the clock.

use std::collections::HashMap;

use serde::Serialize;

use crate::history::{Action, Event, Key, OperationId, Outcome, Process, Step, count_u32};
use crate::tables::{NONE, Tables};

/// The furthest a consumer was behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lag {
    pub process: Process,
    pub key: Key,
    /// When it began to poll.
    pub time_ns: u64,
    /// So long, at least, had there been a record after the last one it was given.
    pub lag_ns: u64,
}

/// A consumer in one partition.
#[derive(Clone, Copy)]
struct Place {
    /// The position it was given last.
    position: Option<u32>,
    /// It began anew, and has not yet been at the end: until then it is behind because it is meant to be.
    catching_up: bool,
}

/// A consumer.
#[derive(Default)]
struct Consumer {
    places: HashMap<Key, Place>,
    /// When its last poll that was ok began.
    polled_ns: Option<u64>,
}

/// When it was known of each partition how far it goes.
struct Ends {
    /// By key: positions and times, both growing.
    known: Vec<Vec<(u32, u64)>>,
    /// By key, its first position.
    starts: Vec<u32>,
}

impl Ends {
    fn note(&mut self, key: Key, position: u32, time_ns: u64) {
        let known = &mut self.known[key.index()];
        if known.last().is_none_or(|(last, _)| *last < position) {
            known.push((position, time_ns));
        }
    }

    /// How long, when a poll began, there had been a record beyond this position.
    fn lag_ns(&self, key: Key, position: Option<u32>, polled_ns: u64) -> u64 {
        let next = position.map_or(self.starts[key.index()], |position| position + 1);
        let known = &self.known[key.index()];
        let at = known.partition_point(|(position, _)| *position < next);
        known.get(at).map_or(0, |(_, since_ns)| polled_ns.saturating_sub(*since_ns))
    }
}

/// The worst lag of any poll.
///
/// While a consumer stays where it is its lag only grows, so it is looked at when it moves on, and at the end.
pub(crate) fn worst_lag(tables: &Tables, events: &[Event]) -> Option<Lag> {
    let keys = tables.history.key_count();
    let starts = (0..keys).map(|key| tables.log.range(Key(count_u32(key))).start).collect();
    let mut ends = Ends { known: vec![Vec::new(); keys], starts };
    let mut consumers: HashMap<Process, Consumer> = HashMap::new();
    let mut worst = None;
    for event in events {
        let Event::Completed(id) = *event else { continue };
        let operation = tables.history.operation(id);
        let Some(completed) = operation.completed.filter(|_| operation.outcome != Outcome::Fail) else { continue };
        // A send of which the client knows nothing may have come to its place later.
        let sends = if operation.outcome == Outcome::Ok { tables.sends(id) } else { &[] };
        for touch in sends.iter().chain(tables.reads(id)).filter(|touch| touch.position != NONE) {
            ends.note(tables.key(*touch), touch.position, completed.time_ns);
        }
        let consumer = consumers.entry(operation.process).or_default();
        match &operation.action {
            Action::Crash => consumer.leave(operation.process, &ends, &mut worst),
            _ if operation.outcome != Outcome::Ok => {}
            Action::Assign { keys, seek_to_beginning } => {
                let before = consumer.leave_with(operation.process, &ends, &mut worst);
                let anew = Place { position: None, catching_up: *seek_to_beginning };
                let kept = |key: &Key| before.get(key).copied().filter(|_| !seek_to_beginning);
                consumer.places = keys.iter().map(|key| (*key, kept(key).unwrap_or(anew))).collect();
            }
            // It may get none of these partitions, so it has those it is given records of.
            Action::Subscribe { .. } => consumer.leave(operation.process, &ends, &mut worst),
            Action::Transact(steps) => {
                if steps.iter().any(|step| matches!(step, Step::Poll(_))) {
                    consumer.poll(tables, id, &ends, &mut worst);
                }
            }
        }
    }
    let mut rest: Vec<_> = consumers.into_iter().collect();
    rest.sort_unstable_by_key(|(process, _)| *process);
    for (process, mut consumer) in rest {
        consumer.leave(process, &ends, &mut worst);
    }
    worst
}

impl Consumer {
    /// It moves on where it was given records.
    fn poll(&mut self, tables: &Tables, id: OperationId, ends: &Ends, worst: &mut Option<Lag>) {
        let operation = tables.history.operation(id);
        let now_ns = operation.invoked.time_ns;
        for of_key in tables.reads(id).chunk_by(|one, other| tables.key(*one) == tables.key(*other)) {
            let key = tables.key(of_key[0]);
            let furthest = of_key.iter().fold(0, |furthest, read| read.position.max(furthest));
            let before = self.places.get(&key).copied();
            if let Some(place) = before {
                self.note(operation.process, key, place, ends, worst);
            }
            let position = before.and_then(|place| place.position).map_or(furthest, |at| at.max(furthest));
            let behind = ends.lag_ns(key, Some(position), now_ns) > 0;
            let catching_up = behind && before.is_some_and(|place| place.catching_up);
            self.places.insert(key, Place { position: Some(position), catching_up });
        }
        self.polled_ns = Some(now_ns);
    }

    fn leave(&mut self, process: Process, ends: &Ends, worst: &mut Option<Lag>) {
        self.leave_with(process, ends, worst);
    }

    /// It gives up its partitions.
    fn leave_with(&mut self, process: Process, ends: &Ends, worst: &mut Option<Lag>) -> HashMap<Key, Place> {
        let places = std::mem::take(&mut self.places);
        let mut left: Vec<_> = places.iter().map(|(key, place)| (*key, *place)).collect();
        left.sort_unstable_by_key(|(key, _)| *key);
        for (key, place) in left {
            self.note(process, key, place, ends, worst);
        }
        self.polled_ns = None;
        places
    }

    /// What its last poll says of its lag.
    fn note(&self, process: Process, key: Key, place: Place, ends: &Ends, worst: &mut Option<Lag>) {
        let Some(time_ns) = self.polled_ns.filter(|_| !place.catching_up) else { return };
        let lag_ns = ends.lag_ns(key, place.position, time_ns);
        if lag_ns > 0 && worst.is_none_or(|worst| worst.lag_ns < lag_ns) {
            *worst = Some(Lag { process, key, time_ns, lag_ns });
        }
    }
}
