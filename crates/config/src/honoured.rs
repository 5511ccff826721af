//! The declared table: every key that Ottla obeys, with what it does here.
//!
//! Type, default and accepted values of a Kafka key come from the facts in `kafka_keys`; Ottla's own keys are declared
//! here whole.

use crate::facts::{Facts, Rule, Type, Update, key};

/// A key that is obeyed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Honoured {
    pub(crate) name: &'static str,
    /// The version of Ottla that first obeyed it.
    pub(crate) since: &'static str,
    pub(crate) doc: &'static str,
}

const fn first(name: &'static str, doc: &'static str) -> Honoured {
    Honoured { name, since: "0.1", doc }
}

/// Server keys, Kafka's and Ottla's, sorted by name.
#[rustfmt::skip]
pub(crate) static BROKER: &[Honoured] = &[
    first("advertised.listeners", "The addresses that clients are told to connect to, as NAME://host:port. Unset: those of `listeners`, where an empty host stands for this machine's name."),
    first("auto.create.topics.enable", "Whether a client that asks for the metadata of a missing topic may have it created."),
    first("broker.id", "Older name of `node.id`; where both are set they must agree."),
    first("compression.gzip.level", "Level for topics that are stored with gzip: 1 (fast) to 9 (small), -1 for the library's choice."),
    first("compression.lz4.level", "Level for topics that are stored with lz4: 9 is the fast encoder, any other the thorough one."),
    first("compression.type", "How batches are stored: with one codec whatever the producer used, `uncompressed`, or as the `producer` sent them."),
    first("compression.zstd.level", "Level for topics that are stored with zstd."),
    first("connections.max.idle.ms", "A connection on which no byte moves for this long, with no request under way, is closed; 0 or less keeps it. A listener may have its own (`listener.name.NAME.`)."),
    first("controller.listener.names", "Which of `listeners` are the controller's. Their ports are opened, but a single node serves nothing there and needs none."),
    first("controller.quorum.bootstrap.servers", "Where the controllers are. One controller is supported so far, this node; another set is refused."),
    first("controller.quorum.voters", "The controllers as id@host:port. One voter is supported so far, this node; another set is refused."),
    first("default.replication.factor", "Replicas of a topic that is created without saying how many."),
    first("delete.topic.enable", "Whether topics can be deleted."),
    first("fetch.max.bytes", "Most bytes of records in one fetch response, whatever the client asks for; one batch is always returned."),
    first("group.coordinator.append.linger.ms", "How long a coordinator gathers records before it appends them; 0 appends those of each request alone. -1 appends them once the requests that have come are handled, so that many share an append under load and nobody waits when idle."),
    first("group.initial.rebalance.delay.ms", "How long the first rebalance of an empty classic group waits for more members."),
    first("group.max.session.timeout.ms", "Longest session timeout a classic member may ask for."),
    first("group.max.size", "Most members of one classic group."),
    first("group.min.session.timeout.ms", "Shortest session timeout a classic member may ask for."),
    first("inter.broker.listener.name", "The listener that brokers use among themselves. Where clients have another one, connections to it do not wait for `max.connections` and `max.connection.creation.rate`."),
    first("listener.security.protocol.map", "Each listener's protocol, as NAME:PROTOCOL. Only PLAINTEXT is served so far; a listener with another one is refused."),
    first("listeners", "Where to listen, as NAME://host:port. An empty host means every interface, `localhost` both loopback addresses; port 0 lets the system choose. Without a configuration file the default is PLAINTEXT://localhost:9092."),
    first("log.cleaner.backoff.ms", "How long the log cleaner rests when no compacted topic is due."),
    first("log.cleaner.dedupe.buffer.size", "Memory for the keys of what is being compacted, in bytes, all threads together: 24 bytes a key. More than 1 MiB for each thread. It is taken while a topic is compacted, no more of it than that topic needs."),
    first("log.cleaner.delete.retention.ms", "How long a compacted topic keeps tombstones, from when they are first compacted."),
    first("log.cleaner.enable", "Whether topics are compacted."),
    first("log.cleaner.io.buffer.load.factor", "How full the memory for keys may be. Fuller holds more keys and is slower."),
    first("log.cleaner.io.buffer.size", "Memory for reading and writing while topics are compacted, in bytes, all threads together."),
    first("log.cleaner.io.max.bytes.per.second", "Bytes a second that compaction reads and writes, all threads together."),
    first("log.cleaner.max.compaction.lag.ms", "Longest time until a record is compacted, however little there is to gain."),
    first("log.cleaner.min.cleanable.ratio", "Share of a log that has not been compacted, above which it is."),
    first("log.cleaner.min.compaction.lag.ms", "Time during which a record is not compacted away."),
    first("log.cleaner.threads", "How many partitions are compacted at a time."),
    first("log.cleanup.policy", "What happens to old data: `delete` whole segments, `compact` by key, both, or neither."),
    first("log.dir", "Where data is kept, when `log.dirs` is not set."),
    first("log.dirs", "Directories where data is kept; a new partition goes to the one with the fewest. Without a configuration file the default is ./ottla-data."),
    first("log.flush.interval.messages", "Records after which a partition is flushed. Unneeded for durability: see `ottla.durability`."),
    first("log.flush.interval.ms", "Longest time records stay unflushed. Unset: `log.flush.scheduler.interval.ms`. Unneeded for durability: see `ottla.durability`."),
    first("log.flush.offset.checkpoint.interval.ms", "How often the recovery points, which bound the scan after a crash, and the log start offsets are written. The recovery points also whenever 128 MiB have been flushed since."),
    first("log.flush.scheduler.interval.ms", "How often it is looked whether `flush.ms` of a topic has passed; at least each second. Also the default of `log.flush.interval.ms`."),
    first("log.index.interval.bytes", "Bytes of records between two entries of an offset index."),
    first("log.index.size.max.bytes", "Largest size of a segment's offset index; a full one rolls the segment."),
    first("log.initial.task.delay.ms", "How long after the start the first round of log maintenance runs."),
    first("log.message.timestamp.after.max.ms", "How far ahead of this node's clock a record's timestamp may be."),
    first("log.message.timestamp.before.max.ms", "How far behind this node's clock a record's timestamp may be."),
    first("log.message.timestamp.type", "Whose clock stamps records: the producer's (CreateTime) or this node's (LogAppendTime)."),
    first("log.retention.bytes", "Bytes of each partition that are kept; -1 keeps all."),
    first("log.retention.check.interval.ms", "How often old segments are looked for."),
    first("log.retention.hours", "How long records are kept, in hours; -1 keeps all. `log.retention.minutes` and `log.retention.ms` are stronger."),
    first("log.retention.minutes", "How long records are kept, in minutes. `log.retention.ms` is stronger."),
    first("log.retention.ms", "How long records are kept, in milliseconds; -1 keeps all."),
    first("log.roll.hours", "Age at which a segment is closed and a new one begun, in hours. `log.roll.ms` is stronger."),
    first("log.roll.jitter.hours", "Most that is taken off a segment's age limit at random, in hours. `log.roll.jitter.ms` is stronger."),
    first("log.roll.jitter.ms", "Most that is taken off a segment's age limit at random, in milliseconds."),
    first("log.roll.ms", "Age at which a segment is closed and a new one begun, in milliseconds."),
    first("log.segment.bytes", "Size at which a segment is closed and a new one begun."),
    first("log.segment.delete.delay.ms", "How long the files of a deleted topic or segment stay, renamed, before they are removed."),
    first("max.connection.creation.rate", "Most new connections in a second, on average over eleven seconds; faster ones wait to be accepted. A listener may have its own besides (`listener.name.NAME.`)."),
    first("max.connections", "Most connections at a time, on all listeners together; the next one waits until another ends. When it is lowered, the ones without traffic for the longest are closed. A listener may have its own besides (`listener.name.NAME.`)."),
    first("max.connections.per.ip", "Most connections from one address."),
    first("max.connections.per.ip.overrides", "Other limits for some addresses or hosts, as address:number."),
    first("max.decompressed.message.bytes", "Most bytes a compressed batch may unpack to."),
    first("max.incremental.fetch.session.cache.slots", "Most fetch sessions that are remembered."),
    first("max.request.partition.size.limit", "Most partitions in one answer to DescribeTopicPartitions; the client asks for the rest."),
    first("message.max.bytes", "Largest batch that is accepted."),
    first("metadata.log.dir", "Where the metadata log is kept. Unset: the first of `log.dirs`."),
    first("min.insync.replicas", "Replicas that must have a record before it is acknowledged to a producer with acks=all."),
    first("node.id", "This node's number. Unset: 1."),
    first("num.partitions", "Partitions of a topic that is created without saying how many."),
    first("num.recovery.threads.per.data.dir", "Partitions of one log directory that are recovered at the same time at start. Logs are recovered before the metadata is read: a value set at run time is kept, but only the file's counts."),
    first("num.replica.alter.log.dirs.threads", "How many partitions are moved between log directories at a time. Unset: as many as there are log directories."),
    first("offset.metadata.max.bytes", "Longest text a client may store with a committed offset."),
    first("offsets.commit.timeout.ms", "How long a commit may wait for its replicas."),
    first("offsets.load.buffer.size", "Bytes that are read at a time while committed offsets are loaded."),
    first("offsets.retention.check.interval.ms", "How often expired offsets are looked for."),
    first("offsets.retention.minutes", "How long the offsets of a group without members are kept."),
    first("offsets.topic.compression.codec", "Codec of the batches in `__consumer_offsets`: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd."),
    first("offsets.topic.num.partitions", "Partitions of `__consumer_offsets` when it is created."),
    first("offsets.topic.replication.factor", "Most replicas of `__consumer_offsets`; with fewer nodes than that, one on each node."),
    first("offsets.topic.segment.bytes", "Segment size of `__consumer_offsets`."),
    first("ottla.abandoned.log.directories", "Ids (`directory.id`) of log directories that are lost for good. A node that misses a directory it had refuses to start, since what was in it would begin anew, unless the id stands here."),
    first("ottla.connection.max.inflight.requests", "Requests of one connection that may be under way before its socket is no longer read."),
    first("ottla.durability", "When an append is acknowledged: `fsync`, once it is flushed to the disk (survives power loss), or `page-cache`, once the system has it (survives the process)."),
    first("ottla.log.scrub.bytes.per.second", "How fast closed segments are read again in the background, to find bits that have changed on the disk. 0: not at all."),
    first("ottla.log.scrub.interval.ms", "How often each closed segment is read again, if the rate allows it."),
    first("ottla.memory.fetch.bytes", "Memory for fetch responses being written. When it is full, further ones get at most 64 KiB (and always one batch) each."),
    first("ottla.memory.hot.tail.bytes", "Memory for the newest batches of all partitions, from which most fetches are answered."),
    first("ottla.memory.produce.bytes", "Memory for produce requests under way. When it is full, sockets are not read; a request larger than all of it is let in, one at a time. Part of it is for small requests only."),
    first("ottla.produce.validation", "How deep produced batches are checked: `strict` looks at every record, `fast` trusts a batch whose checksum and header are right, unless the topic needs its records read."),
    first("process.roles", "What this node does. Only `broker,controller`, the default, is supported so far."),
    first("producer.id.expiration.check.interval.ms", "How often expired producer ids are looked for."),
    first("producer.id.expiration.ms", "How long the sequence numbers of an idle producer are remembered."),
    first("replica.alter.log.dirs.io.max.bytes.per.second", "Bytes a second that moving partitions between log directories reads and writes, all of them together."),
    first("replica.high.watermark.checkpoint.interval.ms", "How often the high watermarks are written."),
    first("security.inter.broker.protocol", "Only PLAINTEXT so far; another value is refused."),
    first("socket.listen.backlog.size", "Connections that may wait to be accepted. Unset: 4096. The system may cap it."),
    first("socket.receive.buffer.bytes", "Receive buffer of a connection. Unset, or -1: the system sizes it, and adjusts it as it goes."),
    first("socket.request.max.bytes", "Largest request that is read; a larger one closes the connection. A listener may have its own (`listener.name.NAME.`)."),
    first("socket.send.buffer.bytes", "Send buffer of a connection. Unset, or -1: the system sizes it, and adjusts it as it goes."),
];

/// A topic's keys, sorted by name.
#[rustfmt::skip]
pub(crate) static TOPIC: &[Honoured] = &[
    first("cleanup.policy", "What happens to old data: `delete` whole segments, `compact` by key, both, or neither."),
    first("compression.gzip.level", "Level when `compression.type` is gzip."),
    first("compression.lz4.level", "Level when `compression.type` is lz4: 9 is the fast encoder, any other the thorough one."),
    first("compression.type", "How batches are stored: with one codec, `uncompressed`, or as the `producer` sent them."),
    first("compression.zstd.level", "Level when `compression.type` is zstd."),
    first("delete.retention.ms", "How long a compacted topic keeps tombstones, from when they are first compacted. A consumer that reads from the start within this time sees every deletion."),
    first("file.delete.delay.ms", "How long deleted files stay, renamed, before they are removed."),
    first("flush.messages", "Records after which a partition is flushed. Unneeded for durability: see `ottla.durability`."),
    first("flush.ms", "Longest time records stay unflushed. Unneeded for durability: see `ottla.durability`."),
    first("index.interval.bytes", "Bytes of records between two entries of an offset index."),
    first("max.compaction.lag.ms", "Longest time until a record is compacted, however little there is to gain."),
    first("max.decompressed.message.bytes", "Most bytes a compressed batch may unpack to."),
    first("max.message.bytes", "Largest batch that is accepted."),
    first("message.timestamp.after.max.ms", "How far ahead of the node's clock a record's timestamp may be."),
    first("message.timestamp.before.max.ms", "How far behind the node's clock a record's timestamp may be."),
    first("message.timestamp.type", "Whose clock stamps records: the producer's (CreateTime) or the node's (LogAppendTime)."),
    first("min.cleanable.dirty.ratio", "Share of a log that has not been compacted, above which it is."),
    first("min.compaction.lag.ms", "Time during which a record is not compacted away."),
    first("min.insync.replicas", "Replicas that must have a record before it is acknowledged to a producer with acks=all."),
    first("ottla.durability", "When an append is acknowledged: `fsync`, once it is flushed to the disk, or `page-cache`, once the system has it."),
    first("ottla.produce.validation", "How deep produced batches are checked: `strict` or `fast`."),
    first("retention.bytes", "Bytes of each partition that are kept; -1 keeps all."),
    first("retention.ms", "How long records are kept; -1 keeps all."),
    first("segment.bytes", "Size at which a segment is closed and a new one begun."),
    first("segment.index.bytes", "Largest size of a segment's offset index; a full one rolls the segment."),
    first("segment.jitter.ms", "Most that is taken off a segment's age limit at random."),
    first("segment.ms", "Age at which a segment is closed and a new one begun."),
];

const DURABILITY: Rule = Rule::OneOf(&["fsync", "page-cache"]);
const PRODUCE_VALIDATION: Rule = Rule::OneOf(&["strict", "fast"]);

/// Server keys that Kafka does not have, sorted by name.
#[rustfmt::skip]
pub(crate) static OTTLA_BROKER_KEYS: &[Facts] = &[
    key("ottla.abandoned.log.directories", Type::List, Some(""), Rule::Any, Update::ReadOnly, &[]),
    key("ottla.connection.max.inflight.requests", Type::Int, Some("32"), Rule::Between(1, 1000), Update::ReadOnly, &[]),
    key("ottla.durability", Type::String, Some("fsync"), DURABILITY, Update::ClusterWide, &[]),
    key("ottla.log.scrub.bytes.per.second", Type::Long, Some("10485760"), Rule::AtLeast(0), Update::ClusterWide, &[]),
    key("ottla.log.scrub.interval.ms", Type::Long, Some("604800000"), Rule::AtLeast(0), Update::ClusterWide, &[]),
    key("ottla.memory.fetch.bytes", Type::Long, Some("134217728"), Rule::AtLeast(1_048_576), Update::ReadOnly, &[]),
    key("ottla.memory.hot.tail.bytes", Type::Long, Some("67108864"), Rule::AtLeast(0), Update::ReadOnly, &[]),
    key("ottla.memory.produce.bytes", Type::Long, Some("134217728"), Rule::AtLeast(1_048_576), Update::ReadOnly, &[]),
    key("ottla.produce.validation", Type::String, Some("strict"), PRODUCE_VALIDATION, Update::ClusterWide, &[]),
];

/// Topic keys that Kafka does not have, sorted by name.
#[rustfmt::skip]
pub(crate) static OTTLA_TOPIC_KEYS: &[Facts] = &[
    key("ottla.durability", Type::String, Some("fsync"), DURABILITY, Update::Topic, &["ottla.durability"]),
    key("ottla.produce.validation", Type::String, Some("strict"), PRODUCE_VALIDATION, Update::Topic, &["ottla.produce.validation"]),
];
