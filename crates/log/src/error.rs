//! What can go wrong, one enum per family of operations.

use std::io;
use std::path::PathBuf;

use ottla_types::{TopicId, TopicPartition};

use crate::identity::{MalformedMetaProperties, MalformedPartitionMetadata};
use crate::producers::SequenceError;
use crate::scan::InvalidBatchBytes;
use crate::transactions::{InvalidTransactionIndex, TransactionError};

/// The log directories cannot be opened, or a partition cannot be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("log.dirs names no directory")]
    NoDirectories,
    #[error("every log directory is offline")]
    AllDirectoriesOffline,
    #[error("log directory {} is in use by another process", .0.display())]
    Locked(PathBuf),
    #[error("{} cannot be used: {reason}", path.display())]
    MetaProperties { path: PathBuf, reason: MalformedMetaProperties },
    #[error("log directory {} belongs to node {found}, this is node {expected}", path.display())]
    NodeIdMismatch { path: PathBuf, expected: i32, found: i32 },
    #[error("log directory {} belongs to cluster {found}, this is a node of cluster {expected}", path.display())]
    ClusterIdMismatch { path: PathBuf, expected: String, found: String },
    #[error("log directories {} and {} have the same directory id", first.display(), second.display())]
    DuplicateDirectory { first: PathBuf, second: PathBuf },
    #[error("partition {topic_partition} is in both {} and {}", first.display(), second.display())]
    PartitionTwice { topic_partition: TopicPartition, first: PathBuf, second: PathBuf },
    #[error("partition {topic_partition} exists with topic id {found:?}, not {expected}")]
    TopicIdMismatch { topic_partition: TopicPartition, expected: TopicId, found: Option<TopicId> },
    #[error("partition {0} could not be recovered when the node started")]
    PartitionOffline(TopicPartition),
    #[error("there is no log of partition {0}")]
    UnknownPartition(TopicPartition),
    #[error("the journal {} is damaged at byte {position}: what is there was durable once", path.display())]
    JournalDamaged { path: PathBuf, position: u64 },
    #[error("the journal {} has format version {version}, which a newer version of this program wrote", path.display())]
    JournalVersion { path: PathBuf, version: u32 },
    #[error("the journal has records of {}, which is missing or too short", segment.display())]
    JournalWithoutSegment { segment: PathBuf },
}

/// A partition's log cannot be recovered: it stays offline, nothing in it is changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("{operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged at byte {position}, below the recovery point {recovery_point}: {reason}", path.display())]
    DamageBelowRecoveryPoint { path: PathBuf, position: u64, recovery_point: i64, reason: InvalidBatchBytes },
    #[error("{} has offset {found} where {expected} belongs: records are missing", path.display())]
    Gap { path: PathBuf, expected: i64, found: i64 },
    #[error("the log ends at offset {found}, although it was durable up to {recovery_point}: records are missing")]
    EndsBelowRecoveryPoint { recovery_point: i64, found: i64 },
    #[error("the log ends at offset {found}, although it was stopped in order at {stopped}: its last batch is damaged")]
    EndsAboveStop { stopped: i64, found: i64 },
    #[error("the partition's identity cannot be read: {0}")]
    Metadata(MalformedPartitionMetadata),
}

/// A partition is not moved to another log directory.
#[derive(Debug, thiserror::Error)]
pub enum MoveReplicaError {
    #[error("the name of {0} is too long for a copy of it")]
    NameTooLong(TopicPartition),
    #[error("{} is no log directory of this node", .0.display())]
    UnknownDirectory(PathBuf),
    #[error("log directory {} is offline", .0.display())]
    DirectoryOffline(PathBuf),
    #[error("{0} is offline")]
    PartitionOffline(TopicPartition),
    #[error("there is no log of partition {0}")]
    UnknownPartition(TopicPartition),
    #[error("{} is in the way", .0.display())]
    Occupied(PathBuf),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A batch is not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("no space left for {0}")]
    NoSpace(TopicPartition),
    #[error("the log directory of {0} is offline")]
    DirectoryOffline(TopicPartition),
    #[error("{0} is deleted")]
    Deleted(TopicPartition),
    #[error("{topic_partition}: {source}")]
    Sequence { topic_partition: TopicPartition, source: SequenceError },
    #[error("{topic_partition}: {source}")]
    Transaction { topic_partition: TopicPartition, source: TransactionError },
    #[error("a batch of {size} bytes does not fit a segment of {limit} bytes of {topic_partition}")]
    LargerThanSegment { topic_partition: TopicPartition, size: usize, limit: usize },
    #[error("leader epoch {found} of {topic_partition} is behind {latest}")]
    StaleLeaderEpoch { topic_partition: TopicPartition, found: i32, latest: i32 },
    #[error("{topic_partition} goes on at {expected}, the batch begins at {found}")]
    UnexpectedOffset { topic_partition: TopicPartition, expected: i64, found: i64 },
    #[error("the offsets of {0} are used up")]
    OffsetsUsedUp(TopicPartition),
}

impl AppendError {
    /// Whether the same batch may succeed later on this node.
    pub fn retriable(&self) -> bool {
        matches!(self, AppendError::NoSpace(_))
    }
}

/// A read fails.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("offset {offset} of {topic_partition} is outside {log_start_offset}..={log_end_offset}")]
    OffsetOutOfRange { topic_partition: TopicPartition, offset: i64, log_start_offset: i64, log_end_offset: i64 },
    #[error("the log directory of {0} is offline")]
    DirectoryOffline(TopicPartition),
    #[error("{0} is deleted")]
    Deleted(TopicPartition),
    #[error("{topic_partition}: {} is damaged at byte {position}, where offset {offset} is looked for: {reason}", path.display())]
    Damaged { topic_partition: TopicPartition, path: PathBuf, position: u64, offset: i64, reason: InvalidBatchBytes },
    #[error("{topic_partition}: {} cannot be right: {reason}", path.display())]
    DamagedTransactionIndex { topic_partition: TopicPartition, path: PathBuf, reason: InvalidTransactionIndex },
}

/// The log cannot be cut, rolled or trimmed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("the log directory of {0} is offline")]
    DirectoryOffline(TopicPartition),
    #[error("{0} is deleted")]
    Deleted(TopicPartition),
    #[error("no space left for {0}")]
    NoSpace(TopicPartition),
    #[error("offset {offset} of {topic_partition} is outside {log_start_offset}..={log_end_offset}")]
    OffsetOutOfRange { topic_partition: TopicPartition, offset: i64, log_start_offset: i64, log_end_offset: i64 },
}

/// What was appended will not become durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlushFailed {
    #[error("the log directory of {0} is offline")]
    DirectoryOffline(TopicPartition),
    #[error("{0} was cut below the offset")]
    Truncated(TopicPartition),
    #[error("{0} is deleted")]
    Deleted(TopicPartition),
}
