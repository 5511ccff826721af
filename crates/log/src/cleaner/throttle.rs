//! A rate for all who ask together: what is cleaned (`log.cleaner.io.max.bytes.per.second`), or moved
//! (`replica.alter.log.dirs.io.max.bytes.per.second`).

use std::time::Duration;

/// Pure: time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    bytes_per_second: f64,
    /// Until then what was moved so far is paid for.
    paid_until: Duration,
}

/// Waiting longer for one step would only hide a stop.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl Throttle {
    /// So many bytes were moved: how long to wait before more are.
    pub(crate) fn wait_for(&mut self, now: Duration, bytes: u64, bytes_per_second: f64) -> Duration {
        // A rate of nothing is the slowest there is, as in Kafka not a stop.
        if bytes_per_second.to_bits() != self.bytes_per_second.to_bits() {
            // What was moved at another rate is not paid for at that one any more.
            (self.bytes_per_second, self.paid_until) = (bytes_per_second, now);
        }
        let seconds = bytes as f64 / bytes_per_second.max(f64::MIN_POSITIVE);
        let cost = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        self.paid_until = self.paid_until.max(now).saturating_add(cost);
        self.paid_until.saturating_sub(now).min(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_over_all_who_ask() {
        let mut throttle = Throttle::default();
        let millis = Duration::from_millis;
        for (now, bytes, rate, wait) in [
            (10, 100, 1_000.0, 100),
            // Another one, at the same time: behind the first.
            (10, 100, 1_000.0, 200),
            (110, 50, 1_000.0, 150),
            // Time that passed unused is not saved up.
            (5_000, 100, 1_000.0, 100),
            (5_000, 100, 10_000.0, 10),
            (5_000, 1 << 40, f64::MAX, 0),
        ] {
            assert_eq!(throttle.wait_for(millis(now), bytes, rate), millis(wait), "{bytes} at {now}");
        }
    }

    #[test]
    fn no_rate_is_too_odd() {
        for rate in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE, f64::INFINITY] {
            let mut throttle = Throttle::default();
            for _ in 0..3 {
                assert!(throttle.wait_for(Duration::MAX, u64::MAX, rate) <= LONGEST_WAIT, "{rate}");
            }
        }
    }
}
