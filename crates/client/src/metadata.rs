//! What a cluster says about itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::messages::metadata_response::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};
use ottla_types::{ErrorCode, TopicId};

use crate::error::failure;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerDescription {
    pub node_id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    pub partition: i32,
    /// `None` while there is none.
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub offline_replicas: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    pub name: Arc<str>,
    /// Zero from a broker that knows no ids.
    pub topic_id: TopicId,
    pub internal: bool,
    pub partitions: BTreeMap<i32, PartitionDescription>,
}

/// Brokers, and the topics asked for: each with what it is or why that cannot be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterDescription {
    pub cluster_id: Option<String>,
    pub brokers: BTreeMap<i32, BrokerDescription>,
    pub topics: BTreeMap<String, Result<Arc<TopicDescription>, ErrorCode>>,
}

impl From<MetadataResponse> for ClusterDescription {
    fn from(response: MetadataResponse) -> ClusterDescription {
        let brokers = response.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            let rack = broker.rack.as_ref().map(ToString::to_string);
            Some((
                broker.node_id,
                BrokerDescription { node_id: broker.node_id, host: broker.host.to_string(), port, rack },
            ))
        });
        ClusterDescription {
            cluster_id: response.cluster_id.as_ref().map(ToString::to_string),
            brokers: brokers.collect(),
            topics: response.topics.iter().filter_map(named_topic).collect(),
        }
    }
}

fn named_topic(topic: &MetadataResponseTopic) -> Option<(String, Result<Arc<TopicDescription>, ErrorCode>)> {
    let name = topic.name.as_ref()?.to_string();
    let described = match failure(topic.error_code) {
        Some(code) => Err(code),
        None => Ok(Arc::new(TopicDescription {
            name: Arc::from(name.as_str()),
            topic_id: topic.topic_id,
            internal: topic.is_internal,
            partitions: topic.partitions.iter().map(|found| (found.partition_index, partition(found))).collect(),
        })),
    };
    Some((name, described))
}

fn partition(found: &MetadataResponsePartition) -> PartitionDescription {
    PartitionDescription {
        partition: found.partition_index,
        leader: Some(found.leader_id).filter(|&leader| leader >= 0),
        leader_epoch: found.leader_epoch,
        replicas: found.replica_nodes.clone(),
        isr: found.isr_nodes.clone(),
        offline_replicas: found.offline_replicas.clone(),
    }
}
