//! What comes: frames, each with bytes of its pool before it is taken into memory.

use std::future::Future;
use std::mem::MaybeUninit;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::Instant;

use super::{CloseReason, Connection, Ended, InFlight, InFlightState, Service};
use crate::budget::{FrameBytes, RequestPool, Reserved, SMALL_FRAME};
use crate::metrics::Timing;

/// What is read at once at first.
pub(super) const LEAST_READ_SIZE: usize = 4 << 10;
/// A new buffer has room for so many frames like the one before.
const ROOM_FRAMES: usize = 4;
/// What is read at most at once, and how far is read ahead while requests wait.
const READ_SIZE: usize = SMALL_FRAME;
/// What is read at once of what follows a large frame, which may be another one.
const HEAD_READ_SIZE: usize = 4 << 10;
/// The longest a peer that closed its sending side is still answered.
const LINGER: Duration = Duration::from_secs(1);

/// Where reading stands.
pub(super) enum Reading {
    /// Waiting for the length and the api key.
    Head,
    /// Waiting for the frame's body.
    Body(Body),
}

/// A frame on its way. Its pool is asked for as much as has come, not for what was announced: an announcement is free.
pub(super) struct Body {
    length: usize,
    pool: Arc<RequestPool>,
    bytes: FrameBytes,
    reserved_bytes: usize,
    /// When it began, or was granted bytes.
    pub(super) since: Instant,
    /// When it first held bytes before it was whole.
    pub(super) held_since: Option<Instant>,
    /// What is waited for while the pool is empty.
    pub(super) grant: Option<Grant>,
}

/// All that is missing of a frame's bytes.
pub(super) struct Grant {
    pub(super) since: Instant,
    reserved: Pin<Box<dyn Future<Output = Reserved> + Send>>,
}

impl Body {
    /// Ready when as much is reserved as has come (but for one read), and all of it once the frame is whole.
    fn poll_reserve(&mut self, arrived: usize, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(grant) = &mut self.grant {
                self.bytes.grant(ready!(grant.reserved.as_mut().poll(context)));
                self.reserved_bytes = self.length;
                self.since = Instant::now();
                self.held_since.get_or_insert(self.since);
                self.grant = None;
            }
            let whole = arrived >= 4 + self.length;
            let enough = if whole { self.length } else { arrived.saturating_sub(READ_SIZE) };
            if self.reserved_bytes >= enough {
                return Poll::Ready(());
            }
            let rest = self.length - self.reserved_bytes;
            let step = rest.min((enough - self.reserved_bytes).max(READ_SIZE));
            if self.pool.try_add(step, &mut self.bytes) {
                self.reserved_bytes += step;
                if !whole {
                    self.held_since.get_or_insert_with(Instant::now);
                }
            } else {
                let (pool, length) = (Arc::clone(&self.pool), self.length);
                let reserved = Box::pin(async move { pool.complete(length, rest).await });
                self.grant = Some(Grant { since: Instant::now(), reserved });
            }
        }
    }
}

impl<S: Service> Connection<S> {
    /// Ready when something changed that the loop should look at.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.closing.is_some() || self.draining {
            return Poll::Pending;
        }
        let may_start = self.may_start();
        match &mut self.reading {
            Reading::Head if may_start => {
                if let Some((length, api_key)) = self.frame_head()? {
                    let pool = Arc::clone(self.service.pool(api_key));
                    let (bytes, now) = (FrameBytes::default(), Instant::now());
                    let mut body =
                        Body { length, pool, bytes, reserved_bytes: 0, since: now, held_since: None, grant: None };
                    // A peer that has sent as much before is believed.
                    if length > READ_SIZE && length <= self.largest_frame && body.pool.try_add(length, &mut body.bytes)
                    {
                        body.reserved_bytes = length;
                        body.held_since = Some(now);
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
                let Body { length, bytes, .. } = body;
                self.input.advance(4);
                let frame = self.input.split_to(length).freeze();
                self.largest_frame = self.largest_frame.max(length);
                self.last_frame = length;
                self.last_active = Instant::now();
                let arrived = self.front_arrived.take().unwrap_or(self.last_read);
                let timing = Timing::begin(&frame, arrived, self.last_active);
                self.note_front();
                let service = &self.service;
                match std::panic::catch_unwind(AssertUnwindSafe(|| service.start(frame))) {
                    Ok(Ok(started)) => self.in_flight.push_back(InFlight {
                        state: InFlightState::Running(started.reply),
                        timing,
                        pipelined: started.pipelined,
                        keeps_frame: started.keeps_frame,
                        bytes,
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
        self.note_front();
        if filled == room && self.read_size < READ_SIZE {
            self.read_size *= 2;
        }
        if filled == 0 {
            self.peer_finished = true;
            self.linger = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
    }

    /// Whether the next frame is here as a whole.
    pub(super) fn front_is_whole(&self) -> bool {
        matches!(self.frame_head(), Ok(Some((length, _))) if self.input.len() >= 4 + length)
    }

    /// Takes note of when the next frame was here: not later than the last read, when this is first asked of it.
    fn note_front(&mut self) {
        if self.front_arrived.is_none() && self.front_is_whole() {
            self.front_arrived = Some(self.last_read);
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

    /// The length of the frame and its api key, once both are there. A frame too short for a key has key -1.
    pub(super) fn frame_head(&self) -> Result<Option<(usize, i16)>, CloseReason> {
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
