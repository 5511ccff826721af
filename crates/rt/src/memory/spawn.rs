//! Blocking work without threads.

use crate::{BoxFuture, Spawn};

/// Runs blocking work where it is asked for, before anything else happens: the order of events stays the caller's.
pub struct InlineSpawn;

impl Spawn for InlineSpawn {
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }
}
