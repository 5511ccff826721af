//! Metadata records: Kafka's in content, ours in form.

use std::fmt;
use std::sync::Arc;

use ottla_types::{BrokerEpoch, NodeId, TopicId};

use crate::partition::{PartitionChange, PartitionRegistration};
use crate::registration::{BrokerRegistration, BrokerRegistrationChange};

/// One change of the cluster's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataRecord {
    /// Names the cluster; the first record there is, and never changed.
    ClusterId { cluster_id: Arc<str> },
    /// A topic without partitions; its partitions follow.
    Topic { name: Arc<str>, topic_id: TopicId },
    /// The topic, its partitions and its configuration are gone.
    RemoveTopic { topic_id: TopicId },
    /// The next partition of a topic.
    Partition { topic_id: TopicId, partition: i32, registration: PartitionRegistration },
    /// Some fields of a partition.
    PartitionChange { topic_id: TopicId, partition: i32, change: PartitionChange },
    /// Sets one configuration key, or removes it (`None`).
    Config { resource: ConfigResource, key: Arc<str>, value: Option<Arc<str>> },
    /// A broker came (again); replaces its earlier registration.
    RegisterBroker(BrokerRegistration),
    /// A broker left for good.
    UnregisterBroker { node_id: NodeId, broker_epoch: BrokerEpoch },
    /// Some fields of a broker's registration.
    BrokerRegistrationChange(BrokerRegistrationChange),
    /// No registration so far had this epoch or a later one. Only snapshots need it.
    NextBrokerEpoch { broker_epoch: BrokerEpoch },
    /// Finalizes a feature; level 0 takes it out.
    FeatureLevel { name: Arc<str>, level: i16 },
    /// Producer ids below `next_producer_id` are given out.
    ProducerIds { node_id: NodeId, broker_epoch: BrokerEpoch, next_producer_id: i64 },
}

/// What a configuration belongs to. An empty name is the default of every resource of the type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigResource {
    pub resource_type: ConfigResourceType,
    pub name: Arc<str>,
}

impl ConfigResource {
    pub fn topic(name: impl Into<Arc<str>>) -> Self {
        Self { resource_type: ConfigResourceType::Topic, name: name.into() }
    }

    pub fn broker(node_id: NodeId) -> Self {
        Self { resource_type: ConfigResourceType::Broker, name: node_id.to_string().into() }
    }

    /// The defaults of every broker (`--entity-default`).
    pub fn default_broker() -> Self {
        Self { resource_type: ConfigResourceType::Broker, name: "".into() }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} '{}'", self.resource_type.name(), self.name)
    }
}

/// The kinds of resource whose configuration the quorum keeps, with Kafka's numbers (`ConfigResource.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i8)]
pub enum ConfigResourceType {
    Topic = 2,
    Broker = 4,
    ClientMetrics = 16,
    Group = 32,
}

impl ConfigResourceType {
    pub fn code(self) -> i8 {
        self as i8
    }

    pub fn from_code(code: i8) -> Option<Self> {
        Some(match code {
            2 => ConfigResourceType::Topic,
            4 => ConfigResourceType::Broker,
            16 => ConfigResourceType::ClientMetrics,
            32 => ConfigResourceType::Group,
            _ => return None,
        })
    }

    /// Kafka's name, such as `TOPIC`.
    pub fn name(self) -> &'static str {
        match self {
            ConfigResourceType::Topic => "TOPIC",
            ConfigResourceType::Broker => "BROKER",
            ConfigResourceType::ClientMetrics => "CLIENT_METRICS",
            ConfigResourceType::Group => "GROUP",
        }
    }
}
