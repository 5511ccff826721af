//! Topics: making, describing and deleting them.

use std::time::Duration;

use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use ottla_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::{ApiKey, StrBytes};
use ottla_types::TopicId;

use crate::client::Client;
use crate::error::{ClientError, check, failure};

/// Over the time the brokers get: the answer must travel.
const GRACE: Duration = Duration::from_secs(5);
const TOPIC_RESOURCE: i8 = 2;

#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: String,
    /// `None` leaves it to the broker's `num.partitions`.
    pub partitions: Option<i32>,
    /// `None` leaves it to the broker's `default.replication.factor`.
    pub replication_factor: Option<i16>,
    pub configs: Vec<(String, String)>,
}

/// A topic that was made. Numbers an old broker does not tell are -1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    pub topic_id: TopicId,
    pub partitions: i32,
    pub replication_factor: i16,
}

/// Where the value of a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    Topic,
    DynamicBroker,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
    Other(i8),
}

impl ConfigSource {
    fn from_code(code: i8) -> ConfigSource {
        match code {
            1 => ConfigSource::Topic,
            2 => ConfigSource::DynamicBroker,
            3 => ConfigSource::DynamicDefaultBroker,
            4 => ConfigSource::StaticBroker,
            5 => ConfigSource::Default,
            other => ConfigSource::Other(other),
        }
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            ConfigSource::Topic => "DYNAMIC_TOPIC_CONFIG",
            ConfigSource::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
            ConfigSource::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            ConfigSource::StaticBroker => "STATIC_BROKER_CONFIG",
            ConfigSource::Default => "DEFAULT_CONFIG",
            ConfigSource::Other(_) => "UNKNOWN",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` for a key without a value, and for a secret.
    pub value: Option<String>,
    pub source: ConfigSource,
}

impl Client {
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<CreatedTopic, ClientError> {
        let text = |text: &String| StrBytes::from(text.clone());
        let configs = topic
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: text(name), value: Some(text(value)) })
            .collect();
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: text(&topic.name),
                num_partitions: topic.partitions.unwrap_or(-1),
                replication_factor: topic.replication_factor.unwrap_or(-1),
                configs,
                ..Default::default()
            }],
            timeout_ms: self.operation_timeout_ms(),
            ..Default::default()
        };
        let mut retry = self.retry();
        loop {
            let response = self.ask_any(&request, self.operation_timeout() + GRACE).await?;
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

    pub async fn delete_topic(&self, topic: &str) -> Result<(), ClientError> {
        let name = StrBytes::from(topic.to_owned());
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(name.clone()), ..Default::default() }],
            timeout_ms: self.operation_timeout_ms(),
            ..Default::default()
        };
        let response = self.ask_any(&request, self.operation_timeout() + GRACE).await?;
        let found = response.responses.into_iter().next().ok_or(ClientError::Incomplete(ApiKey::DeleteTopics))?;
        self.forget_topic(topic);
        topic_failure(topic, found.error_code, found.error_message.as_ref())
    }

    /// The settings of a topic, by name.
    pub async fn topic_configs(&self, topic: &str) -> Result<Vec<ConfigEntry>, ClientError> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: StrBytes::from(topic.to_owned()),
                configuration_keys: None,
            }],
            ..Default::default()
        };
        let response = self.ask_any(&request, self.settings().request_timeout).await?;
        let found = response.results.into_iter().next().ok_or(ClientError::Incomplete(ApiKey::DescribeConfigs))?;
        check(ApiKey::DescribeConfigs, found.error_code, found.error_message.as_ref())?;
        let mut entries: Vec<ConfigEntry> = found
            .configs
            .iter()
            .map(|config| ConfigEntry {
                name: config.name.to_string(),
                value: config.value.as_ref().map(ToString::to_string),
                source: ConfigSource::from_code(config.config_source),
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn operation_timeout(&self) -> Duration {
        self.settings().timeout
    }

    fn operation_timeout_ms(&self) -> i32 {
        i32::try_from(self.operation_timeout().as_millis()).unwrap_or(i32::MAX)
    }
}

fn topic_failure(topic: &str, code: i16, message: Option<&StrBytes>) -> Result<(), ClientError> {
    match failure(code) {
        None => Ok(()),
        Some(code) => {
            Err(ClientError::Topic { topic: topic.to_owned(), code, message: message.map(ToString::to_string) })
        }
    }
}
