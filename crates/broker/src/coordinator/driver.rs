//! Drives one state machine over one partition's log.
//!
//! A step's records are replayed before the next step is decided, so every decision sees what was decided before it; its
//! answer is given when the records are committed. Meanwhile further steps go on: their records share an append, and one
//! flush serves them all.
//!
//! Records are gathered as `group.coordinator.append.linger.ms` says. By default a batch is appended as soon as whoever
//! began it has let the tasks run that were ready too: under load many steps share it, and an idle broker does not wait.
//! With 0 every step is an append of its own.
//!
//! What was replayed ahead of an append that then fails is not in the log: the machine is dropped and the partition is
//! loaded again, and until an append succeeds every step is appended before it is replayed. So a failed append is never
//! part of the state, and a full disk does not have the partition loaded over and over.
//!
//! One task per partition waits for commits, in order, and for the machine's next deadline; nothing polls. When the
//! partition is lost, everybody who waits is told, and the driver takes no more requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_rt::{Clock, Spawn};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::machine::{Now, StateMachine, Step, Token};
use super::pending::{Pending, Shows, Stored};
use super::state_log::{CommitFailure, StateLog};
use crate::fatal::Fatal;

mod appends;
mod task;

/// How a driver reaches the world, and its limits.
#[derive(Clone)]
pub(crate) struct DriverSettings {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) spawn: Arc<dyn Spawn>,
    pub(crate) fatal: Fatal,
    /// `offsets.load.buffer.size`
    pub(crate) load_buffer_bytes: usize,
    /// `offsets.commit.timeout.ms`
    pub(crate) commit_timeout: Duration,
    /// `group.coordinator.append.linger.ms`
    pub(crate) append_linger: AppendLinger,
}

/// How long records are gathered before they are appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppendLinger {
    /// Until the tasks that are ready have run (-1).
    Adaptive,
    /// 0 appends every step at once.
    Millis(u32),
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error("the partition is still being loaded")]
    Loading,
    #[error("this node does not coordinate the partition")]
    NotCoordinator,
    #[error("what was decided is not stored: {0}")]
    NotStored(#[from] CommitFailure),
}

/// The answer to a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer<R, L> {
    /// Of the step that handled it.
    Now(R),
    /// Of a later step, after it was parked.
    Released(L),
}

pub(crate) struct Driver<M: StateMachine> {
    shared: Arc<Shared<M>>,
}

impl<M: StateMachine> Clone for Driver<M> {
    fn clone(&self) -> Self {
        Driver { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<M: StateMachine> {
    log: Arc<dyn StateLog>,
    settings: DriverSettings,
    /// Makes a machine that has seen no record.
    machine: Box<dyn Fn() -> M + Send + Sync>,
    state: Mutex<State<M>>,
    /// The number of the batch that is gathered, or comes next: whoever began an earlier one need not append it.
    open_number: AtomicU64,
    /// The task has something new to wait for.
    changed: Notify,
}

struct State<M: StateMachine> {
    phase: Phase<M>,
    next_token: u64,
    parked: HashMap<Token, oneshot::Sender<M::Release>>,
    pending: Pending<M::Continuation>,
    /// When what is gathered is to be appended.
    append_at_ms: Option<i64>,
    /// An append failed and none succeeded since: nothing is replayed ahead of its append.
    append_first: bool,
    /// What the task sleeps until.
    sleeping_until_ms: Option<i64>,
}

enum Phase<M> {
    Loading,
    Active(M),
    Closed,
}

impl<M: StateMachine> Driver<M> {
    /// Takes the partition up: loads it, then serves. An empty one is served at once.
    pub(crate) fn start(
        machine: impl Fn() -> M + Send + Sync + 'static,
        log: Arc<dyn StateLog>,
        settings: DriverSettings,
    ) -> Driver<M> {
        let state = State {
            phase: Phase::Loading,
            next_token: 0,
            parked: HashMap::new(),
            pending: Pending::default(),
            append_at_ms: None,
            append_first: false,
            sleeping_until_ms: None,
        };
        let shared = Arc::new(Shared {
            log,
            settings,
            machine: Box::new(machine),
            open_number: AtomicU64::new(state.pending.open_number()),
            state: Mutex::new(state),
            changed: Notify::new(),
        });
        let offsets = shared.log.offsets();
        if offsets.is_empty() {
            shared.activate((shared.machine)(), offsets.end);
        }
        tokio::spawn(Arc::clone(&shared).run());
        Driver { shared }
    }

    /// Has the machine handle a request, and waits for its answer.
    pub(crate) async fn write<R>(
        &self,
        handle: impl FnOnce(&mut M, Now, Token) -> Step<M, R>,
    ) -> Result<Answer<R, M::Release>, Unavailable> {
        self.submit(handle)?.answer().await
    }

    /// Has the machine handle a request; whoever has several can wait for them together.
    pub(crate) fn submit<R>(
        &self,
        handle: impl FnOnce(&mut M, Now, Token) -> Step<M, R>,
    ) -> Result<Submitted<M, R>, Unavailable> {
        self.shared.begin(handle)
    }

    /// Has the machine answer a question, and waits until what the answer shows is committed.
    pub(crate) async fn read<R>(&self, shows: Shows<'_>, ask: impl FnOnce(&mut M) -> R) -> Result<R, Unavailable> {
        let (answer, stored) = {
            let mut state = self.shared.state.lock();
            let answer = ask(state.machine()?);
            (answer, state.pending.wait_for(shows))
        };
        if let Some(stored) = stored {
            self.shared.wait_stored(stored).await?;
        }
        Ok(answer)
    }

    /// Gives the partition up.
    pub(crate) fn close(&self) {
        self.shared.close();
    }
}

/// A request that a machine has handled.
pub(crate) struct Submitted<M: StateMachine, R> {
    shared: Arc<Shared<M>>,
    /// `None` while it is parked.
    response: Option<R>,
    stored: Result<Option<Stored>, CommitFailure>,
    released: oneshot::Receiver<M::Release>,
    append: Option<AppendGathered<M>>,
}

impl<M: StateMachine, R> Submitted<M, R> {
    /// Waits until the answer may be given.
    pub(crate) async fn answer(self) -> Result<Answer<R, M::Release>, Unavailable> {
        let Submitted { shared, response, stored, released, append } = self;
        if let Some(append) = append {
            // Whoever is ready as well joins the batch.
            tokio::task::yield_now().await;
            drop(append);
        }
        match response {
            None => match released.await {
                Ok(release) => Ok(Answer::Released(release)),
                Err(_) => Err(Unavailable::NotCoordinator),
            },
            Some(response) => {
                if let Some(stored) = stored? {
                    shared.wait_stored(stored).await?;
                }
                Ok(Answer::Now(response))
            }
        }
    }
}

/// Sees that a batch is appended, even if the request that began it is dropped.
struct AppendGathered<M: StateMachine> {
    shared: Arc<Shared<M>>,
    number: u64,
}

impl<M: StateMachine> Drop for AppendGathered<M> {
    fn drop(&mut self) {
        if self.shared.open_number.load(Ordering::Acquire) > self.number {
            return;
        }
        let _guard = self.shared.settings.fatal.guard("a coordinator's append");
        let mut state = self.shared.state.lock();
        if state.pending.is_gathering() && state.pending.open_number() == self.number {
            self.shared.append_gathered(&mut state, self.shared.now());
            self.shared.wake_task(&state);
        }
    }
}

impl<M: StateMachine> State<M> {
    fn machine(&mut self) -> Result<&mut M, Unavailable> {
        match &mut self.phase {
            Phase::Loading => Err(Unavailable::Loading),
            Phase::Active(machine) => Ok(machine),
            Phase::Closed => Err(Unavailable::NotCoordinator),
        }
    }

    fn next_deadline_ms(&self) -> Option<i64> {
        match &self.phase {
            Phase::Active(machine) => machine.next_deadline_ms().into_iter().chain(self.append_at_ms).min(),
            Phase::Loading | Phase::Closed => None,
        }
    }

    /// Gives the machine up: whoever is parked is told.
    fn unload(&mut self, phase: Phase<M>) {
        if let Phase::Active(mut machine) = std::mem::replace(&mut self.phase, phase) {
            for (token, release) in machine.handle_unload() {
                if let Some(parked) = self.parked.remove(&token) {
                    let _ = parked.send(release);
                }
            }
        }
        // Dropping the senders tells whoever still waits.
        self.parked.clear();
        self.append_at_ms = None;
    }
}

impl<M: StateMachine> Shared<M> {
    fn now(&self) -> Now {
        let clock = &self.settings.clock;
        Now { monotonic_ms: clock.monotonic().as_millis() as i64, wall_ms: clock.wall_ms() }
    }

    fn begin<R>(
        self: &Arc<Self>,
        handle: impl FnOnce(&mut M, Now, Token) -> Step<M, R>,
    ) -> Result<Submitted<M, R>, Unavailable> {
        let _guard = self.settings.fatal.guard("a coordinator's step");
        let now = self.now();
        let mut state = self.state.lock();
        let token = Token(state.next_token);
        state.next_token += 1;
        let step = handle(state.machine()?, now, token);
        let (sender, released) = oneshot::channel();
        if step.response.is_none() {
            // Before the step is applied: it may release the very request it parks.
            state.parked.insert(token, sender);
        }
        let (response, stored) = self.apply(&mut state, now, step);
        let appends = !matches!(stored, Ok(None))
            && state.pending.is_gathering()
            && self.settings.append_linger == AppendLinger::Adaptive;
        let number = state.pending.open_number();
        self.wake_task(&state);
        let append = appends.then(|| AppendGathered { shared: Arc::clone(self), number });
        Ok(Submitted { shared: Arc::clone(self), response, stored, released, append })
    }

    /// Releases, takes the records in. Then the step is decided, whatever becomes of its records.
    fn apply<R>(
        &self,
        state: &mut State<M>,
        now: Now,
        step: Step<M, R>,
    ) -> (Option<R>, Result<Option<Stored>, CommitFailure>) {
        let Step { response, released, records, divisible, continuation } = step;
        for (token, release) in released {
            if let Some(parked) = state.parked.remove(&token) {
                // A receiver that is gone is a client that is gone.
                let _ = parked.send(release);
            }
        }
        if records.is_empty() {
            return (response, Ok(None));
        }
        let mut continuation = continuation;
        let stored = self.take_in(state, now, records, divisible, &mut continuation);
        if let Err(failure) = stored
            && let (Some(continuation), Phase::Active(machine)) = (continuation, &mut state.phase)
        {
            let step = machine.handle_stored(now, continuation, Err(failure));
            let _ = self.apply(state, now, step);
        }
        (response, stored.map(Some))
    }

    async fn wait_stored(&self, stored: Stored) -> Result<(), Unavailable> {
        match tokio::time::timeout(self.settings.commit_timeout, stored).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) => Err(Unavailable::NotCoordinator),
            Err(_) => Err(CommitFailure::TimedOut.into()),
        }
    }

    /// Wakes the task if it waits for less than there is to wait for.
    fn wake_task(&self, state: &State<M>) {
        let earlier = match (state.next_deadline_ms(), state.sleeping_until_ms) {
            (Some(deadline), Some(sleeping_until)) => deadline < sleeping_until,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if earlier || state.pending.is_unattended() || !matches!(state.phase, Phase::Active(_)) {
            self.changed.notify_one();
        }
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.unload(Phase::Closed);
        state.pending = Pending::default();
        self.changed.notify_one();
    }
}
