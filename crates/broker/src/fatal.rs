//! The end of a node: something happened after which it must not acknowledge anything any more.
//!
//! It is an event of this node, not of the process: the binary exits on it, a test fails on it, and other nodes in the
//! same process go on.

use std::sync::Arc;

use tokio::sync::watch;

/// Where a node's fatal event is reported and waited for.
#[derive(Clone, Debug)]
pub struct Fatal {
    event: Arc<watch::Sender<Option<String>>>,
}

impl Default for Fatal {
    fn default() -> Self {
        Fatal { event: Arc::new(watch::Sender::new(None)) }
    }
}

impl Fatal {
    /// Reports the event; the first report is the one that is told.
    pub fn report(&self, reason: impl Into<String>) {
        self.event.send_if_modified(|event| {
            let first = event.is_none();
            if first {
                let reason = reason.into();
                tracing::error!(%reason, "this node stops: it cannot go on without risking data");
                *event = Some(reason);
            }
            first
        });
    }

    pub fn is_reported(&self) -> bool {
        self.event.borrow().is_some()
    }

    /// Ends when the event is reported, with its reason.
    pub async fn reported(&self) -> String {
        let mut receiver = self.event.subscribe();
        let event = receiver.wait_for(Option::is_some).await.expect("invariant: the sender is held by self");
        event.clone().unwrap_or_default()
    }

    /// A guard around code that must not panic half-way: a panic while it is held is the node's end.
    pub(crate) fn guard(&self, during: &'static str) -> FatalOnPanic<'_> {
        FatalOnPanic { fatal: self, during }
    }
}

pub(crate) struct FatalOnPanic<'a> {
    fatal: &'a Fatal,
    during: &'static str,
}

impl Drop for FatalOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fatal.report(format!("a panic during {}", self.during));
        }
    }
}
