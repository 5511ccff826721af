//! Scenarios of the controller's decisions.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod altering_configs;
mod creating_partitions;
mod creating_topics;
mod deleting_topics;
mod placing_replicas;
mod producer_ids;
mod registering_brokers;
mod support;
