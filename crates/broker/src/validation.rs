//! From a topic's configuration to what is asked of a batch.

use ottla_config::{CompressionType, LogConfig, ProduceValidation};
use ottla_record::{
    AppendOrigin, Codec, Compression, DecompressionLimits, TargetCompression, ValidationMode, ValidationRules,
};

/// The rules for batches of clients.
pub(crate) fn rules(config: &LogConfig, now_ms: i64) -> ValidationRules {
    ValidationRules {
        mode: match config.produce_validation {
            ProduceValidation::Strict => ValidationMode::Strict,
            ProduceValidation::Fast => ValidationMode::Fast,
        },
        origin: AppendOrigin::Client,
        zstd_allowed: true,
        now_ms,
        timestamp_type: config.message_timestamp_type,
        timestamp_before_max_ms: config.message_timestamp_before_max_ms,
        timestamp_after_max_ms: config.message_timestamp_after_max_ms,
        max_message_bytes: config.max_message_bytes.max(0) as usize,
        max_decompressed_message_bytes: config.max_decompressed_message_bytes.max(0) as usize,
        compacted: config.cleanup_policy.compact,
        target_compression: target(config.compression_type),
        limits: DecompressionLimits::default(),
    }
}

fn target(compression_type: CompressionType) -> TargetCompression {
    let with_level = |codec, level| {
        let compression = Compression::with_level(codec, level);
        TargetCompression::Always(compression.expect("invariant: the configuration admits only levels of the codec"))
    };
    match compression_type {
        CompressionType::Producer => TargetCompression::Producer,
        CompressionType::Uncompressed => TargetCompression::Always(Compression::new(Codec::None)),
        CompressionType::Snappy => TargetCompression::Always(Compression::new(Codec::Snappy)),
        CompressionType::Gzip { level } => with_level(Codec::Gzip, level),
        CompressionType::Lz4 { level } => with_level(Codec::Lz4, level),
        CompressionType::Zstd { level } => with_level(Codec::Zstd, level),
    }
}
