//! The end of a node's quorum: the first failure is kept, and everybody who waits is told.

use std::io;
use std::sync::Arc;

use ottla_image::{DecodeError, ImageError};
use tokio::sync::watch;

/// Why this node's part of the metadata quorum has stopped. It does not go on, and the node should not either.
#[derive(Debug, thiserror::Error)]
pub enum QuorumFailure {
    #[error("cannot write the metadata log: {0}")]
    LogWrite(#[source] io::Error),
    #[error("cannot write a snapshot of the metadata: {0}")]
    SnapshotWrite(#[source] io::Error),
    #[error("the committed entry {index} cannot be read: {source}")]
    UnreadableEntry { index: u64, source: DecodeError },
    #[error("the committed entry {index} cannot be applied: {source}")]
    InapplicableEntry { index: u64, source: ImageError },
    #[error("applying the committed entry {index} panicked")]
    ApplyPanicked { index: u64 },
    #[error("the writer of the metadata log panicked")]
    WriterPanicked,
    #[error("the consensus engine stopped: {description}")]
    Engine { description: String },
}

impl QuorumFailure {
    /// Whether the disk is to blame: clients try again, as they do when a log directory fails.
    pub(crate) fn is_of_the_disk(&self) -> bool {
        match self {
            QuorumFailure::LogWrite(_) | QuorumFailure::SnapshotWrite(_) => true,
            QuorumFailure::UnreadableEntry { .. }
            | QuorumFailure::InapplicableEntry { .. }
            | QuorumFailure::ApplyPanicked { .. }
            | QuorumFailure::WriterPanicked
            | QuorumFailure::Engine { .. } => false,
        }
    }
}

/// Holds the first failure.
#[derive(Clone)]
pub(crate) struct FailureSlot {
    sender: Arc<watch::Sender<Option<Arc<QuorumFailure>>>>,
}

impl FailureSlot {
    pub(crate) fn new() -> Self {
        Self { sender: Arc::new(watch::Sender::new(None)) }
    }

    pub(crate) fn set(&self, failure: QuorumFailure) {
        self.sender.send_if_modified(|slot| {
            if slot.is_some() {
                return false;
            }
            tracing::error!(%failure, "the metadata quorum of this node has failed");
            *slot = Some(Arc::new(failure));
            true
        });
    }

    pub(crate) fn current(&self) -> Option<Arc<QuorumFailure>> {
        self.sender.borrow().clone()
    }

    /// Waits for a failure; forever, if none comes.
    pub(crate) async fn failed(&self) -> Arc<QuorumFailure> {
        let mut receiver = self.sender.subscribe();
        // The sender is in `self`, so the channel does not close while this waits.
        let failure = receiver.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
        match failure {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }
}
