//! How long a request is tried again.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::ClientError;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// The attempts at one thing, until a deadline.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    deadline: Instant,
    backoff: Duration,
}

impl Retry {
    pub(crate) fn within(timeout: Duration) -> Retry {
        Retry { deadline: Instant::now() + timeout, backoff: FIRST_BACKOFF }
    }

    /// Waits before the next attempt, or gives the error back: it is final, or there is no time left.
    pub(crate) async fn pause(&mut self, error: ClientError) -> Result<(), ClientError> {
        if error.retriable() { self.pause_anyway(error).await } else { Err(error) }
    }

    /// The same for an error that would be final had the caller not changed something.
    pub(crate) async fn pause_anyway(&mut self, error: ClientError) -> Result<(), ClientError> {
        if Instant::now() + self.backoff >= self.deadline {
            return Err(error);
        }
        tracing::debug!(%error, backoff = ?self.backoff, "trying again");
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        Ok(())
    }
}
