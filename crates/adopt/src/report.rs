//! What was found in a data directory of Kafka's, what becomes of it, and what stands in the way.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ottla_log::MalformedPartitionMetadata;
use ottla_types::{TopicId, TopicPartition, Uuid};

use crate::metadata::Acl;

/// How many of many things a sentence names.
const EXAMPLES: usize = 5;

/// Everything there is to say of an adoption.
#[derive(Clone, Debug)]
pub struct Report {
    pub state: AdoptionState,
    pub cluster_id: String,
    pub node_id: i32,
    pub stopped_cleanly: bool,
    /// The directory that Kafka's metadata log is in.
    pub metadata_log_dir: PathBuf,
    pub source: Source,
    pub directories: Vec<DirectoryReport>,
    /// In the order of their names.
    pub topics: Vec<TopicReport>,
    pub configs: Vec<ConfigReport>,
    pub features: Vec<FeatureReport>,
    pub next_producer_id: i64,
    pub left_out: Vec<LeftOut>,
    pub notes: Vec<Note>,
    /// Why nothing can be adopted; empty when all is well.
    pub refusals: Vec<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdoptionState {
    /// Nothing was changed; it can be adopted.
    Adoptable,
    /// Nothing was changed, for the refusals.
    Refused,
    /// It was adopted now.
    Adopted,
    /// It had been adopted before; nothing was changed.
    AdoptedBefore,
}

/// What was read of the metadata log.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub snapshot: Option<String>,
    pub segments: usize,
    pub records: u64,
    pub end_offset: i64,
    pub torn_bytes: u64,
    pub unfinished_transaction: bool,
    pub voters: Vec<i32>,
}

#[derive(Clone, Debug)]
pub struct DirectoryReport {
    pub path: PathBuf,
    pub id: Option<Uuid>,
    pub partitions: usize,
    pub bytes: u64,
}

#[derive(Clone, Debug)]
pub struct TopicReport {
    pub name: Arc<str>,
    pub topic_id: TopicId,
    pub partitions: usize,
    /// Partitions whose directory was found.
    pub found: usize,
    pub bytes: u64,
}

/// The keys set on one resource, without their values: some are secrets.
#[derive(Clone, Debug)]
pub struct ConfigReport {
    pub resource_type: &'static str,
    pub name: Arc<str>,
    pub keys: Vec<Arc<str>>,
}

#[derive(Clone, Debug)]
pub struct FeatureReport {
    pub name: Arc<str>,
    pub level: i16,
    /// The level it has from now on; 0 where it is not supported.
    pub adopted: i16,
}

/// Something in Kafka's metadata that is not taken over.
#[derive(Clone, Debug, PartialEq)]
pub enum LeftOut {
    Acl(Acl),
    ScramCredential {
        user: Arc<str>,
        mechanism: i8,
    },
    Quota {
        entity: String,
        key: Arc<str>,
        value: f64,
    },
    DelegationToken {
        token_id: Arc<str>,
        owner: Arc<str>,
    },
    Feature {
        name: Arc<str>,
        level: i16,
    },
    /// A topic without a replica here.
    Topic(Arc<str>),
    Broker(i32),
}

impl LeftOut {
    /// What kind of thing it is, for machines.
    pub fn kind(&self) -> &'static str {
        match self {
            LeftOut::Acl(_) => "acl",
            LeftOut::ScramCredential { .. } => "scram_credential",
            LeftOut::Quota { .. } => "quota",
            LeftOut::DelegationToken { .. } => "delegation_token",
            LeftOut::Feature { .. } => "feature",
            LeftOut::Topic(_) => "topic",
            LeftOut::Broker(_) => "broker",
        }
    }

    /// Whether a cluster without it is less protected.
    pub fn protects(&self) -> bool {
        match self {
            LeftOut::Acl(_)
            | LeftOut::ScramCredential { .. }
            | LeftOut::Quota { .. }
            | LeftOut::DelegationToken { .. } => true,
            LeftOut::Feature { .. } | LeftOut::Topic(_) | LeftOut::Broker(_) => false,
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftOut::Acl(acl) => write!(
                formatter,
                "ACL: {} {} {} from host {} on {} '{}'{}",
                acl.principal,
                permission_name(acl.permission_type),
                operation_name(acl.operation),
                acl.host,
                resource_name(acl.resource_type),
                acl.resource_name,
                if acl.pattern_type == 4 { " (prefix)" } else { "" },
            ),
            LeftOut::ScramCredential { user, mechanism } => {
                let mechanism = match mechanism {
                    1 => "SCRAM-SHA-256".to_owned(),
                    2 => "SCRAM-SHA-512".to_owned(),
                    other => format!("mechanism {other}"),
                };
                write!(formatter, "{mechanism} credential of user '{user}'")
            }
            LeftOut::Quota { entity, key, value } => write!(formatter, "quota of {entity}: {key}={value}"),
            LeftOut::DelegationToken { token_id, owner } => {
                write!(formatter, "delegation token {token_id} of {owner}")
            }
            LeftOut::Feature { name, level } => {
                write!(formatter, "feature {name}, finalized at level {level}: not supported yet")
            }
            LeftOut::Topic(name) => write!(formatter, "topic {name}: none of its replicas is on this node"),
            LeftOut::Broker(id) => write!(formatter, "broker {id}"),
        }
    }
}

/// Something to know before going on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    #[error(
        "Kafka was killed, or still had partitions to close: the first start reads what was written since the last \
         checkpoints, as Kafka would"
    )]
    UncleanStop,
    #[error("the last {bytes} bytes of the metadata log are a torn write; they are left out, as Kafka would")]
    TornMetadata { bytes: u64 },
    #[error("the metadata log ends inside a transaction; its records are left out, as Kafka would")]
    UnfinishedTransaction,
    #[error(
        "the quorum has {} voters: the last records of this log may never have been committed. Take it from the \
         controller that stopped last", voters.len()
    )]
    OneOfSeveralVoters { voters: Vec<i32> },
    #[error("no directory of {} was found: {} empty", listed(partitions), begin(partitions.len()))]
    PartitionsMissing { partitions: Vec<TopicPartition> },
    #[error(
        "the metadata does not know {}: set aside with the ending -stray at the first start, nothing in it is \
         removed",
        listed_paths(directories)
    )]
    Strays { directories: Vec<PathBuf> },
    #[error("{} left alone: {}", if names.len() == 1 { "1 directory is" } else { "these directories are" }, names.join(", "))]
    SetAside { names: Vec<String> },
    #[error("{} waited for its end: {count} of deleted partitions go at the first start", if *count == 1 { "a directory" } else { "directories" })]
    Deleted { count: usize },
    #[error("{resource}: {key} is kept and not obeyed yet")]
    NotObeyed { resource: String, key: Arc<str> },
    #[error("{resource}: {reason}")]
    NotUnderstood { resource: String, reason: String },
    #[error("{partitions} partitions of topics that are partly here have no leader: their records are on other nodes")]
    PartitionsElsewhere { partitions: usize },
    #[error("{} not in sync: records acknowledged elsewhere may not be here", listed(partitions))]
    OutOfSync { partitions: Vec<TopicPartition> },
    #[error("transactions are not served yet: what a producer left open stays open")]
    Transactions,
    #[error(
        "{}: Kafka has led in lower epochs than a leader before it, and its records of them are gone. What the batches have is \
         believed",
        listed(partitions)
    )]
    ForgottenEpochs { partitions: Vec<TopicPartition> },
    #[error("{}: offsets committed there in transactions that have not ended stay pending", listed(partitions))]
    PendingOffsets { partitions: Vec<TopicPartition> },
}

/// Why a directory is not adopted. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the cluster is protected by {}, which {} not served yet: whoever reaches the port could do everything. \
         Adopt it without them with --without-security",
        counted(&[(*acls, "ACL"), (*scram_credentials, "SCRAM credential"), (*quotas, "quota"), (*delegation_tokens, "delegation token")]),
        if acls + scram_credentials + quotas + delegation_tokens == 1 { "is" } else { "are" }
    )]
    Protected { acls: usize, scram_credentials: usize, quotas: usize, delegation_tokens: usize },
    #[error(
        "the metadata quorum has the voters {}: what one of them has may not be what they agreed on. Adopt this node's \
         copy with --as-single-node",
        ids(voters)
    )]
    SeveralVoters { voters: Vec<i32> },
    #[error(
        "{} other replicas, on nodes {}: one node serves no cluster of several yet. Keep this node's replicas with \
         --as-single-node",
        have(partitions),
        ids(nodes)
    )]
    OtherReplicas { partitions: Vec<TopicPartition>, nodes: Vec<i32> },
    #[error(
        "{} not in sync on this node: records that were acknowledged may be on other nodes only. Adopt the node that \
         led them, or give these records up with --accept-out-of-sync",
        listed(partitions)
    )]
    OutOfSync { partitions: Vec<TopicPartition> },
    #[error("node {0} has no replica of anything: there is nothing to adopt")]
    NothingHere(i32),
    #[error("metadata.version {level} is newer than {newest}, the newest that is understood")]
    NewerMetadataVersion { level: i16, newest: i16 },
    #[error("a migration from ZooKeeper has begun and not ended: finish it under Kafka first")]
    ZookeeperMigration,
    #[error(
        "{} records in remote storage (remote.storage.enable), which cannot be read yet: copy them back under Kafka \
         first",
        topics_keep(topics)
    )]
    RemoteStorage { topics: Vec<Arc<str>> },
    #[error(
        "the log director{} {} of node {node_id} {} not among those given: name all of log.dirs", if ids.len() == 1 { "y" } else { "ies" },
        ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "), if ids.len() == 1 { "is" } else { "are" }
    )]
    MissingLogDirectories { node_id: i32, ids: Vec<Uuid> },
    #[error("configurations of resource type {0} are not known")]
    UnknownResourceType(i8),
    #[error(
        "{} begins with a batch of format {magic}, from before Kafka 0.11, which is not read any more (nor is it \
         written by Kafka 4): let Kafka's retention or a copy of the topic replace it first", segment.display()
    )]
    OldFormat { segment: PathBuf, magic: i8 },
    #[error("partition.metadata in {} cannot be read: {reason}", path.display())]
    PartitionMetadata { path: PathBuf, reason: MalformedPartitionMetadata },
    #[error("partition {topic_partition} is in both {} and {}", first.display(), second.display())]
    PartitionTwice { topic_partition: TopicPartition, first: PathBuf, second: PathBuf },
    #[error(
        "{} has records of an Ottla node that was killed, and the partitions may not: start that node once more and stop \
         it, before Kafka changes anything here. If Kafka has run here since, remove the file: its partitions are what \
         there is",
        .0.display()
    )]
    Journal(PathBuf),
}

impl Refusal {
    /// A name for machines.
    pub fn kind(&self) -> &'static str {
        match self {
            Refusal::Protected { .. } => "protected",
            Refusal::SeveralVoters { .. } => "several_voters",
            Refusal::OtherReplicas { .. } => "other_replicas",
            Refusal::OutOfSync { .. } => "out_of_sync",
            Refusal::NothingHere(_) => "nothing_here",
            Refusal::NewerMetadataVersion { .. } => "newer_metadata_version",
            Refusal::ZookeeperMigration => "zookeeper_migration",
            Refusal::RemoteStorage { .. } => "remote_storage",
            Refusal::MissingLogDirectories { .. } => "missing_log_directories",
            Refusal::UnknownResourceType(_) => "unknown_resource_type",
            Refusal::OldFormat { .. } => "old_format",
            Refusal::PartitionMetadata { .. } => "partition_metadata",
            Refusal::PartitionTwice { .. } => "partition_twice",
            Refusal::Journal(_) => "journal",
        }
    }
}

fn begin(count: usize) -> &'static str {
    if count == 1 { "it begins" } else { "they begin" }
}

fn listed(partitions: &[TopicPartition]) -> String {
    shortened(partitions.iter().map(ToString::to_string), partitions.len(), "partition")
}

fn have(partitions: &[TopicPartition]) -> String {
    let verb = if partitions.len() == 1 { "has" } else { "have" };
    format!("{} {verb}", listed(partitions))
}

fn topics_keep(topics: &[Arc<str>]) -> String {
    let verb = if topics.len() == 1 { "keeps" } else { "keep" };
    format!("{} {verb}", shortened(topics.iter().map(ToString::to_string), topics.len(), "topic"))
}

fn listed_paths(paths: &[PathBuf]) -> String {
    let names = paths.iter().map(|path| path.display().to_string());
    if paths.len() == 1 { names.collect() } else { shortened(names, paths.len(), "director") }
}

/// "3 partitions (a-0, a-1, b-0)", with the first few named.
fn shortened(names: impl Iterator<Item = String>, count: usize, what: &str) -> String {
    let mut named: Vec<String> = names.take(EXAMPLES).collect();
    if count > named.len() {
        named.push("...".to_owned());
    }
    let ending = match (what, count) {
        ("director", _) => "ies",
        (_, 1) => "",
        _ => "s",
    };
    format!("{count} {what}{ending} ({})", named.join(", "))
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// "1 ACL, 2 quotas", without those there are none of.
fn counted(counts: &[(usize, &str)]) -> String {
    let some = counts.iter().filter(|(count, _)| *count > 0);
    let texts: Vec<String> =
        some.map(|(count, what)| format!("{count} {what}{}", if *count == 1 { "" } else { "s" })).collect();
    texts.join(", ")
}

fn permission_name(code: i8) -> String {
    match code {
        2 => "may not".to_owned(),
        3 => "may".to_owned(),
        other => format!("permission {other}"),
    }
}

/// Kafka's `AclOperation`.
fn operation_name(code: i8) -> String {
    const NAMES: [&str; 14] = [
        "ALL",
        "READ",
        "WRITE",
        "CREATE",
        "DELETE",
        "ALTER",
        "DESCRIBE",
        "CLUSTER_ACTION",
        "DESCRIBE_CONFIGS",
        "ALTER_CONFIGS",
        "IDEMPOTENT_WRITE",
        "CREATE_TOKENS",
        "DESCRIBE_TOKENS",
        "TWO_PHASE_COMMIT",
    ];
    usize::try_from(code)
        .ok()
        .and_then(|code| NAMES.get(code.checked_sub(2)?))
        .map_or_else(|| format!("operation {code}"), |name| (*name).to_owned())
}

/// Kafka's `ResourceType`.
fn resource_name(code: i8) -> String {
    const NAMES: [&str; 6] = ["TOPIC", "GROUP", "CLUSTER", "TRANSACTIONAL_ID", "DELEGATION_TOKEN", "USER"];
    usize::try_from(code)
        .ok()
        .and_then(|code| NAMES.get(code.checked_sub(2)?))
        .map_or_else(|| format!("resource type {code}"), |name| (*name).to_owned())
}
