//! A cluster as a client sees it: which brokers there are, who leads what, and one connection to each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::{ApiKey, RequestMessage, StrBytes};
use ottla_rt::World;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::connection::Connection;
use crate::error::{ClientError, ConnectionError, check};
use crate::retry::{Backoff, Retry};
use crate::settings::{ClientSettings, MetadataRecoveryStrategy};
use crate::topics::Known;

/// Over the time brokers get for an operation: the answer must travel.
const GRACE: Duration = Duration::from_secs(5);

/// A client of one cluster. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    world: World,
    settings: ClientSettings,
    slots: Mutex<HashMap<(Peer, Lane), Slot>>,
    pub(crate) known: Mutex<Known>,
    pub(crate) topics_version: AtomicU64,
    /// Held by who asks for a topic that is not known.
    pub(crate) asking: tokio::sync::Mutex<()>,
    /// The task that keeps what is known fresh, once there is anything.
    pub(crate) refresher: OnceLock<AbortHandle>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(refresher) = self.refresher.get() {
            refresher.abort();
        }
    }
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

impl Client {
    /// Connects to nothing yet.
    pub fn new(world: World, settings: ClientSettings) -> Client {
        Client {
            shared: Arc::new(Shared {
                world,
                settings,
                slots: Mutex::new(HashMap::new()),
                known: Mutex::new(Known::default()),
                topics_version: AtomicU64::new(0),
                asking: tokio::sync::Mutex::new(()),
                refresher: OnceLock::new(),
            }),
        }
    }

    pub fn settings(&self) -> &ClientSettings {
        &self.shared.settings
    }

    pub fn world(&self) -> &World {
        &self.shared.world
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
        let settings = &self.shared.settings;
        let bootstrap = &settings.bootstrap_servers;
        let addresses: Vec<(String, u16)> = {
            let known = self.shared.known.lock();
            let mut addresses: Vec<_> = known.addresses.values().cloned().collect();
            if !addresses.is_empty() {
                // Clients do not all go to the same one.
                let first = ottla_rt::random_u64(&*self.shared.world.entropy) % addresses.len() as u64;
                addresses.rotate_left(first as usize);
            }
            if addresses.is_empty() || settings.metadata_recovery_strategy == MetadataRecoveryStrategy::Rebootstrap {
                addresses.extend(bootstrap.0.iter().cloned());
            }
            addresses
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

    /// Forgets every broker: the next question goes to the bootstrap servers.
    pub(crate) fn rebootstrap(&self) {
        tracing::info!("beginning again at the bootstrap servers");
        self.shared.known.lock().forget_brokers();
        // What is under way on the connections ends by itself.
        self.shared.slots.lock().clear();
    }

    fn slot(&self, peer: Peer, lane: Lane) -> Slot {
        Arc::clone(self.shared.slots.lock().entry((peer, lane)).or_default())
    }

    async fn connect(&self, host: &str, port: u16) -> Result<Arc<Connection>, ConnectionError> {
        let net = &*self.shared.world.net;
        Connection::connect_with(net, host, port, self.shared.settings.connection()).await.map(Arc::new)
    }

    /// How long a broker may work at one thing, and we wait for it.
    pub(crate) fn operation_timeout(&self) -> Duration {
        self.shared.settings.default_api_timeout + GRACE
    }

    pub(crate) fn operation_timeout_ms(&self) -> i32 {
        i32::try_from(self.shared.settings.default_api_timeout.as_millis()).unwrap_or(i32::MAX)
    }

    pub(crate) fn retry(&self) -> Retry {
        self.retry_within(self.shared.settings.default_api_timeout)
    }

    pub(crate) fn retry_within(&self, timeout: Duration) -> Retry {
        let settings = &self.shared.settings;
        let backoff = Backoff { first: settings.retry_backoff, longest: settings.retry_backoff_max };
        Retry::within(timeout, backoff, ottla_rt::random_u64(&*self.shared.world.entropy))
    }
}
