//! The effective settings of one topic's logs.

use std::collections::BTreeMap;

use crate::error::{ConfigError, Problem};
use crate::server_config::ServerConfig;
use crate::settings::{Findings, Settings};
use crate::table::{broker_key, topic_key, topic_keys};
use crate::value::Value;
use crate::{CleanupPolicy, CompressionType, Durability, ProduceValidation, TimestampType};

/// What a partition log obeys: the topic's own overrides over the broker's defaults over Kafka's defaults. Preallocation
/// and unclean elections are checked and described; nothing reads them yet.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    pub segment_bytes: i32,
    pub segment_ms: i64,
    pub segment_jitter_ms: i64,
    pub segment_index_bytes: i32,
    pub index_interval_bytes: i32,
    /// -1: unlimited.
    pub retention_ms: i64,
    /// -1: unlimited.
    pub retention_bytes: i64,
    pub cleanup_policy: CleanupPolicy,
    pub max_message_bytes: i32,
    pub max_decompressed_message_bytes: i32,
    pub message_timestamp_type: TimestampType,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_after_max_ms: i64,
    pub compression_type: CompressionType,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub file_delete_delay_ms: i64,
    pub min_insync_replicas: i32,
    pub preallocate: bool,
    pub unclean_leader_election_enable: bool,
    pub min_cleanable_dirty_ratio: f64,
    pub delete_retention_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub durability: Durability,
    pub produce_validation: ProduceValidation,
}

impl Default for LogConfig {
    fn default() -> Self {
        const HOUR_MS: i64 = 60 * 60 * 1000;
        Self {
            segment_bytes: 1024 * 1024 * 1024,
            segment_ms: 7 * 24 * HOUR_MS,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 * 1024 * 1024,
            index_interval_bytes: 4096,
            retention_ms: 7 * 24 * HOUR_MS,
            retention_bytes: -1,
            cleanup_policy: CleanupPolicy::default(),
            max_message_bytes: 1_048_588,
            max_decompressed_message_bytes: i32::MAX - 8,
            message_timestamp_type: TimestampType::CreateTime,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_after_max_ms: HOUR_MS,
            compression_type: CompressionType::Producer,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            file_delete_delay_ms: 60_000,
            min_insync_replicas: 1,
            preallocate: false,
            unclean_leader_election_enable: false,
            min_cleanable_dirty_ratio: 0.5,
            delete_retention_ms: 24 * HOUR_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            durability: Durability::Fsync,
            produce_validation: ProduceValidation::Strict,
        }
    }
}

impl LogConfig {
    /// The settings of a topic: its own overrides over the server's. Also the check of a topic's configuration before it
    /// is created or changed.
    pub fn resolve(server: &ServerConfig, overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        server.topic_defaults.overridden(overrides).map(|values| values.log_config())
    }

    /// The same of overrides that were accepted once, over whatever the server's settings are now: every override that
    /// is understood counts, the others are reported. That values no longer go together takes none of them away.
    pub fn resolve_kept(server: &ServerConfig, overrides: &BTreeMap<String, String>) -> (Self, Vec<ConfigError>) {
        let (values, errors) = server.topic_defaults.with_understood(overrides);
        (values.log_config(), errors)
    }
}

/// The value of every topic key that has one.
#[derive(Clone, Debug)]
pub(crate) struct TopicValues(BTreeMap<&'static str, Value>);

impl TopicValues {
    /// What topics without overrides get: each key's strongest server key that is set, else the default. Kafka accepts
    /// some server values that no topic could have; they are refused here, under the server key's name.
    pub(crate) fn of_server(settings: &Settings, findings: &mut Findings) -> Self {
        let mut values = BTreeMap::new();
        for facts in topic_keys() {
            let default = facts.default.map(|text| Value::parse(facts, text).expect("invariant: defaults are valid"));
            values.extend(default.map(|value| (facts.name, value)));
            let Some((server_key, value)) =
                facts.synonyms.iter().find_map(|name| settings.set_value(name).map(|value| (*name, value)))
            else {
                continue;
            };
            match Value::parse(facts, &in_topic_units(server_key, value).canonical()) {
                Ok(Value::Integer(0)) if facts.name == "retention.ms" => {
                    findings.errors.push(invalid(server_key, value, Problem::ZeroRetention));
                }
                Ok(topic_value) => {
                    values.insert(facts.name, topic_value);
                }
                Err(ConfigError::InvalidValue { problem, .. }) => {
                    findings.errors.push(invalid(server_key, value, problem));
                }
                Err(other) => findings.errors.push(other),
            }
        }
        Self(values)
    }

    /// The same with a topic's own values, each checked, and all of them together.
    pub(crate) fn overridden(&self, overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let (values, errors) = self.with_understood(overrides);
        if let Some(error) = errors.into_iter().next() {
            return Err(error);
        }
        let (min, max) = (values.long("min.compaction.lag.ms"), values.long("max.compaction.lag.ms"));
        if min > max {
            return Err(ConfigError::CompactionLags { min, max });
        }
        Ok(values)
    }

    /// The same with those of a topic's own values that can be obeyed, and what is wrong with the others.
    pub(crate) fn with_understood(&self, overrides: &BTreeMap<String, String>) -> (Self, Vec<ConfigError>) {
        let (mut values, mut errors) = (self.0.clone(), Vec::new());
        for (name, text) in overrides {
            match understood(name, text) {
                Ok((name, value)) => drop(values.insert(name, value)),
                Err(error) => errors.push(error),
            }
        }
        (Self(values), errors)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn log_config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: match self.get("internal.segment.bytes") {
                // Kafka accepts any number here; nothing smaller than a byte is a size.
                Some(_) => self.int("internal.segment.bytes").max(1),
                None => self.int("segment.bytes"),
            },
            segment_ms: self.long("segment.ms"),
            segment_jitter_ms: self.long("segment.jitter.ms"),
            segment_index_bytes: self.int("segment.index.bytes"),
            index_interval_bytes: self.int("index.interval.bytes"),
            retention_ms: self.long("retention.ms"),
            // Kafka treats every negative size as unlimited.
            retention_bytes: self.long("retention.bytes").max(-1),
            cleanup_policy: self.cleanup_policy(),
            max_message_bytes: self.int("max.message.bytes"),
            max_decompressed_message_bytes: self.int("max.decompressed.message.bytes"),
            message_timestamp_type: match self.text("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            message_timestamp_before_max_ms: self.long("message.timestamp.before.max.ms"),
            message_timestamp_after_max_ms: self.long("message.timestamp.after.max.ms"),
            compression_type: self.compression_type(),
            flush_messages: self.long("flush.messages"),
            flush_ms: self.long("flush.ms"),
            file_delete_delay_ms: self.long("file.delete.delay.ms"),
            min_insync_replicas: self.int("min.insync.replicas"),
            preallocate: self.boolean("preallocate"),
            unclean_leader_election_enable: self.boolean("unclean.leader.election.enable"),
            min_cleanable_dirty_ratio: match self.get("min.cleanable.dirty.ratio") {
                Some(Value::Double(ratio)) => *ratio,
                other => unreachable!("invariant: a fraction, not {other:?}"),
            },
            delete_retention_ms: self.long("delete.retention.ms"),
            min_compaction_lag_ms: self.long("min.compaction.lag.ms"),
            max_compaction_lag_ms: self.long("max.compaction.lag.ms"),
            durability: match self.text("ottla.durability") {
                "page-cache" => Durability::PageCache,
                _ => Durability::Fsync,
            },
            produce_validation: match self.text("ottla.produce.validation") {
                "fast" => ProduceValidation::Fast,
                _ => ProduceValidation::Strict,
            },
        }
    }

    fn cleanup_policy(&self) -> CleanupPolicy {
        let has = |name: &str| match self.get("cleanup.policy") {
            Some(Value::List(elements)) => elements.iter().any(|element| element == name),
            _ => false,
        };
        CleanupPolicy { delete: has("delete"), compact: has("compact") }
    }

    fn compression_type(&self) -> CompressionType {
        match self.text("compression.type") {
            "uncompressed" => CompressionType::Uncompressed,
            "gzip" => CompressionType::Gzip { level: self.int("compression.gzip.level") },
            "snappy" => CompressionType::Snappy,
            "lz4" => CompressionType::Lz4 { level: self.int("compression.lz4.level") },
            "zstd" => CompressionType::Zstd { level: self.int("compression.zstd.level") },
            _ => CompressionType::Producer,
        }
    }

    fn long(&self, name: &str) -> i64 {
        match self.get(name) {
            Some(Value::Integer(number)) => *number,
            other => unreachable!("invariant: {name} is a number with a default, not {other:?}"),
        }
    }

    fn int(&self, name: &str) -> i32 {
        i32::try_from(self.long(name)).expect("invariant: an INT fits")
    }

    fn boolean(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Boolean(true)))
    }

    fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Value::Text(text)) => text,
            other => unreachable!("invariant: {name} is text with a default, not {other:?}"),
        }
    }
}

/// A topic's own value, checked by itself.
pub(crate) fn understood(name: &str, text: &str) -> Result<(&'static str, Value), ConfigError> {
    let facts = topic_key(name).ok_or_else(|| ConfigError::UnknownTopicKey { key: name.to_owned() })?;
    let value = Value::parse(facts, text)?;
    if facts.name == "remote.storage.enable" && value == Value::Boolean(true) {
        return Err(ConfigError::RemoteStorage);
    }
    Ok((facts.name, value))
}

/// A server key's value in the unit of the topic key behind it: hours and minutes become milliseconds, and any negative
/// retention is "unlimited".
fn in_topic_units(server_key: &str, value: &Value) -> Value {
    const MINUTE_MS: i64 = 60_000;
    let Value::Integer(number) = *value else { return value.clone() };
    let milliseconds = match server_key.rsplit_once('.') {
        Some((_, "hours")) => number.saturating_mul(60 * MINUTE_MS),
        Some((_, "minutes")) => number.saturating_mul(MINUTE_MS),
        _ => number,
    };
    Value::Integer(if server_key.starts_with("log.retention.") { milliseconds.max(-1) } else { milliseconds })
}

fn invalid(key: &str, value: &Value, problem: Problem) -> ConfigError {
    debug_assert!(broker_key(key).is_some_and(|facts| !facts.is_sensitive()));
    ConfigError::InvalidValue { key: key.to_owned(), value: value.canonical(), problem }
}
