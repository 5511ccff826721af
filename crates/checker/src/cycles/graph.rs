//! Which operation came before which, as a graph.
//!
//! Its nodes are the operations that did not fail, and after them moments: each stands for some completions, and comes
//! before the next moment and before what is invoked until then. So "completed before the other began" is a path through
//! moments, and takes a few edges per operation instead of one per pair.

use std::collections::HashMap;
use std::ops::Range;

use crate::history::{Action, Event, OperationId, Outcome, Process, count_u32};
use crate::tables::Tables;

/// Kinds of edges, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edges(pub u8);

impl Edges {
    /// Wrote the record before the other's.
    pub const WW: Edges = Edges(1);
    /// Wrote what the other was given.
    pub const WR: Edges = Edges(2);
    /// The same process did the other next.
    pub const PROCESS: Edges = Edges(4);
    /// From operations to moments, between these, and from them to operations.
    pub const REALTIME: Edges = Edges(8);

    pub const fn and(self, other: Edges) -> Edges {
        Edges(self.0 | other.0)
    }

    pub fn has(self, kind: Edges) -> bool {
        self.0 & kind.0 != 0
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    pub to: u32,
    pub kind: Edges,
}

#[derive(Debug)]
pub(crate) struct Graph {
    /// By node, where its edges begin; one more entry for the end.
    starts: Vec<u32>,
    edges: Vec<Edge>,
    /// Nodes below are operations, the others moments.
    pub operations: u32,
}

impl Graph {
    pub fn new(tables: &Tables, events: &[Event]) -> Graph {
        let operations = count_u32(tables.history.operations().len());
        let mut nodes = operations;
        let mut all = 0u64;
        let mut counts: Vec<u32> = vec![0; operations as usize];
        each_edge(tables, events, |from, to, _| {
            nodes = nodes.max(from + 1).max(to + 1);
            counts.resize(counts.len().max(nodes as usize), 0);
            counts[from as usize] += 1;
            all += 1;
        });
        assert!(u32::try_from(all).is_ok(), "a history has fewer than 2^32 dependencies");
        Graph::fill(operations, &counts, |add| each_edge(tables, events, add))
    }

    /// A graph of these edges; without moments.
    #[cfg(test)]
    pub fn of(nodes: u32, edges: &[(u32, u32, Edges)]) -> Graph {
        let mut counts = vec![0; nodes as usize];
        for (from, _, _) in edges {
            counts[*from as usize] += 1;
        }
        Graph::fill(nodes, &counts, |add| {
            for (from, to, kind) in edges {
                add(*from, *to, *kind);
            }
        })
    }

    fn fill(operations: u32, counts: &[u32], each: impl FnOnce(&mut dyn FnMut(u32, u32, Edges))) -> Graph {
        let mut starts = Vec::with_capacity(counts.len() + 1);
        let mut next = 0;
        starts.push(0);
        for count in counts {
            next += count;
            starts.push(next);
        }
        let mut edges = vec![Edge { to: 0, kind: Edges(0) }; next as usize];
        let mut free = starts.clone();
        each(&mut |from, to, kind| {
            let at = &mut free[from as usize];
            edges[*at as usize] = Edge { to, kind };
            *at += 1;
        });
        Graph { starts, edges, operations }
    }

    pub fn nodes(&self) -> u32 {
        count_u32(self.starts.len() - 1)
    }

    pub fn edges(&self, from: u32) -> &[Edge] {
        &self.edges[self.starts[from as usize] as usize..self.starts[from as usize + 1] as usize]
    }
}

fn each_edge(tables: &Tables, events: &[Event], mut add: impl FnMut(u32, u32, Edges)) {
    data_edges(tables, &mut add);
    time_edges(tables, events, &mut add);
}

/// What failed did not happen: it comes before nothing, and nothing before it.
fn happened(tables: &Tables, id: OperationId) -> bool {
    tables.outcome(id) != Outcome::Fail
}

fn data_edges(tables: &Tables, add: &mut impl FnMut(u32, u32, Edges)) {
    let writer = |record: u32| tables.writer(record).filter(|writer| happened(tables, *writer));
    let log = &tables.log;
    for key in tables.history.keys() {
        let writers = first_places(tables, log.range(key)).map(|position| writer(log.records[position as usize]));
        let mut before: Option<OperationId> = None;
        for after in writers {
            if let (Some(before), Some(after)) = (before, after)
                && before != after
            {
                add(before.0, after.0, Edges::WW);
            }
            before = after;
        }
    }
    for id in tables.ids().filter(|id| happened(tables, *id)) {
        let mut last = None;
        for read in tables.reads(id) {
            let writer = writer(read.record).filter(|writer| *writer != id);
            // A batch or transaction is usually read as a whole: one edge tells as much.
            if let Some(writer) = writer.filter(|_| writer != last) {
                add(writer.0, id.0, Edges::WR);
            }
            last = writer;
        }
    }
}

/// The positions where a record is for the first time: at others its being there says nothing about its write.
pub(crate) fn first_places(tables: &Tables, positions: Range<u32>) -> impl DoubleEndedIterator<Item = u32> {
    positions.filter(|position| {
        let record = tables.log.records[*position as usize];
        tables.records.first_positions[record as usize] == *position
    })
}

fn time_edges(tables: &Tables, events: &[Event], add: &mut impl FnMut(u32, u32, Edges)) {
    let mut last_ok: HashMap<Process, OperationId> = HashMap::new();
    let mut next_moment = count_u32(tables.history.operations().len());
    let mut moment: Option<u32> = None;
    // Whether something was invoked after the moment, so that what completes now needs another.
    let mut passed = false;
    for event in events {
        let (Event::Invoked(id) | Event::Completed(id)) = *event;
        let operation = tables.history.operation(id);
        if !matches!(operation.action, Action::Transact(_)) || !happened(tables, id) {
            continue;
        }
        match event {
            Event::Invoked(_) => {
                if let Some(before) = last_ok.get(&operation.process) {
                    add(before.0, id.0, Edges::PROCESS);
                }
                if let Some(moment) = moment {
                    add(moment, id.0, Edges::REALTIME);
                    passed = true;
                }
            }
            // What is unknown may still happen: nothing comes after it.
            Event::Completed(_) if operation.outcome == Outcome::Ok => {
                last_ok.insert(operation.process, id);
                let now = match moment {
                    Some(moment) if !passed => moment,
                    before => {
                        let now = next_moment;
                        next_moment += 1;
                        if let Some(before) = before {
                            add(before, now, Edges::REALTIME);
                        }
                        (moment, passed) = (Some(now), false);
                        now
                    }
                };
                add(id.0, now, Edges::REALTIME);
            }
            Event::Completed(_) => {}
        }
    }
}
