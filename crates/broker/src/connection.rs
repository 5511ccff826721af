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
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_rt::{DiskFile, ReadHalf, WriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::budget::{Budget, Reserved};
use crate::metrics::Timing;

mod unsent;

use unsent::Unsent;

/// Responses may pile up to this many bytes before further requests wait.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// Small responses are gathered up to this many bytes while further requests are there to be answered.
const GATHERED_OUTPUT_BYTES: usize = 16 << 10;
/// What is read at once at first.
const LEAST_READ_SIZE: usize = 4 << 10;
/// A new buffer has room for so many frames like the one before.
const ROOM_FRAMES: usize = 4;
/// What is read at most at once, and how far is read ahead while requests wait.
const READ_SIZE: usize = 64 << 10;
/// What is read at once of what follows a large frame, which may be another one.
const HEAD_READ_SIZE: usize = 4 << 10;
/// The longest a large frame may stand still either way.
const STALL: Duration = Duration::from_secs(30);
/// The longest it may take from its first byte to its last; clients wait 30 or 60 seconds for an answer.
const WHOLE: Duration = Duration::from_secs(120);
/// The longest a peer that closed its sending side is still answered.
const LINGER: Duration = Duration::from_secs(1);
/// The longest requests under way hold up a shutdown.
const DRAIN: Duration = Duration::from_secs(2);
/// Buffers handed to one write call.
const MAX_SLICES: usize = 64;

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
    #[error("the peer neither sent nor took a byte of a large frame for {STALL:?}")]
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
}

/// What a connection needs of the broker.
pub(crate) trait Service: Send + Sync + 'static {
    /// Begins a request, given its frame without the length. The future has not been polled yet.
    fn start(&self, frame: Bytes) -> Result<Started, CloseReason>;
    /// The pool the bytes of a request with this api key come from.
    fn pool(&self, api_key: i16) -> &Budget;
    fn limits(&self) -> Limits;
    /// A handler panicked before it changed any state.
    fn handler_panicked(&self);
    /// A request is over: answered, and its answer sent.
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
    _bytes: Option<Reserved>,
}

enum InFlightState {
    Running(Pin<Box<dyn Future<Output = Reply> + Send>>),
    Done(Reply),
}

/// Part of a response that is not written yet.
struct Chunk {
    part: Part,
    /// Given back once it is.
    held: Option<Reserved>,
}

/// Where reading stands.
enum Reading {
    /// Waiting for the length and the api key.
    Head,
    /// Waiting for the frame's body.
    Body(Body),
}

/// A frame on its way. Its pool is asked for as much as has come, not for what was announced: an announcement is free.
struct Body {
    length: usize,
    pool: Budget,
    reserved: Option<Reserved>,
    reserved_bytes: usize,
    begun: Instant,
    /// What is waited for while the pool is empty.
    grant: Option<Grant>,
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
    /// The peer closed its sending side; what it sent before is still served.
    peer_finished: bool,
    in_flight: VecDeque<InFlight>,
    output: VecDeque<Chunk>,
    output_bytes: usize,
    unsent: Unsent,
    /// Reservations the output holds.
    held: usize,
    held_since: Instant,
    last_written: Instant,
    /// A reason to close once everything before it is written.
    closing: Option<CloseReason>,
    draining: bool,
    linger: Option<Pin<Box<Sleep>>>,
    limits: Limits,
    last_active: Instant,
    last_read: Instant,
    idle: Option<Pin<Box<Sleep>>>,
    /// Runs while part of a large frame is held.
    stall: Option<Pin<Box<Sleep>>>,
}

struct Grant {
    bytes: usize,
    since: Instant,
    reserved: Pin<Box<dyn Future<Output = Reserved> + Send>>,
}

impl Body {
    /// Ready when as much is reserved as has come (but for one read), and all of it once the frame is whole.
    fn poll_reserve(&mut self, arrived: usize, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(grant) = &mut self.grant {
                let reserved = ready!(grant.reserved.as_mut().poll(context));
                self.reserved_bytes += grant.bytes;
                reserved.add_to(&mut self.reserved);
                self.grant = None;
            }
            let whole = arrived >= 4 + self.length;
            let enough = if whole { self.length } else { arrived.saturating_sub(READ_SIZE) };
            if self.reserved_bytes >= enough {
                return Poll::Ready(());
            }
            let step = (self.length - self.reserved_bytes).min((enough - self.reserved_bytes).max(READ_SIZE));
            if let Some(reserved) = self.pool.try_reserve(step) {
                self.reserved_bytes += step;
                reserved.add_to(&mut self.reserved);
            } else {
                let pool = self.pool.clone();
                let reserved = Box::pin(async move { pool.reserve(step).await });
                self.grant = Some(Grant { bytes: step, since: Instant::now(), reserved });
            }
        }
    }
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
            peer_finished: false,
            in_flight: VecDeque::new(),
            output: VecDeque::new(),
            output_bytes: 0,
            unsent: Unsent::default(),
            held: 0,
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
        std::future::poll_fn(|context| {
            if !shut && shutdown.as_mut().poll(context).is_ready() {
                shut = true;
                self.draining = true;
                self.linger = Some(Box::pin(tokio::time::sleep(DRAIN)));
            }
            self.poll(context)
        })
        .await
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

    /// Whether the next request is here already and may begin: its response can share a write with those before it.
    fn gathers_output(&self) -> bool {
        self.output_bytes < GATHERED_OUTPUT_BYTES
            && self.closing.is_none()
            && !self.draining
            && self.may_start()
            && matches!(self.frame_head(), Ok(Some((length, _))) if self.input.len() >= 4 + length)
    }

    /// True once nothing has happened for too long. The timer is moved when it fires, not at every request.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> bool {
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
    fn poll_stall(&mut self, context: &mut Context<'_>) -> bool {
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
                    Ok(Poll::Pending) => request.timing.parked(Instant::now()),
                    Err(_) => {
                        request.timing.answered(Instant::now());
                        self.service.handler_panicked();
                        request.state = InFlightState::Done(Reply::Close(CloseReason::Panicked));
                    }
                }
            }
        }
        while let Some(InFlight { state: InFlightState::Done(_), .. }) = self.in_flight.front() {
            let Some(InFlight { state: InFlightState::Done(reply), timing, .. }) = self.in_flight.pop_front() else {
                break;
            };
            self.last_active = answered.unwrap_or_else(Instant::now);
            match reply {
                Reply::Frame(parts) => self.enqueue(parts, None, timing),
                Reply::Held(parts, held) => self.enqueue(parts, held, timing),
                Reply::Nothing => self.service.finished(&timing),
                Reply::Close(reason) => {
                    self.service.finished(&timing);
                    // Nothing after this request is answered.
                    self.in_flight.clear();
                    self.closing = Some(reason);
                }
            }
        }
    }

    fn enqueue(&mut self, parts: Vec<Part>, held: Option<Reserved>, timing: Timing) {
        self.unsent.push(timing, parts.iter().map(Part::len).sum(), self.last_active);
        if self.output.is_empty() {
            self.last_written = self.last_active;
        }
        for part in parts.into_iter().filter(|part| part.len() > 0) {
            self.output_bytes += part.len();
            self.output.push_back(Chunk { part, held: None });
        }
        if self.held == 0 {
            self.held_since = Instant::now();
        }
        if let Some(last) = self.output.back_mut() {
            self.held += usize::from(held.is_some());
            last.held = held;
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while let Some(front) = self.output.front() {
            let mut written = match &front.part {
                Part::Bytes(_) => {
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let mut count = 0;
                    for (slice, chunk) in slices.iter_mut().zip(&self.output) {
                        let Part::Bytes(bytes) = &chunk.part else { break };
                        *slice = IoSlice::new(bytes);
                        count += 1;
                    }
                    ready!(Pin::new(&mut self.writer).poll_write_vectored(context, &slices[..count]))?
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
                let length = front.part.len();
                if length > written {
                    front.part.advance(written);
                    break;
                }
                written -= length;
                self.held -= usize::from(front.held.is_some());
                self.output.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when something changed that the loop should look at.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.closing.is_some() || self.draining {
            return Poll::Pending;
        }
        let may_start = self.may_start();
        match &mut self.reading {
            Reading::Head if may_start => {
                if let Some((length, api_key)) = self.frame_head()? {
                    let pool = self.service.pool(api_key).clone();
                    let begun = Instant::now();
                    let mut body = Body { length, pool, reserved: None, reserved_bytes: 0, begun, grant: None };
                    // A peer that has sent as much before is believed.
                    if length > READ_SIZE
                        && length <= self.largest_frame
                        && let Some(reserved) = body.pool.try_reserve(length)
                    {
                        body.reserved = Some(reserved);
                        body.reserved_bytes = length;
                    }
                    self.reading = Reading::Body(body);
                    return Poll::Ready(Ok(()));
                }
            }
            Reading::Body(body) if may_start => {
                ready!(body.poll_reserve(self.input.len(), context));
                if self.input.len() < 4 + body.length {
                    return self.poll_fill(context);
                }
                let Reading::Body(body) = std::mem::replace(&mut self.reading, Reading::Head) else {
                    unreachable!("matched above")
                };
                let Body { length, reserved: bytes, .. } = body;
                self.input.advance(4);
                let frame = self.input.split_to(length).freeze();
                self.largest_frame = self.largest_frame.max(length);
                self.last_frame = length;
                self.last_active = Instant::now();
                let timing = Timing::begin(&frame, self.last_read, self.last_active);
                let service = &self.service;
                match std::panic::catch_unwind(AssertUnwindSafe(|| service.start(frame))) {
                    Ok(Ok(started)) => self.in_flight.push_back(InFlight {
                        state: InFlightState::Running(started.reply),
                        timing,
                        pipelined: started.pipelined,
                        _bytes: bytes,
                    }),
                    Ok(Err(reason)) => self.closing = Some(reason),
                    Err(_) => {
                        self.service.handler_panicked();
                        self.closing = Some(CloseReason::Panicked);
                    }
                }
                return Poll::Ready(Ok(()));
            }
            Reading::Head | Reading::Body(_) => {}
        }
        self.poll_fill(context)
    }

    /// Reads from the socket as far as the bounds allow.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let wanted = match &self.reading {
            Reading::Body(body) if self.may_start() => {
                (4 + body.length).min(4 + body.reserved_bytes + READ_SIZE).max(self.read_size)
            }
            // Little of the next large frame comes before its buffer is there, so little is copied over.
            _ if self.last_frame > READ_SIZE => HEAD_READ_SIZE,
            _ => self.read_size,
        };
        if self.peer_finished || self.input.len() >= wanted {
            return Poll::Pending;
        }
        if self.input.is_empty() && wanted == LEAST_READ_SIZE {
            return self.poll_fill_quiet(context);
        }
        let missing = wanted - self.input.len();
        // Memory follows the bytes that came, not the length that was declared, until the peer has proved itself.
        if self.gets_exact_buffer(wanted) {
            // Such a frame gets a buffer of its own and of its size: it may stay in memory for long.
            if self.input.capacity() < wanted {
                let mut exact = BytesMut::with_capacity(wanted);
                exact.extend_from_slice(&self.input);
                self.input = exact;
            }
        } else if self.input.capacity() - self.input.len() < self.least_room() {
            let ahead = self.largest_frame.max(self.input.len()).max(self.read_size);
            let several = (ROOM_FRAMES * self.last_frame).min(READ_SIZE);
            self.input.reserve(missing.min(ahead).max(several));
        }
        let room = missing.min(self.input.capacity() - self.input.len());
        let filled = {
            let mut room = (&mut self.input).limit(room);
            let read = std::pin::pin!(self.reader.read_buf(&mut room));
            ready!(read.poll(context))?
        };
        self.filled(filled, room);
        Poll::Ready(Ok(()))
    }

    /// Reads what a connection sends that sends little: it has no buffer while it sends nothing.
    fn poll_fill_quiet(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        let mut scratch = [const { MaybeUninit::uninit() }; LEAST_READ_SIZE];
        let mut buffer = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(&mut self.reader).poll_read(context, &mut buffer))?;
        self.input = BytesMut::from(buffer.filled());
        self.filled(self.input.len(), LEAST_READ_SIZE);
        Poll::Ready(Ok(()))
    }

    /// Takes note of a read into so much room.
    fn filled(&mut self, filled: usize, room: usize) {
        self.last_read = Instant::now();
        self.service.received(filled, self.last_read);
        if filled == room && self.read_size < READ_SIZE {
            self.read_size *= 2;
        }
        if filled == 0 {
            self.peer_finished = true;
            self.linger = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
    }

    /// With less room than this the input gets a new buffer: for the rest of a frame, or for one like the frame before.
    fn least_room(&self) -> usize {
        let rest = match &self.reading {
            Reading::Body(body) => (4 + body.length).saturating_sub(self.input.len()),
            Reading::Head => (4 + self.last_frame).saturating_sub(self.input.len()),
        };
        rest.clamp(LEAST_READ_SIZE / 4, READ_SIZE)
    }

    /// Whether what is read is a large frame of a peer that has sent as large a one, and its bytes are all reserved.
    fn gets_exact_buffer(&self, wanted: usize) -> bool {
        let whole = matches!(&self.reading, Reading::Body(body) if wanted == 4 + body.length);
        whole && wanted > READ_SIZE && wanted <= 4 + self.largest_frame
    }

    fn may_start(&self) -> bool {
        self.in_flight.len() < self.limits.max_in_flight
            && self.output_bytes < MAX_OUTPUT_BYTES
            && self.in_flight.back().is_none_or(|last| last.pipelined)
    }

    /// The length of the frame and its api key, once both are there. A frame too short for a key has key -1.
    fn frame_head(&self) -> Result<Option<(usize, i16)>, CloseReason> {
        let Some((head, rest)) = self.input.split_first_chunk::<4>() else { return Ok(None) };
        let length = i32::from_be_bytes(*head);
        let limit = self.limits.max_frame;
        if length < 0 || length > limit {
            return Err(CloseReason::FrameLength { length, limit });
        }
        let length = length as usize;
        if length < 2 {
            return Ok(Some((length, -1)));
        }
        Ok(rest.first_chunk::<2>().map(|key| (length, i16::from_be_bytes(*key))))
    }
}

#[cfg(test)]
mod tests;
