//! The server of this scenario: the binary's entry point in a simulated world.

use anyhow::{anyhow, bail};
use ottla_broker::{Server, ServerSettings};
use ottla_config::ServerConfig;
use ottla_log::Planted;
use ottla_rt::World;

use super::BROKER_PORT;
use crate::choice::Choice;
use crate::driver::SERVER;

/// What a configuration file would say.
pub fn config(choice: &Choice) -> anyhow::Result<ServerConfig> {
    let settings = [
        ("listeners", format!("PLAINTEXT://0.0.0.0:{BROKER_PORT}")),
        ("advertised.listeners", format!("PLAINTEXT://{SERVER}:{BROKER_PORT}")),
        ("log.dirs", choice.of(&["/data/a", "/data/a,/data/b"]).to_string()),
        ("offsets.topic.num.partitions", "3".to_owned()),
        ("log.flush.offset.checkpoint.interval.ms", choice.of(&["500", "60000"]).to_string()),
        ("log.retention.check.interval.ms", choice.of(&["700", "300000"]).to_string()),
    ];
    let sets: Vec<(String, String)> = settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    match ServerConfig::load(None, &sets, None, true) {
        Ok(loaded) => Ok(loaded.config),
        Err(errors) => bail!("{errors:?}"),
    }
}

/// Serves until the node fails.
pub async fn serve(world: World, config: ServerConfig, planted: Option<Planted>) -> anyhow::Result<()> {
    let settings = ServerSettings { planted, ..ServerSettings::default() };
    let server = Server::start_with(world, config, settings).await?;
    Err(anyhow!(server.fatal().await))
}
