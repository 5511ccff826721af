//! What happens to logs, and how often.

use crate::choice::Choice;
use crate::report::Counts;

/// What happens to logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Append,
    ReadBack,
    Upkeep,
    Checkpoint,
    Roll,
    Truncate,
    DeleteRecords,
    Create,
    Delete,
    Move,
    Flush,
}

/// Those that write: all meet a failing disk equally often.
pub const STEPS: [Step; 10] = [
    Step::Append,
    Step::Upkeep,
    Step::Checkpoint,
    Step::Roll,
    Step::Truncate,
    Step::DeleteRecords,
    Step::Create,
    Step::Delete,
    Step::Move,
    Step::Flush,
];

impl Step {
    /// `lazy`: flushes are rare, so that much is at risk.
    pub fn choose(choice: &Choice, lazy: bool) -> Step {
        match choice.below(100) {
            0..68 => Step::Append,
            68..70 => Step::Move,
            70..76 => Step::ReadBack,
            76..79 => Step::Upkeep,
            79..82 => Step::Checkpoint,
            82..85 => Step::Roll,
            85..87 => Step::Truncate,
            87..89 => Step::DeleteRecords,
            89..90 => Step::Delete,
            _ if lazy && !choice.one_in(20) => Step::Append,
            _ => Step::Flush,
        }
    }

    /// Whether it may fail for want of room in a way that leaves files in doubt: then the directory goes offline.
    pub fn may_need_room(self) -> bool {
        matches!(self, Step::Truncate | Step::Delete)
    }

    /// Counts the faults that struck in it.
    pub fn faults(self, counts: &mut Counts) -> &mut u64 {
        match self {
            Step::Append | Step::ReadBack => &mut counts.in_append,
            Step::Upkeep => &mut counts.in_upkeep,
            Step::Checkpoint => &mut counts.in_checkpoint,
            Step::Roll => &mut counts.in_roll,
            Step::Truncate => &mut counts.in_truncate,
            Step::DeleteRecords => &mut counts.in_delete_records,
            Step::Create => &mut counts.in_create,
            Step::Delete => &mut counts.in_delete,
            Step::Move => &mut counts.in_move,
            Step::Flush => &mut counts.in_flush,
        }
    }
}
