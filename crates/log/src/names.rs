//! The names of files and directories, byte for byte Kafka's.

use std::path::{Path, PathBuf};

use ottla_types::{TopicPartition, Uuid, validate_topic_name};

pub(crate) const LOG_SUFFIX: &str = ".log";
pub(crate) const OFFSET_INDEX_SUFFIX: &str = ".index";
pub(crate) const TIME_INDEX_SUFFIX: &str = ".timeindex";
pub(crate) const TRANSACTION_INDEX_SUFFIX: &str = ".txnindex";
pub(crate) const SNAPSHOT_SUFFIX: &str = ".snapshot";
/// Ours; Kafka passes it over.
pub(crate) const HEADER_SUM_SUFFIX: &str = ".headersum";
/// Ours; Kafka passes it over.
pub(crate) const TRANSACTION_SUM_SUFFIX: &str = ".txnsum";
pub(crate) const DELETED_SUFFIX: &str = ".deleted";
pub(crate) const CLEANED_SUFFIX: &str = ".cleaned";
pub(crate) const SWAP_SUFFIX: &str = ".swap";
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

pub(crate) const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
pub(crate) const META_PROPERTIES: &str = "meta.properties";
pub(crate) const LOCK_FILE: &str = ".lock";
pub(crate) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
pub(crate) const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
pub(crate) const HIGH_WATERMARK_CHECKPOINT: &str = "replication-offset-checkpoint";
pub(crate) const LOG_START_CHECKPOINT: &str = "log-start-offset-checkpoint";
pub(crate) const CLEANER_CHECKPOINT: &str = "cleaner-offset-checkpoint";
/// Ours; Kafka passes it over.
pub(crate) const DOUBTS: &str = "ottla.doubts";

const DELETE_DIR_SUFFIX: &str = "-delete";
const FUTURE_DIR_SUFFIX: &str = "-future";
const STRAY_DIR_SUFFIX: &str = "-stray";
const MAX_FILE_NAME_LENGTH: usize = 255;
/// Kafka keeps its quorum's log beside the partitions; it is no partition of ours.
const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";
pub(crate) const CLUSTER_METADATA_DIRECTORY: &str = "__cluster_metadata-0";

/// `00000000000000000042.log` and its kin.
pub(crate) fn offset_file(directory: &Path, offset: i64, suffix: &str) -> PathBuf {
    debug_assert!(offset >= 0);
    directory.join(format!("{offset:020}{suffix}"))
}

/// The offset in a name with this suffix.
pub(crate) fn parse_offset_file(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// What a directory inside a log directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DirectoryName {
    Partition(TopicPartition),
    /// Renamed for deletion: nothing in it is needed.
    Deleted,
    /// A replica being moved here (`-future`), or one the controller does not know (`-stray`): left alone.
    SetAside,
    /// Not ours.
    Foreign,
}

pub(crate) fn partition_directory(topic_partition: &TopicPartition) -> String {
    topic_partition.to_string()
}

pub(crate) fn parse_directory(name: &str) -> DirectoryName {
    for (suffix, meaning) in [
        (DELETE_DIR_SUFFIX, DirectoryName::Deleted),
        (FUTURE_DIR_SUFFIX, DirectoryName::SetAside),
        (STRAY_DIR_SUFFIX, DirectoryName::SetAside),
    ] {
        // A topic may be called "a.b-delete" only with a number behind it, so the suffix decides.
        if let Some(rest) = name.strip_suffix(suffix) {
            return match rest.rsplit_once('.') {
                Some((partition, unique)) if unique.len() == 32 && parse_partition(partition).is_some() => meaning,
                _ => DirectoryName::Foreign,
            };
        }
    }
    match parse_partition(name) {
        Some(topic_partition) if &*topic_partition.topic != CLUSTER_METADATA_TOPIC => {
            DirectoryName::Partition(topic_partition)
        }
        _ => DirectoryName::Foreign,
    }
}

fn parse_partition(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    if partition.is_empty() || !partition.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Only the form that is written: "t-01" would be a second directory of t-1.
    if partition.len() > 1 && partition.starts_with('0') {
        return None;
    }
    validate_topic_name(topic).ok()?;
    Some(TopicPartition::new(topic, partition.parse().ok()?))
}

/// The name a partition's directory gets when the partition is deleted.
pub(crate) fn deleted_directory(topic_partition: &TopicPartition, unique: Uuid) -> String {
    renamed_directory(topic_partition, unique, DELETE_DIR_SUFFIX)
}

/// The name a partition's directory gets when the metadata does not know the partition.
pub(crate) fn stray_directory(topic_partition: &TopicPartition, unique: Uuid) -> String {
    renamed_directory(topic_partition, unique, STRAY_DIR_SUFFIX)
}

fn renamed_directory(topic_partition: &TopicPartition, unique: Uuid, suffix: &str) -> String {
    let unique = format!("{:032x}", u128::from_be_bytes(unique.0));
    let suffix = format!("-{}.{unique}{suffix}", topic_partition.partition);
    let topic = &topic_partition.topic;
    let kept = topic.len().min(MAX_FILE_NAME_LENGTH - suffix.len());
    format!("{}{suffix}", &topic[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories() {
        let partition = |topic: &str, number| DirectoryName::Partition(TopicPartition::new(topic, number));
        let unique = "0123456789abcdef0123456789abcdef";
        for (name, expected) in [
            ("orders-0".to_owned(), partition("orders", 0)),
            ("a-b.c-17".to_owned(), partition("a-b.c", 17)),
            (format!("orders-3.{unique}-delete"), DirectoryName::Deleted),
            (format!("orders-3.{unique}-future"), DirectoryName::SetAside),
            (format!("orders-3.{unique}-stray"), DirectoryName::SetAside),
            ("__cluster_metadata-0".to_owned(), DirectoryName::Foreign),
            ("orders".to_owned(), DirectoryName::Foreign),
            ("orders-".to_owned(), DirectoryName::Foreign),
            ("orders-00".to_owned(), DirectoryName::Foreign),
            ("orders-99999999999".to_owned(), DirectoryName::Foreign),
            ("-1".to_owned(), DirectoryName::Foreign),
            ("a/b-1".to_owned(), DirectoryName::Foreign),
            ("orders-delete".to_owned(), DirectoryName::Foreign),
        ] {
            assert_eq!(parse_directory(&name), expected, "{name}");
        }
    }

    #[test]
    fn the_longest_topic_can_be_deleted() {
        let topic_partition = TopicPartition::new("t".repeat(249), i32::MAX);
        let name = deleted_directory(&topic_partition, Uuid([0xab; 16]));
        assert_eq!(name.len(), 255);
        assert_eq!(parse_directory(&name), DirectoryName::Deleted);
        let name = stray_directory(&topic_partition, Uuid([0xab; 16]));
        assert_eq!(parse_directory(&name), DirectoryName::SetAside);
    }

    #[test]
    fn offsets_in_file_names() {
        assert_eq!(offset_file(Path::new("d"), 42, LOG_SUFFIX), Path::new("d/00000000000000000042.log"));
        for (name, expected) in [
            ("00000000000000000042.log", Some(42)),
            ("09223372036854775807.log", Some(i64::MAX)),
            ("99999999999999999999.log", None),
            ("42.log", None),
            ("+0000000000000000042.log", None),
            ("00000000000000000042.index", None),
            ("00000000000000000042.log.deleted", None),
        ] {
            assert_eq!(parse_offset_file(name, LOG_SUFFIX), expected, "{name}");
        }
    }
}
