//! The keys of a resource, with their values.

use ottla_client::{Client, ConfigEntry, ConfigResource, ConfigResourceType, ConfigSource};

/// Every key of a resource. Of the default of all brokers a cluster lists only what is set there, so the rest is what a
/// broker has without settings of its own.
pub async fn of(client: &Client, resource: &ConfigResource, docs: bool) -> anyhow::Result<Vec<ConfigEntry>> {
    let mut entries = client.describe_configs(resource, docs).await?;
    if resource.resource_type == ConfigResourceType::Broker && resource.name.is_empty() {
        let cluster = client.metadata(Some(&[]), false).await?;
        if let Some(node_id) = cluster.brokers.keys().next() {
            let broker = ConfigResource::new(ConfigResourceType::Broker, node_id.to_string());
            let of_broker = client.describe_configs(&broker, docs).await?;
            let missing = |entry: &ConfigEntry| !entries.iter().any(|set| set.name == entry.name);
            let rest: Vec<ConfigEntry> = of_broker.into_iter().filter(missing).map(without_own).collect();
            entries.extend(rest);
            entries.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }
    Ok(entries)
}

/// A broker's entry as it would be, had the broker no dynamic value of its own.
fn without_own(mut entry: ConfigEntry) -> ConfigEntry {
    if entry.source == ConfigSource::DynamicBroker {
        entry.synonyms.retain(|synonym| synonym.source != ConfigSource::DynamicBroker);
        let strongest = entry.synonyms.first();
        entry.value = strongest.and_then(|synonym| synonym.value.clone());
        entry.source = strongest.map_or(ConfigSource::Default, |synonym| synonym.source);
    }
    entry
}

#[cfg(test)]
mod tests {
    use ottla_client::ConfigSynonym;

    use super::*;

    #[test]
    fn what_is_a_brokers_own_is_not_the_default_of_all() {
        let synonym =
            |value: &str, source| ConfigSynonym { name: "k".to_owned(), value: Some(value.to_owned()), source };
        let entry = ConfigEntry {
            name: "k".to_owned(),
            value: Some("own".to_owned()),
            source: ConfigSource::DynamicBroker,
            read_only: false,
            sensitive: false,
            synonyms: vec![
                synonym("own", ConfigSource::DynamicBroker),
                synonym("file", ConfigSource::StaticBroker),
                synonym("built in", ConfigSource::Default),
            ],
            value_type: None,
            documentation: None,
        };
        let rest = without_own(entry.clone());
        assert_eq!((rest.value.as_deref(), rest.source), (Some("file"), ConfigSource::StaticBroker));
        assert_eq!(without_own(rest.clone()), rest);
        let alone = ConfigEntry { synonyms: entry.synonyms[..1].to_vec(), ..entry };
        assert_eq!(without_own(alone).value, None);
    }
}
