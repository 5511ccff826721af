//! An image as the shortest list of records that builds it.

use std::sync::Arc;

use crate::image::MetadataImage;
use crate::record::MetadataRecord;

impl MetadataImage {
    /// The records that make this image out of the empty one, in a fixed order.
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::with_capacity(self.topic_count() + self.partition_count() + 16);
        if let Some(cluster_id) = self.cluster_id() {
            records.push(MetadataRecord::ClusterId { cluster_id: Arc::clone(cluster_id) });
        }
        for (name, level) in self.features() {
            records.push(MetadataRecord::FeatureLevel { name: Arc::clone(name), level });
        }
        // In the order of their epochs, which may only rise.
        let mut brokers: Vec<_> = self.brokers().collect();
        brokers.sort_by_key(|registration| registration.broker_epoch);
        records
            .extend(brokers.into_iter().map(|registration| MetadataRecord::RegisterBroker((**registration).clone())));
        records.push(MetadataRecord::NextBrokerEpoch { broker_epoch: self.next_broker_epoch() });
        for topic in self.topics() {
            let topic_id = topic.topic_id;
            records.push(MetadataRecord::Topic { name: Arc::clone(&topic.name), topic_id });
            records.extend(topic.partitions().map(|(partition, registration)| MetadataRecord::Partition {
                topic_id,
                partition,
                registration: (**registration).clone(),
            }));
        }
        for (resource, configs) in self.config_resources() {
            records.extend(configs.iter().map(|(key, value)| MetadataRecord::Config {
                resource: resource.clone(),
                key: Arc::clone(key),
                value: Some(Arc::clone(value)),
            }));
        }
        if self.next_producer_id() > 0 {
            records.push(MetadataRecord::ProducerIds {
                node_id: (-1).into(),
                broker_epoch: (-1).into(),
                next_producer_id: self.next_producer_id(),
            });
        }
        records
    }
}
