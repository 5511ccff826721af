//! What can be wrong with a configuration, and what is merely worth saying.

use std::fmt;

use thiserror::Error;

use crate::facts::Type;

/// One reason why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ConfigError {
    #[error("line {line}: a \\u escape needs four hexadecimal digits")]
    BadEscape { line: usize },
    #[error("Invalid value {value} for configuration {key}: {problem}")]
    InvalidValue { key: String, value: String, problem: Problem },
    #[error("Unknown topic config name: {key}")]
    UnknownTopicKey { key: String },
    #[error("unknown key {key}{}", nearest_hint(.nearest.as_deref()))]
    UnknownKey { key: String, nearest: Option<String> },
    #[error("{key} is set, but {reason}; a node that ignored it would be less protected than it looks")]
    NotProtected { key: String, reason: &'static str },
    #[error("{key} is set, but {reason}")]
    NotSupported { key: String, reason: &'static str },
    #[error("conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})")]
    CompactionLags { min: i64, max: i64 },
    #[error(
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
    )]
    RemoteStorage,
    #[error("log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.")]
    DedupeBufferTooSmall,
    #[error("node.id is {node_id} and broker.id is {broker_id}: they name the same number, set node.id only")]
    NodeIdsDiffer { node_id: i64, broker_id: i64 },
    #[error(transparent)]
    Listeners(#[from] ListenerError),
    #[error(transparent)]
    Quorum(#[from] QuorumError),
}

/// Why one value is not accepted.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Problem {
    #[error("Not a number of type {}", .0.name())]
    NotANumber(Type),
    #[error("Expected value to be either true or false")]
    NotABoolean,
    #[error("Value must be at least {0}")]
    BelowMinimum(f64),
    #[error("Value must be no more than {0}")]
    AboveMaximum(f64),
    #[error("Value must be between 1 and 9 or equal to -1")]
    GzipLevel,
    #[error("String must be one of: {}", .0.join(", "))]
    NotOneOf(&'static [&'static str]),
    #[error("String must be one of (case insensitive): {}", .0.join(", "))]
    NotOneOfAnyCase(&'static [&'static str]),
    #[error("String must be non-empty")]
    Empty,
    #[error("must not be empty. Valid values include: {}", if .0.is_empty() { "any non-empty value".to_owned() } else { .0.join(", ") })]
    EmptyList(&'static [&'static str]),
    #[error("values must not be empty")]
    EmptyElement,
    #[error(
        "must be the literal '*' or a list of replicas in the following format: \
         [partitionId]:[brokerId],[partitionId]:[brokerId],..."
    )]
    ThrottledReplicas,
    #[error("The value must be 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'")]
    ShareOffsetReset,
    #[error("must be unlimited (-1), or at least 1")]
    ZeroRetention,
    #[error("must be larger or equal to socket.request.max.bytes ({socket_request_max_bytes})")]
    BelowFrameCap { socket_request_max_bytes: i32 },
    #[error("can be zero only if max.connections.per.ip.overrides is set")]
    NoConnections,
    #[error("expected a list of address:number")]
    ConnectionOverrides,
    #[error("Unknown compression type id: {0}")]
    CompressionCodec(i64),
    #[error("{0} is not the id of a directory: 22 characters, as in its meta.properties")]
    DirectoryId(String),
    #[error("the classic protocol cannot be disabled")]
    ClassicProtocolMissing,
    #[error("must be no more than group.max.session.timeout.ms ({group_max_session_timeout_ms})")]
    SessionTimeouts { group_max_session_timeout_ms: i32 },
}

/// What is wrong with the keys that say where a node listens.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ListenerError {
    #[error("{key}: cannot read {entry} as NAME://host:port")]
    Malformed { key: &'static str, entry: String },
    #[error("{key}: port {port} is not between 0 and 65535")]
    Port { key: &'static str, port: i64 },
    #[error("{key}: {name} appears twice; each listener needs a name of its own")]
    DuplicateName { key: &'static str, name: String },
    #[error("listeners: {first} and {second} share port {port}")]
    DuplicatePort { first: String, second: String, port: u16 },
    #[error("listener {name} has no security protocol: add {name}:PLAINTEXT to listener.security.protocol.map")]
    NoProtocol { name: String },
    #[error("listener.security.protocol.map: cannot read {entry} as NAME:PROTOCOL")]
    MalformedProtocol { entry: String },
    #[error("listener.security.protocol.map: {protocol} is not one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL")]
    UnknownProtocol { protocol: String },
    #[error("listener {name} uses {protocol}, which is not built yet: only PLAINTEXT is served so far")]
    ProtocolNotServed { name: String, protocol: &'static str },
    #[error("advertised.listeners: {name} is not in listeners")]
    AdvertisedUnknown { name: String },
    #[error(
        "{key}: {address} cannot be advertised, clients could not connect to it; \
         set advertised.listeners to an address they can reach"
    )]
    NotRoutable { key: &'static str, address: String },
    #[error("no listener is left for clients: every one is in controller.listener.names")]
    NoClientListener,
    #[error("none of controller.listener.names is in listeners")]
    NoControllerListener,
    #[error("inter.broker.listener.name: {name} is not one of {}", .allowed.join(", "))]
    InterBroker { name: String, allowed: Vec<String> },
    #[error("only one of inter.broker.listener.name and security.inter.broker.protocol may be set")]
    InterBrokerTwice,
}

/// What is wrong with the keys that say who the controllers are.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum QuorumError {
    #[error("process.roles={roles}: a node of one role cannot run yet, only broker,controller")]
    Roles { roles: String },
    #[error("controller.quorum.voters: cannot read {entry} as id@host:port")]
    MalformedVoter { entry: String },
    #[error("controller.quorum.bootstrap.servers: cannot read {entry} as host:port")]
    MalformedServer { entry: String },
    #[error(
        "controller.quorum.voters: one voter is supported so far, and it must be this node ({node_id}), not {voters}"
    )]
    Voters { node_id: i32, voters: String },
    #[error("controller.quorum.bootstrap.servers: one controller is supported so far, this node, not {servers}")]
    Servers { servers: String },
    #[error(
        "controller.quorum.bootstrap.servers: {server} is not this node, whose controller listeners have ports {}",
        .ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
    )]
    AnotherPort { server: String, ports: Vec<u16> },
}

/// Something the operator should know, though the node starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigWarning {
    /// A Kafka key that is not used yet; `instead` says what happens.
    NotUsed {
        key: String,
        instead: &'static str,
    },
    Unknown {
        key: String,
        nearest: Option<String>,
    },
    /// A per-listener key that is only read for the whole node.
    NotPerListener {
        key: String,
        base: String,
    },
    /// The last one counts, as in Kafka.
    SetTwice {
        key: String,
        line: usize,
    },
    /// No log directory is named and Kafka's default lies in /tmp.
    TemporaryLogDirectory {
        directory: String,
    },
    /// Whether the host is this node cannot be seen from the text; it is taken to be.
    TakenForThisNode {
        server: String,
    },
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUsed { key, instead } => write!(f, "{key} has no effect: {instead}"),
            Self::Unknown { key, nearest } => write!(f, "unknown key {key}{}", nearest_hint(nearest.as_deref())),
            Self::NotPerListener { key, base } => {
                write!(f, "{key} has no effect: {base} is only read for the whole node")
            }
            Self::SetTwice { key, line } => write!(f, "{key} is set again in line {line}; the last value counts"),
            Self::TemporaryLogDirectory { directory } => {
                write!(f, "log.dirs is not set: data is kept in {directory}, which may not survive a reboot")
            }
            Self::TakenForThisNode { server } => {
                write!(f, "controller.quorum.bootstrap.servers: {server} is taken to be this node")
            }
        }
    }
}

fn nearest_hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}
