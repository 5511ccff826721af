//! What can go wrong between a client and a cluster.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::{ApiKey, DecodeError, EncodeError, StrBytes};
use ottla_record::{BatchError, BuildError, DecompressError, RecordError};
use ottla_types::ErrorCode;

use crate::admin::ConfigResource;
use crate::security::SaslFault;

/// A connection, or one request on it, failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("cannot connect to {host}:{port}: {source}")]
    Connect { host: String, port: u16, source: Arc<io::Error> },
    #[error("no answer from {address} within {timeout:?}")]
    TimedOut { address: String, timeout: Duration },
    #[error("the connection to {address} was lost: {reason}")]
    Lost { address: String, reason: String },
    #[error("{address} answered {api} with bytes that cannot be read: {source}")]
    Malformed { address: String, api: &'static str, source: DecodeError },
    #[error("{address} serves {api} in no version this client speaks")]
    NoCommonVersion { address: String, api: &'static str },
    #[error("{api} cannot be written in version {version}: {source}")]
    Encode { api: &'static str, version: i16, source: EncodeError },
    #[error("{address} does not accept ApiVersions: {code}")]
    Negotiation { address: String, code: ErrorCode },
    #[error("{address} does not let us in by {mechanism}: {fault}")]
    Authentication { address: String, mechanism: String, fault: SaslFault },
}

impl ConnectionError {
    fn retriable(&self) -> bool {
        match self {
            ConnectionError::Connect { .. } | ConnectionError::TimedOut { .. } | ConnectionError::Lost { .. } => true,
            ConnectionError::Malformed { .. }
            | ConnectionError::NoCommonVersion { .. }
            | ConnectionError::Encode { .. }
            | ConnectionError::Negotiation { .. }
            | ConnectionError::Authentication { .. } => false,
        }
    }
}

/// A request to a cluster failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// None of the bootstrap servers has answered since the client exists; this is why the last one did not.
    #[error("{source}")]
    Unreachable { servers: String, source: ConnectionError },
    #[error("'{0}' is not HOST:PORT")]
    Address(String),
    #[error("{}: {code}{}", api.name(), suffix(message.as_deref()))]
    Broker { api: ApiKey, code: ErrorCode, message: Option<String> },
    #[error("{} was answered without what was asked", .0.name())]
    Incomplete(ApiKey),
    #[error("topic '{topic}': {code}{}", suffix(message.as_deref()))]
    Topic { topic: String, code: ErrorCode, message: Option<String> },
    #[error("topic '{topic}' does not exist")]
    UnknownTopic { topic: String },
    #[error("topic '{topic}' has no partition {partition}")]
    UnknownPartition { topic: String, partition: i32 },
    #[error("partition {partition} of topic '{topic}' has no leader")]
    NoLeader { topic: String, partition: i32 },
    #[error("broker {node_id} is not known")]
    UnknownBroker { node_id: i32 },
    #[error("the cluster has no broker {node_id}; its brokers are {}", listed(brokers))]
    NoSuchBroker { node_id: i32, brokers: Vec<i32> },
    #[error("group '{group}': {code}{}", suffix(message.as_deref()))]
    Group { group: String, code: ErrorCode, message: Option<String> },
    #[error("group '{group}' does not exist")]
    UnknownGroup { group: String },
    #[error("{resource}: {code}{}", suffix(message.as_deref()))]
    Config { resource: ConfigResource, code: ErrorCode, message: Option<String> },
    #[error("partition {partition} of topic '{topic}': {code}{}", suffix(message.as_deref()))]
    Partition { topic: String, partition: i32, code: ErrorCode, message: Option<String> },
    #[error("partition {partition} of topic '{topic}' has no offset {offset}")]
    OffsetOutOfRange { topic: String, partition: i32, offset: i64 },
    /// Records that were read are gone: a leader without them was elected.
    #[error(
        "partition {partition} of topic '{topic}' was truncated{}, and was read up to offset {offset}",
        diverging_offset.map(|offset| format!(" to offset {offset}")).unwrap_or_default()
    )]
    LogTruncation { topic: String, partition: i32, offset: i64, diverging_offset: Option<i64> },
    #[error("partition {partition} of topic '{topic}' is not assigned to this consumer")]
    NotAssigned { topic: String, partition: i32 },
    #[error("partition {partition} of topic '{topic}' has no position, and no policy says where to begin")]
    NoPosition { topic: String, partition: i32 },
    #[error("partition {partition} of topic '{topic}', after offset {offset}: {fault}")]
    Records { topic: String, partition: i32, offset: i64, fault: RecordsFault },
    /// The setting is the one of the producer that says so.
    #[error("a record of {size} bytes is larger than {setting} ({limit})")]
    RecordTooLarge { size: usize, limit: usize, setting: &'static str },
    #[error("no room for a record of {size} bytes in the producer's memory of {limit} within {timeout:?}")]
    BufferExhausted { size: usize, limit: usize, timeout: Duration },
    #[error("topic '{topic}' could not be described within {timeout:?}")]
    MetadataTimedOut { topic: String, timeout: Duration },
    #[error("the producer was closed with records that were not acknowledged within {timeout:?}")]
    CloseTimedOut { timeout: Duration },
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("the leader of group '{group}' received a subscription that cannot be read: {source}")]
    Subscription { group: String, source: DecodeError },
    #[error("group '{group}' assigned partitions in a form that cannot be read: {source}")]
    Assignment { group: String, source: DecodeError },
    #[error("group '{group}' chose the assignor '{name}', which this member does not have")]
    UnknownAssignor { group: String, name: String },
    #[error("a message to group '{group}' cannot be written: {source}")]
    GroupMessage { group: String, source: EncodeError },
    #[error("the producer was closed before the record was acknowledged")]
    ProducerClosed,
    /// What went wrong last with its partition, if anything did: otherwise it waited behind others.
    #[error("partition {partition} of topic '{topic}': not delivered within {timeout:?}{}", suffix(last.as_deref()))]
    DeliveryTimedOut { topic: String, partition: i32, timeout: Duration, last: Option<Box<ClientError>> },
}

/// What a broker sent as records is none.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordsFault {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the broker sends only what was read before")]
    NoProgress,
}

impl ClientError {
    /// Whether the same request may succeed later.
    pub fn retriable(&self) -> bool {
        match self {
            ClientError::Connection(error) => error.retriable(),
            ClientError::NoLeader { .. }
            | ClientError::UnknownBroker { .. }
            | ClientError::BufferExhausted { .. }
            | ClientError::MetadataTimedOut { .. } => true,
            ClientError::Broker { code, .. }
            | ClientError::Topic { code, .. }
            | ClientError::Group { code, .. }
            | ClientError::Config { code, .. }
            | ClientError::Partition { code, .. } => code.is_retriable(),
            ClientError::Unreachable { .. }
            | ClientError::Address(_)
            | ClientError::Incomplete(_)
            | ClientError::UnknownTopic { .. }
            | ClientError::NoSuchBroker { .. }
            | ClientError::UnknownGroup { .. }
            | ClientError::UnknownPartition { .. }
            | ClientError::OffsetOutOfRange { .. }
            | ClientError::LogTruncation { .. }
            | ClientError::NotAssigned { .. }
            | ClientError::NoPosition { .. }
            | ClientError::Records { .. }
            | ClientError::RecordTooLarge { .. }
            | ClientError::Build(_)
            | ClientError::Subscription { .. }
            | ClientError::Assignment { .. }
            | ClientError::GroupMessage { .. }
            | ClientError::UnknownAssignor { .. }
            | ClientError::ProducerClosed
            | ClientError::CloseTimedOut { .. }
            | ClientError::DeliveryTimedOut { .. } => false,
        }
    }

    /// The code a broker answered with, if that is what failed.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Broker { code, .. }
            | ClientError::Topic { code, .. }
            | ClientError::Group { code, .. }
            | ClientError::Config { code, .. }
            | ClientError::Partition { code, .. } => Some(*code),
            ClientError::DeliveryTimedOut { last, .. } => last.as_ref()?.code(),
            _ => None,
        }
    }
}

/// The error a broker answered with, if it is one. A code nobody knows is `UNKNOWN_SERVER_ERROR`.
pub(crate) fn failure(code: i16) -> Option<ErrorCode> {
    Some(ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)).filter(|code| code.is_error())
}

/// Fails if the broker answered with an error.
pub(crate) fn check(api: ApiKey, code: i16, message: Option<&StrBytes>) -> Result<(), ClientError> {
    match failure(code) {
        None => Ok(()),
        Some(code) => Err(ClientError::Broker { api, code, message: message.map(ToString::to_string) }),
    }
}

fn listed(nodes: &[i32]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn suffix<T: std::fmt::Display + ?Sized>(message: Option<&T>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
}
