//! The seam between Ottla and the world.
//!
//! Everything below the binary reaches files, sockets, time, randomness and threads through [`World`], which is chosen
//! at run time: the operating system ([`World::os`]), memory ([`memory::MemoryWorld`]), or a simulation. No code asks which one it has, and no
//! cargo feature changes it. Timers are tokio's own (`tokio::time`): a simulation pauses them.
//!
//! It decides nothing about protocols or storage.

mod clock;
mod disk;
mod entropy;
pub mod memory;
mod net;
mod os;
mod spawn;

use std::sync::Arc;

pub use clock::Clock;
pub use disk::{DirEntry, Disk, DiskFile, DiskLock, OpenMode, Space};
pub use entropy::{Entropy, random_i32, random_u64};
pub use net::{ListenOptions, Listener, Net, ReadHalf, Stream, WriteHalf};
pub use spawn::Spawn;

/// A boxed future, as the object-safe traits of the seam return it.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// Everything a node touches outside itself. Cheap to clone.
#[derive(Clone)]
pub struct World {
    pub disk: Arc<dyn Disk>,
    pub net: Arc<dyn Net>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub spawn: Arc<dyn Spawn>,
}

impl World {
    /// The operating system's files, sockets, clocks and randomness.
    pub fn os() -> World {
        World {
            disk: Arc::new(os::OsDisk::new()),
            net: Arc::new(os::OsNet),
            clock: Arc::new(os::OsClock::new()),
            entropy: Arc::new(os::OsEntropy),
            spawn: Arc::new(os::OsSpawn),
        }
    }
}
