//! Work that blocks.

use crate::BoxFuture;

/// Where blocking work goes: a thread of a pool, or, in a simulation, right here.
///
/// Tasks that do not block are spawned with `tokio::spawn`, which every world provides.
pub trait Spawn: Send + Sync {
    /// Runs `work` off the caller's task; the future ends when it has. A panic in `work` ends up in the future.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}
