//! Configurations that are accepted, and what they mean.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ottla_config::{AdvertisedListener, BindAddress, ConfigWarning, LogConfig, ServerConfig};
use ottla_types::NodeId;

use crate::{config, load};

/// A node with both roles, set up like the file that Kafka ships.
const SINGLE_NODE: &str = "\
# both roles in one process
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093

listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL

num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600

log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1

#log.flush.interval.messages=10000
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";

fn warned_keys(warnings: &[ConfigWarning]) -> Vec<&str> {
    warnings
        .iter()
        .map(|warning| match warning {
            ConfigWarning::NotUsed { key, .. } => key.as_str(),
            other => panic!("{other}"),
        })
        .collect()
}

#[test]
fn without_a_file_a_node_is_reachable_from_this_machine_only() {
    let config = ServerConfig::default();
    assert_eq!(config.node_id, NodeId(1));
    assert_eq!(config.log_dirs, [PathBuf::from("./ottla-data")]);
    assert_eq!(config.metadata_log_dir, PathBuf::from("./ottla-data"));
    let [listener] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    assert_eq!((listener.name.as_str(), &listener.bind, listener.port), ("PLAINTEXT", &BindAddress::Loopback, 9092));
    let advertised =
        AdvertisedListener { name: "PLAINTEXT".to_owned(), host: Some("localhost".to_owned()), port: 9092 };
    assert_eq!(config.advertised_listeners, [advertised]);
    assert_eq!(config.log, LogConfig::default());
    assert_eq!(config.groups.initial_rebalance_delay_ms, 3000);
    assert_eq!(config.groups.max_size, i32::MAX as usize);
    assert_eq!(config.offsets.retention_ms, 7 * 24 * 3_600_000);
    assert_eq!(config.network.connections_max_idle_ms, Some(600_000));
    assert_eq!(config.fetch.max_bytes, 55 * 1024 * 1024);
}

#[test]
fn a_listener_may_have_limits_of_its_own() {
    let file = "log.dirs=/a\n\
                listeners=PLAINTEXT://:9092,INSIDE://:9093\n\
                listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT\n\
                inter.broker.listener.name=INSIDE\n\
                connections.max.idle.ms=1000\n\
                socket.request.max.bytes=5000\n\
                socket.send.buffer.bytes=-1\n\
                listener.name.inside.max.connections=7\n\
                listener.name.inside.max.connection.creation.rate=8\n\
                listener.name.inside.connections.max.idle.ms=-1\n\
                listener.name.inside.socket.request.max.bytes=900\n";
    let loaded = ServerConfig::load(Some(file), &[], None, true).unwrap();
    assert_eq!(warned_keys(&loaded.warnings), [""; 0]);
    let network = loaded.config.network;
    let inside = &network.listeners["INSIDE"];
    assert_eq!((inside.max_connections, inside.max_connection_creation_rate), (Some(7), Some(8)));
    assert_eq!((network.connections_max_idle_ms_of("INSIDE"), network.request_max_bytes_of("INSIDE")), (None, 900));
    let elsewhere = (network.connections_max_idle_ms_of("PLAINTEXT"), network.request_max_bytes_of("PLAINTEXT"));
    assert_eq!(elsewhere, (Some(1000), 5000));
    assert_eq!(network.protected_listener.as_deref(), Some("INSIDE"));
    assert_eq!((network.socket_send_buffer_bytes, network.socket_listen_backlog_size), (None, None));
}

#[test]
fn the_shipped_single_node_configuration_loads() {
    let loaded = ServerConfig::load(Some(SINGLE_NODE), &[], None, true).unwrap();
    let names: Vec<_> =
        loaded.config.listeners.iter().map(|listener| (listener.name.as_str(), listener.is_controller)).collect();
    assert_eq!(names, [("PLAINTEXT", false), ("CONTROLLER", true)]);
    assert!(loaded.config.listeners.iter().all(|listener| listener.bind == BindAddress::AllInterfaces));
    assert_eq!(loaded.config.advertised_listeners.len(), 1);
    assert_eq!(loaded.config.advertised_listeners[0].host.as_deref(), Some("localhost"));
    assert_eq!(loaded.config.log_dirs, [PathBuf::from("/tmp/kraft-combined-logs")]);
    assert_eq!(loaded.config.offsets.topic_replication_factor, 1);
    assert_eq!(
        warned_keys(&loaded.warnings),
        [
            "num.io.threads",
            "num.network.threads",
            "share.coordinator.state.topic.min.isr",
            "share.coordinator.state.topic.replication.factor",
            "transaction.state.log.min.isr",
            "transaction.state.log.replication.factor",
        ]
    );
}

#[test]
fn an_empty_file_has_kafkas_defaults() {
    let loaded = load("").unwrap();
    assert_eq!(loaded.config.listeners[0].bind, BindAddress::AllInterfaces);
    assert_eq!(loaded.config.advertised_listeners[0].host, None);
    assert_eq!(loaded.config.log_dirs, [PathBuf::from("/tmp/kafka-logs")]);
    let directory = "/tmp/kafka-logs".to_owned();
    assert_eq!(loaded.warnings, [ConfigWarning::TemporaryLogDirectory { directory }]);
}

#[test]
fn single_settings_are_stronger_than_the_file_and_the_data_directory_than_both() {
    let sets = [("num.partitions", "3"), ("num.partitions", "4"), ("log.dirs", "/b")];
    let sets: Vec<_> = sets.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let text = Some("num.partitions=2\nlog.dirs=/a");
    let config = ServerConfig::load(text, &sets, None, true).unwrap().config;
    assert_eq!((config.topics.num_partitions, config.log_dirs), (4, vec![PathBuf::from("/b")]));
    let config = ServerConfig::load(text, &sets, Some(Path::new("/c,d")), true).unwrap().config;
    assert_eq!(config.log_dirs, [PathBuf::from("/c,d")]);
    // Without a file the defaults stay those of no file.
    let config = ServerConfig::load(None, &sets[..2], None, true).unwrap().config;
    assert_eq!(config.listeners[0].bind, BindAddress::Loopback);
}

#[test]
fn log_directories() {
    let directories = |text: &str| config(text).log_dirs.iter().map(|d| d.display().to_string()).collect::<Vec<_>>();
    assert_eq!(directories("log.dirs=/a, /b,/a"), ["/a", "/b"]);
    assert_eq!(directories("log.dir=/x,/y"), ["/x", "/y"]);
    assert_eq!(directories("log.dir=/x\nlog.dirs=/a"), ["/a"]);
    assert_eq!(config("log.dirs=/a,/b\nmetadata.log.dir=/m").metadata_log_dir, PathBuf::from("/m"));
    assert_eq!(config("log.dirs=/a,/b").metadata_log_dir, PathBuf::from("/a"));
}

#[test]
fn the_strongest_time_key_counts() {
    let check = |text: &str, expected: i64| assert_eq!(config(text).log.retention_ms, expected, "{text}");
    check("log.retention.hours=1", 3_600_000);
    check("log.retention.minutes=5\nlog.retention.hours=1", 300_000);
    check("log.retention.hours=1\nlog.retention.ms=7\nlog.retention.minutes=5", 7);
    check("log.retention.hours=-1", -1);
    check("log.retention.ms=-2", -1);
    let log = config("log.roll.hours=2\nlog.roll.jitter.hours=1\nlog.flush.scheduler.interval.ms=9").log;
    assert_eq!((log.segment_ms, log.segment_jitter_ms, log.flush_ms), (7_200_000, 3_600_000, 9));
    let log = config("log.roll.hours=2\nlog.roll.ms=3\nlog.flush.interval.ms=8\nlog.flush.scheduler.interval.ms=9").log;
    assert_eq!((log.segment_ms, log.flush_ms), (3, 8));
}

#[test]
fn bind_addresses() {
    let bind = |host: &str| {
        let text = format!("listeners=PLAINTEXT://{host}:0\nadvertised.listeners=PLAINTEXT://h:1");
        config(&text).listeners[0].bind.clone()
    };
    assert_eq!(bind(""), BindAddress::AllInterfaces);
    assert_eq!(bind("[::]"), BindAddress::AllInterfaces);
    assert_eq!(bind("0.0.0.0"), BindAddress::Ip(IpAddr::from([0; 4])));
    assert_eq!(bind("127.0.0.1"), BindAddress::Ip(IpAddr::from([127, 0, 0, 1])));
    assert_eq!(bind("[::1]"), BindAddress::Ip("::1".parse().unwrap()));
    assert_eq!(bind("localhost"), BindAddress::Loopback);
    assert_eq!(bind("broker_1.example"), BindAddress::Name("broker_1.example".to_owned()));
}

#[test]
fn several_client_listeners() {
    let config = config(
        "listeners=a://127.0.0.1:9092,B://[::1]:9092, CONTROLLER://:0\n\
         listener.security.protocol.map=A:PLAINTEXT,B:plaintext,CONTROLLER:PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=b",
    );
    let advertised: Vec<_> = config
        .advertised_listeners
        .iter()
        .map(|listener| (listener.name.as_str(), listener.host.as_deref().unwrap(), listener.port))
        .collect();
    assert_eq!(advertised, [("A", "127.0.0.1", 9092), ("B", "::1", 9092)]);
}

#[test]
fn a_controller_listener_is_plaintext_unless_the_map_says_otherwise() {
    let config = config("listeners=PLAINTEXT://:1,C://:2\ncontroller.listener.names=C");
    assert!(config.listeners[1].is_controller);
}

#[test]
fn this_node_may_be_the_only_voter() {
    assert_eq!(config("node.id=7\ncontroller.quorum.voters=7@host:9093").node_id, NodeId(7));
    assert_eq!(config("broker.id=8").node_id, NodeId(8));
    assert_eq!(config("broker.id=9\nnode.id=9").node_id, NodeId(9));
    assert_eq!(config("process.roles=controller, broker").node_id, NodeId(1));
}

#[test]
fn connection_limits_by_address() {
    let network = config("max.connections.per.ip=0\nmax.connections.per.ip.overrides=1.2.3.4:5, ::1:6").network;
    assert_eq!(network.max_connections_per_ip, 0);
    let overrides: Vec<_> = network.max_connections_per_ip_overrides.into_iter().collect();
    assert_eq!(overrides, [("1.2.3.4".to_owned(), 5), ("::1".to_owned(), 6)]);
    let idle_ms = |text: &str| config(text).network.connections_max_idle_ms;
    assert_eq!(["-1", "0", "5"].map(|ms| idle_ms(&format!("connections.max.idle.ms={ms}"))), [None, None, Some(5)]);
}

#[test]
fn warnings_say_what_happens_instead() {
    let check = |text: &str, expected: &str| {
        let warnings = load(&format!("log.dirs=/a\n{text}")).unwrap().warnings;
        let texts: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [expected], "{text}");
    };
    check("num.io.threads=4", "num.io.threads has no effect: work runs on as many threads as the machine has cores");
    check("num.partition=4", "unknown key num.partition; did you mean num.partitions?");
    check("log.retention.hour=4", "unknown key log.retention.hour; did you mean log.retention.hours?");
    check("ottla.durabilty=fsync", "unknown key ottla.durabilty; did you mean ottla.durability?");
    check("com.example.thing=4", "unknown key com.example.thing");
    check("num.partitions=1\nnum.partitions=2", "num.partitions is set again in line 3; the last value counts");
    check(
        "listener.name.plaintext.max.connections.per.ip=1",
        "listener.name.plaintext.max.connections.per.ip has no effect: max.connections.per.ip is only read for the whole \
         node",
    );
    let budgets = "requests under way are bounded by `ottla.memory.produce.bytes` and \
                   `ottla.connection.max.inflight.requests`";
    check("queued.max.request.bytes=104857600", &format!("queued.max.request.bytes has no effect: {budgets}"));
    check("queued.max.requests=500", &format!("queued.max.requests has no effect: {budgets}"));
    check(
        "log.flush.start.offset.checkpoint.interval.ms=60000",
        "log.flush.start.offset.checkpoint.interval.ms has no effect: log start offsets are written with the recovery \
         points, every `log.flush.offset.checkpoint.interval.ms`",
    );
    check("log.preallocate=true", "log.preallocate has no effect: a segment's file grows with its records");
    check(
        "unclean.leader.election.enable=true",
        "unclean.leader.election.enable has no effect: a single node has no followers",
    );
    check(
        "listener.name.plaintext.num.partitions=1",
        "listener.name.plaintext.num.partitions has no effect: num.partitions is only read for the whole node",
    );
    check(
        "controller.quorum.bootstrap.servers=other.example:9093",
        "controller.quorum.bootstrap.servers: other.example:9093 is taken to be this node",
    );
    check(
        "ssl.keystore.location=/k",
        "ssl.keystore.location has no effect: TLS is not built yet, and no listener uses it",
    );
}

#[test]
fn protecting_keys_with_kafkas_defaults_protect_nothing() {
    let text = "log.dirs=/a\nauthorizer.class.name=\nssl.client.auth=none\nsasl.enabled.mechanisms=GSSAPI\n\
                security.inter.broker.protocol=PLAINTEXT\nsuper.users=\nconnections.max.reauth.ms=0\nconfig.providers=";
    assert_eq!(ServerConfig::load(Some(text), &[], None, true).unwrap().warnings, []);
}
