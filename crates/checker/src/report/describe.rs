//! Findings and operations in words.

use std::fmt::Write;

use crate::anomaly::{Because, Cycle, Finding, Jump};
use crate::history::{History, Operation, OperationId, Value};

/// One finding as a sentence.
pub(super) fn describe(history: &History, finding: &Finding) -> String {
    match finding {
        Finding::LostWrite { key, value, offset, writer, read_offset, reader } => format!(
            "{}: {value} at offset {offset}, sent by {writer}, was given to nobody, though {reader} read on to {read_offset}",
            history.key_name(*key)
        ),
        Finding::Unseen { key, count, values } => {
            let more = if *count > values.len() as u64 { ", …" } else { "" };
            format!("{}: {count} acknowledged, given to nobody: {}{more}", history.key_name(*key), list(values))
        }
        Finding::NeverSent { key, value, offset, reader } => {
            format!("{}: {reader} was given {value} at offset {offset}, which nobody sent", history.key_name(*key))
        }
        Finding::AbortedRead { key, value, offset, writer, reader } => format!(
            "{}: {reader} was given {value} at offset {offset}, which {writer} sent and which failed",
            history.key_name(*key)
        ),
        Finding::PrecommittedRead { key, value, offset, operation } => format!(
            "{}: {operation} was given {value} at offset {offset}, which it sent itself",
            history.key_name(*key)
        ),
        Finding::Duplicate { key, value, count, offsets } => {
            let more = if *count > offsets.len() as u64 { ", …" } else { "" };
            format!("{}: {value} is at {count} offsets: {}{more}", history.key_name(*key), list(offsets))
        }
        Finding::InconsistentOffsets { key, offset, count, values } => {
            let more = if *count > values.len() as u64 { ", …" } else { "" };
            format!("{}: {count} values are at offset {offset}: {}{more}", history.key_name(*key), list(values))
        }
        Finding::IntPollSkip(jump) | Finding::PollSkip(jump) => jumped(history, jump, "was given", "leaving out"),
        Finding::IntNonmonotonicPoll(jump) | Finding::NonmonotonicPoll(jump) => jumped(history, jump, "was given", ""),
        Finding::IntSendSkip(jump) => jumped(history, jump, "sent", "with others between:"),
        Finding::IntNonmonotonicSend(jump) | Finding::NonmonotonicSend(jump) => jumped(history, jump, "sent", ""),
        Finding::Cycle(cycle) => circle(history, cycle),
    }
}

fn jumped(history: &History, jump: &Jump, verb: &str, skipped: &str) -> String {
    let Jump { key, from, to, delta, skipped: values } = jump;
    let again = if from.operation == to.operation {
        String::new()
    } else {
        format!("{} of {} {verb} ", to.operation, history.operation(to.operation).process)
    };
    let mut text = format!(
        "{}: {} {verb} {} at offset {}, then {again}{} at offset {}",
        history.key_name(*key),
        from.operation,
        from.value,
        from.offset,
        to.value,
        to.offset
    );
    if !values.is_empty() {
        let more = if *delta - 1 > values.len() as i64 { ", …" } else { "" };
        let _ = write!(text, ", {skipped} {}: {}{more}", delta - 1, list(values));
    }
    text
}

fn circle(history: &History, cycle: &Cycle) -> String {
    let steps = cycle.steps.iter().map(|step| {
        let (from, to) = (step.from, step.to);
        match step.because {
            Because::Ww { key, before, after } => {
                format!("{from} wrote {before} to {} before {to} wrote {after}", history.key_name(key))
            }
            Because::Wr { key, value } => {
                format!("{from} wrote {value} to {}, which {to} was given", history.key_name(key))
            }
            Because::Process => format!("{from} ended before {to} of the same process began"),
            Because::Realtime => format!("{from} ended before {to} began"),
        }
    });
    steps.collect::<Vec<_>>().join("; ")
}

/// An operation as a line, with these of its steps.
pub(super) fn line(id: OperationId, operation: &Operation, steps: &str) -> String {
    let Operation { process, outcome, invoked, completed, .. } = operation;
    let began = seconds(invoked.time_ns);
    let ended = completed.map_or("…".to_owned(), |completed| seconds(completed.time_ns));
    format!("{id} of {process}, {}, {began} to {ended}: {steps}", outcome.name())
}

/// A time or duration in seconds.
pub(super) fn seconds(time_ns: u64) -> String {
    format!("{}.{:06} s", time_ns / 1_000_000_000, time_ns % 1_000_000_000 / 1_000)
}

fn list<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A record in a line: its value and where it is.
pub(super) fn record(value: Value, offset: Option<i64>) -> String {
    match offset {
        Some(offset) => format!("{value}@{offset}"),
        None => format!("{value}@?"),
    }
}
