//! How long a connection may be quiet, and how long it may hold what others wait for.

use std::future::Future;
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::reading::Reading;
use super::{Connection, Service};

/// The longest a large frame may stand still either way.
pub(super) const STALL: Duration = Duration::from_secs(30);
/// The longest it may take from its first byte to its last; clients wait 30 or 60 seconds for an answer.
pub(super) const WHOLE: Duration = Duration::from_secs(120);

impl<S: Service> Connection<S> {
    /// True once nothing has happened for too long. The timer is moved when it fires, not at every request.
    pub(super) fn poll_idle(&mut self, context: &mut Context<'_>) -> bool {
        let (Some(limit), Some(timer)) = (self.limits.max_idle, &mut self.idle) else { return false };
        while timer.as_mut().poll(context).is_ready() {
            if !self.in_flight.is_empty() {
                self.last_active = Instant::now();
            } else if self.last_active.elapsed() >= limit {
                return true;
            }
            timer.as_mut().reset(self.last_active + limit);
        }
        false
    }

    /// True when a frame or a response that holds bytes of a pool has not moved for too long: others wait for those bytes.
    pub(super) fn poll_stall(&mut self, context: &mut Context<'_>) -> bool {
        let since = match &self.reading {
            Reading::Body(body) if body.reserved_bytes > 0 && self.may_start() => match &body.grant {
                Some(grant) => grant.since.min(body.begun + WHOLE - STALL),
                None => self.last_read.min(body.begun + WHOLE - STALL),
            },
            _ if self.held > 0 => self.last_written.min(self.held_since + WHOLE - STALL),
            _ => {
                self.stall = None;
                return false;
            }
        };
        let timer = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(since + STALL)));
        while timer.as_mut().poll(context).is_ready() {
            if since.elapsed() >= STALL {
                return true;
            }
            timer.as_mut().reset(since + STALL);
        }
        false
    }
}
