//! A whole broker in this process, used over TCP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alter_log_dirs;
mod authorizer;
mod compacted_offsets;
mod config_effects;
mod configs;
mod connections;
mod delete_records;
mod describing_partitions;
mod disk;
mod every_version;
mod fetch;
mod gated_disk;
mod group_admin;
mod groups;
mod growing_topics;
mod hostile;
mod kafka_directory;
mod log_dirs;
mod many_topics;
mod metadata;
mod metrics;
mod node_keys;
mod parked;
mod produce;
mod restart;
mod stray;
mod support;
mod versions;
