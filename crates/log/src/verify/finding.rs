//! What a check of a log directory finds.

use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::MalformedCheckpoint;
use crate::identity::{MalformedMetaProperties, MalformedPartitionMetadata};
use crate::producers::MalformedSnapshot;
use crate::scan::InvalidBatchBytes;
use crate::sum_file::MalformedSum;
use crate::transactions::InvalidTransactionIndex;

/// Something that is not as it should be, and where.
#[derive(Debug)]
pub struct Finding {
    pub path: PathBuf,
    /// The byte of the file.
    pub position: Option<u64>,
    /// The offset concerned.
    pub offset: Option<i64>,
    pub issue: Issue,
    /// Whether data is wrong or missing. Otherwise a start mends it, or it does no harm.
    pub is_problem: bool,
}

/// What is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Issue {
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("{0}")]
    Batch(InvalidBatchBytes),
    #[error("{bytes} bytes that are no batch: {reason}")]
    NoBatch { bytes: u64, reason: InvalidBatchBytes },
    #[error("the log's end is torn, the next start cuts {bytes} bytes: {reason}")]
    TornEnd { bytes: u64, reason: InvalidBatchBytes },
    #[error("offsets {from} up to {to} (exclusive) are missing")]
    Missing { from: i64, to: i64 },
    #[error("the segment begins below offset {0}, where the one before it ends")]
    SegmentsOverlap(i64),
    #[error("the log ends at offset {found}, and was durable up to {durable}")]
    EndsBelowRecoveryPoint { durable: i64, found: i64 },
    #[error("the log ends at offset {found}, and was stopped in order at {stopped}")]
    EndsAboveStop { stopped: i64, found: i64 },
    #[error("the log ends at offset {found}, and begins at {start} by the checkpoint")]
    EndsBelowStart { start: i64, found: i64 },
    #[error("there is no segment")]
    NoSegment,
    #[error("an index of this kind has a multiple of {entry} bytes, not {length}")]
    IndexLength { entry: u64, length: u64 },
    #[error("its entry does not follow the one before it")]
    IndexOrder,
    #[error("entries follow behind its end")]
    IndexBehindEnd,
    #[error("its entry points at byte {target}, where no batch begins")]
    IndexTarget { target: u64 },
    #[error("its entry points at byte {target}, at the batch that ends with offset {found}")]
    IndexOffset { target: u64, found: i64 },
    #[error("its entry names an offset of no batch")]
    TimeIndexOffset,
    #[error("its entry says that no record up to there is younger than {stated}, and one has {found}")]
    TimeIndexTime { stated: i64, found: i64 },
    #[error("it cannot be right: {0}")]
    TransactionIndex(InvalidTransactionIndex),
    #[error("its entry names an offset at which no marker of its producer aborts a transaction")]
    TransactionIndexMarker,
    #[error("it holds no sums: {0}")]
    Sum(MalformedSum),
    #[error("it is of no segment")]
    WithoutSegment,
    #[error("{0}")]
    Snapshot(MalformedSnapshot),
    #[error("it is of offset {snapshot}, and the log ends at {end}")]
    SnapshotAboveEnd { snapshot: i64, end: i64 },
    #[error("{0}")]
    Checkpoint(MalformedCheckpoint),
    #[error("{0}")]
    MetaProperties(MalformedMetaProperties),
    #[error("{0}")]
    PartitionMetadata(MalformedPartitionMetadata),
    #[error("it is missing")]
    FileMissing,
    #[error("it names {0}, which is not in this directory")]
    PartitionUnknown(String),
    #[error("it is left from work that was interrupted, and goes at the next start")]
    Leftover,
}

/// How much was looked at, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifySummary {
    pub partitions: u64,
    pub segments: u64,
    pub batches: u64,
    pub records: u64,
    /// Of segments.
    pub bytes: u64,
    pub index_entries: u64,
    pub snapshots: u64,
    pub checkpoints: u64,
    /// Offsets that a cleaner has taken out.
    pub cleaned_holes: u64,
    pub problems: u64,
    pub notes: u64,
    /// Findings that were counted and not told: the first of a file tell enough.
    pub untold: u64,
}

impl VerifySummary {
    pub fn is_sound(&self) -> bool {
        self.problems == 0
    }
}

/// Is told of findings as they come up, and of how far the check is.
pub trait VerifyReport {
    fn finding(&mut self, finding: Finding);

    /// So many bytes of all segments were read.
    fn progress(&mut self, done: u64, total: u64) {
        let _ = (done, total);
    }
}

/// So many findings of one file are told.
const MOST_OF_A_FILE: usize = 50;

/// Counts findings and passes them on.
pub(super) struct Sink<'a> {
    pub(super) summary: VerifySummary,
    report: &'a mut dyn VerifyReport,
    total_bytes: u64,
    path: PathBuf,
    of_path: usize,
}

/// Whether data is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Problem,
    Note,
}

impl<'a> Sink<'a> {
    pub(super) fn new(report: &'a mut dyn VerifyReport, total_bytes: u64) -> Sink<'a> {
        Sink { summary: VerifySummary::default(), report, total_bytes, path: PathBuf::new(), of_path: 0 }
    }

    pub(super) fn problem(&mut self, path: &Path, position: Option<u64>, offset: Option<i64>, issue: Issue) {
        self.found(Weight::Problem, path, position, offset, issue);
    }

    pub(super) fn note(&mut self, path: &Path, position: Option<u64>, offset: Option<i64>, issue: Issue) {
        self.found(Weight::Note, path, position, offset, issue);
    }

    pub(super) fn found(
        &mut self,
        weight: Weight,
        path: &Path,
        position: Option<u64>,
        offset: Option<i64>,
        issue: Issue,
    ) {
        let is_problem = weight == Weight::Problem;
        *(if is_problem { &mut self.summary.problems } else { &mut self.summary.notes }) += 1;
        if self.path != path {
            path.clone_into(&mut self.path);
            self.of_path = 0;
        }
        self.of_path += 1;
        if self.of_path > MOST_OF_A_FILE {
            self.summary.untold += 1;
            return;
        }
        self.report.finding(Finding { path: path.to_path_buf(), position, offset, issue, is_problem });
    }

    /// So many more bytes of a segment were read.
    pub(super) fn read(&mut self, bytes: u64) {
        self.summary.bytes += bytes;
        self.report.progress(self.summary.bytes, self.total_bytes);
    }
}
