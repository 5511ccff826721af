//! The answers to DescribeConfigs: every key's value, and where it comes from.

use std::collections::BTreeMap;

use crate::error::ConfigError;
use crate::facts::{Facts, Type, Update};
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
            let shown = |text: &str| (!facts.is_sensitive()).then(|| text.to_owned());
            let value = match self.settings.set_value(facts.name) {
                Some(value) => shown(&value.canonical()),
                None => self.settings.default_text(facts).and_then(shown),
            };
            // Of the keys that share a meaning, Kafka shows only this pair together.
            let names = match facts.name {
                "log.retention.minutes" => &["log.retention.minutes", "log.retention.hours"][..],
                name => &[name],
            };
            let entry = ConfigEntry {
                documentation: broker_documentation(facts.name),
                is_read_only: facts.update == Update::ReadOnly,
                ..entry(facts, value, self.server_synonyms(names))
            };
            entries.insert(facts.name, entry);
        }
        for (name, _) in self.settings.set_keys().filter(|(name, _)| broker_key(name).is_none()) {
            entries.insert(name, self.unknown_entry(name));
        }
        entries.into_values().collect()
    }

    /// Every topic key, sorted by name, for a topic with these overrides.
    pub fn describe_topic(&self, overrides: &BTreeMap<String, String>) -> Result<Vec<ConfigEntry>, ConfigError> {
        let values = self.topic_defaults.overridden(overrides)?;
        let mut entries: BTreeMap<&str, ConfigEntry> = BTreeMap::new();
        for facts in topic_keys().filter(|facts| !facts.internal || overrides.contains_key(facts.name)) {
            let value = values.get(facts.name).map(Value::canonical);
            // Kafka names only the strongest server key, even where a weaker one gave the value.
            let mut synonyms = self.server_synonyms(facts.synonyms.get(..1).unwrap_or_default());
            if overrides.contains_key(facts.name) {
                let source = ConfigSource::DynamicTopicConfig;
                synonyms.insert(0, ConfigSynonym { name: facts.name.to_owned(), value: value.clone(), source });
            }
            let documentation = topic_documentation(facts.name);
            entries.insert(facts.name, ConfigEntry { documentation, ..entry(facts, value, synonyms) });
        }
        Ok(entries.into_values().collect())
    }

    /// For each key, its value in the file and its default, as far as there are any.
    fn server_synonyms(&self, names: &[&'static str]) -> Vec<ConfigSynonym> {
        let mut synonyms = Vec::new();
        for name in names {
            let Some(facts) = broker_key(name) else { continue };
            let synonym = |text: String, source| {
                let value = (!facts.is_sensitive()).then_some(text);
                ConfigSynonym { name: (*name).to_owned(), value, source }
            };
            let set = self.settings.set_value(name).map(Value::canonical);
            synonyms.extend(set.map(|text| synonym(text, ConfigSource::StaticBrokerConfig)));
            let default = self.settings.default_text(facts).map(str::to_owned);
            synonyms.extend(default.map(|text| synonym(text, ConfigSource::DefaultConfig)));
        }
        synonyms
    }

    /// A key that nobody declared may hold a secret, so its value is not shown. One of a listener has its base's type
    /// and default.
    fn unknown_entry(&self, name: &str) -> ConfigEntry {
        let facts = split_listener_key(name).and_then(|(_, base)| broker_key(base));
        let is_sensitive = facts.is_none_or(Facts::is_sensitive);
        let value = self.settings.set_value(name).map(Value::canonical).filter(|_| !is_sensitive);
        let source = ConfigSource::StaticBrokerConfig;
        let mut synonyms = vec![ConfigSynonym { name: name.to_owned(), value: value.clone(), source }];
        synonyms.extend(facts.map(|facts| self.server_synonyms(&[facts.name])).unwrap_or_default());
        ConfigEntry {
            name: name.to_owned(),
            value,
            source,
            is_read_only: true,
            is_sensitive,
            synonyms,
            config_type: facts.map(|facts| facts.value_type),
            documentation: facts.and_then(|facts| broker_documentation(facts.name)),
        }
    }
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
