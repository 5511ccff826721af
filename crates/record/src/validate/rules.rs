//! What a topic and its broker ask of a batch.

use ottla_types::TimestampType;

use crate::compression::{Compression, DecompressionLimits};
use crate::header::Codec;

/// What [`super::validate`] goes by: the topic's settings, the time, and where the batch comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationRules {
    pub mode: ValidationMode,
    pub origin: AppendOrigin,
    /// False for produce requests below version 7.
    pub zstd_allowed: bool,
    pub now_ms: i64,
    /// `message.timestamp.type`
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`; `i64::MAX` for no limit.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `max.message.bytes`, for the batch as it comes and as it is stored.
    pub max_message_bytes: usize,
    /// `max.decompressed.message.bytes`, for each record of a compressed batch.
    pub max_decompressed_message_bytes: usize,
    /// Whether `cleanup.policy` contains `compact`: then every record needs a key.
    pub compacted: bool,
    /// `compression.type`, with its level.
    pub target_compression: TargetCompression,
    pub limits: DecompressionLimits,
}

/// How much of a batch is looked at (`ottla.produce.validation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ValidationMode {
    /// Every record, as Kafka does.
    #[default]
    Strict,
    /// The header and the CRC, unless a rule is about records.
    Fast,
}

/// Who made the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AppendOrigin {
    #[default]
    Client,
    /// This broker's own coordinators; they may write control records.
    Coordinator,
}

/// How batches are compressed in the log (`compression.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TargetCompression {
    /// As the producer chose.
    #[default]
    Producer,
    /// Always so; a batch that has the codec already is left alone, whatever its level.
    Always(Compression),
}

impl TargetCompression {
    pub(super) fn for_source(self, codec: Codec) -> Compression {
        match self {
            TargetCompression::Producer => Compression::new(codec),
            TargetCompression::Always(compression) => compression,
        }
    }
}

impl ValidationRules {
    pub(super) fn log_append_time_ms(&self) -> i64 {
        match self.timestamp_type {
            TimestampType::CreateTime => -1,
            TimestampType::LogAppendTime => self.now_ms,
        }
    }
}

impl Default for ValidationRules {
    /// A topic with Kafka's default settings, at the beginning of time.
    fn default() -> Self {
        ValidationRules {
            mode: ValidationMode::Strict,
            origin: AppendOrigin::Client,
            zstd_allowed: true,
            now_ms: 0,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            max_message_bytes: 1_048_588,
            max_decompressed_message_bytes: usize::MAX,
            compacted: false,
            target_compression: TargetCompression::Producer,
            limits: DecompressionLimits::default(),
        }
    }
}
