//! A node: started from its configuration, stopped cleanly, or ended by a fatal event.
//!
//! The order of a start: sockets are bound, directories looked at (Apache Kafka's are left alone), locked and their
//! identity read (so a taken port or directory changes nothing on disk), the metadata quorum opened, logs recovered, the metadata followed, coordinators loaded, and
//! only then connections accepted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use std::time::Duration;

use ottla_config::{AdvertisedListener, BindAddress, ServerConfig};
use ottla_controller::{RegisterBroker, RegisterBrokerError, register_broker};
use ottla_image::{BrokerListener, MetadataImage, SecurityProtocol};
use ottla_log::{DirectoryStatus, LogError, LogManager, LogSettings, Planted};
use ottla_quorum::{Bootstrap, METADATA_DIRECTORY, MetadataQuorum, QuorumSettings, RaftQuorum};
use ottla_rt::{ListenOptions, Listener, World};
use ottla_types::Uuid;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::authorizer::Authorizer;
use crate::broker::{Broker, Budgets};
use crate::config_changes::ConfigChanges;
use crate::connection_quota::ConnectionQuota;
use crate::coordinator::GroupCoordinator;
use crate::current_config::CurrentConfig;
use crate::fatal::Fatal;
use crate::features;
use crate::fetch_session::FetchSessionCache;
use crate::housekeeping;
use crate::listener;
use crate::loggers::{Loggers, NoLoggers};
use crate::metadata_publisher::MetadataPublisher;
use crate::metrics::MetricsSnapshot;
use crate::producer_ids::ProducerIds;
use crate::replica_manager::ReplicaManager;
use crate::topics::TopicChanges;

/// Where clients reach one listener.
#[derive(Clone, Debug)]
pub struct ListenerAddress {
    /// Its name, for example `PLAINTEXT`.
    pub name: Arc<str>,
    /// The address that is bound.
    pub address: SocketAddr,
    /// What clients are told, as `host:port`.
    pub advertised: String,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {listener}://{address}: {source}{}", port_hint(source))]
    Bind { listener: String, address: String, source: io::Error },
    #[error("the host of listener {listener} cannot be resolved: {host}: {source}")]
    Resolve { listener: String, host: String, source: io::Error },
    #[error(transparent)]
    Log(#[from] ottla_log::LogError),
    #[error("the metadata in {}: {source}", directory.display())]
    Metadata { directory: PathBuf, source: ottla_quorum::OpenError },
    #[error("log directory {} is offline, and the metadata is in it: the log says why", .0.display())]
    MetadataDirectoryOffline(PathBuf),
    #[error(
        "there are partitions in the log directories, but no metadata in {}: it was lost or moved; put it back, or start with \
         empty directories",
        directory.display()
    )]
    MetadataLost { directory: PathBuf },
    #[error(
        "{path} is a data directory of Apache Kafka that was not adopted: see with `ottla log adopt {path}` what would \
         be taken over, do it with --execute, and start again. Nothing was changed",
        path = .0.display()
    )]
    NotAdopted(PathBuf),
    #[error(
        "Apache Kafka has run on {} since it was adopted: what was taken over then is not what is there now. Move {} \
         away and adopt it again with `ottla log adopt`",
        directory.display(), metadata.display()
    )]
    KafkaRanSince { directory: PathBuf, metadata: PathBuf },
    #[error(
        "log directory {missing} of this node is missing; found are {}. Is its disk mounted? What was in it would begin \
         anew. If it is lost for good, start with --set ottla.abandoned.log.directories={missing}",
        found.join(", ")
    )]
    LogDirectoryMissing { missing: Uuid, found: Vec<String> },
    #[error("this node cannot register: {0}")]
    Registration(#[from] RegisterBrokerError),
    #[error("the metadata in {} is of cluster {found}, the log directories are of cluster {expected}", directory.display())]
    ClusterMismatch { directory: PathBuf, expected: String, found: Arc<str> },
}

fn port_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; stop what uses it, or choose another port with --set listeners=PLAINTEXT://HOST:PORT"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
        _ => "",
    }
}

/// A bound listener that does not accept yet.
pub(crate) struct Bound {
    pub(crate) name: Arc<str>,
    pub(crate) address: SocketAddr,
    pub(crate) listener: Box<dyn Listener>,
    pub(crate) is_controller: bool,
}

/// Binds every socket of every listener. The IPv6 side of a listener for both is left out where there is no IPv6.
pub(crate) async fn bind(world: &World, config: &ServerConfig) -> Result<Vec<Bound>, StartError> {
    let mut bound: Vec<Bound> = Vec::new();
    let options = ListenOptions {
        backlog: config.network.socket_listen_backlog_size,
        send_buffer_bytes: config.network.socket_send_buffer_bytes,
        receive_buffer_bytes: config.network.socket_receive_buffer_bytes,
    };
    for listener in &config.listeners {
        let failed =
            |address: String| move |source| StartError::Bind { listener: listener.name.clone(), address, source };
        let name: Arc<str> = Arc::from(listener.name.as_str());
        let (addresses, second_is_optional) =
            match &listener.bind {
                BindAddress::AllInterfaces => {
                    (vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)], true)
                }
                BindAddress::Loopback => (vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)], true),
                BindAddress::Ip(address) => (vec![*address], false),
                BindAddress::Name(host) => {
                    let resolved = world.net.resolve(host, listener.port).await.map_err(|source| {
                        StartError::Resolve { listener: listener.name.clone(), host: host.clone(), source }
                    })?;
                    (resolved.into_iter().map(|address| address.ip()).collect(), false)
                }
            };
        let mut port = listener.port;
        for (position, ip) in addresses.into_iter().enumerate() {
            let address = SocketAddr::new(ip, port);
            match world.net.bind_with(address, &options).await {
                Ok(socket) => {
                    let address = socket.local_address().map_err(failed(address.to_string()))?;
                    // The second family listens on the port the system chose for the first.
                    port = address.port();
                    bound.push(Bound {
                        name: Arc::clone(&name),
                        address,
                        listener: socket,
                        is_controller: listener.is_controller,
                    });
                }
                Err(error) if position > 0 && second_is_optional && has_no_ipv6(&error) => {
                    tracing::debug!(listener = %name, %error, "no IPv6 here");
                }
                Err(error) => return Err(failed(address.to_string())(error)),
            }
        }
    }
    Ok(bound)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// "Address family not supported by protocol" on Linux.
const EAFNOSUPPORT: i32 = 97;

/// What clients of a listener are told: the configured address, with what only a bound socket knows filled in.
pub(crate) fn advertised(world: &World, listener: &AdvertisedListener, bound: &[Bound]) -> Option<(String, u16)> {
    let socket = bound.iter().find(|bound| *bound.name == *listener.name)?;
    let host = match &listener.host {
        Some(host) => host.clone(),
        None if socket.address.ip().is_unspecified() => world.net.host_name(),
        // Both families of the loopback.
        None if socket.address.ip().is_loopback() && is_dual(listener, bound) => "localhost".to_owned(),
        None => socket.address.ip().to_string(),
    };
    let port = if listener.port == 0 { socket.address.port() } else { listener.port };
    Some((host, port))
}

fn is_dual(listener: &AdvertisedListener, bound: &[Bound]) -> bool {
    bound.iter().filter(|socket| *socket.name == *listener.name).count() > 1
}

/// A running node.
pub struct Server {
    broker: Arc<Broker>,
    listeners: Vec<ListenerAddress>,
    tasks: Vec<JoinHandle<()>>,
}

/// Why a stop was not clean: the next start recovers.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error("the node had failed: {0}")]
    Failed(String),
    #[error("log directory {} is offline", .0.display())]
    Offline(PathBuf),
}

/// What the process a node runs in gives it.
#[derive(Clone)]
pub struct ServerSettings {
    /// The loggers that administrators see and change.
    pub loggers: Arc<dyn Loggers>,
    /// Asked before each request; without one everybody may do everything.
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// A defect that a simulation has to notice. Nothing but `sim/` sets one.
    #[doc(hidden)]
    pub planted: Option<Planted>,
}

impl Default for ServerSettings {
    /// Of a process without logging.
    fn default() -> Self {
        ServerSettings { loggers: Arc::new(NoLoggers), authorizer: None, planted: None }
    }
}

impl Server {
    /// Starts a node; it serves when this returns.
    pub async fn start(world: World, config: ServerConfig) -> Result<Server, StartError> {
        Server::start_with(world, config, ServerSettings::default()).await
    }

    /// The same, with every request asking this authorizer first.
    pub async fn start_authorized(
        world: World,
        config: ServerConfig,
        authorizer: Arc<dyn Authorizer>,
    ) -> Result<Server, StartError> {
        let settings = ServerSettings { authorizer: Some(authorizer), ..ServerSettings::default() };
        Server::start_with(world, config, settings).await
    }

    /// Starts a node with what its process gives it besides the world.
    pub async fn start_with(
        world: World,
        config: ServerConfig,
        settings: ServerSettings,
    ) -> Result<Server, StartError> {
        let current = CurrentConfig::new(config);
        let config = current.get();
        let fatal = Fatal::default();
        let bound = bind(&world, &config).await?;
        foreign::refuse(&world, &config)?;
        let logs = open_logs(&world, &config, &fatal, settings.planted).await?;
        let registration = registration(&world, &config, &bound, &logs);
        let (quorum, broker_epoch) = open_quorum(&world, &config, &logs, registration).await?;
        let cluster_id = Arc::clone(&quorum.identity().cluster_id);
        let quorum: Arc<dyn MetadataQuorum> = Arc::new(quorum);

        let replicas = Arc::new(ReplicaManager::new(logs.clone(), fatal.clone()));
        logs.set_flush_listener(&(Arc::clone(&replicas) as Arc<dyn ottla_log::FlushListener>));
        let metadata = quorum.watch();
        let connections = Arc::new(ConnectionQuota::new(&config.network));
        let (publisher, applied) =
            MetadataPublisher::new(current.clone(), Arc::clone(&replicas), Arc::clone(&connections), fatal.clone());
        publisher.begin(&world, metadata.image()).await;

        let groups = GroupCoordinator::new(&world, &config, Arc::clone(&quorum), Arc::clone(&replicas), fatal.clone());
        let groups = Arc::new(groups);
        groups.begin(quorum.watch());
        let broker = Arc::new(Broker {
            groups,
            node_id: config.node_id,
            cluster_id,
            config_changes: ConfigChanges::new(current.clone(), Arc::clone(&quorum), applied.clone()),
            loggers: settings.loggers,
            topic_changes: TopicChanges::new(world.clone(), current.clone(), Arc::clone(&quorum), applied),
            quorum,
            replicas,
            fetch_sessions: FetchSessionCache::new(config.fetch.max_incremental_session_cache_slots),
            producer_ids: ProducerIds::new(config.node_id, broker_epoch),
            budgets: Budgets::new(config.memory.produce_bytes, config.memory.fetch_bytes),
            connections,
            metrics: Arc::default(),
            authorizer: settings.authorizer,
            fatal,
            shutdown: watch::Sender::new(false),
            world,
            config: current,
        });
        let mut tasks = vec![tokio::spawn(publisher.run(broker.world.clone(), metadata))];
        tasks.extend(housekeeping::start(&broker));
        let listeners = addresses(&broker, &bound);
        for socket in bound {
            if socket.is_controller {
                // Nobody speaks to the controller of a single node but itself; the port is held, and nothing served.
                tasks.push(tokio::spawn(hold(socket, broker.shutdown.subscribe())));
            } else {
                let shutdown = broker.shutdown.subscribe();
                tasks.push(tokio::spawn(listener::run(Arc::clone(&broker), socket.name, socket.listener, shutdown)));
            }
        }
        Ok(Server { broker, listeners, tasks })
    }

    /// Where clients reach this node, in the order of `listeners`.
    pub fn listeners(&self) -> &[ListenerAddress] {
        &self.listeners
    }

    pub fn cluster_id(&self) -> &str {
        &self.broker.cluster_id
    }

    /// What the node has counted of itself so far.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.broker.metrics.snapshot(&self.broker.replicas)
    }

    /// Ends when the node cannot go on, with the reason. It acknowledges nothing from then on.
    pub async fn fatal(&self) -> String {
        tokio::select! {
            reason = self.broker.fatal.reported() => reason,
            failure = self.broker.quorum.failed() => failure.to_string(),
        }
    }

    /// Stops cleanly: requests under way are answered, everything is flushed, each log directory is marked.
    pub async fn shutdown(mut self) -> Result<(), StopError> {
        self.broker.shutdown.send_replace(true);
        self.broker.groups.close();
        // Connections hold a place each until they end.
        self.broker.metrics.connections.none().await;
        if self.broker.fatal.is_reported() {
            return Err(StopError::Failed(self.broker.fatal.reported().await));
        }
        let broker_epoch = self.broker.producer_ids.broker_epoch();
        self.broker.replicas.logs().shutdown(broker_epoch.0).await;
        self.broker.quorum.shutdown().await;
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
        self.broker.replicas.logs().unlock();
        match self.broker.replicas.logs().directories().into_iter().find(|directory| !directory.online) {
            Some(directory) => Err(StopError::Offline(directory.path)),
            None => Ok(()),
        }
    }
}

async fn open_logs(
    world: &World,
    config: &ServerConfig,
    fatal: &Fatal,
    planted: Option<Planted>,
) -> Result<LogManager, StartError> {
    let fatal = fatal.clone();
    let settings = LogSettings {
        producer_id_expiration_ms: config.log_maintenance.producer_id_expiration_ms,
        hot_tail_bytes: usize::try_from(config.memory.hot_tail_bytes).unwrap_or(usize::MAX),
        recovery_parallelism: config.log_maintenance.num_recovery_threads_per_data_dir,
        planted,
        fatal: Arc::new(move |event| {
            let of =
                event.topic_partition.map_or_else(|| "a log directory".to_owned(), |partition| partition.to_string());
            fatal.report(format!("an invariant of {of} broke during {}", event.operation));
        }),
        ..LogSettings::new(config.log_dirs.clone(), config.node_id.0)
    };
    let defaults = config.log.clone();
    // Topics' own settings come with the metadata, before anything is appended.
    Ok(LogManager::open(world.clone(), settings, |_| defaults.clone()).await?)
}

/// Opens the metadata, or begins a cluster in new directories.
async fn open_quorum(
    world: &World,
    config: &ServerConfig,
    logs: &LogManager,
    registration: RegisterBroker,
) -> Result<(RaftQuorum, ottla_types::BrokerEpoch), StartError> {
    let directory = config.metadata_log_dir.join(METADATA_DIRECTORY);
    let is_metadata_directory = |found: &DirectoryStatus| found.path == config.metadata_log_dir;
    if logs.directories().iter().any(|found| !found.online && is_metadata_directory(found)) {
        return Err(StartError::MetadataDirectoryOffline(config.metadata_log_dir.clone()));
    }
    let has_partitions = !logs.partitions().is_empty() || !logs.offline_partitions().is_empty();
    let io_error = |source| LogError::Io { operation: "look for", path: directory.clone(), source };
    if has_partitions && !world.disk.exists(&directory).map_err(io_error)? {
        return Err(StartError::MetadataLost { directory });
    }
    let cluster_id = logs.cluster_id().to_owned();
    let settings = QuorumSettings {
        bootstrap: Bootstrap {
            cluster_id: Some(cluster_id.clone()),
            directory_id: logs.directories().first().and_then(|directory| directory.id),
            records: features::bootstrap_records(),
        },
        expected_cluster_id: has_partitions.then(|| cluster_id.clone()),
        ..QuorumSettings::new(&directory, config.node_id)
    };
    let node_id = config.node_id;
    let refused = Arc::new(Mutex::new(None));
    let missing = Arc::new(Mutex::new(None));
    let unreadable = logs.directories().iter().filter(|directory| directory.id.is_none()).count();
    let abandoned = config.abandoned_log_directories.clone();
    let register = {
        let (refused, missing) = (Arc::clone(&refused), Arc::clone(&missing));
        move |image: &MetadataImage| {
            let mut registration = registration;
            match missing_directories(image, &registration, &abandoned) {
                // What cannot be read is not lost: its ids stay known.
                absent if absent.len() <= unreadable => registration.log_dirs.extend(absent),
                absent => {
                    *missing.lock() = absent.first().copied();
                    return Vec::new();
                }
            }
            let decided = register_broker(image, &registration);
            *refused.lock() = decided.response.err();
            decided.records
        }
    };
    let quorum = RaftQuorum::open(world, settings, register)
        .await
        .map_err(|source| StartError::Metadata { directory: directory.clone(), source })?;
    if let Some(missing) = missing.lock().take() {
        let found = logs.directories();
        let found =
            found.iter().filter_map(|found| Some(format!("{} ({})", found.id?, found.path.display()))).collect();
        return Err(StartError::LogDirectoryMissing { missing, found });
    }
    if let Some(refused) = refused.lock().take() {
        return Err(StartError::Registration(refused));
    }
    let found = Arc::clone(&quorum.identity().cluster_id);
    if *found != *cluster_id {
        return Err(StartError::ClusterMismatch { directory, expected: cluster_id, found });
    }
    let image = quorum.image();
    let registered = image.broker(node_id).expect("invariant: a node is registered once its quorum is open");
    Ok((quorum, registered.broker_epoch))
}

/// Directories this node had when it last registered, and has no more. An empty one in the place of one, as an unmounted
/// disk leaves it, would have its partitions begin anew: acknowledged records would be gone without a word.
fn missing_directories(image: &MetadataImage, registration: &RegisterBroker, abandoned: &[Uuid]) -> Vec<Uuid> {
    let Some(earlier) = image.broker(registration.node_id) else { return Vec::new() };
    let is_missing = |id: &Uuid| !registration.log_dirs.contains(id) && !abandoned.contains(id);
    earlier.log_dirs.iter().copied().filter(is_missing).collect()
}

fn registration(world: &World, config: &ServerConfig, bound: &[Bound], logs: &LogManager) -> RegisterBroker {
    let listeners = config
        .advertised_listeners
        .iter()
        .filter_map(|listener| {
            let (host, port) = advertised(world, listener, bound)?;
            Some(BrokerListener {
                name: Arc::from(listener.name.as_str()),
                host: Arc::from(host),
                port,
                security_protocol: SecurityProtocol::Plaintext,
            })
        })
        .collect();
    RegisterBroker {
        cluster_id: Arc::from(logs.cluster_id()),
        node_id: config.node_id,
        incarnation_id: random_uuid(world),
        listeners,
        rack: None,
        features: features::supported_features(),
        log_dirs: logs.directories().into_iter().filter_map(|directory| directory.id).collect(),
        cordoned_log_dirs: Vec::new(),
        // The directories' locks are held: an earlier incarnation cannot be alive.
        earlier_is_alive: false,
        fenced: false,
    }
}

pub(crate) fn random_uuid(world: &World) -> Uuid {
    loop {
        let mut bytes = [0; 16];
        world.entropy.fill(&mut bytes);
        if let Some(id) = Uuid::from_random_bytes(bytes) {
            return id;
        }
    }
}

fn addresses(broker: &Broker, bound: &[Bound]) -> Vec<ListenerAddress> {
    let config = broker.config();
    bound
        .iter()
        .filter(|socket| !socket.is_controller)
        .filter_map(|socket| {
            let listener = config.advertised_listeners.iter().find(|listener| *listener.name == *socket.name)?;
            let (host, port) = advertised(&broker.world, listener, bound)?;
            let advertised = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            Some(ListenerAddress { name: Arc::clone(&socket.name), address: socket.address, advertised })
        })
        .collect()
}

async fn hold(socket: Bound, mut shutdown: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            accepted = socket.listener.accept() => match accepted {
                Ok((_, peer)) => tracing::debug!(%peer, "closing a connection to the controller listener"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            () = ended(&mut shutdown) => return,
        }
    }
}

async fn ended(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|shutdown| *shutdown).await;
}

mod foreign;
#[cfg(test)]
mod tests;
