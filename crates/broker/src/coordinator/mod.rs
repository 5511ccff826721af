//! Coordinators: replicated state machines over the partitions of internal topics.
//!
//! [`driver`] is generic: it appends what a machine decides, replays it, and answers once it is committed. [`groups`] is
//! the group coordinator on top of it, a driver for each partition of `__consumer_offsets` this node leads.

mod driver;
mod group_machine;
mod groups;
mod load;
mod machine;
mod partition_log;
mod pending;
mod state_log;
#[cfg(test)]
mod tests;

pub(crate) use driver::{Answer, Submitted, Unavailable};
pub(crate) use groups::GroupCoordinator;
pub(crate) use machine::{Now, Step, Token};
pub(crate) use pending::Shows;
