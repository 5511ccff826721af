//! Which responses are on their way to the socket, so that their requests can be counted when they are sent, and what
//! they hold of a pool be given back.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::budget::{FrameBytes, Reserved};
use crate::metrics::Timing;

/// Responses in the order they are written, each by where it ends in everything the connection writes.
#[derive(Default)]
pub(super) struct Unsent {
    ends: VecDeque<(u64, Timing)>,
    /// Those of them that hold bytes, or are large.
    held: VecDeque<Held>,
    queued: u64,
    written: u64,
}

struct Held {
    end: u64,
    _answer: Option<Reserved>,
    _frame: FrameBytes,
}

impl Unsent {
    /// A response of this many bytes goes to the end of the queue.
    pub(super) fn push(&mut self, mut timing: Timing, bytes: usize, now: Instant) {
        timing.queued(now, bytes);
        self.queued += bytes as u64;
        self.ends.push_back((self.queued, timing));
    }

    /// The last one must not stand still, and has these bytes until it is sent.
    pub(super) fn hold(&mut self, answer: Option<Reserved>, frame: FrameBytes) {
        self.held.push_back(Held { end: self.queued, _answer: answer, _frame: frame });
    }

    /// Whether some response must not stand still.
    pub(super) fn is_held(&self) -> bool {
        !self.held.is_empty()
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
        while self.held.front().is_some_and(|held| held.end <= self.written) {
            self.held.pop_front();
        }
    }

    /// Nothing more is written; `given_up` is told of each response that was on its way.
    pub(super) fn give_up(&mut self, now: Instant, mut given_up: impl FnMut(&Timing)) {
        for (_, mut timing) in self.ends.drain(..) {
            timing.sent(now);
            given_up(&timing);
        }
        self.held.clear();
    }
}
