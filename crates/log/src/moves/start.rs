//! What interrupted moves leave behind in the log directories.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_rt::{Disk, World};
use ottla_types::TopicPartition;

use super::mark::{self, Candidate, choose};
use super::{Move, Moves};
use crate::directory::Directory;
use crate::error::LogError;
use crate::identity;
use crate::manager::{io_error, random_uuid};
use crate::names::{self, DirectoryName};
use crate::partition::PartitionLog;

/// A `-future` directory.
pub(crate) struct FoundFuture {
    pub(crate) topic_partition: TopicPartition,
    pub(crate) directory: Arc<Directory>,
    pub(crate) path: PathBuf,
}

/// Renames for deletion what was moved away, and is still there under the partition's name. Before anything is recovered. A
/// directory that cannot be listed is passed over: whoever opens it finds that, too.
pub(crate) fn settle_duplicates(world: &World, directories: &[&Path]) -> Result<(), LogError> {
    let disk = &*world.disk;
    let mut found: BTreeMap<TopicPartition, Vec<PathBuf>> = BTreeMap::new();
    for directory in directories {
        for entry in disk.read_dir(directory).unwrap_or_default() {
            if let (true, DirectoryName::Partition(topic_partition)) =
                (entry.is_dir, names::parse_directory(&entry.name))
            {
                found.entry(topic_partition).or_default().push(directory.join(entry.name));
            }
        }
    }
    for (topic_partition, paths) in found {
        if paths.len() < 2 {
            continue;
        }
        let candidates: Vec<Candidate> = paths
            .iter()
            .map(|path| candidate(disk, path).map_err(|source| io_error("look into", path, source)))
            .collect::<Result<_, _>>()?;
        let Some(chosen) = choose(&candidates) else {
            let [first, second] = [0, 1].map(|index| paths[index].clone());
            return Err(LogError::PartitionTwice { topic_partition, first, second });
        };
        for (index, path) in paths.iter().enumerate().filter(|(index, _)| *index != chosen) {
            let parent = path.parent().unwrap_or(Path::new("."));
            let target = parent.join(names::deleted_directory(&topic_partition, random_uuid(world)));
            tracing::warn!(
                path = %path.display(), moves = candidates[index].moves, instead = %paths[chosen].display(),
                "the partition was moved away from here: what is left of it goes"
            );
            disk.rename(path, &target).map_err(|source| io_error("rename", path, source))?;
            disk.sync_dir(parent).map_err(|source| io_error("sync", parent, source))?;
        }
    }
    Ok(())
}

fn candidate(disk: &dyn Disk, path: &Path) -> io::Result<Candidate> {
    let topic_id = identity::read_partition_metadata(disk, path)?.and_then(Result::ok);
    let is_record_or_gap = |name: &str, len| match names::parse_offset_file(name, names::LOG_SUFFIX) {
        Some(base_offset) => len > 0 || base_offset > 0,
        None => false,
    };
    let was_written = disk.read_dir(path)?.iter().any(|entry| is_record_or_gap(&entry.name, entry.len));
    Ok(Candidate { topic_id, moves: mark::read(disk, path)?, was_written })
}

/// Has the copies that were found go on with their logs, and those of no use deleted. One whose log may be out of reach is
/// left alone; one of a partition that is not here is set aside. Returns what is to be removed.
pub(crate) fn sort_futures(
    world: &World,
    moves: &Moves,
    found: Vec<FoundFuture>,
    log_of: impl Fn(&TopicPartition) -> Option<Arc<PartitionLog>>,
    is_out_of_reach: impl Fn(&TopicPartition) -> bool,
) -> Vec<(Arc<Directory>, PathBuf)> {
    let disk = &*world.disk;
    let mut removed = Vec::new();
    for FoundFuture { topic_partition, directory, path } in found {
        let log = log_of(&topic_partition);
        if log.is_none() && is_out_of_reach(&topic_partition) {
            tracing::warn!(path = %path.display(), "the log that is moved here is out of reach: its copy is left alone");
            continue;
        }
        if let Some(log) = &log
            && !log.is_in(&directory)
            && moves.get(&topic_partition).is_none()
        {
            tracing::info!(%topic_partition, target = %directory.path.display(), "the move of a partition goes on");
            moves.insert(&Move::new(log, &directory, path));
            continue;
        }
        let unique = random_uuid(world);
        let name = if log.is_some() {
            names::deleted_directory(&topic_partition, unique)
        } else {
            tracing::warn!(path = %path.display(), "a copy of a partition that is not here is set aside (-stray)");
            names::stray_directory(&topic_partition, unique)
        };
        let target = directory.path.join(name);
        match disk.rename(&path, &target) {
            Ok(()) if log.is_some() => removed.push((directory, target)),
            Ok(()) => {}
            Err(error) => directory.fail("rename", &path, &error),
        }
    }
    removed
}
