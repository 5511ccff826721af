//! Histories as lines of JSON: one event a line, in the order they happened.
//!
//! ```text
//! {"process":0,"time":1000,"type":"invoke","f":"txn","steps":[{"send":["orders-0",null,17]},{"poll":[]}]}
//! {"process":0,"time":2000,"type":"ok","f":"txn","steps":[{"send":["orders-0",5,17]},{"poll":[["orders-1",2,9]]}]}
//! {"process":0,"time":3000,"type":"invoke","f":"assign","keys":["orders-0"],"seek_to_beginning":true}
//! {"process":0,"time":4000,"type":"info","f":"assign","keys":["orders-0"],"error":"timed out"}
//! ```
//!
//! A completion repeats its invocation's sends with the offsets they were acknowledged at (`null`: unknown), and has what
//! the polls returned as key, offset, value; one without `steps` says nothing of either. Times are nanoseconds and never go
//! back. A client that writes this need not know anything else, in whatever language it is.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};

use crate::history::{Action, Event, History, Key, Operation, OperationId, Outcome, Process, Record, Step, Value};

/// A line may be this long: far more than one poll returns.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// A history that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the history")]
pub struct ReadError {
    pub line: u64,
    #[source]
    pub problem: ReadProblem,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum ReadProblem {
    #[error(transparent)]
    Io(io::Error),
    #[error(transparent)]
    Json(serde_json::Error),
    #[error("it is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    #[error("its time is {time_ns}, after an event at {last_ns}")]
    TimeGoesBack { time_ns: u64, last_ns: u64 },
    #[error("{process} begins something before {unfinished} has ended")]
    ProcessIsBusy { process: Process, unfinished: OperationId },
    #[error("{process} completes what it had not begun")]
    NotInvoked { process: Process },
    #[error("{process} completes something else than it had begun")]
    CompletionDiffers { process: Process },
    #[error("a record has the offset {offset}")]
    NegativeOffset { offset: i64 },
    #[error("there are more than {} events", u32::MAX)]
    TooManyEvents,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> From<&'a str> for Name<'a> {
    fn from(name: &'a str) -> Self {
        Name(Cow::Borrowed(name))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    process: u32,
    time: u64,
    #[serde(rename = "type")]
    end: End,
    f: Function,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<LineStep<'a>>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Name<'a>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    seek_to_beginning: bool,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    rebalanced: Vec<Name<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    error: Option<Name<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum End {
    Invoke,
    Ok,
    Fail,
    Info,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Function {
    Assign,
    Subscribe,
    Send,
    Poll,
    Txn,
    Crash,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineStep<'a> {
    Send(#[serde(borrow)] Name<'a>, Option<i64>, u64),
    Poll(#[serde(borrow)] Vec<(Name<'a>, i64, u64)>),
}

impl History {
    /// Writes every event as a line.
    pub fn write_jsonl(&self, mut to: impl Write) -> io::Result<()> {
        for event in self.events() {
            let line = match event {
                Event::Invoked(id) => self.line(self.operation(id), None),
                Event::Completed(id) => {
                    let operation = self.operation(id);
                    self.line(operation, operation.completed.map(|completed| completed.time_ns))
                }
            };
            serde_json::to_writer(&mut to, &line)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }

    /// The line of an operation's completion, at this time, or of its invocation.
    fn line<'a>(&'a self, operation: &'a Operation, completed_ns: Option<u64>) -> Line<'a> {
        let names = |keys: &[Key]| keys.iter().map(|key| self.key_name(*key).into()).collect();
        let (keys, seek_to_beginning) = match &operation.action {
            Action::Assign { keys, seek_to_beginning } => (names(keys), *seek_to_beginning),
            Action::Subscribe { keys } => (names(keys), false),
            Action::Transact(_) | Action::Crash => (Vec::new(), false),
        };
        let steps = match &operation.action {
            Action::Transact(steps) => {
                Some(steps.iter().map(|step| self.line_step(step, completed_ns.is_some())).collect())
            }
            Action::Assign { .. } | Action::Subscribe { .. } | Action::Crash => None,
        };
        let completion = completed_ns.is_some();
        Line {
            process: operation.process.0,
            time: completed_ns.unwrap_or(operation.invoked.time_ns),
            end: match (completion, operation.outcome) {
                (false, _) => End::Invoke,
                (true, Outcome::Ok) => End::Ok,
                (true, Outcome::Fail) => End::Fail,
                (true, Outcome::Info) => End::Info,
            },
            f: function(&operation.action),
            steps,
            keys,
            seek_to_beginning,
            rebalanced: if completion { names(&operation.rebalanced) } else { Vec::new() },
            error: operation.error.as_deref().filter(|_| completion).map(Name::from),
        }
    }

    fn line_step(&self, step: &Step, completion: bool) -> LineStep<'_> {
        match step {
            Step::Send { key, value, offset } => {
                LineStep::Send(self.key_name(*key).into(), offset.filter(|_| completion), value.0)
            }
            Step::Poll(records) => {
                let shown = if completion { records.as_slice() } else { &[] };
                let record = |record: &Record| (self.key_name(record.key).into(), record.offset, record.value.0);
                LineStep::Poll(shown.iter().map(record).collect())
            }
        }
    }

    /// Reads what [`History::write_jsonl`] or a client elsewhere wrote.
    pub fn read_jsonl(mut from: impl BufRead) -> Result<History, ReadError> {
        let mut reader = Reader::default();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let at = |problem| ReadError { line: number, problem };
            let read = from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
            match read.map_err(|error| at(ReadProblem::Io(error)))? {
                0 => break,
                read if read as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') => {
                    return Err(at(ReadProblem::TooLong));
                }
                _ => {}
            }
            if !line.trim_ascii().is_empty() {
                reader.line(&line).map_err(at)?;
            }
        }
        Ok(reader.history)
    }
}

#[derive(Default)]
struct Reader {
    history: History,
    /// What each process has begun and not ended.
    open: HashMap<Process, OperationId>,
    last_ns: u64,
    events: u32,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), ReadProblem> {
        let line: Line = serde_json::from_slice(line).map_err(ReadProblem::Json)?;
        self.events = self.events.checked_add(1).ok_or(ReadProblem::TooManyEvents)?;
        if line.time < self.last_ns {
            return Err(ReadProblem::TimeGoesBack { time_ns: line.time, last_ns: self.last_ns });
        }
        self.last_ns = line.time;
        let process = Process(line.process);
        let outcome = match line.end {
            End::Invoke => return self.invoke(process, line),
            End::Ok => Outcome::Ok,
            End::Fail => Outcome::Fail,
            End::Info => Outcome::Info,
        };
        self.complete(process, outcome, line)
    }

    fn invoke(&mut self, process: Process, line: Line) -> Result<(), ReadProblem> {
        if let Some(unfinished) = self.open.get(&process) {
            return Err(ReadProblem::ProcessIsBusy { process, unfinished: *unfinished });
        }
        let time_ns = line.time;
        let action = self.action(line, None)?;
        let id = self.history.invoke(process, time_ns, action);
        self.open.insert(process, id);
        Ok(())
    }

    fn complete(&mut self, process: Process, outcome: Outcome, mut line: Line) -> Result<(), ReadProblem> {
        let id = self.open.remove(&process).ok_or(ReadProblem::NotInvoked { process })?;
        let invoked = self.history.operation(id).action.clone();
        if line.f != function(&invoked) && !(is_steps(line.f) && matches!(invoked, Action::Transact(_))) {
            return Err(ReadProblem::CompletionDiffers { process });
        }
        let time_ns = line.time;
        let rebalanced = std::mem::take(&mut line.rebalanced);
        let rebalanced = rebalanced.into_iter().map(|name| self.history.key(&name.0)).collect();
        let error = line.error.take().map(|error| error.0.into());
        let action = self.action(line, Some(&invoked))?;
        if !completes(&invoked, &action) {
            return Err(ReadProblem::CompletionDiffers { process });
        }
        let operation = self.history.complete(id, time_ns, outcome);
        operation.action = action;
        operation.rebalanced = rebalanced;
        operation.error = error;
        Ok(())
    }

    /// What a line says is done; a completion that does not say is of what was invoked.
    fn action(&mut self, line: Line, invoked: Option<&Action>) -> Result<Action, ReadProblem> {
        let keys: Vec<Key> = line.keys.into_iter().map(|name| self.history.key(&name.0)).collect();
        Ok(match line.f {
            Function::Assign | Function::Subscribe if keys.is_empty() && invoked.is_some() => {
                invoked.cloned().unwrap_or(Action::Crash)
            }
            Function::Assign => {
                let rewound = matches!(invoked, Some(Action::Assign { seek_to_beginning: true, .. }));
                Action::Assign { keys, seek_to_beginning: line.seek_to_beginning || rewound }
            }
            Function::Subscribe => Action::Subscribe { keys },
            Function::Crash => Action::Crash,
            Function::Send | Function::Poll | Function::Txn => match (line.steps, invoked) {
                (Some(steps), _) => {
                    Action::Transact(steps.into_iter().map(|step| self.step(step)).collect::<Result<_, _>>()?)
                }
                (None, Some(invoked)) => invoked.clone(),
                (None, None) => Action::Transact(Vec::new()),
            },
        })
    }

    fn step(&mut self, step: LineStep) -> Result<Step, ReadProblem> {
        let check = |offset: i64| if offset < 0 { Err(ReadProblem::NegativeOffset { offset }) } else { Ok(offset) };
        Ok(match step {
            LineStep::Send(name, offset, value) => {
                let offset = offset.map(check).transpose()?;
                Step::Send { key: self.history.key(&name.0), value: Value(value), offset }
            }
            LineStep::Poll(records) => {
                let records = records.into_iter().map(|(name, offset, value)| {
                    Ok(Record { key: self.history.key(&name.0), offset: check(offset)?, value: Value(value) })
                });
                Step::Poll(records.collect::<Result<_, _>>()?)
            }
        })
    }
}

fn function(action: &Action) -> Function {
    match action {
        Action::Assign { .. } => Function::Assign,
        Action::Subscribe { .. } => Function::Subscribe,
        Action::Crash => Function::Crash,
        Action::Transact(_) => match action.name() {
            "send" => Function::Send,
            "poll" => Function::Poll,
            _ => Function::Txn,
        },
    }
}

/// `send`, `poll` and `txn` are one thing: the steps say which.
fn is_steps(function: Function) -> bool {
    matches!(function, Function::Send | Function::Poll | Function::Txn)
}

/// Whether a completion is of what was invoked: the same keys, the same sends and polls.
fn completes(invoked: &Action, completed: &Action) -> bool {
    match (invoked, completed) {
        (Action::Assign { keys: before, .. }, Action::Assign { keys: after, .. })
        | (Action::Subscribe { keys: before }, Action::Subscribe { keys: after }) => before == after,
        (Action::Crash, Action::Crash) => true,
        (Action::Transact(before), Action::Transact(after)) => {
            let same = |(before, after): (&Step, &Step)| match (before, after) {
                (Step::Send { key, value, .. }, Step::Send { key: of, value: now, .. }) => key == of && value == now,
                (Step::Poll(_), Step::Poll(_)) => true,
                _ => false,
            };
            before.len() == after.len() && before.iter().zip(after).all(same)
        }
        _ => false,
    }
}
