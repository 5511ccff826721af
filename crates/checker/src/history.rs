//! What clients did and what they were told: the model that recorder, files and analysis share.
//!
//! An operation begins with its invocation and ends with its completion; between the two it may have taken effect at any
//! moment, and one whose outcome is unknown may still take effect later. The two ends are events; the order of all events
//! is the only order of time the analysis trusts, their times are for people.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// One partition of one topic, by the number its history has for it ([`History::key_name`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Key(pub(crate) u32);

impl Key {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Who does one thing after the other: one life of a producer and a consumer.
///
/// A client that is rebuilt, or whose last outcome stayed unknown, goes on as another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Process(pub u32);

impl fmt::Display for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "process {}", self.0)
    }
}

/// What a record carries. Sent at most once per key in a history: the analysis tells records apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Value(pub u64);

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// An operation of a history: operations are numbered in the order of their invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct OperationId(pub u32);

impl OperationId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "operation {}", self.0)
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It took effect, and the client was told so.
    Ok,
    /// It did not take effect and never will.
    Fail,
    /// Nobody knows: it may have taken effect, or still will. When unsure, this.
    Info,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Fail => "fail",
            Outcome::Info => "info",
        }
    }
}

/// A record as a consumer was given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Record {
    pub key: Key,
    pub offset: i64,
    pub value: Value,
}

impl From<(Key, i64, u64)> for Record {
    fn from((key, offset, value): (Key, i64, u64)) -> Self {
        Record { key, offset, value: Value(value) }
    }
}

/// One send or one poll of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A record sent, and the offset it was acknowledged at, if it was.
    Send { key: Key, value: Value, offset: Option<i64> },
    /// What one poll returned, in the order the client was given it.
    Poll(Vec<Record>),
}

impl Step {
    /// A send as it is invoked.
    pub fn send(key: Key, value: u64) -> Step {
        Step::Send { key, value: Value(value), offset: None }
    }

    /// A poll as it is invoked.
    pub fn poll() -> Step {
        Step::Poll(Vec::new())
    }
}

/// What a process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The consumer takes exactly these partitions. One it had keeps its position, unless all are rewound.
    Assign { keys: Vec<Key>, seek_to_beginning: bool },
    /// The consumer's group is to give it partitions of the topics these are in.
    Subscribe { keys: Vec<Key> },
    /// Sends and polls. Several are one transaction, or several sends one batch: what takes effect as a whole.
    Transact(Vec<Step>),
    /// The client is torn down; what it had begun is left as it is.
    Crash,
}

impl Action {
    /// What it is called in histories. Transactions of sends or polls only are called by these.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Assign { .. } => "assign",
            Action::Subscribe { .. } => "subscribe",
            Action::Crash => "crash",
            Action::Transact(steps) => {
                let sends = steps.iter().filter(|step| matches!(step, Step::Send { .. })).count();
                match sends {
                    0 => "poll",
                    sends if sends == steps.len() => "send",
                    _ => "txn",
                }
            }
        }
    }
}

/// An end of an operation: its place among all events, and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    pub event: u32,
    pub time_ns: u64,
}

/// One operation, with what its completion told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub process: Process,
    pub action: Action,
    pub outcome: Outcome,
    pub invoked: Moment,
    /// `None`: it was never heard of again, and its outcome is unknown.
    pub completed: Option<Moment>,
    /// Partitions that came or went meanwhile: where the consumer stands in them is anybody's guess.
    pub rebalanced: Vec<Key>,
    /// Why it failed, or why its outcome is unknown.
    pub error: Option<Box<str>>,
}

impl Operation {
    /// Its sends and polls.
    pub fn steps(&self) -> &[Step] {
        match &self.action {
            Action::Transact(steps) => steps,
            Action::Assign { .. } | Action::Subscribe { .. } | Action::Crash => &[],
        }
    }
}

/// Either end of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Invoked(OperationId),
    Completed(OperationId),
}

/// Operations of many processes, in the order of their invocations. Made by a [`Recorder`](crate::Recorder) or
/// [read](History::read_jsonl).
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
    key_names: Vec<Arc<str>>,
    keys_by_name: HashMap<Arc<str>, Key>,
    events: u32,
}

impl History {
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    pub fn operation(&self, id: OperationId) -> &Operation {
        &self.operations[id.index()]
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.key_names.len()
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        (0..count_u32(self.key_names.len())).map(Key)
    }

    /// Such as `orders-3`: topic and partition.
    pub fn key_name(&self, key: Key) -> &str {
        &self.key_names[key.index()]
    }

    /// The key of this name, which is made when it is new.
    pub(crate) fn key(&mut self, name: &str) -> Key {
        if let Some(key) = self.keys_by_name.get(name) {
            return *key;
        }
        let key = Key(count_u32(self.key_names.len()));
        let name: Arc<str> = name.into();
        self.key_names.push(Arc::clone(&name));
        self.keys_by_name.insert(name, key);
        key
    }

    pub(crate) fn invoke(&mut self, process: Process, time_ns: u64, action: Action) -> OperationId {
        let id = OperationId(count_u32(self.operations.len()));
        let invoked = self.moment(time_ns);
        self.operations.push(Operation {
            process,
            action,
            outcome: Outcome::Info,
            invoked,
            completed: None,
            rebalanced: Vec::new(),
            error: None,
        });
        id
    }

    pub(crate) fn complete(&mut self, id: OperationId, time_ns: u64, outcome: Outcome) -> &mut Operation {
        let completed = self.moment(time_ns);
        let operation = &mut self.operations[id.index()];
        assert!(operation.completed.is_none(), "{id} is completed twice");
        operation.completed = Some(completed);
        operation.outcome = outcome;
        operation
    }

    fn moment(&mut self, time_ns: u64) -> Moment {
        let event = self.events;
        self.events = event.checked_add(1).expect("a history has fewer than 2^32 events");
        Moment { event, time_ns }
    }

    /// Every event, in order.
    pub(crate) fn events(&self) -> Vec<Event> {
        let unset = Event::Invoked(OperationId(u32::MAX));
        let mut events = vec![unset; self.events as usize];
        for (at, operation) in self.operations.iter().enumerate() {
            let id = OperationId(count_u32(at));
            events[operation.invoked.event as usize] = Event::Invoked(id);
            if let Some(completed) = operation.completed {
                events[completed.event as usize] = Event::Completed(id);
            }
        }
        events
    }
}

/// Counts of a history fit 32 bits, since each of its events does.
pub(crate) fn count_u32(count: usize) -> u32 {
    u32::try_from(count).expect("a history has fewer than 2^32 of anything")
}
