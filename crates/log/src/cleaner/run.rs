//! One cleaning of one log, in steps: it is given up between any two of them, and a throttle can slow them down.
//!
//! First the keys of the dirty stretch are mapped to their newest offsets, as far as the map goes. Then every segment
//! below that is written anew without what is superseded, group by group; each group's segment takes the place of those
//! it was made from at once. Memory: the map, a batch or two, and what the codecs keep.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_config::LogConfig;
use ottla_record::{DecompressionLimits, OpenBatch};

use super::choice::Dirty;
use super::error::CleanError;
use super::groups::{GroupLimits, SegmentSize, group};
use super::keep::{KeepRules, Kept, UncleanableBatch, clean_batch, control};
use super::offset_map::OffsetMap;
use super::output::CleanedSegment;
use super::read::BatchReader;
use super::transactions::CleanedTransactions;
use crate::names;
use crate::partition::{CleaningView, PartitionLog};
use crate::producers::LastRecord;
use crate::segment::{Segment, SegmentError};
use crate::transactions::SearchError;

/// What a run may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunSettings {
    pub(super) map_bytes: u64,
    pub(super) load_factor: f64,
    /// What is read, and what is written, at a time.
    pub(super) io_bytes: usize,
    /// After so many bytes read and written a step ends.
    pub(super) step_bytes: u64,
    pub(super) hash_key: [u8; 16],
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CleanStats {
    pub(super) mapped_bytes: u64,
    pub(super) keys: u64,
    pub(super) map_bytes: u64,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
    pub(super) records_read: u64,
    pub(super) records_written: u64,
    pub(super) records_without_key: u64,
}

/// What a step did.
pub(super) enum Step {
    /// So many bytes were read and written.
    Moved(u64),
    Finished,
}

pub(super) struct CleanRun {
    log: Arc<PartitionLog>,
    config: Arc<LogConfig>,
    settings: RunSettings,
    view: CleaningView,
    dirty: Dirty,
    now_ms: i64,
    map: OffsetMap,
    /// The last offset the map knows of.
    mapped_to: i64,
    transactions: CleanedTransactions,
    phase: Phase,
    stats: CleanStats,
    /// Files to be removed later.
    deleted: Vec<PathBuf>,
}

enum Phase {
    Starting,
    /// The segment being mapped, by its place in the view.
    Mapping {
        segment: usize,
        reader: Option<Box<BatchReader>>,
    },
    Cleaning {
        groups: VecDeque<Group>,
        current: Option<Box<GroupRun>>,
    },
    Done,
}

/// Segments that become one.
struct Group {
    sources: Vec<Arc<Segment>>,
    /// Where each ends.
    ends: Vec<i64>,
}

struct GroupRun {
    group: Group,
    /// The source being read.
    source: usize,
    reader: Option<BatchReader>,
    output: CleanedSegment,
    /// As the group was begun with.
    transactions_before: CleanedTransactions,
    stats_before: CleanStats,
    last_records: BTreeMap<i64, LastRecord>,
}

impl CleanRun {
    pub(super) fn new(
        log: Arc<PartitionLog>,
        view: CleaningView,
        dirty: Dirty,
        now_ms: i64,
        settings: RunSettings,
    ) -> CleanRun {
        let keys = dirty.first_uncleanable_offset.saturating_sub(dirty.first_dirty_offset).max(0) as u64;
        let map = OffsetMap::new(settings.map_bytes, settings.load_factor, keys, settings.hash_key);
        CleanRun {
            config: log.config(),
            log,
            settings,
            dirty,
            now_ms,
            map,
            mapped_to: dirty.first_dirty_offset.saturating_sub(1),
            transactions: CleanedTransactions::default(),
            phase: Phase::Starting,
            stats: CleanStats::default(),
            deleted: Vec::new(),
            view,
        }
    }

    pub(super) fn log(&self) -> &Arc<PartitionLog> {
        &self.log
    }

    pub(super) fn stats(&self) -> CleanStats {
        self.stats
    }

    /// Where the next cleaning begins, once this one is finished.
    pub(super) fn cleaned_to(&self) -> i64 {
        self.mapped_to + 1
    }

    pub(super) fn take_deleted(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.deleted)
    }

    /// Goes on for a while. Blocks for the disk. After an error the run is over, and has cleaned up behind itself.
    pub(super) fn step(&mut self) -> Result<Step, CleanError> {
        self.try_step().map_err(|error| {
            let error = if self.is_overtaken(&error) { CleanError::Aborted } else { error };
            self.give_up();
            error
        })
    }

    /// Whether the error comes of bytes that a cut or retention took away while they were read.
    fn is_overtaken(&self, error: &CleanError) -> bool {
        let by_missing_bytes = match error {
            CleanError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
            }
            CleanError::Damaged { .. } | CleanError::Batch { .. } | CleanError::TransactionIndex { .. } => true,
            CleanError::Aborted | CleanError::TooLarge { .. } => false,
        };
        let is_gone = |segment: &Arc<Segment>| segment.is_gone();
        let sources_are_gone = match &self.phase {
            Phase::Starting | Phase::Mapping { .. } => self.view.segments.iter().any(is_gone),
            Phase::Cleaning { groups, current } => {
                let current = current.as_ref().map(|running| &running.group);
                current.into_iter().chain(groups).flat_map(|group| &group.sources).any(is_gone)
            }
            Phase::Done => false,
        };
        by_missing_bytes && (sources_are_gone || !self.log.is_cleanable(self.view.truncations))
    }

    fn try_step(&mut self) -> Result<Step, CleanError> {
        if !self.log.is_cleanable(self.view.truncations) {
            return Err(CleanError::Aborted);
        }
        match &self.phase {
            Phase::Starting => self.begin_mapping().map(|()| Step::Moved(0)),
            Phase::Mapping { .. } => self.map_some().map(Step::Moved),
            Phase::Cleaning { .. } => self.clean_some().map(Step::Moved),
            Phase::Done => Ok(Step::Finished),
        }
    }

    /// Removes what is half written.
    pub(super) fn give_up(&mut self) {
        let phase = std::mem::replace(&mut self.phase, Phase::Done);
        if let Phase::Cleaning { current: Some(current), .. } = phase {
            let segment = current.output.segment();
            // Where this fails, or the directory is another's by now, the next start removes the files.
            if let Err(error) = self.log.while_present(|| segment.discard()) {
                tracing::debug!(topic_partition = %self.log.topic_partition(), %error, "cleaned files stay for the next start");
            }
        }
    }

    fn begin_mapping(&mut self) -> Result<(), CleanError> {
        let from = self.dirty.first_dirty_offset;
        self.transactions = aborted_transactions(&self.view, from)?;
        let segment = self.view.segments.partition_point(|segment| segment.base_offset <= from).saturating_sub(1);
        self.phase = Phase::Mapping { segment, reader: None };
        Ok(())
    }

    fn map_some(&mut self) -> Result<u64, CleanError> {
        let Phase::Mapping { segment: index, reader } = &mut self.phase else { return Ok(0) };
        let index = *index;
        let bound = self.dirty.first_uncleanable_offset;
        let is_dirty = self.view.segments.get(index).is_some_and(|segment| segment.base_offset < bound);
        if !is_dirty {
            self.begin_cleaning()?;
            return Ok(0);
        }
        let segment = &self.view.segments[index];
        let end_offset = end_of(&self.view, index);
        let mut open = match reader.take() {
            Some(reader) => reader,
            None => Box::new(open_at(segment, self.dirty.first_dirty_offset, end_offset, self.settings.io_bytes)?),
        };
        let start = open.position();
        loop {
            let position = open.position();
            let Some((header, batch)) = open.next()? else {
                // Behind a hole at its end comes the next segment.
                self.mapped_to = self.mapped_to.max(end_offset - 1);
                self.phase = Phase::Mapping { segment: index + 1, reader: None };
                break;
            };
            let uncleanable = |reason| CleanError::Batch { path: segment.path(names::LOG_SUFFIX), position, reason };
            let full = map_batch(
                &header,
                &batch,
                self.dirty.first_dirty_offset,
                &mut self.map,
                &mut self.mapped_to,
                &mut self.transactions,
            )
            .map_err(uncleanable)?;
            if full {
                self.stats.mapped_bytes += open.position() - start;
                self.begin_cleaning()?;
                return Ok(open.position() - start);
            }
            if open.position() - start >= self.settings.step_bytes {
                let moved = open.position() - start;
                self.stats.mapped_bytes += moved;
                self.phase = Phase::Mapping { segment: index, reader: Some(open) };
                return Ok(moved);
            }
        }
        self.stats.mapped_bytes += open.position() - start;
        Ok(open.position() - start)
    }

    fn begin_cleaning(&mut self) -> Result<(), CleanError> {
        self.stats.keys = self.map.len() as u64;
        self.stats.map_bytes = self.map.memory_bytes() as u64;
        self.transactions = aborted_transactions(&self.view, self.view.segments[0].base_offset)?;
        let count = self.view.segments.partition_point(|segment| {
            segment.base_offset < self.cleaned_to() && segment.base_offset < self.dirty.first_uncleanable_offset
        });
        let segments = &self.view.segments[..count];
        let mut sizes = Vec::with_capacity(count);
        for segment in segments {
            let path = segment.path(names::LOG_SUFFIX);
            let (offset_index_bytes, time_index_bytes) =
                segment.index_bytes().map_err(|error| segment_error(error, "read indexes of", path))?;
            sizes.push(SegmentSize {
                base_offset: segment.base_offset,
                log_bytes: segment.size(),
                offset_index_bytes,
                time_index_bytes,
            });
        }
        let limits = GroupLimits {
            log_bytes: self.config.segment_bytes.max(0) as u64,
            index_bytes: self.config.segment_index_bytes.max(0) as u64,
            end_offset: self.dirty.first_uncleanable_offset,
        };
        let groups = group(&sizes, &limits)
            .into_iter()
            .map(|range| Group {
                sources: segments[range.clone()].to_vec(),
                ends: range.map(|index| end_of(&self.view, index)).collect(),
            })
            .collect();
        self.phase = Phase::Cleaning { groups, current: None };
        Ok(())
    }

    fn clean_some(&mut self) -> Result<u64, CleanError> {
        let Phase::Cleaning { groups, current } = &mut self.phase else { return Ok(0) };
        let Some(mut running) = current.take() else {
            match groups.pop_front() {
                Some(next) => {
                    let begun = self.begin_group(next)?;
                    self.set_current(Some(begun));
                }
                None => self.finish()?,
            }
            return Ok(0);
        };
        let before = self.stats;
        let cleaned = self.clean_group(&mut running);
        let moved = self.stats.bytes_read - before.bytes_read + self.stats.bytes_written - before.bytes_written;
        match cleaned {
            Ok(false) => self.set_current(Some(running)),
            Ok(true) => self.swap(running)?,
            Err(CleanError::TooLarge { .. }) if running.group.sources.len() > 1 => self.halve(running)?,
            Err(error) => {
                // To be given up with its files.
                self.set_current(Some(running));
                return Err(error);
            }
        }
        Ok(moved)
    }

    fn set_current(&mut self, running: Option<Box<GroupRun>>) {
        if let Phase::Cleaning { current, .. } = &mut self.phase {
            *current = running;
        }
    }

    fn begin_group(&self, group: Group) -> Result<Box<GroupRun>, CleanError> {
        let base_offset = group.sources[0].base_offset;
        let interval_bytes = self.config.index_interval_bytes.max(0) as u64;
        let output = self
            .log
            .while_cleanable(self.view.truncations, || {
                let directory = self.log.directory();
                let (shared, path) = (&directory.shared, &self.log.path());
                CleanedSegment::create(shared, path, base_offset, interval_bytes, self.settings.io_bytes)
            })
            .map_err(CleanError::replace("create cleaned segment in", &*self.log.path()))?;
        Ok(Box::new(GroupRun {
            group,
            source: 0,
            reader: None,
            output,
            transactions_before: self.transactions.clone(),
            stats_before: self.stats,
            last_records: self.log.last_records_of_producers(),
        }))
    }

    /// Whether the group is complete.
    fn clean_group(&mut self, running: &mut GroupRun) -> Result<bool, CleanError> {
        let rules = KeepRules {
            now_ms: self.now_ms,
            delete_retention_ms: self.config.delete_retention_ms,
            mapped_to: self.mapped_to,
            end_offset: self.dirty.first_uncleanable_offset,
        };
        let mut moved = 0;
        while let Some(segment) = running.group.sources.get(running.source) {
            let mut reader = match running.reader.take() {
                Some(reader) => reader,
                None => BatchReader::open(segment, 0, running.group.ends[running.source], self.settings.io_bytes)?
                    .compare_headers()?,
            };
            let position = reader.position();
            let Some((header, batch)) = reader.next()? else {
                running.source += 1;
                continue;
            };
            let last = running.last_records.get(&header.producer_id).copied();
            let cleaned = clean_batch(&batch, &header, &rules, &self.map, &mut self.transactions, last)
                .map_err(|reason| CleanError::Batch { path: segment.path(names::LOG_SUFFIX), position, reason })?;
            self.stats.bytes_read += batch.len() as u64;
            self.stats.records_read += cleaned.records_read;
            self.stats.records_written += cleaned.records_kept;
            self.stats.records_without_key += cleaned.without_key;
            moved += batch.len() as u64;
            if let Some(aborted) = cleaned.aborted {
                running.output.index_aborted(aborted);
            }
            let written = running.output.size();
            match &cleaned.kept {
                Kept::Nothing => {}
                Kept::Original => running.output.append(&batch, &header)?,
                Kept::Rewritten(rewritten) => {
                    let header = ottla_record::BatchHeader::parse(rewritten).map_err(|error| CleanError::Batch {
                        path: segment.path(names::LOG_SUFFIX),
                        position,
                        reason: error.into(),
                    })?;
                    running.output.append(rewritten, &header)?;
                }
            }
            let written = running.output.size() - written;
            self.stats.bytes_written += written;
            moved += written;
            running.reader = Some(reader);
            if moved >= self.settings.step_bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the group's segment durable, and puts it in the place of the others.
    fn swap(&mut self, mut running: Box<GroupRun>) -> Result<(), CleanError> {
        let segment = Arc::clone(running.output.segment());
        let log = Arc::clone(&self.log);
        let swapped = running.output.finish(&log.path()).and_then(|()| {
            log.replace_segments(self.view.truncations, &running.group.sources, &segment)
                .map_err(CleanError::replace("swap segments of", &*log.path()))
        });
        match swapped {
            Ok(deleted) => {
                self.deleted.extend(deleted);
                Ok(())
            }
            Err(error) => {
                self.set_current(Some(running));
                Err(error)
            }
        }
    }

    /// The group does not fit one segment: each half is tried by itself.
    fn halve(&mut self, running: Box<GroupRun>) -> Result<(), CleanError> {
        let segment = running.output.segment();
        self.log
            .while_cleanable(self.view.truncations, || segment.discard())
            .map_err(CleanError::replace("remove cleaned segment in", &*self.log.path()))?;
        (self.transactions, self.stats) = (running.transactions_before, running.stats_before);
        let Group { mut sources, mut ends } = running.group;
        let middle = sources.len() / 2;
        let second = Group { sources: sources.split_off(middle), ends: ends.split_off(middle) };
        if let Phase::Cleaning { groups, .. } = &mut self.phase {
            groups.push_front(second);
            groups.push_front(Group { sources, ends });
        }
        Ok(())
    }

    /// Notes how far the log is clean.
    fn finish(&mut self) -> Result<(), CleanError> {
        let cleaned_to = self.cleaned_to();
        let directory = self.log.directory();
        self.log
            .while_cleanable(self.view.truncations, || {
                directory.cleaned.set(&directory.shared, self.log.topic_partition(), cleaned_to)
            })
            .map_err(CleanError::replace("write the cleaner's checkpoint of", &*self.log.path()))?;
        self.phase = Phase::Done;
        Ok(())
    }
}

/// Maps the keys of a batch. Whether the map took no more.
fn map_batch(
    header: &ottla_record::BatchHeader,
    batch: &bytes::Bytes,
    first_dirty_offset: i64,
    map: &mut OffsetMap,
    mapped_to: &mut i64,
    transactions: &mut CleanedTransactions,
) -> Result<bool, UncleanableBatch> {
    let limits = DecompressionLimits::default();
    if header.attributes.is_control() {
        transactions.on_control(header, control(&OpenBatch::open(batch, &limits)?)?);
    } else if !transactions.on_data(header) {
        for record in OpenBatch::open(batch, &limits)?.records() {
            let record = record?;
            let Some(key) = record.key.filter(|_| record.offset >= first_dirty_offset) else { continue };
            if map.put(key, record.offset).is_err() {
                return Ok(true);
            }
            *mapped_to = record.offset;
        }
    }
    *mapped_to = (*mapped_to).max(header.last_offset());
    Ok(false)
}

/// The aborted transactions that end at or above `from`, as the indexes of the log have them.
fn aborted_transactions(view: &CleaningView, from: i64) -> Result<CleanedTransactions, CleanError> {
    let mut transactions = CleanedTransactions::default();
    for segment in &view.segments {
        let mut aborted = Vec::new();
        if let Err(error) = segment.collect_aborted(from, i64::MAX, &mut aborted) {
            let path = segment.path(names::TRANSACTION_INDEX_SUFFIX);
            return Err(match error {
                SearchError::Io(source) => CleanError::io("read", path)(source),
                SearchError::Invalid(reason) => CleanError::TransactionIndex { path, reason },
            });
        }
        transactions.add(aborted);
    }
    Ok(transactions)
}

/// Reads from the batch with `offset` on.
fn open_at(segment: &Arc<Segment>, offset: i64, end_offset: i64, io_bytes: usize) -> Result<BatchReader, CleanError> {
    let path = || segment.path(names::LOG_SUFFIX);
    let located = segment.locate(offset, segment.size()).map_err(|error| segment_error(error, "search", path()))?;
    let start = located.map_or(segment.size(), |located| located.position);
    BatchReader::open(segment, start, end_offset, io_bytes)
}

pub(super) fn segment_error(error: SegmentError, operation: &'static str, path: PathBuf) -> CleanError {
    match error {
        SegmentError::Io(source) => CleanError::Io { operation, path, source },
        SegmentError::Damaged { position, reason } => CleanError::Damaged { path, position, reason },
    }
}

pub(super) fn end_of(view: &CleaningView, index: usize) -> i64 {
    view.segments.get(index + 1).map_or(view.log_end_offset, |next| next.base_offset)
}
