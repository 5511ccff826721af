//! Groups: which there are, what they are doing, and deleting them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::messages::consumer_group_describe_request::ConsumerGroupDescribeRequest;
use ottla_protocol::messages::consumer_group_describe_response as new_protocol;
use ottla_protocol::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;
use ottla_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use ottla_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use ottla_protocol::messages::describe_groups_response as classic;
use ottla_protocol::messages::list_groups_request::ListGroupsRequest;
use ottla_protocol::{ApiKey, StrBytes};
use ottla_types::{ErrorCode, TopicPartition};

use crate::client::Client;
use crate::connection::Connection;
use crate::error::{ClientError, check, failure};
use crate::group::read_versioned;

/// How the members of a group work together. Its kind decides which requests it answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupType {
    /// Members divide the partitions among themselves.
    Classic,
    /// The broker divides them (KIP-848).
    Consumer,
    /// Members share partitions record by record.
    Share,
    Streams,
    Other(String),
}

impl GroupType {
    /// Kafka's name. An old broker, which has only classic groups, names none.
    pub fn from_name(name: &str) -> GroupType {
        match name.to_ascii_lowercase().as_str() {
            "classic" | "" => GroupType::Classic,
            "consumer" => GroupType::Consumer,
            "share" => GroupType::Share,
            "streams" => GroupType::Streams,
            _ => GroupType::Other(name.to_owned()),
        }
    }

    /// Kafka's name, in lower case.
    pub fn name(&self) -> &str {
        match self {
            GroupType::Classic => "classic",
            GroupType::Consumer => "consumer",
            GroupType::Share => "share",
            GroupType::Streams => "streams",
            GroupType::Other(name) => name,
        }
    }
}

/// Which groups to list. An empty list is no restriction; names are Kafka's, in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFilter {
    pub states: Vec<String>,
    pub types: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub group: String,
    pub group_type: GroupType,
    /// Empty from an old broker.
    pub state: String,
    /// "consumer" for groups of consumers, "connect" for workers of Connect; empty where only offsets are kept.
    pub protocol_type: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    pub group: String,
    pub group_type: GroupType,
    /// Kafka's name, such as `Stable` or `Empty`.
    pub state: String,
    pub protocol_type: String,
    /// What the members agreed on: the name of an assignor. Empty while there is none.
    pub assignor: String,
    pub members: Vec<GroupMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub assignment: BTreeSet<TopicPartition>,
}

impl Client {
    /// The groups of the whole cluster by name, each once.
    pub async fn list_groups(&self, filter: &GroupFilter) -> Result<Vec<ListedGroup>, ClientError> {
        let cluster = self.metadata(Some(&[]), false).await?;
        let text = |texts: &[String]| texts.iter().cloned().map(StrBytes::from).collect();
        let request = ListGroupsRequest { states_filter: text(&filter.states), types_filter: text(&filter.types) };
        let mut groups = BTreeMap::new();
        for &node_id in cluster.brokers.keys() {
            // Each broker knows the groups it coordinates.
            let found = self.at_broker(Some(node_id), async |connection| {
                let response = connection.send(&request).await?;
                check(ApiKey::ListGroups, response.error_code, None)?;
                Ok(response.groups)
            });
            for group in found.await? {
                let listed = ListedGroup {
                    group: group.group_id.to_string(),
                    group_type: GroupType::from_name(&group.group_type),
                    state: group.group_state.to_string(),
                    protocol_type: group.protocol_type.to_string(),
                };
                groups.insert(listed.group.clone(), listed);
            }
        }
        Ok(groups.into_values().collect())
    }

    /// A group of consumers, of either protocol, and its members.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        self.at_coordinator(group, async |connection| {
            if let Some(described) = describe_new_protocol(connection, group).await? {
                return Ok(described);
            }
            describe_classic(connection, group).await
        })
        .await
    }

    /// Deletes a group that has no members, and its offsets.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest { groups_names: vec![StrBytes::from(group.to_owned())] };
        self.at_coordinator(group, async |connection| {
            let response = connection.send(&request).await?;
            let found = response.results.into_iter().next().ok_or(ClientError::Incomplete(ApiKey::DeleteGroups))?;
            group_failure(group, found.error_code, found.error_message.as_ref())
        })
        .await
    }
}

/// `None` if the broker has no such group of this protocol.
async fn describe_new_protocol(connection: &Connection, group: &str) -> Result<Option<GroupDescription>, ClientError> {
    if connection.version(ApiKey::ConsumerGroupDescribe).is_none() {
        return Ok(None);
    }
    let group_ids = vec![StrBytes::from(group.to_owned())];
    let request = ConsumerGroupDescribeRequest { group_ids, ..Default::default() };
    let response = connection.send(&request).await?;
    let found = response.groups.into_iter().next().ok_or(ClientError::Incomplete(ApiKey::ConsumerGroupDescribe))?;
    match failure(found.error_code) {
        Some(ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion) => return Ok(None),
        _ => group_failure(group, found.error_code, found.error_message.as_ref())?,
    }
    let members = found.members.into_iter().map(|member| GroupMember {
        member_id: member.member_id.to_string(),
        instance_id: member.instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        assignment: assigned(&member.assignment),
    });
    Ok(Some(GroupDescription {
        group: group.to_owned(),
        group_type: GroupType::Consumer,
        state: found.group_state.to_string(),
        protocol_type: "consumer".to_owned(),
        assignor: found.assignor_name.to_string(),
        members: members.collect(),
    }))
}

fn assigned(assignment: &new_protocol::Assignment) -> BTreeSet<TopicPartition> {
    let partitions = assignment.topic_partitions.iter().flat_map(|topic| {
        let name: Arc<str> = Arc::from(topic.topic_name.as_str());
        topic.partitions.iter().map(move |&partition| TopicPartition::new(Arc::clone(&name), partition))
    });
    partitions.collect()
}

async fn describe_classic(connection: &Connection, group: &str) -> Result<GroupDescription, ClientError> {
    let request = DescribeGroupsRequest { groups: vec![StrBytes::from(group.to_owned())], ..Default::default() };
    let response = connection.send(&request).await?;
    let found = response.groups.into_iter().next().ok_or(ClientError::Incomplete(ApiKey::DescribeGroups))?;
    group_failure(group, found.error_code, found.error_message.as_ref())?;
    // Before version 6 a group that does not exist is one that is dead.
    if &*found.group_state == "Dead" {
        return Err(ClientError::UnknownGroup { group: group.to_owned() });
    }
    let consumers = found.protocol_type.is_empty() || &*found.protocol_type == "consumer";
    let members: Result<Vec<GroupMember>, ClientError> =
        found.members.into_iter().map(|member| classic_member(group, member, consumers)).collect();
    Ok(GroupDescription {
        group: group.to_owned(),
        group_type: GroupType::Classic,
        state: found.group_state.to_string(),
        protocol_type: found.protocol_type.to_string(),
        assignor: found.protocol_data.to_string(),
        members: members?,
    })
}

/// Only consumers have assignments that can be read; those of others are their own business.
fn classic_member(
    group: &str,
    member: classic::DescribedGroupMember,
    consumer: bool,
) -> Result<GroupMember, ClientError> {
    let assignment = if consumer { classic_assignment(group, member.member_assignment)? } else { BTreeSet::new() };
    Ok(GroupMember {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        assignment,
    })
}

fn classic_assignment(group: &str, bytes: Bytes) -> Result<BTreeSet<TopicPartition>, ClientError> {
    if bytes.is_empty() {
        return Ok(BTreeSet::new());
    }
    let assignment: ConsumerProtocolAssignment =
        read_versioned(bytes).map_err(|source| ClientError::Assignment { group: group.to_owned(), source })?;
    let partitions = assignment.assigned_partitions.iter().flat_map(|assigned| {
        let topic: Arc<str> = Arc::from(assigned.topic.as_str());
        assigned.partitions.iter().map(move |&partition| TopicPartition::new(Arc::clone(&topic), partition))
    });
    Ok(partitions.collect())
}

/// The error an answer has for a group.
pub(super) fn group_failure(group: &str, code: i16, message: Option<&StrBytes>) -> Result<(), ClientError> {
    match failure(code) {
        None => Ok(()),
        Some(ErrorCode::GroupIdNotFound) => Err(ClientError::UnknownGroup { group: group.to_owned() }),
        Some(code) => {
            let message = message.filter(|message| !message.is_empty()).map(ToString::to_string);
            Err(ClientError::Group { group: group.to_owned(), code, message })
        }
    }
}
