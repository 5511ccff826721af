//! The levels of this process's log, which administrators of a broker see and change while it runs.

use std::collections::BTreeMap;

use ottla_broker::{LogLevel, Loggers, ROOT_LOGGER};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::reload;

/// Loggers there are besides those that the filter at the start names: what the parts of this program log as.
const TARGETS: [&str; 10] = [
    "openraft",
    "ottla",
    "ottla_broker",
    "ottla_client",
    "ottla_config",
    "ottla_controller",
    "ottla_group",
    "ottla_log",
    "ottla_quorum",
    "ottla_rt",
];

/// A filter that can be replaced, in whatever it filters for.
pub struct ProcessLoggers<S> {
    handle: reload::Handle<Targets, S>,
}

impl<S> ProcessLoggers<S> {
    pub fn new(handle: reload::Handle<Targets, S>) -> Self {
        Self { handle }
    }
}

impl<S> Loggers for ProcessLoggers<S>
where
    S: 'static,
{
    fn levels(&self) -> BTreeMap<String, LogLevel> {
        // It fails once logging has ended, with the process.
        self.handle.with_current(levels).unwrap_or_default()
    }

    fn set(&self, changes: &BTreeMap<String, Option<LogLevel>>) {
        let changed = self.handle.modify(|targets| *targets = changed(targets, changes));
        if let Err(error) = changed {
            tracing::error!(%error, "log levels cannot be changed");
        }
    }
}

fn levels(targets: &Targets) -> BTreeMap<String, LogLevel> {
    let root = targets.default_level().unwrap_or(LevelFilter::OFF);
    let own: BTreeMap<&str, LevelFilter> = targets.iter().collect();
    let mut levels = BTreeMap::from([(ROOT_LOGGER.to_owned(), level(root))]);
    for name in TARGETS.into_iter().chain(own.keys().copied()) {
        // The longest name that is its beginning decides.
        let deciding =
            own.iter().filter(|(prefix, _)| name.starts_with(**prefix)).max_by_key(|(prefix, _)| prefix.len());
        levels.insert(name.to_owned(), level(deciding.map_or(root, |(_, level)| *level)));
    }
    levels
}

fn changed(targets: &Targets, changes: &BTreeMap<String, Option<LogLevel>>) -> Targets {
    let root = match changes.get(ROOT_LOGGER) {
        Some(Some(level)) => filter(*level),
        _ => targets.default_level().unwrap_or(LevelFilter::OFF),
    };
    let kept = targets.iter().filter(|(name, _)| !changes.contains_key(*name));
    let kept = kept.map(|(name, level)| (name.to_owned(), level));
    let set = changes.iter().filter(|(name, _)| *name != ROOT_LOGGER);
    let set = set.filter_map(|(name, level)| Some((name.clone(), filter((*level)?))));
    Targets::new().with_default(root).with_targets(kept.chain(set).collect::<Vec<_>>())
}

fn level(filter: LevelFilter) -> LogLevel {
    match filter {
        LevelFilter::TRACE => LogLevel::Trace,
        LevelFilter::DEBUG => LogLevel::Debug,
        LevelFilter::INFO => LogLevel::Info,
        LevelFilter::WARN => LogLevel::Warn,
        LevelFilter::ERROR => LogLevel::Error,
        _ => LogLevel::Fatal,
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Fatal => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(targets: &Targets, name: &str) -> LogLevel {
        levels(targets)[name]
    }

    #[test]
    fn a_loggers_level_is_its_own_or_that_of_what_decides_for_it() {
        let targets: Targets = "warn,openraft=error,ottla_log::flush=trace".parse().unwrap();
        assert_eq!(shown(&targets, ROOT_LOGGER), LogLevel::Warn);
        assert_eq!(shown(&targets, "ottla_log"), LogLevel::Warn);
        assert_eq!(shown(&targets, "ottla_log::flush"), LogLevel::Trace);
        let changes = BTreeMap::from([
            (ROOT_LOGGER.to_owned(), Some(LogLevel::Info)),
            ("ottla_log".to_owned(), Some(LogLevel::Fatal)),
            ("openraft".to_owned(), None),
        ]);
        let targets = changed(&targets, &changes);
        assert_eq!(shown(&targets, "openraft"), LogLevel::Info);
        assert_eq!(shown(&targets, "ottla_log"), LogLevel::Fatal);
        assert_eq!(shown(&targets, "ottla_log::flush"), LogLevel::Trace);
        assert!(!targets.would_enable("ottla_log", &tracing::Level::ERROR));
        assert!(targets.would_enable("ottla_log::flush", &tracing::Level::TRACE));
        assert!(targets.would_enable("openraft", &tracing::Level::INFO));
    }
}
