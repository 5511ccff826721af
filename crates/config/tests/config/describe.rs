//! DescribeConfigs, compared with what Kafka 4.4 answered for `golden/server.properties` and a topic with the overrides
//! below: name, value, source, whether it can change, whether it is hidden, type, synonyms.

use std::collections::BTreeMap;

use ottla_config::{ConfigEntry, ConfigSource, ServerConfig, Type};

use crate::config;

fn golden_server() -> ServerConfig {
    config(include_str!("golden/server.properties"))
}

fn source(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::DynamicTopicConfig => "DYNAMIC_TOPIC_CONFIG",
        ConfigSource::StaticBrokerConfig => "STATIC_BROKER_CONFIG",
        ConfigSource::DefaultConfig => "DEFAULT_CONFIG",
        other => panic!("{other:?}"),
    }
}

fn line(entry: &ConfigEntry) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
    let synonyms: Vec<_> = entry
        .synonyms
        .iter()
        .map(|synonym| format!("{}:{}={}", source(synonym.source), synonym.name, text(&synonym.value)))
        .collect();
    [
        entry.name.clone(),
        text(&entry.value),
        source(entry.source).to_owned(),
        if entry.is_read_only { "read-only" } else { "dynamic" }.to_owned(),
        if entry.is_sensitive { "sensitive" } else { "shown" }.to_owned(),
        entry.config_type.map_or("UNKNOWN", Type::name).to_owned(),
        synonyms.join(" "),
    ]
    .join("\t")
}

fn compare(entries: &[ConfigEntry], golden: &str, differing: &[&str]) {
    let ours: BTreeMap<_, _> = entries.iter().map(|entry| (entry.name.clone(), line(entry))).collect();
    let name = |line: &str| line.split_once('\t').map(|(name, _)| name.to_owned()).expect("a golden line has columns");
    let kafkas: BTreeMap<_, _> = golden.lines().map(|line| (name(line), line.to_owned())).collect();
    for (name, expected) in &kafkas {
        let same = ours.get(name) == Some(expected);
        assert_eq!(same, !differing.contains(&name.as_str()), "{name}:\n{expected}\n{}", ours[name]);
    }
    let only_ours: Vec<_> = ours.keys().filter(|name| !kafkas.contains_key(*name)).collect();
    // The broker that was asked had a secret here.
    let expected = |name: &str| name.starts_with("ottla.") || name == "sasl.jaas.config";
    assert!(only_ours.iter().all(|name| expected(name)), "{only_ours:?}");
    assert!(entries.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn a_topic_is_described_as_kafka_describes_it() {
    let overrides = [("retention.ms", "777"), ("cleanup.policy", "compact,delete"), ("compression.zstd.level", " 5 ")];
    let overrides = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    // Kafka sets it dynamically for the whole cluster when it first starts.
    let differing = ["min.insync.replicas"];
    compare(&golden_server().describe_topic(&overrides), include_str!("golden/topic.tsv"), &differing);
}

#[test]
fn a_broker_is_described_as_kafka_describes_it() {
    // The first is set dynamically by Kafka; the other has its own default in Ottla.
    let differing = ["min.insync.replicas", "broker.id"];
    compare(&golden_server().describe_broker(), include_str!("golden/broker.tsv"), &differing);
}

#[test]
fn a_default_that_kafka_has_not_is_told_where_nothing_is_set() {
    let synonyms = |server: &ServerConfig, name: &str| {
        let entry = server.describe_broker().into_iter().find(|entry| entry.name == name).expect("a declared key");
        entry.synonyms.iter().map(|synonym| (source(synonym.source), synonym.value.clone())).collect::<Vec<_>>()
    };
    let value = |text: &str| Some(text.to_owned());
    for (name, own) in [("log.dirs", "./ottla-data"), ("node.id", "1")] {
        assert_eq!(synonyms(&ServerConfig::default(), name), [("DEFAULT_CONFIG", value(own))]);
    }
    let set = config("node.id=7\nlog.dirs=/data");
    assert_eq!(synonyms(&set, "node.id"), [("STATIC_BROKER_CONFIG", value("7"))]);
    assert_eq!(synonyms(&set, "log.dirs"), [("STATIC_BROKER_CONFIG", value("/data"))]);
}

#[test]
fn every_key_says_what_it_does() {
    let server = ServerConfig::default();
    let entries = server.describe_broker().into_iter().chain(server.describe_topic(&BTreeMap::new()));
    for entry in entries {
        let documentation = entry.documentation.unwrap_or_else(|| panic!("{} is not documented", entry.name));
        assert!(documentation.ends_with('.') && documentation.len() > 10, "{}: {documentation}", entry.name);
    }
}

#[test]
fn secrets_are_not_shown() {
    let server = config(
        "ssl.key.password=hunter2\nsome.plugin.password=hunter2\nlistener.name.plaintext.ssl.key.password=hunter2",
    );
    let shown = format!("{:?}", server.describe_broker());
    assert!(!shown.contains("hunter2"));
    assert!(shown.contains("listener.name.plaintext.ssl.key.password"));
}
