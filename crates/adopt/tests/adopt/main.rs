//! Taking over directories of Kafka's, written here record by record.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crashes;
mod damage;
mod generator;
mod give_back;
mod property;
mod refusals;
mod takeover;
