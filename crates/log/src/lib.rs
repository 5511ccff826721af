//! The log: partitions on disk in Kafka's format, what is in memory of them, and when it is durable.
//!
//! * [`LogManager`]: the log directories of a node, from lock and recovery to the mark of a clean stop.
//! * [`PartitionLog`]: append, read, look up, cut, retain.
//! * A partition moves from one log directory to another under those who use it ([`LogManager::move_replica`]).
//! * A cleaner takes out of compacted logs what newer records with the same keys have replaced.
//! * A flusher per directory makes what was appended durable, in rounds; [`FlushListener`] hears of it.
//!
//! It decides nothing about replication: who may append, what consumers may see and when a producer is answered is
//! the caller's. It reaches the disk and the clock through `ottla_rt::World` only.

mod blocking;
mod checkpoint;
mod cleaned_headers;
mod cleaner;
mod directory;
mod doubts;
mod epochs;
mod error;
mod flush;
mod forgotten_epochs;
mod handles;
mod header_sum;
mod hot_tail;
mod identity;
mod index;
mod journal;
mod manager;
mod moves;
mod names;
mod partition;
mod planted;
mod producers;
mod records;
mod recovery;
mod reserve;
mod resident;
mod scan;
mod scrub;
mod segment;
mod sum_file;
mod survey;
mod transactions;
mod verified;
mod verify;

pub use checkpoint::{
    MalformedCheckpoint, OffsetCheckpoint, format_epochs, format_offsets, parse_epochs, parse_offsets,
};
pub use cleaner::{CleanerSettings, Cleaning};
pub use directory::{FatalEvent, FatalHandler, FlushListener};
pub use epochs::EpochEntry;
pub use error::{AppendError, ChangeError, FlushFailed, LogError, MoveReplicaError, ReadError, RecoveryError};
pub use forgotten_epochs::{EpochStretch, write_forgotten_epochs};
pub use identity::{MalformedMetaProperties, MalformedPartitionMetadata, MetaProperties};
pub use journal::JournalSettings;
pub use manager::{DirectoryStatus, FutureStatus, LogManager, LogSettings, NewPartition};
pub use moves::MoveSettings;
pub use ottla_record::AppendOrigin;
pub use partition::{
    Appended, BatchToAppend, CommittedRead, EndTransaction, LogRead, PartitionLog, ReadChunk, TimestampAndOffset,
};
pub use planted::Planted;
pub use producers::{MalformedSnapshot, ProducerBatch, ProducerEntry, SequenceError};
pub use scan::InvalidBatchBytes;
pub use scrub::{ScrubSettings, ScrubStatus};
pub use sum_file::MalformedSum;
pub use survey::{
    ADOPTED_FROM, DirectorySurvey, KAFKA_METADATA_DIRECTORY, KafkaMetadataEnd, OldFormat, PartitionSurvey,
    lock_directory, lock_directory_unchanged, survey,
};
pub use transactions::{AbortedTransaction, InvalidTransactionIndex, TransactionError, TransactionVersion};
pub use verify::{Finding, Issue, VerifyReport, VerifySummary, verify};
