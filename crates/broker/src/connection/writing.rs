//! What leaves: responses, in pieces, as the socket takes them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::{Connection, Ended, LARGE_ANSWER, Part, Service};
use crate::budget::{FrameBytes, Reserved};
use crate::metrics::Timing;

/// Small responses are gathered up to this many bytes while further requests are there to be answered.
const GATHERED_OUTPUT_BYTES: usize = 16 << 10;
/// Buffers handed to one write call.
const MAX_SLICES: usize = 64;

impl<S: Service> Connection<S> {
    /// Whether the next request is here already and may begin: its response can share a write with those before it.
    pub(super) fn gathers_output(&self) -> bool {
        self.output_bytes < GATHERED_OUTPUT_BYTES
            && self.closing.is_none()
            && !self.draining
            && self.may_start()
            && self.front_is_whole()
    }

    pub(super) fn enqueue(&mut self, parts: Vec<Part>, reserved: Option<Reserved>, frame: FrameBytes, timing: Timing) {
        let length = parts.iter().map(Part::len).sum();
        self.unsent.push(timing, length, self.last_active);
        if self.output.is_empty() {
            self.last_written = self.last_active;
        }
        if length > LARGE_ANSWER || reserved.is_some() {
            if !self.unsent.is_held() {
                self.held_since = Instant::now();
            }
            // A large answer that took nothing of a pool is bounded by its request, and keeps the bytes of that.
            let frame = if reserved.is_none() { frame } else { FrameBytes::default() };
            self.unsent.hold(reserved, frame);
        }
        self.output_bytes += length;
        self.output.extend(parts.into_iter().filter(|part| part.len() > 0));
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while let Some(front) = self.output.front() {
            let mut written = match front {
                Part::Bytes(_) => {
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let mut count = 0;
                    for (slice, part) in slices.iter_mut().zip(&self.output) {
                        let Part::Bytes(bytes) = part else { break };
                        *slice = IoSlice::new(bytes);
                        count += 1;
                    }
                    let slices = &slices[..count];
                    match self.output.get(count) {
                        Some(Part::File { .. }) => ready!(self.writer.poll_write_before_file(context, slices))?,
                        _ => ready!(Pin::new(&mut self.writer).poll_write_vectored(context, slices))?,
                    }
                }
                Part::File { file, position, length } => {
                    ready!(self.writer.poll_send_file(context, &**file, *position, *length))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(Ended::Io(io::ErrorKind::WriteZero.into())));
            }
            self.output_bytes -= written;
            self.last_written = Instant::now();
            let service = &self.service;
            service.sent(written);
            self.unsent.written(written, self.last_written, |timing| service.finished(timing));
            while let Some(front) = self.output.front_mut() {
                let length = front.len();
                if length > written {
                    front.advance(written);
                    break;
                }
                written -= length;
                self.output.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}
