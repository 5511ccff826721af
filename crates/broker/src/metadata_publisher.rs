//! Makes this node follow the committed metadata: logs for the partitions it hosts, none for those it does not, and the
//! configuration of each.
//!
//! One task applies changes in the order of the quorum's log; a handler that made a change waits here until this node
//! has caught up with it.

use std::sync::Arc;
use std::time::Duration;

use ottla_config::LogConfig;
use ottla_image::{ConfigResource, ConfigResourceType, MetadataImage, TopicImage};
use ottla_quorum::{LogPosition, MetadataChange, MetadataWatch};
use ottla_rt::World;
use ottla_types::{NodeId, TopicId, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::connection_quota::ConnectionQuota;
use crate::current_config::CurrentConfig;
use crate::fatal::Fatal;
use crate::housekeeping;
use crate::replica_manager::{Hosted, HostedTopic, ReplicaManager};
use crate::topics;

/// How often logs that could not be made are tried again.
const RETRY: Duration = Duration::from_secs(2);

pub(crate) struct MetadataPublisher {
    node_id: NodeId,
    config: CurrentConfig,
    replicas: Arc<ReplicaManager>,
    connections: Arc<ConnectionQuota>,
    fatal: Fatal,
    applied: watch::Sender<LogPosition>,
    /// The one that was given out last.
    shared_config: Mutex<Arc<LogConfig>>,
}

/// What a change of this node's configuration entails.
struct Reconfigured {
    /// Topics have other defaults.
    defaults_changed: bool,
    /// Hosts are to be looked up.
    names_hosts: bool,
}

/// How far this node follows the metadata.
#[derive(Clone)]
pub(crate) struct Applied(watch::Receiver<LogPosition>);

impl Applied {
    /// Ends when this node has applied everything up to this position.
    pub(crate) async fn reached(&self, position: LogPosition) {
        let mut receiver = self.0.clone();
        // The publisher ends at shutdown only; then nobody needs the answer.
        let _ = receiver.wait_for(|applied| *applied >= position).await;
    }
}

impl MetadataPublisher {
    pub(crate) fn new(
        config: CurrentConfig,
        replicas: Arc<ReplicaManager>,
        connections: Arc<ConnectionQuota>,
        fatal: Fatal,
    ) -> (MetadataPublisher, Applied) {
        let (applied, receiver) = watch::channel(LogPosition::default());
        let node_id = config.at_start().node_id;
        let shared_config = Mutex::new(Arc::new(config.at_start().log.clone()));
        let publisher = MetadataPublisher { node_id, config, replicas, connections, fatal, applied, shared_config };
        (publisher, Applied(receiver))
    }

    /// Hosts what the image says, at the start.
    pub(crate) async fn begin(&self, world: &World, image: &MetadataImage) {
        self.reconfigure(image);
        // Before anybody connects.
        self.connections.resolve(world).await;
        let is_known = |topic_partition: &TopicPartition, id: Option<TopicId>| {
            let Some(topic) = image.topic_by_name(&topic_partition.topic) else { return false };
            let registration = topic.partition(topic_partition.partition);
            id.is_none_or(|id| id == topic.topic_id)
                && registration.is_some_and(|registration| registration.replicas.contains(&self.node_id))
        };
        self.replicas.set_strays_aside(is_known).await;
        self.replicas.host_all(self.everything(image)).await;
    }

    /// Follows the image until the quorum is shut down. Logs that could not be made (a full disk) are tried again.
    pub(crate) async fn run(self, world: World, mut metadata: MetadataWatch) {
        let mut complete = true;
        loop {
            let change = tokio::select! {
                change = metadata.changed() => change,
                () = tokio::time::sleep(RETRY), if !complete => {
                    complete = self.replicas.host(self.everything(metadata.image())).await;
                    continue;
                }
            };
            let Some(change) = change else { return };
            let _guard = self.fatal.guard("following the metadata");
            complete &= self.apply(&world, &change).await;
            self.applied.send_replace(change.position);
        }
    }

    /// False when some log could not be made but may be later.
    async fn apply(&self, world: &World, change: &MetadataChange) -> bool {
        let MetadataChange { image, delta, .. } = change;
        let own = [ConfigResource::default_broker(), ConfigResource::broker(self.node_id)];
        let mut defaults_changed = false;
        if own.iter().any(|resource| delta.configs_changed.contains(resource)) {
            let reconfigured = self.reconfigure(image);
            defaults_changed = reconfigured.defaults_changed;
            if reconfigured.names_hosts {
                // Nobody who changes the metadata waits for a name server.
                let (connections, world) = (Arc::clone(&self.connections), world.clone());
                tokio::spawn(async move { connections.resolve(&world).await });
            }
            housekeeping::start_cleaner(self.replicas.logs(), &self.config.get());
            housekeeping::start_moves(self.replicas.logs(), &self.config.get());
        }
        if !delta.topics_deleted.is_empty() {
            self.replicas.remove(delta.topics_deleted.iter().map(|topic| topic.topic_id)).await;
        }
        let changed = delta.topics_changed.iter().map(|changed| &changed.topic);
        let topics: Vec<_> =
            delta.topics_created.iter().chain(changed).map(|topic| self.hosted(image, topic)).collect();
        let complete = topics.is_empty() || self.replicas.host(topics).await;
        if defaults_changed {
            for topic in image.topics() {
                self.replicas.set_config(topic.topic_id, &self.log_config(image, &topic.name));
            }
            return complete;
        }
        for resource in &delta.configs_changed {
            if resource.resource_type != ConfigResourceType::Topic {
                continue;
            }
            if let Some(topic) = image.topic_by_name(&resource.name) {
                self.replicas.set_config(topic.topic_id, &self.log_config(image, &topic.name));
            }
        }
        complete
    }

    /// Makes what is set at run time the configuration of this node.
    fn reconfigure(&self, image: &MetadataImage) -> Reconfigured {
        let (config, errors) = self.config.with(image);
        for error in errors {
            tracing::error!(%error, "a setting made at run time is not understood; it has no effect");
        }
        let config = Arc::new(config);
        let defaults_changed = config.log != self.config.get().log;
        let names_hosts = self.connections.reconfigure(&config.network);
        self.replicas.logs().set_producer_id_expiration_ms(config.log_maintenance.producer_id_expiration_ms);
        self.config.set(config);
        Reconfigured { defaults_changed, names_hosts }
    }

    fn everything(&self, image: &MetadataImage) -> Vec<HostedTopic> {
        image.topics().map(|topic| self.hosted(image, topic)).collect()
    }

    fn hosted(&self, image: &MetadataImage, topic: &TopicImage) -> HostedTopic {
        let hosted = topic
            .partitions()
            .filter(|(_, registration)| registration.replicas.contains(&self.node_id))
            .map(|(partition, registration)| Hosted { partition, leader_epoch: registration.leader_epoch })
            .collect();
        (Arc::clone(&topic.name), topic.topic_id, self.log_config(image, &topic.name), hosted)
    }

    /// The topic's configuration; topics that follow each other and have the same one share it.
    fn log_config(&self, image: &MetadataImage, topic: &str) -> Arc<LogConfig> {
        let config = topics::log_config(&self.config.get(), image, topic);
        let mut shared = self.shared_config.lock();
        if **shared != config {
            *shared = Arc::new(config);
        }
        Arc::clone(&shared)
    }
}
