//! The client against a broker that is scripted, or hostile. Everything is in memory and time is paused: what would wait
//! for ever shows as a timeout at once.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod consumer;
mod fake;
mod group;
mod hostile;
mod old_brokers;
mod produce_consume;
mod producer;
mod producer_bounds;
mod recovery;
mod security;
