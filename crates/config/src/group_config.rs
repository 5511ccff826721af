//! The settings of single groups. They belong to the newer group protocols, which are not built yet: they are checked,
//! kept and described.

use std::collections::BTreeMap;

use crate::error::ConfigError;
use crate::facts::{Facts, Rule, Type, Update, key};
use crate::server_config::ServerConfig;
use crate::value::Value;

/// Why a group cannot have settings.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GroupConfigError {
    #[error("Unknown group config name: {key}")]
    UnknownKey { key: String },
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    #[error("{key} must be in the range {min} to {max} inclusive.")]
    OutOfRange { key: &'static str, min: i64, max: i64 },
    #[error("{key} must be less than or equal to {max}")]
    AboveMaximum { key: &'static str, max: i64 },
    #[error("{key} must be greater than or equal to {min}")]
    BelowMinimum { key: &'static str, min: i64 },
    #[error("{session} must be greater than {heartbeat}")]
    SessionWithinHeartbeat { session: &'static str, heartbeat: &'static str },
    #[error("streams.assignor.name must be one of: {}", .known.join(", "))]
    UnknownAssignor { known: Vec<String> },
    #[error("streams.rack.aware.assignment.tags must not contain duplicate tag keys.")]
    DuplicateTags,
    #[error("errors.deadletterqueue.topic.name must not start with '__'")]
    InternalDeadLetterTopic,
}

const DEAD_LETTER_TOPIC: &str = "errors.deadletterqueue.topic.name";
const ASSIGNOR: &str = "streams.assignor.name";
const RACK_TAGS: &str = "streams.rack.aware.assignment.tags";
const ISOLATION: Rule = Rule::OneOf(&["read_committed", "read_uncommitted"]);
const ANY_LIST: Rule = Rule::List { allowed: &[], may_be_empty: true };

/// Sorted by name; the server key behind each gives its default.
#[rustfmt::skip]
static KEYS: &[Facts] = &[
    key("consumer.assignment.interval.ms", Type::Int, Some("1000"), Rule::AtLeast(0), Update::Topic, &["group.consumer.assignment.interval.ms"]),
    key("consumer.assignor.offload.enable", Type::Boolean, Some("true"), Rule::Any, Update::Topic, &["group.consumer.assignor.offload.enable"]).internal(),
    key("consumer.heartbeat.interval.ms", Type::Int, Some("5000"), Rule::AtLeast(1), Update::Topic, &["group.consumer.heartbeat.interval.ms"]),
    key("consumer.session.timeout.ms", Type::Int, Some("45000"), Rule::AtLeast(1), Update::Topic, &["group.consumer.session.timeout.ms"]),
    key("errors.deadletterqueue.copy.record.enable", Type::Boolean, Some("false"), Rule::Any, Update::Topic, &[]),
    key(DEAD_LETTER_TOPIC, Type::String, Some(""), Rule::Any, Update::Topic, &[]),
    key("share.assignment.interval.ms", Type::Int, Some("1000"), Rule::AtLeast(0), Update::Topic, &["group.share.assignment.interval.ms"]),
    key("share.assignor.offload.enable", Type::Boolean, Some("true"), Rule::Any, Update::Topic, &["group.share.assignor.offload.enable"]).internal(),
    key("share.auto.offset.reset", Type::String, Some("latest"), Rule::ShareOffsetReset, Update::Topic, &[]),
    key("share.delivery.count.limit", Type::Int, Some("5"), Rule::AtLeast(2), Update::Topic, &["group.share.delivery.count.limit"]),
    key("share.heartbeat.interval.ms", Type::Int, Some("5000"), Rule::AtLeast(1), Update::Topic, &["group.share.heartbeat.interval.ms"]),
    key("share.isolation.level", Type::String, Some("read_uncommitted"), ISOLATION, Update::Topic, &[]),
    key("share.partition.max.record.locks", Type::Int, Some("2000"), Rule::AtLeast(100), Update::Topic, &["group.share.partition.max.record.locks"]),
    key("share.record.lock.duration.ms", Type::Int, Some("30000"), Rule::AtLeast(1000), Update::Topic, &["group.share.record.lock.duration.ms"]),
    key("share.renew.acknowledge.enable", Type::Boolean, Some("true"), Rule::Any, Update::Topic, &[]),
    key("share.session.timeout.ms", Type::Int, Some("45000"), Rule::AtLeast(1), Update::Topic, &["group.share.session.timeout.ms"]),
    key("streams.acceptable.recovery.lag", Type::Long, Some("10000"), Rule::AtLeast(0), Update::Topic, &["group.streams.acceptable.recovery.lag"]).internal(),
    key("streams.assignment.interval.ms", Type::Int, Some("1000"), Rule::AtLeast(0), Update::Topic, &["group.streams.assignment.interval.ms"]),
    key(ASSIGNOR, Type::String, None, Rule::Any, Update::Topic, &["group.streams.assignors"]),
    key("streams.assignor.offload.enable", Type::Boolean, Some("true"), Rule::Any, Update::Topic, &["group.streams.assignor.offload.enable"]).internal(),
    key("streams.heartbeat.interval.ms", Type::Int, Some("5000"), Rule::AtLeast(1), Update::Topic, &["group.streams.heartbeat.interval.ms"]),
    key("streams.initial.rebalance.delay.ms", Type::Int, Some("3000"), Rule::AtLeast(0), Update::Topic, &["group.streams.initial.rebalance.delay.ms"]),
    key("streams.num.standby.replicas", Type::Int, Some("0"), Rule::AtLeast(0), Update::Topic, &["group.streams.num.standby.replicas"]),
    key("streams.num.warmup.replicas", Type::Int, Some("2"), Rule::AtLeast(0), Update::Topic, &["group.streams.num.warmup.replicas"]).internal(),
    key(RACK_TAGS, Type::List, Some(""), ANY_LIST, Update::Topic, &["group.streams.rack.aware.assignment.tags"]),
    key("streams.session.timeout.ms", Type::Int, Some("45000"), Rule::AtLeast(1), Update::Topic, &["group.streams.session.timeout.ms"]),
    key("streams.task.offset.interval.ms", Type::Int, Some("60000"), Rule::AtLeast(1), Update::Topic, &["group.streams.task.offset.interval.ms"]).internal(),
];

/// A group's key and the server keys that bound it.
const RANGES: [(&str, &str, &str); 11] = [
    range(
        "consumer.heartbeat.interval.ms",
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    range(
        "consumer.session.timeout.ms",
        "group.consumer.min.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
    range(
        "consumer.assignment.interval.ms",
        "group.consumer.min.assignment.interval.ms",
        "group.consumer.max.assignment.interval.ms",
    ),
    range(
        "share.heartbeat.interval.ms",
        "group.share.min.heartbeat.interval.ms",
        "group.share.max.heartbeat.interval.ms",
    ),
    range("share.session.timeout.ms", "group.share.min.session.timeout.ms", "group.share.max.session.timeout.ms"),
    range(
        "share.record.lock.duration.ms",
        "group.share.min.record.lock.duration.ms",
        "group.share.max.record.lock.duration.ms",
    ),
    range("share.delivery.count.limit", "group.share.min.delivery.count.limit", "group.share.max.delivery.count.limit"),
    range(
        "share.partition.max.record.locks",
        "group.share.min.partition.max.record.locks",
        "group.share.max.partition.max.record.locks",
    ),
    range(
        "share.assignment.interval.ms",
        "group.share.min.assignment.interval.ms",
        "group.share.max.assignment.interval.ms",
    ),
    range(
        "streams.heartbeat.interval.ms",
        "group.streams.min.heartbeat.interval.ms",
        "group.streams.max.heartbeat.interval.ms",
    ),
    range("streams.session.timeout.ms", "group.streams.min.session.timeout.ms", "group.streams.max.session.timeout.ms"),
];
const STREAMS_ASSIGNMENT: (&str, &str, &str) = range(
    "streams.assignment.interval.ms",
    "group.streams.min.assignment.interval.ms",
    "group.streams.max.assignment.interval.ms",
);

const fn range(key: &'static str, min: &'static str, max: &'static str) -> (&'static str, &'static str, &'static str) {
    (key, min, max)
}

/// What each key will be when its protocol is built.
fn subject(name: &str) -> &'static str {
    match name.split_once('.').map(|(first, _)| first) {
        Some("consumer") => "groups of the consumer protocol (KIP-848)",
        Some("streams") => "groups of the streams protocol (KIP-1071)",
        _ => "share groups (KIP-932)",
    }
}

pub(crate) fn group_keys() -> impl Iterator<Item = &'static Facts> {
    KEYS.iter()
}

pub(crate) fn group_documentation(name: &str) -> String {
    format!("Kept and described; has no effect until {} are built.", subject(name))
}

impl ServerConfig {
    /// Checks the settings of one group, each and together.
    pub fn check_group(&self, settings: &BTreeMap<String, String>) -> Result<(), GroupConfigError> {
        if let Some(key) = settings.keys().find(|name| group_key(name).is_none()) {
            return Err(GroupConfigError::UnknownKey { key: key.clone() });
        }
        let values = self.group_values(settings)?;
        let long = |name: &str| match values.get(name) {
            Some(Value::Integer(number)) => *number,
            other => unreachable!("invariant: {name} is a number with a default, not {other:?}"),
        };
        // A bound of the server holds for what the group sets; a value of the server's own was its operator's choice.
        let is_set = |name: &str| settings.contains_key(name);
        for (key, min, max) in RANGES.into_iter().chain([STREAMS_ASSIGNMENT]).filter(|(key, ..)| is_set(key)) {
            let (min, max) = (self.settings.long(min), self.settings.long(max));
            if !(min..=max).contains(&long(key)) {
                return Err(GroupConfigError::OutOfRange { key, min, max });
            }
        }
        let maxima = [
            ("streams.num.standby.replicas", "group.streams.max.standby.replicas"),
            ("streams.num.warmup.replicas", "group.streams.max.warmup.replicas"),
        ];
        for (key, max) in maxima {
            let max = self.settings.long(max);
            if is_set(key) && long(key) > max {
                return Err(GroupConfigError::AboveMaximum { key, max });
            }
        }
        let (key, min) = ("streams.task.offset.interval.ms", "group.streams.min.task.offset.interval.ms");
        let min = self.settings.long(min);
        if is_set(key) && long(key) < min {
            return Err(GroupConfigError::BelowMinimum { key, min });
        }
        let pairs = [
            ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"),
            ("share.session.timeout.ms", "share.heartbeat.interval.ms"),
            ("streams.session.timeout.ms", "streams.heartbeat.interval.ms"),
        ];
        for (session, heartbeat) in pairs {
            if (is_set(session) || is_set(heartbeat)) && long(session) <= long(heartbeat) {
                return Err(GroupConfigError::SessionWithinHeartbeat { session, heartbeat });
            }
        }
        self.check_names(settings)
    }

    fn check_names(&self, settings: &BTreeMap<String, String>) -> Result<(), GroupConfigError> {
        let known = self.settings.list("group.streams.assignors");
        if settings.get(ASSIGNOR).is_some_and(|name| !known.iter().any(|known| known == name.trim())) {
            return Err(GroupConfigError::UnknownAssignor { known });
        }
        if let Some(tags) = settings.get(RACK_TAGS) {
            let tags: Vec<_> = tags.trim().split(',').map(str::trim).collect();
            let distinct: std::collections::BTreeSet<_> = tags.iter().collect();
            if distinct.len() != tags.len() {
                return Err(GroupConfigError::DuplicateTags);
            }
        }
        match settings.get(DEAD_LETTER_TOPIC) {
            Some(topic) if topic.trim().starts_with("__") => Err(GroupConfigError::InternalDeadLetterTopic),
            _ => Ok(()),
        }
    }

    /// The value of every group key that has one: the group's own, the server key's behind it, the default.
    pub(crate) fn group_values(
        &self,
        settings: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<&'static str, Value>, ConfigError> {
        let mut values = BTreeMap::new();
        for facts in KEYS {
            let value = match (settings.get(facts.name), facts.synonyms.first()) {
                (Some(text), _) => Some(Value::parse(facts, text)?),
                // The first of the server's assignors is the default.
                (None, Some(_)) if facts.name == ASSIGNOR => {
                    self.settings.list("group.streams.assignors").into_iter().next().map(Value::Text)
                }
                (None, Some(behind)) => self.settings.value(behind),
                (None, None) => facts.default.map(|text| Value::parse(facts, text)).transpose()?,
            };
            values.extend(value.map(|value| (facts.name, value)));
        }
        Ok(values)
    }
}

fn group_key(name: &str) -> Option<&'static Facts> {
    KEYS.iter().find(|facts| facts.name == name)
}
