//! One file per thing that can happen to a group; what they share is in [`rebalance`].

mod commit;
mod delete_group;
mod delete_offsets;
mod describe;
mod fetch_offsets;
mod heartbeat;
mod join;
mod leave;
mod list;
mod load;
mod offset_expiry;
mod rebalance;
mod replay;
mod static_member;
mod stored;
mod sync;
mod timer;

pub(crate) use rebalance::Step;
