//! A cluster as a client sees it: which brokers there are, who leads what, and one connection to each.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::{ApiKey, RequestMessage, StrBytes};
use ottla_rt::World;
use ottla_types::{ErrorCode, TopicId};
use parking_lot::Mutex;

use crate::connection::Connection;
use crate::error::{ClientError, ConnectionError, check};
use crate::metadata::{ClusterDescription, TopicDescription};
use crate::retry::Retry;

/// Over the time brokers get for an operation: the answer must travel.
const GRACE: Duration = Duration::from_secs(5);

/// Where a client first looks for a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapServers(Vec<(String, u16)>);

impl FromStr for BootstrapServers {
    type Err = ClientError;

    /// Reads `host:port,host:port`; an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<BootstrapServers, ClientError> {
        let server = |text: &str| {
            let (host, port) = text.trim().rsplit_once(':')?;
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let port = port.parse::<u16>().ok().filter(|&port| port > 0)?;
            (!host.is_empty()).then(|| (host.to_owned(), port))
        };
        text.split(',')
            .map(|text| server(text).ok_or_else(|| ClientError::Address(text.trim().to_owned())))
            .collect::<Result<_, _>>()
            .map(BootstrapServers)
    }
}

impl fmt::Display for BootstrapServers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (host, port)) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            if host.contains(':') {
                write!(formatter, "{comma}[{host}]:{port}")?;
            } else {
                write!(formatter, "{comma}{host}:{port}")?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub struct ClientSettings {
    pub bootstrap_servers: BootstrapServers,
    pub client_id: String,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How long a request is tried again.
    pub timeout: Duration,
}

/// A client of one cluster. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    world: World,
    settings: ClientSettings,
    slots: Mutex<HashMap<(Peer, Lane), Slot>>,
    known: Mutex<Known>,
}

/// One connection, or the place for it; locked while it is made.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Peer {
    /// Whichever broker answers.
    Any,
    Node(i32),
}

/// Answers come in order, so what may wait at the broker has a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    General,
    Fetch,
    Group,
}

#[derive(Debug, Default)]
struct Known {
    /// Whether any broker has ever answered.
    reached: bool,
    addresses: BTreeMap<i32, (String, u16)>,
    topics: HashMap<String, Arc<TopicDescription>>,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leader {
    pub(crate) node_id: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) topic_id: TopicId,
}

impl Client {
    /// Connects to nothing yet.
    pub fn new(world: World, settings: ClientSettings) -> Client {
        Client {
            shared: Arc::new(Shared {
                world,
                settings,
                slots: Mutex::new(HashMap::new()),
                known: Mutex::new(Known::default()),
            }),
        }
    }

    pub fn settings(&self) -> &ClientSettings {
        &self.shared.settings
    }

    pub fn world(&self) -> &World {
        &self.shared.world
    }

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

    async fn metadata_once(&self, topics: Option<&[&str]>, create: bool) -> Result<ClusterDescription, ClientError> {
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
        let mut known = self.shared.known.lock();
        known.addresses =
            cluster.brokers.values().map(|broker| (broker.node_id, (broker.host.clone(), broker.port))).collect();
        for (name, described) in &cluster.topics {
            match described {
                Ok(described) => known.topics.insert(name.clone(), Arc::clone(described)),
                Err(_) => known.topics.remove(name),
            };
        }
        drop(known);
        Ok(cluster)
    }

    /// Describes a topic, from memory if possible.
    pub async fn topic(&self, topic: &str) -> Result<Arc<TopicDescription>, ClientError> {
        if let Some(described) = self.shared.known.lock().topics.get(topic) {
            return Ok(Arc::clone(described));
        }
        self.refresh_topic(topic, false).await
    }

    /// Describes a topic as it is now.
    pub async fn refresh_topic(&self, topic: &str, create: bool) -> Result<Arc<TopicDescription>, ClientError> {
        let mut retry = self.retry();
        loop {
            let found = self.metadata_once(Some(&[topic]), create).await.and_then(|mut cluster| {
                match cluster.topics.remove(topic) {
                    None => Err(ClientError::Incomplete(ApiKey::Metadata)),
                    Some(Ok(described)) if described.partitions.is_empty() => {
                        Err(ClientError::Incomplete(ApiKey::Metadata))
                    }
                    Some(Ok(described)) => Ok(described),
                    Some(Err(ErrorCode::UnknownTopicOrPartition)) if !create => {
                        Err(ClientError::UnknownTopic { topic: topic.to_owned() })
                    }
                    Some(Err(code)) => Err(ClientError::Topic { topic: topic.to_owned(), code, message: None }),
                }
            });
            match found {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    pub(crate) fn knows_topic(&self, topic: &str) -> bool {
        self.shared.known.lock().topics.contains_key(topic)
    }

    /// Forgets what is known of a topic, after an answer that says it is not true any more.
    pub(crate) fn forget_topic(&self, topic: &str) {
        self.shared.known.lock().topics.remove(topic);
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

    /// The broker that coordinates a group.
    pub(crate) async fn group_coordinator(&self, group: &str) -> Result<i32, ClientError> {
        const BATCHED_KEYS: i16 = 4;
        let connection = self.any_broker().await?;
        let key = StrBytes::from(group.to_owned());
        let batched = connection.version(ApiKey::FindCoordinator).is_some_and(|version| version >= BATCHED_KEYS);
        let request = if batched {
            FindCoordinatorRequest { coordinator_keys: vec![key], ..Default::default() }
        } else {
            FindCoordinatorRequest { key, ..Default::default() }
        };
        let response = connection.send(&request).await?;
        let (code, message, node_id, host, port) = if batched {
            let found =
                response.coordinators.into_iter().next().ok_or(ClientError::Incomplete(ApiKey::FindCoordinator))?;
            (found.error_code, found.error_message, found.node_id, found.host, found.port)
        } else {
            (response.error_code, response.error_message, response.node_id, response.host, response.port)
        };
        check(ApiKey::FindCoordinator, code, message.as_ref())?;
        let port = u16::try_from(port).map_err(|_| ClientError::Incomplete(ApiKey::FindCoordinator))?;
        self.shared.known.lock().addresses.insert(node_id, (host.to_string(), port));
        Ok(node_id)
    }

    /// Asks any broker, again while that can help. Errors within the answer are the caller's.
    pub(crate) async fn ask_any<R: RequestMessage>(
        &self,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        let mut retry = self.retry();
        loop {
            let answer = match self.any_broker().await {
                Ok(connection) => connection.send_at_most(request, i16::MAX, timeout).await.map_err(ClientError::from),
                Err(error) => Err(error),
            };
            match answer {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    /// Does something with one broker, whichever answers for `None`; again while that can help.
    pub(crate) async fn at_broker<T>(
        &self,
        node_id: Option<i32>,
        attempt: impl AsyncFn(&Connection) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut retry = self.retry();
        loop {
            let done = async {
                let connection = match node_id {
                    None => self.any_broker().await?,
                    Some(node_id) => self.located_broker(node_id).await?,
                };
                attempt(&connection).await
            };
            match done.await {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    /// Does something with the coordinator of a group; again while that can help.
    pub(crate) async fn at_coordinator<T>(
        &self,
        group: &str,
        attempt: impl AsyncFn(&Connection) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut retry = self.retry();
        loop {
            let done = async {
                let node_id = self.group_coordinator(group).await?;
                attempt(&*self.broker(node_id, Lane::General).await?).await
            };
            match done.await {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    /// A connection to a broker, after asking where it is if that is not known.
    async fn located_broker(&self, node_id: i32) -> Result<Arc<Connection>, ClientError> {
        if !self.shared.known.lock().addresses.contains_key(&node_id) {
            let cluster = self.metadata_once(Some(&[]), false).await?;
            if !cluster.brokers.contains_key(&node_id) {
                let ids = cluster.brokers.into_keys().collect();
                return Err(ClientError::NoSuchBroker { node_id, brokers: ids });
            }
        }
        self.broker(node_id, Lane::General).await
    }

    /// A connection to whichever broker answers.
    pub(crate) async fn any_broker(&self) -> Result<Arc<Connection>, ClientError> {
        let slot = self.slot(Peer::Any, Lane::General);
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.is_open()) {
            return Ok(Arc::clone(connection));
        }
        let bootstrap = &self.shared.settings.bootstrap_servers;
        let addresses: Vec<(String, u16)> = {
            let known = self.shared.known.lock();
            bootstrap.0.iter().chain(known.addresses.values()).cloned().collect()
        };
        let mut failure = None;
        for (host, port) in addresses {
            match self.connect(&host, port).await {
                Ok(connection) => {
                    self.shared.known.lock().reached = true;
                    return Ok(Arc::clone(slot.insert(connection)));
                }
                Err(error) => failure = Some(error),
            }
        }
        let source = failure.ok_or_else(|| ClientError::Address(String::new()))?;
        if self.shared.known.lock().reached {
            Err(source.into())
        } else {
            Err(ClientError::Unreachable { servers: bootstrap.to_string(), source })
        }
    }

    pub(crate) async fn broker(&self, node_id: i32, lane: Lane) -> Result<Arc<Connection>, ClientError> {
        let slot = self.slot(Peer::Node(node_id), lane);
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.is_open()) {
            return Ok(Arc::clone(connection));
        }
        let address = self.shared.known.lock().addresses.get(&node_id).cloned();
        let (host, port) = address.ok_or(ClientError::UnknownBroker { node_id })?;
        let connection = self.connect(&host, port).await?;
        Ok(Arc::clone(slot.insert(connection)))
    }

    fn slot(&self, peer: Peer, lane: Lane) -> Slot {
        Arc::clone(self.shared.slots.lock().entry((peer, lane)).or_default())
    }

    async fn connect(&self, host: &str, port: u16) -> Result<Arc<Connection>, ConnectionError> {
        let settings = &self.shared.settings;
        let net = &*self.shared.world.net;
        Connection::connect(net, host, port, &settings.client_id, settings.request_timeout).await.map(Arc::new)
    }

    /// How long a broker may work at one thing, and we wait for it.
    pub(crate) fn operation_timeout(&self) -> Duration {
        self.shared.settings.timeout + GRACE
    }

    pub(crate) fn operation_timeout_ms(&self) -> i32 {
        i32::try_from(self.shared.settings.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    pub(crate) fn retry(&self) -> Retry {
        Retry::within(self.shared.settings.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_servers() {
        for (text, expected) in [
            ("localhost:9092", Some("localhost:9092")),
            (" a:1 , b:2", Some("a:1,b:2")),
            ("[::1]:9092", Some("[::1]:9092")),
            ("localhost", None),
            ("localhost:", None),
            (":9092", None),
            ("localhost:0", None),
            ("localhost:65536", None),
            ("a:1,,b:2", None),
            ("", None),
        ] {
            let parsed = text.parse::<BootstrapServers>().ok().map(|servers| servers.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }
}
