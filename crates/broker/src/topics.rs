//! Changes of topics: decided by the controller's pure functions, committed by the quorum, followed by this node before
//! the client is answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_config::{LogConfig, ServerConfig};
use ottla_controller::{
    CreatePartitions, CreatePartitionsError, CreatePartitionsRequestError, CreateTopics, CreateTopicsError,
    CreateTopicsRequestError, CreatedTopic, DeletedTopic, NewTopic, TopicDefaults, TopicToDelete, create_partitions,
    create_topics, delete_topics,
};
use ottla_image::{ConfigResource, MetadataImage};
use ottla_quorum::{LogPosition, MetadataQuorum, QuorumError, decide};
use ottla_rt::{World, random_u64};

use crate::broker::Broker;
use crate::config_changes::Rules;
use crate::current_config::CurrentConfig;
use crate::metadata_publisher::Applied;
use crate::server::random_uuid;

/// What became of each topic that was asked for.
pub(crate) type CreateResults = Vec<(Arc<str>, Result<CreatedTopic, CreateTopicsError>)>;

/// Why no topic of a request was created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateFailed {
    #[error(transparent)]
    Request(#[from] CreateTopicsRequestError),
    #[error(transparent)]
    Quorum(#[from] QuorumError),
}

impl CreateFailed {
    pub(crate) fn error_code(&self) -> ottla_types::ErrorCode {
        match self {
            CreateFailed::Request(error) => error.error_code(),
            CreateFailed::Quorum(error) => error.error_code(),
        }
    }
}

/// What became of each topic that should grow.
pub(crate) type GrowResults = Vec<(Arc<str>, Result<(), CreatePartitionsError>)>;

/// Why no topic of a request grew.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrowFailed {
    #[error(transparent)]
    Request(#[from] CreatePartitionsRequestError),
    #[error(transparent)]
    Quorum(#[from] QuorumError),
}

impl GrowFailed {
    pub(crate) fn error_code(&self) -> ottla_types::ErrorCode {
        match self {
            GrowFailed::Request(error) => error.error_code(),
            GrowFailed::Quorum(error) => error.error_code(),
        }
    }
}

/// The way topics are changed on this node.
pub(crate) struct TopicChanges {
    world: World,
    config: CurrentConfig,
    quorum: Arc<dyn MetadataQuorum>,
    applied: Applied,
}

impl TopicChanges {
    pub(crate) fn new(
        world: World,
        config: CurrentConfig,
        quorum: Arc<dyn MetadataQuorum>,
        applied: Applied,
    ) -> TopicChanges {
        TopicChanges { world, config, quorum, applied }
    }

    /// Creates topics; those that were made can be used when this returns.
    pub(crate) async fn create(&self, request: CreateTopics) -> Result<CreateResults, CreateFailed> {
        let (world, config) = (self.world.clone(), self.config.get());
        let decision = move |image: &MetadataImage| {
            let defaults = TopicDefaults {
                partitions: config.topics.num_partitions,
                replication_factor: config.topics.default_replication_factor,
            };
            let mut next_topic_id = || random_uuid(&world);
            let placement_start = random_u64(&*world.entropy);
            let rules = Rules { config: &config };
            match create_topics(image, &request, defaults, &rules, &mut next_topic_id, placement_start) {
                Ok(decided) => {
                    let changed = !decided.records.is_empty();
                    (decided.records, Ok((decided.response, changed)))
                }
                Err(error) => (Vec::new(), Err(error)),
            }
        };
        let (position, decided) = decide(&*self.quorum, decision).await?;
        let (results, changed) = decided?;
        self.follow(position, changed).await;
        Ok(results)
    }

    /// Adds partitions to topics; they can be used when this returns.
    pub(crate) async fn grow(&self, request: CreatePartitions) -> Result<GrowResults, GrowFailed> {
        let world = self.world.clone();
        let decision =
            move |image: &MetadataImage| match create_partitions(image, &request, random_u64(&*world.entropy)) {
                Ok(decided) => {
                    let changed = !decided.records.is_empty();
                    (decided.records, Ok((decided.response, changed)))
                }
                Err(error) => (Vec::new(), Err(error)),
            };
        let (position, decided) = decide(&*self.quorum, decision).await?;
        let (results, changed) = decided?;
        self.follow(position, changed).await;
        Ok(results)
    }

    /// Deletes topics; this node has let go of them when this returns.
    pub(crate) async fn delete(&self, topics: Vec<TopicToDelete>) -> Result<Vec<DeletedTopic>, QuorumError> {
        let decision = move |image: &MetadataImage| {
            let decided = delete_topics(image, &topics);
            let changed = !decided.records.is_empty();
            (decided.records, (decided.response, changed))
        };
        let (position, (results, changed)) = decide(&*self.quorum, decision).await?;
        self.follow(position, changed).await;
        Ok(results)
    }

    /// Waits until this node has made a change its own. The position of a decision without records may be one at which
    /// nothing changed, which no follower is told of.
    async fn follow(&self, position: LogPosition, changed: bool) {
        if changed {
            self.applied.reached(position).await;
        }
    }
}

impl Broker {
    /// Makes topics that clients ask for and that do not exist, with the broker's defaults, or, for an internal topic,
    /// with the settings it needs. What cannot be made is only logged: the client sees that it is not there.
    pub(crate) async fn auto_create(&self, names: &[&str]) {
        let topics = names.iter().map(|name| self.topic_to_create(name)).collect();
        let request = CreateTopics { topics, validate_only: false };
        match self.topic_changes.create(request).await {
            Ok(results) => {
                for (topic, result) in results {
                    match result {
                        Ok(created) => tracing::info!(%topic, id = %created.topic_id, "created on demand"),
                        // Somebody else was faster.
                        Err(CreateTopicsError::AlreadyExists { .. }) => {}
                        Err(error) => tracing::warn!(%topic, %error, "cannot be created on demand"),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "topics cannot be created on demand"),
        }
    }

    fn topic_to_create(&self, name: &str) -> NewTopic {
        let mut topic = NewTopic::new(name);
        if name == CONSUMER_OFFSETS {
            let config = self.config();
            let offsets = &config.offsets;
            let brokers = i16::try_from(self.quorum.image().brokers().count()).unwrap_or(i16::MAX);
            topic.partitions = offsets.topic_num_partitions;
            topic.replication_factor = offsets.topic_replication_factor.min(brokers).max(1);
            topic.configs = offsets
                .topic_overrides()
                .into_iter()
                .map(|(key, value)| (Arc::from(key), Some(Arc::from(value))))
                .collect();
        }
        topic
    }
}

/// The internal topic of group metadata and committed offsets.
pub(crate) const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// What is set on a resource itself.
pub(crate) fn settings_of(image: &MetadataImage, resource: &ConfigResource) -> BTreeMap<String, String> {
    let configs = image.configs(resource).into_iter().flat_map(|configs| configs.iter());
    configs.map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// What is set on a topic itself.
pub(crate) fn overrides(image: &MetadataImage, topic: &str) -> BTreeMap<String, String> {
    settings_of(image, &ConfigResource::topic(topic))
}

/// A topic's effective configuration.
pub(crate) fn log_config(config: &ServerConfig, image: &MetadataImage, topic: &str) -> LogConfig {
    // Checked when it was set, but the server's settings or this program may have changed since. What is understood stays
    // in force: a topic that keeps its records for ever must not lose them over another key.
    let (config, errors) = LogConfig::resolve_kept(config, &overrides(image, topic));
    for error in errors {
        tracing::error!(topic, %error, "a setting of the topic is not understood; it has no effect");
    }
    config
}
