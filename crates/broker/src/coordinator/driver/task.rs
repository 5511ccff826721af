//! The task of a driver: loads the partition, then waits for commits and deadlines.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{AppendLinger, Phase, Shared, State};
use crate::coordinator::load;
use crate::coordinator::machine::{Now, StateMachine};
use crate::coordinator::state_log::{Committed, LoadError};

impl<M: StateMachine> Shared<M> {
    /// Loads when there is something to load, attends to commits and deadlines, until the partition is given up.
    pub(super) async fn run(self: Arc<Self>) {
        let mut first: Option<(i64, Committed)> = None;
        loop {
            let loading = matches!(self.state.lock().phase, Phase::Loading);
            if loading && let Err(error) = self.load().await {
                tracing::error!(%error, "a coordinator's partition cannot be loaded");
                self.close();
            }
            if !self.attend(&mut first).await {
                return;
            }
        }
    }

    /// Waits for commits and deadlines. False when the partition was given up, true when it is to be loaded again.
    async fn attend(&self, first: &mut Option<(i64, Committed)>) -> bool {
        loop {
            let deadline = {
                let mut state = self.state.lock();
                match state.phase {
                    Phase::Closed => return false,
                    Phase::Loading => return true,
                    Phase::Active(_) => {}
                }
                if first.is_none() {
                    *first = self.next_commit(&mut state);
                    // What followed a commit may have failed to be appended.
                    if !matches!(state.phase, Phase::Active(_)) {
                        continue;
                    }
                }
                state.sleeping_until_ms = state.next_deadline_ms();
                state.sleeping_until_ms
            };
            tokio::select! {
                result = committed(first) => {
                    let reached = first.take().map(|(end_offset, _)| end_offset);
                    match (result, reached) {
                        (true, Some(end_offset)) => self.commit(end_offset),
                        _ => self.close(),
                    }
                }
                () = self.sleep_until(deadline) => self.fire(),
                () = self.changed.notified() => {}
            }
        }
    }

    /// What the task is to wait for next. What is committed already is dealt with on the way.
    fn next_commit(&self, state: &mut State<M>) -> Option<(i64, Committed)> {
        loop {
            let (end_offset, committed) = state.pending.first()?;
            if let Some(committed) = committed {
                return Some((end_offset, committed));
            }
            let now = self.now();
            self.commit_first(state, now, end_offset);
            self.append_unless_lingering(state, now);
        }
    }

    fn commit(&self, end_offset: i64) {
        let _guard = self.settings.fatal.guard("a coordinator's step");
        let mut state = self.state.lock();
        let now = self.now();
        while self.commit_first(&mut state, now, end_offset) {}
        self.append_unless_lingering(&mut state, now);
    }

    fn fire(&self) {
        let _guard = self.settings.fatal.guard("a coordinator's deadline");
        let mut state = self.state.lock();
        let now = loop {
            let now = self.now();
            let Phase::Active(machine) = &mut state.phase else { return };
            let Some(step) = machine.handle_due_timer(now) else { break now };
            let _ = self.apply(&mut state, now, step);
        };
        if state.append_at_ms.is_some_and(|append_at_ms| append_at_ms <= now.monotonic_ms) {
            self.append_gathered(&mut state, now);
        }
        self.append_unless_lingering(&mut state, now);
    }

    /// The task's own records wait for nobody.
    fn append_unless_lingering(&self, state: &mut State<M>, now: Now) {
        if self.settings.append_linger == AppendLinger::Adaptive {
            self.append_gathered(state, now);
        }
    }

    async fn sleep_until(&self, deadline_ms: Option<i64>) {
        let Some(deadline_ms) = deadline_ms else { return std::future::pending().await };
        let left_ms = deadline_ms - self.now().monotonic_ms;
        if let Ok(left_ms) = u64::try_from(left_ms) {
            // The clock counts in parts of milliseconds, the deadline does not.
            tokio::time::sleep(Duration::from_millis(left_ms)).await;
        }
    }

    async fn load(self: &Arc<Self>) -> Result<(), LoadError> {
        let began = self.settings.clock.monotonic();
        let (sender, receiver) = oneshot::channel();
        let (shared, bytes, now) = (Arc::clone(self), self.settings.load_buffer_bytes, self.now());
        let work = move || {
            let _guard = shared.settings.fatal.guard("loading a coordinator's partition");
            let mut machine = (shared.machine)();
            let loaded = load::replay_log(&mut machine, &*shared.log, bytes, now);
            let _ = sender.send(loaded.map(|end_offset| (machine, end_offset)));
        };
        self.settings.spawn.blocking(Box::new(work)).await;
        // Nothing is sent after a panic, which was reported.
        let Ok(loaded) = receiver.await else {
            self.close();
            return Ok(());
        };
        let (machine, end_offset) = loaded?;
        self.activate(machine, end_offset);
        let took = self.settings.clock.monotonic().saturating_sub(began);
        tracing::debug!(end_offset, ms = took.as_millis() as u64, "a coordinator's partition is loaded");
        Ok(())
    }

    /// Serves from here on, unless the partition was given up meanwhile.
    pub(super) fn activate(&self, mut machine: M, end_offset: i64) {
        let now = self.now();
        let step = machine.handle_loaded(now);
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Closed) {
            return;
        }
        state.phase = Phase::Active(machine);
        // What was read may be waiting for its commit still: nobody is shown it before.
        let batch = state.pending.take_open();
        self.appended(&mut state, now, end_offset, batch);
        state.pending.hide_everything_appended();
        let _ = self.apply(&mut state, now, step);
        self.append_unless_lingering(&mut state, now);
    }
}

/// Whether the first is committed; never ends without one.
async fn committed(first: &mut Option<(i64, Committed)>) -> bool {
    match first {
        Some((_, committed)) => matches!(committed.await, Ok(Ok(()))),
        None => std::future::pending().await,
    }
}
