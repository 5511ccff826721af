//! The metadata quorum on openraft.
//!
//! Decisions are made against a *pending* image: the published one and the proposals on their way. It belongs to one
//! term of leadership; a proposal is bound to that term, so that one decided in an earlier term is never appended in a
//! later one. When anything about the term is in doubt, the pending image is made anew from the published one after a
//! read barrier.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::{Config, Raft, ReadPolicy, SnapshotPolicy};
use ottla_image::{MetadataImage, MetadataRecord, encode_records};
use ottla_rt::{BoxFuture, World};
use ottla_types::NodeId;
use tokio::sync::{Mutex, Semaphore, oneshot, watch};

use crate::failure::{FailureSlot, QuorumFailure};
use crate::frame::MAX_COMMAND_SIZE;
use crate::log_store::{LogStore, LogWriter};
use crate::network::NoPeers;
use crate::open::{OpenError, Prepared, QuorumIdentity, QuorumSettings, prepare};
use crate::quorum::{Decision, LeaderStatus, LogPosition, MetadataQuorum, MetadataWatch, QuorumError};
use crate::state_machine::{Published, StateMachine};
use crate::types::{Command, RaftLogId, TypeConfig, VoterId};

/// Proposals on their way at a time; one more waits.
const MAX_PROPOSALS: usize = 256;
/// How long openraft gets to notice that it is the leader: microseconds, unless it cannot start at all.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A node's part of the metadata quorum.
pub struct RaftQuorum {
    raft: Raft<TypeConfig, StateMachine>,
    log: LogStore,
    writer: Mutex<Option<LogWriter>>,
    published: watch::Receiver<Published>,
    pending: Mutex<Pending>,
    proposals: Semaphore,
    failure: FailureSlot,
    voter: VoterId,
    identity: QuorumIdentity,
    snapshot_bytes: u64,
}

/// What the next decision is made against.
#[derive(Default)]
struct Pending {
    /// The term it belongs to; `None` when it must be made anew.
    term: Option<u64>,
    image: Arc<MetadataImage>,
    /// Proposals of this term so far, as [`Published::proposals`] counts them.
    proposals: u64,
}

impl Published {
    pub(crate) fn position(&self) -> LogPosition {
        self.applied.map_or_else(LogPosition::default, position)
    }
}

impl RaftQuorum {
    /// Opens the metadata in `settings.directory`, or begins a cluster there. `startup` sees the replayed image and
    /// gives the records of this start; they are committed when this returns, and this node leads.
    pub async fn open(
        world: &World,
        settings: QuorumSettings,
        startup: impl FnOnce(&MetadataImage) -> Vec<MetadataRecord> + Send + 'static,
    ) -> Result<RaftQuorum, OpenError> {
        let snapshot_bytes = settings.snapshot_bytes;
        let config = raft_config(&settings)?;
        let (sender, receiver) = oneshot::channel();
        let world_of_work = world.clone();
        // The receiver waits below.
        let work = move || drop(sender.send(prepare(&world_of_work, &settings, startup)));
        world.spawn.blocking(Box::new(work)).await;
        let ended = |_| OpenError::Engine { description: "reading the metadata was cut short".to_owned() };
        let Prepared { content, files, initial, snapshots, voter, identity } = receiver.await.map_err(ended)??;

        let failure = FailureSlot::new();
        let (log, writer) = LogStore::start(content, files, world, &failure);
        let (machine, published) = StateMachine::new(initial, snapshots, world.clone(), failure.clone());
        let engine = |description: String| OpenError::Engine { description };
        let raft = Raft::new(voter, Arc::new(config), NoPeers, log.clone(), machine)
            .await
            .map_err(|error| engine(error.to_string()))?;
        raft.wait(Some(START_TIMEOUT))
            .metrics(|metrics| metrics.state.is_leader(), "the sole voter leads")
            .await
            .map_err(|error| engine(error.to_string()))?;
        tokio::spawn(watch_engine(raft.clone(), failure.clone()));
        Ok(RaftQuorum {
            raft,
            log,
            writer: Mutex::new(Some(writer)),
            published,
            pending: Mutex::default(),
            proposals: Semaphore::new(MAX_PROPOSALS),
            failure,
            voter,
            identity,
            snapshot_bytes,
        })
    }

    /// Who this node is; what `meta.properties` must say.
    pub fn identity(&self) -> &QuorumIdentity {
        &self.identity
    }

    /// Takes a snapshot soon and lets go of the log it covers.
    pub async fn snapshot(&self) -> Result<(), QuorumError> {
        self.raft.trigger().snapshot().await.map_err(|_| self.stopped())
    }

    async fn propose_decided(&self, decision: Decision) -> Result<LogPosition, QuorumError> {
        let _permit = self.proposals.acquire().await.map_err(|_| self.stopped())?;
        let mut pending = self.pending.lock().await;
        let term = self.leading_term()?;
        if pending.term != Some(term) {
            self.barrier().await?;
            let published = self.published.borrow().clone();
            let in_term = published.applied.is_some_and(|applied| applied.leader_id.term == term);
            let proposals = if in_term { published.proposals } else { 0 };
            *pending = Pending { term: Some(term), image: published.image, proposals };
        }
        let records = decision(&pending.image);
        if records.is_empty() {
            let seen = pending.proposals;
            drop(pending);
            return self.wait_for(term, seen).await;
        }
        let image = Arc::new(pending.image.apply_all(&records)?);
        let command = encode(&records)?;
        let (responder, receiver) = ProgressResponder::complete_only();
        // Until it is known to be sent.
        pending.term = None;
        self.raft.write(command).with_leader(term).responder(responder).await.map_err(|_| self.stopped())?;
        *pending = Pending { term: Some(term), image, proposals: pending.proposals + 1 };
        drop(pending);

        match receiver.await {
            Ok(Ok(response)) => {
                if self.log.command_bytes() > self.snapshot_bytes {
                    self.snapshot().await?;
                }
                Ok(position(response.log_id))
            }
            Ok(Err(error)) => {
                self.pending.lock().await.term = None;
                Err(match error {
                    ClientWriteError::ForwardToLeader(forward) => {
                        QuorumError::NotLeader { leader: forward.leader_id.map(|leader| leader.node_id) }
                    }
                    _ => QuorumError::OutcomeUnknown,
                })
            }
            Err(_) => Err(self.stopped()),
        }
    }

    /// Waits until this many proposals of the term are published.
    async fn wait_for(&self, term: u64, proposals: u64) -> Result<LogPosition, QuorumError> {
        let mut published = self.published.clone();
        let reached = published.wait_for(|published| {
            let applied = published.applied.map_or(0, |applied| applied.leader_id.term);
            applied > term || (applied == term && published.proposals >= proposals)
        });
        tokio::select! {
            reached = reached => {
                let published = reached.map_err(|_| self.stopped())?;
                match published.applied {
                    Some(applied) if applied.leader_id.term == term => Ok(position(applied)),
                    _ => Err(QuorumError::OutcomeUnknown),
                }
            }
            failure = self.failure.failed() => Err(QuorumError::Failed(failure)),
        }
    }

    fn leading_term(&self) -> Result<u64, QuorumError> {
        if self.failure.current().is_some() {
            return Err(self.stopped());
        }
        match self.raft.as_leader() {
            Ok(leader) => Ok(leader.term()),
            Err(forward) => Err(QuorumError::NotLeader { leader: forward.leader_id.map(|leader| leader.node_id) }),
        }
    }

    async fn barrier(&self) -> Result<(), QuorumError> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(QuorumError::NotLeader { leader: forward.leader_id.map(|leader| leader.node_id) })
            }
            Err(RaftError::APIError(_)) => Err(QuorumError::NotLeader { leader: None }),
            Err(RaftError::Fatal(_)) => Err(self.stopped()),
        }
    }

    fn stopped(&self) -> QuorumError {
        self.failure.current().map_or(QuorumError::ShutDown, QuorumError::Failed)
    }
}

impl MetadataQuorum for RaftQuorum {
    fn propose(&self, decision: Decision) -> BoxFuture<'_, Result<LogPosition, QuorumError>> {
        Box::pin(self.propose_decided(decision))
    }

    fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.published.borrow().image)
    }

    fn watch(&self) -> MetadataWatch {
        MetadataWatch::new(self.published.clone())
    }

    fn read_barrier(&self) -> BoxFuture<'_, Result<(), QuorumError>> {
        Box::pin(self.barrier())
    }

    fn leader(&self) -> LeaderStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader: Option<NodeId> = metrics.current_leader.map(|leader| leader.node_id);
        LeaderStatus { term: metrics.current_term, leader, is_leader: metrics.current_leader == Some(self.voter) }
    }

    fn failed(&self) -> BoxFuture<'_, Arc<QuorumFailure>> {
        Box::pin(self.failure.failed())
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // Proposals that have begun are waited for; none begins after this.
            if let Ok(permits) = self.proposals.acquire_many(MAX_PROPOSALS as u32).await {
                self.proposals.close();
                drop(permits);
            }
            if let Err(error) = self.raft.shutdown().await {
                tracing::warn!(%error, "the consensus engine did not stop in order");
            }
            if let Some(writer) = self.writer.lock().await.take() {
                writer.close().await;
            }
        })
    }
}

/// Reports a stop of the engine that nothing else has reported.
async fn watch_engine(raft: Raft<TypeConfig, StateMachine>, failure: FailureSlot) {
    use openraft::errors::Fatal;

    let mut metrics = raft.metrics();
    // The handle would keep the channel open.
    drop(raft);
    loop {
        let state = metrics.borrow_and_update().running_state.clone();
        match state {
            Ok(()) => {}
            Err(Fatal::Stopped) => return,
            Err(error) => {
                failure.set(QuorumFailure::Engine { description: error.to_string() });
                return;
            }
        }
        if metrics.changed().await.is_err() {
            // It says so when it stops in order.
            failure.set(QuorumFailure::Engine { description: "its task has ended".to_owned() });
            return;
        }
    }
}

fn encode(records: &[MetadataRecord]) -> Result<Command, QuorumError> {
    let mut bytes = Vec::new();
    encode_records(records, &mut bytes);
    if bytes.len() > MAX_COMMAND_SIZE {
        return Err(QuorumError::TooLarge { size: bytes.len(), limit: MAX_COMMAND_SIZE });
    }
    Ok(Command { records: Bytes::from(bytes) })
}

fn position(log_id: RaftLogId) -> LogPosition {
    LogPosition { term: log_id.leader_id.term, index: log_id.index }
}

fn raft_config(settings: &QuorumSettings) -> Result<Config, OpenError> {
    let config = Config {
        cluster_name: "metadata".to_owned(),
        heartbeat_interval: 500,
        election_timeout_min: 1_500,
        election_timeout_max: 3_000,
        // A sole voter has nobody to send heartbeats to, and elects itself when it opens: it needs no timer at all.
        enable_tick: false,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.snapshot_entries),
        max_in_snapshot_log_to_keep: 0,
        api_channel_size: Some(1_024),
        notification_channel_size: Some(1_024),
        ..Config::default()
    };
    config.validate().map_err(|error| OpenError::Engine { description: error.to_string() })
}
