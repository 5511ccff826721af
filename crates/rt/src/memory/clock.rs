//! Clocks that do not follow the machine's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::Clock;

/// 2026-01-01T00:00:00Z: where the wall clocks of this world start.
const START_WALL_MS: i64 = 1_767_225_600_000;

/// Stands still until it is moved.
pub struct ManualClock {
    now: Mutex<(Duration, i64)>,
}

impl ManualClock {
    pub fn new() -> ManualClock {
        ManualClock { now: Mutex::new((Duration::ZERO, START_WALL_MS)) }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        self.change(|now| {
            now.0 += by;
            now.1 += by.as_millis() as i64;
        });
    }

    /// Somebody sets the wall clock.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        self.change(|now| now.1 = wall_ms);
    }

    fn change<T>(&self, change: impl FnOnce(&mut (Duration, i64)) -> T) -> T {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        ManualClock::new()
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        self.change(|now| now.0)
    }

    fn wall_ms(&self) -> i64 {
        self.change(|now| now.1)
    }
}

/// Follows the timers of the tokio runtime it is asked in, paused or simulated as they may be.
pub struct TimerClock {
    origin: Instant,
    start_wall_ms: i64,
}

impl TimerClock {
    /// Starts now, in the runtime that runs the caller.
    pub fn new() -> TimerClock {
        TimerClock::at(START_WALL_MS)
    }

    /// The same with a wall clock that shows this.
    pub fn at(start_wall_ms: i64) -> TimerClock {
        TimerClock { origin: Instant::now(), start_wall_ms }
    }
}

impl Default for TimerClock {
    fn default() -> Self {
        TimerClock::new()
    }
}

impl Clock for TimerClock {
    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn wall_ms(&self) -> i64 {
        self.start_wall_ms + self.origin.elapsed().as_millis() as i64
    }
}
