//! The handle of a test.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use ottla_broker::{StartError, StopError};
use tokio::sync::{mpsc, oneshot};

use crate::node::{self, Command, Plan};

/// Why there is no broker, or why it did not stop as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// These settings are not Kafka's, or their values are out of range. A line for each.
    #[error("{}", .0.join("; "))]
    Settings(Vec<String>),
    #[error("a temporary folder cannot be made: {0}")]
    TemporaryFolder(#[source] io::Error),
    #[error("a thread for the broker cannot be started: {0}")]
    Thread(#[source] io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Stop(#[from] StopError),
    /// The node had stopped by itself: it has found that it cannot go on.
    #[error("the node has stopped by itself: {0}")]
    Failed(String),
}

/// Where the records are.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Memory,
    TemporaryFolder,
    Folder(PathBuf),
}

/// What a cluster is to be like. Made by [`Cluster::builder`].
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    settings: Vec<(String, String)>,
    data: Data,
}

impl ClusterBuilder {
    /// A key of Kafka's `server.properties`. A later value of the same key replaces an earlier one. `listeners` and `log.dirs`
    /// are the test kit's.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Display) -> ClusterBuilder {
        self.settings.push((key.into(), value.to_string()));
        self
    }

    /// Keeps the data in files of a temporary folder, which goes with the cluster. Otherwise it is in memory: faster, and of
    /// no use to who wants to look at files.
    #[must_use]
    pub fn in_temporary_folder(self) -> ClusterBuilder {
        ClusterBuilder { data: Data::TemporaryFolder, ..self }
    }

    /// Keeps the data in this folder, which stays: what a cluster before has left there is found again.
    #[must_use]
    pub fn in_folder(self, folder: impl Into<PathBuf>) -> ClusterBuilder {
        ClusterBuilder { data: Data::Folder(folder.into()), ..self }
    }

    /// Starts the cluster; it serves when this returns.
    pub async fn start(self) -> Result<Cluster, ClusterError> {
        let (cluster, started) = Cluster::spawn(self)?;
        cluster.started(started.await)
    }

    /// The same for a test without a runtime.
    ///
    /// # Panics
    /// Inside a runtime: use [`ClusterBuilder::start`] there.
    pub fn start_blocking(self) -> Result<Cluster, ClusterError> {
        let (cluster, started) = Cluster::spawn(self)?;
        cluster.started(started.blocking_recv())
    }
}

/// A broker of this process. Dropped, it ends, without writing what a clean stop would write, and waits for its thread:
/// some milliseconds.
#[derive(Debug)]
pub struct Cluster {
    bootstrap_servers: String,
    folder: Option<PathBuf>,
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    /// One broker with its data in memory, and Kafka's defaults.
    pub async fn start() -> Result<Cluster, ClusterError> {
        Cluster::builder().start().await
    }

    pub fn builder() -> ClusterBuilder {
        ClusterBuilder { settings: Vec::new(), data: Data::Memory }
    }

    /// What clients take as `bootstrap.servers`: `127.0.0.1:PORT`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Where the data is, if it is in files.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Stops the broker in order and starts it again, on the same data and port: clients see a broker that was away.
    pub async fn restart(&self) -> Result<(), ClusterError> {
        self.command(Command::Restart).await
    }

    /// Stops the broker in order: requests under way are answered, and everything is written that a next start wants.
    pub async fn stop(self) -> Result<(), ClusterError> {
        self.command(Command::Stop).await
    }

    fn spawn(
        builder: ClusterBuilder,
    ) -> Result<(Cluster, oneshot::Receiver<Result<node::Started, ClusterError>>), ClusterError> {
        let ClusterBuilder { settings, data } = builder;
        let (started, starting) = oneshot::channel();
        let (commands, received) = mpsc::unbounded_channel();
        let plan = Plan::new(settings, data)?;
        let folder = plan.folder();
        let run = move || node::run(plan, started, received);
        let thread =
            std::thread::Builder::new().name("ottla-testkit".to_owned()).spawn(run).map_err(ClusterError::Thread)?;
        let cluster =
            Cluster { bootstrap_servers: String::new(), folder, commands: Some(commands), thread: Some(thread) };
        Ok((cluster, starting))
    }

    fn started(
        mut self,
        outcome: Result<Result<node::Started, ClusterError>, oneshot::error::RecvError>,
    ) -> Result<Cluster, ClusterError> {
        self.bootstrap_servers =
            outcome.map_err(|_| ClusterError::Failed("its thread has panicked".to_owned()))??.address;
        Ok(self)
    }

    async fn command(&self, command: impl FnOnce(node::Reply) -> Command) -> Result<(), ClusterError> {
        let ended = || ClusterError::Failed("its thread has panicked".to_owned());
        let (reply, replied) = oneshot::channel();
        let commands = self.commands.as_ref().expect("invariant: only dropping takes it away");
        commands.send(command(reply)).map_err(|_| ended())?;
        replied.await.map_err(|_| ended())?
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The node ends when nobody can command it any more.
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            // It has told why it panicked.
            let _ = thread.join();
        }
    }
}
