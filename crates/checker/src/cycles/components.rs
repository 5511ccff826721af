//! Strongly connected components, by Tarjan's algorithm on a stack of its own: histories are deeper than any thread's.

use crate::cycles::graph::{Edges, Graph};

/// Which component each node is in.
#[derive(Debug)]
pub(crate) struct Components {
    of: Vec<u32>,
    /// Nodes of each component.
    sizes: Vec<u32>,
}

const UNVISITED: u32 = u32::MAX;

impl Components {
    /// The components that edges of these kinds make.
    pub fn new(graph: &Graph, kinds: Edges) -> Components {
        let nodes = graph.nodes();
        let mut found = Components { of: vec![UNVISITED; nodes as usize], sizes: Vec::new() };
        let mut search = Search {
            graph,
            kinds,
            order: vec![UNVISITED; nodes as usize],
            lowest: vec![0; nodes as usize],
            next: 0,
            waiting: Vec::new(),
            path: Vec::new(),
        };
        for node in 0..nodes {
            if search.order[node as usize] == UNVISITED {
                search.from(node, &mut found);
            }
        }
        found
    }

    pub fn of(&self, node: u32) -> u32 {
        self.of[node as usize]
    }

    /// Whether its node is on no cycle.
    pub fn is_single(&self, component: u32) -> bool {
        self.sizes[component as usize] == 1
    }

    pub fn all_single(&self) -> bool {
        self.sizes.iter().all(|size| *size == 1)
    }
}

struct Search<'a> {
    graph: &'a Graph,
    kinds: Edges,
    /// When each node was first come to.
    order: Vec<u32>,
    /// The earliest node each was seen to reach.
    lowest: Vec<u32>,
    next: u32,
    /// Visited nodes whose component is still open.
    waiting: Vec<u32>,
    /// From the root to the node looked at: node, and how many of its edges were followed.
    path: Vec<(u32, u32)>,
}

impl Search<'_> {
    fn from(&mut self, root: u32, found: &mut Components) {
        self.enter(root);
        while let Some((node, followed)) = self.path.last_mut() {
            let node = *node;
            let Some(edge) = self.graph.edges(node).get(*followed as usize) else {
                self.leave(node, found);
                continue;
            };
            *followed += 1;
            if !self.kinds.has(edge.kind) {
                continue;
            }
            let to = edge.to as usize;
            if self.order[to] == UNVISITED {
                self.enter(edge.to);
            } else if found.of[to] == UNVISITED {
                self.lowest[node as usize] = self.lowest[node as usize].min(self.order[to]);
            }
        }
    }

    fn enter(&mut self, node: u32) {
        self.order[node as usize] = self.next;
        self.lowest[node as usize] = self.next;
        self.next += 1;
        self.waiting.push(node);
        self.path.push((node, 0));
    }

    fn leave(&mut self, node: u32, found: &mut Components) {
        self.path.pop();
        let lowest = self.lowest[node as usize];
        if let Some((parent, _)) = self.path.last() {
            let parent = *parent as usize;
            self.lowest[parent] = self.lowest[parent].min(lowest);
        }
        if lowest != self.order[node as usize] {
            return;
        }
        let component = found.sizes.len() as u32;
        let mut size = 0;
        while let Some(member) = self.waiting.pop() {
            found.of[member as usize] = component;
            size += 1;
            if member == node {
                break;
            }
        }
        found.sizes.push(size);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether one node reaches another, by looking at all paths.
    fn reach(nodes: u32, edges: &[(u32, u32, Edges)], kinds: Edges) -> Vec<Vec<bool>> {
        let nodes = nodes as usize;
        let mut reach = vec![vec![false; nodes]; nodes];
        for (from, to, _) in edges.iter().filter(|(_, _, kind)| kinds.has(*kind)) {
            reach[*from as usize][*to as usize] = true;
        }
        for over in 0..nodes {
            for from in 0..nodes {
                for to in 0..nodes {
                    reach[from][to] |= reach[from][over] && reach[over][to];
                }
            }
        }
        reach
    }

    proptest! {
        #[test]
        fn nodes_that_reach_each_other_are_together(
            edges in proptest::collection::vec((0u32..12, 0u32..12, 0u8..4), 0..40),
            kinds in 0u8..16,
        ) {
            let edges: Vec<_> = edges.into_iter().map(|(from, to, bit)| (from, to, Edges(1 << bit))).collect();
            let components = Components::new(&Graph::of(12, &edges), Edges(kinds));
            let reach = reach(12, &edges, Edges(kinds));
            for one in 0..12 {
                for other in (0..12).filter(|other| *other != one) {
                    let together = reach[one as usize][other as usize] && reach[other as usize][one as usize];
                    prop_assert_eq!(components.of(one) == components.of(other), together);
                }
                let alone = (0..12).all(|other| other == one || components.of(other) != components.of(one));
                prop_assert_eq!(components.is_single(components.of(one)), alone);
            }
        }
    }

    #[test]
    fn a_million_nodes_in_a_row_need_no_stack() {
        const NODES: u32 = 1_000_000;
        let mut edges: Vec<_> = (1..NODES).map(|node| (node - 1, node, Edges::WW)).collect();
        assert!(Components::new(&Graph::of(NODES, &edges), Edges::WW).all_single());
        edges.push((NODES - 1, 0, Edges::WR));
        let components = Components::new(&Graph::of(NODES, &edges), Edges::WW.and(Edges::WR));
        assert!((0..NODES).all(|node| components.of(node) == components.of(0)));
    }
}
