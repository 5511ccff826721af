//! IncrementalAlterConfigs and AlterConfigs.

use std::sync::Arc;

use ottla_controller::{
    AlterConfigsError, ConfigChange, ConfigOperation, ResourceChange, alter_configs, incremental_alter_configs,
};
use ottla_image::{ConfigResource, MetadataImage};
use ottla_types::{ErrorCode, NodeId};

use crate::support::{Rules, cluster, commit, with_topics};

use ConfigOperation::{Append, Delete, Set, Subtract};

fn change(key: &str, operation: ConfigOperation, value: &str) -> ConfigChange {
    ConfigChange { key: key.into(), operation, value: (operation != Delete).then(|| value.into()) }
}

fn incremental(
    image: &mut MetadataImage,
    resource: ConfigResource,
    configs: Vec<ConfigChange>,
) -> Result<(), AlterConfigsError> {
    let outcome = incremental_alter_configs(image, &[ResourceChange { resource, configs }], false, &Rules);
    commit(image, outcome).remove(0).1
}

fn topic() -> ConfigResource {
    ConfigResource::topic("t")
}

fn values(image: &MetadataImage, resource: &ConfigResource) -> Vec<(String, String)> {
    let configs = image.configs(resource).cloned().unwrap_or_default();
    configs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[test]
fn single_keys_change() {
    let steps: [(ConfigChange, &[(&str, &str)]); 8] = [
        (change("retention.ms", Set, "5"), &[("retention.ms", "5")]),
        (change("cleanup.policy", Append, "compact"), &[("cleanup.policy", "delete,compact"), ("retention.ms", "5")]),
        (change("cleanup.policy", Append, "compact"), &[("cleanup.policy", "delete,compact"), ("retention.ms", "5")]),
        (change("cleanup.policy", Subtract, "delete"), &[("cleanup.policy", "compact"), ("retention.ms", "5")]),
        (change("retention.ms", Set, "6"), &[("cleanup.policy", "compact"), ("retention.ms", "6")]),
        (change("cleanup.policy", Delete, ""), &[("retention.ms", "6")]),
        (change("unknown", Delete, ""), &[("retention.ms", "6")]),
        (change("retention.ms", Delete, ""), &[]),
    ];
    let mut image = with_topics(cluster(&[1]), &["t"]);
    for (step, expected) in steps {
        incremental(&mut image, topic(), vec![step.clone()]).unwrap();
        let expected: Vec<_> = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(values(&image, &topic()), expected, "{step:?}");
    }
}

#[test]
fn long_lists_are_edited_in_no_time() {
    let mut image = with_topics(cluster(&[1]), &["t"]);
    let numbers = |range: std::ops::Range<u32>| range.map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let list = |image: &MetadataImage| values(image, &topic()).remove(0).1;
    incremental(&mut image, topic(), vec![change("cleanup.policy", Set, "delete,compact,delete")]).unwrap();
    incremental(&mut image, topic(), vec![change("cleanup.policy", Subtract, "delete,x")]).unwrap();
    assert_eq!(list(&image), "compact,delete", "the first of each goes");
    incremental(&mut image, topic(), vec![change("cleanup.policy", Append, "delete,compact")]).unwrap();
    assert_eq!(list(&image), "compact,delete", "what is there is not added");
    // More than a value may have, and more than could be compared with each other.
    let refused = incremental(&mut image, topic(), vec![change("cleanup.policy", Append, &numbers(0..1_000_000))]);
    assert_eq!(refused, Err(AlterConfigsError::ValueTooLong));
    incremental(&mut image, topic(), vec![change("cleanup.policy", Subtract, &numbers(0..1_000_000))]).unwrap();
    assert_eq!(list(&image), "compact,delete");
}

#[test]
fn what_is_refused() {
    use ErrorCode::{BrokerIdNotRegistered, InvalidConfig, InvalidRequest, UnknownTopicOrPartition};

    let broker = |name: &str| ConfigResource { name: name.into(), ..ConfigResource::broker(NodeId(0)) };
    let null = ConfigChange { value: None, ..change("retention.ms", Set, "") };
    let long = "1".repeat(32_768);
    let cases = [
        (topic(), change("retention.ms", Set, "x"), InvalidConfig, "bad retention.ms=x"),
        (
            topic(),
            change("retention.ms", Append, "1"),
            InvalidConfig,
            "Can't APPEND to key retention.ms because its type is not LIST.",
        ),
        (topic(), null, InvalidRequest, "Null value not supported for : retention.ms"),
        (
            topic(),
            change("retention.ms", Set, &long),
            InvalidConfig,
            "The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.",
        ),
        (
            ConfigResource::topic("x"),
            change("retention.ms", Set, "5"),
            UnknownTopicOrPartition,
            "The topic 'x' does not exist.",
        ),
        (broker("9"), change("a", Set, "5"), BrokerIdNotRegistered, "No node with id 9 found."),
        (broker("one"), change("a", Set, "5"), InvalidRequest, "Invalid broker name one"),
    ];
    let mut image = with_topics(cluster(&[1]), &["t"]);
    let before = image.clone();
    for (resource, step, code, message) in cases {
        let valid = change("cleanup.policy", Set, "compact");
        let error = incremental(&mut image, resource, vec![step, valid]).unwrap_err();
        assert_eq!((error.error_code(), error.to_string().as_str()), (code, message));
        assert_eq!(image, before, "a resource changes as a whole or not at all");
    }
}

#[test]
fn resources_stand_alone_and_are_named_once() {
    let mut image = with_topics(cluster(&[1]), &["t", "u", "v"]);
    let of = |name: &str, value: &str| ResourceChange {
        resource: ConfigResource::topic(name),
        configs: vec![change("retention.ms", Set, value)],
    };
    let changes = [of("t", "x"), of("u", "1"), of("v", "2"), of("u", "3")];
    let validated = incremental_alter_configs(&image, &changes, true, &Rules);
    assert_eq!(validated.records, []);
    let outcome = incremental_alter_configs(&image, &changes, false, &Rules);
    assert_eq!(outcome.response, validated.response);
    let results = commit(&mut image, outcome);
    assert_eq!(results.len(), 3);
    assert_eq!(results[0].1.as_ref().unwrap_err().error_code(), ErrorCode::InvalidConfig);
    assert_eq!(results[1].1, Err(AlterConfigsError::DuplicateResource));
    assert_eq!(results[2].1, Ok(()));
    assert_eq!(values(&image, &ConfigResource::topic("v")), [("retention.ms".to_owned(), "2".to_owned())]);
}

#[test]
fn elements_are_split_as_java_splits_them() {
    let mut image = with_topics(cluster(&[1]), &["t"]);
    let steps = [
        (Set, "delete,delete", "delete,delete"),
        (Subtract, "delete,,", "delete"),
        (Append, "compact,", "delete,compact"),
        (Append, ",", "delete,compact"),
        (Subtract, "compact", "delete"),
    ];
    for (operation, operand, expected) in steps {
        incremental(&mut image, topic(), vec![change("cleanup.policy", operation, operand)]).unwrap();
        assert_eq!(values(&image, &topic()), [("cleanup.policy".to_owned(), expected.to_owned())], "{operand}");
    }
}

#[test]
fn a_resource_has_a_size() {
    let mut image = cluster(&[1]);
    let value = "v".repeat(32_000);
    let mut results = Vec::new();
    for number in 0..40 {
        let step = change(&format!("k{number}"), Set, &value);
        results.push(incremental(&mut image, ConfigResource::default_broker(), vec![step]));
    }
    let refused = results.iter().position(Result::is_err).expect("the last ones are refused");
    assert_eq!(refused, 32);
    assert!(
        results[refused..]
            .iter()
            .all(|result| { result.as_ref().is_err_and(|error| error.error_code() == ErrorCode::PolicyViolation) })
    );
    // What makes room is let through.
    incremental(&mut image, ConfigResource::default_broker(), vec![change("k0", Delete, "")]).unwrap();
    incremental(&mut image, ConfigResource::default_broker(), vec![change("k40", Set, &value)]).unwrap();
}

#[test]
fn everything_is_replaced() {
    let mut image = with_topics(cluster(&[1]), &["t"]);
    incremental(&mut image, topic(), vec![change("retention.ms", Set, "5"), change("cleanup.policy", Set, "compact")])
        .unwrap();
    let configs: Vec<(Arc<str>, Option<Arc<str>>)> = vec![("retention.ms".into(), Some("8".into()))];
    let outcome = alter_configs(&image, &[ResourceChange { resource: topic(), configs }], false, &Rules);
    assert_eq!(commit(&mut image, outcome)[0].1, Ok(()));
    assert_eq!(values(&image, &topic()), [("retention.ms".to_owned(), "8".to_owned())]);
}

#[test]
fn a_brokers_key_is_written_again() {
    let mut image = cluster(&[1]);
    let broker = ConfigResource::broker(NodeId(1));
    let changes = [ResourceChange { resource: broker, configs: vec![change("a", Set, "5")] }];
    for _ in 0..2 {
        let outcome = incremental_alter_configs(&image, &changes, false, &Rules);
        assert_eq!(outcome.records.len(), 1);
        commit(&mut image, outcome);
    }
    incremental(&mut image, ConfigResource::default_broker(), vec![change("a", Set, "6")]).unwrap();
    assert_eq!(values(&image, &ConfigResource::default_broker()).len(), 1);
}
