//! The cluster's metadata as plain data: what the metadata quorum agrees on, and what brokers read.
//!
//! - [`MetadataRecord`]: one committed change, with an encoding of its own (`encode_records`, `decode_records`).
//! - [`MetadataImage`]: everything the records so far amount to. Cloning is cheap and parts are shared, so every reader
//!   holds an image that never changes under it.
//! - [`MetadataDelta`]: what differs between two images.
//!
//! An image decides nothing: it checks that a record can be applied at all, the controller decides which records come.
//! It holds no configuration defaults and knows no liveness other than the fencing the records tell.

mod codec;
mod delta;
mod image;
mod partition;
mod record;
mod registration;
mod shared_map;
mod snapshot;
mod topic;

pub use codec::{DecodeError, decode_records, encode_records};
pub use delta::{MetadataDelta, TopicDelta};
pub use image::{Configs, ImageError, MetadataImage};
pub use partition::{LeaderRecoveryState, PartitionChange, PartitionRegistration, PartitionViolation, directory_id};
pub use record::{ConfigResource, ConfigResourceType, MetadataRecord};
pub use registration::{
    BrokerListener, BrokerRegistration, BrokerRegistrationChange, SecurityProtocol, SupportedFeature,
};
pub use shared_map::{Difference, SharedMap};
pub use topic::TopicImage;
