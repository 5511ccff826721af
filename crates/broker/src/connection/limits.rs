//! How long a connection may be quiet, and how long it may hold what others wait for.

use std::future::Future;
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::reading::{Body, Reading};
use super::{Connection, Service};

/// The longest a large frame or response may stand still.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// The longest it may take from when it first holds bytes of a pool; clients wait 30 or 60 seconds for an answer.
pub(super) const WHOLE: Duration = Duration::from_secs(120);

impl<S: Service> Connection<S> {
    /// True once nothing has happened for too long, neither a byte nor an answer. The timer is moved when it fires, not at
    /// every request.
    pub(super) fn poll_idle(&mut self, context: &mut Context<'_>) -> bool {
        let (Some(limit), Some(timer)) = (self.limits.max_idle, &mut self.idle) else { return false };
        while timer.as_mut().poll(context).is_ready() {
            if !self.in_flight.is_empty() {
                self.last_active = Instant::now();
            }
            let active = self.last_active.max(self.last_read).max(self.last_written);
            if active.elapsed() >= limit {
                return true;
            }
            timer.as_mut().reset(active + limit);
        }
        false
    }

    /// True when a frame or a response that holds bytes of a pool, or a large response, has not moved for too long: others
    /// wait for those bytes.
    pub(super) fn poll_stall(&mut self, context: &mut Context<'_>) -> bool {
        let Some(since) = self.still_since() else {
            self.stall = None;
            return false;
        };
        let due = since + STALL;
        let timer = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        while timer.as_mut().poll(context).is_ready() {
            if since.elapsed() >= STALL {
                return true;
            }
            timer.as_mut().reset(due);
        }
        false
    }

    /// Since when what this connection holds of a pool has stood still, at the earliest. What only dribbles counts as
    /// still in the end.
    fn still_since(&self) -> Option<Instant> {
        let body = match &self.reading {
            Reading::Body(body) => self.body_still_since(body),
            Reading::Head => None,
        };
        let output =
            self.unsent.is_held().then(|| self.last_written.max(self.held_since).min(self.held_since + WHOLE - STALL));
        body.into_iter().chain(output).min()
    }

    fn body_still_since(&self, body: &Body) -> Option<Instant> {
        let moved = body.since.max(self.last_read).max(self.last_written);
        match (&body.grant, body.held_since) {
            // It waits for others, with bytes in hand.
            (Some(grant), Some(held)) if self.may_start() => Some(grant.since.min(held + WHOLE - STALL)),
            // Nothing is read while responses pile up: it is the peer's turn to take them, and its bytes may be here.
            (Some(grant), None) if !self.may_start() => Some(grant.since.max(self.last_written)),
            (_, Some(held)) => Some(moved.min(held + WHOLE - STALL)),
            (_, None) => None,
        }
    }
}
