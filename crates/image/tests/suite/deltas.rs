//! Deltas between images.

use std::collections::BTreeMap;

use ottla_image::{ConfigResource, MetadataDelta, MetadataImage, MetadataRecord};
use ottla_types::{NodeId, Uuid};
use proptest::prelude::*;

use crate::generated::plausible_records;

proptest! {
    /// The delta tells exactly what comparing everything finds.
    #[test]
    fn a_delta_tells_what_changed(first in plausible_records(), second in plausible_records()) {
        let mut earlier = MetadataImage::default();
        for record in &first {
            let _ = earlier.apply(record);
        }
        let mut later = earlier.clone();
        for record in &second {
            let _ = later.apply(record);
        }
        let delta = MetadataDelta::between(&earlier, &later);
        let topics = |image: &MetadataImage| -> BTreeMap<_, _> {
            image.topics().map(|topic| (topic.topic_id, topic.clone())).collect()
        };
        let mut model = topics(&earlier);
        for topic in &delta.topics_deleted {
            let removed = model.remove(&topic.topic_id);
            prop_assert_eq!(removed.as_ref(), Some(topic));
        }
        for topic in &delta.topics_created {
            prop_assert!(model.insert(topic.topic_id, topic.clone()).is_none());
        }
        for change in &delta.topics_changed {
            prop_assert_eq!(model.get(&change.topic.topic_id), Some(&change.earlier));
            for (partition, registration) in change.topic.partitions() {
                let differs = change.earlier.partition(partition) != Some(registration);
                prop_assert_eq!(change.partitions.contains(&partition), differs);
                prop_assert_eq!(change.is_new(partition), change.earlier.partition(partition).is_none());
            }
            model.insert(change.topic.topic_id, change.topic.clone());
        }
        prop_assert_eq!(model, topics(&later));
        for node in 0..3 {
            let resource = ConfigResource::broker(NodeId(node));
            let differs = earlier.configs(&resource) != later.configs(&resource);
            prop_assert_eq!(delta.configs_changed.contains(&resource), differs);
            let differs = earlier.broker(NodeId(node)) != later.broker(NodeId(node));
            prop_assert_eq!(delta.brokers_changed.contains(&NodeId(node)), differs);
        }
        let features = |image: &MetadataImage| image.features().map(|(name, level)| (name.clone(), level)).collect::<Vec<_>>();
        prop_assert_eq!(delta.features_changed, features(&earlier) != features(&later));
        prop_assert_eq!(delta.producer_ids_changed, earlier.next_producer_id() != later.next_producer_id());
        prop_assert!(MetadataDelta::between(&later, &later.clone()).is_empty());
    }
}

#[test]
fn a_topic_made_anew_is_deleted_and_created() {
    let topic = |id: u8| MetadataRecord::Topic { name: "t".into(), topic_id: Uuid([id; 16]) };
    let earlier = MetadataImage::default().apply_all(&[topic(1)]).unwrap();
    let later = earlier.apply_all(&[MetadataRecord::RemoveTopic { topic_id: Uuid([1; 16]) }, topic(2)]).unwrap();
    let delta = MetadataDelta::between(&earlier, &later);
    assert_eq!(delta.topics_deleted[0].topic_id, Uuid([1; 16]));
    assert_eq!(delta.topics_created[0].topic_id, Uuid([2; 16]));
    assert!(delta.topics_changed.is_empty());
}
