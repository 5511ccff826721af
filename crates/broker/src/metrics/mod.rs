//! What a node counts of itself: cheap handles, held where they are used. Showing them is another layer's work.
//!
//! Kafka's names (MBeans of `kafka.network`, `kafka.server` and `kafka.log`, and the sensors of its selectors) stand at
//! each handle, so that whoever renders them has nothing to invent. Rates are not kept: a counter and the reader's clock
//! give any rate. A handle costs one or two relaxed atomic additions; what every request touches is split in shards, so
//! that threads do not fight for a cache line.

mod counter;
mod histogram;
mod network;
mod requests;
mod sharded;
mod snapshot;
mod topics;

use std::collections::BTreeMap;

pub(crate) use counter::{Counter, Gauge, Level};
pub(crate) use histogram::Histogram;
pub(crate) use network::{Closed, ListenerMetrics, NetworkMetrics};
pub(crate) use requests::{RequestMetrics, Timing};
pub(crate) use sharded::Sharded;
pub use snapshot::{ApiSnapshot, HistogramSnapshot, ListenerSnapshot, MetricsSnapshot, TopicSnapshot};
pub(crate) use topics::TopicMetrics;

use crate::replica_manager::ReplicaManager;

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Connections being served; a shutdown waits for them.
    pub(crate) connections: Gauge,
    pub(crate) handler_panics: Counter,
    pub(crate) failed_appends: Counter,
    pub(crate) requests: RequestMetrics,
    pub(crate) network: NetworkMetrics,
    /// All topics together: `BrokerTopicMetrics` without a topic.
    pub(crate) topics: Sharded<TopicMetrics>,
    /// `kafka.server:type=DelayedOperationPurgatory,name=PurgatorySize,delayedOperation=Produce`
    pub(crate) waiting_produces: Level,
    /// The same of `delayedOperation=Fetch`.
    pub(crate) waiting_fetches: Level,
}

impl Metrics {
    /// What has been counted so far. Counters are read one after the other: related ones may be a request apart.
    pub(crate) fn snapshot(&self, replicas: &ReplicaManager) -> MetricsSnapshot {
        let by_topic = replicas.topics().into_iter().map(|topic| {
            let mut snapshot = TopicSnapshot::default();
            topic.metrics().add_to(&mut snapshot);
            (topic.name().to_string(), snapshot)
        });
        let mut all_topics = TopicSnapshot::default();
        for shard in self.topics.all() {
            shard.add_to(&mut all_topics);
        }
        MetricsSnapshot {
            connections: self.connections.count(),
            handler_panics: self.handler_panics.count(),
            failed_appends: self.failed_appends.count(),
            apis: self.requests.snapshot(),
            listeners: self.network.snapshot(),
            all_topics,
            topics: by_topic.collect::<BTreeMap<_, _>>(),
            waiting_produces: self.waiting_produces.count(),
            waiting_fetches: self.waiting_fetches.count(),
            log_flush_micros: HistogramSnapshot::of([replicas.flush_rounds()]),
            scrub: replicas.logs().scrub_status(),
        }
    }
}
