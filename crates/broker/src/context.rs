//! Who asks: the connection and the header of a request.

use std::net::SocketAddr;
use std::sync::Arc;

use ottla_protocol::{ApiKey, StrBytes};

use crate::metrics::Metrics;

/// One connection, as its requests see it.
#[derive(Debug)]
pub(crate) struct ConnectionContext {
    /// The listener's name, for example `PLAINTEXT`: it decides which addresses a client is told.
    pub(crate) listener: Arc<str>,
    pub(crate) peer: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
}

/// One request.
#[derive(Debug)]
pub(crate) struct RequestContext {
    pub(crate) connection: Arc<ConnectionContext>,
    pub(crate) api_key: ApiKey,
    pub(crate) api_version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<StrBytes>,
    /// The length of its frame: as much stays in memory with any part of it.
    pub(crate) frame_bytes: usize,
}

impl RequestContext {
    /// The client's id, or the empty string.
    pub(crate) fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or_default()
    }

    /// The peer's address as Kafka shows it to administrators.
    pub(crate) fn client_host(&self) -> String {
        format!("/{}", self.connection.peer.ip())
    }

    /// Kafka lets only its own administrative client write to internal topics.
    pub(crate) fn may_write_internal_topics(&self) -> bool {
        self.client_id() == "__admin_client"
    }
}
