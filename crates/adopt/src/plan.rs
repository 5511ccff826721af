//! What is taken over: a pure function of what was found and what was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use ottla_config::{LogConfig, Scope, ServerConfig, check_client_metrics, honoured_topic_keys};
use ottla_image::{
    BrokerRegistration, ConfigResource, ConfigResourceType, ImageError, LeaderRecoveryState, MetadataImage,
    MetadataRecord, PartitionRegistration, SupportedFeature, directory_id,
};
use ottla_log::{DirectorySurvey, PartitionSurvey};
use ottla_types::{BrokerEpoch, LeaderEpoch, NodeId, TopicId, TopicPartition, Uuid};

use crate::metadata::{KafkaMetadata, KafkaTopic};
use crate::metadata_log::MetadataLog;
use crate::report::{ConfigReport, FeatureReport, LeftOut, Note, Refusal, TopicReport};

pub(crate) const METADATA_VERSION: &str = "metadata.version";
/// `metadata.version` 4.4-IV2, which Kafka 4.4.0 finalizes: the newest whose records are known here.
const NEWEST_METADATA_VERSION: i16 = 33;
const TRANSACTION_STATE: &str = "__transaction_state";
const REMOTE_STORAGE: &str = "remote.storage.enable";

/// What whoever adopts has agreed to.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdoptOptions {
    /// A node of a cluster of several, on its own from now on.
    pub as_single_node: bool,
    /// Replicas that may lack acknowledged records.
    pub accept_out_of_sync: bool,
    /// ACLs, credentials, quotas and tokens go.
    pub without_security: bool,
}

/// Whose metadata it becomes.
pub(crate) struct Node<'a> {
    pub(crate) cluster_id: &'a str,
    pub(crate) node_id: NodeId,
    /// What this program supports.
    pub(crate) features: &'a [SupportedFeature],
    pub(crate) options: AdoptOptions,
    /// Milliseconds since the Unix epoch.
    pub(crate) now_ms: i64,
}

/// A decision, and everything to say about it.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The metadata from now on; not to be used when something is refused.
    pub(crate) image: MetadataImage,
    pub(crate) topics: Vec<TopicReport>,
    pub(crate) configs: Vec<ConfigReport>,
    pub(crate) features: Vec<FeatureReport>,
    /// Producer ids from here on are nobody's.
    pub(crate) next_producer_id: i64,
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) notes: Vec<Note>,
    pub(crate) refusals: Vec<Refusal>,
}

/// Decides.
pub(crate) fn plan(log: &MetadataLog, directories: &[DirectorySurvey], node: &Node<'_>) -> Result<Plan, ImageError> {
    let mut planner = Planner {
        node,
        metadata: &log.metadata,
        found: BTreeMap::new(),
        directories,
        plan: Plan::default(),
        records: vec![MetadataRecord::ClusterId { cluster_id: Arc::from(node.cluster_id) }],
    };
    planner.cluster(log);
    planner.security();
    planner.features();
    planner.directories();
    planner.broker();
    // No epoch that Kafka gave out comes again: Kafka's are offsets of its log.
    planner.records.push(MetadataRecord::NextBrokerEpoch { broker_epoch: BrokerEpoch(log.end_offset.max(0)) });
    planner.topics();
    planner.configs();
    let next_producer_id = first_producer_id(log.metadata.next_producer_id, node.now_ms);
    planner.records.push(MetadataRecord::ProducerIds {
        node_id: NodeId(-1),
        broker_epoch: BrokerEpoch(-1),
        next_producer_id,
    });
    planner.plan.next_producer_id = next_producer_id;
    let Planner { mut plan, records, .. } = planner;
    if plan.refusals.is_empty() {
        plan.image = MetadataImage::default().apply_all(&records)?;
    }
    Ok(plan)
}

struct Planner<'a> {
    node: &'a Node<'a>,
    metadata: &'a KafkaMetadata,
    directories: &'a [DirectorySurvey],
    /// Directories of partitions that the metadata knows by this topic id.
    found: BTreeMap<TopicPartition, &'a PartitionSurvey>,
    plan: Plan,
    records: Vec<MetadataRecord>,
}

impl Planner<'_> {
    fn cluster(&mut self, log: &MetadataLog) {
        let voters: Vec<i32> = log.voters.iter().copied().collect();
        if voters.len() > 1 {
            if self.node.options.as_single_node {
                self.plan.notes.push(Note::OneOfSeveralVoters { voters });
            } else {
                self.plan.refusals.push(Refusal::SeveralVoters { voters });
            }
        }
        if self.metadata.zookeeper_migration {
            self.plan.refusals.push(Refusal::ZookeeperMigration);
        }
        if log.torn_bytes > 0 {
            self.plan.notes.push(Note::TornMetadata { bytes: log.torn_bytes });
        }
        if log.unfinished_transaction {
            self.plan.notes.push(Note::UnfinishedTransaction);
        }
    }

    fn security(&mut self) {
        let metadata = self.metadata;
        let left_out = &mut self.plan.left_out;
        left_out.extend(metadata.acls.values().cloned().map(LeftOut::Acl));
        left_out.extend(
            metadata
                .scram_credentials
                .iter()
                .map(|(user, mechanism)| LeftOut::ScramCredential { user: Arc::clone(user), mechanism: *mechanism }),
        );
        for (entity, quotas) in &metadata.quotas {
            let names = entity.iter().map(|(kind, name)| format!("{kind} {}", name.as_deref().unwrap_or("(default)")));
            let entity = names.collect::<Vec<_>>().join(", ");
            left_out.extend(quotas.iter().map(|(key, value)| LeftOut::Quota {
                entity: entity.clone(),
                key: Arc::clone(key),
                value: value.0,
            }));
        }
        left_out.extend(metadata.delegation_tokens.iter().map(|(token_id, owner)| LeftOut::DelegationToken {
            token_id: Arc::clone(token_id),
            owner: Arc::clone(owner),
        }));
        if metadata.is_protected() && !self.node.options.without_security {
            self.plan.refusals.push(Refusal::Protected {
                acls: metadata.acls.len(),
                scram_credentials: metadata.scram_credentials.len(),
                quotas: metadata.quotas.values().map(BTreeMap::len).sum(),
                delegation_tokens: metadata.delegation_tokens.len(),
            });
        }
    }

    /// A feature keeps its level where it is supported. The metadata's own version is that of the records, which are
    /// ours from now on.
    fn features(&mut self) {
        let mut finalized: BTreeMap<Arc<str>, i16> = BTreeMap::new();
        for (name, &level) in &self.metadata.features {
            let supported = self.node.features.iter().find(|feature| feature.name == *name);
            let (min_level, max_level) = supported.map_or((0, 0), |feature| (feature.min_level, feature.max_level));
            let adopted = if &**name == METADATA_VERSION {
                if level > NEWEST_METADATA_VERSION {
                    let newest = NEWEST_METADATA_VERSION;
                    self.plan.refusals.push(Refusal::NewerMetadataVersion { level, newest });
                }
                max_level
            } else if (min_level..=max_level).contains(&level) {
                level
            } else {
                self.plan.left_out.push(LeftOut::Feature { name: Arc::clone(name), level });
                0
            };
            self.plan.features.push(FeatureReport { name: Arc::clone(name), level, adopted });
            finalized.insert(Arc::clone(name), adopted);
        }
        // From before features were records.
        if let Some(version) = self.node.features.iter().find(|feature| &*feature.name == METADATA_VERSION) {
            finalized.entry(Arc::clone(&version.name)).or_insert(version.max_level);
        }
        let levels = finalized.into_iter().filter(|(_, level)| *level > 0);
        self.records.extend(levels.map(|(name, level)| MetadataRecord::FeatureLevel { name, level }));
    }

    /// Which directory is which partition's.
    fn directories(&mut self) {
        let (mut strays, mut set_aside, mut deleted) = (Vec::new(), Vec::new(), 0);
        let mut seen: BTreeMap<&TopicPartition, &PartitionSurvey> = BTreeMap::new();
        for directory in self.directories {
            set_aside.extend(directory.set_aside.iter().cloned());
            deleted += directory.deleted;
            self.plan.refusals.extend(directory.journal.clone().map(Refusal::Journal));
            for partition in &directory.partitions {
                if let Some(other) = seen.insert(&partition.topic_partition, partition) {
                    self.plan.refusals.push(Refusal::PartitionTwice {
                        topic_partition: partition.topic_partition.clone(),
                        first: other.path.clone(),
                        second: partition.path.clone(),
                    });
                }
                let topic_id = match partition.topic_id {
                    Some(Err(reason)) => {
                        let path = partition.path.clone();
                        self.plan.refusals.push(Refusal::PartitionMetadata { path, reason });
                        continue;
                    }
                    Some(Ok(topic_id)) => Some(topic_id),
                    None => None,
                };
                if self.is_ours(&partition.topic_partition, topic_id) {
                    if let Some(old) = &partition.old_format {
                        let (segment, magic) = (old.segment.clone(), old.magic);
                        self.plan.refusals.push(Refusal::OldFormat { segment, magic });
                    }
                    self.found.insert(partition.topic_partition.clone(), partition);
                } else {
                    strays.push(partition.path.clone());
                }
            }
        }
        self.note_directories(strays, set_aside, deleted);
        self.missing_log_directories();
    }

    fn note_directories(&mut self, strays: Vec<PathBuf>, set_aside: Vec<String>, deleted: usize) {
        if self.directories.iter().any(|directory| !directory.stopped_cleanly) {
            self.plan.notes.push(Note::UncleanStop);
        }
        if !strays.is_empty() {
            self.plan.notes.push(Note::Strays { directories: strays });
        }
        if !set_aside.is_empty() {
            self.plan.notes.push(Note::SetAside { names: set_aside });
        }
        if deleted > 0 {
            self.plan.notes.push(Note::Deleted { count: deleted });
        }
    }

    fn is_ours(&self, topic_partition: &TopicPartition, topic_id: Option<TopicId>) -> bool {
        let Some((known, topic)) = self.metadata.topic_by_name(&topic_partition.topic) else { return false };
        let registration = topic.partitions.get(&topic_partition.partition);
        topic_id.is_none_or(|topic_id| topic_id == known)
            && registration.is_some_and(|registration| registration.replicas.contains(&self.node.node_id))
    }

    /// A directory that was not named would have its partitions begin anew, empty.
    fn missing_log_directories(&mut self) {
        let Some(broker) = self.metadata.brokers.get(&self.node.node_id.0) else { return };
        let given: BTreeSet<Uuid> = self.directory_ids().into_iter().collect();
        let missing = broker.log_dirs.iter().filter(|id| !directory_id::is_reserved(**id) && !given.contains(id));
        let ids: Vec<Uuid> = missing.copied().collect();
        if !ids.is_empty() {
            self.plan.refusals.push(Refusal::MissingLogDirectories { node_id: self.node.node_id.0, ids });
        }
    }

    fn directory_ids(&self) -> Vec<Uuid> {
        let metas = self.directories.iter().filter_map(|directory| directory.meta.as_ref());
        metas.filter_map(|meta| meta.directory_id).collect()
    }

    /// This node as Kafka knew it: its first start compares its directories with these.
    fn broker(&mut self) {
        let node_id = self.node.node_id;
        for (&id, broker) in &self.metadata.brokers {
            if id != node_id.0 {
                self.plan.left_out.push(LeftOut::Broker(id));
                continue;
            }
            if broker.epoch < 0 {
                continue;
            }
            self.records.push(MetadataRecord::RegisterBroker(BrokerRegistration {
                node_id,
                incarnation_id: broker.incarnation_id,
                broker_epoch: BrokerEpoch(broker.epoch),
                listeners: Vec::new(),
                rack: broker.rack.clone(),
                features: self.node.features.to_vec(),
                log_dirs: self.directory_ids(),
                cordoned_log_dirs: Vec::new(),
                fenced: true,
                in_controlled_shutdown: broker.in_controlled_shutdown,
            }));
        }
    }

    fn topics(&mut self) {
        let node_id = self.node.node_id;
        let (mut others, mut nodes, mut out_of_sync) = (Vec::new(), BTreeSet::new(), Vec::new());
        let (mut missing, mut elsewhere) = (Vec::new(), 0);
        let mut topics: Vec<(TopicId, &KafkaTopic)> =
            self.metadata.topics.iter().map(|(topic_id, topic)| (*topic_id, topic)).collect();
        topics.sort_by(|left, right| left.1.name.cmp(&right.1.name));
        for (topic_id, topic) in topics {
            let is_here = topic.partitions.values().any(|registration| registration.replicas.contains(&node_id));
            if !is_here && self.node.options.as_single_node {
                self.plan.left_out.push(LeftOut::Topic(Arc::clone(&topic.name)));
                continue;
            }
            let (mut found, mut bytes) = (0, 0);
            self.records.push(MetadataRecord::Topic { name: Arc::clone(&topic.name), topic_id });
            for (&partition, registration) in &topic.partitions {
                let topic_partition = TopicPartition::new(Arc::clone(&topic.name), partition);
                let foreign = registration.replicas.iter().filter(|replica| **replica != node_id);
                let foreign: Vec<i32> = foreign.map(|replica| replica.0).collect();
                if !foreign.is_empty() {
                    others.push(topic_partition.clone());
                    nodes.extend(foreign);
                }
                let adopted = if registration.replicas.contains(&node_id) {
                    if !is_in_sync(registration, node_id) {
                        out_of_sync.push(topic_partition.clone());
                    }
                    let directory = self.found.get(&topic_partition);
                    match directory {
                        Some(directory) => {
                            found += 1;
                            bytes += directory.bytes;
                        }
                        None => missing.push(topic_partition),
                    }
                    alone(registration, node_id, directory.and_then(|directory| directory.latest_epoch))
                } else {
                    elsewhere += 1;
                    PartitionRegistration { isr: Vec::new(), leader: None, ..leaderless(registration) }
                };
                self.records.push(MetadataRecord::Partition { topic_id, partition, registration: adopted });
            }
            let partitions = topic.partitions.len();
            self.plan.topics.push(TopicReport { name: Arc::clone(&topic.name), topic_id, partitions, found, bytes });
        }
        self.judge_replicas(others, nodes, out_of_sync);
        let forgotten = self.found.values().filter(|partition| !partition.forgotten_epochs.is_empty());
        let partitions: Vec<TopicPartition> = forgotten.map(|partition| partition.topic_partition.clone()).collect();
        if !partitions.is_empty() {
            self.plan.notes.push(Note::ForgottenEpochs { partitions });
        }
        if self.plan.topics.is_empty() && !self.metadata.topics.is_empty() {
            self.plan.refusals.push(Refusal::NothingHere(node_id.0));
        }
        if !missing.is_empty() {
            self.plan.notes.push(Note::PartitionsMissing { partitions: missing });
        }
        if elsewhere > 0 && self.node.options.as_single_node {
            self.plan.notes.push(Note::PartitionsElsewhere { partitions: elsewhere });
        }
        if self.metadata.topic_by_name(TRANSACTION_STATE).is_some() {
            self.plan.notes.push(Note::Transactions);
        }
    }

    fn judge_replicas(&mut self, others: Vec<TopicPartition>, nodes: BTreeSet<i32>, out_of_sync: Vec<TopicPartition>) {
        let AdoptOptions { as_single_node, accept_out_of_sync, .. } = self.node.options;
        if !others.is_empty() && !as_single_node {
            let nodes = nodes.into_iter().collect();
            self.plan.refusals.push(Refusal::OtherReplicas { partitions: others, nodes });
        }
        if out_of_sync.is_empty() {
            return;
        }
        if as_single_node && accept_out_of_sync {
            self.plan.notes.push(Note::OutOfSync { partitions: out_of_sync });
        } else {
            self.plan.refusals.push(Refusal::OutOfSync { partitions: out_of_sync });
        }
    }

    fn configs(&mut self) {
        let server = ServerConfig::load(None, &[], None, false);
        let mut remote = Vec::new();
        let topics: BTreeSet<Arc<str>> = self.plan.topics.iter().map(|topic| Arc::clone(&topic.name)).collect();
        for ((code, name), configs) in &self.metadata.configs {
            let Some(resource_type) = ConfigResourceType::from_code(*code) else {
                self.plan.refusals.push(Refusal::UnknownResourceType(*code));
                continue;
            };
            let resource = ConfigResource { resource_type, name: Arc::clone(name) };
            if resource_type == ConfigResourceType::Topic {
                // Of a topic that is left out, or that is no more.
                if !topics.contains(name) {
                    continue;
                }
                if configs.get(REMOTE_STORAGE).is_some_and(|value| &**value == "true") {
                    remote.push(Arc::clone(name));
                }
            }
            if let Ok(server) = &server {
                self.judge_configs(&server.config, &resource, configs);
            }
            self.plan.configs.push(ConfigReport {
                resource_type: resource_type.name(),
                name: Arc::clone(name),
                keys: configs.keys().cloned().collect(),
            });
            self.records.extend(configs.iter().map(|(key, value)| MetadataRecord::Config {
                resource: resource.clone(),
                key: Arc::clone(key),
                value: Some(Arc::clone(value)),
            }));
        }
        if !remote.is_empty() {
            self.plan.refusals.push(Refusal::RemoteStorage { topics: remote });
        }
    }

    /// What this program makes of settings that Kafka accepted.
    fn judge_configs(
        &mut self,
        server: &ServerConfig,
        resource: &ConfigResource,
        configs: &BTreeMap<Arc<str>, Arc<str>>,
    ) {
        let text = resource.to_string();
        let settings: BTreeMap<String, String> =
            configs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let not_understood = |reason: String| Note::NotUnderstood { resource: text.clone(), reason };
        let notes = &mut self.plan.notes;
        match resource.resource_type {
            ConfigResourceType::Topic => {
                let (_, errors) = LogConfig::resolve_kept(server, &settings);
                notes.extend(errors.into_iter().map(|error| not_understood(error.to_string())));
                let obeyed: BTreeSet<&str> = honoured_topic_keys().collect();
                let kept = configs.keys().filter(|key| ottla_config::is_topic_key(key) && !obeyed.contains(&***key));
                notes.extend(kept.map(|key| Note::NotObeyed { resource: text.clone(), key: Arc::clone(key) }));
            }
            ConfigResourceType::Broker => {
                let scope = if resource.name.is_empty() { Scope::Cluster } else { Scope::Node };
                for (key, value) in settings {
                    match server.check_dynamic(scope, &BTreeMap::from([(key, value)])) {
                        Ok(warnings) => notes.extend(warnings.iter().map(|text| not_understood(text.to_string()))),
                        Err(error) => notes.push(not_understood(error.to_string())),
                    }
                }
            }
            ConfigResourceType::Group => {
                notes.extend(server.check_group(&settings).err().map(|error| not_understood(error.to_string())));
            }
            ConfigResourceType::ClientMetrics => {
                notes.extend(check_client_metrics(&settings).err().map(|error| not_understood(error.to_string())));
            }
        }
    }
}

/// Kafka counts on from where it was, should it go on with the directory: ids are given out where it never comes, so that none is two
/// producers'. By the clock, they are above those of an earlier adoption, too.
fn first_producer_id(kafkas_next: i64, now_ms: i64) -> i64 {
    /// More than anybody gives out; and the ids stay below 2^53, up to where numbers are exact everywhere.
    const IDS_PER_SECOND: i64 = 1 << 20;
    kafkas_next.max((now_ms / 1_000).max(0).saturating_mul(IDS_PER_SECOND))
}

/// Whether a replica has everything that was acknowledged. An only replica has what there is.
fn is_in_sync(registration: &PartitionRegistration, node_id: NodeId) -> bool {
    registration.replicas.len() == 1
        || registration.isr.contains(&node_id)
        || registration.eligible_leader_replicas.contains(&node_id)
}

/// The partition with this node's replica only. Nobody leads it until the node registers, in a new leader epoch: one
/// after those of its log, which is ahead of the metadata when a power loss took the metadata's end.
fn alone(registration: &PartitionRegistration, node_id: NodeId, latest_epoch: Option<i32>) -> PartitionRegistration {
    PartitionRegistration {
        leader_epoch: registration.leader_epoch.max(LeaderEpoch(latest_epoch.unwrap_or(-1))),
        directories: vec![registration.directory(node_id).unwrap_or(directory_id::UNASSIGNED)],
        replicas: vec![node_id],
        isr: vec![node_id],
        ..leaderless(registration)
    }
}

fn leaderless(registration: &PartitionRegistration) -> PartitionRegistration {
    PartitionRegistration {
        adding_replicas: Vec::new(),
        removing_replicas: Vec::new(),
        eligible_leader_replicas: Vec::new(),
        last_known_eligible_leader_replicas: Vec::new(),
        leader: None,
        leader_recovery_state: LeaderRecoveryState::Recovered,
        ..registration.clone()
    }
}
