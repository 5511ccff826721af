//! The controller's decisions: from an image of the metadata and a request to an answer and records.
//!
//! Each request has a file. A decision is a function without clocks, randomness or I/O: ids, seeds and limits are
//! arguments. It owns no state: hard state is the image, and it changes only when the metadata quorum has committed the
//! records. What a decision says is Kafka's, codes and messages, because clients show them to people.
//!
//! It does not know who may ask (authorization), how requests look on the wire, or which configuration keys there are:
//! [`ConfigRules`] tells it that.

mod allocate_producer_ids;
mod alter_configs;
mod assignment;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod placement;
mod register_broker;

use ottla_image::MetadataRecord;

pub use allocate_producer_ids::{
    AllocateProducerIds, AllocateProducerIdsError, PRODUCER_ID_BLOCK_SIZE, ProducerIdBlock, allocate_producer_ids,
};
pub use alter_configs::{
    AlterConfigsError, ConfigChange, ConfigOperation, ConfigRules, InvalidConfig, KeyValue, ResourceChange,
    alter_configs, incremental_alter_configs,
};
pub use assignment::AssignmentError;
pub use create_partitions::{
    CreatePartitions, CreatePartitionsError, CreatePartitionsRequestError, GrownTopic, create_partitions,
};
pub use create_topics::{
    CreateTopics, CreateTopicsError, CreateTopicsRequestError, CreatedTopic, NewTopic, TopicDefaults, create_topics,
};
pub use delete_topics::{DeleteTopicsError, DeletedTopic, TopicToDelete, delete_topics};
pub use placement::{PlacementError, place};
pub use register_broker::{RegisterBroker, RegisterBrokerError, register_broker};

/// The most records one request may give.
pub const MAX_RECORDS_PER_REQUEST: usize = 10_000;
/// The most partitions one request may create.
pub const MAX_PARTITIONS_PER_REQUEST: usize = 10_000;

/// What a decision comes to: the answer holds once the records are committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<T> {
    pub response: T,
    /// Applied all or none. Empty when nothing changes.
    pub records: Vec<MetadataRecord>,
}

impl<T> Outcome<T> {
    fn unchanged(response: T) -> Self {
        Self { response, records: Vec::new() }
    }
}
