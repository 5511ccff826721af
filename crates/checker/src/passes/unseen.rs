//! Acknowledged records that nobody was given: how many there were over time, and which are left at the end.

use serde::Serialize;

use crate::anomaly::{Finding, LISTED};
use crate::findings::Findings;
use crate::history::{Event, Outcome, Value};
use crate::tables::Tables;

/// The course of a history is told in about this many points.
const POINTS: u64 = 40;

/// How many acknowledged records nobody had been given at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UnseenPoint {
    pub time_ns: u64,
    pub unseen: u64,
    /// The most since the point before.
    pub peak: u64,
}

/// What is known of a record so far.
#[derive(Clone, Copy, Default)]
struct Seen {
    acknowledged: bool,
    polled: bool,
}

/// The unseen over time; what is left at the end are findings.
pub(crate) fn unseen(tables: &Tables, events: &[Event], findings: &mut Findings) -> Vec<UnseenPoint> {
    let mut seen = vec![Seen::default(); tables.records.len()];
    let mut course = Course::new(tables, events);
    let mut unseen = 0;
    for event in events {
        let Event::Completed(id) = *event else { continue };
        let operation = tables.history.operation(id);
        let Some(completed) = operation.completed.filter(|_| operation.outcome == Outcome::Ok) else { continue };
        for send in tables.sends(id) {
            let seen = &mut seen[send.record as usize];
            seen.acknowledged = true;
            unseen += u64::from(!seen.polled);
        }
        for read in tables.reads(id) {
            let seen = &mut seen[read.record as usize];
            unseen -= u64::from(seen.acknowledged && !seen.polled);
            seen.polled = true;
        }
        course.note(completed.time_ns, unseen);
    }
    left(tables, &seen, findings);
    course.points
}

/// One finding per key that has any.
fn left(tables: &Tables, seen: &[Seen], findings: &mut Findings) {
    let mut left: Vec<(u64, Vec<Value>)> = vec![(0, Vec::new()); tables.history.key_count()];
    // The numbers of records are in the order of their first mention, which is not that of their sends.
    let unseen = tables.ids().flat_map(|id| tables.sends(id)).filter(|send| {
        let seen = seen[send.record as usize];
        seen.acknowledged && !seen.polled
    });
    let mut keys = Vec::new();
    for send in unseen {
        let key = tables.key(*send);
        let (count, values) = &mut left[key.index()];
        if *count == 0 {
            keys.push(key);
        }
        *count += 1;
        if values.len() < LISTED {
            values.push(tables.value(*send));
        }
    }
    keys.sort_unstable();
    for key in keys {
        let (count, values) = std::mem::take(&mut left[key.index()]);
        findings.note(Finding::Unseen { key, count, values });
    }
}

/// Points at equal distances of time.
struct Course {
    points: Vec<UnseenPoint>,
    next_ns: u64,
    distance_ns: u64,
}

impl Course {
    fn new(tables: &Tables, events: &[Event]) -> Course {
        let time_ns = |event: &Event| match *event {
            Event::Invoked(id) => Some(tables.history.operation(id).invoked.time_ns),
            Event::Completed(id) => tables.history.operation(id).completed.map(|completed| completed.time_ns),
        };
        let first_ns = events.first().and_then(time_ns).unwrap_or(0);
        let last_ns = events.last().and_then(time_ns).unwrap_or(0);
        let distance_ns = (last_ns.saturating_sub(first_ns) / POINTS).max(1);
        Course { points: Vec::new(), next_ns: first_ns, distance_ns }
    }

    fn note(&mut self, time_ns: u64, unseen: u64) {
        match self.points.last_mut() {
            Some(point) if time_ns < self.next_ns => {
                *point = UnseenPoint { time_ns, unseen, peak: point.peak.max(unseen) };
            }
            _ => {
                self.points.push(UnseenPoint { time_ns, unseen, peak: unseen });
                self.next_ns = time_ns.saturating_add(self.distance_ns);
            }
        }
    }
}
