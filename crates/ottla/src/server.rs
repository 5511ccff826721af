//! `ottla server`: one node, from its configuration to its clean stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ottla_broker::{Loggers, Server, ServerSettings};
use ottla_config::{ConfigWarning, Loaded, ServerConfig};
use ottla_rt::World;

use crate::process::{self, LogFormat, StopSignals};

/// A clean stop takes at most this long, less than the 30 s after which service managers kill; what is not finished then
/// is recovered at the next start.
const STOP_WITHIN: Duration = Duration::from_secs(25);
/// A stop that takes long says so this often.
const STOP_PROGRESS: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct ServerArguments {
    /// Kafka's server.properties. Without it the broker listens on the loopback addresses, port 9092.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One configuration key, over the file's value; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
    /// Where the data is; replaces log.dirs.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Refuse configuration keys that nobody knows.
    #[arg(long)]
    strict: bool,
    /// How much is logged: error, warn, info, debug, trace, or a filter such as ottla_log=debug. RUST_LOG is stronger.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("'{text}' is not KEY=VALUE")),
    }
}

pub fn run(arguments: &ServerArguments) -> ExitCode {
    let loggers = match process::start_logging(&arguments.log_level, arguments.log_format) {
        Ok(loggers) => loggers,
        Err(error) => {
            eprintln!("ottla: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Loaded { config, warnings } = match load(arguments) {
        Ok(loaded) => loaded,
        Err(errors) => {
            for error in errors {
                eprintln!("ottla: {error}");
            }
            return ExitCode::FAILURE;
        }
    };
    for warning in &warnings {
        warn(warning);
    }
    process::raise_open_files_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ottla: threads cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(serve(config, loggers));
    runtime.shutdown_timeout(Duration::from_millis(100));
    exit
}

fn load(arguments: &ServerArguments) -> Result<Loaded, Vec<String>> {
    let text = match &arguments.config {
        None => None,
        Some(path) => {
            let bytes = std::fs::read(path)
                .map_err(|error| vec![format!("the configuration file {} cannot be read: {error}", path.display())])?;
            Some(ottla_config::properties::decode(&bytes).into_owned())
        }
    };
    ServerConfig::load(text.as_deref(), &arguments.settings, arguments.data_dir.as_deref(), arguments.strict)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn warn(warning: &ConfigWarning) {
    tracing::warn!("{warning}");
}

async fn serve(config: ServerConfig, loggers: Arc<dyn Loggers>) -> ExitCode {
    let directories: Vec<String> = config.log_dirs.iter().map(|directory| directory.display().to_string()).collect();
    let mut signals = match StopSignals::new() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("ottla: signals cannot be watched: {error}");
            return ExitCode::FAILURE;
        }
    };
    let settings = ServerSettings { loggers, ..ServerSettings::default() };
    let server = match Server::start_with(World::os(), config, settings).await {
        Ok(server) => server,
        Err(error) => {
            eprintln!("ottla: {error}");
            return ExitCode::FAILURE;
        }
    };
    greet(&server, &directories);
    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "stopping"),
        reason = server.fatal() => {
            eprintln!("ottla: this node stops: {reason}");
            return ExitCode::FAILURE;
        }
    }
    stop(server, &mut signals).await
}

/// Ends the broker cleanly, unless that takes too long or a second signal asks for an end at once.
async fn stop(server: Server, signals: &mut StopSignals) -> ExitCode {
    let begun = tokio::time::Instant::now();
    let mut stopping = std::pin::pin!(tokio::time::timeout(STOP_WITHIN, server.shutdown()));
    let mut progress = tokio::time::interval_at(begun + STOP_PROGRESS, STOP_PROGRESS);
    loop {
        tokio::select! {
            stopped = &mut stopping => return match stopped {
                Ok(Ok(())) => {
                    tracing::info!("stopped cleanly");
                    ExitCode::SUCCESS
                }
                Ok(Err(error)) => {
                    eprintln!("ottla: the stop was not clean, the next start will recover: {error}");
                    ExitCode::FAILURE
                }
                Err(_) => {
                    eprintln!("ottla: the stop took longer than {STOP_WITHIN:?}; the next start will recover");
                    ExitCode::FAILURE
                }
            },
            signal = signals.next() => {
                eprintln!("ottla: stopped at once by a second {signal}; the next start will recover");
                return ExitCode::FAILURE;
            }
            _ = progress.tick() => {
                tracing::info!(seconds = begun.elapsed().as_secs(), "still writing what a clean stop needs");
            }
        }
    }
}

/// Says where the broker listens, where the data is, and what to try next.
fn greet(server: &Server, directories: &[String]) {
    let listeners: Vec<String> =
        server.listeners().iter().map(|listener| format!("{}://{}", listener.name, listener.address)).collect();
    println!("Ottla {} is ready.", env!("CARGO_PKG_VERSION"));
    println!("  listening on  {}", listeners.join(", "));
    println!("  data in       {}", directories.join(", "));
    if let Some(listener) = server.listeners().first() {
        println!("  try           ottla produce greetings --bootstrap-server {}", listener.advertised);
        println!("  then          ottla consume greetings --from-beginning --bootstrap-server {}", listener.advertised);
    }
}
