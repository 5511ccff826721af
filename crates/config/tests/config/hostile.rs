//! Whatever the text, the answer is a configuration or errors.

use std::collections::BTreeMap;

use ottla_config::{LogConfig, ServerConfig, properties};
use proptest::prelude::*;

fn key() -> impl Strategy<Value = String> {
    let known: Vec<String> = ServerConfig::default().describe_broker().into_iter().map(|entry| entry.name).collect();
    prop_oneof![8 => proptest::sample::select(known), 1 => "listener\\.name\\.[a-z.]{0,20}", 1 => "\\PC{0,20}"]
}

fn topic_key() -> impl Strategy<Value = String> {
    let described = ServerConfig::default().describe_topic(&BTreeMap::new());
    proptest::sample::select(described.into_iter().map(|entry| entry.name).collect::<Vec<_>>())
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?[0-9]{1,20}",
        "[A-Za-z]{0,6}://[\\[\\]:.a-z0-9]{0,12}:-?[0-9]{1,6}(,[A-Z]{1,3}://:[0-9]{1,5}){0,2}",
        "[0-9]{0,3}@?[a-z\\[\\]:]{0,5}:[0-9]{0,6}",
        "(true|false|PLAINTEXT|SSL|compact|delete|gzip|,|:| ){0,4}",
        "\\PC{0,30}",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_properties_or_an_error(bytes: Vec<u8>) {
        let text = properties::decode(&bytes);
        let _ = properties::parse(&text);
        let _ = ServerConfig::load(Some(&text), &[], None, false);
    }

    #[test]
    fn escapes_and_separators(text in "[ab\\\\u0-9=: \t\n\r#!\u{c}é]{0,60}") {
        let _ = properties::parse(&text);
    }

    #[test]
    fn any_values_of_known_keys(sets in proptest::collection::vec((key(), value()), 0..6), strict: bool) {
        match ServerConfig::load(None, &sets, None, strict) {
            // What was accepted can be described and is a base for topics.
            Ok(loaded) => {
                let described = loaded.config.describe_broker();
                for (key, _) in &sets {
                    prop_assert!(described.iter().any(|entry| entry.name == key.trim()));
                }
                prop_assert!(LogConfig::resolve(&loaded.config, &BTreeMap::new()).is_ok());
                prop_assert!(!loaded.config.log_dirs.is_empty());
                prop_assert!(!loaded.config.advertised_listeners.is_empty());
            }
            Err(errors) => prop_assert!(!errors.is_empty()),
        }
    }

    #[test]
    fn any_values_of_topic_keys(key in topic_key(), value in value()) {
        let server = ServerConfig::default();
        let overrides = BTreeMap::from([(key, value)]);
        let resolved = LogConfig::resolve(&server, &overrides);
        let (kept, errors) = LogConfig::resolve_kept(&server, &overrides);
        if let Ok(resolved) = resolved {
            prop_assert_eq!((&kept, errors), (&resolved, Vec::new()));
        }
        prop_assert!(!server.describe_topic(&overrides).is_empty());
    }
}
