//! Scenario tests of the log, one file per subject.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod append_read;
mod support;
