//! What a change of configurations does, said before and after: old value, new value.

use ottla_client::{
    Client, ClientError, ConfigChange, ConfigEntry, ConfigOperation, ConfigResource, ConfigResourceType,
};
use ottla_config::nearest_of;
use serde_json::{Value, json};

use super::entries;
use super::show::shown_value;
use crate::output::Output;
use crate::table::{Align, Table};

/// Names suggested when none is near.
const SUGGESTIONS: usize = 5;

/// The effect of a change of one resource.
#[derive(Debug)]
pub struct Planned {
    resource: ConfigResource,
    changes: Vec<PlannedChange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PlannedChange {
    key: String,
    old: String,
    new: String,
}

/// Changes a resource, or only has the broker say whether it would; tells from what to what.
pub async fn apply(
    client: &Client,
    resource: &ConfigResource,
    changes: &[ConfigChange],
    validate_only: bool,
) -> anyhow::Result<Planned> {
    if let Some(key) = twice(changes) {
        anyhow::bail!("{key} is named twice: each key can be changed once at a time");
    }
    let entries = entries::of(client, resource, false).await?;
    let planned = plan(resource, &entries, changes);
    let unknown = changes.iter().find(|change| !entries.iter().any(|entry| entry.name == change.key));
    match client.alter_configs(resource, changes, validate_only).await {
        Ok(()) => {
            if let Some(change) = unknown {
                // Brokers accept keys of plugins that they do not list, and to take back what is not there.
                eprintln!("ottla: warning: {}", unknown_key(resource, &change.key, &entries));
            }
            Ok(planned)
        }
        Err(error @ ClientError::Config { .. }) => match unknown {
            Some(change) => {
                let hint = unknown_key(resource, &change.key, &entries);
                Err(anyhow::Error::from(error).context(hint))
            }
            None => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn twice(changes: &[ConfigChange]) -> Option<&str> {
    let repeated = |(position, change): &(usize, &ConfigChange)| {
        changes[..*position].iter().any(|earlier| earlier.key == change.key)
    };
    changes.iter().enumerate().find(repeated).map(|(_, change)| change.key.as_str())
}

/// What to say of a key that a resource does not have.
pub fn unknown_key(resource: &ConfigResource, key: &str, entries: &[ConfigEntry]) -> String {
    let names = || entries.iter().map(|entry| entry.name.as_str());
    let hint = if let Some(name) = nearest_of(key, names()) {
        format!("; did you mean {name}?")
    } else {
        let alike: Vec<&str> = names().filter(|name| name.contains(key)).take(SUGGESTIONS).collect();
        if alike.is_empty() { String::new() } else { format!("; there are {}", alike.join(", ")) }
    };
    format!("{resource} has no key {key}{hint}")
}

fn plan(resource: &ConfigResource, entries: &[ConfigEntry], changes: &[ConfigChange]) -> Planned {
    let changes = changes.iter().map(|change| {
        let entry = entries.iter().find(|entry| entry.name == change.key);
        let hidden = is_secret(resource, &change.key, entries);
        let new = match &change.operation {
            ConfigOperation::Set(_) if hidden => "(hidden)".to_owned(),
            ConfigOperation::Set(value) => value.clone(),
            ConfigOperation::Unset => without(resource, entry),
            ConfigOperation::Append(elements) => appended(entry, elements),
            ConfigOperation::Subtract(elements) => subtracted(entry, elements),
        };
        PlannedChange { key: change.key.clone(), old: entry.map_or_else(|| "(none)".to_owned(), shown_value), new }
    });
    Planned { resource: resource.clone(), changes: changes.collect() }
}

/// Whether a key's value is not to be shown. A broker's key that nobody knows may be a plugin's password; one of a
/// listener is as secret as the key behind it.
fn is_secret(resource: &ConfigResource, key: &str, entries: &[ConfigEntry]) -> bool {
    let find = |key: &str| entries.iter().find(|entry| entry.name == key);
    let behind = || find(key.strip_prefix("listener.name.")?.split_once('.')?.1);
    let unknown = resource.resource_type == ConfigResourceType::Broker;
    find(key).or_else(behind).map_or(unknown, |entry| entry.sensitive)
}

/// What counts when the resource's own value is gone: the next synonym.
fn without(resource: &ConfigResource, entry: Option<&ConfigEntry>) -> String {
    let Some(entry) = entry else { return "(none)".to_owned() };
    let Some(own) = entry.synonyms.first() else { return shown_value(entry) };
    let weaker = if own.name == entry.name && is_own(resource, entry) {
        entry.synonyms.get(1)
    } else {
        // It was not set here.
        return shown_value(entry);
    };
    // Brokers do not tell the default behind every key.
    weaker.and_then(|synonym| synonym.value.clone()).unwrap_or_else(|| "(default)".to_owned())
}

/// Whether the strongest value is the one a change of this resource takes away.
fn is_own(resource: &ConfigResource, entry: &ConfigEntry) -> bool {
    use ottla_client::{ConfigResourceType as Type, ConfigSource as Source};
    match resource.resource_type {
        Type::Topic => entry.source == Source::Topic,
        Type::Broker if resource.name.is_empty() => entry.source == Source::DynamicDefaultBroker,
        Type::Broker => entry.source == Source::DynamicBroker,
        Type::BrokerLogger => entry.source == Source::DynamicBrokerLogger,
        Type::ClientMetrics => entry.source == Source::ClientMetrics,
        Type::Group => entry.source == Source::Group,
    }
}

fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|element| !element.is_empty())
}

fn appended(entry: Option<&ConfigEntry>, added: &str) -> String {
    let old = entry.and_then(|entry| entry.value.as_deref()).unwrap_or_default();
    let mut list: Vec<&str> = elements(old).collect();
    for element in elements(added) {
        if !list.contains(&element) {
            list.push(element);
        }
    }
    list.join(",")
}

fn subtracted(entry: Option<&ConfigEntry>, taken: &str) -> String {
    let old = entry.and_then(|entry| entry.value.as_deref()).unwrap_or_default();
    let list: Vec<&str> = elements(old).filter(|element| !elements(taken).any(|taken| taken == *element)).collect();
    list.join(",")
}

impl Planned {
    pub fn print(&self, output: &mut Output, validate_only: bool, json: bool) -> anyhow::Result<()> {
        if json {
            return output.json_document(&self.document(validate_only));
        }
        self.print_table(output)?;
        if validate_only {
            output.line(format_args!("\nNothing was changed. The broker would accept this."))
        } else {
            Ok(())
        }
    }

    pub fn document(&self, validate_only: bool) -> Value {
        let changes: Value = self
            .changes
            .iter()
            .map(|change| json!({"name": change.key, "old": change.old, "new": change.new}))
            .collect();
        json!({"resource": self.resource.to_string(), "validate_only": validate_only, "changes": changes})
    }

    pub fn print_table(&self, output: &mut Output) -> anyhow::Result<()> {
        let mut table =
            Table::new(&[("KEY", Align::Left), ("OLD", Align::Left), ("", Align::Left), ("NEW", Align::Left)]);
        for change in &self.changes {
            let arrow = if change.old == change.new { "==" } else { "->" };
            table.row([change.key.clone(), change.old.clone(), arrow.to_owned(), change.new.clone()]);
        }
        output.line(table.render())
    }
}

#[cfg(test)]
mod tests {
    use ottla_client::{ConfigSource, ConfigSynonym};

    use super::*;

    fn entry(name: &str, values: &[(&str, ConfigSource)]) -> ConfigEntry {
        let synonym = |(value, source): &(&str, ConfigSource)| ConfigSynonym {
            name: name.to_owned(),
            value: Some((*value).to_owned()),
            source: *source,
        };
        ConfigEntry {
            name: name.to_owned(),
            value: values.first().map(|(value, _)| (*value).to_owned()),
            source: values.first().map_or(ConfigSource::Default, |(_, source)| *source),
            read_only: false,
            sensitive: false,
            synonyms: values.iter().map(synonym).collect(),
            value_type: None,
            documentation: None,
        }
    }

    #[test]
    fn old_and_new() {
        let set = ConfigSource::Topic;
        let entries = [
            entry("cleanup.policy", &[("delete", ConfigSource::Default)]),
            entry("retention.ms", &[("5", set), ("7", ConfigSource::DynamicBroker)]),
            entry("segment.ms", &[("9", ConfigSource::StaticBroker)]),
            entry("list", &[("a, b,c", set)]),
        ];
        let resource = ConfigResource::topic("t");
        for (key, operation, old, new) in [
            ("retention.ms", ConfigOperation::Set("6".to_owned()), "5", "6"),
            ("retention.ms", ConfigOperation::Unset, "5", "7"),
            ("segment.ms", ConfigOperation::Unset, "9", "9"),
            ("unknown", ConfigOperation::Set("1".to_owned()), "(none)", "1"),
            ("unknown", ConfigOperation::Unset, "(none)", "(none)"),
            ("cleanup.policy", ConfigOperation::Append("compact,delete".to_owned()), "delete", "delete,compact"),
            ("list", ConfigOperation::Subtract("b, x".to_owned()), "a, b,c", "a,c"),
            ("unknown", ConfigOperation::Append("a".to_owned()), "(none)", "a"),
        ] {
            let changes = [ConfigChange { key: key.to_owned(), operation }];
            let planned = plan(&resource, &entries, &changes);
            let expected = PlannedChange { key: key.to_owned(), old: old.to_owned(), new: new.to_owned() };
            assert_eq!(planned.changes, [expected], "{changes:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let password = ConfigEntry { sensitive: true, value: None, ..entry("ssl.key.password", &[]) };
        let entries = [password, entry("max.connections", &[("5", ConfigSource::Default)])];
        let broker = ConfigResource::new(ConfigResourceType::Broker, "1");
        for (key, new) in [
            ("ssl.key.password", "(hidden)"),
            ("listener.name.tls.ssl.key.password", "(hidden)"),
            ("listener.name.tls.max.connections", "secret"),
            ("max.connections", "secret"),
            ("of.a.plugin", "(hidden)"),
        ] {
            let changes = [ConfigChange { key: key.to_owned(), operation: ConfigOperation::Set("secret".to_owned()) }];
            assert_eq!(plan(&broker, &entries, &changes).changes[0].new, new, "{key}");
        }
    }

    #[test]
    fn unknown_keys_have_neighbours() {
        let entries = [entry("retention.ms", &[]), entry("retention.bytes", &[]), entry("segment.ms", &[])];
        let resource = ConfigResource::topic("t");
        for (key, expected) in [
            ("retntion.ms", "topic 't' has no key retntion.ms; did you mean retention.ms?"),
            ("retention", "topic 't' has no key retention; there are retention.ms, retention.bytes"),
            ("zzz", "topic 't' has no key zzz"),
        ] {
            assert_eq!(unknown_key(&resource, key, &entries), expected);
        }
    }
}
