//! Why a log is not cleaned.

use std::io;
use std::path::PathBuf;

use super::keep::UncleanableBatch;
use crate::partition::ReplaceError;
use crate::scan::InvalidBatchBytes;
use crate::transactions::InvalidTransactionIndex;

#[derive(Debug, thiserror::Error)]
pub(super) enum CleanError {
    /// It was cut, deleted, is no longer compacted, or the node stops.
    #[error("the log has changed meanwhile")]
    Aborted,
    #[error("{operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged at byte {position}: {reason}", path.display())]
    Damaged { path: PathBuf, position: u64, reason: InvalidBatchBytes },
    #[error("{} cannot be cleaned at byte {position}: {reason}", path.display())]
    Batch { path: PathBuf, position: u64, reason: UncleanableBatch },
    #[error("{} cannot be right: {reason}", path.display())]
    TransactionIndex { path: PathBuf, reason: InvalidTransactionIndex },
    /// Written anew, what was to become one segment does not fit one.
    #[error("a cleaned segment at offset {base_offset} would be too large")]
    TooLarge { base_offset: i64 },
}

impl CleanError {
    /// What failed at these files.
    pub(super) fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> CleanError {
        let path = path.into();
        move |source| CleanError::Io { operation, path, source }
    }

    pub(super) fn replace(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(ReplaceError) -> CleanError {
        let path = path.into();
        move |error| match error {
            ReplaceError::Changed => CleanError::Aborted,
            ReplaceError::Io(source) => CleanError::Io { operation, path, source },
        }
    }
}
