//! What differs between two images.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_types::NodeId;

use crate::image::MetadataImage;
use crate::record::ConfigResource;
use crate::shared_map::Difference;
use crate::topic::TopicImage;

/// The way from an earlier image to a later one. It costs what has changed, not what there is, so a reader that fell
/// behind takes one delta over everything it missed; a topic that came and went in between is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataDelta {
    /// In the order of the ids. A topic that was deleted and created again under its name is in both lists.
    pub topics_created: Vec<Arc<TopicImage>>,
    pub topics_deleted: Vec<Arc<TopicImage>>,
    pub topics_changed: Vec<TopicDelta>,
    pub configs_changed: BTreeSet<ConfigResource>,
    pub brokers_changed: BTreeSet<NodeId>,
    pub features_changed: bool,
    pub producer_ids_changed: bool,
}

/// A topic that both images have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDelta {
    pub earlier: Arc<TopicImage>,
    pub topic: Arc<TopicImage>,
    /// Partitions that are new or differ, ascending; see [`TopicDelta::is_new`].
    pub partitions: Vec<i32>,
}

impl TopicDelta {
    /// Whether the earlier image does not have the partition.
    pub fn is_new(&self, partition: i32) -> bool {
        self.earlier.partition(partition).is_none()
    }
}

impl MetadataDelta {
    /// What must happen to `earlier` to become `later`.
    pub fn between(earlier: &MetadataImage, later: &MetadataImage) -> MetadataDelta {
        let mut delta = MetadataDelta {
            producer_ids_changed: earlier.next_producer_id != later.next_producer_id,
            features_changed: earlier.features != later.features,
            ..MetadataDelta::default()
        };
        for difference in later.topics.differences_from(&earlier.topics) {
            match difference {
                Difference::Added(_, topic) => delta.topics_created.push(Arc::clone(topic)),
                Difference::Removed(_, topic) => delta.topics_deleted.push(Arc::clone(topic)),
                Difference::Changed(_, old, new) => delta.topics_changed.push(topic_delta(old, new)),
            }
        }
        delta.configs_changed.extend(later.configs.differences_from(&earlier.configs).iter().map(|d| d.key().clone()));
        delta.brokers_changed.extend(later.brokers.differences_from(&earlier.brokers).iter().map(|d| *d.key()));
        delta
    }

    pub fn is_empty(&self) -> bool {
        *self == MetadataDelta::default()
    }
}

impl<K, V> Difference<'_, K, V> {
    fn key(&self) -> &K {
        match self {
            Difference::Added(key, _) | Difference::Removed(key, _) | Difference::Changed(key, _, _) => key,
        }
    }
}

fn topic_delta(earlier: &Arc<TopicImage>, topic: &Arc<TopicImage>) -> TopicDelta {
    let partitions = topic
        .partitions()
        .filter(|(partition, registration)| earlier.partition(*partition) != Some(registration))
        .map(|(partition, _)| partition)
        .collect();
    TopicDelta { earlier: Arc::clone(earlier), topic: Arc::clone(topic), partitions }
}
