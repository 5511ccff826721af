//! Record batches from the outside: against bytes of real Kafka, against random input, against every damaged byte.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails it as the test itself would")]

mod damage;
mod framing;
mod golden;
mod random;
mod sample;
mod validation;
