//! Kafka's other keys: what Ottla does instead of obeying them, and which of them it must not ignore.

/// How a key that is not obeyed is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instead {
    /// Accepted with a warning that says this.
    Warn(&'static str),
    /// It protects the node, so ignoring it is not an option.
    RefuseProtection(&'static str),
    /// The rest of the file would mean something else without it.
    Refuse(&'static str),
}

use Instead::{Refuse, RefuseProtection, Warn};

const NO_AUTHENTICATION: &str = "clients are not authenticated yet";
const NO_AUTHORIZATION: &str = "requests are not authorized yet: everybody may do everything";
const NO_QUOTAS: &str = "quotas are not enforced yet";
const NO_POLICIES: &str = "policy classes cannot be loaded";
const NO_TLS: &str = "TLS is not built yet, and no listener uses it";
const NO_TIERED_STORAGE: &str = "tiered storage is not built yet, all data stays in the log directories";
const NO_TRANSACTIONS: &str = "transactions are not built yet";
const NO_NEW_GROUPS: &str = "groups use the classic protocol, this newer one is not built yet";
const NO_FOLLOWERS: &str = "a single node has no followers";
const ONE_VOTER: &str = "the metadata quorum has one voter, this node";
const NO_OTHER_NODES: &str = "a single node opens no connections to others";
const NO_PLUGINS: &str = "Java classes cannot be loaded";
const NO_PURGATORY: &str = "a waiting request is dropped the moment it is answered, nothing needs purging";
const AS_MANY_THREADS_AS_CORES: &str = "work runs on as many threads as the machine has cores";
const NO_PREALLOCATION: &str = "a segment's file grows with its records";
const MEMORY_BUDGETS: &str =
    "requests under way are bounded by `ottla.memory.produce.bytes` and `ottla.connection.max.inflight.requests`";
const REMOVED: &str = "Kafka removed this key before version 4.4";

/// Exact names first, then prefixes (ending in a dot); the first match counts.
#[rustfmt::skip]
static RULES: &[(&str, Instead)] = &[
    // What protects.
    ("allow.everyone.if.no.acl.found", RefuseProtection(NO_AUTHORIZATION)),
    ("alter.config.policy.class.name", RefuseProtection(NO_POLICIES)),
    ("authorizer.class.name", RefuseProtection(NO_AUTHORIZATION)),
    ("client.quota.callback.class", RefuseProtection(NO_QUOTAS)),
    ("connections.max.reauth.ms", RefuseProtection(NO_AUTHENTICATION)),
    ("create.topic.policy.class.name", RefuseProtection(NO_POLICIES)),
    ("delegation.token.secret.key", RefuseProtection(NO_AUTHENTICATION)),
    ("principal.builder.class", RefuseProtection(NO_AUTHENTICATION)),
    ("quota.consumer.default", RefuseProtection(NO_QUOTAS)),
    ("quota.producer.default", RefuseProtection(NO_QUOTAS)),
    ("ssl.client.auth", RefuseProtection(NO_AUTHENTICATION)),
    ("super.users", RefuseProtection(NO_AUTHORIZATION)),
    ("sasl.", RefuseProtection(NO_AUTHENTICATION)),
    ("config.providers", Refuse("values are taken literally, no provider is asked for them")),
    ("config.providers.", Refuse("values are taken literally, no provider is asked for them")),
    // What is only accepted.
    ("add.partitions.to.txn.retry.backoff.max.ms", Warn(NO_TRANSACTIONS)),
    ("add.partitions.to.txn.retry.backoff.ms", Warn(NO_TRANSACTIONS)),
    ("alter.log.dirs.", Warn("moves between log directories keep their rate at every moment, not over windows")),
    ("auto.include.jmx.reporter", Warn(NO_PLUGINS)),
    ("auto.leader.rebalance.enable", Warn(NO_FOLLOWERS)),
    ("background.threads", Warn(AS_MANY_THREADS_AS_CORES)),
    ("broker.heartbeat.interval.ms", Warn("a single node sends itself no heartbeats")),
    ("broker.rack", Warn("a single node has no racks to choose from")),
    ("broker.session.timeout.ms", Warn("a single node sends itself no heartbeats")),
    ("connection.failed.authentication.delay.ms", Warn(NO_AUTHENTICATION)),
    ("controlled.shutdown.enable", Warn("a single node has nobody to hand its leaderships to")),
    ("controlled.shutdown.", Warn(REMOVED)),
    ("controller.performance.", Warn("slow controller events are not reported yet")),
    ("controller.quorum.", Warn(ONE_VOTER)),
    ("controller.quota.", Warn(NO_QUOTAS)),
    ("controller.socket.timeout.ms", Warn(ONE_VOTER)),
    ("cordoned.log.dirs", Warn("new partitions may go to every log directory")),
    ("delegation.token.", Warn(NO_AUTHENTICATION)),
    ("delete.records.purgatory.purge.interval.requests", Warn(NO_PURGATORY)),
    ("early.start.listeners", Warn("all listeners open together, once the node can answer")),
    ("errors.deadletterqueue.", Warn("dead letter queues of share groups are not built yet")),
    ("fetch.purgatory.purge.interval.requests", Warn(NO_PURGATORY)),
    ("follower.fetch.last.tiered.offset.enable", Warn(NO_TIERED_STORAGE)),
    ("follower.replication.throttled.rate", Warn(NO_FOLLOWERS)),
    ("group.consumer.", Warn(NO_NEW_GROUPS)),
    ("group.coordinator.background.threads", Warn(AS_MANY_THREADS_AS_CORES)),
    ("group.coordinator.cached.buffer.max.bytes", Warn("a coordinator keeps no write buffers")),
    ("group.coordinator.new.enable", Warn(REMOVED)),
    ("group.coordinator.rebalance.protocols", Warn(NO_NEW_GROUPS)),
    ("group.coordinator.threads", Warn(AS_MANY_THREADS_AS_CORES)),
    ("group.share.", Warn("share groups are not built yet")),
    ("group.streams.", Warn("streams groups are not built yet")),
    ("initial.broker.registration.timeout.ms", Warn("a single node registers with itself at once")),
    ("inter.broker.protocol.version", Warn(REMOVED)),
    ("internal.metadata.", Warn("the metadata log has a format and limits of its own")),
    ("kafka.metrics.", Warn(NO_PLUGINS)),
    ("leader.imbalance.check.interval.seconds", Warn(NO_FOLLOWERS)),
    ("leader.replication.throttled.rate", Warn(NO_FOLLOWERS)),
    ("log.dir.failure.timeout.ms", Warn("a log directory that fails goes offline at once")),
    ("log.flush.start.offset.checkpoint.interval.ms", Warn("log start offsets are written with the recovery points, every `log.flush.offset.checkpoint.interval.ms`")),
    ("log.local.retention.bytes", Warn(NO_TIERED_STORAGE)),
    ("log.local.retention.ms", Warn(NO_TIERED_STORAGE)),
    ("log.message.downconversion.enable", Warn(REMOVED)),
    ("log.message.format.version", Warn(REMOVED)),
    ("log.message.timestamp.difference.max.ms", Warn(REMOVED)),
    ("log.preallocate", Warn(NO_PREALLOCATION)),
    ("log.remote.copy.lag.bytes", Warn(NO_TIERED_STORAGE)),
    ("log.remote.copy.lag.ms", Warn(NO_TIERED_STORAGE)),
    ("metadata.log.", Warn("the metadata log has a format and limits of its own")),
    ("metadata.max.", Warn("the metadata log has a format and limits of its own")),
    ("metric.reporters", Warn(NO_PLUGINS)),
    ("metrics.", Warn(NO_PLUGINS)),
    ("num.io.threads", Warn(AS_MANY_THREADS_AS_CORES)),
    ("num.network.threads", Warn(AS_MANY_THREADS_AS_CORES)),
    ("num.replica.fetchers", Warn(NO_FOLLOWERS)),
    ("offsets.commit.required.acks", Warn(REMOVED)),
    ("password.encoder.", Warn(REMOVED)),
    ("producer.purgatory.purge.interval.requests", Warn(NO_PURGATORY)),
    ("queued.max.request.bytes", Warn(MEMORY_BUDGETS)),
    ("queued.max.requests", Warn(MEMORY_BUDGETS)),
    ("quota.window.num", Warn(NO_QUOTAS)),
    ("quota.window.size.seconds", Warn(NO_QUOTAS)),
    ("remote.", Warn(NO_TIERED_STORAGE)),
    ("replica.selector.class", Warn(NO_FOLLOWERS)),
    ("replica.", Warn(NO_FOLLOWERS)),
    ("replication.quota.", Warn(NO_QUOTAS)),
    ("request.timeout.ms", Warn("a single node sends no requests to others")),
    ("reserved.broker.max.id", Warn(REMOVED)),
    ("rlmm.config.", Warn(NO_TIERED_STORAGE)),
    ("rsm.config.", Warn(NO_TIERED_STORAGE)),
    ("security.providers", Warn(NO_PLUGINS)),
    ("server.max.startup.time.ms", Warn("a start takes as long as recovery takes")),
    ("share.", Warn("share groups are not built yet")),
    ("socket.connection.setup.timeout.max.ms", Warn(NO_OTHER_NODES)),
    ("socket.connection.setup.timeout.ms", Warn(NO_OTHER_NODES)),
    ("ssl.", Warn(NO_TLS)),
    ("telemetry.max.bytes", Warn("clients are not asked for their metrics")),
    ("transaction.", Warn(NO_TRANSACTIONS)),
    ("transactional.id.expiration.ms", Warn(NO_TRANSACTIONS)),
    ("unclean.leader.election.enable", Warn(NO_FOLLOWERS)),
    ("unclean.leader.election.interval.ms", Warn(NO_FOLLOWERS)),
    ("unstable.api.versions.enable", Warn("unstable versions of requests are not served")),
    ("unstable.feature.versions.enable", Warn("unstable feature levels are not offered")),
    ("zookeeper.", Warn("Kafka has no ZooKeeper since version 4, and neither has Ottla")),
];

/// A topic's keys that are accepted, kept and described, but not obeyed.
#[rustfmt::skip]
static TOPIC_RULES: &[(&str, &str)] = &[
    ("errors.deadletterqueue.group.enable", "dead letter queues of share groups are not built yet"),
    ("follower.replication.throttled.replicas", NO_QUOTAS),
    ("leader.replication.throttled.replicas", NO_QUOTAS),
    ("local.retention.bytes", NO_TIERED_STORAGE),
    ("local.retention.ms", NO_TIERED_STORAGE),
    ("preallocate", NO_PREALLOCATION),
    ("remote.copy.lag.bytes", NO_TIERED_STORAGE),
    ("remote.copy.lag.ms", NO_TIERED_STORAGE),
    ("remote.log.copy.disable", NO_TIERED_STORAGE),
    ("remote.log.delete.on.disable", NO_TIERED_STORAGE),
    ("remote.storage.enable", NO_TIERED_STORAGE),
    ("unclean.leader.election.enable", NO_FOLLOWERS),
];

/// What becomes of a server key that is not in the declared table; absent where Kafka never had it either.
pub(crate) fn instead(name: &str) -> Option<Instead> {
    let matches = |pattern: &str| if pattern.ends_with('.') { name.starts_with(pattern) } else { name == pattern };
    let exact = RULES.iter().find(|(pattern, _)| *pattern == name);
    exact.or_else(|| RULES.iter().find(|(pattern, _)| matches(pattern))).map(|(_, instead)| *instead)
}

/// What becomes of a topic's key that is not in the declared table.
pub(crate) fn topic_instead(name: &str) -> Option<&'static str> {
    TOPIC_RULES.iter().find(|(key, _)| *key == name).map(|(_, instead)| *instead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{honoured_broker_key, honoured_topic_key};

    #[test]
    fn no_key_with_a_rule_of_its_own_is_declared_as_obeyed() {
        let obeyed = |name: &&str| honoured_broker_key(name).is_some();
        assert_eq!(RULES.iter().map(|(name, _)| *name).find(obeyed), None);
        let obeyed = |name: &&str| honoured_topic_key(name).is_some();
        assert_eq!(TOPIC_RULES.iter().map(|(name, _)| *name).find(obeyed), None);
    }
}
