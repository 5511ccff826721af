//! Configuration: one declared table of keys, and everything that is derived from it.
//!
//! [`ServerConfig::load`] reads Kafka's `server.properties`, [`LogConfig::resolve`] a topic's settings over it, the
//! `describe_*` functions answer DescribeConfigs, [`documentation`] writes `docs/config.md`. What a Kafka key is (type,
//! default, accepted values) is generated from Kafka's jars; which keys are obeyed, and what happens instead for the
//! others, is declared by hand.
//!
//! Layer 0: no files, sockets or clocks. The caller reads the file and hands its text over. Settings made
//! while a node runs are checked and laid over the others here, and kept in the metadata.

mod client_metrics;
mod describe;
mod documentation;
mod dynamic;
mod error;
mod facts;
mod group_config;
mod honoured;
#[expect(clippy::unreadable_literal, reason = "generated")]
mod kafka_keys;
mod listeners;
mod log_config;
mod not_honoured;
pub mod properties;
mod quorum;
mod server_config;
mod settings;
mod table;
mod value;
mod values;

pub use client_metrics::{ClientMetricsError, check_client_metrics};
pub use describe::{
    ConfigEntry, ConfigSource, ConfigSynonym, broker_list_default, describe_client_metrics, honoured_broker_keys,
    honoured_topic_keys, is_topic_key, topic_list_default,
};
pub use documentation::documentation;
pub use dynamic::{DynamicError, Scope};
pub use error::{ConfigError, ConfigWarning, ListenerError, Problem, QuorumError};
pub use facts::Type;
pub use group_config::GroupConfigError;
pub use listeners::{AdvertisedListener, BindAddress, Listener};
pub use log_config::LogConfig;
pub use ottla_types::TimestampType;
pub use server_config::{
    ClassicGroups, Fetch, ListenerNetwork, Loaded, LogCleaner, LogMaintenance, LogMoves, Memory, Network, Offsets,
    ServerConfig, TopicCreation,
};
pub use table::nearest_of;
pub use values::{CleanupPolicy, CompressionType, Durability, ProduceValidation};
