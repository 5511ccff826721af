//! A topic's own settings. The refusals are the texts Kafka 4.4 gives for the same values.

use std::collections::BTreeMap;

use ottla_config::{
    CleanupPolicy, CompressionType, ConfigSource, Durability, LogConfig, ProduceValidation, ServerConfig, TimestampType,
};

use crate::config;

fn resolve(server: &ServerConfig, overrides: &[(&str, &str)]) -> Result<LogConfig, String> {
    let overrides: BTreeMap<String, String> =
        overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    LogConfig::resolve(server, &overrides).map_err(|error| error.to_string())
}

#[test]
fn a_topic_without_settings_has_the_servers() {
    assert_eq!(resolve(&ServerConfig::default(), &[]).unwrap(), LogConfig::default());
    let server = config("log.segment.bytes=2000000\nlog.retention.hours=1\nottla.durability=page-cache");
    let log = resolve(&server, &[("retention.ms", "5")]).unwrap();
    assert_eq!((log.segment_bytes, log.retention_ms, log.durability), (2_000_000, 5, Durability::PageCache));
    assert_eq!(server.log.retention_ms, 3_600_000);
}

#[test]
fn every_setting_arrives() {
    let log = resolve(
        &ServerConfig::default(),
        &[
            ("segment.bytes", " 1048576 "),
            ("segment.ms", "2"),
            ("segment.jitter.ms", "3"),
            ("segment.index.bytes", "4"),
            ("index.interval.bytes", "5"),
            ("retention.ms", "+6"),
            ("retention.bytes", "-7"),
            ("cleanup.policy", " compact , delete "),
            ("max.message.bytes", "8"),
            ("max.decompressed.message.bytes", "9"),
            ("message.timestamp.type", "LogAppendTime"),
            ("message.timestamp.before.max.ms", "10"),
            ("message.timestamp.after.max.ms", "11"),
            ("compression.type", "zstd"),
            ("compression.zstd.level", "-12"),
            ("flush.messages", "13"),
            ("flush.ms", "14"),
            ("file.delete.delay.ms", "15"),
            ("min.insync.replicas", "16"),
            ("preallocate", " TRUE "),
            ("unclean.leader.election.enable", "true"),
            ("min.cleanable.dirty.ratio", "0.25f"),
            ("delete.retention.ms", "17"),
            ("min.compaction.lag.ms", "18"),
            ("max.compaction.lag.ms", "19"),
            ("ottla.durability", "page-cache"),
            ("ottla.produce.validation", "fast"),
        ],
    );
    let expected = LogConfig {
        segment_bytes: 1_048_576,
        segment_ms: 2,
        segment_jitter_ms: 3,
        segment_index_bytes: 4,
        index_interval_bytes: 5,
        retention_ms: 6,
        retention_bytes: -1,
        cleanup_policy: CleanupPolicy { delete: true, compact: true },
        max_message_bytes: 8,
        max_decompressed_message_bytes: 9,
        message_timestamp_type: TimestampType::LogAppendTime,
        message_timestamp_before_max_ms: 10,
        message_timestamp_after_max_ms: 11,
        compression_type: CompressionType::Zstd { level: -12 },
        flush_messages: 13,
        flush_ms: 14,
        file_delete_delay_ms: 15,
        min_insync_replicas: 16,
        preallocate: true,
        unclean_leader_election_enable: true,
        min_cleanable_dirty_ratio: 0.25,
        delete_retention_ms: 17,
        min_compaction_lag_ms: 18,
        max_compaction_lag_ms: 19,
        durability: Durability::PageCache,
        produce_validation: ProduceValidation::Fast,
    };
    assert_eq!(log.unwrap(), expected);
}

#[test]
fn vocabularies() {
    let server = ServerConfig::default();
    let compression = |overrides: &[(&str, &str)]| resolve(&server, overrides).unwrap().compression_type;
    assert_eq!(compression(&[("compression.type", "gzip")]), CompressionType::Gzip { level: -1 });
    assert_eq!(compression(&[("compression.type", "lz4")]), CompressionType::Lz4 { level: 9 });
    assert_eq!(compression(&[("compression.type", "zstd")]), CompressionType::Zstd { level: 3 });
    assert_eq!(compression(&[("compression.type", "snappy")]), CompressionType::Snappy);
    assert_eq!(compression(&[("compression.type", "uncompressed")]), CompressionType::Uncompressed);
    let policy = |text| resolve(&server, &[("cleanup.policy", text)]).unwrap().cleanup_policy;
    assert_eq!(policy(""), CleanupPolicy { delete: false, compact: false });
    assert_eq!(policy("compact,compact"), CleanupPolicy { delete: false, compact: true });
    assert_eq!(resolve(&server, &[("internal.segment.bytes", "64")]).unwrap().segment_bytes, 64);
    for replicas in ["", "*", "0:1,1:2"] {
        resolve(&server, &[("leader.replication.throttled.replicas", replicas)]).unwrap();
    }
    assert_eq!(server.offsets.topic_overrides()["cleanup.policy"], "compact");
    LogConfig::resolve(&server, &server.offsets.topic_overrides()).unwrap();
}

#[test]
fn refusals() {
    let server = ServerConfig::default();
    let check = |key: &str, value: &str, problem: &str| {
        let expected = format!("Invalid value {} for configuration {key}: {problem}", value.trim());
        assert_eq!(resolve(&server, &[(key, value)]).unwrap_err(), expected);
    };
    check("retention.ms", "-5", "Value must be at least -1");
    check("retention.ms", "abc", "Not a number of type LONG");
    check("retention.ms", "", "Not a number of type LONG");
    check("retention.ms", "1_0", "Not a number of type LONG");
    check("segment.bytes", "99999999999", "Not a number of type INT");
    check("segment.bytes", "14", "Value must be at least 1048576");
    check("flush.messages", "0", "Value must be at least 1");
    check("cleanup.policy", "foo", "String must be one of: compact, delete");
    check("cleanup.policy", "compact,,delete", "values must not be empty");
    check("preallocate", "maybe", "Expected value to be either true or false");
    check("min.cleanable.dirty.ratio", "2.0", "Value must be no more than 1");
    check("min.cleanable.dirty.ratio", "NaN", "Not a number of type DOUBLE");
    check("compression.type", "x", "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer");
    check("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1");
    check("compression.lz4.level", "18", "Value must be no more than 17");
    check("compression.zstd.level", "100", "Value must be no more than 22");
    check("message.timestamp.type", "foo", "String must be one of: CreateTime, LogAppendTime");
    check("max.decompressed.message.bytes", "0", "Value must be at least 1");
    check(
        "follower.replication.throttled.replicas",
        "x",
        "must be the literal '*' or a list of replicas in the following format: \
         [partitionId]:[brokerId],[partitionId]:[brokerId],...",
    );
    let error = |overrides| resolve(&server, overrides).unwrap_err();
    assert_eq!(error(&[("nope", "1")]), "Unknown topic config name: nope");
    assert_eq!(
        error(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")]),
        "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"
    );
    assert_eq!(
        error(&[("remote.storage.enable", "true")]),
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
    );
}

#[test]
fn what_a_topic_was_given_stays_in_force_whatever_becomes_of_the_rest() {
    let server = config("log.cleaner.max.compaction.lag.ms=500");
    let overrides: BTreeMap<String, String> = [
        ("cleanup.policy", "compact"),
        ("min.compaction.lag.ms", "1000"),
        ("of.a.later.version", "1"),
        ("retention.ms", "-1"),
        ("segment.ms", "often"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    let (kept, errors) = LogConfig::resolve_kept(&server, &overrides);
    assert_eq!((kept.retention_ms, kept.cleanup_policy.delete, kept.min_compaction_lag_ms), (-1, false, 1000));
    assert_eq!(kept.segment_ms, server.log.segment_ms);
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "Unknown topic config name: of.a.later.version",
            "Invalid value often for configuration segment.ms: Not a number of type LONG"
        ]
    );
    let set: Vec<_> = server
        .describe_topic(&overrides)
        .into_iter()
        .filter(|entry| entry.source == ConfigSource::DynamicTopicConfig)
        .map(|entry| (entry.name, entry.value.unwrap_or_default()))
        .collect();
    let expected = [("cleanup.policy", "compact"), ("min.compaction.lag.ms", "1000"), ("retention.ms", "-1")];
    assert_eq!(set, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}
