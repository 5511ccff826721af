//! The metadata image: what all records so far amount to.
//!
//! State: cluster id, topics by id and by name, configurations, broker registrations, finalized features, the next
//! producer id and the next broker epoch. Invariants ([`MetadataImage::check_invariants`]): names and ids of topics are
//! one to one; partitions have no gaps and obey [`PartitionRegistration::violation`]; no resource has an empty set of
//! configurations. Applying a record either succeeds or leaves the image as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_types::{BrokerEpoch, NodeId, TopicId};

use crate::partition::{PartitionRegistration, PartitionViolation};
use crate::record::{ConfigResource, ConfigResourceType, MetadataRecord};
use crate::registration::{BrokerRegistration, BrokerRegistrationChange};
use crate::shared_map::SharedMap;
use crate::topic::TopicImage;

/// Keys and values set on one resource.
pub type Configs = BTreeMap<Arc<str>, Arc<str>>;

/// The metadata at one point of the quorum's log. A clone is a few pointer copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataImage {
    pub(crate) cluster_id: Option<Arc<str>>,
    pub(crate) topics: SharedMap<TopicId, Arc<TopicImage>>,
    pub(crate) topic_ids: SharedMap<Arc<str>, TopicId>,
    /// Topics whose name has a '.' or '_', by the name with every '.' made '_'.
    pub(crate) collisions: SharedMap<(Arc<str>, Arc<str>), ()>,
    pub(crate) configs: SharedMap<ConfigResource, Arc<Configs>>,
    pub(crate) brokers: SharedMap<NodeId, Arc<BrokerRegistration>>,
    pub(crate) next_broker_epoch: BrokerEpoch,
    pub(crate) features: SharedMap<Arc<str>, i16>,
    pub(crate) next_producer_id: i64,
    pub(crate) partition_count: usize,
}

/// Why a record cannot be applied: whoever wrote it had another image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("the cluster id is '{existing}' already, not '{found}'")]
    ClusterIdSet { existing: Arc<str>, found: Arc<str> },
    #[error("topic name '{name}' belongs to {existing} already")]
    TopicNameTaken { name: Arc<str>, existing: TopicId },
    #[error("topic id {topic_id} belongs to '{existing}' already")]
    TopicIdTaken { topic_id: TopicId, existing: Arc<str> },
    #[error("there is no topic {topic_id}")]
    UnknownTopic { topic_id: TopicId },
    #[error("topic {topic_id} has no partition {partition}")]
    UnknownPartition { topic_id: TopicId, partition: i32 },
    #[error("the next partition of topic {topic_id} is {expected}, not {found}")]
    PartitionOutOfOrder { topic_id: TopicId, expected: usize, found: i32 },
    #[error("partition {partition} of topic {topic_id}: {violation}")]
    InvalidPartition { topic_id: TopicId, partition: i32, violation: PartitionViolation },
    #[error("there is no broker {node_id}")]
    UnknownBroker { node_id: NodeId },
    #[error("broker {node_id} is registered with epoch {existing}, not {found}")]
    BrokerEpochMismatch { node_id: NodeId, existing: BrokerEpoch, found: BrokerEpoch },
    #[error("broker epoch {found} of broker {node_id} was given out already: the next one is {expected}")]
    BrokerEpochUsed { node_id: NodeId, expected: BrokerEpoch, found: BrokerEpoch },
    #[error("producer ids below {existing} are given out already: {found} goes back")]
    ProducerIdsUsed { existing: i64, found: i64 },
}

impl MetadataImage {
    /// `None` before the first record.
    pub fn cluster_id(&self) -> Option<&Arc<str>> {
        self.cluster_id.as_ref()
    }

    pub fn topic(&self, topic_id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(&topic_id)
    }

    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.topic_ids.get(name).copied()
    }

    /// Every topic, in the order of the names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topic_ids.iter().filter_map(|(_, topic_id)| self.topics.get(topic_id))
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// A partition by the topic's name.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Arc<PartitionRegistration>> {
        self.topic_by_name(topic)?.partition(partition)
    }

    /// A topic whose name cannot be told from this one once '.' has become '_', as metric names do. The name itself
    /// counts.
    pub fn colliding_topic(&self, name: &str) -> Option<&Arc<str>> {
        let unified: Arc<str> = unified_name(name)?;
        let ((found, existing), ()) = self.collisions.iter_from(&(Arc::clone(&unified), Arc::from(""))).next()?;
        (*found == unified).then_some(existing)
    }

    /// The keys set on a resource itself; `None` when there are none.
    pub fn configs(&self, resource: &ConfigResource) -> Option<&Arc<Configs>> {
        self.configs.get(resource)
    }

    pub fn topic_configs(&self, topic: &str) -> Option<&Arc<Configs>> {
        self.configs.get(&ConfigResource::topic(topic))
    }

    /// Every resource with a key set, in order.
    pub fn config_resources(&self) -> impl Iterator<Item = (&ConfigResource, &Arc<Configs>)> {
        self.configs.iter()
    }

    pub fn broker(&self, node_id: NodeId) -> Option<&Arc<BrokerRegistration>> {
        self.brokers.get(&node_id)
    }

    /// Every registered broker, in the order of the node ids.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerRegistration>> {
        self.brokers.iter().map(|(_, registration)| registration)
    }

    /// The epoch the next registration gets.
    pub fn next_broker_epoch(&self) -> BrokerEpoch {
        self.next_broker_epoch
    }

    /// The finalized level of a feature; 0 when it is not finalized.
    pub fn feature_level(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// Every finalized feature, in the order of the names.
    pub fn features(&self) -> impl Iterator<Item = (&Arc<str>, i16)> {
        self.features.iter().map(|(name, level)| (name, *level))
    }

    /// Producer ids from here on are free.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Applies records, all or none.
    pub fn apply_all(&self, records: &[MetadataRecord]) -> Result<MetadataImage, ImageError> {
        let mut next = self.clone();
        for record in records {
            next.apply(record)?;
        }
        Ok(next)
    }

    /// Applies one record; an error leaves the image as it was.
    pub fn apply(&mut self, record: &MetadataRecord) -> Result<(), ImageError> {
        match record {
            MetadataRecord::ClusterId { cluster_id } => self.apply_cluster_id(cluster_id),
            MetadataRecord::Topic { name, topic_id } => self.apply_topic(name, *topic_id),
            MetadataRecord::RemoveTopic { topic_id } => self.apply_remove_topic(*topic_id),
            MetadataRecord::Partition { topic_id, partition, registration } => {
                self.apply_partition(*topic_id, *partition, registration)
            }
            MetadataRecord::PartitionChange { topic_id, partition, change } => {
                let registration = self
                    .topic(*topic_id)
                    .ok_or(ImageError::UnknownTopic { topic_id: *topic_id })?
                    .partition(*partition)
                    .ok_or(ImageError::UnknownPartition { topic_id: *topic_id, partition: *partition })?
                    .changed(change);
                self.apply_partition(*topic_id, *partition, &registration)
            }
            MetadataRecord::Config { resource, key, value } => {
                self.apply_config(resource, key, value.as_ref());
                Ok(())
            }
            MetadataRecord::RegisterBroker(registration) => self.apply_register_broker(registration),
            MetadataRecord::UnregisterBroker { node_id, broker_epoch } => {
                self.registered_broker(*node_id, *broker_epoch)?;
                self.brokers.remove(node_id);
                Ok(())
            }
            MetadataRecord::BrokerRegistrationChange(change) => self.apply_broker_change(change),
            MetadataRecord::NextBrokerEpoch { broker_epoch } => {
                self.next_broker_epoch = self.next_broker_epoch.max(*broker_epoch);
                Ok(())
            }
            MetadataRecord::FeatureLevel { name, level } => {
                if *level == 0 {
                    self.features.remove(name);
                } else {
                    self.features.insert(Arc::clone(name), *level);
                }
                Ok(())
            }
            MetadataRecord::ProducerIds { next_producer_id, .. } => {
                let (existing, found) = (self.next_producer_id, *next_producer_id);
                if found < existing {
                    return Err(ImageError::ProducerIdsUsed { existing, found });
                }
                self.next_producer_id = found;
                Ok(())
            }
        }
    }

    fn apply_cluster_id(&mut self, cluster_id: &Arc<str>) -> Result<(), ImageError> {
        match &self.cluster_id {
            Some(existing) if existing != cluster_id => {
                Err(ImageError::ClusterIdSet { existing: Arc::clone(existing), found: Arc::clone(cluster_id) })
            }
            _ => {
                self.cluster_id = Some(Arc::clone(cluster_id));
                Ok(())
            }
        }
    }

    fn apply_topic(&mut self, name: &Arc<str>, topic_id: TopicId) -> Result<(), ImageError> {
        if let Some(existing) = self.topic_id(name) {
            return Err(ImageError::TopicNameTaken { name: Arc::clone(name), existing });
        }
        if let Some(existing) = self.topic(topic_id) {
            return Err(ImageError::TopicIdTaken { topic_id, existing: Arc::clone(&existing.name) });
        }
        self.topic_ids.insert(Arc::clone(name), topic_id);
        if let Some(unified) = unified_name(name) {
            self.collisions.insert((unified, Arc::clone(name)), ());
        }
        let topic = TopicImage { name: Arc::clone(name), topic_id, partitions: Vec::new() };
        self.topics.insert(topic_id, Arc::new(topic));
        Ok(())
    }

    fn apply_remove_topic(&mut self, topic_id: TopicId) -> Result<(), ImageError> {
        let topic = self.topics.remove(&topic_id).ok_or(ImageError::UnknownTopic { topic_id })?;
        self.topic_ids.remove(&topic.name);
        if let Some(unified) = unified_name(&topic.name) {
            self.collisions.remove(&(unified, Arc::clone(&topic.name)));
        }
        self.configs.remove(&ConfigResource::topic(Arc::clone(&topic.name)));
        self.partition_count -= topic.partition_count();
        Ok(())
    }

    fn apply_partition(
        &mut self,
        topic_id: TopicId,
        partition: i32,
        registration: &PartitionRegistration,
    ) -> Result<(), ImageError> {
        if let Some(violation) = registration.violation() {
            return Err(ImageError::InvalidPartition { topic_id, partition, violation });
        }
        let expected = self.topic(topic_id).ok_or(ImageError::UnknownTopic { topic_id })?.partition_count();
        let index = usize::try_from(partition)
            .ok()
            .filter(|index| *index <= expected)
            .ok_or(ImageError::PartitionOutOfOrder { topic_id, expected, found: partition })?;
        // The first record of a batch for a topic copies its list of partitions, the others change that copy.
        let topic = self.topics.get_mut(&topic_id).expect("invariant: the topic was found above");
        let partitions = &mut Arc::make_mut(topic).partitions;
        let registration = shared(&partitions[..index], registration);
        if index == expected {
            partitions.push(registration);
            self.partition_count += 1;
        } else {
            partitions[index] = registration;
        }
        Ok(())
    }

    fn apply_config(&mut self, resource: &ConfigResource, key: &Arc<str>, value: Option<&Arc<str>>) {
        let mut configs = self.configs.get(resource).map(|configs| (**configs).clone()).unwrap_or_default();
        match value {
            Some(value) => {
                configs.insert(Arc::clone(key), Arc::clone(value));
            }
            None => {
                configs.remove(key);
            }
        }
        if configs.is_empty() {
            self.configs.remove(resource);
        } else {
            self.configs.insert(resource.clone(), Arc::new(configs));
        }
    }

    fn apply_register_broker(&mut self, registration: &BrokerRegistration) -> Result<(), ImageError> {
        let (expected, found) = (self.next_broker_epoch, registration.broker_epoch);
        // The same incarnation keeps its epoch when it registers again.
        let amends = self.broker(registration.node_id).is_some_and(|existing| {
            existing.incarnation_id == registration.incarnation_id && existing.broker_epoch == found
        });
        if found < expected && !amends {
            return Err(ImageError::BrokerEpochUsed { node_id: registration.node_id, expected, found });
        }
        self.next_broker_epoch = expected.max(BrokerEpoch(found.0.saturating_add(1)));
        self.brokers.insert(registration.node_id, Arc::new(registration.clone()));
        Ok(())
    }

    fn apply_broker_change(&mut self, change: &BrokerRegistrationChange) -> Result<(), ImageError> {
        let mut next = (**self.registered_broker(change.node_id, change.broker_epoch)?).clone();
        if let Some(fenced) = change.fenced {
            next.fenced = fenced;
        }
        if let Some(in_controlled_shutdown) = change.in_controlled_shutdown {
            next.in_controlled_shutdown = in_controlled_shutdown;
        }
        if let Some(log_dirs) = &change.log_dirs {
            next.log_dirs.clone_from(log_dirs);
        }
        if let Some(cordoned_log_dirs) = &change.cordoned_log_dirs {
            next.cordoned_log_dirs.clone_from(cordoned_log_dirs);
        }
        self.brokers.insert(change.node_id, Arc::new(next));
        Ok(())
    }

    fn registered_broker(
        &self,
        node_id: NodeId,
        broker_epoch: BrokerEpoch,
    ) -> Result<&Arc<BrokerRegistration>, ImageError> {
        let registration = self.broker(node_id).ok_or(ImageError::UnknownBroker { node_id })?;
        let existing = registration.broker_epoch;
        if existing != broker_epoch {
            return Err(ImageError::BrokerEpochMismatch { node_id, existing, found: broker_epoch });
        }
        Ok(registration)
    }

    /// Panics if an invariant of the image is broken. For tests and simulation: it walks everything.
    pub fn check_invariants(&self) {
        assert_eq!(self.topics.len(), self.topic_ids.len());
        let mut partitions = 0;
        let mut collisions = 0;
        for (topic_id, topic) in self.topics.iter() {
            assert_eq!(*topic_id, topic.topic_id);
            assert_eq!(self.topic_id(&topic.name), Some(*topic_id));
            for (partition, registration) in topic.partitions() {
                assert_eq!(registration.violation(), None, "{}-{partition}", topic.name);
            }
            partitions += topic.partition_count();
            collisions += usize::from(unified_name(&topic.name).is_some());
        }
        assert_eq!(partitions, self.partition_count);
        assert_eq!(collisions, self.collisions.len());
        for (resource, configs) in self.configs.iter() {
            assert!(!configs.is_empty(), "{resource}");
            if resource.resource_type == ConfigResourceType::Topic && !resource.name.is_empty() {
                assert!(self.topic_id(&resource.name).is_some(), "{resource}");
            }
        }
        for registration in self.brokers() {
            assert!(registration.broker_epoch < self.next_broker_epoch);
        }
    }
}

/// The name with every '.' made '_'; `None` when it has neither and so collides with nothing.
fn unified_name(name: &str) -> Option<Arc<str>> {
    name.contains(['.', '_']).then(|| name.replace('.', "_").into())
}

/// How far back an equal registration is looked for: brokers take turns in the partitions of a topic.
const SHARED_WITHIN: usize = 32;

/// The registration, in the memory of an earlier partition's if there is an equal one: on one node, and wherever the same
/// brokers come round again, most are.
fn shared(earlier: &[Arc<PartitionRegistration>], registration: &PartitionRegistration) -> Arc<PartitionRegistration> {
    let mut near = earlier.iter().rev().take(SHARED_WITHIN);
    match near.find(|known| ***known == *registration) {
        Some(known) => Arc::clone(known),
        None => Arc::new(registration.clone()),
    }
}
