//! Counters the broker keeps of itself. Handles are held where they are used; showing them is another layer's work.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) handler_panics: Counter,
    pub(crate) failed_appends: Counter,
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }
}

/// Counts what is there now.
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
