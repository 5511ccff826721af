//! Scenarios and properties of records and images.

mod applying;
mod deltas;
mod encoding;
mod generated;
