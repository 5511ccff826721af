//! What a configuration text means, from outside the crate.

mod describe;
mod documentation;
mod dynamic;
mod errors;
mod hostile;
mod load;
mod properties;
mod topics;

use ottla_config::{ConfigError, Loaded, ServerConfig};

fn load(text: &str) -> Result<Loaded, Vec<ConfigError>> {
    ServerConfig::load(Some(text), &[], None, false)
}

fn config(text: &str) -> ServerConfig {
    load(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}")).config
}
