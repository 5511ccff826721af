//! What Kafka's metadata records amount to.
//!
//! State: topics with their partitions, configurations, brokers, finalized features, the next producer id, and what
//! protects a cluster (ACLs, SCRAM credentials, quotas, delegation tokens: who and what, never a secret). Records are
//! applied with Kafka's meaning; one that does not fit what came before is an error, as it is to Kafka's controller.
//! It decides nothing about what is taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use ottla_image::{LeaderRecoveryState, PartitionChange, PartitionRegistration, directory_id};
use ottla_protocol::StrBytes;
use ottla_protocol::records::broker_registration_change_record::BrokerRegistrationChangeRecord;
use ottla_protocol::records::clear_elr_record::ClearElrRecord;
use ottla_protocol::records::client_quota_record::ClientQuotaRecord;
use ottla_protocol::records::config_record::ConfigRecord;
use ottla_protocol::records::partition_change_record::PartitionChangeRecord;
use ottla_protocol::records::partition_record::PartitionRecord;
use ottla_protocol::records::register_broker_record::RegisterBrokerRecord;
use ottla_protocol::records::topic_record::TopicRecord;
use ottla_types::{
    InvalidTopicName, LeaderEpoch, NodeId, PartitionEpoch, TopicId, TopicPartition, Uuid, validate_topic_name,
};

use crate::record::KafkaRecord;

/// "No leader", and in a change "the leader as it was".
const NO_LEADER_CHANGE: i32 = -2;
/// "The state as it was", in a change.
const NO_STATE_CHANGE: i8 = -1;
/// Kafka's number of the resource type of topics.
const TOPIC_RESOURCE: i8 = 2;

/// Why a record does not fit the records before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("topic {0} is not known")]
    UnknownTopic(TopicId),
    #[error("partition {partition} of topic {topic_id} is not known")]
    UnknownPartition { topic_id: TopicId, partition: i32 },
    #[error("a topic's name is invalid: {0}")]
    TopicName(#[from] InvalidTopicName),
    #[error("topic '{0}' is there already")]
    TopicExists(Arc<str>),
    #[error("partition {partition} of topic {topic_id} has {directories} directories for {replicas} replicas")]
    Directories { topic_id: TopicId, partition: i32, replicas: usize, directories: usize },
    #[error("partition {partition} of topic {topic_id} has leader recovery state {state}, which is not known")]
    RecoveryState { topic_id: TopicId, partition: i32, state: i8 },
    #[error("broker {0} is not registered")]
    UnknownBroker(i32),
    #[error("broker {broker_id} is registered in epoch {existing}, not {found}")]
    BrokerEpoch { broker_id: i32, existing: i64, found: i64 },
    #[error("broker {broker_id} is fenced by {fenced}, which is neither of yes, no and as it was")]
    Fencing { broker_id: i32, fenced: i8 },
    #[error("producer ids up to {existing} are given out already, {found} goes back")]
    ProducerIds { existing: i64, found: i64 },
    #[error("a transaction begins inside another")]
    NestedTransaction,
    #[error("a transaction ends that did not begin")]
    NoTransaction,
}

/// The state that metadata records build.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KafkaMetadata {
    pub topics: BTreeMap<TopicId, KafkaTopic>,
    topic_ids: BTreeMap<Arc<str>, TopicId>,
    /// By the number of the resource type, and the name.
    pub configs: BTreeMap<(i8, Arc<str>), KafkaConfigs>,
    pub brokers: BTreeMap<i32, KafkaBroker>,
    pub features: BTreeMap<Arc<str>, i16>,
    pub next_producer_id: i64,
    /// Whether a migration from ZooKeeper has begun and not ended.
    pub zookeeper_migration: bool,
    pub acls: BTreeMap<Uuid, Acl>,
    /// User and mechanism.
    pub scram_credentials: BTreeSet<(Arc<str>, i8)>,
    pub quotas: BTreeMap<QuotaEntity, BTreeMap<Arc<str>, QuotaValue>>,
    /// Owners by the token's id.
    pub delegation_tokens: BTreeMap<Arc<str>, Arc<str>>,
}

/// The keys and values set on one resource.
pub type KafkaConfigs = BTreeMap<Arc<str>, Arc<str>>;

#[derive(Clone, Debug, PartialEq)]
pub struct KafkaTopic {
    pub name: Arc<str>,
    pub partitions: BTreeMap<i32, PartitionRegistration>,
}

/// A broker's registration, as far as it matters to others.
#[derive(Clone, Debug, PartialEq)]
pub struct KafkaBroker {
    pub incarnation_id: Uuid,
    pub epoch: i64,
    pub rack: Option<Arc<str>>,
    pub log_dirs: Vec<Uuid>,
    pub fenced: bool,
    pub in_controlled_shutdown: bool,
}

/// Who may or may not do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    pub principal: Arc<str>,
    pub host: Arc<str>,
    pub resource_type: i8,
    pub resource_name: Arc<str>,
    pub pattern_type: i8,
    pub operation: i8,
    pub permission_type: i8,
}

/// The user, client or address a quota is for; `None` is the default of all.
pub type QuotaEntity = Vec<(Arc<str>, Option<Arc<str>>)>;

/// A number with a total order, which floats lack.
#[derive(Clone, Copy, Debug)]
pub struct QuotaValue(pub f64);

impl PartialEq for QuotaValue {
    fn eq(&self, other: &Self) -> bool {
        self.0.total_cmp(&other.0).is_eq()
    }
}

impl fmt::Display for QuotaValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl KafkaMetadata {
    pub fn topic_by_name(&self, name: &str) -> Option<(TopicId, &KafkaTopic)> {
        let topic_id = *self.topic_ids.get(name)?;
        Some((topic_id, self.topics.get(&topic_id)?))
    }

    /// Whether there is anything that protects the cluster.
    pub fn is_protected(&self) -> bool {
        !(self.acls.is_empty()
            && self.scram_credentials.is_empty()
            && self.quotas.is_empty()
            && self.delegation_tokens.is_empty())
    }

    /// Applies a record. Those of transactions are [`Replay`]'s.
    fn apply(&mut self, record: KafkaRecord) -> Result<(), Misfit> {
        match record {
            KafkaRecord::Topic(record) => self.apply_topic(&record),
            KafkaRecord::RemoveTopic(record) => self.apply_remove_topic(record.topic_id),
            KafkaRecord::Partition(record) => self.apply_partition(&record),
            KafkaRecord::PartitionChange(record) => self.apply_partition_change(&record),
            KafkaRecord::ClearElr(record) => self.apply_clear_elr(&record),
            KafkaRecord::Config(record) => {
                self.apply_config(&record);
                Ok(())
            }
            KafkaRecord::RegisterBroker(record) => {
                self.apply_register_broker(&record);
                Ok(())
            }
            KafkaRecord::UnregisterBroker(record) => {
                self.broker(record.broker_id, record.broker_epoch)?;
                self.brokers.remove(&record.broker_id);
                Ok(())
            }
            KafkaRecord::BrokerRegistrationChange(record) => self.apply_broker_change(&record),
            KafkaRecord::FenceBroker(record) => {
                self.broker(record.id, record.epoch)?.fenced = true;
                Ok(())
            }
            KafkaRecord::UnfenceBroker(record) => {
                self.broker(record.id, record.epoch)?.fenced = false;
                Ok(())
            }
            KafkaRecord::FeatureLevel(record) => {
                if record.feature_level == 0 {
                    self.features.remove(record.name.as_str());
                } else {
                    self.features.insert(text(&record.name), record.feature_level);
                }
                Ok(())
            }
            KafkaRecord::ProducerIds(record) => {
                let (existing, found) = (self.next_producer_id, record.next_producer_id);
                if found < existing {
                    return Err(Misfit::ProducerIds { existing, found });
                }
                self.next_producer_id = found;
                Ok(())
            }
            KafkaRecord::ZkMigrationState(record) => {
                // None, and migrated: the two states in which ZooKeeper has no part in the cluster.
                self.zookeeper_migration = !matches!(record.zk_migration_state, 0 | 3);
                Ok(())
            }
            KafkaRecord::AccessControlEntry(_)
            | KafkaRecord::RemoveAccessControlEntry(_)
            | KafkaRecord::UserScramCredential(_)
            | KafkaRecord::RemoveUserScramCredential(_)
            | KafkaRecord::ClientQuota(_)
            | KafkaRecord::DelegationToken(_)
            | KafkaRecord::RemoveDelegationToken(_) => {
                self.apply_protection(record);
                Ok(())
            }
            // Of the quorum's own nodes; this node's own role begins anew.
            KafkaRecord::NoOp(_)
            | KafkaRecord::RegisterController(_)
            | KafkaRecord::UnregisterController(_)
            | KafkaRecord::BeginTransaction(_)
            | KafkaRecord::EndTransaction(_)
            | KafkaRecord::AbortTransaction(_) => Ok(()),
        }
    }

    fn apply_topic(&mut self, record: &TopicRecord) -> Result<(), Misfit> {
        validate_topic_name(&record.name)?;
        let name = text(&record.name);
        if self.topic_ids.contains_key(&name) || self.topics.contains_key(&record.topic_id) {
            return Err(Misfit::TopicExists(name));
        }
        self.topic_ids.insert(Arc::clone(&name), record.topic_id);
        self.topics.insert(record.topic_id, KafkaTopic { name, partitions: BTreeMap::new() });
        Ok(())
    }

    fn apply_remove_topic(&mut self, topic_id: TopicId) -> Result<(), Misfit> {
        let topic = self.topics.remove(&topic_id).ok_or(Misfit::UnknownTopic(topic_id))?;
        self.topic_ids.remove(&topic.name);
        self.configs.remove(&(TOPIC_RESOURCE, topic.name));
        Ok(())
    }

    fn apply_partition(&mut self, record: &PartitionRecord) -> Result<(), Misfit> {
        let (topic_id, partition) = (record.topic_id, record.partition_id);
        let topic = self.topics.get_mut(&topic_id).ok_or(Misfit::UnknownTopic(topic_id))?;
        if partition < 0 {
            return Err(Misfit::UnknownPartition { topic_id, partition });
        }
        let replicas = node_ids(&record.replicas);
        let directories = match record.directories.len() {
            // From before brokers told which directory a replica is in.
            0 => vec![directory_id::UNASSIGNED; replicas.len()],
            _ => record.directories.clone(),
        };
        let registration = PartitionRegistration {
            isr: node_ids(&record.isr),
            adding_replicas: node_ids(&record.adding_replicas),
            removing_replicas: node_ids(&record.removing_replicas),
            eligible_leader_replicas: record.eligible_leader_replicas.as_deref().map(node_ids).unwrap_or_default(),
            last_known_eligible_leader_replicas: record.last_known_elr.as_deref().map(node_ids).unwrap_or_default(),
            leader: leader(record.leader),
            leader_recovery_state: recovery_state(topic_id, partition, record.leader_recovery_state)?,
            leader_epoch: LeaderEpoch(record.leader_epoch),
            partition_epoch: PartitionEpoch(record.partition_epoch),
            replicas,
            directories,
        };
        check_directories(topic_id, partition, &registration)?;
        topic.partitions.insert(partition, registration);
        Ok(())
    }

    fn apply_partition_change(&mut self, record: &PartitionChangeRecord) -> Result<(), Misfit> {
        let (topic_id, partition) = (record.topic_id, record.partition_id);
        let topic = self.topics.get_mut(&topic_id).ok_or(Misfit::UnknownTopic(topic_id))?;
        let existing = topic.partitions.get_mut(&partition).ok_or(Misfit::UnknownPartition { topic_id, partition })?;
        let list = |changed: &Option<Vec<i32>>| changed.as_deref().map(node_ids);
        let change = PartitionChange {
            replicas: list(&record.replicas),
            directories: record.directories.clone(),
            isr: list(&record.isr),
            adding_replicas: list(&record.adding_replicas),
            removing_replicas: list(&record.removing_replicas),
            eligible_leader_replicas: list(&record.eligible_leader_replicas),
            last_known_eligible_leader_replicas: list(&record.last_known_elr),
            leader: (record.leader != NO_LEADER_CHANGE).then(|| leader(record.leader)),
            leader_recovery_state: match record.leader_recovery_state {
                NO_STATE_CHANGE => None,
                state => Some(recovery_state(topic_id, partition, state)?),
            },
        };
        let changed = existing.changed(&change);
        check_directories(topic_id, partition, &changed)?;
        *existing = changed;
        Ok(())
    }

    /// Without a name: of every topic.
    fn apply_clear_elr(&mut self, record: &ClearElrRecord) -> Result<(), Misfit> {
        let name = record.topic_name.as_str();
        if !name.is_empty() && !self.topic_ids.contains_key(name) {
            return Err(Misfit::UnknownTopic(Uuid::ZERO));
        }
        for topic in self.topics.values_mut().filter(|topic| name.is_empty() || *topic.name == *name) {
            for registration in topic.partitions.values_mut() {
                registration.eligible_leader_replicas.clear();
                registration.last_known_eligible_leader_replicas.clear();
            }
        }
        Ok(())
    }

    fn apply_config(&mut self, record: &ConfigRecord) {
        let resource = (record.resource_type, text(&record.resource_name));
        match &record.value {
            Some(value) => {
                self.configs.entry(resource).or_default().insert(text(&record.name), text(value));
            }
            None => {
                if let Some(configs) = self.configs.get_mut(&resource) {
                    configs.remove(record.name.as_str());
                    if configs.is_empty() {
                        self.configs.remove(&resource);
                    }
                }
            }
        }
    }

    fn apply_register_broker(&mut self, record: &RegisterBrokerRecord) {
        let broker = KafkaBroker {
            incarnation_id: record.incarnation_id,
            epoch: record.broker_epoch,
            rack: record.rack.as_ref().map(text),
            log_dirs: record.log_dirs.clone(),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
        };
        self.brokers.insert(record.broker_id, broker);
    }

    fn apply_broker_change(&mut self, record: &BrokerRegistrationChangeRecord) -> Result<(), Misfit> {
        let broker_id = record.broker_id;
        let broker = self.broker(broker_id, record.broker_epoch)?;
        match record.fenced {
            0 => {}
            1 => broker.fenced = true,
            -1 => broker.fenced = false,
            fenced => return Err(Misfit::Fencing { broker_id, fenced }),
        }
        if record.in_controlled_shutdown == 1 {
            broker.in_controlled_shutdown = true;
        }
        if !record.log_dirs.is_empty() {
            broker.log_dirs.clone_from(&record.log_dirs);
        }
        Ok(())
    }

    fn broker(&mut self, broker_id: i32, epoch: i64) -> Result<&mut KafkaBroker, Misfit> {
        let broker = self.brokers.get_mut(&broker_id).ok_or(Misfit::UnknownBroker(broker_id))?;
        if broker.epoch == epoch {
            Ok(broker)
        } else {
            Err(Misfit::BrokerEpoch { broker_id, existing: broker.epoch, found: epoch })
        }
    }

    fn apply_protection(&mut self, record: KafkaRecord) {
        match record {
            KafkaRecord::AccessControlEntry(record) => {
                let acl = Acl {
                    principal: text(&record.principal),
                    host: text(&record.host),
                    resource_type: record.resource_type,
                    resource_name: text(&record.resource_name),
                    pattern_type: record.pattern_type,
                    operation: record.operation,
                    permission_type: record.permission_type,
                };
                self.acls.insert(record.id, acl);
            }
            KafkaRecord::RemoveAccessControlEntry(record) => {
                self.acls.remove(&record.id);
            }
            KafkaRecord::UserScramCredential(record) => {
                self.scram_credentials.insert((text(&record.name), record.mechanism));
            }
            KafkaRecord::RemoveUserScramCredential(record) => {
                self.scram_credentials.remove(&(text(&record.name), record.mechanism));
            }
            KafkaRecord::ClientQuota(record) => self.apply_quota(&record),
            KafkaRecord::DelegationToken(record) => {
                self.delegation_tokens.insert(text(&record.token_id), text(&record.owner));
            }
            KafkaRecord::RemoveDelegationToken(record) => {
                self.delegation_tokens.remove(record.token_id.as_str());
            }
            _ => {}
        }
    }

    fn apply_quota(&mut self, record: &ClientQuotaRecord) {
        let entity: QuotaEntity =
            record.entity.iter().map(|part| (text(&part.entity_type), part.entity_name.as_ref().map(text))).collect();
        let key = text(&record.key);
        if !record.remove {
            self.quotas.entry(entity).or_default().insert(key, QuotaValue(record.value));
        } else if let Some(quotas) = self.quotas.get_mut(&entity) {
            quotas.remove(&key);
            if quotas.is_empty() {
                self.quotas.remove(&entity);
            }
        }
    }

    /// Every partition, in the order of the topics' names.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, TopicId, &PartitionRegistration)> {
        self.topic_ids.values().filter_map(|topic_id| Some((*topic_id, self.topics.get(topic_id)?))).flat_map(
            |(topic_id, topic)| {
                topic.partitions.iter().map(move |(partition, registration)| {
                    (TopicPartition::new(Arc::clone(&topic.name), *partition), topic_id, registration)
                })
            },
        )
    }
}

/// Applies records in the order of the log: those of a transaction count when it ends, and not when it is aborted or
/// the log ends first, in which case Kafka's next controller aborts it.
#[derive(Debug, Default)]
pub struct Replay {
    metadata: KafkaMetadata,
    /// As it was before the transaction that is open.
    before_transaction: Option<Box<KafkaMetadata>>,
}

impl Replay {
    pub fn apply(&mut self, record: KafkaRecord) -> Result<(), Misfit> {
        match record {
            KafkaRecord::BeginTransaction(_) if self.before_transaction.is_some() => Err(Misfit::NestedTransaction),
            KafkaRecord::BeginTransaction(_) => {
                self.before_transaction = Some(Box::new(self.metadata.clone()));
                Ok(())
            }
            KafkaRecord::EndTransaction(_) => self.before_transaction.take().map(drop).ok_or(Misfit::NoTransaction),
            KafkaRecord::AbortTransaction(_) => {
                self.metadata = *self.before_transaction.take().ok_or(Misfit::NoTransaction)?;
                Ok(())
            }
            record => self.metadata.apply(record),
        }
    }

    /// The metadata, and whether the log ended inside a transaction.
    pub fn finish(self) -> (KafkaMetadata, bool) {
        match self.before_transaction {
            Some(before) => (*before, true),
            None => (self.metadata, false),
        }
    }
}

fn text(text: &StrBytes) -> Arc<str> {
    Arc::from(text.as_str())
}

fn node_ids(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn leader(id: i32) -> Option<NodeId> {
    (id >= 0).then_some(NodeId(id))
}

fn recovery_state(topic_id: TopicId, partition: i32, state: i8) -> Result<LeaderRecoveryState, Misfit> {
    LeaderRecoveryState::from_code(state).ok_or(Misfit::RecoveryState { topic_id, partition, state })
}

fn check_directories(topic_id: TopicId, partition: i32, registration: &PartitionRegistration) -> Result<(), Misfit> {
    let (replicas, directories) = (registration.replicas.len(), registration.directories.len());
    if replicas == directories {
        Ok(())
    } else {
        Err(Misfit::Directories { topic_id, partition, replicas, directories })
    }
}
