//! One pass over the tables for each family of anomalies.

pub(crate) mod consumed;
pub(crate) mod lag;
pub(crate) mod order;
pub(crate) mod presence;
pub(crate) mod unseen;
