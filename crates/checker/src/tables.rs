//! A history as flat tables: what every pass of the analysis reads.
//!
//! Records get dense numbers, operations their sends and reads as ranges of one array, and all partitions one log: the
//! records known of each partition in the order of their offsets, without the holes that markers leave. A place in it is a
//! *position*: within a partition the difference of two positions is how many known records lie between them.

use std::collections::HashMap;
use std::ops::Range;

use crate::history::{History, Key, OperationId, Outcome, Step, Value, count_u32};

/// No position, no operation.
pub(crate) const NONE: u32 = u32::MAX;

/// A history that breaks a rule every analysis relies on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedHistory {
    #[error("value {value} was sent to {key} by {first} and by {second}: each is sent once")]
    ValueSentTwice { key: String, value: Value, first: OperationId, second: OperationId },
}

/// One send of an operation, or one record a poll of it returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    /// The record's number.
    pub record: u32,
    /// Where in the log; [`NONE`] for a send of which nobody knows.
    pub position: u32,
}

/// What is known of each record, by its number.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub keys: Vec<Key>,
    pub values: Vec<Value>,
    /// The operation that sent it, or [`NONE`].
    pub writers: Vec<u32>,
    /// Whether an operation that is ok polled it.
    pub read: Vec<bool>,
    /// The positions it was first and last at, or [`NONE`].
    pub first_positions: Vec<u32>,
    pub last_positions: Vec<u32>,
    numbers: HashMap<(Key, Value), u32>,
}

impl Records {
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The number of a record that someone mentioned.
    pub fn find(&self, key: Key, value: Value) -> Option<u32> {
        self.numbers.get(&(key, value)).copied()
    }

    fn is(&self, record: u32, key: Key, value: Value) -> bool {
        self.values.get(record as usize) == Some(&value) && self.keys[record as usize] == key
    }

    fn number(&mut self, key: Key, value: Value) -> u32 {
        let next = count_u32(self.keys.len());
        let number = *self.numbers.entry((key, value)).or_insert(next);
        if number == next {
            self.keys.push(key);
            self.values.push(value);
            self.writers.push(NONE);
            self.read.push(false);
            self.first_positions.push(NONE);
            self.last_positions.push(NONE);
        }
        number
    }
}

/// Every partition's records in the order of their offsets.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// By position.
    pub offsets: Vec<i64>,
    /// By position, the record there; of several the one mentioned first.
    pub records: Vec<u32>,
    /// By key, its first position; one more entry for the end.
    starts: Vec<u32>,
    /// Positions with several records, and all of these.
    pub conflicts: Vec<(u32, Vec<u32>)>,
    /// Records that are at more than one position, and those positions.
    pub duplicates: Vec<(u32, Vec<u32>)>,
}

impl Log {
    /// The positions of a key.
    pub fn range(&self, key: Key) -> Range<u32> {
        self.starts[key.index()]..self.starts[key.index() + 1]
    }

    /// Where this offset of a key is, if any record is known there.
    pub fn position(&self, key: Key, offset: i64) -> Option<u32> {
        let range = self.range(key);
        let offsets = &self.offsets[range.start as usize..range.end as usize];
        // Without holes the difference of the offsets says it.
        let guess = offset.checked_sub(*offsets.first()?).and_then(|at| usize::try_from(at).ok());
        let at = match guess {
            Some(guess) if offsets.get(guess) == Some(&offset) => guess,
            _ => offsets.binary_search(&offset).ok()?,
        };
        Some(range.start + count_u32(at))
    }
}

/// The tables of one history.
#[derive(Debug)]
pub(crate) struct Tables<'h> {
    pub history: &'h History,
    pub records: Records,
    pub log: Log,
    sends: Vec<Touch>,
    reads: Vec<Touch>,
    /// By operation, where its sends and reads begin; one more entry for the end.
    send_starts: Vec<u32>,
    read_starts: Vec<u32>,
    /// By operation; what is asked for in no order is kept small.
    outcomes: Vec<Outcome>,
    /// By operation, whether its writes have taken effect for certain.
    committed: Vec<bool>,
}

/// A record at an offset of a key, as someone mentioned it.
type Mention = (Key, i64, u32);

/// The tables before the log is known: nothing has a position.
struct Draft {
    records: Records,
    sends: Vec<Touch>,
    reads: Vec<Touch>,
    send_starts: Vec<u32>,
    read_starts: Vec<u32>,
}

impl<'h> Tables<'h> {
    pub fn new(history: &'h History) -> Result<Tables<'h>, MalformedHistory> {
        let Draft { mut records, mut sends, mut reads, send_starts, read_starts } = draft(history)?;
        let committed: Vec<bool> = (0..history.operations().len())
            .map(|at| match history.operations()[at].outcome {
                Outcome::Ok => true,
                Outcome::Fail => false,
                // One of its records was seen, so all of it happened.
                Outcome::Info => {
                    let sends = &sends[send_starts[at] as usize..send_starts[at + 1] as usize];
                    sends.iter().any(|send| records.read[send.record as usize])
                }
            })
            .collect();
        let log = log(mentions(history, &committed, &records, &sends, &reads), history.key_count(), &mut records);

        let (mut next_send, mut next_read) = (sends.iter_mut(), reads.iter_mut());
        for (operation, committed) in history.operations().iter().zip(&committed) {
            for step in operation.steps() {
                match step {
                    Step::Send { key, offset, .. } => {
                        let told = offset.filter(|_| *committed).and_then(|offset| log.position(*key, offset));
                        let send = next_send.next().expect("a draft of every send");
                        send.position = told.unwrap_or(records.first_positions[send.record as usize]);
                    }
                    Step::Poll(polled) => {
                        for (polled, read) in polled.iter().zip(&mut next_read) {
                            let position = log.position(polled.key, polled.offset);
                            read.position = position.expect("what is polled is in the log");
                        }
                    }
                }
            }
        }
        let outcomes = history.operations().iter().map(|operation| operation.outcome).collect();
        Ok(Tables { history, records, log, sends, reads, send_starts, read_starts, outcomes, committed })
    }

    /// An operation's sends, in order.
    pub fn sends(&self, id: OperationId) -> &[Touch] {
        let at = id.index();
        &self.sends[self.send_starts[at] as usize..self.send_starts[at + 1] as usize]
    }

    /// What an operation's polls returned, in order.
    pub fn reads(&self, id: OperationId) -> &[Touch] {
        let at = id.index();
        &self.reads[self.read_starts[at] as usize..self.read_starts[at + 1] as usize]
    }

    pub fn outcome(&self, id: OperationId) -> Outcome {
        self.outcomes[id.index()]
    }

    /// Whether an operation's writes have taken effect for certain.
    pub fn is_committed(&self, id: OperationId) -> bool {
        self.committed[id.index()]
    }

    pub fn key(&self, touch: Touch) -> Key {
        self.records.keys[touch.record as usize]
    }

    pub fn value(&self, touch: Touch) -> Value {
        self.records.values[touch.record as usize]
    }

    /// Who sent a record.
    pub fn writer(&self, record: u32) -> Option<OperationId> {
        let writer = self.records.writers[record as usize];
        (writer != NONE).then_some(OperationId(writer))
    }

    /// The offset at a position.
    pub fn offset(&self, position: u32) -> i64 {
        self.log.offsets[position as usize]
    }

    /// Every operation, in the order of invocations.
    pub fn ids(&self) -> impl Iterator<Item = OperationId> + use<> {
        (0..count_u32(self.committed.len())).map(OperationId)
    }
}

fn draft(history: &History) -> Result<Draft, MalformedHistory> {
    let mut records = Records::default();
    let (mut sends, mut reads) = (Vec::new(), Vec::new());
    let (mut send_starts, mut read_starts) = (vec![0], vec![0]);
    // Consumers read the same log: what came after a record last time comes after it again.
    let mut followers: Vec<u32> = Vec::new();
    for (at, operation) in history.operations().iter().enumerate() {
        let id = OperationId(count_u32(at));
        for step in operation.steps() {
            match step {
                Step::Send { key, value, .. } => {
                    let record = records.number(*key, *value);
                    let writer = &mut records.writers[record as usize];
                    if *writer != NONE {
                        return Err(MalformedHistory::ValueSentTwice {
                            key: history.key_name(*key).to_owned(),
                            value: *value,
                            first: OperationId(*writer),
                            second: id,
                        });
                    }
                    *writer = id.0;
                    sends.push(Touch { record, position: NONE });
                }
                Step::Poll(polled) => {
                    let mut before = NONE;
                    for polled in polled {
                        let guess = followers.get(before as usize).copied().unwrap_or(NONE);
                        let record = if records.is(guess, polled.key, polled.value) {
                            guess
                        } else {
                            records.number(polled.key, polled.value)
                        };
                        followers.resize(records.len(), NONE);
                        if before != NONE {
                            followers[before as usize] = record;
                        }
                        before = record;
                        records.read[record as usize] |= operation.outcome == Outcome::Ok;
                        reads.push(Touch { record, position: NONE });
                    }
                }
            }
        }
        send_starts.push(count_u32(sends.len()));
        read_starts.push(count_u32(reads.len()));
    }
    Ok(Draft { records, sends, reads, send_starts, read_starts })
}

/// Where records were said to be.
///
/// Offsets of sends count only where these have taken effect; those of polls always: a consumer is never to be given what
/// is not there, however its own operation ends.
fn mentions(
    history: &History,
    committed: &[bool],
    records: &Records,
    sends: &[Touch],
    reads: &[Touch],
) -> Vec<Mention> {
    let mut mentions = Vec::with_capacity(records.len());
    // Most are only mentioned again where they were mentioned last.
    let mut last_offsets: Vec<Option<i64>> = vec![None; records.len()];
    let mut mention = |key: Key, offset: i64, record: u32| {
        if last_offsets[record as usize].replace(offset) != Some(offset) {
            mentions.push((key, offset, record));
        }
    };
    let (mut next_send, mut next_read) = (sends.iter(), reads.iter());
    for (operation, committed) in history.operations().iter().zip(committed) {
        for step in operation.steps() {
            match step {
                Step::Send { key, offset, .. } => {
                    let send = next_send.next().expect("a draft of every send");
                    if let Some(offset) = offset.filter(|_| *committed) {
                        mention(*key, offset, send.record);
                    }
                }
                Step::Poll(polled) => {
                    for (polled, read) in polled.iter().zip(&mut next_read) {
                        mention(polled.key, polled.offset, read.record);
                    }
                }
            }
        }
    }
    mentions
}

fn log(mut mentions: Vec<Mention>, key_count: usize, records: &mut Records) -> Log {
    mentions.sort_unstable();
    mentions.dedup();
    let mut log = Log::default();
    let mut moved: Vec<(u32, u32)> = Vec::new();
    let mut here: Vec<u32> = Vec::new();
    for group in mentions.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
        let (key, offset, record) = group[0];
        let position = count_u32(log.offsets.len());
        log.starts.resize(log.starts.len().max(key.index() + 1), position);
        log.offsets.push(offset);
        log.records.push(record);
        here.clear();
        here.extend(group.iter().map(|(_, _, record)| *record));
        if here.len() > 1 {
            log.conflicts.push((position, here.clone()));
        }
        for record in &here {
            let at = *record as usize;
            if records.first_positions[at] == NONE {
                records.first_positions[at] = position;
            } else {
                if records.first_positions[at] == records.last_positions[at] {
                    moved.push((*record, records.first_positions[at]));
                }
                moved.push((*record, position));
            }
            records.last_positions[at] = position;
        }
    }
    log.starts.resize(key_count + 1, count_u32(log.offsets.len()));
    moved.sort_unstable();
    let same = moved.chunk_by(|one, other| one.0 == other.0);
    log.duplicates = same.map(|of| (of[0].0, of.iter().map(|(_, position)| *position).collect())).collect();
    log
}
