//! Configurations of topics, brokers, groups, client metrics and loggers: reading and changing them.

use std::fmt;

use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_protocol::{ApiKey, StrBytes};

use crate::client::Client;
use crate::error::{ClientError, failure};

/// What has configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConfigResourceType {
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
    Group,
}

impl ConfigResourceType {
    /// Kafka's number (`ConfigResource.Type`).
    pub fn code(self) -> i8 {
        match self {
            ConfigResourceType::Topic => 2,
            ConfigResourceType::Broker => 4,
            ConfigResourceType::BrokerLogger => 8,
            ConfigResourceType::ClientMetrics => 16,
            ConfigResourceType::Group => 32,
        }
    }
}

/// One thing that has configurations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfigResource {
    pub resource_type: ConfigResourceType,
    /// Of a broker or its loggers the node id; empty for the default of all brokers.
    pub name: String,
}

impl ConfigResource {
    pub fn new(resource_type: ConfigResourceType, name: impl Into<String>) -> ConfigResource {
        ConfigResource { resource_type, name: name.into() }
    }

    pub fn topic(name: impl Into<String>) -> ConfigResource {
        ConfigResource::new(ConfigResourceType::Topic, name)
    }

    /// The one broker that can answer for it, if only one can.
    fn node_id(&self) -> Option<i32> {
        match self.resource_type {
            ConfigResourceType::Broker | ConfigResourceType::BrokerLogger => self.name.parse().ok(),
            ConfigResourceType::Topic | ConfigResourceType::ClientMetrics | ConfigResourceType::Group => None,
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.resource_type {
            ConfigResourceType::Topic => write!(formatter, "topic '{name}'"),
            ConfigResourceType::Broker if name.is_empty() => write!(formatter, "the default of all brokers"),
            ConfigResourceType::Broker => write!(formatter, "broker {name}"),
            ConfigResourceType::BrokerLogger => write!(formatter, "the loggers of broker {name}"),
            ConfigResourceType::ClientMetrics => write!(formatter, "client metrics '{name}'"),
            ConfigResourceType::Group => write!(formatter, "group '{name}'"),
        }
    }
}

/// Where the value of a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    Topic,
    DynamicBroker,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
    DynamicBrokerLogger,
    ClientMetrics,
    Group,
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
            6 => ConfigSource::DynamicBrokerLogger,
            7 => ConfigSource::ClientMetrics,
            8 => ConfigSource::Group,
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
            ConfigSource::DynamicBrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
            ConfigSource::ClientMetrics => "DYNAMIC_CLIENT_METRICS_CONFIG",
            ConfigSource::Group => "DYNAMIC_GROUP_CONFIG",
            ConfigSource::Other(_) => "UNKNOWN",
        }
    }
}

/// What values of a key look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigType {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

impl ConfigType {
    fn from_code(code: i8) -> Option<ConfigType> {
        Some(match code {
            1 => ConfigType::Boolean,
            2 => ConfigType::String,
            3 => ConfigType::Int,
            4 => ConfigType::Short,
            5 => ConfigType::Long,
            6 => ConfigType::Double,
            7 => ConfigType::List,
            8 => ConfigType::Class,
            9 => ConfigType::Password,
            _ => return None,
        })
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            ConfigType::Boolean => "BOOLEAN",
            ConfigType::String => "STRING",
            ConfigType::Int => "INT",
            ConfigType::Short => "SHORT",
            ConfigType::Long => "LONG",
            ConfigType::Double => "DOUBLE",
            ConfigType::List => "LIST",
            ConfigType::Class => "CLASS",
            ConfigType::Password => "PASSWORD",
        }
    }
}

/// One place a value could come from, and the value there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    pub name: String,
    pub value: Option<String>,
    pub source: ConfigSource,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` for a key without a value, and for a secret.
    pub value: Option<String>,
    pub source: ConfigSource,
    /// A change needs a restart, or is not possible at all.
    pub read_only: bool,
    pub sensitive: bool,
    /// Strongest first; the first of them is what counts.
    pub synonyms: Vec<ConfigSynonym>,
    /// `None` from an old broker, and for a key nobody knows.
    pub value_type: Option<ConfigType>,
    pub documentation: Option<String>,
}

impl From<&DescribeConfigsResourceResult> for ConfigEntry {
    fn from(config: &DescribeConfigsResourceResult) -> ConfigEntry {
        let text = |text: &Option<StrBytes>| text.as_ref().map(ToString::to_string);
        let synonyms = config.synonyms.iter().map(|synonym| ConfigSynonym {
            name: synonym.name.to_string(),
            value: text(&synonym.value),
            source: ConfigSource::from_code(synonym.source),
        });
        ConfigEntry {
            name: config.name.to_string(),
            value: text(&config.value),
            source: ConfigSource::from_code(config.config_source),
            read_only: config.read_only,
            sensitive: config.is_sensitive,
            synonyms: synonyms.collect(),
            value_type: ConfigType::from_code(config.config_type),
            documentation: text(&config.documentation),
        }
    }
}

/// What is done to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    Set(String),
    /// Back to what would count without it.
    Unset,
    /// Adds elements to a list.
    Append(String),
    /// Takes elements out of a list.
    Subtract(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    pub key: String,
    pub operation: ConfigOperation,
}

impl ConfigChange {
    fn request(&self) -> AlterableConfig {
        let (config_operation, value) = match &self.operation {
            ConfigOperation::Set(value) => (0, Some(value)),
            ConfigOperation::Unset => (1, None),
            ConfigOperation::Append(value) => (2, Some(value)),
            ConfigOperation::Subtract(value) => (3, Some(value)),
        };
        let value = value.map(|value| StrBytes::from(value.clone()));
        AlterableConfig { name: StrBytes::from(self.key.clone()), config_operation, value }
    }
}

impl Client {
    /// The configuration of something, by key, with synonyms; documentation is long and comes only when asked for.
    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
        documentation: bool,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: resource.resource_type.code(),
                resource_name: StrBytes::from(resource.name.clone()),
                configuration_keys: None,
            }],
            include_synonyms: true,
            include_documentation: documentation,
        };
        self.at_broker(resource.node_id(), async |connection| {
            let response = connection.send(&request).await?;
            let found = response.results.into_iter().next().ok_or(ClientError::Incomplete(ApiKey::DescribeConfigs))?;
            resource_failure(resource, found.error_code, found.error_message.as_ref())?;
            let mut entries: Vec<ConfigEntry> = found.configs.iter().map(ConfigEntry::from).collect();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        })
        .await
    }

    /// Changes keys of one resource, all of them or none; every other key stays. With `validate_only` the broker says
    /// whether it would, and changes nothing.
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &[ConfigChange],
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: resource.resource_type.code(),
                resource_name: StrBytes::from(resource.name.clone()),
                configs: changes.iter().map(ConfigChange::request).collect(),
            }],
            validate_only,
        };
        let timeout = self.operation_timeout();
        let answered = self.at_broker(resource.node_id(), async |connection| {
            Ok(connection.send_at_most(&request, i16::MAX, timeout).await?)
        });
        let found = answered.await?.responses.into_iter().next();
        let found = found.ok_or(ClientError::Incomplete(ApiKey::IncrementalAlterConfigs))?;
        resource_failure(resource, found.error_code, found.error_message.as_ref())
    }
}

fn resource_failure(resource: &ConfigResource, code: i16, message: Option<&StrBytes>) -> Result<(), ClientError> {
    match failure(code) {
        None => Ok(()),
        Some(code) => {
            let message = message.filter(|message| !message.is_empty()).map(ToString::to_string);
            Err(ClientError::Config { resource: resource.clone(), code, message })
        }
    }
}
