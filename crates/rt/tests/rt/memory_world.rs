//! Clocks, bytes and blocking work of the memory world.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_rt::memory::{MemoryWorld, SeededEntropy, TimerClock};
use ottla_rt::{Clock, Entropy, random_i32, random_u64};

#[test]
fn the_manual_clock_moves_when_told() {
    let memory = MemoryWorld::new(1);
    let clock = memory.world().clock;
    let (monotonic, wall) = (clock.monotonic(), clock.wall_ms());
    assert_eq!((clock.monotonic(), clock.wall_ms()), (monotonic, wall));
    memory.clock.advance(Duration::from_millis(1500));
    assert_eq!(clock.monotonic(), monotonic + Duration::from_millis(1500));
    assert_eq!(clock.wall_ms() - wall, 1500);
    memory.clock.set_wall_ms(5);
    assert_eq!(clock.wall_ms(), 5);
    assert_eq!(clock.monotonic(), monotonic + Duration::from_millis(1500), "the wall clock moves alone");
}

#[tokio::test(start_paused = true)]
async fn the_timer_clock_follows_the_runtime() {
    let clock = TimerClock::at(1000);
    tokio::time::advance(Duration::from_millis(250)).await;
    assert_eq!(clock.monotonic(), Duration::from_millis(250));
    assert_eq!(clock.wall_ms(), 1250);
}

#[test]
fn seeded_bytes_repeat() {
    let draw = |seed| {
        let entropy = SeededEntropy::new(seed);
        let mut odd = [0; 13];
        entropy.fill(&mut odd);
        (odd, random_u64(&entropy), random_i32(&entropy))
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    assert!(draw(7).2 >= 0);
}

#[tokio::test]
async fn blocking_work_runs_in_place() {
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    let world = MemoryWorld::new(1).world();
    let work = world.spawn.blocking(Box::new(move || flag.store(true, Ordering::Relaxed)));
    assert!(!done.load(Ordering::Relaxed), "nothing runs before it is awaited");
    work.await;
    assert!(done.load(Ordering::Relaxed));
}
