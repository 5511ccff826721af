//! When records are due: an open loop, which does not slow down with the broker.

use std::time::Duration;

/// How fast records are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as memory for unacknowledged records allows.
    Max,
    /// So many a second, by all producers together.
    PerSecond(f64),
}

pub fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    let rate = text.parse::<f64>().ok().filter(|rate| (0.001..=1e9).contains(rate));
    rate.map(Rate::PerSecond).ok_or_else(|| format!("'{text}' is neither max nor records per second, such as 1000"))
}

/// The records of one of several producers with a fixed rate: every so many nanoseconds one is due, whatever became of
/// those before it. Latencies are counted from these times, so a stall is seen by every record that it delays.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    interval_ns: f64,
    /// When the first one is due, after the start.
    offset_ns: f64,
}

impl Schedule {
    /// The share of producer `index` of `producers`; they take turns.
    pub fn new(rate: f64, index: usize, producers: usize) -> Schedule {
        let between = 1e9 / rate;
        Schedule { interval_ns: between * producers as f64, offset_ns: between * index as f64 }
    }

    /// When a record is due, after the start.
    pub fn due(&self, record: u64) -> Duration {
        Duration::from_nanos((self.offset_ns + self.interval_ns * record as f64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    #[test]
    fn rates() {
        for (text, rate) in [
            ("max", Some(Rate::Max)),
            ("1000", Some(Rate::PerSecond(1000.0))),
            ("0.5", Some(Rate::PerSecond(0.5))),
            ("0", None),
            ("-1", None),
            ("inf", None),
            ("NaN", None),
            ("fast", None),
        ] {
            assert_eq!(parse_rate(text).ok(), rate, "{text}");
        }
    }

    #[test]
    fn producers_take_turns() {
        let due = |index, record| Schedule::new(1000.0, index, 2).due(record).as_micros();
        assert_eq!([due(0, 0), due(1, 0), due(0, 1), due(1, 1), due(0, 500)], [0, 1000, 2000, 3000, 1_000_000]);
    }

    /// A broker that answers one record at a time in 100 µs and stalls once for a second, at 1000 records a second.
    #[test]
    fn a_stall_is_seen_by_every_record_it_delays() {
        let schedule = Schedule::new(1000.0, 0, 1);
        let service = Duration::from_micros(100);
        let stall = Duration::from_secs(3)..Duration::from_secs(4);
        let (mut corrected, mut naive) = (Histogram::<u64>::new(3).unwrap(), Histogram::<u64>::new(3).unwrap());
        let mut now = Duration::ZERO;
        for record in 0..10_000 {
            let due = schedule.due(record);
            let sent = now.max(due);
            now = sent + service;
            if stall.contains(&sent) {
                now = stall.end + service;
            }
            corrected.record(now.saturating_sub(due).as_micros() as u64).unwrap();
            naive.record(now.saturating_sub(sent).as_micros() as u64).unwrap();
        }
        assert_eq!(naive.count_between(1000, u64::MAX), 1, "who waits for answers sees one slow record");
        // A second's worth was late by up to a second, and the backlog is worked off at nine times the rate.
        let late = corrected.count_between(1000, u64::MAX);
        assert!((1090..=1115).contains(&late), "{late}");
        assert_eq!(corrected.max(), naive.max());
        let p95 = corrected.value_at_quantile(0.95);
        assert!((500_000..=600_000).contains(&p95), "{p95}");
        assert_eq!(naive.value_at_quantile(0.999), 100);
    }
}
