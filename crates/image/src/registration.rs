//! A broker's registration.

use std::sync::Arc;

use ottla_types::{BrokerEpoch, NodeId, Uuid};

/// What a broker told when it registered, and whether it may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRegistration {
    pub node_id: NodeId,
    /// A new one for each start of the process.
    pub incarnation_id: Uuid,
    pub broker_epoch: BrokerEpoch,
    pub listeners: Vec<BrokerListener>,
    pub rack: Option<Arc<str>>,
    pub features: Vec<SupportedFeature>,
    /// The directories that are online.
    pub log_dirs: Vec<Uuid>,
    /// Directories that take no new replicas (KIP-1066).
    pub cordoned_log_dirs: Vec<Uuid>,
    /// A fenced broker leads nothing and is hidden from clients.
    pub fenced: bool,
    pub in_controlled_shutdown: bool,
}

impl BrokerRegistration {
    /// The listener of this name.
    pub fn listener(&self, name: &str) -> Option<&BrokerListener> {
        self.listeners.iter().find(|listener| &*listener.name == name)
    }
}

/// Where a broker can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerListener {
    pub name: Arc<str>,
    pub host: Arc<str>,
    pub port: u16,
    pub security_protocol: SecurityProtocol,
}

/// Kafka's security protocols, with Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum SecurityProtocol {
    Plaintext = 0,
    Ssl = 1,
    SaslPlaintext = 2,
    SaslSsl = 3,
}

impl SecurityProtocol {
    pub fn code(self) -> i16 {
        self as i16
    }

    pub fn from_code(code: i16) -> Option<Self> {
        Some(match code {
            0 => SecurityProtocol::Plaintext,
            1 => SecurityProtocol::Ssl,
            2 => SecurityProtocol::SaslPlaintext,
            3 => SecurityProtocol::SaslSsl,
            _ => return None,
        })
    }
}

/// The levels of a feature a broker can serve (both inclusive).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupportedFeature {
    pub name: Arc<str>,
    pub min_level: i16,
    pub max_level: i16,
}

/// Some fields of a registration; `None` leaves one as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRegistrationChange {
    pub node_id: NodeId,
    /// The registration meant; another one is left alone.
    pub broker_epoch: BrokerEpoch,
    pub fenced: Option<bool>,
    pub in_controlled_shutdown: Option<bool>,
    pub log_dirs: Option<Vec<Uuid>>,
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}
