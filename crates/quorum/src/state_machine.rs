//! The state machine: committed records become the published image.
//!
//! A committed entry that cannot be applied, or a panic while applying it, stops the node: it would have another image
//! than its peers.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot};
use ottla_image::{MetadataImage, decode_records};
use ottla_rt::World;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::failure::{FailureSlot, QuorumFailure};
use crate::snapshot::{self, SnapshotBytes, SnapshotFiles};
use crate::types::{
    CommittedLeader, RaftEntry, RaftLogId, RaftSnapshotMeta, RaftStoredMembership, TypeConfig, VoterId, VoterNode,
};

pub(crate) type RaftSnapshot = Snapshot<CommittedLeader, VoterId, VoterNode, SnapshotBytes>;

/// The committed metadata, as readers see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    pub(crate) image: Arc<MetadataImage>,
    /// The last entry in the image.
    pub(crate) applied: Option<RaftLogId>,
    /// How many proposals of `applied`'s term are in the image.
    pub(crate) proposals: u64,
}

pub(crate) struct StateMachine {
    published: watch::Sender<Published>,
    membership: RaftStoredMembership,
    snapshots: SnapshotFiles,
    /// The snapshot that is durable.
    current: Arc<Mutex<Option<RaftSnapshotMeta>>>,
    world: World,
    failure: FailureSlot,
}

/// The state as it was read at the start.
#[derive(Default)]
pub(crate) struct InitialState {
    pub(crate) image: MetadataImage,
    pub(crate) applied: Option<RaftLogId>,
    pub(crate) membership: RaftStoredMembership,
    pub(crate) snapshot: Option<RaftSnapshotMeta>,
}

impl InitialState {
    pub(crate) fn apply(&mut self, entry: &RaftEntry) -> Result<(), QuorumFailure> {
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(command) => {
                self.image = applied_image(&self.image, entry.log_id.index, &command.records)?;
            }
            EntryPayload::Membership(membership) => {
                self.membership = RaftStoredMembership::new(Some(entry.log_id), membership.clone());
            }
        }
        self.applied = Some(entry.log_id);
        Ok(())
    }
}

impl StateMachine {
    pub(crate) fn new(
        initial: InitialState,
        snapshots: SnapshotFiles,
        world: World,
        failure: FailureSlot,
    ) -> (Self, watch::Receiver<Published>) {
        let published = Published { image: Arc::new(initial.image), applied: initial.applied, proposals: 0 };
        let (sender, receiver) = watch::channel(published);
        let machine = Self {
            published: sender,
            membership: initial.membership,
            snapshots,
            current: Arc::new(Mutex::new(initial.snapshot)),
            world,
            failure,
        };
        (machine, receiver)
    }

    fn apply_entry(&mut self, entry: RaftEntry) -> Result<(), QuorumFailure> {
        let mut next = self.published.borrow().clone();
        let log_id = entry.log_id;
        if next.applied.is_none_or(|applied| applied.leader_id != log_id.leader_id) {
            next.proposals = 0;
        }
        next.applied = Some(log_id);
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(command) => {
                next.proposals += 1;
                next.image = Arc::new(applied_image(&next.image, log_id.index, &command.records)?);
            }
            EntryPayload::Membership(membership) => {
                self.membership = RaftStoredMembership::new(Some(log_id), membership);
            }
        }
        // Before the answer: who has it finds the records in the image.
        self.published.send_replace(next);
        Ok(())
    }

    /// Records the failure, and gives openraft an error that stops it.
    fn fail(&self, failure: QuorumFailure) -> io::Error {
        let error = io::Error::other(failure.to_string());
        self.failure.set(failure);
        error
    }
}

fn applied_image(image: &MetadataImage, index: u64, records: &[u8]) -> Result<MetadataImage, QuorumFailure> {
    caught(index, || {
        let records = decode_records(records).map_err(|source| QuorumFailure::UnreadableEntry { index, source })?;
        image.apply_all(&records).map_err(|source| QuorumFailure::InapplicableEntry { index, source })
    })
}

/// A panic ends this node's part of the quorum, not the process.
fn caught<T>(index: u64, apply: impl FnOnce() -> Result<T, QuorumFailure>) -> Result<T, QuorumFailure> {
    catch_unwind(AssertUnwindSafe(apply)).unwrap_or(Err(QuorumFailure::ApplyPanicked { index }))
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, RaftStoredMembership), io::Error> {
        Ok((self.published.borrow().applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.apply_entry(entry).map_err(|failure| self.fail(failure))?;
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let published = self.published.borrow().clone();
        SnapshotBuilder {
            meta: RaftSnapshotMeta { last_log_id: published.applied, last_membership: self.membership.clone() },
            image: published.image,
            snapshots: self.snapshots.clone(),
            current: Arc::clone(&self.current),
            world: self.world.clone(),
            failure: self.failure.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &RaftSnapshotMeta, snapshot: SnapshotBytes) -> Result<(), io::Error> {
        let read = snapshot::decode(&snapshot)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let already = self.current.lock().as_ref() == Some(meta);
        if !already {
            store(&self.world, &self.snapshots, meta, &snapshot)
                .await
                .map_err(|error| self.fail(QuorumFailure::SnapshotWrite(error)))?;
            *self.current.lock() = Some(meta.clone());
        }
        self.membership = read.meta.last_membership;
        let image = Arc::new(read.image);
        self.published.send_replace(Published { image, applied: meta.last_log_id, proposals: 0 });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        let Some(meta) = self.current.lock().clone() else { return Ok(None) };
        let snapshot = self.snapshots.read_bytes(meta.last_log_id)?;
        Ok(Some(RaftSnapshot { meta, snapshot }))
    }
}

/// Writes one image as a snapshot, beside the state machine that goes on.
pub(crate) struct SnapshotBuilder {
    meta: RaftSnapshotMeta,
    image: Arc<MetadataImage>,
    snapshots: SnapshotFiles,
    current: Arc<Mutex<Option<RaftSnapshotMeta>>>,
    world: World,
    failure: FailureSlot,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        let snapshot = snapshot::encode(&self.meta, &self.image);
        if let Err(error) = store(&self.world, &self.snapshots, &self.meta, &snapshot).await {
            let copy = io::Error::new(error.kind(), error.to_string());
            self.failure.set(QuorumFailure::SnapshotWrite(error));
            return Err(copy);
        }
        *self.current.lock() = Some(self.meta.clone());
        Ok(RaftSnapshot { meta: self.meta.clone(), snapshot })
    }
}

async fn store(
    world: &World,
    snapshots: &SnapshotFiles,
    meta: &RaftSnapshotMeta,
    bytes: &SnapshotBytes,
) -> io::Result<()> {
    let (sender, receiver) = oneshot::channel();
    let (snapshots, meta, bytes) = (snapshots.clone(), meta.clone(), bytes.clone());
    // The receiver waits below.
    world.spawn.blocking(Box::new(move || drop(sender.send(snapshots.store(&meta, &bytes))))).await;
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the write did not run")))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::entry::RaftEntry as _;
    use ottla_image::{MetadataRecord, encode_records};
    use ottla_rt::memory::MemoryWorld;
    use ottla_types::Uuid;

    use super::*;
    use crate::types::{Command, log_id};

    /// Applies one entry that cannot be applied.
    fn failure_of(records: Vec<u8>) -> Arc<QuorumFailure> {
        let world = MemoryWorld::new(1).world();
        let failure = FailureSlot::new();
        let snapshots = SnapshotFiles { disk: world.disk.clone(), directory: "/data".into() };
        let (mut machine, published) = StateMachine::new(InitialState::default(), snapshots, world, failure.clone());
        let payload = EntryPayload::Normal(Command { records: Bytes::from(records) });
        let entries = futures_util::stream::iter([Ok((RaftEntry::new(log_id(1, 5), payload), None))]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(machine.apply(entries)).unwrap_err();
        assert_eq!(published.borrow().applied, None, "nothing of it is seen");
        failure.current().unwrap()
    }

    #[test]
    fn an_entry_that_cannot_be_applied_is_a_failure() {
        let failure = failure_of(vec![1, 2, 3]);
        assert!(matches!(*failure, QuorumFailure::UnreadableEntry { index: 5, .. }), "{failure}");
        let mut bytes = Vec::new();
        encode_records(&[MetadataRecord::RemoveTopic { topic_id: Uuid::ONE }], &mut bytes);
        let failure = failure_of(bytes);
        assert!(matches!(*failure, QuorumFailure::InapplicableEntry { index: 5, .. }), "{failure}");
    }

    #[test]
    fn a_panic_is_a_failure() {
        let result = caught(7, || -> Result<(), QuorumFailure> { panic!("on purpose") });
        assert!(matches!(result, Err(QuorumFailure::ApplyPanicked { index: 7 })));
    }
}
