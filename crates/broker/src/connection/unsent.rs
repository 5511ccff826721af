//! Which responses are on their way to the socket, so that their requests can be counted when they are sent.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::metrics::Timing;

/// Responses in the order they are written, each by where it ends in everything the connection writes.
#[derive(Default)]
pub(super) struct Unsent {
    ends: VecDeque<(u64, Timing)>,
    queued: u64,
    written: u64,
}

impl Unsent {
    /// A response of this many bytes goes to the end of the queue.
    pub(super) fn push(&mut self, mut timing: Timing, bytes: usize, now: Instant) {
        timing.queued(now, bytes);
        self.queued += bytes as u64;
        self.ends.push_back((self.queued, timing));
    }

    /// The socket has taken this many bytes; `sent` is told of each response that is complete with them.
    pub(super) fn written(&mut self, bytes: usize, now: Instant, mut sent: impl FnMut(&Timing)) {
        self.written += bytes as u64;
        while let Some((end, timing)) = self.ends.front_mut()
            && *end <= self.written
        {
            timing.sent(now);
            sent(timing);
            self.ends.pop_front();
        }
    }
}
