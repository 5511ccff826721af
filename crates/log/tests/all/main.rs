//! Scenario tests of the log, one file per subject.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod append_read;
mod bit_flips;
mod cold_reads;
mod compaction;
mod directories;
mod doubts;
mod faults;
mod flip_images;
mod flips;
mod flushing;
mod forgotten_epochs;
mod full_disk;
mod hot_tail;
mod indexes;
mod journal;
mod journal_moves;
mod kafka_written;
mod model;
mod moves;
mod offline_directories;
mod producers;
mod resident_reads;
mod retention;
mod scrubbing;
mod support;
mod torn_tail;
mod transaction_model;
mod transactions;
mod unsynced;
