//! Configurations that are refused, and what the operator reads.

use ottla_config::{ConfigError, Problem, ServerConfig};

use crate::load;

fn check(text: &str, expected: &str) {
    let errors = load(text).map(|loaded| panic!("{text} is accepted: {:?}", loaded.warnings)).unwrap_err();
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [expected], "{text}");
}

#[test]
fn values() {
    check("num.partitions=x", "Invalid value x for configuration num.partitions: Not a number of type INT");
    check("num.partitions=0", "Invalid value 0 for configuration num.partitions: Value must be at least 1");
    check(
        "log.retention.hours=0",
        "Invalid value 0 for configuration log.retention.hours: must be unlimited (-1), or at least 1",
    );
    check(
        "log.flush.interval.ms=-1",
        "Invalid value -1 for configuration log.flush.interval.ms: Value must be at least 0",
    );
    check("log.roll.ms=0", "Invalid value 0 for configuration log.roll.ms: Value must be at least 1");
    check("fetch.max.bytes=5", "Invalid value 5 for configuration fetch.max.bytes: Value must be at least 1024");
    check(
        "auto.create.topics.enable=yes",
        "Invalid value yes for configuration auto.create.topics.enable: Expected value to be either true or false",
    );
    check(
        "ottla.durability=never",
        "Invalid value never for configuration ottla.durability: String must be one of: fsync, page-cache",
    );
    check(
        "log.dirs=",
        "Invalid value  for configuration log.dirs: must not be empty. Valid values include: any non-empty value",
    );
    check("log.dirs=/a,,/b", "Invalid value /a,,/b for configuration log.dirs: values must not be empty");
    check(
        "queued.max.request.bytes=5",
        "Invalid value 5 for configuration queued.max.request.bytes: \
         must be larger or equal to socket.request.max.bytes (104857600)",
    );
    check(
        "max.connections.per.ip=0",
        "Invalid value 0 for configuration max.connections.per.ip: can be zero only if max.connections.per.ip.overrides is set",
    );
    check(
        "max.connections.per.ip.overrides=h:x",
        "Invalid value h:x for configuration max.connections.per.ip.overrides: expected a list of address:number",
    );
    check(
        "offsets.topic.compression.codec=7",
        "Invalid value 7 for configuration offsets.topic.compression.codec: Unknown compression type id: 7",
    );
    check(
        "log.cleaner.min.compaction.lag.ms=9\nlog.cleaner.max.compaction.lag.ms=8",
        "conflict topic config setting min.compaction.lag.ms (9) > max.compaction.lag.ms (8)",
    );
    for text in
        ["log.cleaner.dedupe.buffer.size=1048576", "log.cleaner.threads=200", "log.cleaner.dedupe.buffer.size=-1"]
    {
        check(text, "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.");
    }
    check(
        "group.min.session.timeout.ms=10\ngroup.max.session.timeout.ms=5",
        "Invalid value 10 for configuration group.min.session.timeout.ms: \
         must be no more than group.max.session.timeout.ms (5)",
    );
    check(
        "group.coordinator.rebalance.protocols=consumer",
        "Invalid value consumer for configuration group.coordinator.rebalance.protocols: \
         the classic protocol cannot be disabled",
    );
    // A key without effect is checked all the same.
    for key in ["num.io.threads", "queued.max.requests", "socket.listen.backlog.size"] {
        check(&format!("{key}=0"), &format!("Invalid value 0 for configuration {key}: Value must be at least 1"));
    }
    for key in [
        "socket.send.buffer.bytes",
        "socket.receive.buffer.bytes",
        "max.connection.creation.rate",
        "listener.name.plaintext.max.connection.creation.rate",
        "listener.name.plaintext.max.connections",
        "log.flush.start.offset.checkpoint.interval.ms",
    ] {
        let found = load(&format!("{key}=x")).unwrap_err();
        let [ConfigError::InvalidValue { key: named, problem: Problem::NotANumber(_), .. }] = found.as_slice() else {
            panic!("{key}: {found:?}");
        };
        assert_eq!(named, key);
    }
    check(
        "log.preallocate=yes",
        "Invalid value yes for configuration log.preallocate: Expected value to be either true or false",
    );
    check(
        "unclean.leader.election.enable=yes",
        "Invalid value yes for configuration unclean.leader.election.enable: Expected value to be either true or false",
    );
    check(
        "compression.lz4.level=18",
        "Invalid value 18 for configuration compression.lz4.level: Value must be no more than 17",
    );
    check(
        "log.cleaner.min.cleanable.ratio=2",
        "Invalid value 2 for configuration log.cleaner.min.cleanable.ratio: Value must be no more than 1",
    );
}

#[test]
fn what_protects_is_not_ignored() {
    for (text, key) in [
        ("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "authorizer.class.name"),
        ("super.users=User:admin", "super.users"),
        ("sasl.enabled.mechanisms=PLAIN", "sasl.enabled.mechanisms"),
        ("sasl.jaas.config=secret;", "sasl.jaas.config"),
        ("ssl.client.auth=required", "ssl.client.auth"),
        ("security.inter.broker.protocol=SSL", "security.inter.broker.protocol"),
        ("client.quota.callback.class=a.B", "client.quota.callback.class"),
        ("quota.producer.default=1", "quota.producer.default"),
        ("create.topic.policy.class.name=a.B", "create.topic.policy.class.name"),
        ("delegation.token.secret.key=secret", "delegation.token.secret.key"),
        ("principal.builder.class=a.B", "principal.builder.class"),
        ("listener.name.plaintext.ssl.client.auth=required", "listener.name.plaintext.ssl.client.auth"),
        ("listener.name.plaintext.plain.sasl.jaas.config=secret;", "listener.name.plaintext.plain.sasl.jaas.config"),
    ] {
        let errors = load(text).unwrap_err();
        let [error] = errors.as_slice() else { panic!("{text}: {errors:?}") };
        let shown = error.to_string();
        assert!(shown.starts_with(&format!("{key} is set, but ")), "{shown}");
        assert!(!shown.contains("secret;"), "{shown}");
    }
    check(
        "config.providers=env",
        "config.providers is set, but values are taken literally, no provider is asked for them",
    );
}

#[test]
fn listeners() {
    let only = |text: &str, expected: &str| check(text, expected);
    only("listeners=garbage", "listeners: cannot read garbage as NAME://host:port");
    only("listeners=PLAINTEXT://::1:9092", "listeners: cannot read PLAINTEXT://::1:9092 as NAME://host:port");
    only("listeners=PLAINTEXT://:99999", "listeners: port 99999 is not between 0 and 65535");
    only(
        "listeners=PLAINTEXT://:1,plaintext://:2",
        "listeners: PLAINTEXT appears twice; each listener needs a name of its own",
    );
    only("listeners=PLAINTEXT://:1,SSL://:1", "listeners: PLAINTEXT and SSL share port 1");
    only("listeners=SSL://:1", "listener SSL uses SSL, which is not built yet: only PLAINTEXT is served so far");
    only(
        "listeners=EXT://:1",
        "listener EXT has no security protocol: add EXT:PLAINTEXT to listener.security.protocol.map",
    );
    only(
        "listeners=EXT://:1\nlistener.security.protocol.map=EXT:SASL_SSL",
        "listener EXT uses SASL_SSL, which is not built yet: only PLAINTEXT is served so far",
    );
    only("listener.security.protocol.map=X;Y", "listener.security.protocol.map: cannot read X;Y as NAME:PROTOCOL");
    only(
        "listener.security.protocol.map=X:TLS",
        "listener.security.protocol.map: TLS is not one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL",
    );
    let not_routable = "0.0.0.0 cannot be advertised, clients could not connect to it; \
                        set advertised.listeners to an address they can reach";
    only("listeners=PLAINTEXT://0.0.0.0:1", &format!("listeners: {not_routable}"));
    only("advertised.listeners=PLAINTEXT://0.0.0.0:1", &format!("advertised.listeners: {not_routable}"));
    only("advertised.listeners=FOO://h:1", "advertised.listeners: FOO is not in listeners");
    only(
        "controller.listener.names=PLAINTEXT",
        "no listener is left for clients: every one is in controller.listener.names",
    );
    only("controller.listener.names=FOO", "none of controller.listener.names is in listeners");
    only("inter.broker.listener.name=FOO", "inter.broker.listener.name: FOO is not one of PLAINTEXT");
    only(
        "inter.broker.listener.name=PLAINTEXT\nsecurity.inter.broker.protocol=PLAINTEXT",
        "only one of inter.broker.listener.name and security.inter.broker.protocol may be set",
    );
}

#[test]
fn another_quorum_than_this_node() {
    check(
        "controller.quorum.voters=1@a:1,2@b:1",
        "controller.quorum.voters: one voter is supported so far, and it must be this node (1), not 1@a:1,2@b:1",
    );
    check(
        "controller.quorum.voters=2@b:1",
        "controller.quorum.voters: one voter is supported so far, and it must be this node (1), not 2@b:1",
    );
    check("controller.quorum.voters=x", "controller.quorum.voters: cannot read x as id@host:port");
    check(
        "controller.quorum.bootstrap.servers=a:1,b:1",
        "controller.quorum.bootstrap.servers: one controller is supported so far, this node, not a:1,b:1",
    );
    check(
        "listeners=PLAINTEXT://:1,C://:2\ncontroller.listener.names=C\ncontroller.quorum.bootstrap.servers=localhost:3",
        "controller.quorum.bootstrap.servers: localhost:3 is not this node, whose controller listeners have ports 2",
    );
    check("process.roles=broker", "process.roles=broker: a node of one role cannot run yet, only broker,controller");
    check("node.id=1\nbroker.id=2", "node.id is 1 and broker.id is 2: they name the same number, set node.id only");
    check("node.id=-1", "Invalid value -1 for configuration node.id: Value must be at least 0");
}

#[test]
fn unknown_keys_under_strict() {
    let errors = ServerConfig::load(Some("num.partition=1"), &[], None, true).unwrap_err();
    assert_eq!(errors[0].to_string(), "unknown key num.partition; did you mean num.partitions?");
}

#[test]
fn all_errors_are_told_at_once() {
    let errors = load("num.partitions=x\nlisteners=garbage\nsuper.users=User:a\nprocess.roles=broker").unwrap_err();
    assert_eq!(errors.len(), 3, "{errors:?}");
}
