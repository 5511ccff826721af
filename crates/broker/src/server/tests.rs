//! A node obeys its keys where no client can see it: periodic work in paused time, what reaches the logs, memory.

use std::path::Path;

use ottla_client::Connection;
use ottla_config::{CleanupPolicy, CompressionType, Durability, LogConfig, ProduceValidation, TimestampType};
use ottla_log::{CleanerSettings, MoveSettings};
use ottla_protocol::FetchedRecords;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use ottla_record::{AppendOrigin, BatchBuilder, Codec, Compression};
use ottla_rt::memory::{InlineSpawn, MemoryWorld, TimerClock};
use ottla_rt::{BoxFuture, Net, Spawn, Stream};
use ottla_types::LeaderEpoch;
use tokio::time::Instant;

use super::*;
use crate::partition::Partition;
use crate::replica_manager::Hosted;

mod transactions;

type Settings<'a> = &'a [(&'a str, &'a str)];

async fn start(world: World, settings: Settings<'_>) -> Server {
    let listener = ("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned());
    let sets: Vec<_> =
        settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).chain([listener]).collect();
    let config = ServerConfig::load(None, &sets, Some(Path::new("/data")), true).unwrap().config;
    Server::start(world, config).await.unwrap()
}

/// A network that takes note of what is asked of its listening sockets.
#[derive(Default)]
struct Noting(Mutex<Vec<ListenOptions>>);

impl Net for Noting {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        self.bind_with(address, &ListenOptions::default())
    }

    fn bind_with(&self, _: SocketAddr, options: &ListenOptions) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        self.0.lock().push(*options);
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn connect<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }
}

#[tokio::test]
async fn listening_sockets_are_asked_for_as_the_node_says() {
    let keys = ["socket.listen.backlog.size", "socket.send.buffer.bytes", "socket.receive.buffer.bytes"];
    for (values, expected) in
        [(["3", "8192", "9000"], [Some(3), Some(8192), Some(9000)]), (["50", "-1", "-1"], [Some(50), None, None])]
    {
        let mut sets = vec![("listeners".to_owned(), "PLAINTEXT://127.0.0.1:0".to_owned())];
        sets.extend(keys.iter().zip(values).map(|(key, value)| ((*key).to_owned(), value.to_owned())));
        let config = ServerConfig::load(None, &sets, Some(Path::new("/data")), true).unwrap().config;
        let net = Arc::new(Noting::default());
        let world = World { net: Arc::clone(&net) as Arc<dyn Net>, ..World::os() };
        assert!(bind(&world, &config).await.is_err(), "this network has no sockets");
        let [backlog, send_buffer_bytes, receive_buffer_bytes] = expected;
        assert_eq!(*net.0.lock(), [ListenOptions { backlog, send_buffer_bytes, receive_buffer_bytes }]);
    }
}

/// A partition that is only in the logs.
async fn host(server: &Server, config: LogConfig) -> Arc<Partition> {
    let hosted = Hosted { partition: 0, leader_epoch: LeaderEpoch(0) };
    let replicas = &server.broker.replicas;
    replicas.host(vec![(Arc::from("t"), Uuid([7; 16]), Arc::new(config), vec![hosted])]).await;
    replicas.partition("t", 0).unwrap()
}

/// One record with this timestamp.
fn append(server: &Server, partition: &Partition, bytes: usize, timestamp_ms: i64, sequence: i32) {
    let mut batch = BatchBuilder::new(Compression::new(Codec::None));
    batch.set_producer(5, 0, sequence);
    batch.append(timestamp_ms, None, Some(&vec![b'x'; bytes]), &[]).unwrap();
    let rules = crate::validation::rules(&partition.config(), timestamp_ms);
    let batch = ottla_record::validate(&batch.finish().unwrap(), &rules).unwrap();
    partition.append(server.broker.replicas.logs(), &batch, AppendOrigin::Client, timestamp_ms).unwrap();
}

/// What of a partition shows that periodic work was done.
#[derive(Clone, Copy)]
enum Shown {
    NothingIsLeft,
    NoProducerIsLeft,
    /// All of it is named in this file of the directory.
    Checkpointed(&'static str),
    Flushed,
}

impl Shown {
    fn by(self, machine: &MemoryWorld, partition: &Partition) -> bool {
        let log = partition.log();
        let end = log.log_end_offset();
        match self {
            Shown::NothingIsLeft => log.log_start_offset() == end,
            Shown::NoProducerIsLeft => log.active_producers().is_empty(),
            Shown::Checkpointed(name) => {
                let path = Path::new("/data").join(name);
                let disk = machine.disk.mount();
                let text = disk.exists(&path).unwrap().then(|| disk.read_file(&path, u64::MAX).unwrap());
                String::from_utf8(text.unwrap_or_default()).unwrap().contains(&format!("t 0 {end}\n"))
            }
            Shown::Flushed => log.flushed_offset() == end,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn periodic_work_has_its_delay_and_its_period() {
    let cases = [
        ("log.retention.check.interval.ms", 3_500, Shown::NothingIsLeft),
        ("producer.id.expiration.check.interval.ms", 3_500, Shown::NoProducerIsLeft),
        ("log.flush.offset.checkpoint.interval.ms", 3_500, Shown::Checkpointed("recovery-point-offset-checkpoint")),
        ("replica.high.watermark.checkpoint.interval.ms", 3_500, Shown::Checkpointed("replication-offset-checkpoint")),
        ("log.flush.scheduler.interval.ms", 500, Shown::Flushed),
    ];
    for (key, period_ms, shown) in cases {
        let machine = MemoryWorld::new(1);
        let world = World { clock: Arc::new(TimerClock::new()), ..machine.world() };
        let settings = [("log.initial.task.delay.ms", "1000"), (key, &period_ms.to_string())];
        let server = start(world, &settings).await;
        let began = Instant::now();
        let durability = if matches!(shown, Shown::Flushed) { Durability::PageCache } else { Durability::Fsync };
        let partition = host(&server, LogConfig { durability, flush_ms: 0, ..LogConfig::default() }).await;
        for (round, due_ms) in [(0, 1_000), (1, 1_000 + period_ms)] {
            append(&server, &partition, 10, 1, round);
            for (at_ms, expected) in [(due_ms - 1, false), (due_ms + 1, true)] {
                tokio::time::sleep_until(began + Duration::from_millis(at_ms)).await;
                assert_eq!(shown.by(&machine, &partition), expected, "{key}: round {round} at {at_ms} ms");
            }
        }
        server.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn closed_segments_are_verified_as_fast_and_as_often_as_the_node_says() {
    let settings = [
        ("log.initial.task.delay.ms", "0"),
        ("ottla.log.scrub.bytes.per.second", "1000"),
        ("ottla.log.scrub.interval.ms", "60000"),
    ];
    let world = World { clock: Arc::new(TimerClock::new()), ..MemoryWorld::new(1).world() };
    let server = start(world.clone(), &settings).await;
    let partition = host(&server, LogConfig { segment_bytes: 2_000, ..LogConfig::default() }).await;
    for sequence in 0..60 {
        append(&server, &partition, 300, world.clock.wall_ms(), sequence);
    }
    let bytes = || server.metrics().scrub.bytes;
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(bytes(), 0, "written just now");
    // A batch is read to its end.
    let batch_bytes = 400;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!((1_000..=3_000 + batch_bytes).contains(&bytes()), "{}", bytes());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let all = server.metrics().scrub.total_bytes;
    assert!(all > 20 * batch_bytes && bytes() >= all, "{} of {all}", bytes());
    server.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn producers_are_forgotten_when_the_node_says() {
    let settings = [
        ("log.initial.task.delay.ms", "0"),
        ("producer.id.expiration.check.interval.ms", "100"),
        ("producer.id.expiration.ms", "60000"),
    ];
    let world = World { clock: Arc::new(TimerClock::new()), ..MemoryWorld::new(1).world() };
    let server = start(world.clone(), &settings).await;
    let partition = host(&server, LogConfig::default()).await;
    append(&server, &partition, 10, world.clock.wall_ms(), 0);
    let left = || partition.log().active_producers().len();
    tokio::time::sleep(Duration::from_millis(59_900)).await;
    assert_eq!(left(), 1);
    tokio::time::sleep(Duration::from_millis(201)).await;
    assert_eq!(left(), 0);
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn memory_has_the_budgets_of_the_node() {
    for (limit, kept) in [("0", 0..=0), ("20000", 5_000..=20_000), ("67108864", 50_000..=70_000)] {
        let server = start(MemoryWorld::new(1).world(), &[("ottla.memory.hot.tail.bytes", limit)]).await;
        let partition = host(&server, LogConfig::default()).await;
        for sequence in 0..10 {
            append(&server, &partition, 5_000, 1, sequence);
        }
        let found = server.broker.replicas.logs().hot_tail_bytes();
        assert!(kept.contains(&found), "{found} bytes of {limit}");
        server.shutdown().await.unwrap();
    }
    let settings = [("ottla.memory.produce.bytes", "2097152"), ("ottla.memory.fetch.bytes", "3145728")];
    let server = start(MemoryWorld::new(1).world(), &settings).await;
    let budgets = &server.broker.budgets;
    assert_eq!((budgets.of_request(0).free_bytes(), budgets.fetch.free_bytes()), (2 << 20, 3 << 20));
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn with_the_memory_for_fetches_taken_an_answer_has_a_little() {
    let server = start(MemoryWorld::new(1).world(), &[("ottla.memory.fetch.bytes", "1048576")]).await;
    let connection = connect(&server).await;
    create_topic(&connection, "t", 1).await;
    let partition = server.broker.replicas.partition("t", 0).unwrap();
    for sequence in 0..10 {
        append(&server, &partition, 30_000, 1, sequence);
    }
    if let Some(acknowledged) = partition.acknowledgement(10) {
        acknowledged.await.unwrap().unwrap();
    }
    let partitions = vec![FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() }];
    let request = FetchRequest {
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: "t".into(), partitions, ..Default::default() }],
        ..Default::default()
    };
    let fetched = async || {
        let answer = connection.send_at_most(&request, 12, Duration::from_secs(20)).await.unwrap();
        let records = answer.responses[0].partitions[0].records.clone().and_then(FetchedRecords::into_bytes).unwrap();
        records.len()
    };
    assert!(fetched().await > 300_000);
    let everything = server.broker.budgets.fetch.reserve(1 << 20).await;
    let little = fetched().await;
    assert!((30_000..=64 * 1024).contains(&little), "{little} bytes");
    drop(everything);
    assert!(fetched().await > 300_000);
    server.shutdown().await.unwrap();
}

/// Notes how much blocking work is under way at once.
#[derive(Default)]
struct CountedSpawn(Arc<Mutex<(usize, usize)>>);

impl Spawn for CountedSpawn {
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let counts = Arc::clone(&self.0);
        let (now, most) = &mut *counts.lock();
        *now += 1;
        *most = (*most).max(*now);
        let counts = Arc::clone(&self.0);
        Box::pin(async move {
            InlineSpawn.blocking(work).await;
            counts.lock().0 -= 1;
        })
    }
}

#[tokio::test]
async fn so_many_partitions_are_recovered_at_once() {
    let machine = MemoryWorld::new(1);
    let server = start(machine.world(), &[]).await;
    let connection = connect(&server).await;
    create_topic(&connection, "t", 12).await;
    server.shutdown().await.unwrap();
    for threads in [1, 3, 7] {
        let spawn = CountedSpawn::default();
        let counts = Arc::clone(&spawn.0);
        let world = World { spawn: Arc::new(spawn), ..machine.world() };
        let server = start(world, &[("num.recovery.threads.per.data.dir", &threads.to_string())]).await;
        assert_eq!(counts.lock().1, threads);
        server.shutdown().await.unwrap();
    }
}

async fn connect(server: &Server) -> Connection {
    let port = server.listeners()[0].address.port();
    Connection::connect(&*server.broker.world.net, "127.0.0.1", port, "test", Duration::from_secs(20)).await.unwrap()
}

async fn create_topic(connection: &Connection, name: &str, partitions: i32) {
    let topic = CreatableTopic {
        name: name.to_owned().into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
    assert_eq!(connection.send(&request).await.unwrap().topics[0].error_code, 0);
}

/// Sets a key of all nodes, or takes it back.
async fn set(connection: &Connection, key: &str, value: Option<&str>) {
    let config = AlterableConfig {
        name: key.to_owned().into(),
        config_operation: i8::from(value.is_none()),
        value: value.map(|value| value.to_owned().into()),
    };
    let resource = AlterConfigsResource { resource_type: 4, resource_name: "".into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let answer = connection.send(&request).await.unwrap().responses.remove(0);
    assert_eq!(answer.error_code, 0, "{key}: {:?}", answer.error_message);
}

/// What a key of the node changes in the log of a topic without settings of its own.
type Change = fn(&mut LogConfig);

const HOUR_MS: i64 = 60 * 60 * 1000;

/// Read when the node starts only.
const AT_START: &[(&str, &str, Change)] = &[
    ("log.flush.scheduler.interval.ms", "9", |log| log.flush_ms = 9),
    ("log.retention.hours", "2", |log| log.retention_ms = 2 * HOUR_MS),
    ("log.retention.minutes", "3", |log| log.retention_ms = 180_000),
    ("log.roll.hours", "4", |log| log.segment_ms = 4 * HOUR_MS),
    ("log.roll.jitter.hours", "5", |log| log.segment_jitter_ms = 5 * HOUR_MS),
];

const AT_ANY_TIME: &[(&str, &str, Change)] = &[
    ("log.cleaner.delete.retention.ms", "7", |log| log.delete_retention_ms = 7),
    ("log.cleaner.max.compaction.lag.ms", "7", |log| log.max_compaction_lag_ms = 7),
    ("log.cleaner.min.cleanable.ratio", "0.25", |log| log.min_cleanable_dirty_ratio = 0.25),
    ("log.cleaner.min.compaction.lag.ms", "7", |log| log.min_compaction_lag_ms = 7),
    ("log.cleanup.policy", "compact,delete", |log| log.cleanup_policy = CleanupPolicy { delete: true, compact: true }),
    ("log.flush.interval.messages", "15", |log| log.flush_messages = 15),
    ("log.flush.interval.ms", "16", |log| log.flush_ms = 16),
    ("log.index.interval.bytes", "5000", |log| log.index_interval_bytes = 5000),
    ("log.index.size.max.bytes", "6000", |log| log.segment_index_bytes = 6000),
    ("log.message.timestamp.after.max.ms", "7000", |log| log.message_timestamp_after_max_ms = 7000),
    ("log.message.timestamp.before.max.ms", "8000", |log| log.message_timestamp_before_max_ms = 8000),
    ("log.message.timestamp.type", "LogAppendTime", |log| log.message_timestamp_type = TimestampType::LogAppendTime),
    ("log.retention.bytes", "9000", |log| log.retention_bytes = 9000),
    ("log.retention.ms", "10000", |log| log.retention_ms = 10_000),
    ("log.roll.jitter.ms", "11000", |log| log.segment_jitter_ms = 11_000),
    ("log.roll.ms", "12000", |log| log.segment_ms = 12_000),
    ("log.segment.bytes", "1300000", |log| log.segment_bytes = 1_300_000),
    ("log.segment.delete.delay.ms", "14000", |log| log.file_delete_delay_ms = 14_000),
    ("max.decompressed.message.bytes", "17000", |log| log.max_decompressed_message_bytes = 17_000),
    ("message.max.bytes", "18000", |log| log.max_message_bytes = 18_000),
    ("min.insync.replicas", "2", |log| log.min_insync_replicas = 2),
    ("compression.type", "snappy", |log| log.compression_type = CompressionType::Snappy),
    ("ottla.durability", "page-cache", |log| log.durability = Durability::PageCache),
    ("ottla.produce.validation", "fast", |log| log.produce_validation = ProduceValidation::Fast),
];

#[tokio::test]
async fn a_nodes_keys_reach_the_logs_of_its_topics() {
    let changed = |change: Change| {
        let mut config = LogConfig::default();
        change(&mut config);
        assert_ne!(config, LogConfig::default());
        config
    };
    let of = |server: &Server| {
        let partition = server.broker.replicas.partition("t", 0).unwrap();
        assert_eq!(*partition.config(), *partition.log().config());
        (*partition.config()).clone()
    };
    for (key, value, change) in AT_START.iter().chain(AT_ANY_TIME) {
        let server = start(MemoryWorld::new(1).world(), &[(key, value)]).await;
        create_topic(&connect(&server).await, "t", 1).await;
        assert_eq!(of(&server), changed(*change), "{key}={value}");
        server.shutdown().await.unwrap();
    }
    let server = start(MemoryWorld::new(1).world(), &[]).await;
    let connection = connect(&server).await;
    create_topic(&connection, "t", 1).await;
    for (key, value, change) in AT_ANY_TIME {
        set(&connection, key, Some(value)).await;
        assert_eq!(of(&server), changed(*change), "{key}={value} while it runs");
        set(&connection, key, None).await;
        assert_eq!(of(&server), LogConfig::default(), "{key} taken back");
    }
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_nodes_keys_reach_its_moves() {
    const RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
    let of = |server: &Server| server.broker.replicas.logs().move_settings().expect("they have begun");
    let as_many_as_directories = start(MemoryWorld::new(1).world(), &[]).await;
    assert_eq!(of(&as_many_as_directories), MoveSettings { threads: 1, bytes_per_second: i64::MAX as f64 });
    let connection = connect(&as_many_as_directories).await;
    set(&connection, RATE, Some("7")).await;
    assert_eq!(of(&as_many_as_directories), MoveSettings { threads: 1, bytes_per_second: 7.0 });
    set(&connection, RATE, None).await;
    assert_eq!(of(&as_many_as_directories).bytes_per_second.to_bits(), (i64::MAX as f64).to_bits());
    as_many_as_directories.shutdown().await.unwrap();
    for (value, threads) in [("3", 3), ("0", 1), ("-1", 1)] {
        let server = start(MemoryWorld::new(1).world(), &[("num.replica.alter.log.dirs.threads", value)]).await;
        assert_eq!(of(&server).threads, threads, "{value}");
        server.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn the_nodes_keys_reach_its_cleaner() {
    type Change = fn(&mut CleanerSettings);
    let cases: [(&str, &str, Change); 6] = [
        ("log.cleaner.backoff.ms", "7", |cleaner| cleaner.backoff_ms = 7),
        ("log.cleaner.dedupe.buffer.size", "7000000", |cleaner| cleaner.dedupe_buffer_bytes = 7_000_000),
        ("log.cleaner.io.buffer.load.factor", "0.5", |cleaner| cleaner.dedupe_buffer_load_factor = 0.5),
        ("log.cleaner.io.buffer.size", "70000", |cleaner| cleaner.io_buffer_bytes = 70_000),
        ("log.cleaner.io.max.bytes.per.second", "7.5", |cleaner| cleaner.io_max_bytes_per_second = 7.5),
        ("log.cleaner.threads", "2", |cleaner| cleaner.threads = 2),
    ];
    let of = |server: &Server| server.broker.replicas.logs().cleaner_settings();
    let changed = |change: Change| {
        let mut settings = CleanerSettings::default();
        change(&mut settings);
        assert_ne!(settings, CleanerSettings::default());
        Some(settings)
    };
    for (key, value, change) in cases {
        let server = start(MemoryWorld::new(1).world(), &[(key, value)]).await;
        assert_eq!(of(&server), changed(change), "{key}={value}");
        server.shutdown().await.unwrap();
    }
    let server = start(MemoryWorld::new(1).world(), &[]).await;
    let connection = connect(&server).await;
    for (key, value, change) in cases {
        set(&connection, key, Some(value)).await;
        assert_eq!(of(&server), changed(change), "{key}={value} while it runs");
        set(&connection, key, None).await;
        assert_eq!(of(&server), Some(CleanerSettings::default()), "{key} taken back");
    }
    server.shutdown().await.unwrap();
    let server = start(MemoryWorld::new(1).world(), &[("log.cleaner.enable", "false")]).await;
    assert_eq!(of(&server), None, "it is switched off");
    server.shutdown().await.unwrap();
}

/// Each codec has a level of its own.
#[tokio::test]
async fn a_nodes_levels_reach_the_logs_of_its_topics() {
    let cases = [
        ("gzip", "compression.gzip.level", CompressionType::Gzip { level: 5 }),
        ("lz4", "compression.lz4.level", CompressionType::Lz4 { level: 5 }),
        ("zstd", "compression.zstd.level", CompressionType::Zstd { level: 5 }),
    ];
    let server = start(MemoryWorld::new(1).world(), &[]).await;
    let connection = connect(&server).await;
    create_topic(&connection, "t", 1).await;
    for (codec, key, expected) in cases {
        set(&connection, "compression.type", Some(codec)).await;
        set(&connection, key, Some("5")).await;
        let partition = server.broker.replicas.partition("t", 0).unwrap();
        assert_eq!(partition.log().config().compression_type, expected, "{key}");
    }
    server.shutdown().await.unwrap();
}
