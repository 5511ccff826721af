//! How fast connections come, measured as Kafka measures it: in windows of a second, over the last eleven of them.
//!
//! Ten windows count as past from the start, so the first moments may bring ten seconds' worth of connections at once:
//! the limit is one of the average, not of the burst. Time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

/// Kafka's `quota.window.size.seconds` and `quota.window.num`.
const WINDOW: Duration = Duration::from_secs(1);
const WINDOWS: u32 = 11;

/// Connections of the last windows.
#[derive(Debug, Default)]
pub(crate) struct ConnectionRate {
    /// When each window began, and what came in it; the newest last.
    windows: VecDeque<(Duration, u64)>,
}

impl ConnectionRate {
    /// Counts a connection, and tells how long the next one has to wait for the rate to come back to `limit` in a
    /// second; never more than a window. `u32::MAX` is no limit. With 0 every connection is one too many and waits a
    /// window, as in Kafka: one gets through each second.
    pub(crate) fn record(&mut self, now: Duration, limit: u32) -> Duration {
        match self.windows.back_mut() {
            Some((begun, count)) if now.saturating_sub(*begun) < WINDOW => *count += 1,
            _ => self.windows.push_back((now, 1)),
        }
        let horizon = WINDOW * WINDOWS;
        while self.windows.front().is_some_and(|(begun, _)| now.saturating_sub(*begun) >= horizon) {
            self.windows.pop_front();
        }
        if limit == u32::MAX {
            return Duration::ZERO;
        }
        let (measured_over, count) =
            (self.measured_over(now), self.windows.iter().map(|(_, count)| count).sum::<u64>());
        let rate = count as f64 / measured_over.as_secs_f64();
        let excess = rate - f64::from(limit);
        if excess <= 0.0 {
            return Duration::ZERO;
        }
        // Without a connection for this long the average is back at the limit.
        let back_at_limit = measured_over.as_secs_f64() * excess / f64::from(limit);
        Duration::from_secs_f64(back_at_limit.min(WINDOW.as_secs_f64()))
    }

    /// From the first window that counts to now; at least ten windows.
    fn measured_over(&self, now: Duration) -> Duration {
        let elapsed = self.windows.front().map_or(Duration::ZERO, |(begun, _)| now.saturating_sub(*begun));
        let whole = (elapsed.as_nanos() / WINDOW.as_nanos()) as u32;
        elapsed + WINDOW * (WINDOWS - 1).saturating_sub(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_secs(1000) + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_of_ten_seconds_worth_passes_and_the_next_one_waits() {
        let mut rate = ConnectionRate::default();
        for _ in 0..50 {
            assert_eq!(rate.record(at(0), 5), Duration::ZERO);
        }
        assert_eq!(rate.record(at(0), 5), Duration::from_millis(200), "one fifth of a second for one too many");
        assert_eq!(rate.record(at(0), 5), Duration::from_millis(400));
        for _ in 0..100 {
            rate.record(at(0), 5);
        }
        assert_eq!(rate.record(at(0), 5), WINDOW, "never longer than a window");
    }

    #[test]
    fn a_steady_rate_at_the_limit_never_waits_and_a_higher_one_always_does() {
        let mut steady = ConnectionRate::default();
        for second in 0..60 {
            for tenth in 0..10 {
                assert_eq!(steady.record(at(second * 1000 + tenth * 100), 11), Duration::ZERO);
            }
        }
        let mut hasty = ConnectionRate::default();
        let mut waits = |tenth: u64| hasty.record(at(tenth * 100), 5) > Duration::ZERO;
        assert!((0..300).map(&mut waits).skip(150).all(|waits| waits));
    }

    #[test]
    fn without_a_rate_each_connection_waits_as_long_as_one_may() {
        let mut rate = ConnectionRate::default();
        assert!((0..30).all(|second| rate.record(at(second * 1000), 0) == WINDOW));
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let mut rate = ConnectionRate::default();
        for _ in 0..1000 {
            rate.record(at(0), 5);
        }
        assert!(rate.record(at(10_900), 5) > Duration::ZERO);
        assert_eq!(rate.record(at(22_000), 5), Duration::ZERO);
        assert!(rate.windows.len() <= WINDOWS as usize + 1);
        assert_eq!(ConnectionRate::default().record(at(0), u32::MAX), Duration::ZERO);
    }
}
