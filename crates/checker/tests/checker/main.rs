#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cycles;
mod files;
mod model;
mod mutations;
mod order;
mod outcomes;
mod presence;
mod recording;
mod reports;
mod support;
