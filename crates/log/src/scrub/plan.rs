//! What is verified next, and how fast: decisions without work.

use std::time::Duration;

/// A closed segment that may be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) bytes: u64,
    /// When it was verified or written; `None` when that is not known.
    pub(super) verified_ms: Option<i64>,
    /// Where it comes among those that are equally due.
    pub(super) order: u64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Verify(usize),
    /// None is due before that.
    WaitUntilMs(i64),
    /// There is no closed segment.
    Nothing,
}

/// How many bytes are due, and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) pending_bytes: u64,
    pub(super) total_bytes: u64,
}

/// Chooses the segment that has waited longest, of those that have waited for the interval.
pub(super) fn choose(candidates: &[Candidate], now_ms: i64, interval_ms: i64) -> (Choice, Due) {
    let due_ms = |candidate: &Candidate| match candidate.verified_ms {
        // A clock that was set back makes nothing wait for longer than the interval.
        Some(verified_ms) => verified_ms.min(now_ms).saturating_add(interval_ms),
        None => i64::MIN,
    };
    let mut due = Due::default();
    for candidate in candidates {
        due.total_bytes += candidate.bytes;
        if due_ms(candidate) <= now_ms {
            due.pending_bytes += candidate.bytes;
        }
    }
    let first = candidates.iter().enumerate().min_by_key(|(_, candidate)| (due_ms(candidate), candidate.order));
    let choice = match first {
        None => Choice::Nothing,
        Some((index, candidate)) if due_ms(candidate) <= now_ms => Choice::Verify(index),
        Some((_, candidate)) => Choice::WaitUntilMs(due_ms(candidate)),
    };
    (choice, due)
}

/// The place of a segment among those nobody knows anything of: another one after each start, so that a node that is
/// started often comes round to all of them.
pub(super) fn order(seed: u64, name: &str, base_offset: i64) -> u64 {
    let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
    for byte in name.bytes().chain(base_offset.to_be_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The last bytes change the low bits only.
    hash ^ hash.rotate_left(29).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Bytes that may be read now. A batch is read whole, so it may be overdrawn, and is paid back first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Allowance {
    bytes: i64,
}

impl Allowance {
    /// Time has passed. What was not used within a second is lost.
    pub(super) fn refill(&mut self, bytes_per_second: u64, elapsed: Duration) {
        let rate = i64::try_from(bytes_per_second).unwrap_or(i64::MAX);
        let more = u128::from(bytes_per_second).saturating_mul(elapsed.as_micros()) / 1_000_000;
        self.bytes = self.bytes.saturating_add(i64::try_from(more).unwrap_or(i64::MAX)).min(rate);
    }

    pub(super) fn is_left(self) -> bool {
        self.bytes > 0
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(verified_ms: Option<i64>, order: u64) -> Candidate {
        Candidate { bytes: 10, verified_ms, order }
    }

    #[test]
    fn choosing() {
        use Choice::{Nothing, Verify, WaitUntilMs};
        for (candidates, expected, pending) in [
            (&[][..], Nothing, 0),
            (&[candidate(None, 5)], Verify(0), 10),
            (&[candidate(None, 5), candidate(None, 3)], Verify(1), 20),
            (&[candidate(Some(0), 0), candidate(None, 3)], Verify(1), 20),
            (&[candidate(Some(900), 0), candidate(Some(850), 1)], Verify(1), 20),
            (&[candidate(Some(950), 0), candidate(Some(890), 1)], Verify(1), 10),
            (&[candidate(Some(950), 0), candidate(Some(930), 1)], WaitUntilMs(1_030), 0),
            // The clock was set back.
            (&[candidate(Some(9_000), 0)], WaitUntilMs(1_100), 0),
        ] {
            let (choice, due) = choose(candidates, 1_000, 100);
            assert_eq!(choice, expected, "{candidates:?}");
            assert_eq!(
                due,
                Due { pending_bytes: pending, total_bytes: 10 * candidates.len() as u64 },
                "{candidates:?}"
            );
        }
    }

    #[test]
    fn an_interval_of_zero_never_rests() {
        assert_eq!(choose(&[candidate(Some(1_000), 0)], 1_000, 0).0, Choice::Verify(0));
    }

    #[test]
    fn each_start_has_another_order() {
        let orders = |seed| (0..100).map(|base| order(seed, "orders-0", base)).collect::<Vec<_>>();
        let first_of = |seed| {
            let orders = orders(seed);
            orders.iter().position(|order| Some(order) == orders.iter().min()).unwrap()
        };
        assert_eq!(orders(1), orders(1));
        let firsts: std::collections::BTreeSet<usize> = (0..50).map(first_of).collect();
        assert!(firsts.len() > 25, "{firsts:?}");
    }

    #[test]
    fn the_rate_is_kept() {
        let mut allowance = Allowance::default();
        allowance.refill(1_000, Duration::from_millis(500));
        assert_eq!(allowance, Allowance { bytes: 500 });
        allowance.spend(800);
        assert!(!allowance.is_left());
        allowance.refill(1_000, Duration::from_millis(200));
        assert!(!allowance.is_left(), "overdrawn bytes are paid back first");
        allowance.refill(1_000, Duration::from_secs(3_600));
        assert_eq!(allowance, Allowance { bytes: 1_000 }, "a second's worth is kept");
        allowance.refill(u64::MAX, Duration::MAX);
        assert!(allowance.is_left());
    }
}
