//! The loggers of the process a broker runs in, as administrators see and change them. Who set up logging hands them
//! over in the server's settings: a level belongs to the process, not to a node, and is not kept.

use std::collections::BTreeMap;
use std::fmt;

/// How much a logger lets through, with Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing: no event here is fatal without ending the node, which says so by itself.
    Fatal,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// By its name, which is written in capitals.
    pub fn from_name(name: &str) -> Option<LogLevel> {
        Some(match name {
            "FATAL" => LogLevel::Fatal,
            "ERROR" => LogLevel::Error,
            "WARN" => LogLevel::Warn,
            "INFO" => LogLevel::Info,
            "DEBUG" => LogLevel::Debug,
            "TRACE" => LogLevel::Trace,
            _ => return None,
        })
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            LogLevel::Fatal => "FATAL",
            LogLevel::Error => "ERROR",
            LogLevel::Warn => "WARN",
            LogLevel::Info => "INFO",
            LogLevel::Debug => "DEBUG",
            LogLevel::Trace => "TRACE",
        })
    }
}

/// The name of the logger that decides for those without a level of their own.
pub const ROOT_LOGGER: &str = "root";

/// The loggers of a process.
pub trait Loggers: Send + Sync {
    /// Every logger with the level in effect, the root's included.
    fn levels(&self) -> BTreeMap<String, LogLevel>;

    /// Changes levels, all at once; `None` takes a logger's own level away. The loggers are those of [`Self::levels`].
    fn set(&self, levels: &BTreeMap<String, Option<LogLevel>>);
}

/// Of a process that has set up no logging.
pub(crate) struct NoLoggers;

impl Loggers for NoLoggers {
    fn levels(&self) -> BTreeMap<String, LogLevel> {
        BTreeMap::new()
    }

    fn set(&self, _levels: &BTreeMap<String, Option<LogLevel>>) {}
}
