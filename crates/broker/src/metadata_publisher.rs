//! Makes this node follow the committed metadata: logs for the partitions it hosts, none for those it does not, and the
//! configuration of each.
//!
//! One task applies changes in the order of the quorum's log; a handler that made a change waits here until this node
//! has caught up with it.

use std::sync::Arc;
use std::time::Duration;

use ottla_config::{LogConfig, ServerConfig};
use ottla_image::{ConfigResourceType, MetadataImage, TopicImage};
use ottla_quorum::{LogPosition, MetadataChange, MetadataWatch};
use ottla_types::{NodeId, TopicId, TopicPartition};
use tokio::sync::watch;

use crate::fatal::Fatal;
use crate::replica_manager::{Hosted, HostedTopic, ReplicaManager};
use crate::topics;

/// How often logs that could not be made are tried again.
const RETRY: Duration = Duration::from_secs(2);

pub(crate) struct MetadataPublisher {
    node_id: NodeId,
    config: Arc<ServerConfig>,
    replicas: Arc<ReplicaManager>,
    fatal: Fatal,
    applied: watch::Sender<LogPosition>,
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
        node_id: NodeId,
        config: Arc<ServerConfig>,
        replicas: Arc<ReplicaManager>,
        fatal: Fatal,
    ) -> (MetadataPublisher, Applied) {
        let (applied, receiver) = watch::channel(LogPosition::default());
        (MetadataPublisher { node_id, config, replicas, fatal, applied }, Applied(receiver))
    }

    /// Hosts what the image says, at the start.
    pub(crate) async fn begin(&self, image: &MetadataImage) {
        let is_known = |topic_partition: &TopicPartition, id: Option<TopicId>| {
            let Some(topic) = image.topic_by_name(&topic_partition.topic) else { return false };
            let registration = topic.partition(topic_partition.partition);
            id.is_none_or(|id| id == topic.topic_id)
                && registration.is_some_and(|registration| registration.replicas.contains(&self.node_id))
        };
        self.replicas.set_strays_aside(is_known).await;
        self.replicas.host(self.everything(image)).await;
    }

    /// Follows the image until the quorum is shut down. Logs that could not be made (a full disk) are tried again.
    pub(crate) async fn run(self, mut metadata: MetadataWatch) {
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
            complete &= self.apply(&change).await;
            self.applied.send_replace(change.position);
        }
    }

    /// False when some log could not be made but may be later.
    async fn apply(&self, change: &MetadataChange) -> bool {
        let MetadataChange { image, delta, .. } = change;
        for topic in &delta.topics_deleted {
            self.replicas.remove(topic.topic_id).await;
        }
        let changed = delta.topics_changed.iter().map(|changed| &changed.topic);
        let topics: Vec<_> =
            delta.topics_created.iter().chain(changed).map(|topic| self.hosted(image, topic)).collect();
        let complete = topics.is_empty() || self.replicas.host(topics).await;
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

    fn log_config(&self, image: &MetadataImage, topic: &str) -> LogConfig {
        topics::log_config(&self.config, image, topic)
    }
}
