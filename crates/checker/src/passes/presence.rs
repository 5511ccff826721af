//! Records that are missing, or where or what they should not be.

use crate::anomaly::{Finding, LISTED};
use crate::findings::Findings;
use crate::history::{Key, OperationId, Outcome, count_u32};
use crate::tables::Tables;

/// One record at several offsets; several at one.
pub(crate) fn placement(tables: &Tables, findings: &mut Findings) {
    for (record, positions) in &tables.log.duplicates {
        findings.note(Finding::Duplicate {
            key: tables.records.keys[*record as usize],
            value: tables.records.values[*record as usize],
            count: positions.len() as u64,
            offsets: positions.iter().take(LISTED).map(|position| tables.offset(*position)).collect(),
        });
    }
    for (position, records) in &tables.log.conflicts {
        findings.note(Finding::InconsistentOffsets {
            key: tables.records.keys[records[0] as usize],
            offset: tables.offset(*position),
            count: records.len() as u64,
            values: records.iter().take(LISTED).map(|record| tables.records.values[*record as usize]).collect(),
        });
    }
}

/// Polls that returned what they never may: records nobody sent, failed writes, the operation's own.
pub(crate) fn reads(tables: &Tables, findings: &mut Findings) {
    let mut reported = vec![false; tables.records.len()];
    for id in tables.ids() {
        let outcome = tables.outcome(id);
        for read in tables.reads(id) {
            let (key, value, offset) = (tables.key(*read), tables.value(*read), tables.offset(read.position));
            match tables.writer(read.record) {
                None => {
                    if !std::mem::replace(&mut reported[read.record as usize], true) {
                        findings.note(Finding::NeverSent { key, value, offset, reader: id });
                    }
                }
                Some(writer) if writer == id => {
                    findings.note(Finding::PrecommittedRead { key, value, offset, operation: id });
                }
                Some(writer) => {
                    let failed = tables.outcome(writer) == Outcome::Fail;
                    if failed && outcome == Outcome::Ok {
                        findings.note(Finding::AbortedRead { key, value, offset, writer, reader: id });
                    }
                }
            }
        }
    }
}

/// The furthest that an operation which is ok has read of a key.
#[derive(Clone, Copy)]
struct Furthest {
    position: u32,
    reader: OperationId,
}

/// Whoever reads a record tells that all before it could be read; if nobody did, they are lost.
pub(crate) fn lost_writes(tables: &Tables, findings: &mut Findings) {
    let mut furthest: Vec<Option<Furthest>> = vec![None; tables.history.key_count()];
    for id in tables.ids().filter(|id| tables.outcome(*id) == Outcome::Ok) {
        for read in tables.reads(id) {
            let furthest = &mut furthest[tables.key(*read).index()];
            if furthest.is_none_or(|furthest| furthest.position < read.position) {
                *furthest = Some(Furthest { position: read.position, reader: id });
            }
        }
    }
    for key in (0..count_u32(furthest.len())).map(Key) {
        let Some(furthest) = furthest[key.index()] else { continue };
        lost_writes_of(tables, key, furthest, findings);
    }
}

fn lost_writes_of(tables: &Tables, key: Key, furthest: Furthest, findings: &mut Findings) {
    let mut lose = |record: u32, position: u32| {
        let at = record as usize;
        // What is also further on may still be read there.
        let due = tables.records.last_positions[at] <= furthest.position;
        // At several places it is lost once.
        let first = tables.records.first_positions[at] == position;
        if !first || !due || tables.records.read[at] {
            return;
        }
        if let Some(writer) = tables.writer(record).filter(|writer| tables.is_committed(*writer)) {
            findings.note(Finding::LostWrite {
                key,
                value: tables.records.values[at],
                offset: tables.offset(position),
                writer,
                read_offset: tables.offset(furthest.position),
                reader: furthest.reader,
            });
        }
    };
    let range = tables.log.range(key);
    let from = tables.log.conflicts.partition_point(|(position, _)| *position < range.start);
    let mut conflicts = tables.log.conflicts[from..].iter().peekable();
    for position in range.start..=furthest.position {
        match conflicts.next_if(|(at, _)| *at == position) {
            Some((_, records)) => records.iter().for_each(|record| lose(*record, position)),
            None => lose(tables.log.records[position as usize], position),
        }
    }
}
