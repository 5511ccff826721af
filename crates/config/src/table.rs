//! Looking keys up: facts, what Ottla makes of them, and the nearest known name of one that is unknown.

use crate::facts::{Facts, Rule, Type, Update, key};
use crate::honoured::{BROKER, Honoured, OTTLA_BROKER_KEYS, OTTLA_TOPIC_KEYS, TOPIC};
use crate::kafka_keys::{BROKER_KEYS, TOPIC_KEYS};
use crate::not_honoured::{Instead, instead, topic_instead};

/// All server keys with facts: Kafka's, then Ottla's own.
pub(crate) fn broker_keys() -> impl Iterator<Item = &'static Facts> {
    BROKER_KEYS.iter().chain(OTTLA_BROKER_KEYS)
}

/// Server keys of Kafka's that exist at run time only, and are described only where they are set.
#[rustfmt::skip]
pub(crate) static RUN_TIME_KEYS: &[Facts] = &[
    key("follower.replication.throttled.rate", Type::Long, Some("9223372036854775807"), Rule::AtLeast(0), Update::ClusterWide, &[]).internal(),
    key("leader.replication.throttled.rate", Type::Long, Some("9223372036854775807"), Rule::AtLeast(0), Update::ClusterWide, &[]).internal(),
    key("replica.alter.log.dirs.io.max.bytes.per.second", Type::Long, Some("9223372036854775807"), Rule::AtLeast(0), Update::ClusterWide, &[]).internal(),
];

/// All topic keys: Kafka's, then Ottla's own.
pub(crate) fn topic_keys() -> impl Iterator<Item = &'static Facts> {
    TOPIC_KEYS.iter().chain(OTTLA_TOPIC_KEYS)
}

pub(crate) fn broker_key(name: &str) -> Option<&'static Facts> {
    find(BROKER_KEYS, name).or_else(|| find(OTTLA_BROKER_KEYS, name)).or_else(|| find(RUN_TIME_KEYS, name))
}

pub(crate) fn topic_key(name: &str) -> Option<&'static Facts> {
    find(TOPIC_KEYS, name).or_else(|| find(OTTLA_TOPIC_KEYS, name))
}

fn find(table: &'static [Facts], name: &str) -> Option<&'static Facts> {
    table.binary_search_by(|facts| facts.name.cmp(name)).ok().map(|index| &table[index])
}

pub(crate) fn honoured_broker_key(name: &str) -> Option<&'static Honoured> {
    BROKER.binary_search_by(|honoured| honoured.name.cmp(name)).ok().map(|index| &BROKER[index])
}

pub(crate) fn honoured_topic_key(name: &str) -> Option<&'static Honoured> {
    TOPIC.binary_search_by(|honoured| honoured.name.cmp(name)).ok().map(|index| &TOPIC[index])
}

/// What a server key does here, in one sentence.
pub(crate) fn broker_documentation(name: &str) -> Option<String> {
    if let Some(honoured) = honoured_broker_key(name) {
        return Some(honoured.doc.to_owned());
    }
    instead(name).map(|instead| match instead {
        Instead::Warn(text) => format!("Has no effect: {text}."),
        Instead::RefuseProtection(text) | Instead::Refuse(text) => format!("Refused when set: {text}."),
    })
}

/// What a topic's key does here, in one sentence.
pub(crate) fn topic_documentation(name: &str) -> Option<String> {
    if let Some(honoured) = honoured_topic_key(name) {
        return Some(honoured.doc.to_owned());
    }
    topic_instead(name).map(|text| format!("Has no effect: {text}."))
}

/// The known server key that `unknown` was probably meant to be.
pub(crate) fn nearest(unknown: &str) -> Option<String> {
    nearest_of(unknown, broker_keys().filter(|facts| !facts.internal).map(|facts| facts.name)).map(str::to_owned)
}

/// The name that `unknown` was probably meant to be.
pub fn nearest_of<'a>(unknown: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name that long is no slip of the pen, and comparing it with every key would be slow.
    const LONGEST: usize = 80;
    if unknown.len() > LONGEST {
        return None;
    }
    let tolerance = (unknown.len() / 4).clamp(1, 5);
    names
        .into_iter()
        .map(|name| (edit_distance(unknown, name), name))
        .filter(|(distance, _)| *distance <= tolerance)
        .min()
        .map(|(_, name)| name)
}

/// Insertions, deletions and replacements of bytes that turn one name into the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let mut previous: Vec<usize> = (0..=to.len()).collect();
    let mut current = vec![0; to.len() + 1];
    for (row, from_byte) in from.bytes().enumerate() {
        current[0] = row + 1;
        for (column, to_byte) in to.bytes().enumerate() {
            let replaced = previous[column] + usize::from(from_byte != to_byte);
            current[column + 1] = replaced.min(previous[column + 1] + 1).min(current[column] + 1);
        }
        std::mem::swap(&mut previous, &mut current);
    }
    previous[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    #[test]
    fn tables_are_sorted_for_binary_search() {
        for table in [BROKER_KEYS, TOPIC_KEYS, OTTLA_BROKER_KEYS, OTTLA_TOPIC_KEYS, RUN_TIME_KEYS] {
            assert!(table.is_sorted_by(|a, b| a.name < b.name));
        }
        for table in [BROKER, TOPIC] {
            assert!(table.is_sorted_by(|a, b| a.name < b.name));
        }
    }

    #[test]
    fn every_key_is_either_obeyed_or_has_a_rule() {
        for facts in broker_keys() {
            let honoured = honoured_broker_key(facts.name).is_some();
            assert!(honoured || instead(facts.name).is_some(), "{}", facts.name);
        }
        for facts in topic_keys().filter(|facts| !facts.internal) {
            let honoured = honoured_topic_key(facts.name).is_some();
            assert!(honoured != topic_instead(facts.name).is_some(), "{}", facts.name);
        }
        assert!(BROKER.iter().all(|honoured| broker_key(honoured.name).is_some()));
        assert!(TOPIC.iter().all(|honoured| topic_key(honoured.name).is_some()));
    }

    #[test]
    fn defaults_satisfy_their_own_rules() {
        for facts in broker_keys().chain(topic_keys()) {
            // Kafka's default for it is the absence of the key.
            if facts.name == "controller.listener.names" {
                continue;
            }
            if let Some(default) = facts.default {
                let value = Value::parse(facts, default).unwrap_or_else(|error| panic!("{error}"));
                let number = matches!(value, Value::Double(_));
                assert!(number || value.canonical() == default, "{}", facts.name);
            }
        }
    }

    #[test]
    fn server_keys_behind_topic_keys_exist() {
        for facts in topic_keys() {
            assert!(facts.synonyms.iter().all(|name| broker_key(name).is_some()), "{}", facts.name);
        }
    }

    #[test]
    fn distances() {
        for (from, to, expected) in [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("abc", "adc", 1), ("abcd", "bcd", 1)] {
            assert_eq!(edit_distance(from, to), expected, "{from} {to}");
        }
        assert_eq!(nearest(&"x".repeat(1000)), None);
        assert_eq!(nearest("zzz"), None);
    }
}
