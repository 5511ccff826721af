//! What a client is told, under Kafka's names and with Kafka's defaults.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::ConnectionSettings;
use crate::error::ClientError;
use crate::security::{Plaintext, SaslMechanism, Transport};

/// Where a client first looks for a cluster: `bootstrap.servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapServers(pub(crate) Vec<(String, u16)>);

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

/// What to do when no broker that is known of answers: `metadata.recovery.strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataRecoveryStrategy {
    /// Go on trying them.
    None,
    /// Begin again at the bootstrap servers, which may stand for other brokers by now (KIP-899).
    Rebootstrap,
}

#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// `bootstrap.servers`
    pub bootstrap_servers: BootstrapServers,
    /// `client.id`
    pub client_id: String,
    /// `request.timeout.ms`: how long one request may take.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`: how long a request is tried again.
    pub default_api_timeout: Duration,
    /// `retry.backoff.ms`: the pause before a request is tried again, which doubles with each failure.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`: the longest such pause.
    pub retry_backoff_max: Duration,
    /// `metadata.max.age.ms`: how old what is known of brokers and topics may become.
    pub metadata_max_age: Duration,
    /// `metadata.max.idle.ms`: how long a topic that nobody asks for is kept in mind.
    pub metadata_max_idle: Duration,
    /// `metadata.recovery.strategy`
    pub metadata_recovery_strategy: MetadataRecoveryStrategy,
    /// `metadata.recovery.rebootstrap.trigger.ms`: how long brokers that can be reached may fail to describe the cluster
    /// until they are given up (KIP-1102).
    pub metadata_recovery_rebootstrap_trigger: Duration,
    /// `socket.connection.setup.timeout.ms`: how long it may take to connect, encryption included.
    pub socket_connection_setup_timeout: Duration,
    /// How streams to brokers are made: the place for TLS.
    pub transport: Arc<dyn Transport>,
    /// `sasl.mechanism`: how to say who one is, if one has to.
    pub sasl_mechanism: Option<Arc<dyn SaslMechanism>>,
}

impl ClientSettings {
    /// Kafka's defaults.
    pub fn new(bootstrap_servers: BootstrapServers) -> ClientSettings {
        ClientSettings {
            bootstrap_servers,
            client_id: "ottla-client".to_owned(),
            request_timeout: Duration::from_secs(30),
            default_api_timeout: Duration::from_secs(60),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            metadata_max_idle: Duration::from_secs(300),
            metadata_recovery_strategy: MetadataRecoveryStrategy::Rebootstrap,
            metadata_recovery_rebootstrap_trigger: Duration::from_secs(300),
            socket_connection_setup_timeout: Duration::from_secs(10),
            transport: Arc::new(Plaintext),
            sasl_mechanism: None,
        }
    }

    pub(crate) fn connection(&self) -> ConnectionSettings<'_> {
        ConnectionSettings {
            client_id: &self.client_id,
            request_timeout: self.request_timeout,
            setup_timeout: self.socket_connection_setup_timeout.min(self.request_timeout),
            transport: &*self.transport,
            sasl_mechanism: self.sasl_mechanism.as_deref(),
        }
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
