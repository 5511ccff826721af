//! The operating system's world.

mod disk;
mod net;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) use disk::OsDisk;
pub(crate) use net::OsNet;

use crate::{BoxFuture, Clock, Entropy, Spawn};

pub(crate) struct OsClock {
    origin: Instant,
}

impl OsClock {
    pub(crate) fn new() -> OsClock {
        OsClock { origin: Instant::now() }
    }
}

impl Clock for OsClock {
    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        }
    }
}

pub(crate) struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("invariant: the operating system gives random bytes");
    }
}

pub(crate) struct OsSpawn;

impl Spawn for OsSpawn {
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let handle = tokio::task::spawn_blocking(work);
        Box::pin(async move {
            if let Err(error) = handle.await
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        })
    }
}
