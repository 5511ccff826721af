//! The node behind a cluster: a thread with a runtime of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ottla_broker::Server;
use ottla_config::ServerConfig;
use ottla_rt::World;
use ottla_rt::memory::MemoryDisk;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use crate::cluster::{ClusterError, Data};

/// Work that blocks on a file is short; what is not ends with the process.
const END_WITHIN: Duration = Duration::from_secs(5);

pub(crate) type Reply = oneshot::Sender<Result<(), ClusterError>>;

pub(crate) enum Command {
    Restart(Reply),
    Stop(Reply),
}

/// The broker serves.
pub(crate) struct Started {
    pub(crate) address: String,
}

/// What is started.
pub(crate) struct Plan {
    settings: Vec<(String, String)>,
    storage: Storage,
}

enum Storage {
    Memory(MemoryDisk),
    Temporary(TempDir),
    Folder(PathBuf),
}

impl Plan {
    pub(crate) fn new(settings: Vec<(String, String)>, data: Data) -> Result<Plan, ClusterError> {
        let storage = match data {
            Data::Memory => {
                let disk = MemoryDisk::new(0);
                // Nothing of it is ever waited for.
                disk.set_cached(true);
                Storage::Memory(disk)
            }
            Data::TemporaryFolder => Storage::Temporary(
                tempfile::Builder::new().prefix("ottla-").tempdir().map_err(ClusterError::TemporaryFolder)?,
            ),
            Data::Folder(folder) => Storage::Folder(folder),
        };
        Ok(Plan { settings, storage })
    }

    /// The folder of its files.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        match &self.storage {
            Storage::Memory(_) => None,
            Storage::Temporary(folder) => Some(folder.path().to_path_buf()),
            Storage::Folder(folder) => Some(folder.clone()),
        }
    }

    fn world(&self) -> World {
        match &self.storage {
            Storage::Memory(disk) => World { disk: disk.mount(), ..World::os() },
            _ => World::os(),
        }
    }

    async fn start(&self, address: SocketAddr) -> Result<Server, ClusterError> {
        let mut settings = vec![("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned())];
        settings.extend(self.settings.iter().cloned());
        settings.push(("listeners".to_owned(), format!("PLAINTEXT://{address}")));
        let directory = self.folder().unwrap_or_else(|| PathBuf::from("/memory"));
        let config = ServerConfig::load(None, &settings, Some(&directory), true)
            .map_err(|errors| ClusterError::Settings(errors.iter().map(ToString::to_string).collect()))?
            .config;
        Ok(Server::start(self.world(), config).await?)
    }
}

/// Runs the node until nobody is left to command it.
pub(crate) fn run(
    plan: Plan,
    started: oneshot::Sender<Result<Started, ClusterError>>,
    commands: mpsc::UnboundedReceiver<Command>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(ClusterError::Thread(error)));
            return;
        }
    };
    runtime.block_on(serve(&plan, started, commands));
    runtime.shutdown_timeout(END_WITHIN);
    // A temporary folder goes with the plan, when nobody writes to it any more.
    drop(plan);
}

async fn serve(
    plan: &Plan,
    started: oneshot::Sender<Result<Started, ClusterError>>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let mut server = match plan.start(SocketAddr::from(([127, 0, 0, 1], 0))).await {
        Ok(server) => server,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let address = server.listeners()[0].address;
    if started.send(Ok(Started { address: address.to_string() })).is_err() {
        return;
    }
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            reason = server.fatal() => return refuse(commands, &reason).await,
        };
        match command {
            None => return,
            Some(Command::Stop(reply)) => {
                let _ = reply.send(server.shutdown().await.map_err(ClusterError::from));
                return;
            }
            Some(Command::Restart(reply)) => {
                let restarted = match server.shutdown().await {
                    Ok(()) => plan.start(address).await,
                    Err(error) => Err(error.into()),
                };
                match restarted {
                    Ok(again) => {
                        server = again;
                        let _ = reply.send(Ok(()));
                    }
                    Err(error) => {
                        let reason = error.to_string();
                        let _ = reply.send(Err(error));
                        return refuse(commands, &reason).await;
                    }
                }
            }
        }
    }
}

/// Tells whoever still asks why there is no node any more.
async fn refuse(mut commands: mpsc::UnboundedReceiver<Command>, reason: &str) {
    while let Some(Command::Restart(reply) | Command::Stop(reply)) = commands.recv().await {
        let _ = reply.send(Err(ClusterError::Failed(reason.to_owned())));
    }
}
