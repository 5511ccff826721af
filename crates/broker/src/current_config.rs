//! The configuration this node obeys now: its file under what was set at run time.

use std::sync::Arc;

use ottla_config::{ConfigError, ServerConfig};
use ottla_image::{ConfigResource, MetadataImage};
use parking_lot::RwLock;

use crate::topics::settings_of;

/// The current configuration; clones are of the same one. Whoever needs a setting reads it when it is used, so that a
/// change takes effect without anybody being told.
#[derive(Clone)]
pub(crate) struct CurrentConfig {
    /// As the node was started.
    at_start: Arc<ServerConfig>,
    now: Arc<RwLock<Arc<ServerConfig>>>,
}

impl CurrentConfig {
    pub(crate) fn new(config: ServerConfig) -> CurrentConfig {
        let at_start = Arc::new(config);
        CurrentConfig { now: Arc::new(RwLock::new(Arc::clone(&at_start))), at_start }
    }

    pub(crate) fn get(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.now.read())
    }

    /// As the node was started, without what was set at run time.
    pub(crate) fn at_start(&self) -> &ServerConfig {
        &self.at_start
    }

    /// What the node would obey with the settings in this image.
    pub(crate) fn with(&self, image: &MetadataImage) -> (ServerConfig, Vec<ConfigError>) {
        let cluster = settings_of(image, &ConfigResource::default_broker());
        let node = settings_of(image, &ConfigResource::broker(self.at_start.node_id));
        self.at_start.with_dynamic(&cluster, &node)
    }

    pub(crate) fn set(&self, config: Arc<ServerConfig>) {
        *self.now.write() = config;
    }
}
