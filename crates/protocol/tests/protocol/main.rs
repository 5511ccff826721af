//! The generated messages as a whole: what holds for every one of them, in every version.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![allow(clippy::needless_pass_by_value, reason = "an expected value reads best in place")]

mod amplification;
mod encoding;
mod hostile;
mod round_trip;
mod support;
