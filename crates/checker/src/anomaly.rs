//! The anomalies and what a finding of each consists of.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::history::{Key, OperationId, Value};

/// What can be wrong with a history; the names are those of Jepsen's analyses of Kafka and Redpanda.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Anomaly {
    /// An acknowledged record that no consumer was given, though one was given a later record of its partition.
    LostWrite,
    /// An acknowledged record that no consumer was given: lost, or only late when nobody read to the end.
    Unseen,
    /// A consumer was given a record that nobody had sent.
    NeverSent,
    /// A consumer was given a record whose write had failed (Adya's G1a).
    AbortedRead,
    /// A transaction was given a record it had sent itself.
    PrecommittedRead,
    /// One record at several offsets.
    Duplicate,
    /// Several records at one offset.
    InconsistentOffsets,
    /// Inside one operation, polls left out a record.
    IntPollSkip,
    /// Inside one operation, polls went back or stood still.
    IntNonmonotonicPoll,
    /// From one operation of a process to its next, polls left out a record.
    PollSkip,
    /// From one operation of a process to its next, polls went back or stood still.
    NonmonotonicPoll,
    /// Inside one operation, other records lie between those sent one after the other: usual.
    IntSendSkip,
    /// Inside one operation, a later send lies before an earlier one.
    IntNonmonotonicSend,
    /// A process's later send lies before its earlier one.
    NonmonotonicSend,
    /// Writes of operations lie before each other in a circle: usual, since nothing isolates writes.
    G0,
    /// As `G0`, by the order of a process.
    G0Process,
    /// As `G0`, by the order of time.
    G0Realtime,
    /// Operations see each other's writes in a circle.
    G1c,
    /// As `G1c`, by the order of a process.
    G1cProcess,
    /// As `G1c`, by the order of time.
    G1cRealtime,
}

impl Anomaly {
    pub const ALL: [Anomaly; 20] = [
        Anomaly::LostWrite,
        Anomaly::Unseen,
        Anomaly::NeverSent,
        Anomaly::AbortedRead,
        Anomaly::PrecommittedRead,
        Anomaly::Duplicate,
        Anomaly::InconsistentOffsets,
        Anomaly::IntPollSkip,
        Anomaly::IntNonmonotonicPoll,
        Anomaly::PollSkip,
        Anomaly::NonmonotonicPoll,
        Anomaly::IntSendSkip,
        Anomaly::IntNonmonotonicSend,
        Anomaly::NonmonotonicSend,
        Anomaly::G0,
        Anomaly::G0Process,
        Anomaly::G0Realtime,
        Anomaly::G1c,
        Anomaly::G1cProcess,
        Anomaly::G1cRealtime,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Anomaly::LostWrite => "lost-write",
            Anomaly::Unseen => "unseen",
            Anomaly::NeverSent => "never-sent",
            Anomaly::AbortedRead => "G1a",
            Anomaly::PrecommittedRead => "precommitted-read",
            Anomaly::Duplicate => "duplicate",
            Anomaly::InconsistentOffsets => "inconsistent-offsets",
            Anomaly::IntPollSkip => "int-poll-skip",
            Anomaly::IntNonmonotonicPoll => "int-nonmonotonic-poll",
            Anomaly::PollSkip => "poll-skip",
            Anomaly::NonmonotonicPoll => "nonmonotonic-poll",
            Anomaly::IntSendSkip => "int-send-skip",
            Anomaly::IntNonmonotonicSend => "int-nonmonotonic-send",
            Anomaly::NonmonotonicSend => "nonmonotonic-send",
            Anomaly::G0 => "G0",
            Anomaly::G0Process => "G0-process",
            Anomaly::G0Realtime => "G0-realtime",
            Anomaly::G1c => "G1c",
            Anomaly::G1cProcess => "G1c-process",
            Anomaly::G1cRealtime => "G1c-realtime",
        }
    }

    /// Whether a correct cluster may show it. `subscribed`: its group may move the consumer at any time.
    /// `orders_writes`: the order of records in a log was taken for an order of their operations, which nothing promises.
    pub fn is_allowed(self, subscribed: bool, orders_writes: bool) -> bool {
        match self {
            Anomaly::IntSendSkip | Anomaly::G0 | Anomaly::G0Process | Anomaly::G0Realtime => true,
            Anomaly::PollSkip | Anomaly::NonmonotonicPoll => subscribed,
            Anomaly::G1c | Anomaly::G1cProcess | Anomaly::G1cRealtime => orders_writes,
            Anomaly::LostWrite
            | Anomaly::Unseen
            | Anomaly::NeverSent
            | Anomaly::AbortedRead
            | Anomaly::PrecommittedRead
            | Anomaly::Duplicate
            | Anomaly::InconsistentOffsets
            | Anomaly::IntPollSkip
            | Anomaly::IntNonmonotonicPoll
            | Anomaly::IntNonmonotonicSend
            | Anomaly::NonmonotonicSend => false,
        }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl Serialize for Anomaly {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Lists in findings end after this many; their counts do not.
pub const LISTED: usize = 16;

/// One anomaly found, with the operations that prove it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Finding {
    LostWrite {
        key: Key,
        value: Value,
        /// Where it was first known to be.
        offset: i64,
        writer: OperationId,
        /// As far as `reader` read, and so should have somebody.
        read_offset: i64,
        reader: OperationId,
    },
    Unseen {
        key: Key,
        count: u64,
        /// The first of them, by the order of their sends.
        values: Vec<Value>,
    },
    NeverSent {
        key: Key,
        value: Value,
        offset: i64,
        reader: OperationId,
    },
    AbortedRead {
        key: Key,
        value: Value,
        offset: i64,
        writer: OperationId,
        reader: OperationId,
    },
    PrecommittedRead {
        key: Key,
        value: Value,
        offset: i64,
        operation: OperationId,
    },
    Duplicate {
        key: Key,
        value: Value,
        count: u64,
        /// The first of them.
        offsets: Vec<i64>,
    },
    InconsistentOffsets {
        key: Key,
        offset: i64,
        count: u64,
        /// The first of them, by the order of their first mention.
        values: Vec<Value>,
    },
    IntPollSkip(Jump),
    IntNonmonotonicPoll(Jump),
    PollSkip(Jump),
    NonmonotonicPoll(Jump),
    IntSendSkip(Jump),
    IntNonmonotonicSend(Jump),
    NonmonotonicSend(Jump),
    Cycle(Cycle),
}

impl Finding {
    pub fn anomaly(&self) -> Anomaly {
        match self {
            Finding::LostWrite { .. } => Anomaly::LostWrite,
            Finding::Unseen { .. } => Anomaly::Unseen,
            Finding::NeverSent { .. } => Anomaly::NeverSent,
            Finding::AbortedRead { .. } => Anomaly::AbortedRead,
            Finding::PrecommittedRead { .. } => Anomaly::PrecommittedRead,
            Finding::Duplicate { .. } => Anomaly::Duplicate,
            Finding::InconsistentOffsets { .. } => Anomaly::InconsistentOffsets,
            Finding::IntPollSkip(_) => Anomaly::IntPollSkip,
            Finding::IntNonmonotonicPoll(_) => Anomaly::IntNonmonotonicPoll,
            Finding::PollSkip(_) => Anomaly::PollSkip,
            Finding::NonmonotonicPoll(_) => Anomaly::NonmonotonicPoll,
            Finding::IntSendSkip(_) => Anomaly::IntSendSkip,
            Finding::IntNonmonotonicSend(_) => Anomaly::IntNonmonotonicSend,
            Finding::NonmonotonicSend(_) => Anomaly::NonmonotonicSend,
            Finding::Cycle(cycle) => cycle.anomaly,
        }
    }
}

/// Two polls or sends that should follow each other in the log, and do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jump {
    pub key: Key,
    pub from: Place,
    pub to: Place,
    /// How many known records further: 1 would be right, more is a skip, less is not monotonic.
    pub delta: i64,
    /// The first records in between, if it is a skip.
    pub skipped: Vec<Value>,
}

/// A record as one operation sent or saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub operation: OperationId,
    pub offset: i64,
    pub value: Value,
}

/// Operations each of which came before the next, and the last before the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cycle {
    #[serde(skip)]
    pub anomaly: Anomaly,
    /// Begins with the cycle's first operation.
    pub steps: Vec<CycleStep>,
}

/// Why one operation came before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CycleStep {
    pub from: OperationId,
    pub to: OperationId,
    pub because: Because,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "edge")]
pub enum Because {
    /// `from` wrote `before`, and `to` wrote `after`, the next record of the partition.
    Ww { key: Key, before: Value, after: Value },
    /// `to` was given a record that `from` wrote.
    Wr { key: Key, value: Value },
    /// One process did `from` and then `to`.
    Process,
    /// `from` had completed when `to` was invoked.
    Realtime,
}
