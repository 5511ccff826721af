//! The records of `__consumer_offsets` this crate reads and writes, as plain data.

use std::sync::Arc;

use crate::hard::{OffsetAndMetadata, RecordedGroup};

/// One record; `None` is a tombstone.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupRecord {
    /// `GroupMetadataKey` and `GroupMetadataValue`
    GroupMetadata { group: Arc<str>, value: Option<RecordedGroup> },
    /// `OffsetCommitKey` and `OffsetCommitValue`
    OffsetCommit { group: Arc<str>, topic: Arc<str>, partition: i32, value: Option<OffsetAndMetadata> },
}

impl GroupRecord {
    /// Whose record it is.
    pub fn group(&self) -> &Arc<str> {
        match self {
            GroupRecord::GroupMetadata { group, .. } | GroupRecord::OffsetCommit { group, .. } => group,
        }
    }
}
