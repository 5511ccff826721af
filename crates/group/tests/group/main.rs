//! The group coordinator from outside: scenarios (events in, outputs compared whole) and a property test.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod committed_offsets;
mod deletion;
mod eager_rebalance;
mod expiry_property;
mod harness;
mod load_and_failure;
mod offset_expiry;
mod property;
mod static_members;
mod transactional_offsets;
