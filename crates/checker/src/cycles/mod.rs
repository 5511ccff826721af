//! Circles in the order of operations: things that would each have happened before themselves.
//!
//! The search is done twice. Without the order of writes an operation comes before another because the other was given
//! what it wrote, or by process or time: no circle of these may be. With it also because its record is followed by one of
//! the other: nothing isolates writes, so circles are usual, and worth knowing.
//!
//! Each kind of circle is looked for with the edges it may have, weakest first, in each component these make. A circle by
//! process or time is reported only if it joins operations that were not already in a circle without: otherwise it says
//! nothing new.

mod components;
mod graph;
mod walk;

use crate::anomaly::{Anomaly, Because, Cycle, CycleStep, Finding};
use crate::findings::Findings;
use crate::history::{Event, OperationId};
use crate::tables::{NONE, Tables};

use self::components::Components;
use self::graph::{Edges, Graph, first_places};
use self::walk::{Walk, Walker};

/// One kind of circle.
struct Level {
    anomaly: Anomaly,
    edges: Edges,
    /// Without these it would be another kind.
    needs: Edges,
}

const G0: [Level; 3] = [
    Level { anomaly: Anomaly::G0, edges: Edges::WW, needs: Edges::WW },
    Level { anomaly: Anomaly::G0Process, edges: Edges::WW.and(Edges::PROCESS), needs: Edges::WW },
    Level { anomaly: Anomaly::G0Realtime, edges: Edges::WW.and(Edges::PROCESS).and(Edges::REALTIME), needs: Edges::WW },
];

/// The levels of G1c over these edges between data.
const fn g1c(data: Edges) -> [Level; 3] {
    [
        Level { anomaly: Anomaly::G1c, edges: data, needs: Edges::WR },
        Level { anomaly: Anomaly::G1cProcess, edges: data.and(Edges::PROCESS), needs: Edges::WR },
        Level { anomaly: Anomaly::G1cRealtime, edges: data.and(Edges::PROCESS).and(Edges::REALTIME), needs: Edges::WR },
    ]
}

/// Finds circles with and without the order of writes.
pub(crate) fn cycles(tables: &Tables, events: &[Event], findings: &mut Findings) {
    let graph = Graph::new(tables, events);
    let everything = Edges::WW.and(Edges::WR).and(Edges::PROCESS).and(Edges::REALTIME);
    if Components::new(&graph, everything).all_single() {
        return;
    }
    let mut search = Search { tables, graph: &graph, walker: Walker::new(&graph), findings };
    search.levels(&g1c(Edges::WR), false);
    search.levels(&G0, true);
    search.levels(&g1c(Edges::WW.and(Edges::WR)), true);
}

struct Search<'a, 'h> {
    tables: &'a Tables<'h>,
    graph: &'a Graph,
    walker: Walker<'a>,
    findings: &'a mut Findings,
}

impl Search<'_, '_> {
    fn levels(&mut self, levels: &[Level], orders_writes: bool) {
        let mut weaker: Option<Components> = None;
        for level in levels {
            let components = Components::new(self.graph, level.edges);
            if !components.all_single() {
                self.level(level, &components, weaker.as_ref(), orders_writes);
            }
            weaker = Some(components);
        }
    }

    /// One circle for each component that has any of this kind.
    fn level(&mut self, level: &Level, components: &Components, weaker: Option<&Components>, orders_writes: bool) {
        // From how many operations of a component the shortest circle is looked for.
        const STARTS: usize = 8;
        let operations = (0..self.graph.operations).map(|node| (components.of(node), node));
        let mut on_circles: Vec<_> = operations.filter(|(component, _)| !components.is_single(*component)).collect();
        on_circles.sort_unstable();
        let mut cycles = Vec::new();
        for component in on_circles.chunk_by(|one, other| one.0 == other.0) {
            // None from one operation is none from any.
            let walks = component
                .iter()
                .take(STARTS)
                .map_while(|(_, start)| self.walker.shortest(*start, level.edges, level.needs, components, weaker));
            let Some(walk) = walks.min_by_key(Vec::len) else { continue };
            // Without such an edge it was found by the search that knows nothing of them.
            if !orders_writes || walk.iter().any(|(_, kind)| kind.has(Edges::WW)) {
                cycles.push(Cycle { anomaly: level.anomaly, steps: self.steps(walk) });
            }
        }
        cycles.sort_unstable_by_key(|cycle| cycle.steps.first().map(|step| step.from));
        for cycle in cycles {
            self.findings.note_when(Finding::Cycle(cycle), false, orders_writes);
        }
    }

    /// The walk as steps from operation to operation, beginning with the first of these.
    fn steps(&self, mut walk: Walk) -> Vec<CycleStep> {
        // Moments are only ways from one operation to the next.
        walk.retain(|(node, _)| *node < self.graph.operations);
        let first = walk.iter().enumerate().min_by_key(|(_, (node, _))| *node).map_or(0, |(at, _)| at);
        walk.rotate_left(first);
        let nodes: Vec<u32> = walk.iter().map(|(node, _)| *node).collect();
        let step = |(at, (node, kind)): (usize, &(u32, Edges))| {
            let (from, to) = (OperationId(*node), OperationId(nodes[(at + 1) % nodes.len()]));
            CycleStep { from, to, because: self.because(from, to, *kind) }
        };
        walk.iter().enumerate().map(step).collect()
    }

    /// What an edge of this kind says.
    fn because(&self, from: OperationId, to: OperationId, kind: Edges) -> Because {
        let tables = self.tables;
        match kind {
            Edges::PROCESS => Because::Process,
            Edges::REALTIME => Because::Realtime,
            Edges::WR => {
                let read = tables.reads(to).iter().find(|read| tables.writer(read.record) == Some(from));
                let read = read.expect("an edge for a record that was read");
                Because::Wr { key: tables.key(*read), value: tables.value(*read) }
            }
            _ => {
                let found = tables.sends(to).iter().find_map(|send| {
                    let record = send.record;
                    let (key, position) = (tables.key(*send), tables.records.first_positions[record as usize]);
                    if position == NONE {
                        return None;
                    }
                    let before = first_places(tables, tables.log.range(key).start..position).next_back()?;
                    let before = tables.log.records[before as usize];
                    (tables.writer(before) == Some(from)).then_some((key, before, record))
                });
                let (key, before, after) = found.expect("an edge for records that follow each other");
                let value = |record: u32| tables.records.values[record as usize];
                Because::Ww { key, before: value(before), after: value(after) }
            }
        }
    }
}
