//! Configuration: one declared table of keys, and everything that is derived from it.
//!
//! Layer 0: no files, sockets or clocks. The caller reads the file and hands its text over.

mod log_config;
mod values;

pub use log_config::LogConfig;
pub use values::{CleanupPolicy, CompressionType, Durability, ProduceValidation, TimestampType};
