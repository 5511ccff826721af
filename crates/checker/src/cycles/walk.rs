//! The shortest circle from an operation back to itself that has what its kind needs.

use std::collections::VecDeque;

use crate::cycles::components::Components;
use crate::cycles::graph::{Edges, Graph};

/// Nodes in order, each with the kind of the edge to the next; the last one's leads back to the first.
pub(crate) type Walk = Vec<(u32, Edges)>;

/// What a walk has had so far, as bits: an edge of the kind it needs, a node outside the start's weaker component.
const HAD_EDGE: u8 = 1;
const HAS_LEFT: u8 = 2;
const STATES: usize = 4;

/// Searches breadth first over nodes and what the walk has had until there; its memory is used again.
pub(crate) struct Walker<'a> {
    graph: &'a Graph,
    /// By node and state: the search that came there last, and how.
    seen: Vec<u32>,
    came: Vec<Came>,
    search: u32,
    queue: VecDeque<(u32, u8)>,
}

/// How a search came to a node.
#[derive(Clone, Copy)]
struct Came {
    from: u32,
    had: u8,
    kind: Edges,
}

impl<'a> Walker<'a> {
    pub fn new(graph: &'a Graph) -> Walker<'a> {
        let states = graph.nodes() as usize * STATES;
        let nowhere = Came { from: 0, had: 0, kind: Edges(0) };
        Walker { graph, seen: vec![0; states], came: vec![nowhere; states], search: 0, queue: VecDeque::new() }
    }

    /// The shortest walk from `start` back to it over edges of these kinds that has an edge of the kind `needs`, and does
    /// not stay within a component of `weaker` edges. It stays within its component of all.
    pub fn shortest(
        &mut self,
        start: u32,
        edges: Edges,
        needs: Edges,
        components: &Components,
        weaker: Option<&Components>,
    ) -> Option<Walk> {
        self.search += 1;
        self.queue.clear();
        let all = HAD_EDGE | if weaker.is_some() { HAS_LEFT } else { 0 };
        self.queue.push_back((start, 0));
        while let Some((node, had)) = self.queue.pop_front() {
            for edge in self.graph.edges(node) {
                if !edges.has(edge.kind) || components.of(edge.to) != components.of(start) {
                    continue;
                }
                let mut has = had;
                if edge.kind == needs {
                    has |= HAD_EDGE;
                }
                let is_moment = edge.to >= self.graph.operations;
                if !is_moment && weaker.is_some_and(|weaker| weaker.of(edge.to) != weaker.of(start)) {
                    has |= HAS_LEFT;
                }
                if edge.to == start && has == all {
                    return Some(self.walk_back(start, node, had, edge.kind));
                }
                let at = edge.to as usize * STATES + usize::from(has);
                if self.seen[at] == self.search || (edge.to == start && has == 0) {
                    continue;
                }
                self.seen[at] = self.search;
                self.came[at] = Came { from: node, had, kind: edge.kind };
                // Moments cost nothing, so that the length is that in operations.
                if is_moment {
                    self.queue.push_front((edge.to, has));
                } else {
                    self.queue.push_back((edge.to, has));
                }
            }
        }
        None
    }

    fn walk_back(&self, start: u32, last: u32, last_had: u8, closing: Edges) -> Walk {
        let mut walk = vec![(last, closing)];
        let (mut node, mut had) = (last, last_had);
        while node != start || had != 0 {
            let came = self.came[node as usize * STATES + usize::from(had)];
            walk.push((came.from, came.kind));
            (node, had) = (came.from, came.had);
        }
        walk.reverse();
        walk
    }
}
