//! When records are due: in bursts, one each tick, whatever became of those before.

use std::time::{Duration, Instant};

/// One tick; at a thousand records a second each is a burst of its own.
const TICK: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub struct Pace {
    begun: Instant,
    per_tick: f64,
    tick: u32,
}

impl Pace {
    /// `rate` records a second; sleeps of this thread end as exactly as the kernel can.
    pub fn new(rate: u64) -> Self {
        exact_sleeps();
        Self { begun: Instant::now(), per_tick: rate as f64 * TICK.as_secs_f64(), tick: 0 }
    }

    /// Waits for the next tick; its moment, and how many records were due until then, since the beginning.
    pub fn next_burst(&mut self) -> (Instant, u64) {
        self.tick += 1;
        let due = self.begun + TICK * self.tick;
        let now = Instant::now();
        if now < due {
            std::thread::sleep(due - now);
        }
        (due, self.due_until(self.tick))
    }

    fn due_until(&self, tick: u32) -> u64 {
        (f64::from(tick) * self.per_tick).floor() as u64
    }
}

/// The kernel may end a sleep 50 microseconds late, to save wake-ups; that would be measured as the broker's.
#[allow(unsafe_code, reason = "the standard library has no way to say it")]
fn exact_sleeps() {
    // SAFETY: sets one number of the calling thread; no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn the_rate_is_kept_over_a_second() {
        for (rate, per_second) in [(1_000, 1_000), (1_500, 1_500), (250, 250), (333_333, 333_333)] {
            assert_eq!(Pace::new(rate).due_until(1_000), per_second, "{rate}");
        }
        assert_eq!(Pace::new(1_500).due_until(1), 1);
        assert_eq!(Pace::new(250).due_until(3), 0);
    }
}
