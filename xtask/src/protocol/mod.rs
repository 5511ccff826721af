//! Kafka's message schemas, and the Rust generated from them.

pub mod files;
pub mod generate;
pub mod jars;
pub mod sample;
pub mod schema;
pub mod snapshot;
pub mod versions;
