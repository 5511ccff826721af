//! The log of a state machine, as the driver sees it.

use bytes::Bytes;
use ottla_types::ErrorCode;
use tokio::sync::oneshot;

use super::machine::EncodedRecord;

/// Ends when what was appended is committed, or with the reason it never will be.
pub(crate) type Committed = oneshot::Receiver<Result<(), ErrorCode>>;

/// Why records are not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommitFailure {
    #[error("the partition takes no records now")]
    Unavailable,
    #[error("the partition is gone, or its disk has failed")]
    Lost,
    #[error("the records do not fit a batch")]
    TooLarge,
    #[error("the records were appended, and not committed in time")]
    TimedOut,
}

/// Why the log cannot be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Read(#[from] ottla_log::ReadError),
    #[error("reading: {0}")]
    Io(#[from] std::io::Error),
    #[error("at offset {offset}: {source}")]
    Batch { offset: i64, source: ottla_record::BatchError },
    #[error("at offset {offset}: {source}")]
    Decompress { offset: i64, source: ottla_record::DecompressError },
    #[error("at offset {offset}: {source}")]
    Records { offset: i64, source: ottla_record::RecordError },
    #[error("at offset {offset}: {source}")]
    Record { offset: i64, source: ottla_protocol::DecodeError },
    #[error("a batch of {bytes} bytes at offset {offset} has not arrived whole")]
    CutOff { offset: i64, bytes: usize },
}

/// One partition's log, led by this node. Appends come from one driver only.
pub(crate) trait StateLog: Send + Sync + 'static {
    /// Appends the records as one batch. Returns the offset after the last.
    fn append(&self, records: &[EncodedRecord], now_ms: i64) -> Result<i64, CommitFailure>;

    /// Records of this many bytes, uncompressed, surely fit a batch.
    fn max_batch_bytes(&self) -> usize;

    /// Waits for everything below the offset to be committed; `None` if it is.
    fn committed(&self, end_offset: i64) -> Option<Committed>;

    /// Where the log begins and ends.
    fn offsets(&self) -> std::ops::Range<i64>;

    /// Whole batches from the one that has this offset on, about this many bytes of them, but at least one. May block.
    fn read(&self, offset: i64, max_bytes: usize) -> Result<Bytes, LoadError>;
}
