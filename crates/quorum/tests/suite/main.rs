//! Scenarios of the metadata quorum, on a disk in memory that loses power.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crashes;
mod damage;
mod deciding;
mod importing;
mod opening;
mod snapshots;
mod support;
