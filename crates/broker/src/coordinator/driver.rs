//! Drives one state machine over one partition's log.
//!
//! A step's records are appended and replayed before the next step is decided, so every decision sees what was decided
//! before it; its answer is given when the records are committed. Meanwhile further steps go on: one flush serves them
//! all. What a failed append would have changed is never replayed.
//!
//! One task per partition waits for commits, in order, and for the machine's next deadline; nothing polls. When the
//! partition is lost, everybody who waits is told, and the driver takes no more requests.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ottla_rt::{Clock, Spawn};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::load;
use super::machine::{Now, StateMachine, Step, Token};
use super::state_log::{CommitFailure, Committed, LoadError, StateLog};
use crate::fatal::Fatal;

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
    state: Mutex<State<M>>,
    /// The task has something new to wait for.
    changed: Notify,
}

struct State<M: StateMachine> {
    phase: Phase<M>,
    next_token: u64,
    parked: HashMap<Token, oneshot::Sender<M::Release>>,
    /// By offset, ascending.
    uncommitted: VecDeque<Uncommitted<M>>,
    /// What the task sleeps until.
    sleeping_until_ms: Option<i64>,
}

enum Phase<M> {
    Loading,
    Active(M),
    Closed,
}

struct Uncommitted<M: StateMachine> {
    end_offset: i64,
    /// Taken by the task while it is the first.
    committed: Option<Committed>,
    waiting: Vec<oneshot::Sender<()>>,
    continuation: Option<M::Continuation>,
}

/// What became of a step's records.
enum Stored {
    Committed,
    Pending(oneshot::Receiver<()>),
    Failed(CommitFailure),
}

impl<M: StateMachine> Driver<M> {
    /// Takes the partition up: loads it, then serves. An empty one is served at once.
    pub(crate) fn start(machine: M, log: Arc<dyn StateLog>, settings: DriverSettings) -> Driver<M> {
        let state = State {
            phase: Phase::Loading,
            next_token: 0,
            parked: HashMap::new(),
            uncommitted: VecDeque::new(),
            sleeping_until_ms: None,
        };
        let shared = Arc::new(Shared { log, settings, state: Mutex::new(state), changed: Notify::new() });
        let offsets = shared.log.offsets();
        if offsets.is_empty() {
            shared.activate(machine, offsets.end);
            tokio::spawn(Arc::clone(&shared).attend());
        } else {
            tokio::spawn(Arc::clone(&shared).run(machine));
        }
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
        let (response, stored, released) = self.shared.begin(handle)?;
        Ok(Submitted { shared: Arc::clone(&self.shared), response, stored, released })
    }

    /// Has the machine answer a question, and waits until everything the answer shows is committed.
    pub(crate) async fn read<R>(&self, ask: impl FnOnce(&mut M) -> R) -> Result<R, Unavailable> {
        let (answer, stored) = {
            let mut state = self.shared.state.lock();
            let answer = ask(state.machine()?);
            let stored = match state.uncommitted.back_mut() {
                None => Stored::Committed,
                Some(last) => {
                    let (sender, receiver) = oneshot::channel();
                    last.waiting.push(sender);
                    Stored::Pending(receiver)
                }
            };
            (answer, stored)
        };
        self.shared.wait_stored(stored).await?;
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
    stored: Stored,
    released: oneshot::Receiver<M::Release>,
}

impl<M: StateMachine, R> Submitted<M, R> {
    /// Waits until the answer may be given.
    pub(crate) async fn answer(self) -> Result<Answer<R, M::Release>, Unavailable> {
        match self.response {
            None => match self.released.await {
                Ok(release) => Ok(Answer::Released(release)),
                Err(_) => Err(Unavailable::NotCoordinator),
            },
            Some(response) => {
                self.shared.wait_stored(self.stored).await?;
                Ok(Answer::Now(response))
            }
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
            Phase::Active(machine) => machine.next_deadline_ms(),
            Phase::Loading | Phase::Closed => None,
        }
    }
}

/// A step begun: its answer unless it is parked, what became of its records, and where a parked answer comes.
type Begun<R, L> = (Option<R>, Stored, oneshot::Receiver<L>);

impl<M: StateMachine> Shared<M> {
    fn now(&self) -> Now {
        let clock = &self.settings.clock;
        Now { monotonic_ms: clock.monotonic().as_millis() as i64, wall_ms: clock.wall_ms() }
    }

    fn begin<R>(
        &self,
        handle: impl FnOnce(&mut M, Now, Token) -> Step<M, R>,
    ) -> Result<Begun<R, M::Release>, Unavailable> {
        let _guard = self.settings.fatal.guard("a coordinator's step");
        let now = self.now();
        let mut state = self.state.lock();
        let token = Token(state.next_token);
        state.next_token += 1;
        let step = handle(state.machine()?, now, token);
        let (sender, receiver) = oneshot::channel();
        if step.response.is_none() {
            // Before the step is applied: it may release the very request it parks.
            state.parked.insert(token, sender);
        }
        let (response, stored) = self.apply(&mut state, now, step);
        self.wake_task(&state);
        Ok((response, stored, receiver))
    }

    /// Releases, appends, replays. Then the step is decided, whatever becomes of its records.
    fn apply<R>(&self, state: &mut State<M>, now: Now, step: Step<M, R>) -> (Option<R>, Stored) {
        let Step { response, released, records, continuation } = step;
        for (token, release) in released {
            if let Some(parked) = state.parked.remove(&token) {
                // A receiver that is gone is a client that is gone.
                let _ = parked.send(release);
            }
        }
        if records.is_empty() {
            return (response, Stored::Committed);
        }
        let stored = match self.append(&records, now) {
            Ok(end_offset) => {
                if let Phase::Active(machine) = &mut state.phase {
                    for record in records {
                        machine.replay(now, record);
                    }
                }
                self.await_commit(state, now, end_offset, continuation)
            }
            Err(failure) => {
                if let (Some(continuation), Phase::Active(machine)) = (continuation, &mut state.phase) {
                    let step = machine.handle_stored(now, continuation, Err(failure));
                    self.apply(state, now, step);
                }
                Stored::Failed(failure)
            }
        };
        (response, stored)
    }

    fn append(&self, records: &[M::Record], now: Now) -> Result<i64, CommitFailure> {
        let mut encoded = Vec::with_capacity(records.len());
        for record in records {
            let record = M::encode(record).map_err(|error| {
                tracing::warn!(%error, "a coordinator's record cannot be written");
                CommitFailure::TooLarge
            })?;
            encoded.push(record);
        }
        self.log.append(&encoded, now.wall_ms)
    }

    fn await_commit(
        &self,
        state: &mut State<M>,
        now: Now,
        end_offset: i64,
        continuation: Option<M::Continuation>,
    ) -> Stored {
        let committed = self.log.committed(end_offset);
        if committed.is_none() && state.uncommitted.is_empty() {
            self.go_on(state, now, continuation);
            return Stored::Committed;
        }
        let (sender, receiver) = oneshot::channel();
        state.uncommitted.push_back(Uncommitted { end_offset, committed, waiting: vec![sender], continuation });
        Stored::Pending(receiver)
    }

    fn go_on(&self, state: &mut State<M>, now: Now, continuation: Option<M::Continuation>) {
        if let (Some(continuation), Phase::Active(machine)) = (continuation, &mut state.phase) {
            let step = machine.handle_stored(now, continuation, Ok(()));
            self.apply(state, now, step);
        }
    }

    async fn wait_stored(&self, stored: Stored) -> Result<(), Unavailable> {
        match stored {
            Stored::Committed => Ok(()),
            Stored::Failed(failure) => Err(failure.into()),
            Stored::Pending(receiver) => match tokio::time::timeout(self.settings.commit_timeout, receiver).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(Unavailable::NotCoordinator),
                Err(_) => Err(CommitFailure::TimedOut.into()),
            },
        }
    }

    /// Wakes the task if it waits for less than there is to wait for.
    fn wake_task(&self, state: &State<M>) {
        let earlier = match (state.next_deadline_ms(), state.sleeping_until_ms) {
            (Some(deadline), Some(sleeping_until)) => deadline < sleeping_until,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let unattended = state.uncommitted.front().is_some_and(|first| first.committed.is_some());
        if earlier || unattended || matches!(state.phase, Phase::Closed) {
            self.changed.notify_one();
        }
    }

    async fn run(self: Arc<Self>, machine: M) {
        match self.load(machine).await {
            Ok(()) => self.attend().await,
            Err(error) => {
                tracing::error!(%error, "a coordinator's partition cannot be loaded");
                self.close();
            }
        }
    }

    /// Waits for commits and deadlines until the partition is given up.
    async fn attend(self: Arc<Self>) {
        let mut first: Option<(i64, Committed)> = None;
        loop {
            let deadline = {
                let mut state = self.state.lock();
                if matches!(state.phase, Phase::Closed) {
                    return;
                }
                if first.is_none() {
                    first = self.next_commit(&mut state);
                }
                state.sleeping_until_ms = state.next_deadline_ms();
                state.sleeping_until_ms
            };
            tokio::select! {
                result = committed(&mut first) => {
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
            let first = state.uncommitted.front_mut()?;
            let end_offset = first.end_offset;
            match first.committed.take() {
                Some(committed) => return Some((end_offset, committed)),
                None => self.commit_first(state),
            }
        }
    }

    fn commit(&self, end_offset: i64) {
        let _guard = self.settings.fatal.guard("a coordinator's step");
        let mut state = self.state.lock();
        while state.uncommitted.front().is_some_and(|first| first.end_offset <= end_offset) {
            self.commit_first(&mut state);
        }
    }

    fn commit_first(&self, state: &mut State<M>) {
        let Some(first) = state.uncommitted.pop_front() else { return };
        for waiting in first.waiting {
            let _ = waiting.send(());
        }
        self.go_on(state, self.now(), first.continuation);
    }

    fn fire(&self) {
        let _guard = self.settings.fatal.guard("a coordinator's deadline");
        let mut state = self.state.lock();
        loop {
            let now = self.now();
            let Phase::Active(machine) = &mut state.phase else { return };
            let Some(step) = machine.handle_due_timer(now) else { return };
            self.apply(&mut state, now, step);
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

    async fn load(&self, mut machine: M) -> Result<(), LoadError> {
        let began = self.settings.clock.monotonic();
        let (sender, receiver) = oneshot::channel();
        let (log, bytes, now) = (Arc::clone(&self.log), self.settings.load_buffer_bytes, self.now());
        let fatal = self.settings.fatal.clone();
        let work = move || {
            let _guard = fatal.guard("loading a coordinator's partition");
            let loaded = load::replay_log(&mut machine, &*log, bytes, now);
            let _ = sender.send(loaded.map(|end_offset| (machine, end_offset)));
        };
        self.settings.spawn.blocking(Box::new(work)).await;
        // Nothing is sent after a panic, which was reported.
        let Ok(loaded) = receiver.await else { return Ok(()) };
        let (machine, end_offset) = loaded?;
        self.activate(machine, end_offset);
        let took = self.settings.clock.monotonic().saturating_sub(began);
        tracing::debug!(end_offset, ms = took.as_millis() as u64, "a coordinator's partition is loaded");
        Ok(())
    }

    /// Serves from here on, unless the partition was given up meanwhile.
    fn activate(&self, mut machine: M, end_offset: i64) {
        let now = self.now();
        let step = machine.handle_loaded(now);
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Closed) {
            return;
        }
        state.phase = Phase::Active(machine);
        // What was read may be waiting for its commit still: nobody is shown it before.
        self.await_commit(&mut state, now, end_offset, None);
        self.apply(&mut state, now, step);
    }

    fn close(&self) {
        let mut state = self.state.lock();
        if let Phase::Active(mut machine) = std::mem::replace(&mut state.phase, Phase::Closed) {
            for (token, release) in machine.handle_unload() {
                if let Some(parked) = state.parked.remove(&token) {
                    let _ = parked.send(release);
                }
            }
        }
        // Dropping the senders tells whoever still waits.
        state.parked.clear();
        state.uncommitted.clear();
        self.changed.notify_one();
    }
}

/// Whether the first is committed; never ends without one.
async fn committed(first: &mut Option<(i64, Committed)>) -> bool {
    match first {
        Some((_, committed)) => matches!(committed.await, Ok(Ok(()))),
        None => std::future::pending().await,
    }
}
