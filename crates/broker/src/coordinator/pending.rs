//! What a driver's machine has decided and the log has not committed: one batch that is still gathered, and those that
//! are appended, in the order of the log.
//!
//! A batch is known by its number, which only goes up. By scope (a group) it is remembered which batch changed it last,
//! so that a question waits for what its answer shows and for nothing else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::machine::EncodedRecord;
use super::state_log::{CommitFailure, Committed};

/// Ends when a batch is committed, or with the reason it never will be.
pub(super) type Stored = oneshot::Receiver<Result<(), CommitFailure>>;

/// What a record may need in a batch besides its key and value, at most.
const RECORD_OVERHEAD: usize = 40;

/// One append: who waits for it, and what follows it.
pub(super) struct Batch<C> {
    waiting: Vec<oneshot::Sender<Result<(), CommitFailure>>>,
    continuations: Vec<C>,
    scopes: Vec<Arc<str>>,
}

/// Records that have not been appended.
pub(super) struct Gathered<C> {
    pub(super) records: Vec<EncodedRecord>,
    pub(super) batch: Batch<C>,
}

struct Appended<C> {
    end_offset: i64,
    /// Taken by the driver's task while it is the first.
    committed: Option<Committed>,
    batch: Batch<C>,
}

pub(super) struct Pending<C> {
    records: Vec<EncodedRecord>,
    bytes: usize,
    open: Batch<C>,
    appended: VecDeque<Appended<C>>,
    /// The number of the first of `appended`, or of `open` without one.
    first: u64,
    /// Which batch changed a scope last; of those that are not committed.
    changed: HashMap<Arc<str>, u64>,
    /// The batch before which nothing at all may be shown.
    floor: u64,
}

/// What a question shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shows<'a> {
    /// One group.
    Scope(&'a str),
    Everything,
}

impl<C> Default for Batch<C> {
    fn default() -> Self {
        Batch { waiting: Vec::new(), continuations: Vec::new(), scopes: Vec::new() }
    }
}

impl<C> Default for Pending<C> {
    fn default() -> Self {
        Pending {
            records: Vec::new(),
            bytes: 0,
            open: Batch::default(),
            appended: VecDeque::new(),
            first: 1,
            changed: HashMap::new(),
            floor: 0,
        }
    }
}

impl<C> Batch<C> {
    /// Somebody waits for it.
    pub(super) fn wait(&mut self) -> Stored {
        let (sender, receiver) = oneshot::channel();
        self.waiting.push(sender);
        receiver
    }

    pub(super) fn follow(&mut self, continuation: Option<C>) {
        self.continuations.extend(continuation);
    }

    /// Tells whoever waits, and hands back what follows. A receiver that is gone is a client that is gone.
    pub(super) fn finish(self, result: Result<(), CommitFailure>) -> Vec<C> {
        for waiting in self.waiting {
            let _ = waiting.send(result);
        }
        self.continuations
    }
}

impl<C> Pending<C> {
    /// How much of a batch these records need, at most.
    pub(super) fn estimate(records: &[EncodedRecord]) -> usize {
        let bytes =
            |(key, value): &EncodedRecord| RECORD_OVERHEAD + key.len() + value.as_ref().map_or(0, bytes::Bytes::len);
        records.iter().map(bytes).sum()
    }

    /// The bytes gathered, by that estimate.
    pub(super) fn gathered_bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_gathering(&self) -> bool {
        !self.records.is_empty()
    }

    /// The number of the batch that is gathered, or will be next.
    pub(super) fn open_number(&self) -> u64 {
        self.first + self.appended.len() as u64
    }

    /// Adds to the batch that is gathered. Returns it, for whoever waits for it.
    pub(super) fn gather(&mut self, mut records: Vec<EncodedRecord>, bytes: usize) -> &mut Batch<C> {
        if self.records.is_empty() {
            self.records = records;
        } else {
            self.records.append(&mut records);
        }
        self.bytes += bytes;
        &mut self.open
    }

    /// Remembers that the batch which is gathered, or comes next, changes this scope.
    pub(super) fn change(&mut self, scope: Arc<str>) {
        if self.open.scopes.last().is_some_and(|last| Arc::ptr_eq(last, &scope)) {
            return;
        }
        let number = self.open_number();
        if self.changed.insert(Arc::clone(&scope), number) != Some(number) {
            self.open.scopes.push(scope);
        }
    }

    /// Ends the gathering. The batch keeps its number until the next call that is not [`Pending::append`] of it.
    pub(super) fn take_gathered(&mut self) -> Option<Gathered<C>> {
        if self.records.is_empty() {
            return None;
        }
        self.bytes = 0;
        Some(Gathered { records: std::mem::take(&mut self.records), batch: std::mem::take(&mut self.open) })
    }

    /// What the batch that comes next is to carry besides its records, when it is not gathered.
    pub(super) fn take_open(&mut self) -> Batch<C> {
        std::mem::take(&mut self.open)
    }

    pub(super) fn nothing_appended(&self) -> bool {
        self.appended.is_empty()
    }

    /// The batch is in the log.
    pub(super) fn append(&mut self, end_offset: i64, committed: Option<Committed>, batch: Batch<C>) {
        self.appended.push_back(Appended { end_offset, committed, batch });
    }

    /// Nothing is shown before what has been appended so far is committed.
    pub(super) fn hide_everything_appended(&mut self) {
        self.floor = self.open_number() - 1;
    }

    /// How to wait for what an answer shows; `None` when all of it is committed.
    pub(super) fn wait_for(&mut self, shows: Shows<'_>) -> Option<Stored> {
        let number = match shows {
            Shows::Scope(scope) => self.changed.get(scope).copied().unwrap_or(0).max(self.floor),
            Shows::Everything if self.is_gathering() => self.open_number(),
            Shows::Everything => self.open_number() - 1,
        };
        let position = usize::try_from(number.checked_sub(self.first)?).ok()?;
        match self.appended.get_mut(position) {
            Some(appended) => Some(appended.batch.wait()),
            None => Some(self.open.wait()),
        }
    }

    /// The end of the first batch that waits for its commit, and how to wait for that, unless somebody does already.
    pub(super) fn first(&mut self) -> Option<(i64, Option<Committed>)> {
        let first = self.appended.front_mut()?;
        Some((first.end_offset, first.committed.take()))
    }

    /// Whether the first batch waits for its commit and nobody attends to that.
    pub(super) fn is_unattended(&self) -> bool {
        self.appended.front().is_some_and(|first| first.committed.is_some())
    }

    /// The first batch, if it ends at or before this offset: it is committed.
    pub(super) fn commit_first(&mut self, end_offset: i64) -> Option<Batch<C>> {
        self.appended.front().filter(|first| first.end_offset <= end_offset)?;
        let batch = self.appended.pop_front()?.batch;
        for scope in &batch.scopes {
            if self.changed.get(scope) == Some(&self.first) {
                self.changed.remove(scope);
            }
        }
        self.first += 1;
        Some(batch)
    }

    /// The machine is given up: what was appended is waited for still, but nothing follows it.
    pub(super) fn forget_continuations(&mut self) {
        self.changed.clear();
        for appended in &mut self.appended {
            appended.batch.continuations.clear();
            appended.batch.scopes.clear();
        }
    }
}
