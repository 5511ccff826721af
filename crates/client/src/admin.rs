//! What administrators ask of a cluster, one subject a file.
//!
//! What can be asked again is asked again while that can help: lost connections, coordinators that load, leaders that
//! moved.

mod configs;
mod groups;
mod log_dirs;
mod offsets_of_groups;
mod records;
mod topics;
mod versions;

pub use configs::{
    ConfigChange, ConfigEntry, ConfigOperation, ConfigResource, ConfigResourceType, ConfigSource, ConfigSynonym,
    ConfigType,
};
pub use groups::{GroupDescription, GroupFilter, GroupMember, GroupType, ListedGroup};
pub use log_dirs::{LogDirectory, ReplicaSize};
pub use offsets_of_groups::CommittedOffset;
pub use topics::{CreatedTopic, NewTopic};
pub use versions::BrokerVersions;
