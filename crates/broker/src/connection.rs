//! One client connection: frames in, responses out in the order of their requests.
//!
//! One task drives everything, so a request that is answered at once costs no hand-over. Requests whose place in the
//! order of events is fixed when their handler first waits (a produce that is appended, a commit of offsets) let the next
//! request begin; all others are handled one after the other, as clients expect of Kafka.
//!
//! Bounds: a frame's declared length, the bytes of its pool, the requests under way, the responses not yet written.
//! Backpressure is not reading the socket; a little is read ahead all the same, to notice that the peer has gone.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use ottla_rt::{DiskFile, ReadHalf, WriteHalf};
use tokio::time::{Instant, Sleep};

use crate::budget::{FrameBytes, RequestPool, Reserved};
use crate::metrics::Timing;

mod limits;
mod reading;
mod unsent;
mod writing;

use limits::STALL;
use reading::{LEAST_READ_SIZE, Reading};
use unsent::Unsent;

/// Responses may pile up to this many bytes before further requests wait.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// An answer above this many bytes must not stand still on its way, and is counted until it is sent.
pub(crate) const LARGE_ANSWER: usize = MAX_OUTPUT_BYTES;
/// The longest requests under way hold up a shutdown.
const DRAIN: Duration = Duration::from_secs(2);

/// What a handler answers.
pub(crate) enum Reply {
    /// A whole response frame, length included.
    Frame(Vec<Part>),
    /// The same, with bytes of a pool that are held until it is written.
    Held(Vec<Part>, Option<Reserved>),
    /// Nothing is sent (a produce with `acks=0`).
    Nothing,
    /// The connection is closed.
    Close(CloseReason),
}

/// A piece of a response.
pub(crate) enum Part {
    Bytes(Bytes),
    /// A range of a file, sent without passing through this process where the system can.
    File {
        file: Arc<dyn DiskFile>,
        position: u64,
        length: usize,
    },
}

impl Part {
    pub(crate) fn len(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::File { length, .. } => *length,
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Part::Bytes(bytes) => bytes.advance(count),
            Part::File { position, length, .. } => {
                *position += count as u64;
                *length -= count;
            }
        }
    }
}

impl From<Bytes> for Part {
    fn from(bytes: Bytes) -> Part {
        Part::Bytes(bytes)
    }
}

/// Why the broker closes a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloseReason {
    #[error("the frame length {length} is not in 0..={limit}")]
    FrameLength { length: i32, limit: i32 },
    #[error("the request cannot be read: {0}")]
    Malformed(String),
    #[error("api key {0} is unknown")]
    UnknownApi(i16),
    #[error("version {version} of {api} is not supported")]
    UnsupportedVersion { api: &'static str, version: i16 },
    #[error("an acks=0 produce failed: {0}")]
    UnacknowledgedProduceFailed(ottla_types::ErrorCode),
    #[error("a large frame or response did not move for {STALL:?}, or only dribbled")]
    Stalled,
    #[error("the handler panicked")]
    Panicked,
    #[error("the response cannot be written in this version: {0}")]
    Unencodable(String),
}

/// A request that has begun.
pub(crate) struct Started {
    pub(crate) reply: Pin<Box<dyn Future<Output = Reply> + Send>>,
    /// Whether the next request may begin once this one waits.
    pub(crate) pipelined: bool,
    /// Whether it needs its frame while it waits; if not, the frame's bytes go back to their pool then.
    pub(crate) keeps_frame: bool,
}

/// What a connection needs of the broker.
pub(crate) trait Service: Send + Sync + 'static {
    /// Begins a request, given its frame without the length. The future has not been polled yet.
    fn start(&self, frame: Bytes) -> Result<Started, CloseReason>;
    /// The pool the bytes of a request with this api key come from.
    fn pool(&self, api_key: i16) -> &Arc<RequestPool>;
    fn limits(&self) -> Limits;
    /// A handler panicked before it changed any state.
    fn handler_panicked(&self);
    /// A request is over: answered, and its answer sent, or there is nobody any more to send it to.
    fn finished(&self, timing: &Timing);
    /// Bytes came from the socket.
    fn received(&self, bytes: usize, now: Instant);
    /// The socket took bytes.
    fn sent(&self, bytes: usize);
}

/// What one connection may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The longest frame (inclusive).
    pub(crate) max_frame: i32,
    /// Requests under way at once.
    pub(crate) max_in_flight: usize,
    /// A connection on which nothing happens for this long is closed; `None`: never.
    pub(crate) max_idle: Option<Duration>,
}

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the peer closed the connection")]
    PeerClosed,
    #[error("the broker is shutting down")]
    Shutdown,
    #[error("nothing happened for too long")]
    Idle,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Closed(#[from] CloseReason),
}

struct InFlight {
    state: InFlightState,
    timing: Timing,
    pipelined: bool,
    keeps_frame: bool,
    bytes: FrameBytes,
}

enum InFlightState {
    Running(Pin<Box<dyn Future<Output = Reply> + Send>>),
    Done(Reply),
}

pub(crate) struct Connection<S> {
    service: Arc<S>,
    reader: Box<dyn ReadHalf>,
    writer: Box<dyn WriteHalf>,
    input: BytesMut,
    /// The largest frame this peer has completed: it is trusted with as much memory ahead of its bytes.
    largest_frame: usize,
    /// The length of the frame before: the next one is likely to be alike.
    last_frame: usize,
    /// What is read at once: it grows with what comes, so that a quiet connection has a small buffer.
    read_size: usize,
    reading: Reading,
    /// When the next frame was here as a whole.
    front_arrived: Option<Instant>,
    /// The peer closed its sending side; what it sent before is still served.
    peer_finished: bool,
    in_flight: VecDeque<InFlight>,
    /// The parts of responses that are not written yet.
    output: VecDeque<Part>,
    output_bytes: usize,
    unsent: Unsent,
    /// Since when some response must not stand still.
    held_since: Instant,
    last_written: Instant,
    /// A reason to close once everything before it is written.
    closing: Option<CloseReason>,
    draining: bool,
    linger: Option<Pin<Box<Sleep>>>,
    limits: Limits,
    /// When a request last began or was answered.
    last_active: Instant,
    last_read: Instant,
    idle: Option<Pin<Box<Sleep>>>,
    /// Runs while bytes of a pool are held for what the peer has to send, or to take.
    stall: Option<Pin<Box<Sleep>>>,
}

impl<S: Service> Connection<S> {
    pub(crate) fn new(service: Arc<S>, reader: Box<dyn ReadHalf>, writer: Box<dyn WriteHalf>) -> Connection<S> {
        let limits = service.limits();
        Connection {
            service,
            reader,
            writer,
            input: BytesMut::new(),
            largest_frame: 0,
            last_frame: 0,
            read_size: LEAST_READ_SIZE,
            reading: Reading::Head,
            front_arrived: None,
            peer_finished: false,
            in_flight: VecDeque::new(),
            output: VecDeque::new(),
            output_bytes: 0,
            unsent: Unsent::default(),
            held_since: Instant::now(),
            last_written: Instant::now(),
            closing: None,
            draining: false,
            linger: None,
            limits,
            last_active: Instant::now(),
            last_read: Instant::now(),
            idle: limits.max_idle.map(|limit| Box::pin(tokio::time::sleep(limit))),
            stall: None,
        }
    }

    /// Serves the connection to its end. When `shutdown` ends, requests under way are still answered.
    pub(crate) async fn run(mut self, shutdown: impl Future<Output = ()>) -> Ended {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut shut = false;
        let ended = std::future::poll_fn(|context| {
            if !shut && shutdown.as_mut().poll(context).is_ready() {
                shut = true;
                self.draining = true;
                self.linger = Some(Box::pin(tokio::time::sleep(DRAIN)));
            }
            self.poll(context)
        })
        .await;
        self.give_up();
        ended
    }

    /// Counts the requests whose answers nobody gets any more: the slowest ones, when clients give up waiting.
    fn give_up(&mut self) {
        let now = Instant::now();
        let service = &self.service;
        self.unsent.give_up(now, |timing| service.finished(timing));
        self.give_up_requests(now);
    }

    fn give_up_requests(&mut self, now: Instant) {
        for InFlight { state, mut timing, .. } in self.in_flight.drain(..) {
            if matches!(state, InFlightState::Running(_)) {
                timing.answered(now);
            }
            timing.queued(now, 0);
            self.service.finished(&timing);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        let mut may_gather = true;
        loop {
            self.poll_handlers(context);
            let gathered = may_gather && self.gathers_output();
            if !gathered {
                match self.poll_write(context) {
                    Poll::Ready(Err(error)) => return Poll::Ready(error),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            if self.in_flight.is_empty() && self.output.is_empty() {
                if let Some(reason) = self.closing.take() {
                    return Poll::Ready(reason.into());
                }
                if self.draining {
                    return Poll::Ready(Ended::Shutdown);
                }
            }
            if let Some(linger) = &mut self.linger
                && linger.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(if self.draining { Ended::Shutdown } else { Ended::PeerClosed });
            }
            if self.poll_idle(context) {
                return Poll::Ready(Ended::Idle);
            }
            if self.poll_stall(context) {
                return Poll::Ready(CloseReason::Stalled.into());
            }
            match self.poll_read(context) {
                // Something came, or a request began.
                Poll::Ready(Ok(())) => may_gather = true,
                Poll::Ready(Err(ended)) => return Poll::Ready(ended),
                // The next request has to wait after all.
                Poll::Pending if gathered => may_gather = false,
                Poll::Pending if self.peer_finished && self.in_flight.is_empty() && self.output.is_empty() => {
                    return Poll::Ready(Ended::PeerClosed);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_handlers(&mut self, context: &mut Context<'_>) {
        // Read once for all that is answered now: a clock is not free.
        let mut answered = None;
        for request in &mut self.in_flight {
            if let InFlightState::Running(future) = &mut request.state {
                let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
                match polled {
                    Ok(Poll::Ready(reply)) => {
                        request.timing.answered(*answered.insert(Instant::now()));
                        request.state = InFlightState::Done(reply);
                    }
                    Ok(Poll::Pending) if request.timing.is_parked() => {}
                    Ok(Poll::Pending) => {
                        request.timing.parked(Instant::now());
                        if !request.keeps_frame {
                            request.bytes = FrameBytes::default();
                        }
                    }
                    Err(_) => {
                        request.timing.answered(Instant::now());
                        self.service.handler_panicked();
                        request.state = InFlightState::Done(Reply::Close(CloseReason::Panicked));
                    }
                }
            }
        }
        while let Some(InFlight { state: InFlightState::Done(_), .. }) = self.in_flight.front() {
            let Some(InFlight { state: InFlightState::Done(reply), timing, bytes, .. }) = self.in_flight.pop_front()
            else {
                break;
            };
            self.last_active = answered.unwrap_or_else(Instant::now);
            match reply {
                Reply::Frame(parts) => self.enqueue(parts, None, bytes, timing),
                Reply::Held(parts, held) => self.enqueue(parts, held, bytes, timing),
                Reply::Nothing => self.service.finished(&timing),
                Reply::Close(reason) => {
                    self.service.finished(&timing);
                    // Nothing after this request is answered.
                    self.give_up_requests(self.last_active);
                    self.closing = Some(reason);
                }
            }
        }
    }

    fn may_start(&self) -> bool {
        self.in_flight.len() < self.limits.max_in_flight
            && self.output_bytes < MAX_OUTPUT_BYTES
            && self.in_flight.back().is_none_or(|last| last.pipelined)
    }
}

#[cfg(test)]
mod tests;
