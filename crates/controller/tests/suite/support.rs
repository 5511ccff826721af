//! What the scenarios share.

use std::sync::Arc;

use ottla_controller::{
    ConfigRules, CreateTopics, CreateTopicsError, CreatedTopic, InvalidConfig, NewTopic, Outcome, RegisterBroker,
    TopicDefaults, create_topics, register_broker,
};
use ottla_image::{ConfigResource, ConfigResourceType, Configs, MetadataImage, MetadataRecord};
use ottla_types::{ErrorCode, NodeId, Uuid};

pub const DEFAULTS: TopicDefaults = TopicDefaults { partitions: 2, replication_factor: 1 };

/// Knows `retention.ms` (a number), `cleanup.policy` (a list, `delete` by default), and no other key of topics; every
/// key of brokers.
pub struct Rules;

impl ConfigRules for Rules {
    fn validate(&self, resource: &ConfigResource, configs: &Configs) -> Result<(), InvalidConfig> {
        if resource.resource_type != ConfigResourceType::Topic {
            return Ok(());
        }
        for (key, value) in configs {
            let valid = match &**key {
                "retention.ms" => value.parse::<i64>().is_ok(),
                "cleanup.policy" => value.split(',').all(|policy| policy == "delete" || policy == "compact"),
                _ => false,
            };
            if !valid {
                let message = format!("bad {key}={value}");
                return Err(InvalidConfig { error_code: ErrorCode::InvalidConfig, message });
            }
        }
        Ok(())
    }

    fn list_default(&self, _resource_type: ConfigResourceType, key: &str) -> Option<String> {
        (key == "cleanup.policy").then(|| "delete".to_owned())
    }
}

pub fn registration(node_id: i32, incarnation: u8) -> RegisterBroker {
    let mut directory = [7; 16];
    directory[..4].copy_from_slice(&node_id.to_be_bytes());
    RegisterBroker {
        cluster_id: "cluster".into(),
        node_id: NodeId(node_id),
        incarnation_id: Uuid([incarnation; 16]),
        listeners: Vec::new(),
        rack: None,
        features: Vec::new(),
        log_dirs: vec![Uuid(directory)],
        cordoned_log_dirs: Vec::new(),
        earlier_is_alive: false,
        fenced: false,
    }
}

/// What committing an outcome makes of the image.
pub fn commit<T>(image: &mut MetadataImage, outcome: Outcome<T>) -> T {
    *image = image.apply_all(&outcome.records).unwrap();
    image.check_invariants();
    outcome.response
}

/// A cluster of brokers that serve.
pub fn cluster(nodes: &[i32]) -> MetadataImage {
    let mut image = MetadataImage::default();
    image.apply(&MetadataRecord::ClusterId { cluster_id: "cluster".into() }).unwrap();
    for &node in nodes {
        let outcome = register_broker(&image, &registration(node, 1));
        commit(&mut image, outcome).unwrap();
    }
    image
}

pub fn topic(name: &str) -> NewTopic {
    NewTopic::new(name)
}

/// Creates topics that are valid.
pub fn with_topics(mut image: MetadataImage, names: &[&str]) -> MetadataImage {
    let topics = names.iter().map(|name| topic(name)).collect();
    for (_, result) in create(&mut image, &CreateTopics { topics, validate_only: false }) {
        result.unwrap();
    }
    image
}

/// Decides and commits; ids are numbered.
pub fn create(
    image: &mut MetadataImage,
    request: &CreateTopics,
) -> Vec<(Arc<str>, Result<CreatedTopic, CreateTopicsError>)> {
    let mut last = image.topic_count() as u8 * 10;
    let mut next_id = || {
        last += 1;
        Uuid([last; 16])
    };
    let outcome = create_topics(image, request, DEFAULTS, &Rules, &mut next_id, 0).unwrap();
    commit(image, outcome)
}
