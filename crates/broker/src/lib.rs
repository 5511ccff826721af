//! The broker: listeners, one file per API, replica manager, coordinators.
//!
//! [`Server::start`] is the one entry point, for the binary, for tests and for simulations: everything it touches
//! outside itself comes in the [`ottla_rt::World`] it is given. It holds no process globals, so several brokers live in
//! one process; a fatal event stops one node, not the process.

mod alter_configs;
mod api;
mod authorizer;
mod broker;
mod budget;
mod compat_table;
mod config_changes;
mod connection;
mod connection_quota;
mod connection_rate;
mod context;
mod coordinator;
mod current_config;
mod dispatch;
mod fatal;
mod features;
mod fetch_session;
mod housekeeping;
mod listener;
mod loggers;
mod metadata_publisher;
mod metrics;
mod operations;
mod partition;
mod producer_ids;
mod replica_manager;
mod server;
mod topics;
mod validation;

pub use authorizer::{Authorizer, CLUSTER, Client, Operation, Resource};
pub use compat_table::api_table;
pub use fatal::Fatal;
pub use features::supported_features;
pub use loggers::{LogLevel, Loggers, ROOT_LOGGER};
pub use metrics::{ApiSnapshot, HistogramSnapshot, ListenerSnapshot, MetricsSnapshot, TopicSnapshot};
pub use server::{ListenerAddress, Server, ServerSettings, StartError, StopError};
