//! Whose the log directories are, and which of them can be used: before anything in them is opened.
//!
//! A directory that cannot be read or written is offline, and the node starts with the others. One of another node, of
//! another cluster, or in use by another process is a mistake of whoever configured the node: it does not start.

use std::io;
use std::path::{Path, PathBuf};

use ottla_rt::{Disk, DiskLock, World};
use ottla_types::Uuid;

use super::{LogSettings, io_error};
use crate::error::LogError;
use crate::identity::MetaProperties;
use crate::manager::start::random_uuid;
use crate::names;

/// The identity of a directory, if it has one; or why the directory cannot be used.
pub(super) type Found = Result<Option<MetaProperties>, LogError>;

/// The directories of a node, each with its id or why it cannot be used.
pub(super) struct Identities {
    pub(super) cluster_id: String,
    pub(super) directories: Vec<Identified>,
}

pub(super) struct Identified {
    /// `None`: it could not be read.
    pub(super) id: Option<Uuid>,
    pub(super) failed: Option<LogError>,
}

/// Reads every `meta.properties`; refuses those of another node or cluster.
pub(super) fn check(disk: &dyn Disk, settings: &LogSettings) -> Result<Vec<Found>, LogError> {
    let mut found: Vec<Found> = Vec::new();
    let mut cluster_id = settings.cluster_id.clone();
    for path in &settings.log_dirs {
        let meta = match read(disk, path) {
            Ok(Some(meta)) => meta,
            unknown => {
                found.push(unknown);
                continue;
            }
        };
        if meta.node_id != settings.node_id {
            return Err(LogError::NodeIdMismatch {
                path: path.clone(),
                expected: settings.node_id,
                found: meta.node_id,
            });
        }
        match &cluster_id {
            Some(expected) if *expected != meta.cluster_id => {
                return Err(LogError::ClusterIdMismatch {
                    path: path.clone(),
                    expected: expected.clone(),
                    found: meta.cluster_id,
                });
            }
            Some(_) => {}
            None => cluster_id = Some(meta.cluster_id.clone()),
        }
        for (other, other_path) in found.iter().zip(&settings.log_dirs) {
            if let Ok(Some(other)) = other
                && other.directory_id.is_some()
                && other.directory_id == meta.directory_id
            {
                return Err(LogError::DuplicateDirectory { first: other_path.clone(), second: path.clone() });
            }
        }
        found.push(Ok(Some(meta)));
    }
    Ok(found)
}

fn read(disk: &dyn Disk, path: &Path) -> Found {
    match MetaProperties::read(disk, path) {
        Ok(None) => Ok(None),
        Ok(Some(Ok(meta))) => Ok(Some(meta)),
        Ok(Some(Err(reason))) => Err(LogError::MetaProperties { path: path.join(names::META_PROPERTIES), reason }),
        Err(source) => Err(io_error("read meta.properties of", path, source)),
    }
}

/// The lock of a directory; or why the directory cannot be used.
pub(super) type Lock = Result<Box<dyn DiskLock>, LogError>;

/// Makes and locks the directories. Refuses one that another process has.
pub(super) fn lock(disk: &dyn Disk, paths: &[PathBuf]) -> Result<Vec<Lock>, LogError> {
    let mut locks = Vec::new();
    for path in paths {
        let made = disk.create_dir_all(path).map_err(|source| io_error("create", path, source));
        locks.push(match made {
            Err(error) => Err(error),
            Ok(()) => match disk.lock(&path.join(names::LOCK_FILE)) {
                Ok(lock) => Ok(lock),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(LogError::Locked(path.clone()));
                }
                Err(source) => Err(io_error("lock", path, source)),
            },
        });
    }
    Ok(locks)
}

/// Gives new directories their identity, durably.
pub(super) fn complete(world: &World, settings: &LogSettings, found: Vec<Found>) -> Identities {
    let known = |found: &Found| found.as_ref().ok().and_then(Option::as_ref).map(|meta| meta.cluster_id.clone());
    let cluster_id = settings
        .cluster_id
        .clone()
        .or_else(|| found.iter().find_map(known))
        .unwrap_or_else(|| random_uuid(world).to_string());
    let mut directories = Vec::new();
    for (path, found) in settings.log_dirs.iter().zip(found) {
        directories.push(match found {
            Err(error) => Identified { id: None, failed: Some(error) },
            Ok(Some(MetaProperties { directory_id: Some(id), .. })) => Identified { id: Some(id), failed: None },
            Ok(_) => match give_identity(world, settings, path, &cluster_id) {
                Ok(id) => Identified { id: Some(id), failed: None },
                Err(error) => Identified { id: None, failed: Some(error) },
            },
        });
    }
    Identities { cluster_id, directories }
}

fn give_identity(world: &World, settings: &LogSettings, path: &Path, cluster_id: &str) -> Result<Uuid, LogError> {
    sync_names_of(&*world.disk, path)?;
    let id = random_uuid(world);
    let meta = MetaProperties { cluster_id: cluster_id.to_owned(), node_id: settings.node_id, directory_id: Some(id) };
    meta.write(&*world.disk, path).map_err(|source| io_error("write meta.properties of", path, source))?;
    Ok(id)
}

/// Makes the names on the way to a new directory durable: any of them may be as new, made by a process that was killed.
fn sync_names_of(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    for ancestor in path.ancestors().skip(1) {
        let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        match disk.sync_dir(ancestor) {
            // Not ours to read, so not made by us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            result => result.map_err(|source| io_error("sync", ancestor, source))?,
        }
    }
    Ok(())
}
