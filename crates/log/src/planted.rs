//! Defects that are switched on at run time, so that the simulation can show that it notices them.
//!
//! Each is a way a storage engine has been wrong before. Nothing but `sim/` sets one.

/// What is wrong on purpose.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Every stop counts as a clean one: the tail of a log is taken as found.
    RecoveryScanOff,
    /// The flushed offset moves when a round begins, not when it ends.
    FlushedBeforeSync,
    /// The directory is not synced after a roll: the new segment's name may go, with what is in it.
    RollNotNamed,
    /// A failed sync is tried again, and a success then is believed.
    SyncRetried,
    /// A truncation leaves the recovery point where it was: what is written there next counts as durable.
    RecoveryPointKept,
    /// A checkpoint takes the ends of the logs for what is durable.
    RecoveryPointAhead,
    /// A start that serves what it found before that is synced counts it as durable.
    UnsyncedCounted,
    /// A truncation returns before it is durable.
    TruncationNotSynced,
    /// What a failed sync may have dropped is believed when the next process still sees it.
    DoubtsIgnored,
    /// Checkpoints are overwritten where they are, without a sync.
    CheckpointInPlace,
    /// A failed directory goes on as if nothing had been.
    FailedDirectoryServed,
    /// A partition's files are changed while the journal still speaks of what they were.
    JournalNotLeft,
    /// Segments are removed, and that is told, before the new start of the log is durable.
    SegmentsRemovedFirst,
    /// The copy of a partition takes its place before its bytes are synced.
    CopyNotSynced,
    /// The old directory of a moved partition goes before the name of the new one is durable.
    MoveNotNamed,
}
