//! Which settings of a node can be made at run time, and which values.

use std::collections::BTreeMap;

use crate::error::{ConfigError, ConfigWarning};
use crate::facts::Update;
use crate::server_config::ServerConfig;
use crate::settings::{Findings, Layer, split_listener_key};
use crate::table::broker_key;

/// For whom a setting is made at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every node.
    Cluster,
    /// One node; stronger.
    Node,
}

/// Why settings of a node cannot be made at run time.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DynamicError {
    #[error("Cannot update these configs dynamically: [{}]", .keys.join(", "))]
    NeedsRestart { keys: Vec<String> },
    #[error(
        "These security configs can be dynamically updated only per-listener using the listener prefix: [{}]",
        .keys.join(", ")
    )]
    OnlyPerListener { keys: Vec<String> },
    #[error("Cannot update these configs at default cluster level, broker id must be specified: [{}]", .keys.join(", "))]
    OnlyPerNode { keys: Vec<String> },
    #[error("{key} cannot be changed here at run time: listeners are opened at the start; set it in the file")]
    ListenersAreFixed { key: String },
    #[error(
        "Dynamic thread count update validation failed for {key}={value}, value should be at least half the current \
         value {current}"
    )]
    TooFewThreads { key: &'static str, value: i64, current: i64 },
    #[error(
        "Dynamic thread count update validation failed for {key}={value}, value should not be greater than double the \
         current value {current}"
    )]
    TooManyThreads { key: &'static str, value: i64, current: i64 },
    #[error("Log cleaner threads should be at least 1")]
    NoCleanerThread,
    #[error("Log cleaner threads cannot be reduced to less than half the current value {current}")]
    TooFewCleanerThreads { current: i64 },
    #[error("Log cleaner threads cannot be increased to more than double the current value {current}")]
    TooManyCleanerThreads { current: i64 },
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<ConfigError>),
}

/// What Kafka reads anew for one listener only.
const PER_LISTENER: [&str; 10] = [
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];

/// Keys of one listener that can be set for every node.
const CLUSTER_WIDE_PER_LISTENER: [&str; 3] = ["max.connection.creation.rate", "max.connections", "num.network.threads"];

/// Numbers of threads, which may change by a factor of two at a time.
const THREADS: [&str; 5] = [
    "background.threads",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
];

/// Kafka opens and closes listeners at run time; here they stay as they were at the start.
pub(crate) const FIXED_LISTENERS: [&str; 2] = ["listener.security.protocol.map", "listeners"];

impl ServerConfig {
    /// Whether these can be the settings made at run time for the scope, over those of the start and together with those
    /// of the other scope. Returns what the operator should be told about them.
    pub fn check_dynamic(
        &self,
        scope: Scope,
        settings: &BTreeMap<String, String>,
    ) -> Result<Vec<ConfigWarning>, DynamicError> {
        let names = |is_wrong: &dyn Fn(&str) -> bool| -> Option<Vec<String>> {
            let wrong: Vec<String> = settings.keys().filter(|name| is_wrong(name)).cloned().collect();
            (!wrong.is_empty()).then_some(wrong)
        };
        let update = |name: &str| broker_key(name).map(|facts| facts.update);
        if let Some(keys) = names(&|name| update(name) == Some(Update::ReadOnly)) {
            return Err(DynamicError::NeedsRestart { keys });
        }
        if let Some(keys) = names(&|name| PER_LISTENER.contains(&name)) {
            return Err(DynamicError::OnlyPerListener { keys });
        }
        let mut findings = Findings::default();
        let layer = Layer::read(settings, &mut findings);
        if !findings.errors.is_empty() {
            return Err(DynamicError::Invalid(findings.errors));
        }
        let is_per_node = |name: &str| match split_listener_key(name) {
            Some((_, base)) => !CLUSTER_WIDE_PER_LISTENER.contains(&base),
            None => update(name) == Some(Update::PerBroker),
        };
        if scope == Scope::Cluster
            && let Some(keys) = names(&is_per_node)
        {
            return Err(DynamicError::OnlyPerNode { keys });
        }
        if let Some(key) = settings.keys().find(|name| FIXED_LISTENERS.contains(&name.as_str())) {
            return Err(DynamicError::ListenersAreFixed { key: key.clone() });
        }
        let mut together = Findings::default();
        let after = self.with_layer(scope, layer, &mut together);
        if !together.errors.is_empty() {
            return Err(DynamicError::Invalid(together.errors));
        }
        if let Some(after) = after {
            self.check_threads(&after)?;
        }
        Ok(findings.warnings)
    }

    fn check_threads(&self, after: &Self) -> Result<(), DynamicError> {
        for key in THREADS {
            let (current, value) = (self.settings.long(key), after.settings.long(key));
            if value < current / 2 {
                return Err(DynamicError::TooFewThreads { key, value, current });
            }
            if value > current.saturating_mul(2) {
                return Err(DynamicError::TooManyThreads { key, value, current });
            }
        }
        let threads = |config: &Self| config.settings.long("log.cleaner.threads");
        let (current, value) = (threads(self), threads(after));
        match value {
            // Kafka judges only what is changed.
            _ if value == current => Ok(()),
            ..1 => Err(DynamicError::NoCleanerThread),
            _ if value < current / 2 => Err(DynamicError::TooFewCleanerThreads { current }),
            _ if value > current.saturating_mul(2) => Err(DynamicError::TooManyCleanerThreads { current }),
            _ => Ok(()),
        }
    }
}
