//! Changes of configurations: decided by the controller's pure functions under the rules of the configuration table,
//! committed by the quorum, and in effect on this node before the client is answered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ottla_config::{
    ClientMetricsError, DynamicError, LogConfig, Scope, ServerConfig, broker_list_default, check_client_metrics,
    topic_list_default,
};
use ottla_controller::{
    AlterConfigsError, ConfigChange, ConfigRules, InvalidConfig, KeyValue, ResourceChange, alter_configs,
    incremental_alter_configs,
};
use ottla_image::{ConfigResource, ConfigResourceType, Configs, MetadataImage};
use ottla_quorum::{MetadataQuorum, QuorumError, decide};
use ottla_types::{ErrorCode, validate_topic_name};

use crate::current_config::CurrentConfig;
use crate::metadata_publisher::Applied;

/// What is asked of the resources that the metadata keeps.
pub(crate) enum Changes {
    /// Single keys.
    Incremental(Vec<ResourceChange<ConfigChange>>),
    /// Everything; what is not named goes.
    Whole(Vec<ResourceChange<KeyValue>>),
}

/// What became of each resource.
pub(crate) type ChangeResults = BTreeMap<ConfigResource, Result<(), AlterConfigsError>>;

/// The way configurations are changed on this node.
pub(crate) struct ConfigChanges {
    config: CurrentConfig,
    quorum: Arc<dyn MetadataQuorum>,
    applied: Applied,
}

impl ConfigChanges {
    pub(crate) fn new(config: CurrentConfig, quorum: Arc<dyn MetadataQuorum>, applied: Applied) -> ConfigChanges {
        ConfigChanges { config, quorum, applied }
    }

    /// Changes configurations; those that were changed are in effect when this returns.
    pub(crate) async fn alter(&self, changes: Changes, validate_only: bool) -> Result<ChangeResults, QuorumError> {
        let current = self.config.clone();
        let decision = move |image: &MetadataImage| {
            // Of the newest image: what was decided before may not be in effect yet.
            let (config, _) = current.with(image);
            let rules = Rules { config: &config };
            let decided = match &changes {
                Changes::Incremental(changes) => incremental_alter_configs(image, changes, validate_only, &rules),
                Changes::Whole(changes) => alter_configs(image, changes, validate_only, &rules),
            };
            let changed = !decided.records.is_empty();
            (decided.records, (decided.response, changed))
        };
        let (position, (results, changed)) = decide(&*self.quorum, decision).await?;
        if changed {
            self.applied.reached(position).await;
        }
        Ok(results.into_iter().collect())
    }
}

/// What the configuration table says to the controller.
pub(crate) struct Rules<'a> {
    pub(crate) config: &'a ServerConfig,
}

impl ConfigRules for Rules<'_> {
    fn validate(&self, resource: &ConfigResource, configs: &Configs) -> Result<(), InvalidConfig> {
        let settings: BTreeMap<String, String> =
            configs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let name = &*resource.name;
        match resource.resource_type {
            ConfigResourceType::Topic => {
                if name.is_empty() {
                    return Err(invalid(ErrorCode::InvalidRequest, &"Default topic resources are not allowed."));
                }
                validate_topic_name(name).map_err(|error| invalid(ErrorCode::InvalidTopicException, &error))?;
                let resolved = LogConfig::resolve(self.config, &settings);
                resolved.map(|_| ()).map_err(|error| invalid(ErrorCode::InvalidConfig, &error))
            }
            ConfigResourceType::Broker => {
                let scope = if name.is_empty() { Scope::Cluster } else { Scope::Node };
                match self.config.check_dynamic(scope, &settings) {
                    Ok(warnings) => {
                        for warning in warnings {
                            tracing::warn!(%resource, "{warning}");
                        }
                        Ok(())
                    }
                    Err(error) => Err(invalid(dynamic_error_code(&error), &error)),
                }
            }
            ConfigResourceType::ClientMetrics => {
                if name.is_empty() {
                    return Err(invalid(ErrorCode::InvalidRequest, &"Subscription name can't be empty"));
                }
                check_client_metrics(&settings).map_err(|error| invalid(client_metrics_error_code(&error), &error))
            }
            ConfigResourceType::Group => {
                if name.is_empty() {
                    return Err(invalid(ErrorCode::InvalidRequest, &"Default group resources are not allowed."));
                }
                self.config.check_group(&settings).map_err(|error| invalid(ErrorCode::InvalidConfig, &error))
            }
        }
    }

    fn list_default(&self, resource_type: ConfigResourceType, key: &str) -> Option<String> {
        let default = match resource_type {
            ConfigResourceType::Topic => topic_list_default(key),
            ConfigResourceType::Broker => broker_list_default(key),
            // Kafka's controller takes none of their keys for a list.
            ConfigResourceType::ClientMetrics | ConfigResourceType::Group => None,
        };
        default.map(str::to_owned)
    }
}

fn invalid(error_code: ErrorCode, message: &dyn fmt::Display) -> InvalidConfig {
    InvalidConfig { error_code, message: message.to_string() }
}

/// Kafka answers INVALID_REQUEST to whatever is wrong with a broker's values, and keeps to it.
fn dynamic_error_code(error: &DynamicError) -> ErrorCode {
    match error {
        DynamicError::NeedsRestart { .. }
        | DynamicError::OnlyPerListener { .. }
        | DynamicError::OnlyPerNode { .. }
        | DynamicError::ListenersAreFixed { .. }
        | DynamicError::TooFewThreads { .. }
        | DynamicError::TooManyThreads { .. }
        | DynamicError::NoCleanerThread
        | DynamicError::TooFewCleanerThreads { .. }
        | DynamicError::TooManyCleanerThreads { .. }
        | DynamicError::Invalid(_) => ErrorCode::InvalidRequest,
    }
}

fn client_metrics_error_code(error: &ClientMetricsError) -> ErrorCode {
    match error {
        ClientMetricsError::UnknownKey { .. } | ClientMetricsError::Interval { .. } => ErrorCode::InvalidRequest,
        ClientMetricsError::Pattern { .. } | ClientMetricsError::Invalid(_) => ErrorCode::InvalidConfig,
    }
}
