//! What a node sees of the metadata quorum.

use std::sync::Arc;

use ottla_image::{ImageError, MetadataDelta, MetadataImage, MetadataRecord};
use ottla_rt::BoxFuture;
use ottla_types::{ErrorCode, NodeId};
use tokio::sync::watch;

use crate::failure::QuorumFailure;
use crate::state_machine::Published;

/// A decision: from the newest image, proposals still on their way included, to records.
pub type Decision = Box<dyn FnOnce(&MetadataImage) -> Vec<MetadataRecord> + Send>;

/// Agreement on metadata records.
pub trait MetadataQuorum: Send + Sync {
    /// Decides, and proposes what was decided; ends when the records are committed, durable and in [`Self::image`].
    /// They are applied all or none. Decisions are made one at a time, each seeing the records of those before it, but
    /// do not wait for them to be committed. A decision without records ends when those it saw are committed.
    ///
    /// Only the leader decides. When the future is dropped the records may still be committed.
    fn propose(&self, decision: Decision) -> BoxFuture<'_, Result<LogPosition, QuorumError>>;

    /// Proposes records as they are.
    fn submit(&self, records: Vec<MetadataRecord>) -> BoxFuture<'_, Result<LogPosition, QuorumError>> {
        self.propose(Box::new(move |_| records))
    }

    /// The committed metadata, as far as this node has it.
    fn image(&self) -> Arc<MetadataImage>;

    /// Follows the image from the one there is now.
    fn watch(&self) -> MetadataWatch;

    /// Ends when [`Self::image`] has everything that was committed when this was called. Only the leader can.
    fn read_barrier(&self) -> BoxFuture<'_, Result<(), QuorumError>>;

    fn leader(&self) -> LeaderStatus;

    /// Ends when this node's part of the quorum has failed. The node must stop then.
    fn failed(&self) -> BoxFuture<'_, Arc<QuorumFailure>>;

    /// Finishes what was proposed and stops.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// [`MetadataQuorum::propose`] with an answer of the decision's own, given once its records are committed.
pub async fn decide<T: Send + 'static>(
    quorum: &(impl MetadataQuorum + ?Sized),
    decision: impl FnOnce(&MetadataImage) -> (Vec<MetadataRecord>, T) + Send + 'static,
) -> Result<(LogPosition, T), QuorumError> {
    let (sender, mut receiver) = tokio::sync::oneshot::channel();
    let position = quorum
        .propose(Box::new(move |image| {
            let (records, answer) = decision(image);
            // The receiver is below, unless nobody waits for the answer any more.
            drop(sender.send(answer));
            records
        }))
        .await?;
    let answer = receiver.try_recv().expect("invariant: a committed proposal was decided");
    Ok((position, answer))
}

/// A place in the quorum's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogPosition {
    pub term: u64,
    pub index: u64,
}

/// Who leads, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderStatus {
    pub term: u64,
    pub leader: Option<NodeId>,
    /// Whether this node is the leader.
    pub is_leader: bool,
}

/// Why a proposal was not committed, or is not known to be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QuorumError {
    #[error("this node does not lead the metadata quorum; node {leader:?} does")]
    NotLeader { leader: Option<NodeId> },
    #[error("leadership was lost with the proposal on its way: it may yet be committed")]
    OutcomeUnknown,
    #[error("a proposal of {size} bytes is larger than the {limit} allowed")]
    TooLarge { size: usize, limit: usize },
    #[error("the decided records do not fit the metadata: {0}")]
    Unfitting(#[from] ImageError),
    #[error("the metadata quorum of this node has failed: {0}")]
    Failed(Arc<QuorumFailure>),
    #[error("the metadata quorum of this node is shut down")]
    ShutDown,
}

impl QuorumError {
    /// Whether the same proposal may succeed later.
    pub fn retriable(&self) -> bool {
        match self {
            QuorumError::NotLeader { .. } | QuorumError::OutcomeUnknown | QuorumError::ShutDown => true,
            QuorumError::TooLarge { .. } | QuorumError::Unfitting(_) | QuorumError::Failed(_) => false,
        }
    }

    /// What a client is told.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            QuorumError::NotLeader { .. } | QuorumError::ShutDown => ErrorCode::NotController,
            QuorumError::OutcomeUnknown => ErrorCode::RequestTimedOut,
            QuorumError::TooLarge { .. } => ErrorCode::PolicyViolation,
            QuorumError::Failed(failure) if failure.is_of_the_disk() => ErrorCode::KafkaStorageError,
            QuorumError::Unfitting(_) | QuorumError::Failed(_) => ErrorCode::UnknownServerError,
        }
    }
}

/// Follows the committed metadata. A follower that is slow sees fewer, larger changes, and misses nothing.
pub struct MetadataWatch {
    receiver: watch::Receiver<Published>,
    seen: Arc<MetadataImage>,
}

/// One step of a [`MetadataWatch`].
#[derive(Clone, Debug)]
pub struct MetadataChange {
    pub image: Arc<MetadataImage>,
    /// From the image of the step before.
    pub delta: MetadataDelta,
    pub position: LogPosition,
}

impl MetadataWatch {
    pub(crate) fn new(mut receiver: watch::Receiver<Published>) -> Self {
        let seen = Arc::clone(&receiver.borrow_and_update().image);
        Self { receiver, seen }
    }

    /// The image of the last step.
    pub fn image(&self) -> &Arc<MetadataImage> {
        &self.seen
    }

    /// Waits for the next change; `None` once the quorum is shut down. Nothing is lost when the future is dropped.
    pub async fn changed(&mut self) -> Option<MetadataChange> {
        loop {
            self.receiver.changed().await.ok()?;
            let published = self.receiver.borrow_and_update().clone();
            if Arc::ptr_eq(&published.image, &self.seen) {
                continue;
            }
            let delta = MetadataDelta::between(&self.seen, &published.image);
            self.seen = Arc::clone(&published.image);
            let position = published.position();
            return Some(MetadataChange { image: published.image, delta, position });
        }
    }
}
