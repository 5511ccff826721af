//! Kafka's vocabulary: identifiers, epochs, error codes. Plain data, no I/O.
//!
//! Offsets are plain `i64` whose *name* says what they are (`log_end_offset`, `high_watermark`); ends are exclusive.
//! Everything that could be confused with something else of the same width is a newtype.

mod error_code;
mod timestamp_type;
mod topic_name;
mod uuid;

use std::fmt;

pub use error_code::ErrorCode;
pub use timestamp_type::TimestampType;
pub use topic_name::{InvalidTopicName, MAX_TOPIC_NAME_LENGTH, validate_topic_name};
pub use uuid::{InvalidUuid, Uuid};

macro_rules! number_newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, formatter)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number_newtype!(
    /// The number of a node: broker, controller or both (`node.id`).
    NodeId(i32)
);
number_newtype!(
    /// Counts the leaders a partition has had; stamped on every batch.
    LeaderEpoch(i32)
);
number_newtype!(
    /// Counts the changes of a partition's replica set and ISR.
    PartitionEpoch(i32)
);
number_newtype!(
    /// One registration of a broker with the controller.
    BrokerEpoch(i64)
);
number_newtype!(
    /// Identifies an idempotent or transactional producer.
    ProducerId(i64)
);
number_newtype!(
    /// Counts the incarnations of a producer id; an older one is fenced.
    ProducerEpoch(i16)
);
number_newtype!(
    /// The generation of a classic consumer group.
    GenerationId(i32)
);

impl LeaderEpoch {
    /// "No epoch", as the protocol writes it.
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);
}

impl ProducerId {
    /// "No producer id", as a batch that is not idempotent carries it.
    pub const NONE: ProducerId = ProducerId(-1);
}

impl ProducerEpoch {
    pub const NONE: ProducerEpoch = ProducerEpoch(-1);
}

/// The id of a topic; unlike its name it is never used again.
pub type TopicId = Uuid;

/// A partition by the topic's name, as the disk and the older protocol versions name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: std::sync::Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<std::sync::Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.topic, self.partition)
    }
}
