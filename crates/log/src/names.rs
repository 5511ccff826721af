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
/// Ours, in the copy of a partition that is being moved: this segment of it was synced.
pub(crate) const COPIED_SUFFIX: &str = ".copied";
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

pub(crate) const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
/// Ours; Kafka passes it over.
pub(crate) const FORGOTTEN_EPOCHS: &str = "ottla-epochs";
/// Ours; Kafka passes it over.
pub(crate) const MOVE_MARK: &str = "ottla-move";
pub(crate) const META_PROPERTIES: &str = "meta.properties";
pub(crate) const LOCK_FILE: &str = ".lock";
pub(crate) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
pub(crate) const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
pub(crate) const HIGH_WATERMARK_CHECKPOINT: &str = "replication-offset-checkpoint";
pub(crate) const LOG_START_CHECKPOINT: &str = "log-start-offset-checkpoint";
/// Of our own, and no name a partition's directory can have.
pub(crate) const JOURNAL_FILES: [&str; 2] = ["ottla.journal.0", "ottla.journal.1"];
pub(crate) const RESERVE_FILE: &str = "ottla.reserve";
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
    /// A copy of a partition that is being moved here (`-future`).
    Future(TopicPartition),
    /// One the metadata does not know (`-stray`): left alone.
    SetAside,
    /// Not ours.
    Foreign,
}

pub(crate) fn partition_directory(topic_partition: &TopicPartition) -> String {
    topic_partition.to_string()
}

pub(crate) fn parse_directory(name: &str) -> DirectoryName {
    for suffix in [DELETE_DIR_SUFFIX, FUTURE_DIR_SUFFIX, STRAY_DIR_SUFFIX] {
        // A topic may be called "a.b-delete" only with a number behind it, so the suffix decides.
        let Some(rest) = name.strip_suffix(suffix) else { continue };
        let unique = rest.rsplit_once('.').filter(|(_, unique)| unique.len() == 32);
        let Some(topic_partition) = unique.and_then(|(partition, _)| parse_partition(partition)) else {
            return DirectoryName::Foreign;
        };
        return match suffix {
            DELETE_DIR_SUFFIX => DirectoryName::Deleted,
            FUTURE_DIR_SUFFIX => DirectoryName::Future(topic_partition),
            _ => DirectoryName::SetAside,
        };
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

/// The name of a partition's copy in the directory it is moved to; `None` for a topic whose name is too long for it.
pub(crate) fn future_directory(topic_partition: &TopicPartition, unique: Uuid) -> Option<String> {
    let name = format!("{topic_partition}.{:032x}{FUTURE_DIR_SUFFIX}", u128::from_be_bytes(unique.0));
    (name.len() <= MAX_FILE_NAME_LENGTH).then_some(name)
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
            (format!("orders-3.{unique}-future"), DirectoryName::Future(TopicPartition::new("orders", 3))),
            (format!("orders-03.{unique}-future"), DirectoryName::Foreign),
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
        assert_eq!(future_directory(&topic_partition, Uuid([0xab; 16])), None);
    }

    #[test]
    fn the_longest_topic_that_can_be_moved() {
        let unique = Uuid([0xab; 16]);
        let topic_partition = TopicPartition::new("t".repeat(213), 7);
        let name = future_directory(&topic_partition, unique).unwrap();
        assert_eq!(name.len(), 255);
        assert_eq!(parse_directory(&name), DirectoryName::Future(topic_partition));
        assert_eq!(future_directory(&TopicPartition::new("t".repeat(214), 7), unique), None);
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
