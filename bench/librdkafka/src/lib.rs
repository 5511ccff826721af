//! What the load generators share.

pub mod arguments;
pub mod end_to_end;
pub mod latencies;
pub mod pace;
pub mod payload;
pub mod produce;
