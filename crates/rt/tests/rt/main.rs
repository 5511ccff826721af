//! The seam, checked against its own contract.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod locks;
mod memory_world;
mod power_loss;

use std::path::Path;

use ottla_rt::World;
use ottla_rt::memory::MemoryWorld;

#[tokio::test]
async fn the_operating_systems_disk_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conformance::check(World::os().disk.as_ref(), directory.path()).await;
}

#[tokio::test]
async fn the_memory_disk_conforms() {
    let world = MemoryWorld::new(1).world();
    world.disk.create_dir_all(Path::new("/root/of/the test")).unwrap();
    conformance::check(world.disk.as_ref(), Path::new("/root/of/the test")).await;
}
