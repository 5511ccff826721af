//! Taking over data directories of Apache Kafka.
//!
//! Kafka's partitions stay where they are, byte for byte: their format is ours. What has to be taken over is the
//! metadata. [`inspect`] reads Kafka's metadata log and looks at the directories, and says what it found, what would become of
//! it and what stands in the way; [`execute`] does the same and then writes our metadata beside Kafka's, under another
//! name that is changed last: until then the directory is Kafka's, from then on ours, whenever the process dies.
//!
//! Adopting changes and removes nothing of Kafka's, ever. [`give_back`] is the other way: it tells Kafka's metadata the leader
//! epochs that are in the logs.

mod adopt;
mod batch_file;
mod directories;
mod give_back;
mod metadata;
mod metadata_log;
mod offsets;
mod plan;
mod record;
mod report;

pub use adopt::{AdoptSettings, execute, inspect};
pub use batch_file::BadBatch;
pub use directories::AdoptError;
pub use give_back::{GiveBackError, GiveBackReport, GiveBackSettings, RaisedEpoch, give_back, inspect_give_back};
pub use metadata::{
    Acl, KafkaBroker, KafkaConfigs, KafkaMetadata, KafkaTopic, Misfit, QuotaEntity, QuotaValue, Replay,
};
pub use metadata_log::{MetadataLog, MetadataLogError, read_metadata_log};
pub use plan::AdoptOptions;
pub use record::{ControlRecord, KafkaRecord, RecordError};
pub use report::{
    AdoptionState, ConfigReport, DirectoryReport, FeatureReport, LeftOut, Note, Refusal, Report, Source, TopicReport,
};
