//! Records on their way into the log: gathered, appended, replayed, committed.

use std::sync::atomic::Ordering;

use super::{AppendLinger, Phase, Shared, State};
use crate::coordinator::machine::{EncodedRecord, Now, StateMachine};
use crate::coordinator::pending::{Batch, Gathered, Pending, Stored};
use crate::coordinator::state_log::CommitFailure;

impl<M: StateMachine> Shared<M> {
    /// Gathers the records for the next append, or appends them now; replays them. The continuation is taken unless this
    /// fails.
    pub(super) fn take_in(
        &self,
        state: &mut State<M>,
        now: Now,
        records: Vec<M::Record>,
        divisible: bool,
        continuation: &mut Option<M::Continuation>,
    ) -> Result<Stored, CommitFailure> {
        let encoded = encode::<M>(&records)?;
        let bytes = Pending::<M::Continuation>::estimate(&encoded);
        let limit = self.log.max_batch_bytes();
        if state.pending.gathered_bytes() + bytes > limit {
            self.append_gathered(state, now);
            if !matches!(state.phase, Phase::Active(_)) {
                return Err(CommitFailure::Unavailable);
            }
        }
        if bytes > limit || state.append_first || self.settings.append_linger == AppendLinger::Millis(0) {
            return self.append_now(state, now, records, &encoded, divisible, continuation);
        }
        if let AppendLinger::Millis(linger_ms) = self.settings.append_linger
            && !state.pending.is_gathering()
        {
            state.append_at_ms = Some(now.monotonic_ms + i64::from(linger_ms));
        }
        replay(state, now, records);
        let batch = state.pending.gather(encoded, bytes);
        batch.follow(continuation.take());
        Ok(batch.wait())
    }

    /// Appends the records, whole if they must be, and then replays them. Nothing is gathered.
    fn append_now(
        &self,
        state: &mut State<M>,
        now: Now,
        records: Vec<M::Record>,
        encoded: &[EncodedRecord],
        divisible: bool,
        continuation: &mut Option<M::Continuation>,
    ) -> Result<Stored, CommitFailure> {
        let limit = if divisible { self.log.max_batch_bytes() } else { usize::MAX };
        let mut records = records.into_iter();
        let mut rest = encoded;
        loop {
            let (part, after) = rest.split_at(fitting(rest, limit));
            rest = after;
            let end_offset = self.log.append(part, now.wall_ms).inspect_err(|_| state.append_first = true)?;
            state.append_first = false;
            replay(state, now, records.by_ref().take(part.len()));
            let mut batch = state.pending.take_open();
            if !rest.is_empty() {
                self.appended(state, now, end_offset, batch);
                continue;
            }
            batch.follow(continuation.take());
            let stored = batch.wait();
            self.appended(state, now, end_offset, batch);
            return Ok(stored);
        }
    }

    /// Appends what is gathered.
    pub(super) fn append_gathered(&self, state: &mut State<M>, now: Now) {
        state.append_at_ms = None;
        // What follows a commit may gather again.
        while let Some(Gathered { records, batch }) = state.pending.take_gathered() {
            match self.log.append(&records, now.wall_ms) {
                Ok(end_offset) => self.appended(state, now, end_offset, batch),
                Err(failure) => {
                    tracing::warn!(%failure, records = records.len(), "a coordinator's partition is loaded again");
                    batch.finish(Err(failure));
                    state.append_first = true;
                    state.pending.forget_continuations();
                    state.unload(Phase::Loading);
                    self.changed.notify_one();
                }
            }
        }
    }

    pub(super) fn appended(&self, state: &mut State<M>, now: Now, end_offset: i64, batch: Batch<M::Continuation>) {
        let first = state.pending.nothing_appended();
        let committed = self.log.committed(end_offset);
        let already = committed.is_none() && first;
        state.pending.append(end_offset, committed, batch);
        self.open_number.store(state.pending.open_number(), Ordering::Release);
        if already {
            self.commit_first(state, now, end_offset);
        }
    }

    /// What follows the first batch, if it ends here or before. Whether it did.
    pub(super) fn commit_first(&self, state: &mut State<M>, now: Now, end_offset: i64) -> bool {
        let Some(batch) = state.pending.commit_first(end_offset) else { return false };
        for continuation in batch.finish(Ok(())) {
            if let Phase::Active(machine) = &mut state.phase {
                let step = machine.handle_stored(now, continuation, Ok(()));
                let _ = self.apply(state, now, step);
            }
        }
        true
    }
}

/// Applies records that are in the log, or will be before anybody is told of them.
fn replay<M: StateMachine>(state: &mut State<M>, now: Now, records: impl IntoIterator<Item = M::Record>) {
    let Phase::Active(machine) = &mut state.phase else { return };
    for record in records {
        state.pending.change(M::scope(&record));
        machine.replay(now, record);
    }
}

fn encode<M: StateMachine>(records: &[M::Record]) -> Result<Vec<EncodedRecord>, CommitFailure> {
    let mut encoded = Vec::with_capacity(records.len());
    for record in records {
        let record = M::encode(record).map_err(|error| {
            tracing::warn!(%error, "a coordinator's record cannot be written");
            CommitFailure::TooLarge
        })?;
        encoded.push(record);
    }
    Ok(encoded)
}

/// How many of the records fit a batch; at least one.
fn fitting(records: &[EncodedRecord], limit: usize) -> usize {
    let mut bytes = 0;
    let fits = |record: &&EncodedRecord| {
        bytes += Pending::<()>::estimate(std::slice::from_ref(record));
        bytes <= limit
    };
    records.iter().take_while(fits).count().max(1)
}
