//! Records a history while it happens, from any number of tasks or threads.
//!
//! A [`Recorder`] is shared; each worker has a [`Client`] of its own, which is one process after the other, and does one
//! thing at a time. What is dropped before it was completed (a task that was aborted, an answer nobody waited for) is an
//! operation whose outcome is unknown, so forgetting to complete never makes a history look better than it was.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::history::{Action, History, Key, OperationId, Outcome, Process, Record, Step};

/// Where all clients record. Clones record into the same history.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    /// Read under the lock, so that times are in the order of events.
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    history: History,
    next_process: u32,
    last_ns: u64,
    /// The history has been taken: what comes now belongs to none.
    finished: bool,
}

impl State {
    /// A clock that goes back is held.
    fn now_ns(&mut self, clock: &dyn Fn() -> u64) -> u64 {
        self.last_ns = self.last_ns.max(clock());
        self.last_ns
    }

    fn new_process(&mut self) -> Process {
        self.next_process += 1;
        Process(self.next_process - 1)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations = self.shared.state.lock().history.operations().len();
        formatter.debug_struct("Recorder").field("operations", &operations).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Takes its times, in nanoseconds since whenever, from `clock`: a monotonic one.
    pub fn new(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Recorder {
        Recorder { shared: Arc::new(Shared { clock: Box::new(clock), state: Mutex::default() }) }
    }

    /// The key of a partition.
    pub fn key(&self, topic: &str, partition: i32) -> Key {
        self.shared.state.lock().history.key(&format!("{topic}-{partition}"))
    }

    /// A client that has done nothing yet.
    pub fn client(&self) -> Client {
        let process = self.shared.state.lock().new_process();
        Client { recorder: self.clone(), process }
    }

    /// Ends the recording and hands out everything that was recorded. What is still under way then has an unknown outcome.
    pub fn finish(&self) -> History {
        let mut state = self.shared.state.lock();
        state.finished = true;
        std::mem::take(&mut state.history)
    }

    fn invoke(&self, process: Process, action: Action) -> Option<OperationId> {
        let mut state = self.shared.state.lock();
        let now_ns = state.now_ns(&*self.shared.clock);
        (!state.finished).then(|| state.history.invoke(process, now_ns, action))
    }
}

/// One worker's producer and consumer, as far as the history is concerned.
#[derive(Debug)]
pub struct Client {
    recorder: Recorder,
    process: Process,
}

impl Client {
    /// Who it is now; after an unknown outcome, a crash or [`Client::renew`] it is someone else.
    pub fn process(&self) -> Process {
        self.process
    }

    /// The consumer is to have exactly these partitions. It keeps its positions in those it had, unless it seeks.
    pub fn assign(&mut self, keys: impl Into<Vec<Key>>, seek_to_beginning: bool) -> Pending<'_> {
        self.begin(Action::Assign { keys: keys.into(), seek_to_beginning })
    }

    /// The consumer's group is to give it partitions of the topics these are in.
    pub fn subscribe(&mut self, keys: impl Into<Vec<Key>>) -> Pending<'_> {
        self.begin(Action::Subscribe { keys: keys.into() })
    }

    /// One record is sent.
    pub fn send(&mut self, key: Key, value: u64) -> Pending<'_> {
        self.transact(vec![Step::send(key, value)])
    }

    /// The consumer is polled once.
    pub fn poll(&mut self) -> Pending<'_> {
        self.transact(vec![Step::poll()])
    }

    /// Sends and polls that take effect as a whole: a transaction, or the records of one batch.
    pub fn transact(&mut self, steps: impl Into<Vec<Step>>) -> Pending<'_> {
        self.begin(Action::Transact(steps.into()))
    }

    /// Producer and consumer are torn down; what follows is done by new ones.
    pub fn crash(&mut self) {
        self.begin(Action::Crash).info("crashed");
    }

    /// Producer and consumer are replaced in order, or the consumer sought to where it had not been: another process.
    pub fn renew(&mut self) {
        self.process = self.recorder.shared.state.lock().new_process();
    }

    fn begin(&mut self, action: Action) -> Pending<'_> {
        let id = self.recorder.invoke(self.process, action.clone());
        Pending { client: self, id, action, rebalanced: Vec::new(), completed: false }
    }
}

/// An operation under way. Dropped without `ok`, `fail` or `info`, its outcome stays unknown.
#[derive(Debug)]
#[must_use = "an operation that is dropped has an unknown outcome"]
pub struct Pending<'a> {
    client: &'a mut Client,
    /// `None` after the recording has ended.
    id: Option<OperationId>,
    action: Action,
    rebalanced: Vec<Key>,
    completed: bool,
}

impl Pending<'_> {
    /// The next of its sends that has no offset was acknowledged at this one.
    pub fn sent(mut self, offset: i64) -> Self {
        let steps = self.steps();
        let unanswered = steps.iter_mut().find_map(|step| match step {
            Step::Send { offset: unknown @ None, .. } => Some(unknown),
            Step::Send { .. } | Step::Poll(_) => None,
        });
        *unanswered.expect("an offset for a send that was invoked") = Some(offset);
        self
    }

    /// Its send with this number, among its sends, was acknowledged at this offset.
    pub fn sent_nth(mut self, nth: usize, acknowledged: i64) -> Self {
        let send = self.steps().iter_mut().filter_map(|step| match step {
            Step::Send { offset, .. } => Some(offset),
            Step::Poll(_) => None,
        });
        *send.into_iter().nth(nth).expect("an offset for a send that was invoked") = Some(acknowledged);
        self
    }

    /// What its next poll returned, of those that have returned nothing so far.
    pub fn polled(mut self, records: impl IntoIterator<Item: Into<Record>>) -> Self {
        let steps = self.steps();
        let unanswered = steps.iter_mut().find_map(|step| match step {
            Step::Poll(polled) if polled.is_empty() => Some(polled),
            Step::Poll(_) | Step::Send { .. } => None,
        });
        *unanswered.expect("records for a poll that was invoked") = records.into_iter().map(Into::into).collect();
        self
    }

    /// Partitions came or went meanwhile.
    pub fn rebalanced(mut self, keys: impl IntoIterator<Item = Key>) -> Self {
        self.rebalanced.extend(keys);
        self
    }

    /// It took effect.
    pub fn ok(self) -> OperationId {
        self.complete(Outcome::Ok, None)
    }

    /// It certainly did not take effect, and will not.
    pub fn fail(self, error: impl Into<Box<str>>) -> OperationId {
        self.complete(Outcome::Fail, Some(error.into()))
    }

    /// It may have taken effect, or still may. The client goes on as another process.
    pub fn info(self, error: impl Into<Box<str>>) -> OperationId {
        self.complete(Outcome::Info, Some(error.into()))
    }

    fn steps(&mut self) -> &mut [Step] {
        match &mut self.action {
            Action::Transact(steps) => steps,
            Action::Assign { .. } | Action::Subscribe { .. } | Action::Crash => &mut [],
        }
    }

    fn complete(mut self, outcome: Outcome, error: Option<Box<str>>) -> OperationId {
        self.completed = true;
        let action = std::mem::replace(&mut self.action, Action::Crash);
        let rebalanced = std::mem::take(&mut self.rebalanced);
        if outcome == Outcome::Info {
            self.client.renew();
        }
        let shared = &self.client.recorder.shared;
        let mut state = shared.state.lock();
        let now_ns = state.now_ns(&*shared.clock);
        match self.id {
            Some(id) if !state.finished => {
                let operation = state.history.complete(id, now_ns, outcome);
                operation.action = action;
                operation.rebalanced = rebalanced;
                operation.error = error;
                id
            }
            // Of no history: nothing will ask for it.
            _ => OperationId(u32::MAX),
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.completed {
            self.client.renew();
        }
    }
}
