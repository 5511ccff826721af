//! The answers to DescribeConfigs: every key's value, and where it comes from.

use std::collections::BTreeMap;

use crate::client_metrics::{client_metrics_documentation, client_metrics_keys};
use crate::error::ConfigError;
use crate::facts::{Facts, Type, Update};
use crate::group_config::{group_documentation, group_keys};
use crate::honoured::{BROKER, TOPIC};
use crate::log_config::understood;
use crate::server_config::ServerConfig;
use crate::settings::split_listener_key;
use crate::table::{broker_documentation, broker_key, broker_keys, topic_documentation, topic_key, topic_keys};
use crate::value::Value;

/// Where a value was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    DynamicTopicConfig,
    DynamicBrokerConfig,
    DynamicDefaultBrokerConfig,
    StaticBrokerConfig,
    DefaultConfig,
    DynamicBrokerLoggerConfig,
    ClientMetricsConfig,
    GroupConfig,
}

impl ConfigSource {
    /// The number of the source in a DescribeConfigs response.
    pub fn code(self) -> i8 {
        match self {
            Self::DynamicTopicConfig => 1,
            Self::DynamicBrokerConfig => 2,
            Self::DynamicDefaultBrokerConfig => 3,
            Self::StaticBrokerConfig => 4,
            Self::DefaultConfig => 5,
            Self::DynamicBrokerLoggerConfig => 6,
            Self::ClientMetricsConfig => 7,
            Self::GroupConfig => 8,
        }
    }
}

/// One key that a value could come from, and the value it has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    pub name: String,
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// One key of a DescribeConfigs response. The response leaves out what the request did not ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// Absent: unset, or not to be shown.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub is_read_only: bool,
    pub is_sensitive: bool,
    /// Strongest first.
    pub synonyms: Vec<ConfigSynonym>,
    /// Absent: nobody knows the key.
    pub config_type: Option<Type>,
    pub documentation: Option<String>,
}

impl ServerConfig {
    /// Every server key, sorted by name: Kafka's, Ottla's, and the unknown ones that were set.
    pub fn describe_broker(&self) -> Vec<ConfigEntry> {
        let mut entries: BTreeMap<&str, ConfigEntry> = BTreeMap::new();
        for facts in broker_keys().filter(|facts| !facts.internal || self.settings.is_set(facts.name)) {
            entries.insert(facts.name, self.broker_entry(facts));
        }
        for name in self.settings.set_keys() {
            match broker_key(name) {
                // One that exists at run time only.
                Some(facts) => entries.entry(facts.name).or_insert_with(|| self.broker_entry(facts)),
                None => entries.entry(name).or_insert_with(|| self.unknown_entry(name, &SOURCES)),
            };
        }
        entries.into_values().collect()
    }

    /// What is set at run time for every node, sorted by name.
    pub fn describe_cluster_defaults(&self) -> Vec<ConfigEntry> {
        let described = self.settings.cluster.keys().map(|name| {
            let sources = &[ConfigSource::DynamicDefaultBrokerConfig];
            match broker_key(name) {
                None => self.unknown_entry(name, sources),
                Some(facts) => {
                    let synonyms = self.server_synonyms(facts.name, sources);
                    let value = synonyms.first().and_then(|synonym| synonym.value.clone());
                    ConfigEntry {
                        documentation: broker_documentation(facts.name),
                        is_read_only: facts.update == Update::ReadOnly,
                        ..entry(facts, value, synonyms)
                    }
                }
            }
        });
        described.collect()
    }

    /// Every topic key, sorted by name, for a topic with these overrides; those that have no effect, because they are not
    /// understood, are not shown.
    pub fn describe_topic(&self, overrides: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
        let (values, _) = self.topic_defaults.with_understood(overrides);
        let is_own = |name| overrides.get(name).is_some_and(|text| understood(name, text).is_ok());
        let mut entries: BTreeMap<&str, ConfigEntry> = BTreeMap::new();
        for facts in topic_keys().filter(|facts| !facts.internal || is_own(facts.name)) {
            let value = values.get(facts.name).map(Value::canonical);
            // Kafka names what the strongest server key shows, even where a weaker one gave the value.
            let mut synonyms = match facts.synonyms.first() {
                Some(name) => self.server_synonyms(name, &SOURCES),
                None => Vec::new(),
            };
            if is_own(facts.name) {
                let source = ConfigSource::DynamicTopicConfig;
                synonyms.insert(0, ConfigSynonym { name: facts.name.to_owned(), value: value.clone(), source });
            }
            let documentation = topic_documentation(facts.name);
            entries.insert(facts.name, ConfigEntry { documentation, ..entry(facts, value, synonyms) });
        }
        entries.into_values().collect()
    }

    /// Every key of a group, sorted by name.
    pub fn describe_group(&self, settings: &BTreeMap<String, String>) -> Result<Vec<ConfigEntry>, ConfigError> {
        let values = self.group_values(settings)?;
        let shown = group_keys().filter(|facts| !facts.internal || settings.contains_key(facts.name));
        let described = shown.map(|facts| {
            let value = values.get(facts.name).map(Value::canonical);
            let synonym = |value: Option<String>, source| ConfigSynonym { name: facts.name.to_owned(), value, source };
            let mut synonyms = match facts.synonyms.first() {
                Some(name) => self.server_synonyms(name, &SOURCES),
                None => vec![synonym(facts.default.map(str::to_owned), ConfigSource::DefaultConfig)],
            };
            if settings.contains_key(facts.name) {
                synonyms.insert(0, synonym(value.clone(), ConfigSource::GroupConfig));
            }
            ConfigEntry { documentation: Some(group_documentation(facts.name)), ..entry(facts, value, synonyms) }
        });
        Ok(described.collect())
    }

    /// What the key has in each of the sources, strongest first; with it, keys that share its meaning.
    fn server_synonyms(&self, name: &str, sources: &[ConfigSource]) -> Vec<ConfigSynonym> {
        let names = same_meaning(name);
        let mut synonyms = Vec::new();
        for source in sources {
            for name in &names {
                let value = match source {
                    ConfigSource::DynamicBrokerConfig => self.settings.node.get(name).map(Value::canonical),
                    ConfigSource::DynamicDefaultBrokerConfig => self.settings.cluster.get(name).map(Value::canonical),
                    ConfigSource::StaticBrokerConfig => self.settings.value_at_start(name).map(Value::canonical),
                    _ => broker_key(name)
                        // Ottla's own default for a key that has none in Kafka tells nothing beside a set value.
                        .filter(|facts| facts.default.is_some() || synonyms.is_empty())
                        .and_then(|facts| self.settings.default_text(facts))
                        .map(str::to_owned),
                };
                let Some(value) = value else { continue };
                let value = (!is_sensitive(name)).then_some(value);
                synonyms.push(ConfigSynonym { name: (*name).to_owned(), value, source: *source });
            }
        }
        // What comes before the key's own first value is another key's.
        synonyms.drain(..synonyms.iter().position(|synonym| synonym.name == name).unwrap_or(synonyms.len()));
        synonyms
    }

    fn broker_entry(&self, facts: &'static Facts) -> ConfigEntry {
        let value = match self.settings.set_value(facts.name) {
            Some(value) => Some(value.canonical()),
            None => self.settings.default_text(facts).map(str::to_owned),
        };
        ConfigEntry {
            documentation: broker_documentation(facts.name),
            is_read_only: facts.update == Update::ReadOnly,
            ..entry(facts, value.filter(|_| !facts.is_sensitive()), self.server_synonyms(facts.name, &SOURCES))
        }
    }

    /// A key that nobody declared may hold a secret, so its value is not shown. One of a listener has its base's type
    /// and default.
    fn unknown_entry(&self, name: &str, sources: &[ConfigSource]) -> ConfigEntry {
        let facts = base_of(name);
        let synonyms = self.server_synonyms(name, sources);
        let first = synonyms.first();
        ConfigEntry {
            name: name.to_owned(),
            value: first.and_then(|synonym| synonym.value.clone()),
            source: first.map_or(ConfigSource::DefaultConfig, |synonym| synonym.source),
            is_read_only: true,
            is_sensitive: is_sensitive(name),
            synonyms,
            config_type: facts.map(|facts| facts.value_type),
            documentation: facts.and_then(|facts| broker_documentation(facts.name)),
        }
    }
}

/// Every key of a client metrics subscription, sorted by name.
pub fn describe_client_metrics(settings: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
    let described = client_metrics_keys().map(|facts| {
        let set = settings.get(facts.name);
        let value = set.cloned().or_else(|| facts.default.map(str::to_owned));
        let source = ConfigSource::ClientMetricsConfig;
        let synonyms = set.map(|_| ConfigSynonym { name: facts.name.to_owned(), value: value.clone(), source });
        ConfigEntry {
            documentation: Some(client_metrics_documentation(facts.name).to_owned()),
            ..entry(facts, value, synonyms.into_iter().collect())
        }
    });
    described.collect()
}

/// Where a server key's value can come from, strongest first.
const SOURCES: [ConfigSource; 4] = [
    ConfigSource::DynamicBrokerConfig,
    ConfigSource::DynamicDefaultBrokerConfig,
    ConfigSource::StaticBrokerConfig,
    ConfigSource::DefaultConfig,
];

/// Server keys that say the same in other units, or for one listener; strongest first.
fn same_meaning(name: &str) -> Vec<&str> {
    let shared: [&[&str]; 4] = [
        &["log.roll.ms", "log.roll.hours"],
        &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
        &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
    ];
    match shared.into_iter().find(|names| names.contains(&name)) {
        // The last pair works one way: the scheduler's interval is a key of its own.
        Some(names) if name != "log.flush.scheduler.interval.ms" => names.to_vec(),
        _ => match (broker_key(name), base_of(name)) {
            (None, Some(facts)) => vec![name, facts.name],
            _ => vec![name],
        },
    }
}

/// The declared key behind one of a listener, a mechanism's name before it or not.
fn base_of(name: &str) -> Option<&'static Facts> {
    let (_, base) = split_listener_key(name)?;
    broker_key(base).or_else(|| broker_key(&base[base.find("sasl.")?..]))
}

/// What nobody declared may be a secret.
fn is_sensitive(name: &str) -> bool {
    broker_key(name).or_else(|| base_of(name)).is_none_or(Facts::is_sensitive)
}

fn entry(facts: &'static Facts, value: Option<String>, synonyms: Vec<ConfigSynonym>) -> ConfigEntry {
    ConfigEntry {
        name: facts.name.to_owned(),
        value,
        source: synonyms.first().map_or(ConfigSource::DefaultConfig, |synonym| synonym.source),
        is_read_only: false,
        is_sensitive: facts.is_sensitive(),
        synonyms,
        config_type: Some(facts.value_type),
        documentation: None,
    }
}

/// Whether a topic key exists.
pub fn is_topic_key(name: &str) -> bool {
    topic_key(name).is_some()
}

/// The names of the server keys that are obeyed.
pub fn honoured_broker_keys() -> impl Iterator<Item = &'static str> {
    BROKER.iter().map(|honoured| honoured.name)
}

/// The names of the topic keys that are obeyed.
pub fn honoured_topic_keys() -> impl Iterator<Item = &'static str> {
    TOPIC.iter().map(|honoured| honoured.name)
}

/// The default of a topic key whose value is a list; absent for every other key.
pub fn topic_list_default(name: &str) -> Option<&'static str> {
    list_default(topic_key(name)?)
}

/// The default of a server key whose value is a list; absent for every other key.
pub fn broker_list_default(name: &str) -> Option<&'static str> {
    list_default(broker_key(name)?)
}

fn list_default(facts: &'static Facts) -> Option<&'static str> {
    (facts.value_type == Type::List).then(|| facts.default.unwrap_or_default())
}
