//! What becomes of records: one outcome for a batch, and a place in it for each record.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::incomplete::Ticket;
use super::interceptor::{Interceptors, on_acknowledgement};
use crate::error::ClientError;

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub partition: i32,
    /// Unknown without acknowledgement, and for a batch that the broker had from an earlier attempt long ago.
    pub offset: Option<i64>,
    pub timestamp: i64,
}

/// A result to come; see [`crate::Producer::send`]. Dropping it does not stop the record.
#[derive(Clone, Debug)]
pub struct PendingDelivery {
    pub(super) outcome: Arc<Outcome>,
    /// The record's place in its batch.
    pub(super) position: u32,
    pub(super) partition: i32,
    pub(super) timestamp: i64,
}

impl PendingDelivery {
    /// The result, if it is there.
    pub fn try_result(&self) -> Option<Result<Delivery, ClientError>> {
        let settled = self.outcome.settled.get()?;
        Some(settled.result_of(self.position, self.partition, self.timestamp))
    }

    /// When the answer came, if it did.
    pub fn settled_at(&self) -> Option<Instant> {
        self.outcome.settled.get().map(|settled| settled.at)
    }

    /// Waits for the result. Nothing is lost if the future is dropped.
    pub async fn wait(&self) -> Result<Delivery, ClientError> {
        loop {
            let woken = self.outcome.woken.notified();
            if let Some(result) = self.try_result() {
                return result;
            }
            woken.await;
        }
    }
}

impl IntoFuture for PendingDelivery {
    type Output = Result<Delivery, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.wait().await })
    }
}

/// What the records of a batch wait for.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    gathering: Mutex<Gathering>,
    settled: OnceLock<Settled>,
    woken: Notify,
}

/// Results until they are all there: a batch that was too large has several.
#[derive(Debug, Default)]
struct Gathering {
    parts: Vec<Part>,
    records: u32,
    /// Given back when every result is there.
    ticket: Option<Ticket>,
    /// Who wants to be told, and of what.
    listeners: Option<Box<Listeners>>,
}

/// Interceptors, and what they are to be told besides the results.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) interceptors: Interceptors,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// Of each record.
    pub(super) timestamps: Vec<i64>,
}

#[derive(Debug)]
struct Settled {
    at: Instant,
    /// By position.
    parts: Vec<Part>,
}

impl Settled {
    fn result_of(&self, position: u32, partition: i32, timestamp: i64) -> Result<Delivery, ClientError> {
        let part = self.parts.iter().find(|part| position < part.end);
        let part = part.ok_or(ClientError::ProducerClosed)?;
        let written = part.result.as_ref().map_err(Clone::clone)?;
        let place = i64::from(position - part.first);
        Ok(Delivery {
            partition,
            offset: written.base_offset.map(|base_offset| base_offset.saturating_add(place)),
            timestamp: written.log_append_time.unwrap_or(timestamp),
        })
    }
}

impl Listeners {
    fn tell(&self, settled: &Settled) {
        for (position, &timestamp) in (0..).zip(&self.timestamps) {
            let result = settled.result_of(position, self.partition, timestamp);
            on_acknowledgement(&self.interceptors, &self.topic, Some(self.partition), &result);
        }
    }
}

/// The records from `first` to before `end`, which went as one batch.
#[derive(Debug)]
struct Part {
    first: u32,
    end: u32,
    result: Result<Written, ClientError>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) base_offset: Option<i64>,
    pub(super) log_append_time: Option<i64>,
}

/// The duty to settle some of an outcome's records. Dropped without that, it settles them as given up.
#[derive(Debug)]
pub(super) struct Promise {
    outcome: Arc<Outcome>,
    first: u32,
    end: u32,
    /// How many records the outcome is for.
    total: u32,
}

impl Promise {
    /// For the records of a batch that has none yet.
    pub(super) fn new(ticket: Ticket, listeners: Option<Listeners>) -> Promise {
        let listeners = listeners.map(Box::new);
        let gathering = Mutex::new(Gathering { ticket: Some(ticket), listeners, ..Gathering::default() });
        let outcome = Outcome { gathering, ..Outcome::default() };
        Promise { outcome: Arc::new(outcome), first: 0, end: 0, total: 0 }
    }

    /// Notes the timestamp of the record that is added next, for whoever wants to be told of it.
    pub(super) fn note(&mut self, timestamp: i64) {
        if let Some(listeners) = &mut self.outcome.gathering.lock().listeners {
            listeners.timestamps.push(timestamp);
        }
    }

    /// Takes another record into the promise; gives its place. Not after a part was split off.
    pub(super) fn add(&mut self) -> (Arc<Outcome>, u32) {
        let position = self.end;
        (self.end, self.total) = (position + 1, position + 1);
        (Arc::clone(&self.outcome), position)
    }

    pub(super) fn first(&self) -> u32 {
        self.first
    }

    pub(super) fn records(&self) -> u32 {
        self.end - self.first
    }

    /// Keeps the first `records`, and gives the others away.
    pub(super) fn split_off(&mut self, records: u32) -> Promise {
        let middle = self.first + records;
        let rest = Promise { outcome: Arc::clone(&self.outcome), first: middle, end: self.end, total: self.total };
        self.end = middle;
        rest
    }

    pub(super) fn settle(mut self, result: Result<Written, ClientError>) {
        self.fulfil(result);
    }

    fn fulfil(&mut self, result: Result<Written, ClientError>) {
        let (first, end) = (self.first, self.end);
        if first == end {
            return;
        }
        self.first = end;
        let mut gathering = self.outcome.gathering.lock();
        gathering.parts.push(Part { first, end, result });
        gathering.records += end - first;
        if gathering.records == self.total {
            let Gathering { mut parts, ticket, listeners, .. } = std::mem::take(&mut *gathering);
            drop(gathering);
            parts.sort_by_key(|part| part.first);
            let settled = self.outcome.settled.get_or_init(|| Settled { at: Instant::now(), parts });
            if let Some(listeners) = listeners {
                listeners.tell(settled);
            }
            self.outcome.woken.notify_waiters();
            // Last: who waits for all batches finds every result.
            drop(ticket);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.fulfil(Err(ClientError::ProducerClosed));
    }
}

/// Part of the producer's memory, given back when dropped.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) semaphore: Arc<Semaphore>,
    pub(super) bytes: usize,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.semaphore.add_permits(self.bytes);
    }
}
