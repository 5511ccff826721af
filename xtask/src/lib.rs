//! The parts of the development tasks that tests use too.

pub mod protocol;
