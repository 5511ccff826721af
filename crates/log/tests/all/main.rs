//! Scenario tests of the log, one file per subject.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod append_read;
mod compaction;
mod directories;
mod doubts;
mod faults;
mod flushing;
mod hot_tail;
mod indexes;
mod kafka_written;
mod model;
mod producers;
mod retention;
mod support;
mod torn_tail;
mod transaction_model;
mod transactions;
