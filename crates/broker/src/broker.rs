//! What all request handlers of one node share.

use std::sync::Arc;

use ottla_config::ServerConfig;
use ottla_protocol::{ApiKey, StrBytes};
use ottla_quorum::MetadataQuorum;
use ottla_rt::World;
use ottla_types::{ErrorCode, NodeId};
use tokio::sync::watch;

use crate::authorizer::Authorizer;
use crate::budget::{Budget, RequestPool};
use crate::config_changes::ConfigChanges;
use crate::connection_quota::ConnectionQuota;
use crate::context::RequestContext;
use crate::coordinator::GroupCoordinator;
use crate::current_config::CurrentConfig;
use crate::fatal::Fatal;
use crate::fetch_session::FetchSessionCache;
use crate::loggers::Loggers;
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::producer_ids::ProducerIds;
use crate::replica_manager::ReplicaManager;
use crate::topics::TopicChanges;

/// Topics that clients read but only brokers write.
const INTERNAL_TOPICS: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

pub(crate) struct Broker {
    pub(crate) world: World,
    pub(crate) config: CurrentConfig,
    pub(crate) node_id: NodeId,
    pub(crate) cluster_id: Arc<str>,
    pub(crate) quorum: Arc<dyn MetadataQuorum>,
    pub(crate) replicas: Arc<ReplicaManager>,
    pub(crate) topic_changes: TopicChanges,
    pub(crate) config_changes: ConfigChanges,
    pub(crate) loggers: Arc<dyn Loggers>,
    pub(crate) groups: Arc<GroupCoordinator>,
    pub(crate) fetch_sessions: FetchSessionCache,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) budgets: Budgets,
    pub(crate) connections: Arc<ConnectionQuota>,
    pub(crate) metrics: Arc<Metrics>,
    /// `None`: everybody may do everything.
    pub(crate) authorizer: Option<Arc<dyn Authorizer>>,
    pub(crate) fatal: Fatal,
    pub(crate) shutdown: watch::Sender<bool>,
}

/// A broker as a client of one listener is told of it.
pub(crate) struct Node {
    pub(crate) node_id: NodeId,
    pub(crate) host: StrBytes,
    pub(crate) port: i32,
    pub(crate) rack: Option<StrBytes>,
    pub(crate) is_fenced: bool,
}

/// The pools that requests take their bytes from.
pub(crate) struct Budgets {
    produce: Arc<RequestPool>,
    pub(crate) fetch: Budget,
    groups: Arc<RequestPool>,
    control: Arc<RequestPool>,
    /// For large answers to questions, while they are sent.
    pub(crate) answers: Budget,
    /// Held while a description of many resources is put together.
    pub(crate) describing: tokio::sync::Mutex<()>,
}

/// Group requests are small; the pool holds many of the largest assignments at once.
const GROUPS_BYTES: u64 = 64 << 20;
const CONTROL_BYTES: u64 = 64 << 20;
pub(crate) const ANSWERS_BYTES: u64 = 64 << 20;

impl Budgets {
    pub(crate) fn new(produce_bytes: u64, fetch_bytes: u64) -> Budgets {
        Budgets {
            produce: Arc::new(RequestPool::new(produce_bytes)),
            fetch: Budget::new(fetch_bytes),
            groups: Arc::new(RequestPool::new(GROUPS_BYTES)),
            control: Arc::new(RequestPool::new(CONTROL_BYTES)),
            answers: Budget::new(ANSWERS_BYTES),
            describing: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn of_request(&self, api_key: i16) -> &Arc<RequestPool> {
        match ApiKey::from_code(api_key) {
            Some(ApiKey::Produce) => &self.produce,
            Some(
                ApiKey::JoinGroup
                | ApiKey::SyncGroup
                | ApiKey::Heartbeat
                | ApiKey::LeaveGroup
                | ApiKey::OffsetCommit
                | ApiKey::OffsetFetch
                | ApiKey::OffsetDelete
                | ApiKey::DeleteGroups,
            ) => &self.groups,
            _ => &self.control,
        }
    }
}

impl Broker {
    /// The current configuration: the file under what was set at run time. Read where it is used, not kept.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.get()
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        *self.shutdown.borrow()
    }

    /// Ends when the broker begins to shut down.
    pub(crate) async fn shutting_down(&self) {
        let _ = self.shutdown.subscribe().wait_for(|shutdown| *shutdown).await;
    }

    /// The brokers that are up, by the address that clients of the request's listener should use.
    pub(crate) fn live_brokers(&self, context: &RequestContext) -> Vec<Node> {
        let mut brokers = self.registered_brokers(context);
        brokers.retain(|broker| !broker.is_fenced);
        brokers
    }

    /// The same of all that are registered, up or not.
    pub(crate) fn registered_brokers(&self, context: &RequestContext) -> Vec<Node> {
        let image = self.quorum.image();
        image
            .brokers()
            .filter_map(|broker| {
                let listener =
                    broker.listeners.iter().find(|listener| *listener.name == *context.connection.listener)?;
                Some(Node {
                    node_id: broker.node_id,
                    host: StrBytes::from(listener.host.to_string()),
                    port: i32::from(listener.port),
                    rack: broker.rack.as_ref().map(|rack| StrBytes::from(rack.to_string())),
                    is_fenced: broker.fenced,
                })
            })
            .collect()
    }
}

impl Broker {
    /// The partition, if this node leads it and it can be used; or why not.
    pub(crate) fn partition(&self, topic: &str, partition: i32) -> Result<Arc<Partition>, ErrorCode> {
        if let Some(partition) = self.replicas.partition(topic, partition) {
            return partition.failed().map_or(Ok(partition), Err);
        }
        let image = self.quorum.image();
        match image.partition(topic, partition) {
            None => Err(ErrorCode::UnknownTopicOrPartition),
            // Its log could not be made, or not be recovered.
            Some(registration) if registration.replicas.contains(&self.node_id) => Err(ErrorCode::KafkaStorageError),
            Some(_) => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// Runs work that waits for the disk off the task that asks for it.
    pub(crate) async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // The receiver waits below, unless the client has gone.
        self.world.spawn.blocking(Box::new(move || drop(sender.send(work())))).await;
        receiver.await.expect("a panic of the work is its handler's panic")
    }
}

/// Whether only brokers write to the topic.
pub(crate) fn is_internal(topic: &str) -> bool {
    INTERNAL_TOPICS.contains(&topic)
}
