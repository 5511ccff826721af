//! Numbers that go up, and numbers that go up and down.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::watch;

/// Counts what happened.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts what is there now.
#[derive(Debug, Default)]
pub(crate) struct Level(AtomicUsize);

impl Level {
    /// Counts one more until the guard is dropped.
    pub(crate) fn enter(&self) -> InLevel<'_> {
        self.enter_many(1)
    }

    /// Counts so many more until the guard is dropped.
    pub(crate) fn enter_many(&self, count: usize) -> InLevel<'_> {
        self.0.fetch_add(count, Ordering::Relaxed);
        InLevel { level: self, count }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct InLevel<'a> {
    level: &'a Level,
    count: usize,
}

impl InLevel<'_> {
    /// One of them is no longer there.
    pub(crate) fn leave_one(&mut self) {
        if self.count > 0 {
            self.count -= 1;
            self.level.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for InLevel<'_> {
    fn drop(&mut self) {
        self.level.0.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// A level whose end can be waited for.
#[derive(Debug)]
pub(crate) struct Gauge(watch::Sender<usize>);

impl Default for Gauge {
    fn default() -> Self {
        Gauge(watch::Sender::new(0))
    }
}

impl Gauge {
    /// Counts one more until the guard is dropped.
    pub(crate) fn enter(&self) -> Entered<'_> {
        self.0.send_modify(|count| *count += 1);
        Entered(self)
    }

    pub(crate) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Ends when the count is zero.
    pub(crate) async fn none(&self) {
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

pub(crate) struct Entered<'a>(&'a Gauge);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}
