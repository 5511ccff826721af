//! Client metrics subscriptions (KIP-714): which metrics which clients are asked for. Nothing collects them yet; a
//! subscription is checked, kept and described.

use std::collections::BTreeMap;

use crate::error::ConfigError;
use crate::facts::{Facts, Rule, Type, Update, key};
use crate::value::Value;

/// Why a subscription cannot have settings.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ClientMetricsError {
    #[error("Unknown client metrics configuration: {key}")]
    UnknownKey { key: String },
    #[error("Invalid value {value} for interval.ms, interval must be between 100 and 3600000 (1 hour)")]
    Interval { value: i64 },
    #[error("Illegal client matching pattern: {pattern}")]
    Pattern { pattern: String },
    #[error(transparent)]
    Invalid(#[from] ConfigError),
}

const INTERVAL: &str = "interval.ms";
const MATCH: &str = "match";
const ANY_LIST: Rule = Rule::List { allowed: &[], may_be_empty: true };

/// Sorted by name.
static KEYS: [Facts; 3] = [
    key(INTERVAL, Type::Int, Some("300000"), Rule::Any, Update::Topic, &[]),
    key(MATCH, Type::List, Some(""), ANY_LIST, Update::Topic, &[]),
    key("metrics", Type::List, Some(""), ANY_LIST, Update::Topic, &[]),
];

/// What a pattern can be about.
const SUBJECTS: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

pub(crate) fn client_metrics_keys() -> impl Iterator<Item = &'static Facts> {
    KEYS.iter()
}

pub(crate) fn client_metrics_documentation(name: &str) -> &'static str {
    match name {
        INTERVAL => "How often clients are asked to send. Kept and described; no metrics are collected yet.",
        MATCH => "Which clients are asked, as subject=pattern. Kept and described; no metrics are collected yet.",
        _ => "Which metrics are asked for, by prefix. Kept and described; no metrics are collected yet.",
    }
}

/// Checks the settings of one subscription.
pub fn check_client_metrics(settings: &BTreeMap<String, String>) -> Result<(), ClientMetricsError> {
    let find = |name: &str| KEYS.iter().find(|facts| facts.name == name);
    if let Some(key) = settings.keys().find(|name| find(name).is_none()) {
        return Err(ClientMetricsError::UnknownKey { key: key.clone() });
    }
    for facts in &KEYS {
        let Some(text) = settings.get(facts.name) else { continue };
        match Value::parse(facts, text)? {
            Value::Integer(value) if !(100..=3_600_000).contains(&value) => {
                return Err(ClientMetricsError::Interval { value });
            }
            Value::List(patterns) if facts.name == MATCH => {
                for pattern in patterns {
                    if !is_pattern(&pattern) {
                        return Err(ClientMetricsError::Pattern { pattern });
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// `subject=regular expression`. Only expressions that can be matched in linear time, so that no client's name can stall
/// a node: no look-around, no back-references.
fn is_pattern(text: &str) -> bool {
    // As Java splits: what is empty at the end does not count.
    let mut parts: Vec<&str> = text.split('=').collect();
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    match parts[..] {
        [subject, pattern] => SUBJECTS.contains(&subject.trim()) && regex_syntax::parse(pattern.trim()).is_ok(),
        _ => false,
    }
}
