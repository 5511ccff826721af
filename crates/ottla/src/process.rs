//! What belongs to the process as a whole.

use std::sync::Arc;

use ottla_broker::Loggers;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::loggers::ProcessLoggers;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Logs to standard error. `RUST_LOG` or `--log-level` say how much (`info`, `ottla_log=debug,warn`, …). Returns the
/// loggers, whose levels can be changed from then on.
pub fn start_logging(level: &str, format: LogFormat) -> anyhow::Result<Arc<dyn Loggers>> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => filter,
        _ => format!("{level},openraft=error"),
    };
    let targets: Targets = filter
        .parse()
        .map_err(|error| anyhow::anyhow!("'{filter}' is not a log level or filter ({error}); try info or debug"))?;
    let (targets, handle) = reload::Layer::new(targets);
    let registry = tracing_subscriber::registry().with(targets);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).init(),
        LogFormat::Json => registry.with(lines.json()).init(),
    }
    Ok(Arc::new(ProcessLoggers::new(handle)))
}

/// Files and connections both take descriptors: the soft limit becomes the hard one.
pub fn raise_open_files_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, ?current, "the limit of open files cannot be raised");
    }
}

/// Ends at SIGTERM or SIGINT, with its name; for tools, which have nothing to finish before they look.
pub async fn stop_signal() -> std::io::Result<&'static str> {
    Ok(StopSignals::new()?.next().await)
}

/// SIGTERM and SIGINT, from the moment this is made: a signal that comes during the start is not lost.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Needs a runtime.
    pub fn new() -> std::io::Result<StopSignals> {
        Ok(StopSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Ends at the next of them, with its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
