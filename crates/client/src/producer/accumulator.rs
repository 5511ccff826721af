//! The records of a partition that no request carries yet. They are written into their batch when they are handed over,
//! so a record is copied once, and the partition's task is woken once for a batch, not for a record.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ottla_record::{BatchBuilder, Compression, Header};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::batch::Batch;
use super::delivery::{Memory, Outcome, Promise};
use crate::error::ClientError;

/// What is written of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [Header<'a>],
}

#[derive(Debug)]
pub(super) struct Accumulator {
    compression: Compression,
    batch_bytes: usize,
    memory: Arc<Semaphore>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    full: VecDeque<Filling>,
    filling: Option<Filling>,
    /// Whether batches leave before they have lingered: somebody waits for all of them.
    hurry: bool,
    /// The size of the last batch, which the next one will likely have.
    last_size: usize,
}

/// A batch that records are added to.
#[derive(Debug)]
struct Filling {
    builder: BatchBuilder,
    since: Instant,
    /// What its records are counted with.
    memory: Memory,
    promise: Promise,
}

/// What there is to send.
enum Ready {
    Now(Filling),
    At(Instant),
    Never,
}

impl Accumulator {
    pub(super) fn new(compression: Compression, batch_bytes: usize, memory: Arc<Semaphore>) -> Accumulator {
        Accumulator { compression, batch_bytes, memory, state: Mutex::default(), changed: Notify::new() }
    }

    /// Adds a record for which `size` permits of the memory were taken; gives its place.
    pub(super) fn append(&self, content: Content<'_>, size: usize) -> Result<(Arc<Outcome>, u32), ClientError> {
        let mut state = self.state.lock();
        let fits = |filling: &Filling| filling.builder.estimated_size() + size <= self.batch_bytes;
        let mut news = false;
        if let Some(full) = state.filling.take_if(|filling| !fits(filling)) {
            state.last_size = full.builder.estimated_size();
            state.full.push_back(full);
            news = true;
        }
        let capacity = (state.last_size + size).min(self.batch_bytes).max(size);
        let filling = state.filling.get_or_insert_with(|| {
            news = true;
            Filling {
                builder: BatchBuilder::with_capacity(self.compression, capacity),
                since: Instant::now(),
                memory: Memory { semaphore: Arc::clone(&self.memory), bytes: 0 },
                promise: Promise::new(),
            }
        });
        filling.memory.bytes += size;
        let appended = filling.builder.append(content.timestamp, content.key, content.value, content.headers);
        let place = appended.map(|()| filling.promise.add());
        if filling.builder.is_empty() {
            state.filling = None;
        }
        drop(state);
        if news {
            self.changed.notify_one();
        }
        Ok(place?)
    }

    /// Lets everything leave as soon as it can.
    pub(super) fn hurry(&self) {
        let mut state = self.state.lock();
        state.hurry = state.filling.is_some();
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for the next batch: one that is full, or has lingered. Nothing is lost if the future is dropped.
    pub(super) async fn next(&self, linger: Duration) -> Batch {
        loop {
            match self.ready(linger) {
                Ready::Now(filling) => return filling.close(),
                Ready::At(due) => {
                    let _ = tokio::time::timeout_at(due, self.changed.notified()).await;
                }
                Ready::Never => self.changed.notified().await,
            }
        }
    }

    fn ready(&self, linger: Duration) -> Ready {
        let mut state = self.state.lock();
        if let Some(full) = state.full.pop_front() {
            return Ready::Now(full);
        }
        let Some(filling) = &state.filling else { return Ready::Never };
        let due = filling.since + linger;
        if !state.hurry && !linger.is_zero() && Instant::now() < due {
            return Ready::At(due);
        }
        state.hurry = false;
        match state.filling.take() {
            None => Ready::Never,
            Some(filling) => {
                state.last_size = filling.builder.estimated_size();
                Ready::Now(filling)
            }
        }
    }
}

impl Filling {
    fn close(self) -> Batch {
        Batch::new(self.builder, self.promise, self.memory, self.since)
    }
}
