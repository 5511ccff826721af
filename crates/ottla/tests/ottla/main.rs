//! The built binary, as its users run it; and the shape of the workspace.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod api_versions;
mod architecture;
mod binary;
mod configs;
mod group_offsets;
mod groups;
mod log_files;
mod mistakes;
mod perf;
mod records;
mod stops;
mod topic_changes;
mod topics;
