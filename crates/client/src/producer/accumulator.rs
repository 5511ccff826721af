//! The records of a partition that no request carries yet. They are written into their batch when they are handed over,
//! so a record is copied once, and the partition's task is woken once for a batch, not for a record.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ottla_record::{BatchBuilder, Compression, Header};
use ottla_types::TopicPartition;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::batch::Batch;
use super::delivery::{Listeners, Memory, Outcome, Promise};
use super::incomplete::Incomplete;
use super::interceptor::Interceptors;
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
    partition: TopicPartition,
    compression: Compression,
    batch_size: usize,
    common: Common,
    state: Mutex<State>,
    changed: Notify,
}

/// What all partitions of a producer share.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) memory: Arc<Semaphore>,
    pub(super) incomplete: Arc<Incomplete>,
    pub(super) interceptors: Interceptors,
}

#[derive(Debug, Default)]
struct State {
    full: VecDeque<Filling>,
    filling: Option<Filling>,
    /// Whether batches leave before they have lingered: somebody waits for all of them.
    hurry: bool,
    /// Whether nobody will send anything any more.
    closed: bool,
    /// The size of the last batch, which the next one will likely have.
    last_size: usize,
}

/// What waits in a partition to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) batches: usize,
    /// When the oldest was begun.
    pub(super) since: Option<Instant>,
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
    pub(super) fn new(
        partition: TopicPartition,
        compression: Compression,
        batch_size: usize,
        common: Common,
    ) -> Accumulator {
        Accumulator { partition, compression, batch_size, common, state: Mutex::default(), changed: Notify::new() }
    }

    /// Adds a record for which `size` permits of the memory were taken; gives its place.
    pub(super) fn append(&self, content: Content<'_>, size: usize) -> Result<(Arc<Outcome>, u32), ClientError> {
        let mut state = self.state.lock();
        if state.closed {
            self.common.memory.add_permits(size);
            return Err(ClientError::ProducerClosed);
        }
        let mut news = false;
        if let Some(full) = state.filling.take_if(|filling| !self.fits(filling, size)) {
            state.last_size = full.builder.estimated_size();
            state.full.push_back(full);
            news = true;
        }
        let capacity = (state.last_size + size).min(self.batch_size).max(size);
        let filling = state.filling.get_or_insert_with(|| {
            news = true;
            self.begin(capacity)
        });
        filling.memory.bytes += size;
        let appended = filling.builder.append(content.timestamp, content.key, content.value, content.headers);
        let place = appended.map(|()| {
            if !self.common.interceptors.is_empty() {
                filling.promise.note(content.timestamp);
            }
            filling.promise.add()
        });
        if filling.builder.is_empty() {
            state.filling = None;
        }
        drop(state);
        if news {
            self.changed.notify_one();
        }
        Ok(place?)
    }

    fn begin(&self, capacity: usize) -> Filling {
        let Common { memory, incomplete, interceptors } = &self.common;
        let listeners = (!interceptors.is_empty()).then(|| Listeners {
            interceptors: Arc::clone(interceptors),
            topic: Arc::clone(&self.partition.topic),
            partition: self.partition.partition,
            timestamps: Vec::new(),
        });
        Filling {
            builder: BatchBuilder::with_capacity(self.compression, capacity),
            since: Instant::now(),
            memory: Memory { semaphore: Arc::clone(memory), bytes: 0 },
            promise: Promise::new(incomplete.begin(), listeners),
        }
    }

    fn fits(&self, filling: &Filling, size: usize) -> bool {
        filling.builder.estimated_size() + size <= self.batch_size
    }

    /// Whether a record of this size would be added to a batch that is begun.
    pub(super) fn joins(&self, size: usize) -> bool {
        self.state.lock().filling.as_ref().is_some_and(|filling| self.fits(filling, size))
    }

    pub(super) fn waiting(&self) -> Waiting {
        let state = self.state.lock();
        let mut all = state.full.iter().chain(&state.filling);
        let since = all.next().map(|oldest| oldest.since);
        Waiting { batches: state.full.len() + usize::from(state.filling.is_some()), since }
    }

    /// Takes the batches that were begun until then, whether they may leave or not.
    pub(super) fn begun_until(&self, instant: Instant) -> Vec<Batch> {
        let mut state = self.state.lock();
        let mut old = Vec::new();
        while state.full.front().is_some_and(|full| full.since <= instant) {
            old.extend(state.full.pop_front().map(Filling::close));
        }
        old.extend(state.filling.take_if(|filling| filling.since <= instant).map(Filling::close));
        old
    }

    /// Gives up what nobody will send any more, and refuses everything else.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let given_up = (std::mem::take(&mut state.full), state.filling.take());
        drop(state);
        drop(given_up);
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
