//! Work that blocks, with a result.

use std::sync::Arc;

use ottla_rt::World;
use parking_lot::Mutex;

/// Runs the work where the world has blocking work done. A panic in it goes on in the caller.
pub(crate) async fn blocking<T: Send + 'static>(world: &World, work: impl FnOnce() -> T + Send + 'static) -> T {
    let outcome = Arc::new(Mutex::new(None));
    let filled = Arc::clone(&outcome);
    world.spawn.blocking(Box::new(move || *filled.lock() = Some(work()))).await;
    let outcome = outcome.lock().take();
    outcome.expect("invariant: work that ended has an outcome")
}
