//! Topics: making, growing and deleting them.

use std::collections::BTreeMap;

use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use ottla_protocol::{ApiKey, StrBytes};
use ottla_types::TopicId;

use crate::client::Client;
use crate::error::{ClientError, failure};

#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    pub name: String,
    /// `None` leaves it to the broker's `num.partitions`.
    pub partitions: Option<i32>,
    /// `None` leaves it to the broker's `default.replication.factor`.
    pub replication_factor: Option<i16>,
    /// The brokers of each partition, the preferred leader first. If there are any, `partitions` and
    /// `replication_factor` must be `None`.
    pub assignments: BTreeMap<i32, Vec<i32>>,
    pub configs: Vec<(String, String)>,
}

/// A topic that was made. Numbers an old broker does not tell are -1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    pub topic_id: TopicId,
    pub partitions: i32,
    pub replication_factor: i16,
}

impl Client {
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<CreatedTopic, ClientError> {
        self.create_topic_or_validate(topic, false).await
    }

    /// Has the broker say whether it would make the topic, and with how many partitions; makes nothing.
    pub async fn validate_new_topic(&self, topic: &NewTopic) -> Result<CreatedTopic, ClientError> {
        self.create_topic_or_validate(topic, true).await
    }

    async fn create_topic_or_validate(
        &self,
        topic: &NewTopic,
        validate_only: bool,
    ) -> Result<CreatedTopic, ClientError> {
        let text = |text: &String| StrBytes::from(text.clone());
        let configs = topic
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: text(name), value: Some(text(value)) })
            .collect();
        let assignments = topic.assignments.iter().map(|(&partition_index, broker_ids)| CreatableReplicaAssignment {
            partition_index,
            broker_ids: broker_ids.clone(),
        });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: text(&topic.name),
                num_partitions: topic.partitions.unwrap_or(-1),
                replication_factor: topic.replication_factor.unwrap_or(-1),
                assignments: assignments.collect(),
                configs,
            }],
            timeout_ms: self.operation_timeout_ms(),
            validate_only,
        };
        let mut retry = self.retry();
        loop {
            let response = self.ask_any(&request, self.operation_timeout()).await?;
            let found = response.topics.into_iter().next().ok_or(ClientError::Incomplete(ApiKey::CreateTopics))?;
            if let Err(error) = topic_failure(&topic.name, found.error_code, found.error_message.as_ref()) {
                retry.pause(error).await?;
                continue;
            }
            self.forget_topic(&topic.name);
            return Ok(CreatedTopic {
                topic_id: found.topic_id,
                partitions: found.num_partitions,
                replication_factor: found.replication_factor,
            });
        }
    }

    /// Gives a topic more partitions, up to `count` in all. `assignments` are the brokers of each new one; the cluster
    /// chooses if there are none. With `validate_only` the broker says whether it would, and changes nothing.
    pub async fn create_partitions(
        &self,
        topic: &str,
        count: i32,
        assignments: Option<&[Vec<i32>]>,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let assigned = |broker_ids: &Vec<i32>| CreatePartitionsAssignment { broker_ids: broker_ids.clone() };
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: StrBytes::from(topic.to_owned()),
                count,
                assignments: assignments.map(|assignments| assignments.iter().map(assigned).collect()),
            }],
            timeout_ms: self.operation_timeout_ms(),
            validate_only,
        };
        let response = self.ask_any(&request, self.operation_timeout()).await?;
        let found = response.results.into_iter().next().ok_or(ClientError::Incomplete(ApiKey::CreatePartitions))?;
        self.forget_topic(topic);
        topic_failure(topic, found.error_code, found.error_message.as_ref())
    }

    pub async fn delete_topic(&self, topic: &str) -> Result<(), ClientError> {
        let name = StrBytes::from(topic.to_owned());
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(name), ..Default::default() }],
            timeout_ms: self.operation_timeout_ms(),
            ..Default::default()
        };
        let response = self.ask_any(&request, self.operation_timeout()).await?;
        let found = response.responses.into_iter().next().ok_or(ClientError::Incomplete(ApiKey::DeleteTopics))?;
        self.forget_topic(topic);
        topic_failure(topic, found.error_code, found.error_message.as_ref())
    }
}

fn topic_failure(topic: &str, code: i16, message: Option<&StrBytes>) -> Result<(), ClientError> {
    match failure(code) {
        None => Ok(()),
        Some(code) => {
            let message = message.filter(|message| !message.is_empty()).map(ToString::to_string);
            Err(ClientError::Topic { topic: topic.to_owned(), code, message })
        }
    }
}
