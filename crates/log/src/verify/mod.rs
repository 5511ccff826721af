//! A check of a log directory on disk: every batch, index, snapshot and checkpoint. Nothing is changed.
//!
//! It reads what a broker has written, Apache Kafka's directories too, and tells what it finds with file, position and
//! offset. What the next start of a broker mends by itself is told, and is no problem.

mod finding;
mod indexes;
mod partition;
mod transactions;

use std::io;
use std::path::{Path, PathBuf};

use finding::Sink;
pub use finding::{Finding, Issue, VerifyReport, VerifySummary};
use ottla_rt::{DirEntry, Disk};
use ottla_types::TopicPartition;
use partition::Known;

use crate::checkpoint::{self, CheckpointError, OffsetCheckpoint};
use crate::identity::MetaProperties;
use crate::names::{self, DirectoryName};

/// Checks a log directory, or the directory of one partition. `in_use`: somebody may be writing, so ends may be torn.
///
/// An error means that the directory itself cannot be listed.
pub fn verify(disk: &dyn Disk, path: &Path, in_use: bool, report: &mut dyn VerifyReport) -> io::Result<VerifySummary> {
    let entries = disk.read_dir(path)?;
    if entries.iter().any(|entry| names::parse_offset_file(&entry.name, names::LOG_SUFFIX).is_some()) {
        let mut sink = Sink::new(report, bytes_of(disk, path));
        let parent = LogDirectory::read(disk, path.parent().unwrap_or(Path::new("..")), in_use, None);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        partition::verify(disk, path, parent.known(name), &mut sink);
        return Ok(sink.summary);
    }
    let partitions: Vec<(PathBuf, &DirEntry)> =
        entries.iter().filter(|entry| is_partition(entry)).map(|entry| (path.join(&entry.name), entry)).collect();
    let total = partitions.iter().map(|(path, _)| bytes_of(disk, path)).sum();
    let mut sink = Sink::new(report, total);
    check_meta_properties(disk, path, &mut sink);
    let directory = LogDirectory::read(disk, path, in_use, Some(&mut sink));
    directory.check_names(&entries, &mut sink);
    for (path, entry) in &partitions {
        partition::verify(disk, path, directory.known(&entry.name), &mut sink);
    }
    Ok(sink.summary)
}

/// Whether this is the directory of a partition that is, was or will be in use. Those of deleted ones are not.
fn is_partition(entry: &DirEntry) -> bool {
    let kept = matches!(names::parse_directory(&entry.name), DirectoryName::Partition(_) | DirectoryName::SetAside);
    entry.is_dir && (kept || entry.name == names::CLUSTER_METADATA_DIRECTORY)
}

fn bytes_of(disk: &dyn Disk, path: &Path) -> u64 {
    let is_segment = |entry: &&DirEntry| names::parse_offset_file(&entry.name, names::LOG_SUFFIX).is_some();
    // One that cannot be listed is found out later.
    disk.read_dir(path).map_or(0, |entries| entries.iter().filter(is_segment).map(|entry| entry.len).sum())
}

fn check_meta_properties(disk: &dyn Disk, directory: &Path, sink: &mut Sink<'_>) {
    let path = directory.join(names::META_PROPERTIES);
    match MetaProperties::read(disk, directory) {
        Ok(Some(Ok(_))) => {}
        Ok(Some(Err(reason))) => sink.problem(&path, None, None, Issue::MetaProperties(reason)),
        Ok(None) => sink.problem(&path, None, None, Issue::FileMissing),
        Err(error) => sink.problem(&path, None, None, Issue::Unreadable(error)),
    }
}

/// What the files of a log directory say of its partitions.
struct LogDirectory {
    path: PathBuf,
    clean: bool,
    in_use: bool,
    recovery_points: OffsetCheckpoint,
    log_starts: OffsetCheckpoint,
    high_watermarks: OffsetCheckpoint,
    cleaned: OffsetCheckpoint,
}

impl LogDirectory {
    fn read(disk: &dyn Disk, path: &Path, in_use: bool, mut sink: Option<&mut Sink<'_>>) -> LogDirectory {
        let mut read = |name: &str| {
            let path = path.join(name);
            let result = checkpoint::read_offsets(disk, &path);
            let Some(sink) = &mut sink else { return result.unwrap_or_default() };
            match result {
                Ok(offsets) => {
                    sink.summary.checkpoints += u64::from(!offsets.is_empty());
                    return offsets;
                }
                Err(CheckpointError::Malformed(reason)) => sink.problem(&path, None, None, Issue::Checkpoint(reason)),
                Err(CheckpointError::Io(error)) => sink.problem(&path, None, None, Issue::Unreadable(error)),
            }
            OffsetCheckpoint::new()
        };
        LogDirectory {
            recovery_points: read(names::RECOVERY_POINT_CHECKPOINT),
            log_starts: read(names::LOG_START_CHECKPOINT),
            high_watermarks: read(names::HIGH_WATERMARK_CHECKPOINT),
            cleaned: read(names::CLEANER_CHECKPOINT),
            clean: disk.exists(&path.join(names::CLEAN_SHUTDOWN)).unwrap_or(false),
            in_use,
            path: path.to_path_buf(),
        }
    }

    /// What is known of the partition in this directory.
    fn known(&self, name: &str) -> Known {
        let DirectoryName::Partition(partition) = names::parse_directory(name) else {
            return Known { in_use: self.in_use, ..Known::default() };
        };
        Known {
            clean: self.clean,
            in_use: self.in_use,
            recovery_point: self.recovery_points.get(&partition).copied(),
            log_start_offset: self.log_starts.get(&partition).copied(),
            cleaned_to: self.cleaned.get(&partition).copied(),
        }
    }

    /// Tells of partitions that a checkpoint names and the directory does not have.
    fn check_names(&self, entries: &[DirEntry], sink: &mut Sink<'_>) {
        let here = |partition: &TopicPartition| {
            let name = partition.to_string();
            entries.binary_search_by(|entry| entry.name.as_str().cmp(name.as_str())).is_ok()
        };
        for (name, offsets) in [
            (names::RECOVERY_POINT_CHECKPOINT, &self.recovery_points),
            (names::LOG_START_CHECKPOINT, &self.log_starts),
            (names::HIGH_WATERMARK_CHECKPOINT, &self.high_watermarks),
            (names::CLEANER_CHECKPOINT, &self.cleaned),
        ] {
            for (partition, offset) in offsets.iter().filter(|(partition, _)| !here(partition)) {
                let issue = Issue::PartitionUnknown(partition.to_string());
                // A deleted partition stays in the checkpoints until they are next written, at the latest when a node stops.
                let settled = self.clean && !self.in_use;
                let lost = settled && name == names::RECOVERY_POINT_CHECKPOINT && *offset > 0;
                let path = self.path.join(name);
                if lost {
                    sink.problem(&path, None, Some(*offset), issue);
                } else {
                    sink.note(&path, None, Some(*offset), issue);
                }
            }
        }
    }
}
