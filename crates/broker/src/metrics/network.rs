//! Connections and bytes by listener; [`ListenerSnapshot`] has Kafka's names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Counter, Level, ListenerSnapshot, Sharded};

/// The listeners, in the order of their names.
#[derive(Debug, Default)]
pub(crate) struct NetworkMetrics(Mutex<BTreeMap<Arc<str>, Arc<ListenerMetrics>>>);

impl NetworkMetrics {
    /// The handle of a listener; to be asked for once, and kept.
    pub(crate) fn listener(&self, name: &Arc<str>) -> Arc<ListenerMetrics> {
        Arc::clone(self.0.lock().entry(Arc::clone(name)).or_default())
    }

    pub(super) fn snapshot(&self) -> BTreeMap<String, ListenerSnapshot> {
        self.0.lock().iter().map(|(name, metrics)| (name.to_string(), metrics.snapshot())).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct ListenerMetrics {
    pub(crate) connections: Level,
    pub(crate) refused: Counter,
    created: Counter,
    closed: Counter,
    expired: Counter,
    rejected: Counter,
    throttled_micros: Counter,
    traffic: Sharded<Traffic>,
}

/// How a connection ended, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// By the peer, a broken line, or the end of this node.
    Ordinarily,
    Idle,
    /// For what the client sent.
    Rejected,
}

#[derive(Debug, Default)]
struct Traffic {
    bytes_in: Counter,
    bytes_out: Counter,
}

impl ListenerMetrics {
    pub(crate) fn created(&self) {
        self.created.add(1);
    }

    pub(crate) fn closed(&self, how: Closed) {
        self.closed.add(1);
        match how {
            Closed::Ordinarily => {}
            Closed::Idle => self.expired.add(1),
            Closed::Rejected => self.rejected.add(1),
        }
    }

    /// Accepting waits for the rate of new connections.
    pub(crate) fn throttled(&self, time: Duration) {
        self.throttled_micros.add(time.as_micros() as u64);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.traffic.here().bytes_in.add(bytes as u64);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.traffic.here().bytes_out.add(bytes as u64);
    }

    fn snapshot(&self) -> ListenerSnapshot {
        ListenerSnapshot {
            connections: self.connections.count(),
            created: self.created.count(),
            closed: self.closed.count(),
            expired: self.expired.count(),
            rejected: self.rejected.count(),
            refused: self.refused.count(),
            throttled_micros: self.throttled_micros.count(),
            bytes_in: self.traffic.all().map(|traffic| traffic.bytes_in.count()).sum(),
            bytes_out: self.traffic.all().map(|traffic| traffic.bytes_out.count()).sum(),
        }
    }
}
