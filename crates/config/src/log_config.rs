//! The effective settings of one topic's logs.

use crate::{CleanupPolicy, CompressionType, Durability, ProduceValidation, TimestampType};

/// What a partition log obeys: the topic's own overrides over the broker's defaults over Kafka's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    pub segment_bytes: i32,
    pub segment_ms: i64,
    pub segment_jitter_ms: i64,
    pub segment_index_bytes: i32,
    pub index_interval_bytes: i32,
    /// -1: unlimited.
    pub retention_ms: i64,
    /// -1: unlimited.
    pub retention_bytes: i64,
    pub cleanup_policy: CleanupPolicy,
    pub max_message_bytes: i32,
    pub max_decompressed_message_bytes: i32,
    pub message_timestamp_type: TimestampType,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_after_max_ms: i64,
    pub compression_type: CompressionType,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub file_delete_delay_ms: i64,
    pub min_insync_replicas: i32,
    pub preallocate: bool,
    pub unclean_leader_election_enable: bool,
    pub min_cleanable_dirty_ratio: f64,
    pub delete_retention_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub durability: Durability,
    pub produce_validation: ProduceValidation,
}

impl Default for LogConfig {
    fn default() -> Self {
        const HOUR_MS: i64 = 60 * 60 * 1000;
        Self {
            segment_bytes: 1024 * 1024 * 1024,
            segment_ms: 7 * 24 * HOUR_MS,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 * 1024 * 1024,
            index_interval_bytes: 4096,
            retention_ms: 7 * 24 * HOUR_MS,
            retention_bytes: -1,
            cleanup_policy: CleanupPolicy::default(),
            max_message_bytes: 1_048_588,
            max_decompressed_message_bytes: i32::MAX - 8,
            message_timestamp_type: TimestampType::CreateTime,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_after_max_ms: HOUR_MS,
            compression_type: CompressionType::Producer,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            file_delete_delay_ms: 60_000,
            min_insync_replicas: 1,
            preallocate: false,
            unclean_leader_election_enable: false,
            min_cleanable_dirty_ratio: 0.5,
            delete_retention_ms: 24 * HOUR_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            durability: Durability::Fsync,
            produce_validation: ProduceValidation::Strict,
        }
    }
}
