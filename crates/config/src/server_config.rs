//! The configuration of one node, typed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ottla_types::{NodeId, Uuid};

use crate::dynamic::Scope;
use crate::error::{ConfigError, ConfigWarning, Problem};
use crate::facts::Type;
use crate::listeners::{AdvertisedListener, Listener, Listeners};
use crate::log_config::{LogConfig, TopicValues};
use crate::quorum;
use crate::settings::{Findings, Layer, Settings};

/// Everything a node is told, checked.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub node_id: NodeId,
    /// In the order of `listeners`.
    pub listeners: Vec<Listener>,
    /// At least one.
    pub advertised_listeners: Vec<AdvertisedListener>,
    /// At least one.
    pub log_dirs: Vec<PathBuf>,
    pub metadata_log_dir: PathBuf,
    /// Ids of log directories that are lost for good.
    pub abandoned_log_directories: Vec<Uuid>,
    pub topics: TopicCreation,
    /// What topics without settings of their own get.
    pub log: LogConfig,
    pub log_maintenance: LogMaintenance,
    pub log_cleaner: LogCleaner,
    pub log_moves: LogMoves,
    pub network: Network,
    pub fetch: Fetch,
    pub offsets: Offsets,
    pub groups: ClassicGroups,
    pub memory: Memory,
    pub(crate) settings: Settings,
    pub(crate) topic_defaults: TopicValues,
    origin: Origin,
}

/// How a configuration was given, where that decides a default.
#[derive(Clone, Debug)]
struct Origin {
    data_dir: Option<PathBuf>,
    has_file: bool,
}

/// How topics come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicCreation {
    pub num_partitions: i32,
    /// -1 and 0 are accepted by Kafka, and creation then fails.
    pub default_replication_factor: i16,
    pub auto_create_topics_enable: bool,
    pub delete_topic_enable: bool,
    /// Partitions in one answer to DescribeTopicPartitions.
    pub max_request_partition_size_limit: i32,
}

/// Periodic work on all logs, and their recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogMaintenance {
    pub initial_task_delay_ms: i64,
    pub retention_check_interval_ms: i64,
    /// How often `flush.ms` is looked at; without a limit by default.
    pub flush_scheduler_interval_ms: i64,
    pub flush_offset_checkpoint_interval_ms: i64,
    pub high_watermark_checkpoint_interval_ms: i64,
    pub num_recovery_threads_per_data_dir: usize,
    pub producer_id_expiration_ms: i64,
    pub producer_id_expiration_check_interval_ms: i64,
    /// 0: closed segments are not verified.
    pub scrub_bytes_per_second: u64,
    pub scrub_interval_ms: i64,
}

/// The compaction of topics.
#[derive(Clone, Debug, PartialEq)]
pub struct LogCleaner {
    pub enable: bool,
    pub threads: usize,
    pub dedupe_buffer_bytes: u64,
    pub dedupe_buffer_load_factor: f64,
    pub io_buffer_bytes: usize,
    pub io_max_bytes_per_second: f64,
    pub backoff_ms: u64,
}

/// Moving partitions between the log directories of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMoves {
    /// So many partitions at a time.
    pub threads: usize,
    pub io_max_bytes_per_second: u64,
}

/// Connections and requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub request_max_bytes: usize,
    /// Absent: a connection may be idle for ever.
    pub connections_max_idle_ms: Option<u64>,
    pub max_connections: usize,
    /// New connections in a second.
    pub max_connection_creation_rate: u32,
    pub max_connections_per_ip: usize,
    /// By address or host name.
    pub max_connections_per_ip_overrides: BTreeMap<String, usize>,
    pub max_inflight_requests_per_connection: usize,
    /// What single listeners have of their own, by name.
    pub listeners: BTreeMap<String, ListenerNetwork>,
    /// The brokers' listener, where clients have another one: the limits of all connections do not hold it up.
    pub protected_listener: Option<String>,
    /// Absent: as the system chooses.
    pub socket_listen_backlog_size: Option<u32>,
    pub socket_send_buffer_bytes: Option<u32>,
    pub socket_receive_buffer_bytes: Option<u32>,
}

/// Settings of one listener (`listener.name.NAME.`); what is absent is as for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerNetwork {
    pub max_connections: Option<usize>,
    pub max_connection_creation_rate: Option<u32>,
    pub request_max_bytes: Option<usize>,
    /// 0 or less: a connection may be idle for ever.
    pub connections_max_idle_ms: Option<i64>,
}

impl Network {
    /// The largest request on this listener.
    pub fn request_max_bytes_of(&self, listener: &str) -> usize {
        let own = self.listeners.get(listener).and_then(|listener| listener.request_max_bytes);
        own.unwrap_or(self.request_max_bytes)
    }

    /// How long a connection of this listener may be idle; absent: for ever.
    pub fn connections_max_idle_ms_of(&self, listener: &str) -> Option<u64> {
        match self.listeners.get(listener).and_then(|listener| listener.connections_max_idle_ms) {
            Some(own) => positive(own),
            None => self.connections_max_idle_ms,
        }
    }
}

/// Limits of fetch requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub max_bytes: i32,
    pub max_incremental_session_cache_slots: usize,
}

/// Committed offsets and the topic that keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub metadata_max_bytes: i32,
    pub commit_timeout_ms: i32,
    pub load_buffer_size: usize,
    pub retention_ms: i64,
    pub retention_check_interval_ms: i64,
    pub topic_num_partitions: i32,
    /// An upper limit: a cluster with fewer nodes uses as many as it has.
    pub topic_replication_factor: i16,
    pub topic_segment_bytes: i32,
    /// The codec's number in a batch's attributes.
    pub topic_compression_codec: u8,
}

impl Offsets {
    /// The overrides `__consumer_offsets` is created with.
    pub fn topic_overrides(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("cleanup.policy".to_owned(), "compact".to_owned()),
            ("compression.type".to_owned(), "producer".to_owned()),
            ("segment.bytes".to_owned(), self.topic_segment_bytes.to_string()),
        ])
    }
}

/// Groups of the classic protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicGroups {
    /// -1 is adaptive.
    pub append_linger_ms: i32,
    pub initial_rebalance_delay_ms: i32,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub max_size: usize,
}

/// The memory budgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    pub hot_tail_bytes: u64,
    pub produce_bytes: u64,
    pub fetch_bytes: u64,
}

/// A configuration that can be started, and what the operator should be told about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: ServerConfig,
    pub warnings: Vec<ConfigWarning>,
}

impl Default for ServerConfig {
    /// That of a node without a configuration file.
    fn default() -> Self {
        Self::load(None, &[], None, true).expect("invariant: the defaults are valid").config
    }
}

impl ServerConfig {
    /// Reads a configuration: the text of `server.properties`, if there is one, under `sets` (the last one of a key
    /// counts) under `data_dir`, which replaces `log.dirs`. With `strict`, an unknown key is an error. All errors are
    /// returned, not only the first.
    pub fn load(
        file_text: Option<&str>,
        sets: &[(String, String)],
        data_dir: Option<&Path>,
        strict: bool,
    ) -> Result<Loaded, Vec<ConfigError>> {
        let mut sets = sets.to_vec();
        let has_file = file_text.is_some();
        if let Some(directory) = data_dir {
            sets.push(("log.dirs".to_owned(), directory.display().to_string()));
        }
        let mut findings = Findings::default();
        let settings = Settings::read(file_text, &sets, own_defaults(has_file), strict, &mut findings);
        let origin = Origin { data_dir: data_dir.map(Path::to_path_buf), has_file };
        let config = Self::typed(settings, origin, &mut findings);
        match config {
            Some(config) if findings.errors.is_empty() => Ok(Loaded { config, warnings: findings.warnings }),
            _ => Err(findings.errors),
        }
    }

    /// This configuration with what was set at run time, for every node (`cluster`) and for this one (`node`, which is
    /// stronger). A value that this version does not accept is left out and reported, and so is one that does not go
    /// together with the others: it was checked when it was set, but the file may have changed since.
    pub fn with_dynamic(
        &self,
        cluster: &BTreeMap<String, String>,
        node: &BTreeMap<String, String>,
    ) -> (Self, Vec<ConfigError>) {
        let mut findings = Findings::default();
        let (cluster, node) = (Layer::read(cluster, &mut findings), Layer::read(node, &mut findings));
        let mut settings = self.settings.clone();
        settings.cluster = cluster;
        settings.node = node;
        let mut together = Findings::default();
        match Self::typed(settings.clone(), self.origin.clone(), &mut together) {
            Some(config) if together.errors.is_empty() => (config, findings.errors),
            _ => {
                let (config, mut errors) = self.with_each(&settings);
                findings.errors.append(&mut errors);
                (config, findings.errors)
            }
        }
    }

    /// The configuration of the start with one setting made at run time after the other, but for those that do not go
    /// together with what is there already.
    fn with_each(&self, wanted: &Settings) -> (Self, Vec<ConfigError>) {
        let mut settings = self.settings.clone();
        (settings.cluster, settings.node) = (Layer::default(), Layer::default());
        let mut errors = Vec::new();
        let mut config = self.clone();
        for (scope, layer) in [(Scope::Cluster, &wanted.cluster), (Scope::Node, &wanted.node)] {
            for key in layer.keys() {
                let mut next = settings.clone();
                match scope {
                    Scope::Cluster => next.cluster.copy(key, layer),
                    Scope::Node => next.node.copy(key, layer),
                }
                let mut findings = Findings::default();
                match Self::typed(next.clone(), self.origin.clone(), &mut findings) {
                    Some(with) if findings.errors.is_empty() => (config, settings) = (with, next),
                    _ => errors.append(&mut findings.errors),
                }
            }
        }
        (config, errors)
    }

    /// This configuration with other settings made at run time in one scope.
    pub(crate) fn with_layer(&self, scope: Scope, layer: Layer, findings: &mut Findings) -> Option<Self> {
        let mut settings = self.settings.clone();
        match scope {
            Scope::Cluster => settings.cluster = layer,
            Scope::Node => settings.node = layer,
        }
        Self::typed(settings, self.origin.clone(), findings)
    }

    fn typed(settings: Settings, origin: Origin, findings: &mut Findings) -> Option<Self> {
        let node_id = node_id(&settings, findings);
        let listeners = Listeners::resolve(&settings).map_err(|error| findings.error(error)).ok();
        if let Some(listeners) = &listeners {
            quorum::check(&settings, node_id, &listeners.listeners, &listeners.advertised, findings);
        }
        let log_dirs = log_dirs(&settings, origin.data_dir.as_deref(), origin.has_file, findings);
        let topic_defaults = TopicValues::of_server(&settings, findings);
        // With no overrides this only checks the values together.
        let _ = topic_defaults.overridden(&BTreeMap::new()).map_err(|error| findings.error(error));
        let log = topic_defaults.log_config();
        let network = listeners.as_ref().map(|listeners| network(&settings, listeners, findings));
        let offsets = offsets(&settings, findings);
        let groups = groups(&settings, findings);
        let (listeners, network) = (listeners?, network?);
        let log_moves = log_moves(&settings, log_dirs.len());
        Some(Self {
            node_id: NodeId(node_id),
            listeners: listeners.listeners,
            advertised_listeners: listeners.advertised,
            metadata_log_dir: settings.text("metadata.log.dir").map_or_else(|| log_dirs[0].clone(), PathBuf::from),
            log_dirs,
            abandoned_log_directories: abandoned_log_directories(&settings, findings),
            topics: TopicCreation {
                num_partitions: settings.number("num.partitions"),
                default_replication_factor: replication_factor(&settings, findings),
                auto_create_topics_enable: settings.boolean("auto.create.topics.enable"),
                delete_topic_enable: settings.boolean("delete.topic.enable"),
                max_request_partition_size_limit: settings.number("max.request.partition.size.limit"),
            },
            log,
            log_maintenance: log_maintenance(&settings),
            log_cleaner: log_cleaner(&settings, findings),
            log_moves,
            network,
            fetch: Fetch {
                max_bytes: settings.number("fetch.max.bytes"),
                max_incremental_session_cache_slots: settings.number("max.incremental.fetch.session.cache.slots"),
            },
            offsets,
            groups,
            memory: Memory {
                hot_tail_bytes: settings.number("ottla.memory.hot.tail.bytes"),
                produce_bytes: settings.number("ottla.memory.produce.bytes"),
                fetch_bytes: settings.number("ottla.memory.fetch.bytes"),
            },
            settings,
            topic_defaults,
            origin,
        })
    }
}

/// Defaults that are not Kafka's.
pub(crate) fn own_defaults(has_file: bool) -> BTreeMap<&'static str, String> {
    let mut defaults = BTreeMap::from([
        ("broker.id", "1".to_owned()),
        ("node.id", "1".to_owned()),
        ("process.roles", "broker,controller".to_owned()),
    ]);
    if !has_file {
        defaults.insert("listeners", "PLAINTEXT://localhost:9092".to_owned());
        defaults.insert("log.dirs", "./ottla-data".to_owned());
    }
    defaults
}

fn node_id(settings: &Settings, findings: &mut Findings) -> i32 {
    let set = |name: &str| settings.set_value(name).map(|_| settings.long(name));
    if let (Some(node_id), Some(broker_id)) = (set("node.id"), set("broker.id"))
        && node_id != broker_id
    {
        findings.error(ConfigError::NodeIdsDiffer { node_id, broker_id });
    }
    settings.number("node.id")
}

fn log_dirs(settings: &Settings, data_dir: Option<&Path>, has_file: bool, findings: &mut Findings) -> Vec<PathBuf> {
    if let Some(directory) = data_dir {
        return vec![directory.to_path_buf()];
    }
    if !settings.is_set("log.dirs") && (has_file || settings.is_set("log.dir")) {
        let directories = settings.list("log.dir");
        if !settings.is_set("log.dir") {
            let directory = directories.join(",");
            findings.warnings.push(ConfigWarning::TemporaryLogDirectory { directory });
        }
        return directories.iter().map(PathBuf::from).collect();
    }
    let directories = settings.list("log.dirs");
    // Empty only if the value was refused.
    if directories.is_empty() { vec![PathBuf::new()] } else { directories.iter().map(PathBuf::from).collect() }
}

fn abandoned_log_directories(settings: &Settings, findings: &mut Findings) -> Vec<Uuid> {
    const KEY: &str = "ottla.abandoned.log.directories";
    let mut ids = Vec::new();
    for text in settings.list(KEY) {
        match text.parse() {
            Ok(id) => ids.push(id),
            Err(_) => findings.errors.push(ConfigError::InvalidValue {
                key: KEY.to_owned(),
                value: text.clone(),
                problem: Problem::DirectoryId(text),
            }),
        }
    }
    ids
}

fn replication_factor(settings: &Settings, findings: &mut Findings) -> i16 {
    let factor = settings.long("default.replication.factor");
    i16::try_from(factor).unwrap_or_else(|_| {
        findings.errors.push(ConfigError::InvalidValue {
            key: "default.replication.factor".to_owned(),
            value: factor.to_string(),
            problem: Problem::NotANumber(Type::Short),
        });
        1
    })
}

fn log_maintenance(settings: &Settings) -> LogMaintenance {
    LogMaintenance {
        initial_task_delay_ms: settings.long("log.initial.task.delay.ms"),
        retention_check_interval_ms: settings.long("log.retention.check.interval.ms"),
        flush_scheduler_interval_ms: settings.long("log.flush.scheduler.interval.ms"),
        flush_offset_checkpoint_interval_ms: settings.long("log.flush.offset.checkpoint.interval.ms"),
        high_watermark_checkpoint_interval_ms: settings.long("replica.high.watermark.checkpoint.interval.ms"),
        num_recovery_threads_per_data_dir: settings.number("num.recovery.threads.per.data.dir"),
        producer_id_expiration_ms: settings.long("producer.id.expiration.ms"),
        producer_id_expiration_check_interval_ms: settings.long("producer.id.expiration.check.interval.ms"),
        scrub_bytes_per_second: settings.number("ottla.log.scrub.bytes.per.second"),
        scrub_interval_ms: settings.long("ottla.log.scrub.interval.ms"),
    }
}

fn log_cleaner(settings: &Settings, findings: &mut Findings) -> LogCleaner {
    const LEAST_BYTES_OF_A_THREAD: u64 = 1 << 20;
    let threads: usize = settings.number("log.cleaner.threads");
    let dedupe_buffer_bytes = u64::try_from(settings.long("log.cleaner.dedupe.buffer.size")).unwrap_or(0);
    if threads > 0 && dedupe_buffer_bytes / threads as u64 <= LEAST_BYTES_OF_A_THREAD {
        findings.errors.push(ConfigError::DedupeBufferTooSmall);
    }
    LogCleaner {
        enable: settings.boolean("log.cleaner.enable"),
        threads,
        dedupe_buffer_bytes,
        dedupe_buffer_load_factor: settings.double("log.cleaner.io.buffer.load.factor"),
        io_buffer_bytes: settings.number("log.cleaner.io.buffer.size"),
        io_max_bytes_per_second: settings.double("log.cleaner.io.max.bytes.per.second"),
        backoff_ms: u64::try_from(settings.long("log.cleaner.backoff.ms")).unwrap_or(0),
    }
}

fn log_moves(settings: &Settings, directories: usize) -> LogMoves {
    let threads = settings.optional_long("num.replica.alter.log.dirs.threads");
    let io_max_bytes_per_second = settings.long("replica.alter.log.dirs.io.max.bytes.per.second");
    LogMoves {
        threads: threads.map_or(directories, |threads| usize::try_from(threads).unwrap_or(1)).max(1),
        io_max_bytes_per_second: u64::try_from(io_max_bytes_per_second).unwrap_or(0),
    }
}

fn network(settings: &Settings, listeners: &Listeners, findings: &mut Findings) -> Network {
    let socket_request_max_bytes: i32 = settings.number("socket.request.max.bytes");
    // Without effect, but checked as Kafka does.
    let queued = settings.long("queued.max.request.bytes");
    if queued > 0 && queued < i64::from(socket_request_max_bytes) {
        findings.errors.push(ConfigError::InvalidValue {
            key: "queued.max.request.bytes".to_owned(),
            value: queued.to_string(),
            problem: Problem::BelowFrameCap { socket_request_max_bytes },
        });
    }
    Network {
        request_max_bytes: socket_request_max_bytes as usize,
        connections_max_idle_ms: positive(settings.long("connections.max.idle.ms")),
        max_connections: settings.number("max.connections"),
        max_connection_creation_rate: settings.number("max.connection.creation.rate"),
        max_connections_per_ip: settings.number("max.connections.per.ip"),
        max_connections_per_ip_overrides: connection_overrides(settings, findings),
        max_inflight_requests_per_connection: settings.number("ottla.connection.max.inflight.requests"),
        listeners: listeners.advertised.iter().map(|listener| of_listener(settings, &listener.name)).collect(),
        protected_listener: protected_listener(settings, listeners),
        socket_listen_backlog_size: size_if_set(settings, "socket.listen.backlog.size"),
        socket_send_buffer_bytes: size_if_set(settings, "socket.send.buffer.bytes"),
        socket_receive_buffer_bytes: size_if_set(settings, "socket.receive.buffer.bytes"),
    }
}

fn of_listener(settings: &Settings, name: &str) -> (String, ListenerNetwork) {
    let own = ListenerNetwork {
        max_connections: settings.listener_number(name, "max.connections"),
        max_connection_creation_rate: settings.listener_number(name, "max.connection.creation.rate"),
        request_max_bytes: settings.listener_number(name, "socket.request.max.bytes"),
        connections_max_idle_ms: settings.listener_number(name, "connections.max.idle.ms"),
    };
    (name.to_owned(), own)
}

fn protected_listener(settings: &Settings, listeners: &Listeners) -> Option<String> {
    let name = match settings.text("inter.broker.listener.name") {
        Some(name) => name.to_uppercase(),
        None => settings.text("security.inter.broker.protocol")?.to_uppercase(),
    };
    (listeners.advertised.len() > 1).then_some(name)
}

fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

/// A size for the system; its own choice is better than Kafka's default, but not than what the operator wrote.
fn size_if_set(settings: &Settings, key: &str) -> Option<u32> {
    if settings.is_set(key) { u32::try_from(settings.long(key)).ok().filter(|size| *size > 0) } else { None }
}

fn connection_overrides(settings: &Settings, findings: &mut Findings) -> BTreeMap<String, usize> {
    const KEY: &str = "max.connections.per.ip.overrides";
    let text = settings.text(KEY).unwrap_or_default();
    let mut overrides = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let pair = entry.rsplit_once(':').and_then(|(address, number)| Some((address, number.trim().parse().ok()?)));
        match pair {
            Some((address, number)) => {
                overrides.insert(address.trim().to_owned(), number);
            }
            None => findings.errors.push(ConfigError::InvalidValue {
                key: KEY.to_owned(),
                value: text.clone(),
                problem: Problem::ConnectionOverrides,
            }),
        }
    }
    if settings.long("max.connections.per.ip") == 0 && overrides.is_empty() {
        findings.errors.push(ConfigError::InvalidValue {
            key: "max.connections.per.ip".to_owned(),
            value: "0".to_owned(),
            problem: Problem::NoConnections,
        });
    }
    overrides
}

fn offsets(settings: &Settings, findings: &mut Findings) -> Offsets {
    // The smallest segment a topic may have.
    const SMALLEST_SEGMENT: i32 = 1024 * 1024;
    let codec = settings.long("offsets.topic.compression.codec");
    if !(0..=4).contains(&codec) {
        findings.errors.push(ConfigError::InvalidValue {
            key: "offsets.topic.compression.codec".to_owned(),
            value: codec.to_string(),
            problem: Problem::CompressionCodec(codec),
        });
    }
    let topic_segment_bytes: i32 = settings.number("offsets.topic.segment.bytes");
    if topic_segment_bytes < SMALLEST_SEGMENT {
        findings.errors.push(ConfigError::InvalidValue {
            key: "offsets.topic.segment.bytes".to_owned(),
            value: topic_segment_bytes.to_string(),
            problem: Problem::BelowMinimum(f64::from(SMALLEST_SEGMENT)),
        });
    }
    Offsets {
        metadata_max_bytes: settings.number("offset.metadata.max.bytes"),
        commit_timeout_ms: settings.number("offsets.commit.timeout.ms"),
        load_buffer_size: settings.number("offsets.load.buffer.size"),
        retention_ms: settings.long("offsets.retention.minutes") * 60_000,
        retention_check_interval_ms: settings.long("offsets.retention.check.interval.ms"),
        topic_num_partitions: settings.number("offsets.topic.num.partitions"),
        topic_replication_factor: settings.number("offsets.topic.replication.factor"),
        topic_segment_bytes,
        topic_compression_codec: codec as u8,
    }
}

fn groups(settings: &Settings, findings: &mut Findings) -> ClassicGroups {
    const PROTOCOLS: &str = "group.coordinator.rebalance.protocols";
    let min: i32 = settings.number("group.min.session.timeout.ms");
    let max: i32 = settings.number("group.max.session.timeout.ms");
    // Kafka starts with them the wrong way round, and then no member can join.
    if min > max {
        findings.errors.push(ConfigError::InvalidValue {
            key: "group.min.session.timeout.ms".to_owned(),
            value: min.to_string(),
            problem: Problem::SessionTimeouts { group_max_session_timeout_ms: max },
        });
    }
    let protocols = settings.list(PROTOCOLS);
    if !protocols.iter().any(|protocol| protocol == "classic") {
        findings.errors.push(ConfigError::InvalidValue {
            key: PROTOCOLS.to_owned(),
            value: protocols.join(","),
            problem: Problem::ClassicProtocolMissing,
        });
    }
    ClassicGroups {
        append_linger_ms: settings.number("group.coordinator.append.linger.ms"),
        initial_rebalance_delay_ms: settings.number("group.initial.rebalance.delay.ms"),
        min_session_timeout_ms: min,
        max_session_timeout_ms: max,
        max_size: settings.number("group.max.size"),
    }
}
