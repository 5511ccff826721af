//! Which batches have no result yet, so that a flush waits for those there were, and not for what comes after.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Incomplete {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: BTreeSet<u64>,
}

/// A batch without a result; dropped when it has one.
#[derive(Debug)]
pub(super) struct Ticket {
    number: u64,
    incomplete: Arc<Incomplete>,
}

impl Incomplete {
    pub(super) fn begin(self: &Arc<Incomplete>) -> Ticket {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.open.insert(number);
        Ticket { number, incomplete: Arc::clone(self) }
    }

    /// Waits until every batch that was begun before the call has its result.
    pub(super) async fn settled(&self) {
        let end = self.state.lock().next;
        loop {
            let changed = self.changed.notified();
            if self.state.lock().open.first().is_none_or(|&oldest| oldest >= end) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.incomplete.state.lock();
        let oldest = state.open.first() == Some(&self.number);
        state.open.remove(&self.number);
        drop(state);
        if oldest {
            self.incomplete.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_flush_waits_for_what_there_was_when_it_began() {
        let incomplete = Arc::<Incomplete>::default();
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(pin!(incomplete.settled()).poll(&mut context), Poll::Ready(()));
        let (first, second) = (incomplete.begin(), incomplete.begin());
        let mut settled = pin!(incomplete.settled());
        assert_eq!(settled.as_mut().poll(&mut context), Poll::Pending);
        let _later = incomplete.begin();
        drop(second);
        assert_eq!(settled.as_mut().poll(&mut context), Poll::Pending);
        drop(first);
        assert_eq!(settled.as_mut().poll(&mut context), Poll::Ready(()));
    }
}
