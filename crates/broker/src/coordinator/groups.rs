//! The group coordinator of a node: a driver for each partition of `__consumer_offsets` it leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::ServerConfig;
use ottla_group::{GroupSettings, ListedGroup};
use ottla_image::{MetadataImage, TopicImage};
use ottla_quorum::{MetadataQuorum, MetadataWatch};
use ottla_record::{Codec, Compression};
use ottla_rt::World;
use ottla_types::ErrorCode;
use parking_lot::Mutex;

use super::driver::{Answer, AppendLinger, Driver, DriverSettings, Unavailable};
use super::machine::Step;
use super::partition_log::PartitionLog;
use super::pending::Shows;
use super::state_log::CommitFailure;
use crate::fatal::Fatal;
use crate::partition::Partition;
use crate::replica_manager::ReplicaManager;
use crate::topics::CONSUMER_OFFSETS;

/// The machine that a partition's driver drives.
pub(crate) type GroupMachine = ottla_group::GroupCoordinator;

pub(crate) struct GroupCoordinator {
    driver_settings: DriverSettings,
    settings: GroupSettings,
    compression: Compression,
    quorum: Arc<dyn MetadataQuorum>,
    replicas: Arc<ReplicaManager>,
    /// By partition. What is closed stays, so that a partition which cannot be loaded is not loaded over and over.
    shards: Mutex<Shards>,
}

#[derive(Default)]
struct Shards {
    by_partition: BTreeMap<i32, Shard>,
    closed: bool,
}

struct Shard {
    partition: Arc<Partition>,
    driver: Driver<GroupMachine>,
}

impl GroupCoordinator {
    pub(crate) fn new(
        world: &World,
        config: &ServerConfig,
        quorum: Arc<dyn MetadataQuorum>,
        replicas: Arc<ReplicaManager>,
        fatal: Fatal,
    ) -> GroupCoordinator {
        let codec = Codec::from_id(config.offsets.topic_compression_codec).unwrap_or_default();
        GroupCoordinator {
            driver_settings: driver_settings(world, config, fatal),
            settings: settings(config),
            compression: Compression::new(codec),
            quorum,
            replicas,
            shards: Mutex::new(Shards::default()),
        }
    }

    /// Takes up every partition that is here, and follows the metadata from then on.
    pub(crate) fn begin(self: &Arc<Self>, metadata: MetadataWatch) {
        if let Some(topic) = metadata.image().topic_by_name(CONSUMER_OFFSETS) {
            self.take_up(topic);
        }
        // The task ends with the quorum, and holds nothing that must be stopped.
        tokio::spawn(Arc::clone(self).follow(metadata));
    }

    /// Gives everything up: whoever waits is told to look for the coordinator again.
    pub(crate) fn close(&self) {
        let mut shards = self.shards.lock();
        shards.closed = true;
        for shard in std::mem::take(&mut shards.by_partition).into_values() {
            shard.driver.close();
        }
    }

    /// The partition a group belongs to; `None` before there is a topic.
    pub(crate) fn partition_of(image: &MetadataImage, group: &str) -> Option<i32> {
        let partitions = i32::try_from(image.topic_by_name(CONSUMER_OFFSETS)?.partition_count()).ok()?;
        (partitions > 0).then(|| java_hash_code(group).checked_abs().unwrap_or(0) % partitions)
    }

    /// The driver of a group, if this node coordinates it.
    pub(crate) fn driver(&self, group: &str) -> Result<Driver<GroupMachine>, Unavailable> {
        let partition = Self::partition_of(&self.quorum.image(), group).ok_or(Unavailable::NotCoordinator)?;
        self.shard(partition)
    }

    /// The groups of every partition here, in any of these states (of any, without one).
    pub(crate) async fn list(&self, states: &[&str]) -> Result<Vec<ListedGroup>, Unavailable> {
        let mut groups = Vec::new();
        for driver in self.drivers() {
            match driver.read(Shows::Everything, |machine| machine.handle_list(states)).await {
                Ok(listed) => groups.extend(listed),
                // What is not here any more is listed by whoever has it now.
                Err(Unavailable::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(groups)
    }

    fn shard(&self, partition: i32) -> Result<Driver<GroupMachine>, Unavailable> {
        let hosted = self.replicas.partition(CONSUMER_OFFSETS, partition).ok_or(Unavailable::NotCoordinator)?;
        let mut shards = self.shards.lock();
        if shards.closed {
            return Err(Unavailable::NotCoordinator);
        }
        if let Some(shard) = shards.by_partition.get(&partition) {
            if Arc::ptr_eq(&shard.partition, &hosted) {
                return Ok(shard.driver.clone());
            }
            // The topic was deleted and made anew.
            shard.driver.close();
        }
        let log = PartitionLog::new(self.replicas.logs().clone(), Arc::clone(&hosted), self.compression);
        let settings = self.settings.clone();
        let machine = move || GroupMachine::new(settings.clone());
        let driver = Driver::start(machine, Arc::new(log), self.driver_settings.clone());
        shards.by_partition.insert(partition, Shard { partition: hosted, driver: driver.clone() });
        Ok(driver)
    }

    fn drivers(&self) -> Vec<Driver<GroupMachine>> {
        self.shards.lock().by_partition.values().map(|shard| shard.driver.clone()).collect()
    }

    fn take_up(&self, topic: &TopicImage) {
        for (partition, _) in topic.partitions() {
            // What another node leads is not here.
            let _ = self.shard(partition);
        }
    }

    async fn follow(self: Arc<Self>, mut metadata: MetadataWatch) {
        while let Some(change) = metadata.changed().await {
            for topic in &change.delta.topics_deleted {
                if *topic.name == *CONSUMER_OFFSETS {
                    self.give_up();
                } else {
                    self.forget_offsets(topic).await;
                }
            }
        }
    }

    fn give_up(&self) {
        for driver in self.drivers() {
            driver.close();
        }
    }

    /// What groups committed for a topic that is gone goes too.
    async fn forget_offsets(&self, topic: &TopicImage) {
        for driver in self.drivers() {
            loop {
                let step = |machine: &mut GroupMachine, _, _| -> Step<GroupMachine, bool> {
                    machine.handle_topic_deleted(&topic.name, topic.topic_id).into()
                };
                match driver.write(step).await {
                    Ok(Answer::Now(true) | Answer::Released(_)) => break,
                    Ok(Answer::Now(false)) => {}
                    Err(error) => {
                        tracing::debug!(topic = &*topic.name, %error, "offsets of a deleted topic stay until they expire");
                        break;
                    }
                }
            }
        }
    }
}

impl Unavailable {
    /// What a client is told: to wait, to look for the coordinator, or that it will not do.
    pub(crate) fn error_code(self) -> ErrorCode {
        match self {
            Unavailable::Loading => ErrorCode::CoordinatorLoadInProgress,
            Unavailable::NotCoordinator | Unavailable::NotStored(CommitFailure::Lost) => ErrorCode::NotCoordinator,
            Unavailable::NotStored(CommitFailure::Unavailable | CommitFailure::TimedOut) => {
                ErrorCode::CoordinatorNotAvailable
            }
            Unavailable::NotStored(CommitFailure::TooLarge) => ErrorCode::UnknownServerError,
        }
    }
}

fn driver_settings(world: &World, config: &ServerConfig, fatal: Fatal) -> DriverSettings {
    DriverSettings {
        clock: Arc::clone(&world.clock),
        spawn: Arc::clone(&world.spawn),
        fatal,
        load_buffer_bytes: config.offsets.load_buffer_size,
        commit_timeout: Duration::from_millis(config.offsets.commit_timeout_ms.max(0) as u64),
        append_linger: u32::try_from(config.groups.append_linger_ms)
            .map_or(AppendLinger::Adaptive, AppendLinger::Millis),
    }
}

fn settings(config: &ServerConfig) -> GroupSettings {
    GroupSettings {
        initial_rebalance_delay_ms: i64::from(config.groups.initial_rebalance_delay_ms),
        min_session_timeout_ms: config.groups.min_session_timeout_ms,
        max_session_timeout_ms: config.groups.max_session_timeout_ms,
        max_size: config.groups.max_size,
        offset_metadata_max_bytes: usize::try_from(config.offsets.metadata_max_bytes).unwrap_or(0),
        offsets_retention_ms: config.offsets.retention_ms,
        offsets_retention_check_interval_ms: config.offsets.retention_check_interval_ms,
        ..GroupSettings::default()
    }
}

/// `java.lang.String.hashCode`: clients and tools compute a group's partition too.
fn java_hash_code(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ottla_config::ServerConfig;
    use ottla_rt::memory::MemoryWorld;

    use super::{AppendLinger, Fatal, driver_settings, java_hash_code, settings};

    #[test]
    fn the_nodes_keys_arrive_at_drivers_and_groups() {
        let keys = [
            ("offsets.load.buffer.size", "1001"),
            ("offsets.commit.timeout.ms", "1002"),
            ("group.coordinator.append.linger.ms", "1003"),
            ("group.initial.rebalance.delay.ms", "1004"),
            ("offsets.retention.minutes", "2"),
            ("offsets.retention.check.interval.ms", "1005"),
        ];
        let sets: Vec<_> = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let config = ServerConfig::load(None, &sets, None, true).unwrap().config;
        let world = MemoryWorld::new(1).world();
        let driver = driver_settings(&world, &config, Fatal::default());
        assert_eq!((driver.load_buffer_bytes, driver.commit_timeout), (1001, Duration::from_millis(1002)));
        assert_eq!(driver.append_linger, AppendLinger::Millis(1003));
        let group = settings(&config);
        assert_eq!((group.initial_rebalance_delay_ms, group.offsets_retention_check_interval_ms), (1004, 1005));
        assert_eq!(group.offsets_retention_ms, 120_000);
        let driver = driver_settings(&world, &ServerConfig::default(), Fatal::default());
        assert_eq!(driver.append_linger, AppendLinger::Adaptive);
    }

    /// Values of Java 17.
    #[test]
    fn hashes_are_javas() {
        let cases = [
            ("", 0),
            ("a", 97),
            ("group", 98_629_247),
            ("polygenelubricants", i32::MIN),
            ("gruppe-ä-😀", -1_164_736_450),
        ];
        for (text, hash) in cases {
            assert_eq!(java_hash_code(text), hash, "{text}");
        }
    }
}
