//! What is in a log directory, looked at without changing anything: for tools, and before a directory is taken over.

use std::io;
use std::path::{Path, PathBuf};

use ottla_record::{CURRENT_MAGIC, MAGIC_OFFSET};
use ottla_rt::{Disk, DiskLock, OpenMode};
use ottla_types::{TopicId, TopicPartition};

use crate::checkpoint::{self, CheckpointError};
use crate::error::LogError;
use crate::forgotten_epochs::{self, EpochStretch};
use crate::identity::{self, MalformedPartitionMetadata, MetaProperties};
use crate::journal;
use crate::manager::io_error;
use crate::names::{self, DirectoryName};

/// Where Apache Kafka keeps its metadata log, inside `metadata.log.dir`.
pub const KAFKA_METADATA_DIRECTORY: &str = "__cluster_metadata-0";

/// A log directory as it is on disk.
#[derive(Clone, Debug)]
pub struct DirectorySurvey {
    pub path: PathBuf,
    /// `None`: the directory was never one of a node's.
    pub meta: Option<MetaProperties>,
    /// Whether whoever used it last has stopped in order.
    pub stopped_cleanly: bool,
    pub has_kafka_metadata: bool,
    /// The journal of a node of ours that was killed: it may have what the partitions' files do not.
    pub journal: Option<PathBuf>,
    pub partitions: Vec<PartitionSurvey>,
    /// Directories of deleted partitions, which go at the next start.
    pub deleted: usize,
    /// Names of `-future` and `-stray` directories, which are left alone.
    pub set_aside: Vec<String>,
}

/// A partition's directory as it is on disk.
#[derive(Clone, Debug)]
pub struct PartitionSurvey {
    pub topic_partition: TopicPartition,
    pub path: PathBuf,
    /// `None` without a `partition.metadata`.
    pub topic_id: Option<Result<TopicId, MalformedPartitionMetadata>>,
    pub segments: usize,
    /// Of the segments, without their indexes.
    pub bytes: u64,
    /// The highest leader epoch of its log, as far as its `leader-epoch-checkpoint` and what follows tell.
    pub latest_epoch: Option<i32>,
    /// Epochs of batches that the `leader-epoch-checkpoint` does not tell: there are none unless Kafka has led in a lower
    /// epoch than a leader before it.
    pub forgotten_epochs: Vec<EpochStretch>,
    /// A segment that begins with a batch of a format from before Kafka 0.11, which nobody reads any more.
    pub old_format: Option<OldFormat>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldFormat {
    pub segment: PathBuf,
    pub magic: i8,
}

/// In our metadata, once Kafka's was adopted: the file with its [`KafkaMetadataEnd`].
pub const ADOPTED_FROM: &str = "adopted-from";

/// The last segment of Kafka's metadata log: it grows whenever Kafka runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaMetadataEnd {
    pub segment: String,
    pub length: u64,
}

/// Looks at a log directory.
pub fn survey(disk: &dyn Disk, path: &Path) -> Result<DirectorySurvey, LogError> {
    let failed = |operation| move |source| io_error(operation, path, source);
    let meta = match MetaProperties::read(disk, path).map_err(failed("read meta.properties of"))? {
        Some(Err(reason)) => {
            return Err(LogError::MetaProperties { path: path.join(names::META_PROPERTIES), reason });
        }
        Some(Ok(meta)) => Some(meta),
        None => None,
    };
    let mut survey = DirectorySurvey {
        path: path.to_path_buf(),
        meta,
        stopped_cleanly: disk.exists(&path.join(names::CLEAN_SHUTDOWN)).map_err(failed("look into"))?,
        has_kafka_metadata: false,
        journal: journal::unsettled_file(disk, path).map_err(failed("look at the journal of"))?,
        partitions: Vec::new(),
        deleted: 0,
        set_aside: Vec::new(),
    };
    for entry in disk.read_dir(path).map_err(failed("list"))? {
        if !entry.is_dir {
            continue;
        }
        match names::parse_directory(&entry.name) {
            DirectoryName::Partition(topic_partition) => {
                survey.partitions.push(survey_partition(disk, topic_partition, &path.join(&entry.name))?);
            }
            DirectoryName::Deleted => survey.deleted += 1,
            DirectoryName::SetAside | DirectoryName::Future(_) => survey.set_aside.push(entry.name),
            DirectoryName::Foreign => survey.has_kafka_metadata |= entry.name == KAFKA_METADATA_DIRECTORY,
        }
    }
    Ok(survey)
}

fn survey_partition(
    disk: &dyn Disk,
    topic_partition: TopicPartition,
    path: &Path,
) -> Result<PartitionSurvey, LogError> {
    let topic_id = identity::read_partition_metadata(disk, path)
        .map_err(|source| io_error("read partition.metadata of", path, source))?;
    let epochs = match checkpoint::read_epochs(disk, &path.join(names::LEADER_EPOCH_CHECKPOINT)) {
        Err(CheckpointError::Io(source)) => return Err(io_error("read leader-epoch-checkpoint of", path, source)),
        // Recovery does without it, too.
        Err(CheckpointError::Malformed(_)) | Ok(None) => Vec::new(),
        Ok(Some(epochs)) => epochs,
    };
    let mut survey = PartitionSurvey {
        topic_partition,
        topic_id,
        segments: 0,
        bytes: 0,
        latest_epoch: None,
        forgotten_epochs: Vec::new(),
        old_format: None,
        path: path.to_path_buf(),
    };
    let mut segments = Vec::new();
    for entry in disk.read_dir(path).map_err(|source| io_error("list", path, source))? {
        let Some(base_offset) = names::parse_offset_file(&entry.name, names::LOG_SUFFIX).filter(|_| !entry.is_dir)
        else {
            continue;
        };
        segments.push((base_offset, entry.len));
        survey.segments += 1;
        survey.bytes += entry.len;
        let segment = path.join(&entry.name);
        // Formats only ever rise, so the first batch of a segment is its oldest.
        let magic = first_magic(disk, &segment).map_err(|source| io_error("read", &segment, source))?;
        if let Some(magic) = magic.filter(|magic| (0..CURRENT_MAGIC).contains(magic))
            && survey.old_format.is_none()
        {
            survey.old_format = Some(OldFormat { segment, magic });
        }
    }
    segments.sort_unstable();
    if survey.old_format.is_none() {
        survey.forgotten_epochs = forgotten_epochs::find(disk, path, &epochs, &segments)
            .map_err(|source| io_error("read the epochs of", path, source))?;
    }
    let told = epochs.last().map(|entry| entry.epoch);
    survey.latest_epoch = survey.forgotten_epochs.iter().map(|stretch| stretch.epoch).max().max(told);
    Ok(survey)
}

fn first_magic(disk: &dyn Disk, segment: &Path) -> io::Result<Option<i8>> {
    let mut head = [0; MAGIC_OFFSET + 1];
    let file = disk.open(segment, OpenMode::Read)?;
    match file.read_exact_at(&mut head, 0) {
        // A length of zero is no batch: a torn write, which recovery deals with.
        Ok(()) => Ok((head[8..12] != [0; 4]).then(|| i8::from_be_bytes([head[MAGIC_OFFSET]]))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Locks a directory that exists against every other process, Kafka's included.
pub fn lock_directory(disk: &dyn Disk, path: &Path) -> Result<Box<dyn DiskLock>, LogError> {
    match disk.lock(&path.join(names::LOCK_FILE)) {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(LogError::Locked(path.to_path_buf())),
        Err(source) => Err(io_error("lock", path, source)),
    }
}

/// Like [`lock_directory`], without making a lock file: where there is none, nobody uses the directory.
pub fn lock_directory_unchanged(disk: &dyn Disk, path: &Path) -> Result<Option<Box<dyn DiskLock>>, LogError> {
    let exists = disk.exists(&path.join(names::LOCK_FILE)).map_err(|source| io_error("look into", path, source))?;
    if exists { lock_directory(disk, path).map(Some) } else { Ok(None) }
}

impl KafkaMetadataEnd {
    /// Of the metadata log inside `metadata_log_dir`; `None` when there is none.
    pub fn of(disk: &dyn Disk, metadata_log_dir: &Path) -> io::Result<Option<KafkaMetadataEnd>> {
        let directory = metadata_log_dir.join(KAFKA_METADATA_DIRECTORY);
        if !disk.exists(&directory)? {
            return Ok(None);
        }
        let entries = disk.read_dir(&directory)?;
        let is_segment = |name: &str| names::parse_offset_file(name, names::LOG_SUFFIX).is_some();
        let last = entries.into_iter().rfind(|entry| !entry.is_dir && is_segment(&entry.name));
        Ok(last.map(|entry| KafkaMetadataEnd { segment: entry.name, length: entry.len }))
    }

    pub fn format(&self) -> String {
        format!("version=1\nsegment={}\nlength={}\n", self.segment, self.length)
    }

    pub fn parse(bytes: &[u8]) -> Option<KafkaMetadataEnd> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.lines();
        if lines.next()? != "version=1" {
            return None;
        }
        let segment = lines.next()?.strip_prefix("segment=")?.to_owned();
        let length = lines.next()?.strip_prefix("length=")?.parse().ok()?;
        lines.next().is_none().then_some(KafkaMetadataEnd { segment, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_kafkas_metadata_as_text() {
        let end = KafkaMetadataEnd { segment: "00000000000000000042.log".to_owned(), length: 7 };
        let text = end.format();
        assert_eq!(KafkaMetadataEnd::parse(text.as_bytes()), Some(end));
        for bad in
            ["", "version=2\nsegment=a\nlength=1\n", "version=1\nsegment=a\n", "version=1\nsegment=a\nlength=x\n"]
        {
            assert_eq!(KafkaMetadataEnd::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(KafkaMetadataEnd::parse(format!("{text}more\n").as_bytes()), None);
    }
}
