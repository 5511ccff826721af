//! How long a request is tried again, and how long it waits in between: exponentially longer, each time a little
//! different (KIP-580), so that many clients of a broker that comes back do not come all at once.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::ClientError;

/// How far a pause may be from its mean.
const JITTER: f64 = 0.2;

/// How long pauses are: `retry.backoff.ms` and `retry.backoff.max.ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The pause after so many failures before the last one.
    fn after(self, failures: u32, random: u64) -> Duration {
        let mean = self.first.as_secs_f64() * f64::from(failures.min(32)).exp2();
        let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let pause = mean.min(self.longest.as_secs_f64()) * (1.0 - JITTER + 2.0 * JITTER * fraction);
        Duration::from_secs_f64(pause).min(self.longest)
    }
}

/// The attempts at one thing, until a deadline.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    deadline: Instant,
    backoff: Backoff,
    failures: u32,
    random: u64,
}

impl Retry {
    /// `random` is where the pauses' random numbers begin.
    pub(crate) fn within(timeout: Duration, backoff: Backoff, random: u64) -> Retry {
        Retry { deadline: Instant::now() + timeout, backoff, failures: 0, random }
    }

    /// Waits before the next attempt, or gives the error back: it is final, or there is no time left.
    pub(crate) async fn pause(&mut self, error: ClientError) -> Result<(), ClientError> {
        if error.retriable() { self.pause_anyway(error).await } else { Err(error) }
    }

    /// The same for an error that would be final had the caller not changed something.
    pub(crate) async fn pause_anyway(&mut self, error: ClientError) -> Result<(), ClientError> {
        let backoff = self.backoff.after(self.failures, self.random);
        if Instant::now() + backoff >= self.deadline {
            return Err(error);
        }
        tracing::debug!(%error, ?backoff, "trying again");
        tokio::time::sleep(backoff).await;
        self.failures += 1;
        self.random = next_random(self.random);
        Ok(())
    }
}

/// The number after `random`: splitmix64.
fn next_random(random: u64) -> u64 {
    let state = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(1) };

    #[test]
    fn pauses_double_up_to_the_longest_and_differ_by_a_fifth() {
        let middle = u64::MAX / 2;
        for (failures, least, mean, most) in [
            (0, 80, 100, 120),
            (1, 160, 200, 240),
            (2, 320, 400, 480),
            (3, 640, 800, 960),
            (4, 800, 1000, 1000),
            (1000, 800, 1000, 1000),
        ] {
            let pauses = [0, middle, u64::MAX].map(|random| BACKOFF.after(failures, random).as_micros());
            let expected = [least, mean, most].map(|ms: u128| ms * 1000);
            for (pause, expected) in pauses.into_iter().zip(expected) {
                assert!(pause.abs_diff(expected) <= 1, "{failures}: {pauses:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_ends_with_its_time_or_an_error_that_is_final() {
        let passing = || ClientError::NoLeader { topic: "t".to_owned(), partition: 0 };
        let began = Instant::now();
        let mut retry = Retry::within(Duration::from_secs(5), BACKOFF, 7);
        let mut pauses = 0;
        while retry.pause(passing()).await.is_ok() {
            pauses += 1;
        }
        assert!((5..=12).contains(&pauses), "{pauses}");
        assert!(began.elapsed() < Duration::from_secs(5) && began.elapsed() > Duration::from_secs(3));

        let mut retry = Retry::within(Duration::from_secs(5), BACKOFF, 7);
        assert!(retry.pause(ClientError::ProducerClosed).await.is_err());
        assert!(retry.pause_anyway(ClientError::ProducerClosed).await.is_ok());
    }
}
