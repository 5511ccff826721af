//! Time.

use std::time::Duration;

/// The two clocks of a node.
pub trait Clock: Send + Sync {
    /// Time since an arbitrary origin; never goes back. Deadlines and timeouts use this one only.
    fn monotonic(&self) -> Duration;

    /// Milliseconds since the Unix epoch, as records are stamped; may jump either way.
    fn wall_ms(&self) -> i64;
}
