//! Faults a test or a simulation asks the disk for.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// What the disk is asked to do, as a fault names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Of a file that is there.
    Open,
    /// The file is made by being opened.
    Create,
    Read,
    Write,
    SetLen,
    /// `sync_data`, `sync_all` and each file of `sync_files`.
    Sync,
    SyncDir,
    ReadDir,
    CreateDir,
    Rename,
    Remove,
    Lock,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// `EIO`. A sync that fails so drops an arbitrary part of the dirty pages, and all of them are clean afterwards.
    Io,
    /// `ENOSPC`.
    NoSpace,
    /// A read or write is interrupted by a signal before it has moved anything.
    Interrupted,
    /// A read or write moves only a part of the bytes.
    Short,
}

/// A failure of the operations that match.
#[derive(Clone, Debug)]
pub struct Fault {
    /// `None` matches every operation; with [`Failure::NoSpace`], every one that may need room.
    pub operation: Option<Operation>,
    /// A part of the path the file was opened with, or the directory named; empty matches every path.
    pub path_contains: String,
    /// So many matching operations succeed first.
    pub skip: u64,
    /// So many fail then; afterwards the fault is gone.
    pub count: u64,
    pub failure: Failure,
}

impl Fault {
    /// The `nth` (from 0) of these operations fails, once.
    pub fn nth(operation: Operation, nth: u64, failure: Failure) -> Fault {
        Fault { operation: Some(operation), path_contains: String::new(), skip: nth, count: 1, failure }
    }

    /// The same for paths that contain this.
    #[must_use]
    pub fn on(mut self, path_contains: &str) -> Fault {
        path_contains.clone_into(&mut self.path_contains);
        self
    }

    fn matches(&self, operation: Operation, path: &Path) -> bool {
        let fits = match self.failure {
            Failure::Short | Failure::Interrupted => matches!(operation, Operation::Read | Operation::Write),
            Failure::NoSpace if self.operation.is_none() => {
                matches!(operation, Operation::Create | Operation::Write | Operation::CreateDir | Operation::Rename)
            }
            Failure::Io | Failure::NoSpace => true,
        };
        fits && self.operation.is_none_or(|wanted| wanted == operation)
            && path.to_string_lossy().contains(&self.path_contains)
    }
}

impl Failure {
    pub(super) fn error(self) -> io::Error {
        match self {
            Failure::Io | Failure::Short => rustix::io::Errno::IO.into(),
            Failure::NoSpace => rustix::io::Errno::NOSPC.into(),
            Failure::Interrupted => rustix::io::Errno::INTR.into(),
        }
    }
}

/// The faults still to come.
#[derive(Default)]
pub(super) struct FaultPlan {
    faults: Vec<Fault>,
    struck: BTreeMap<(Operation, Failure), u64>,
}

impl FaultPlan {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn struck(&self) -> &BTreeMap<(Operation, Failure), u64> {
        &self.struck
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    /// How this operation fails, if it does. Every fault counts it.
    pub(super) fn next(&mut self, operation: Operation, path: &Path) -> Option<Failure> {
        let mut failure = None;
        for fault in &mut self.faults {
            if !fault.matches(operation, path) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if failure.is_none() && fault.count > 0 {
                fault.count -= 1;
                failure = Some(fault.failure);
            }
        }
        self.faults.retain(|fault| fault.count > 0);
        if let Some(failure) = failure {
            *self.struck.entry((operation, failure)).or_default() += 1;
        }
        failure
    }
}
