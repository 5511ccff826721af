//! From files to a log: what a start does to every partition.
//!
//! After a clean stop nothing is scanned but what follows the last index entry. After any other stop the segments from
//! the recovery point on (the tail) are read, checksums included:
//!
//! - Every valid batch that follows the last one stays, whether or not it had been acknowledged: an acknowledged batch
//!   was synced, so it is there, and so is everything below it.
//! - At the first bytes that are no valid batch the log ends, and what follows is cut. A crash without power loss leaves
//!   at most one torn batch there. A power loss may leave later batches that are valid: those below a hole were synced
//!   together with the hole or not at all, so they cannot have been acknowledged. Still, a disk that lied or lost bytes
//!   it had looks the same; so a cut above valid batches is logged as an error with what was found, a torn tail as a
//!   warning.
//! - The same bytes below the recovery point are damage: they were durable. So is a hole between two valid batches,
//!   wherever it is, unless the cleaner made it. Then the partition stays offline and its log files are not touched.
//! - After a clean stop the log ends at its recovery point: one that seems to end above it has a damaged last batch.
//! - The transaction indexes say of what the newest producer snapshot covers what they said, and of the rest what its
//!   batches say. One that cannot be right is made anew.
//! - Nothing counts as durable before it was synced again: what a killed process left may be in the page cache only. What
//!   a failed sync may have left there, clean, is written anew before ([`crate::doubts`]). With page-cache durability it
//!   is served before that, as it was by the process that wrote it.

mod anew;
mod epochs;
mod leftovers;
mod producers;
mod tail;
mod transactions;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_config::{Durability, LogConfig};
use ottla_rt::random_u64;
use ottla_types::TopicPartition;

pub(crate) use anew::write_file;
use epochs::TailEpochs;
use producers::{load_snapshot, usable_snapshots};
pub(crate) use producers::{rebuild_producers, remove_snapshots_above, snapshot_offsets};
use transactions::RecoveredTransactions;

use crate::checkpoint::{self, CheckpointError};
use crate::directory::Shared;
use crate::epochs::LeaderEpochs;
use crate::error::RecoveryError;
use crate::forgotten_epochs::ForgottenEpochs;
use crate::identity;
use crate::names;
use crate::partition::{RecoveredLog, roll_jitter_ms};
use crate::scan::{Scanned, Scanner, Verify};
use crate::segment::{Segment, SegmentError};

/// What is known of a partition before its files are looked at.
pub(crate) struct RecoveryInput {
    pub(crate) shared: Arc<Shared>,
    pub(crate) topic_partition: TopicPartition,
    pub(crate) path: Arc<Path>,
    pub(crate) config: Arc<LogConfig>,
    pub(crate) clean: bool,
    /// The recovery points name it: its creation was durable.
    pub(crate) known: bool,
    pub(crate) recovery_point: i64,
    /// From here on a sync may have failed, and the next would not tell.
    pub(crate) in_doubt_from: Option<i64>,
    pub(crate) log_start_offset: i64,
    pub(crate) high_watermark: i64,
    /// Below it the cleaner has been: holes are its work.
    pub(crate) cleaned_to: i64,
}

/// What a partition's files gave.
pub(crate) enum Recovery {
    Log(Box<PendingLog>),
    /// Creation was interrupted: nothing was ever written to it.
    Unfinished,
    /// Its creation was never durable, and a power loss took the id of its topic. What records there are were never
    /// acknowledged as durable, and nobody can tell whose they are.
    Torn,
}

/// A log that may be used once its files, and its directory, are synced.
pub(crate) struct PendingLog {
    pub(crate) recovered: RecoveredLog,
    /// Not open: there may be more of them than a process can have open files.
    pub(crate) unsynced: Vec<Arc<Segment>>,
    /// Segments whose transaction indexes have entries not known to be durable.
    pub(crate) unsynced_transactions: Vec<Arc<Segment>>,
    pub(crate) sync_directory: bool,
    /// Nothing but what a running log may owe the disk as well, so that it can be flushed as that one is.
    pub(crate) may_stay_unsynced: bool,
}

/// A segment as it was found.
struct Found {
    segment: Arc<Segment>,
    len: u64,
    /// The cleaner wrote it: holes in it, and behind it, are its work.
    cleaned: bool,
}

pub(crate) fn recover(input: &RecoveryInput) -> Result<Recovery, RecoveryError> {
    let disk = &*input.shared.world.disk;
    let listed = leftovers::clean_up(disk, &input.path)?;
    let bases: Vec<(i64, u64)> = listed
        .iter()
        .filter_map(|entry| names::parse_offset_file(&entry.name, names::LOG_SUFFIX).map(|base| (base, entry.len)))
        .collect();

    let metadata = identity::read_partition_metadata(disk, &input.path)
        .map_err(|source| io_error("read", &input.path.join(names::PARTITION_METADATA), source))?;
    let never_written = bases.iter().all(|(_, len)| *len == 0) && input.recovery_point == 0;
    let topic_id = match metadata {
        Some(Ok(topic_id)) => Some(topic_id),
        Some(Err(_)) | None if never_written => return Ok(Recovery::Unfinished),
        Some(Err(_)) | None if !input.known && !input.clean => return Ok(Recovery::Torn),
        Some(Err(error)) => return Err(RecoveryError::Metadata(error)),
        None => None,
    };

    let mut sync_directory = false;
    let cleaned: BTreeSet<i64> =
        listed.iter().filter_map(|entry| names::parse_offset_file(&entry.name, names::HEADER_SUM_SUFFIX)).collect();
    let mut found: Vec<Found> = bases
        .iter()
        .map(|(base, len)| {
            let segment = open_segment(input, *base, *len);
            let cleaned = cleaned.contains(base);
            if cleaned {
                segment.note_cleaned();
            }
            Found { segment: Arc::new(segment), len: *len, cleaned }
        })
        .collect();
    if found.is_empty() {
        // A log that had anything has a segment.
        if input.recovery_point > input.log_start_offset {
            return Err(RecoveryError::EndsBelowRecoveryPoint { recovery_point: input.recovery_point, found: 0 });
        }
        let segment = Segment::create(&input.shared, &input.path, input.log_start_offset, 0)
            .map_err(|source| io_error("create segment", &input.path, source))?;
        found.push(Found { segment: Arc::new(segment), len: 0, cleaned: false });
        sync_directory = true;
    }
    drop_below_start(input, &mut found)?;

    let tail = tail::recover(input, &mut found)?;
    sync_directory |= tail.names_in_doubt;
    let log_end_offset = tail.log_end_offset;
    let floor = input.recovery_point.max(input.log_start_offset);
    if log_end_offset < floor {
        return Err(RecoveryError::EndsBelowRecoveryPoint { recovery_point: floor, found: log_end_offset });
    }
    if input.clean && input.known && log_end_offset > floor {
        // The last batch has nothing behind it that would tell.
        return Err(RecoveryError::EndsAboveStop { stopped: floor, found: log_end_offset });
    }
    let segments: Vec<Arc<Segment>> = found.iter().map(|found| Arc::clone(&found.segment)).collect();
    if let Some(from) = input.in_doubt_from.filter(|from| *from < log_end_offset) {
        anew::write_log(input, &segments, from)?;
    }
    let log_start_offset = input.log_start_offset.max(segments[0].base_offset);

    let (epochs, epochs_dirty) = recover_epochs(input, &segments, &tail, log_start_offset)?;
    // A snapshot above the recovery point may be of batches that were cut and written anew.
    let told_by_snapshots = if input.clean { log_end_offset } else { input.recovery_point.min(log_end_offset) };
    let snapshots = snapshot_offsets(&listed);
    remove_snapshots_above(disk, &input.path, &snapshots, told_by_snapshots)
        .map_err(|source| io_error("remove snapshots in", &input.path, source))?;
    let snapshots = usable_snapshots(snapshots, &segments);
    let (producers, snapshot_offset) =
        load_snapshot(disk, &input.path, snapshots.clone(), log_start_offset, log_end_offset)
            .map_err(|source| io_error("read snapshots of", &input.path, source))?;
    let indexes =
        transactions::TransactionIndexes::check(input, &listed, &segments, told_by_snapshots, log_end_offset)?;
    let RecoveredTransactions { producers, unreplicated, unsynced: unsynced_transactions } =
        indexes.recover(producers, &snapshots, log_start_offset)?;
    sync_directory |= !unsynced_transactions.is_empty();

    // A cut, and what a failed sync has left, are settled before anything is appended.
    let may_stay_unsynced = !input.clean
        && input.config.durability == Durability::PageCache
        && input.in_doubt_from.is_none()
        && !tail.batches_cut;

    Ok(Recovery::Log(Box::new(PendingLog {
        recovered: RecoveredLog {
            topic_partition: input.topic_partition.clone(),
            topic_id,
            path: Arc::clone(&input.path),
            segments,
            producers,
            snapshot_offset,
            epochs,
            epochs_dirty,
            forgotten_epochs: Arc::new(forgotten_epochs(input)?),
            log_start_offset,
            log_end_offset,
            flushed_offset: log_end_offset,
            high_watermark: input.high_watermark.clamp(log_start_offset, log_end_offset),
            unsynced: vec![],
            creation_durable: true,
            unreplicated,
        },
        unsynced: tail.unsynced,
        unsynced_transactions,
        sync_directory,
        may_stay_unsynced,
    })))
}

fn open_segment(input: &RecoveryInput, base_offset: i64, len: u64) -> Segment {
    let jitter_ms = roll_jitter_ms(&input.config, random_u64(&*input.shared.world.entropy));
    Segment::open(&input.shared, &input.path, base_offset, len, jitter_ms)
}

/// Removes segments that retention had given up: the log start offset was durable before their files went.
fn drop_below_start(input: &RecoveryInput, found: &mut Vec<Found>) -> Result<(), RecoveryError> {
    let gone = found.windows(2).take_while(|pair| pair[1].segment.base_offset <= input.log_start_offset).count();
    for found in found.drain(..gone) {
        found.segment.remove().map_err(|source| io_error("remove", &input.path, source))?;
    }
    Ok(())
}

/// The epochs from their file; from all batches when the file cannot be right.
fn recover_epochs(
    input: &RecoveryInput,
    segments: &[Arc<Segment>],
    tail: &tail::Tail,
    log_start_offset: i64,
) -> Result<(LeaderEpochs, bool), RecoveryError> {
    let path = input.path.join(names::LEADER_EPOCH_CHECKPOINT);
    let stored = match checkpoint::read_epochs(&*input.shared.world.disk, &path) {
        Ok(stored) => stored.filter(|entries| !entries.is_empty()),
        Err(CheckpointError::Malformed(reason)) => {
            tracing::warn!(path = %path.display(), %reason, "leader epochs are rebuilt from the log");
            None
        }
        Err(CheckpointError::Io(source)) => return Err(io_error("read", &path, source)),
    };
    let mut dirty = false;
    let mut epochs = if let Some(entries) = stored {
        LeaderEpochs::new(entries)
    } else {
        let mut found = TailEpochs::default();
        for segment in segments.iter().filter(|segment| segment.size() > 0) {
            note_epochs_of(segment, &mut found)
                .map_err(|error| segment_error(input, &segment.path(names::LOG_SUFFIX), error))?;
        }
        let mut epochs = LeaderEpochs::default();
        for (epoch, start_offset) in found.finish() {
            dirty |= epochs.assign(epoch, start_offset);
        }
        epochs
    };
    // Above the recovery point the batches tell: the file may be of batches that were cut and written anew. Below it the
    // file does: a batch that says something else is damaged.
    let told_by_file = if input.clean { tail.log_end_offset } else { input.recovery_point.min(tail.log_end_offset) };
    dirty |= epochs.truncate_from_end(told_by_file);
    // The log may start above its recovery point, and the file with it: then the file tells nothing.
    let file = epochs.clone();
    for &(epoch, start_offset) in &tail.epochs {
        let told = start_offset < told_by_file && file.epoch_at(start_offset).is_some();
        if !told && epochs.latest().is_none_or(|latest| epoch > latest.epoch) {
            dirty |= epochs.assign(epoch, start_offset);
        }
    }
    dirty |= epochs.truncate_from_start(log_start_offset);
    Ok((epochs, dirty))
}

/// What the epoch file does not tell. Without it the batches concerned are taken for damaged.
fn forgotten_epochs(input: &RecoveryInput) -> Result<ForgottenEpochs, RecoveryError> {
    let path = input.path.join(names::FORGOTTEN_EPOCHS);
    match ForgottenEpochs::read(&*input.shared.world.disk, &input.path) {
        Ok(Ok(forgotten)) => Ok(forgotten),
        Ok(Err(reason)) => {
            tracing::error!(path = %path.display(), %reason, "the epochs the log had when it was adopted are not known");
            Ok(ForgottenEpochs::default())
        }
        Err(source) => Err(io_error("read", &path, source)),
    }
}

fn note_epochs_of(segment: &Segment, found: &mut TailEpochs) -> Result<(), SegmentError> {
    let file = segment.file()?;
    let mut scanner = Scanner::new(&*file, 0, segment.size());
    loop {
        match scanner.next(Verify::Headers)? {
            Scanned::Batch { header, .. } => found.note(header.partition_leader_epoch, header.base_offset),
            Scanned::End => return Ok(()),
            Scanned::Invalid { position, reason } => return Err(SegmentError::Damaged { position, reason }),
        }
    }
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> RecoveryError {
    RecoveryError::Io { operation, path: path.to_path_buf(), source }
}

fn segment_error(input: &RecoveryInput, path: &Path, error: SegmentError) -> RecoveryError {
    match error {
        SegmentError::Io(source) => io_error("read", path, source),
        SegmentError::Damaged { position, reason } => RecoveryError::DamageBelowRecoveryPoint {
            path: path.to_path_buf(),
            position,
            recovery_point: input.recovery_point,
            reason,
        },
    }
}
