//! The transaction indexes of a log, and what its last stable offset waits for.
//!
//! What an index says of offsets below the newest producer snapshot was durable, and is kept if it can be right. The rest
//! comes from the batches, which are read for the producers anyway. An index that cannot be right, or is missing together
//! with its segment's other indexes, is made from an older snapshot and all batches after it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use ottla_rt::DirEntry;

use super::producers::{load_snapshot, replay};
use super::{RecoveryInput, io_error, segment_error};
use crate::error::RecoveryError;
use crate::names;
use crate::partition::is_no_space;
use crate::producers::Producers;
use crate::segment::Segment;
use crate::transactions::{CompletedTransaction, IndexWriter, InvalidTransactionIndex};

/// What a segment's index is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// So many entries are right; the file may have more.
    Entries(u64),
    /// It is made anew, from the segment's first batch on.
    Unusable {
        is_there: bool,
    },
}

/// The indexes of a log as they were found.
pub(super) struct TransactionIndexes<'a> {
    input: &'a RecoveryInput,
    segments: &'a [Arc<Segment>],
    found: Vec<Found>,
    log_end_offset: i64,
}

/// The producers at the log's end, and what came out on the way there.
pub(super) struct RecoveredTransactions {
    pub(super) producers: Producers,
    /// First and last offset of ended transactions whose markers the high watermark has not passed.
    pub(super) unreplicated: Vec<(i64, i64)>,
    pub(super) unsynced: Vec<Arc<Segment>>,
}

impl<'a> TransactionIndexes<'a> {
    /// Looks at the indexes. What they say of offsets from `trusted_below` on is not taken from them.
    pub(super) fn check(
        input: &'a RecoveryInput,
        listed: &[DirEntry],
        segments: &'a [Arc<Segment>],
        trusted_below: i64,
        log_end_offset: i64,
    ) -> Result<TransactionIndexes<'a>, RecoveryError> {
        let files: BTreeMap<i64, u64> = listed
            .iter()
            .filter_map(|entry| {
                Some((names::parse_offset_file(&entry.name, names::TRANSACTION_INDEX_SUFFIX)?, entry.len))
            })
            .collect();
        let indexed: BTreeSet<i64> = listed
            .iter()
            .filter_map(|entry| names::parse_offset_file(&entry.name, names::OFFSET_INDEX_SUFFIX))
            .collect();
        // A segment that is made anew took away what it found under its name.
        let logs: BTreeSet<i64> =
            listed.iter().filter_map(|entry| names::parse_offset_file(&entry.name, names::LOG_SUFFIX)).collect();
        let mut found = Vec::with_capacity(segments.len());
        for (index, segment) in segments.iter().enumerate() {
            let end_offset = segments.get(index + 1).map_or(log_end_offset, |next| next.base_offset);
            found.push(match files.get(&segment.base_offset).filter(|_| logs.contains(&segment.base_offset)) {
                Some(_) if segment.base_offset >= trusted_below => Found::Entries(0),
                Some(len) => check_one(input, segment, *len, end_offset, trusted_below)?,
                // Somebody has removed the indexes, to have them made anew.
                None if segment.size() > 0 && !indexed.contains(&segment.base_offset) => {
                    Found::Unusable { is_there: false }
                }
                None => Found::Nothing,
            });
        }
        Ok(TransactionIndexes { input, segments, found, log_end_offset })
    }

    /// Replays what follows `producers`, and has every index say what it should.
    pub(super) fn recover(
        mut self,
        producers: Producers,
        snapshots: &[i64],
        log_start_offset: i64,
    ) -> Result<RecoveredTransactions, RecoveryError> {
        let snapshot_offset = producers.end_offset();
        for (found, segment) in self.found.iter_mut().zip(self.segments) {
            // All of it comes from the batches anyway.
            if let Found::Unusable { is_there } = *found
                && segment.base_offset >= snapshot_offset
            {
                *found = if is_there { Found::Entries(0) } else { Found::Nothing };
            }
        }
        let mut unsynced = BTreeSet::new();
        for (index, found) in self.found.iter().enumerate() {
            if let Found::Entries(entries) = *found {
                let kept = self.segments[index].keep_transactions(entries, snapshot_offset);
                if kept.map_err(|source| self.failed("cut index of", source))? {
                    unsynced.insert(index);
                }
            }
        }
        let mut unreplicated = Vec::new();
        let mut sink = |index: usize, completed: &CompletedTransaction| -> io::Result<()> {
            if completed.last_offset >= self.input.high_watermark {
                unreplicated.push((completed.first_offset, completed.last_offset));
            }
            if let Some(aborted) = completed.as_aborted()
                && !self.is_unusable(index)
            {
                self.segments[index].recover_aborted(&aborted)?;
                unsynced.insert(index);
            }
            Ok(())
        };
        let producers = replay(producers, self.segments, self.log_end_offset, &mut sink)
            .map_err(|error| segment_error(self.input, &self.input.path, error))?;
        let unsynced = unsynced.into_iter().map(|index| Arc::clone(&self.segments[index])).collect();
        self.make_anew(snapshots, log_start_offset)?;
        self.complete_sums()?;
        Ok(RecoveredTransactions { producers, unreplicated, unsynced })
    }

    /// Makes the unusable indexes from the batches.
    fn make_anew(&self, snapshots: &[i64], log_start_offset: i64) -> Result<(), RecoveryError> {
        let mut unusable = (0..self.segments.len()).filter(|index| self.is_unusable(*index));
        let Some(first) = unusable.next() else { return Ok(()) };
        let last = unusable.next_back().unwrap_or(first);
        let base_offset = self.segments[first].base_offset;
        let end_offset = self.segments.get(last + 1).map_or(self.log_end_offset, |next| next.base_offset);
        let disk = &*self.input.shared.world.disk;
        let (producers, _) =
            load_snapshot(disk, &self.input.path, snapshots.to_vec(), log_start_offset.min(base_offset), base_offset)
                .map_err(|source| self.failed("read snapshots of", source))?;
        // One at a time: the segments come one after the other.
        let mut writing: Option<(usize, IndexWriter)> = None;
        let mut written = BTreeSet::new();
        let mut sink = |index: usize, completed: &CompletedTransaction| -> io::Result<()> {
            let Some(aborted) = completed.as_aborted().filter(|_| self.is_unusable(index)) else { return Ok(()) };
            if writing.as_ref().is_none_or(|(current, _)| *current != index) {
                let next = self.segments[index].replace_transactions()?;
                if let Some((current, writer)) = writing.replace((index, next)) {
                    self.segments[current].finish_transactions(writer)?;
                }
                written.insert(index);
            }
            match &mut writing {
                Some((_, writer)) => writer.push(aborted),
                None => Ok(()),
            }
        };
        replay(producers, self.segments, end_offset, &mut sink)
            .map_err(|error| segment_error(self.input, &self.input.path, error))?;
        if let Some((current, writer)) = writing {
            self.segments[current]
                .finish_transactions(writer)
                .map_err(|source| self.failed("write index of", source))?;
        }
        for index in (first..=last).filter(|index| self.is_unusable(*index) && !written.contains(index)) {
            self.segments[index].remove_transactions().map_err(|source| self.failed("remove index of", source))?;
        }
        Ok(())
    }

    /// Closed segments have the sums of their indexes beside them: what Apache Kafka wrote has none, and a power loss takes
    /// one at times.
    fn complete_sums(&self) -> Result<(), RecoveryError> {
        for segment in self.segments.iter().rev().skip(1) {
            match segment.complete_transaction_sum() {
                Err(error) if !is_no_space(&error) => return Err(self.failed("write sum of index of", error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn is_unusable(&self, index: usize) -> bool {
        matches!(self.found[index], Found::Unusable { .. })
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> RecoveryError {
        io_error(operation, &self.input.path, source)
    }
}

fn check_one(
    input: &RecoveryInput,
    segment: &Segment,
    len: u64,
    end_offset: i64,
    trusted_below: i64,
) -> Result<Found, RecoveryError> {
    let path = segment.path(names::TRANSACTION_INDEX_SUFFIX);
    let failed = |source| io_error("read", &path, source);
    let verdict = segment.check_transaction_index(len, end_offset).map_err(failed)?;
    let is_other = match segment.read_transaction_sum().map_err(failed)? {
        Some(sum) if sum.entries <= verdict.entries => !segment.has_entries(&sum).map_err(failed)?,
        // Unless the missing ones are of batches that were lost.
        Some(_) => end_offset <= trusted_below,
        None => false,
    };
    let other = InvalidTransactionIndex::OtherEntries { entries: verdict.entries };
    match if is_other { Some(other) } else { verdict.fault } {
        // What follows speaks of batches that were lost, or was being written: these come from the batches.
        Some(fault) if end_offset > trusted_below && fault.is_of_an_end() => Ok(Found::Entries(verdict.entries)),
        Some(fault) => {
            tracing::warn!(
                topic_partition = %input.topic_partition, path = %path.display(), %fault, "transaction index is rebuilt"
            );
            Ok(Found::Unusable { is_there: true })
        }
        None => Ok(Found::Entries(verdict.entries)),
    }
}
