//! What the tools have in common: which cluster they speak to, and how they fail.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ottla_client::{BootstrapServers, Client, ClientError, ClientSettings, ConnectionError};
use ottla_rt::World;
use ottla_types::ErrorCode;

use crate::output::StdoutClosed;
use crate::process::{self, LogFormat};
use crate::time::parse_duration;

/// One request gets no longer than this, however patient the user is.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Args)]
pub struct ClusterArguments {
    /// The brokers to ask first; the others are found through them.
    #[arg(long, value_name = "HOST:PORT,...", default_value = "localhost:9092", global = true)]
    bootstrap_server: BootstrapServers,
    /// How long to try before giving up, such as 500ms, 10s or 2m.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration, global = true)]
    pub timeout: Duration,
}

impl ClusterArguments {
    pub fn bootstrap_server(&self) -> &BootstrapServers {
        &self.bootstrap_server
    }

    pub fn client(&self) -> Client {
        self.client_within(REQUEST_TIMEOUT)
    }

    /// A client whose requests take no longer than this.
    pub fn client_within(&self, request_timeout: Duration) -> Client {
        let settings = ClientSettings {
            client_id: "ottla-cli".to_owned(),
            request_timeout: self.timeout.min(REQUEST_TIMEOUT).min(request_timeout),
            default_api_timeout: self.timeout,
            ..ClientSettings::new(self.bootstrap_server.clone())
        };
        Client::new(World::os(), settings)
    }
}

/// Runs a tool to its end and says on standard error what went wrong: 0, or 1 for a failure. (Arguments that make no
/// sense are 2, before anything runs.)
pub fn run(tool: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    // Printing may block while heartbeats must go on, hence threads.
    let runtime = process::start_logging("warn", LogFormat::Text)
        .and_then(|_loggers| Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?));
    let done = runtime.and_then(|runtime| {
        let done = runtime.block_on(tool);
        // A thread may be waiting for a line that never comes.
        runtime.shutdown_background();
        done
    });
    conclude(done)
}

/// The exit code of what was done, after saying why it failed.
pub fn conclude(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<StdoutClosed>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ottla: {}", chain(&error));
            if let Some(advice) = error.downcast_ref::<ClientError>().and_then(advice) {
                eprintln!("       {advice}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, each said once: some say their cause themselves.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// What to do next.
fn advice(error: &ClientError) -> Option<String> {
    Some(match error {
        ClientError::Unreachable { .. } => {
            "is a broker running? start one with `ottla server`, or say where it is with --bootstrap-server HOST:PORT"
                .to_owned()
        }
        ClientError::UnknownTopic { topic }
        | ClientError::Topic { topic, code: ErrorCode::UnknownTopicOrPartition, .. } => {
            format!("create it with `ottla topic create {topic}`, or see what there is with `ottla topic list`")
        }
        ClientError::UnknownPartition { topic, .. } => {
            format!("see its partitions with `ottla topic describe {topic}`")
        }
        ClientError::OffsetOutOfRange { topic, .. } => {
            format!("see the offsets there are with `ottla topic describe {topic}`, or read --from-beginning")
        }
        ClientError::Topic { code: ErrorCode::TopicAlreadyExists, .. } => "accept that with --if-not-exists".to_owned(),
        ClientError::Partition { code: ErrorCode::MessageTooLarge, .. } => {
            "the topic's max.message.bytes says how large a record may be".to_owned()
        }
        ClientError::UnknownGroup { .. } => "see which groups there are with `ottla group list`".to_owned(),
        ClientError::Group { group, code: ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId, .. } => {
            format!("the group has members; stop them, and try again when `ottla group describe {group}` says Empty")
        }
        ClientError::Connection(ConnectionError::NoCommonVersion { .. }) => {
            "see what the broker serves with `ottla api-versions`".to_owned()
        }
        ClientError::Connection(_) => "try again, with a longer --timeout if the cluster is slow".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let source = ConnectionError::Connect { host: "h".to_owned(), port: 1, source: Arc::new(refused) };
        let error = anyhow::Error::from(ClientError::Unreachable { servers: "h:1".to_owned(), source });
        assert_eq!(chain(&error), "cannot connect to h:1: connection refused");
        assert_eq!(chain(&error.context("a.txt, line 3")), "a.txt, line 3: cannot connect to h:1: connection refused");
    }
}
