//! A world in memory, for tests and simulations: a disk that can lose power, clocks that stand still, seeded bytes.
//!
//! Nothing here asks the operating system for time, randomness or files, so a run is repeated by repeating its seed
//! and its calls.

mod clock;
mod content;
mod disk;
mod fault;
mod random;
mod spawn;
mod tree;

use std::sync::Arc;

pub use clock::{ManualClock, TimerClock};
pub use disk::{MemoryDisk, PowerLoss};
pub use fault::{Failure, Fault, Operation};
pub use random::SeededEntropy;
pub use spawn::InlineSpawn;
pub use tree::AtRisk;

use crate::{World, os};

/// A machine in memory; its worlds come and go as processes do.
#[derive(Clone)]
pub struct MemoryWorld {
    pub disk: MemoryDisk,
    pub clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
}

impl MemoryWorld {
    pub fn new(seed: u64) -> MemoryWorld {
        MemoryWorld {
            disk: MemoryDisk::new(seed),
            clock: Arc::new(ManualClock::new()),
            entropy: Arc::new(SeededEntropy::new(seed)),
        }
    }

    /// The world of a process that starts now. Its files are dead once the disk is killed or loses power; its sockets
    /// are the operating system's.
    pub fn world(&self) -> World {
        World {
            disk: self.disk.mount(),
            net: Arc::new(os::OsNet),
            clock: Arc::clone(&self.clock) as _,
            entropy: Arc::clone(&self.entropy) as _,
            spawn: Arc::new(InlineSpawn),
        }
    }
}
