//! What a replica knows of its partition, as pure state.
//!
//! Owns the offsets that decide when a record counts as committed. It deliberately reads no log, sends nothing and
//! knows no clock: the replica manager tells it what was appended and flushed, and publishes what it answers.

mod leader;

pub use leader::{Leader, Required};
