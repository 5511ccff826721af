//! What each configuration key does. [`EFFECTS`] names, for every key that is obeyed, the tests that show it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use ottla_client::Connection;
use ottla_config::{honoured_broker_keys, honoured_topic_keys};
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use ottla_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use ottla_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use ottla_protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_record::{BATCH_OVERHEAD, BatchBuilder, Codec, Compression};
use ottla_types::ErrorCode;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::configs::{BROKER, TOPIC, set, unset};
use crate::support::{
    TIMEOUT, batch, create_topic, fetch_raw, fetch_request, metadata, produce, start, start_with, text, values,
};

const CONNECTIONS: &str = "broker/src/connection_quota/tests.rs::an_address_has_a_limit_of_its_own";
/// The key changes exactly this of what a log obeys; what the log does with it is for the tests beside it.
const EFFECTIVE: &str = "broker/src/server/tests.rs::a_nodes_keys_reach_the_logs_of_its_topics";
const LEVEL: &str = "broker/src/server/tests.rs::a_nodes_levels_reach_the_logs_of_its_topics";
const SCRUB: &str = "broker/src/server/tests.rs::closed_segments_are_verified_as_fast_and_as_often_as_the_node_says";
const PERIODIC: &str = "broker/src/server/tests.rs::periodic_work_has_its_delay_and_its_period";
const MEMORY: &str = "broker/src/server/tests.rs::memory_has_the_budgets_of_the_node";
const COORDINATOR: &str = "broker/src/coordinator/groups.rs::the_nodes_keys_arrive_at_drivers_and_groups";
const PRODUCED: &str = "broker/tests/broker/config_effects.rs::what_is_produced_obeys_the_topic_and_the_node";
const CREATED: &str = "broker/tests/broker/config_effects.rs::topics_are_made_and_deleted_as_the_node_says";
const GROUPS: &str = "broker/tests/broker/config_effects.rs::groups_obey_the_node";
const OFFSETS: &str = "broker/tests/broker/config_effects.rs::the_offsets_topic_is_made_as_the_node_says";
const SOCKETS: &str = "broker/tests/broker/config_effects.rs::connections_obey_the_node";
const WHERE: &str = "broker/tests/broker/node_keys.rs::a_node_is_who_and_where_it_was_told";
const LISTENERS: &str = "config/tests/config/errors.rs::listeners";
const QUORUM: &str = "config/tests/config/errors.rs::another_quorum_than_this_node";
const AGE: &str = "log/tests/all/retention.rs::by_age";
const SIZE: &str = "log/tests/all/retention.rs::by_size";
const REMOVED: &str = "log/tests/all/retention.rs::deleted_records_stay_deleted";
const ROLL: &str = "log/tests/all/retention.rs::rolls_by_time";
const JITTER: &str = "log/src/partition/append.rs::jitter_is_a_part_of_what_is_allowed";
const FLUSHED: &str = "log/tests/all/flushing.rs::page_cache_mode_waits_for_what_it_is_told_to";
const INDEX: &str = "log/tests/all/indexes.rs::a_full_index_rolls_the_segment";
const ENTRIES: &str = "ottla/tests/ottla/log_files.rs::segments_indexes_snapshots_and_checkpoints";
const LISTEN_OPTIONS: &str = "broker/src/server/tests.rs::listening_sockets_are_asked_for_as_the_node_says";
const BUFFERS: &str = "rt/src/os/net.rs::connections_get_the_buffers_their_listener_asks_for";
const BROKERS_LISTENER: &str =
    "broker/src/connection_quota/tests.rs::the_brokers_listener_takes_the_place_of_the_quietest_connection_elsewhere";
const CODECS: &str = "record/tests/record/validation.rs::the_topics_codec_wins";
const LEVELS: &str = "record/tests/record/validation.rs::levels_are_obeyed";
const CLEANER: &str = "broker/src/server/tests.rs::the_nodes_keys_reach_its_cleaner";
const MOVES: &str = "broker/src/server/tests.rs::the_nodes_keys_reach_its_moves";
const CLEANED: &str = "log/tests/all/compaction.rs::the_tasks_clean_by_themselves";
const DUE: &str = "log/tests/all/compaction.rs::a_log_waits_until_it_is_dirty_enough_or_its_time_has_come";
const TOMBSTONES: &str = "log/tests/all/compaction.rs::tombstones_stay_until_their_horizon";
const KEYS_IN_MEMORY: &str = "log/tests/all/compaction.rs::a_small_map_takes_several_rounds";
const LOAD: &str = "log/src/cleaner/offset_map.rs::its_memory_follows_the_keys_and_never_passes_the_limit";
const PART: &str = "log/src/cleaner/mod.rs::a_thread_has_its_part_of_what_the_cleaner_may_use";
const THROTTLED: &str = "log/src/cleaner/throttle.rs::the_rate_is_kept_over_all_who_ask";
const UNMOUNTED: &str = "broker/tests/broker/restart.rs::a_log_directory_that_is_not_mounted_refuses_the_start";

/// Every key that is obeyed, and the tests of its effect, as file::test.
const EFFECTS: &[(&str, &[&str])] = &[
    ("advertised.listeners", &[WHERE]),
    ("auto.create.topics.enable", &["broker/tests/broker/metadata.rs::no_topic_is_made_where_that_is_switched_off"]),
    ("broker.id", &[WHERE]),
    ("cleanup.policy", &[PRODUCED, "log/tests/all/compaction.rs::compacted_and_deleted"]),
    ("compression.gzip.level", &[LEVEL, LEVELS]),
    ("compression.lz4.level", &[LEVEL, LEVELS]),
    ("compression.type", &[EFFECTIVE, CODECS]),
    ("compression.zstd.level", &[LEVEL, LEVELS]),
    ("connections.max.idle.ms", &[SOCKETS]),
    ("controller.listener.names", &[WHERE, LISTENERS]),
    ("controller.quorum.bootstrap.servers", &[QUORUM]),
    ("controller.quorum.voters", &[QUORUM]),
    ("default.replication.factor", &[CREATED]),
    ("delete.retention.ms", &[TOMBSTONES]),
    ("delete.topic.enable", &[CREATED]),
    ("fetch.max.bytes", &["broker/tests/broker/config_effects.rs::a_fetch_has_a_size"]),
    ("file.delete.delay.ms", &[REMOVED]),
    ("flush.messages", &[FLUSHED]),
    ("flush.ms", &[FLUSHED, PERIODIC]),
    (
        "group.coordinator.append.linger.ms",
        &[COORDINATOR, "broker/src/coordinator/tests.rs::records_linger_as_long_as_they_are_told"],
    ),
    (
        "group.initial.rebalance.delay.ms",
        &[COORDINATOR, "broker/tests/broker/groups.rs::a_parked_join_does_not_hold_up_the_shutdown"],
    ),
    ("group.max.session.timeout.ms", &[GROUPS]),
    ("group.max.size", &[GROUPS, "group/tests/group/eager_rebalance.rs::the_group_has_a_size"]),
    ("group.min.session.timeout.ms", &[GROUPS]),
    ("index.interval.bytes", &[ENTRIES]),
    ("inter.broker.listener.name", &[BROKERS_LISTENER]),
    ("listener.security.protocol.map", &[WHERE, LISTENERS]),
    ("listeners", &[WHERE]),
    ("log.cleaner.backoff.ms", &[CLEANER, CLEANED]),
    ("log.cleaner.dedupe.buffer.size", &[CLEANER, PART, KEYS_IN_MEMORY]),
    ("log.cleaner.delete.retention.ms", &[EFFECTIVE, TOMBSTONES]),
    ("log.cleaner.enable", &[CLEANER]),
    ("log.cleaner.io.buffer.load.factor", &[CLEANER, PART, LOAD]),
    ("log.cleaner.io.buffer.size", &[CLEANER, PART]),
    ("log.cleaner.io.max.bytes.per.second", &[CLEANER, THROTTLED]),
    ("log.cleaner.max.compaction.lag.ms", &[EFFECTIVE, DUE]),
    ("log.cleaner.min.cleanable.ratio", &[EFFECTIVE, DUE]),
    ("log.cleaner.min.compaction.lag.ms", &[EFFECTIVE, DUE]),
    ("log.cleaner.threads", &[CLEANER, PART, CLEANED]),
    ("log.cleanup.policy", &[EFFECTIVE, PRODUCED]),
    ("log.dir", &[WHERE]),
    ("log.dirs", &[UNMOUNTED]),
    ("log.flush.interval.messages", &[EFFECTIVE, FLUSHED]),
    ("log.flush.interval.ms", &[EFFECTIVE, FLUSHED]),
    ("log.flush.offset.checkpoint.interval.ms", &[PERIODIC]),
    ("log.flush.scheduler.interval.ms", &[EFFECTIVE, PERIODIC]),
    ("log.index.interval.bytes", &[EFFECTIVE, ENTRIES]),
    ("log.index.size.max.bytes", &[EFFECTIVE, INDEX]),
    ("log.initial.task.delay.ms", &[PERIODIC]),
    ("log.message.timestamp.after.max.ms", &[EFFECTIVE, PRODUCED]),
    ("log.message.timestamp.before.max.ms", &[EFFECTIVE, PRODUCED]),
    ("log.message.timestamp.type", &[EFFECTIVE, PRODUCED]),
    ("log.retention.bytes", &[EFFECTIVE, SIZE]),
    ("log.retention.check.interval.ms", &[PERIODIC]),
    ("log.retention.hours", &[EFFECTIVE, AGE]),
    ("log.retention.minutes", &[EFFECTIVE, AGE]),
    ("log.retention.ms", &[EFFECTIVE, AGE]),
    ("log.roll.hours", &[EFFECTIVE, ROLL]),
    ("log.roll.jitter.hours", &[EFFECTIVE, JITTER]),
    ("log.roll.jitter.ms", &[EFFECTIVE, JITTER]),
    ("log.roll.ms", &[EFFECTIVE, ROLL]),
    ("log.segment.bytes", &[EFFECTIVE, SIZE]),
    ("log.segment.delete.delay.ms", &[EFFECTIVE, REMOVED]),
    ("max.compaction.lag.ms", &[DUE]),
    (
        "max.connection.creation.rate",
        &["broker/tests/broker/connections.rs::faster_connections_than_the_rate_wait_to_be_accepted"],
    ),
    ("max.connections", &["broker/src/connection_quota/tests.rs::at_the_limit_of_all_the_next_one_waits"]),
    ("max.connections.per.ip", &[CONNECTIONS, SOCKETS]),
    ("max.connections.per.ip.overrides", &[CONNECTIONS]),
    ("max.decompressed.message.bytes", &[EFFECTIVE, PRODUCED]),
    (
        "max.incremental.fetch.session.cache.slots",
        &["broker/tests/broker/node_keys.rs::so_many_fetch_sessions_are_remembered"],
    ),
    ("max.message.bytes", &[PRODUCED]),
    (
        "max.request.partition.size.limit",
        &["broker/tests/broker/describing_partitions.rs::answers_stop_at_the_limit_and_go_on_at_the_cursor"],
    ),
    ("message.max.bytes", &[EFFECTIVE, PRODUCED]),
    ("message.timestamp.after.max.ms", &[PRODUCED]),
    ("message.timestamp.before.max.ms", &[PRODUCED]),
    ("message.timestamp.type", &[PRODUCED]),
    ("metadata.log.dir", &[WHERE]),
    ("min.cleanable.dirty.ratio", &[DUE]),
    ("min.compaction.lag.ms", &[DUE]),
    ("min.insync.replicas", &[EFFECTIVE, PRODUCED]),
    ("node.id", &[WHERE, "broker/tests/broker/restart.rs::a_directory_of_another_node_or_in_use_is_refused"]),
    ("num.partitions", &["broker/tests/broker/metadata.rs::a_missing_topic_is_made_and_can_be_used_at_once"]),
    ("num.recovery.threads.per.data.dir", &["broker/src/server/tests.rs::so_many_partitions_are_recovered_at_once"]),
    ("num.replica.alter.log.dirs.threads", &[MOVES, "log/tests/all/moves.rs::so_many_are_moved_at_a_time"]),
    ("offset.metadata.max.bytes", &[GROUPS]),
    (
        "offsets.commit.timeout.ms",
        &[COORDINATOR, "broker/src/coordinator/tests.rs::a_commit_that_takes_too_long_is_not_waited_for"],
    ),
    (
        "offsets.load.buffer.size",
        &[COORDINATOR, "broker/src/coordinator/tests.rs::the_log_is_loaded_and_what_is_not_committed_is_not_shown"],
    ),
    (
        "offsets.retention.check.interval.ms",
        &[COORDINATOR, "broker/tests/broker/group_admin.rs::expired_offsets_stay_expired"],
    ),
    ("offsets.retention.minutes", &["broker/tests/broker/node_keys.rs::offsets_are_kept_as_long_as_the_node_says"]),
    (
        "offsets.topic.compression.codec",
        &["broker/tests/broker/node_keys.rs::committed_offsets_are_stored_with_the_nodes_codec"],
    ),
    ("offsets.topic.num.partitions", &[OFFSETS]),
    ("offsets.topic.replication.factor", &[OFFSETS]),
    ("offsets.topic.segment.bytes", &[OFFSETS]),
    ("ottla.abandoned.log.directories", &[UNMOUNTED]),
    (
        "ottla.connection.max.inflight.requests",
        &[
            "broker/src/listener.rs::a_connection_may_take_what_the_node_says",
            "broker/src/connection/tests.rs::so_many_requests_are_under_way_and_the_next_one_waits",
        ],
    ),
    ("ottla.durability", &[EFFECTIVE, FLUSHED]),
    ("ottla.log.scrub.bytes.per.second", &[SCRUB]),
    ("ottla.log.scrub.interval.ms", &[SCRUB]),
    (
        "ottla.memory.fetch.bytes",
        &[MEMORY, "broker/src/server/tests.rs::with_the_memory_for_fetches_taken_an_answer_has_a_little"],
    ),
    ("ottla.memory.hot.tail.bytes", &[MEMORY]),
    ("ottla.memory.produce.bytes", &[MEMORY, "broker/src/connection/tests.rs::a_frame_waits_for_its_bytes"]),
    ("ottla.produce.validation", &[EFFECTIVE, PRODUCED]),
    ("process.roles", &[QUORUM]),
    ("producer.id.expiration.check.interval.ms", &[PERIODIC]),
    ("producer.id.expiration.ms", &["broker/src/server/tests.rs::producers_are_forgotten_when_the_node_says"]),
    (
        "replica.alter.log.dirs.io.max.bytes.per.second",
        &[MOVES, "broker/tests/broker/alter_log_dirs.rs::a_move_keeps_to_its_rate_and_shows_how_far_it_is"],
    ),
    ("replica.high.watermark.checkpoint.interval.ms", &[PERIODIC]),
    ("retention.bytes", &[SIZE]),
    ("retention.ms", &[AGE]),
    ("security.inter.broker.protocol", &[LISTENERS, "config/tests/config/errors.rs::what_protects_is_not_ignored"]),
    ("segment.bytes", &[SIZE]),
    ("segment.index.bytes", &[INDEX]),
    ("segment.jitter.ms", &[JITTER]),
    ("segment.ms", &[ROLL]),
    ("socket.listen.backlog.size", &[LISTEN_OPTIONS]),
    ("socket.receive.buffer.bytes", &[LISTEN_OPTIONS, BUFFERS]),
    ("socket.request.max.bytes", &[SOCKETS]),
    ("socket.send.buffer.bytes", &[LISTEN_OPTIONS, BUFFERS]),
];

#[test]
fn every_key_that_is_obeyed_has_a_test_of_its_effect() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut shown = BTreeSet::new();
    for (key, tests) in EFFECTS {
        assert!(shown.insert(*key), "{key} is named twice");
        assert!(!tests.is_empty());
        for test in *tests {
            let (file, name) = test.split_once("::").expect("a test has a name");
            let source = std::fs::read_to_string(crates.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(source.contains(&format!("fn {name}(")), "{key}: there is no test {test}");
        }
    }
    let obeyed: BTreeSet<&str> = honoured_broker_keys().chain(honoured_topic_keys()).collect();
    assert_eq!(
        obeyed.difference(&shown).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "keys without a test of their effect"
    );
    assert_eq!(shown.difference(&obeyed).collect::<Vec<_>>(), Vec::<&&str>::new(), "keys that are not obeyed");
}

async fn described(
    connection: &Connection,
    resource_type: i8,
    name: &str,
) -> BTreeMap<String, DescribeConfigsResourceResult> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource { resource_type, resource_name: text(name), configuration_keys: None }],
        ..Default::default()
    };
    let result = connection.send(&request).await.unwrap().results.remove(0);
    assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    result.configs.into_iter().map(|config| (config.name.to_string(), config)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_keys_are_the_defaults_of_its_topics() {
    let keys = [
        ("log.cleanup.policy", "cleanup.policy", "compact"),
        ("log.index.interval.bytes", "index.interval.bytes", "5000"),
        ("log.index.size.max.bytes", "segment.index.bytes", "6000"),
        ("log.message.timestamp.after.max.ms", "message.timestamp.after.max.ms", "7000"),
        ("log.message.timestamp.before.max.ms", "message.timestamp.before.max.ms", "8000"),
        ("log.message.timestamp.type", "message.timestamp.type", "LogAppendTime"),
        ("log.retention.bytes", "retention.bytes", "9000"),
        ("log.retention.ms", "retention.ms", "10000"),
        ("log.roll.jitter.ms", "segment.jitter.ms", "11000"),
        ("log.roll.ms", "segment.ms", "12000"),
        ("log.segment.bytes", "segment.bytes", "1300000"),
        ("log.segment.delete.delay.ms", "file.delete.delay.ms", "14000"),
        ("log.flush.interval.messages", "flush.messages", "15000"),
        ("log.flush.interval.ms", "flush.ms", "16000"),
        ("max.decompressed.message.bytes", "max.decompressed.message.bytes", "17000"),
        ("message.max.bytes", "max.message.bytes", "18000"),
        ("min.insync.replicas", "min.insync.replicas", "1"),
        ("compression.type", "compression.type", "producer"),
        ("compression.gzip.level", "compression.gzip.level", "3"),
        ("compression.lz4.level", "compression.lz4.level", "5"),
        ("compression.zstd.level", "compression.zstd.level", "4"),
        ("ottla.durability", "ottla.durability", "page-cache"),
        ("ottla.produce.validation", "ottla.produce.validation", "fast"),
    ];
    let at_start: Vec<_> = keys.iter().map(|(key, _, value)| (*key, *value)).collect();
    let (_directory, started) = start_with(&at_start).await;
    let (_other, changed) = start().await;
    let (first, second) = (started.connect().await, changed.connect().await);
    create_topic(&first, "t", 1, &[]).await;
    create_topic(&second, "t", 1, &[]).await;
    let before = described(&second, TOPIC, "t").await;
    for (key, _, value) in keys {
        set(&second, BROKER, "", key, value).await;
    }
    let (at_start, at_run_time) = (described(&first, TOPIC, "t").await, described(&second, TOPIC, "t").await);
    for (key, topic_key, value) in keys {
        let shown = |described: &BTreeMap<String, DescribeConfigsResourceResult>| {
            (described[topic_key].value.as_deref().map(str::to_owned), described[topic_key].config_source)
        };
        assert_eq!(shown(&at_start), (Some(value.to_owned()), 4), "{key}");
        assert_eq!(shown(&at_run_time), (Some(value.to_owned()), 3), "{key}");
        unset(&second, BROKER, "", key).await;
    }
    assert_eq!(described(&second, TOPIC, "t").await, before, "taken back, they leave nothing");
    started.stop().await;
    changed.stop().await;
}

/// A batch of one record without a key, with this timestamp.
fn stamped(timestamp_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::new(Codec::None));
    builder.append(timestamp_ms, None, Some(b"v"), &[]).unwrap();
    builder.finish().unwrap()
}

fn zeros(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::new(Codec::Zstd));
    builder.append(1_700_000_000_000, None, Some(&vec![0; bytes]), &[]).unwrap();
    builder.finish().unwrap()
}

/// Its header and checksum are right, its records are none.
fn unreadable() -> Bytes {
    let mut bytes = batch(&["abc"]).to_vec();
    bytes[BATCH_OVERHEAD..].fill(0xff);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_obeys_the_topic_and_the_node() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let now_ms = broker.world.clock.wall_ms();
    let ahead = stamped(now_ms + 2 * 60 * 60 * 1000);
    let large = batch(&["x".repeat(4000).as_str()]);
    let small = || batch(&["a"]);
    // The topic's key, the node's, a value; a batch, and its error without the setting and with it.
    let cases = [
        ("max.message.bytes", "message.max.bytes", "2000", large, ErrorCode::None, ErrorCode::MessageTooLarge),
        (
            "max.decompressed.message.bytes",
            "max.decompressed.message.bytes",
            "20000",
            zeros(100_000),
            ErrorCode::None,
            ErrorCode::InvalidRecord,
        ),
        (
            "message.timestamp.before.max.ms",
            "log.message.timestamp.before.max.ms",
            "1000",
            small(),
            ErrorCode::None,
            ErrorCode::InvalidTimestamp,
        ),
        (
            "message.timestamp.after.max.ms",
            "log.message.timestamp.after.max.ms",
            "9223372036854775807",
            ahead,
            ErrorCode::InvalidTimestamp,
            ErrorCode::None,
        ),
        ("cleanup.policy", "log.cleanup.policy", "compact", small(), ErrorCode::None, ErrorCode::InvalidRecord),
        ("min.insync.replicas", "min.insync.replicas", "2", small(), ErrorCode::None, ErrorCode::NotEnoughReplicas),
        (
            "ottla.produce.validation",
            "ottla.produce.validation",
            "fast",
            unreadable(),
            ErrorCode::InvalidRecord,
            ErrorCode::None,
        ),
    ];
    for (topic_key, broker_key, value, records, without, with) in cases {
        let send =
            || async { ErrorCode::from_code(produce(&connection, "t", 0, -1, records.clone()).await.error_code) };
        assert_eq!(send().await, Some(without), "without {topic_key}");
        for (resource_type, name, key) in [(TOPIC, "t", topic_key), (BROKER, "", broker_key), (BROKER, "1", broker_key)]
        {
            set(&connection, resource_type, name, key, value).await;
            assert_eq!(send().await, Some(with), "with {key}={value} of {resource_type} {name:?}");
            unset(&connection, resource_type, name, key).await;
        }
        assert_eq!(send().await, Some(without), "again without {topic_key}");
    }
    for (resource_type, name, key) in
        [(TOPIC, "t", "message.timestamp.type"), (BROKER, "", "log.message.timestamp.type")]
    {
        assert_eq!(produce(&connection, "t", 0, -1, small()).await.log_append_time_ms, -1);
        set(&connection, resource_type, name, key, "LogAppendTime").await;
        assert!(produce(&connection, "t", 0, -1, small()).await.log_append_time_ms >= now_ms, "{key}");
        unset(&connection, resource_type, name, key).await;
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_that_does_not_go_with_a_topics_key_takes_nothing_from_the_topic() {
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    set(&connection, TOPIC, "t", "min.compaction.lag.ms", "1000").await;
    set(&connection, TOPIC, "t", "max.message.bytes", "2000").await;
    set(&connection, TOPIC, "t", "retention.ms", "-1").await;
    set(&connection, BROKER, "", "log.cleaner.max.compaction.lag.ms", "500").await;
    let large = produce(&connection, "t", 0, -1, batch(&["x".repeat(4000).as_str()])).await;
    assert_eq!(ErrorCode::from_code(large.error_code), Some(ErrorCode::MessageTooLarge));
    let shown = described(&connection, TOPIC, "t").await;
    let value = |key: &str| (shown[key].value.as_deref().map(str::to_owned), shown[key].config_source);
    assert_eq!(value("retention.ms"), (Some("-1".to_owned()), 1));
    assert_eq!(value("max.compaction.lag.ms"), (Some("500".to_owned()), 3));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_and_deleted_as_the_node_says() {
    let (_directory, broker) =
        start_with(&[("default.replication.factor", "3"), ("delete.topic.enable", "false")]).await;
    let connection = broker.connect().await;
    let topic = CreatableTopic { name: text("t"), num_partitions: 1, replication_factor: -1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, validate_only: false };
    let answer = connection.send(&request).await.unwrap().topics.remove(0);
    assert_eq!(ErrorCode::from_code(answer.error_code), Some(ErrorCode::InvalidReplicationFactor));
    create_topic(&connection, "t", 1, &[]).await;
    let request = DeleteTopicsRequest { topic_names: vec![text("t")], timeout_ms: 1000, ..Default::default() };
    let answer = connection.send_as(&request, 5, TIMEOUT).await.unwrap().responses.remove(0);
    assert_eq!(ErrorCode::from_code(answer.error_code), Some(ErrorCode::TopicDeletionDisabled));
    assert_eq!(metadata(&connection, &["t"], false).await.topics[0].error_code, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_has_a_size() {
    for (limit, expected) in [("1024", 1), ("57671680", 2)] {
        let (_directory, broker) = start_with(&[("fetch.max.bytes", limit)]).await;
        let connection = broker.connect().await;
        create_topic(&connection, "t", 1, &[]).await;
        for _ in 0..2 {
            produce(&connection, "t", 0, -1, batch(&["x".repeat(1000).as_str()])).await;
        }
        let fetched = fetch_raw(&connection, &fetch_request("t", 0, 0, 0)).await;
        assert_eq!(values(&fetched.responses[0].partitions[0]).len(), expected, "fetch.max.bytes={limit}");
        broker.stop().await;
    }
}

async fn find_coordinator(connection: &Connection) {
    let request = FindCoordinatorRequest { key: text("group"), ..Default::default() };
    assert_eq!(connection.send_at_most(&request, 3, TIMEOUT).await.unwrap().error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_obey_the_node() {
    let settings = [
        ("group.min.session.timeout.ms", "5000"),
        ("group.max.session.timeout.ms", "9000"),
        ("group.max.size", "1"),
        ("offset.metadata.max.bytes", "3"),
    ];
    let (_directory, broker) = start_with(&settings).await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    find_coordinator(&connection).await;
    let join = |session_timeout_ms| {
        let request = JoinGroupRequest {
            group_id: text("group"),
            session_timeout_ms,
            rebalance_timeout_ms: 60_000,
            protocol_type: text("consumer"),
            protocols: vec![JoinGroupRequestProtocol { name: text("range"), metadata: Bytes::new() }],
            ..Default::default()
        };
        let connection = &connection;
        // A version in which a member joins without having been given an id.
        async move { ErrorCode::from_code(connection.send_at_most(&request, 3, TIMEOUT).await.unwrap().error_code) }
    };
    for (timeout, expected) in [
        (4999, ErrorCode::InvalidSessionTimeout),
        (9001, ErrorCode::InvalidSessionTimeout),
        (9000, ErrorCode::None),
        (5000, ErrorCode::GroupMaxSizeReached),
    ] {
        assert_eq!(join(timeout).await, Some(expected), "{timeout}");
    }
    for (note, expected) in [("abc", ErrorCode::None), ("abcd", ErrorCode::OffsetMetadataTooLarge)] {
        let request = OffsetCommitRequest {
            group_id: text("another"),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: text("t"),
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: 0,
                    committed_offset: 1,
                    committed_metadata: Some(text(note)),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = connection.send_at_most(&request, 9, TIMEOUT).await.unwrap();
        assert_eq!(ErrorCode::from_code(answer.topics[0].partitions[0].error_code), Some(expected), "{note}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_offsets_topic_is_made_as_the_node_says() {
    let settings = [
        ("offsets.topic.num.partitions", "3"),
        ("offsets.topic.replication.factor", "3"),
        ("offsets.topic.segment.bytes", "1500000"),
    ];
    let (_directory, broker) = start_with(&settings).await;
    let connection = broker.connect().await;
    find_coordinator(&connection).await;
    let topic = metadata(&connection, &["__consumer_offsets"], false).await.topics.remove(0);
    assert_eq!(topic.partitions.len(), 3);
    // At most as many as there are nodes.
    assert!(topic.partitions.iter().all(|partition| partition.replica_nodes.len() == 1));
    let configs = described(&connection, TOPIC, "__consumer_offsets").await;
    assert_eq!(configs["segment.bytes"].value.as_deref(), Some("1500000"));
    broker.stop().await;
}

/// Whether the broker closes the connection before it sends anything.
async fn is_closed(socket: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(TIMEOUT, socket.read(&mut [0; 1])).await.expect("the broker closes in time");
    read.map_or(true, |bytes| bytes == 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_obey_the_node() {
    let (_directory, broker) =
        start_with(&[("connections.max.idle.ms", "200"), ("socket.request.max.bytes", "4096")]).await;
    let mut idle = TcpStream::connect(("127.0.0.1", broker.port)).await.unwrap();
    assert!(is_closed(&mut idle).await);
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let large = MetadataRequest { topics: Some(vec![MetadataRequestTopic::default(); 3000]), ..Default::default() };
    assert!(connection.send(&large).await.is_err(), "a request above the limit closes its connection");
    broker.stop().await;

    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    set(&connection, BROKER, "", "max.connections.per.ip", "1").await;
    let mut second = TcpStream::connect(("127.0.0.1", broker.port)).await.unwrap();
    assert!(is_closed(&mut second).await);
    set(&connection, BROKER, "1", "max.connections.per.ip.overrides", "127.0.0.1:2").await;
    let _second = broker.connect().await;
    broker.stop().await;
}

/// Every number of a topic and a node, with texts that are none, and at the ends of the types.
#[tokio::test(flavor = "multi_thread")]
async fn no_number_is_taken_for_what_it_is_not() {
    const INT: i8 = 3;
    const SHORT: i8 = 4;
    const LONG: i8 = 5;
    const DOUBLE: i8 = 6;
    let (_directory, broker) = start().await;
    let connection = broker.connect().await;
    create_topic(&connection, "t", 1, &[]).await;
    let mut numbers = 0;
    for (resource_type, name, refusal) in
        [(TOPIC, "t", ErrorCode::InvalidConfig), (BROKER, "", ErrorCode::InvalidRequest)]
    {
        // The defaults of all nodes have no keys of their own to begin with.
        let of = if resource_type == TOPIC { "t" } else { "1" };
        let before = described(&connection, resource_type, of).await;
        for config in before.values().filter(|config| [INT, SHORT, LONG, DOUBLE].contains(&config.config_type)) {
            numbers += 1;
            let beyond = match config.config_type {
                SHORT => "32768",
                INT => "2147483648",
                LONG => "9223372036854775808",
                _ => "1e999x",
            };
            for value in ["", " ", "abc", "1,5", "0x10", "1_000", "NaN", "--1", "١", beyond] {
                let answer = crate::configs::try_set(&connection, resource_type, name, &config.name, value).await;
                assert_eq!(answer, refusal, "{}={value:?}", config.name);
            }
        }
        assert_eq!(described(&connection, resource_type, of).await, before);
    }
    assert!(numbers > 150, "{numbers} numbers were tried");
    broker.stop().await;
}
