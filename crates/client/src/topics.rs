//! What a client knows of topics: asked for when it is needed, forgotten when an answer says that it is not true any
//! more, and asked for again before it grows old.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::{ApiKey, StrBytes};
use ottla_types::{ErrorCode, TopicId};
use tokio::time::Instant;

use crate::client::{Client, Shared};
use crate::error::{ClientError, check};
use crate::metadata::{ClusterDescription, TopicDescription};
use crate::settings::MetadataRecoveryStrategy;

/// What brokers said of themselves and of topics.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Whether any broker has ever answered.
    pub(crate) reached: bool,
    pub(crate) addresses: BTreeMap<i32, (String, u16)>,
    topics: HashMap<String, KnownTopic>,
    /// Since when nobody describes the cluster.
    failing_since: Option<Instant>,
}

impl Known {
    pub(crate) fn forget_brokers(&mut self) {
        self.addresses.clear();
        self.failing_since = None;
    }
}

#[derive(Debug)]
struct KnownTopic {
    described: Arc<TopicDescription>,
    /// When somebody last asked for it.
    used: Instant,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) node_id: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) topic_id: TopicId,
}

impl Client {
    /// Describes topics, all of them for `None`. A topic that does not exist is made if `create` is set and the
    /// brokers do that; its answer is an error until it is there.
    pub async fn metadata(&self, topics: Option<&[&str]>, create: bool) -> Result<ClusterDescription, ClientError> {
        let mut retry = self.retry();
        loop {
            match self.metadata_once(topics, create).await {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    pub(crate) async fn metadata_once(
        &self,
        topics: Option<&[&str]>,
        create: bool,
    ) -> Result<ClusterDescription, ClientError> {
        let described = self.describe_cluster(topics, create).await;
        let Err(error) = &described else { return described };
        if self.gives_up_brokers(error) {
            self.rebootstrap();
            return self.describe_cluster(topics, create).await;
        }
        described
    }

    async fn describe_cluster(&self, topics: Option<&[&str]>, create: bool) -> Result<ClusterDescription, ClientError> {
        let named =
            |name: &&str| MetadataRequestTopic { name: Some(StrBytes::from((*name).to_owned())), ..Default::default() };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(named).collect()),
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        let response = self.any_broker().await?.send(&request).await?;
        check(ApiKey::Metadata, response.error_code, None)?;
        let cluster = ClusterDescription::from(response);
        self.learn(&cluster);
        Ok(cluster)
    }

    /// Whether the cluster is to be looked for anew: a broker says so, or those there are have failed for long.
    fn gives_up_brokers(&self, error: &ClientError) -> bool {
        let settings = self.settings();
        if settings.metadata_recovery_strategy == MetadataRecoveryStrategy::None {
            return false;
        }
        let mut known = self.shared.known.lock();
        let since = *known.failing_since.get_or_insert_with(Instant::now);
        error.code() == Some(ErrorCode::RebootstrapRequired)
            || (!known.addresses.is_empty() && since.elapsed() >= settings.metadata_recovery_rebootstrap_trigger)
    }

    fn learn(&self, cluster: &ClusterDescription) {
        let now = Instant::now();
        let mut known = self.shared.known.lock();
        known.failing_since = None;
        known.addresses =
            cluster.brokers.values().map(|broker| (broker.node_id, (broker.host.clone(), broker.port))).collect();
        let mut changed = false;
        for (name, described) in &cluster.topics {
            match (described, known.topics.get_mut(name)) {
                (Ok(described), Some(known)) => {
                    changed |= known.described != *described;
                    known.described = Arc::clone(described);
                }
                (Ok(described), None) => {
                    changed = true;
                    known.topics.insert(name.clone(), KnownTopic { described: Arc::clone(described), used: now });
                }
                (Err(_), _) => {
                    known.topics.remove(name);
                }
            }
        }
        if changed {
            self.shared.topics_version.fetch_add(1, Ordering::Release);
        }
        drop(known);
        self.shared.refresher.get_or_init(|| {
            tokio::spawn(keep_fresh(Arc::downgrade(&self.shared), self.settings().metadata_max_age)).abort_handle()
        });
    }

    /// Moves whenever a topic is described differently than before.
    pub(crate) fn topics_version(&self) -> u64 {
        self.shared.topics_version.load(Ordering::Acquire)
    }

    /// Describes a topic, from memory if possible.
    pub async fn topic(&self, topic: &str) -> Result<Arc<TopicDescription>, ClientError> {
        self.topic_within(topic, false, self.settings().default_api_timeout).await
    }

    pub(crate) async fn topic_within(
        &self,
        topic: &str,
        create: bool,
        timeout: Duration,
    ) -> Result<Arc<TopicDescription>, ClientError> {
        if let Some(described) = self.known_topic(topic) {
            return Ok(described);
        }
        let mut retry = self.retry_within(timeout);
        loop {
            let found = {
                // What many find missing at the same time is asked for once.
                let _asking = self.shared.asking.lock().await;
                match self.known_topic(topic) {
                    Some(described) => return Ok(described),
                    None => self.describe_topic(topic, create).await,
                }
            };
            match found {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    /// Describes a topic as it is now.
    pub async fn refresh_topic(&self, topic: &str, create: bool) -> Result<Arc<TopicDescription>, ClientError> {
        let mut retry = self.retry();
        loop {
            match self.describe_topic(topic, create).await {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    async fn describe_topic(&self, topic: &str, create: bool) -> Result<Arc<TopicDescription>, ClientError> {
        let mut cluster = self.metadata_once(Some(&[topic]), create).await?;
        match cluster.topics.remove(topic) {
            None => Err(ClientError::Incomplete(ApiKey::Metadata)),
            Some(Ok(described)) if described.partitions.is_empty() => Err(ClientError::Incomplete(ApiKey::Metadata)),
            Some(Ok(described)) => Ok(described),
            Some(Err(ErrorCode::UnknownTopicOrPartition)) if !create => {
                Err(ClientError::UnknownTopic { topic: topic.to_owned() })
            }
            Some(Err(code)) => Err(ClientError::Topic { topic: topic.to_owned(), code, message: None }),
        }
    }

    /// What is known of a topic.
    pub(crate) fn known_topic(&self, topic: &str) -> Option<Arc<TopicDescription>> {
        let mut known = self.shared.known.lock();
        let known = known.topics.get_mut(topic)?;
        known.used = Instant::now();
        Some(Arc::clone(&known.described))
    }

    pub(crate) fn knows_topic(&self, topic: &str) -> bool {
        self.known_topic(topic).is_some()
    }

    /// Forgets what is known of a topic, after an answer that says it is not true any more.
    pub(crate) fn forget_topic(&self, topic: &str) {
        self.shared.known.lock().topics.remove(topic);
    }

    /// Forgets a topic if this is still what is known of who leads one of its partitions: others may have found out
    /// before.
    pub(crate) fn forget_leader(&self, topic: &str, partition: i32, leader: Leader) {
        let mut known = self.shared.known.lock();
        let found = known.topics.get(topic).and_then(|topic| topic.described.partitions.get(&partition));
        if found.is_some_and(|found| (found.leader, found.leader_epoch) == (Some(leader.node_id), leader.leader_epoch))
        {
            known.topics.remove(topic);
        }
    }

    pub(crate) async fn leader(&self, topic: &str, partition: i32) -> Result<Leader, ClientError> {
        let described = self.topic(topic).await?;
        let Some(found) = described.partitions.get(&partition) else {
            self.forget_topic(topic);
            return Err(ClientError::UnknownPartition { topic: topic.to_owned(), partition });
        };
        let Some(node_id) = found.leader else {
            self.forget_topic(topic);
            return Err(ClientError::NoLeader { topic: topic.to_owned(), partition });
        };
        Ok(Leader { node_id, leader_epoch: found.leader_epoch, topic_id: described.topic_id })
    }

    /// The topics that somebody asked for not long ago; the others are forgotten.
    fn topics_in_use(&self) -> Vec<String> {
        let idle = self.settings().metadata_max_idle;
        let mut known = self.shared.known.lock();
        known.topics.retain(|_, topic| topic.used.elapsed() <= idle);
        known.topics.keys().cloned().collect()
    }
}

/// Asks again for everything in use whenever it has become as old as it may. Ends with the client.
async fn keep_fresh(shared: Weak<Shared>, max_age: Duration) {
    loop {
        tokio::time::sleep(max_age).await;
        let Some(shared) = shared.upgrade() else { return };
        let client = Client { shared };
        let topics = client.topics_in_use();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        if let Err(error) = client.metadata(Some(&topics), false).await {
            tracing::debug!(%error, "what is known of the cluster cannot be refreshed");
        }
    }
}
