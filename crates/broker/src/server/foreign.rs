//! Directories of Apache Kafka: a node does not start on one that was not adopted, and not on one that Kafka has used
//! since. Without its metadata every partition would be one that nobody knows.

use std::io;
use std::path::Path;

use ottla_config::ServerConfig;
use ottla_log::{ADOPTED_FROM, KAFKA_METADATA_DIRECTORY, KafkaMetadataEnd, LogError};
use ottla_quorum::METADATA_DIRECTORY;
use ottla_rt::{Disk, World};

use super::StartError;

/// The mark is a few lines.
const MAX_MARK_BYTES: u64 = 4096;

/// Refuses such directories, and changes nothing.
pub(super) fn refuse(world: &World, config: &ServerConfig) -> Result<(), StartError> {
    let disk = &*world.disk;
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| LogError::Io { operation: "look for", path, source }
    };
    let metadata = config.metadata_log_dir.join(METADATA_DIRECTORY);
    if disk.exists(&metadata).map_err(failed(&metadata))? {
        if kafka_ran_since(disk, &config.metadata_log_dir, &metadata).map_err(failed(&metadata))? {
            return Err(StartError::KafkaRanSince { directory: config.metadata_log_dir.clone(), metadata });
        }
        return Ok(());
    }
    for directory in config.log_dirs.iter().chain([&config.metadata_log_dir]) {
        let kafkas = directory.join(KAFKA_METADATA_DIRECTORY);
        if disk.exists(&kafkas).map_err(failed(&kafkas))? {
            return Err(StartError::NotAdopted(directory.clone()));
        }
    }
    Ok(())
}

/// Kafka's metadata log grows with each of its starts.
fn kafka_ran_since(disk: &dyn Disk, metadata_log_dir: &Path, metadata: &Path) -> io::Result<bool> {
    let mark = metadata.join(ADOPTED_FROM);
    if !disk.exists(&mark)? {
        return Ok(false);
    }
    let Some(adopted) = KafkaMetadataEnd::parse(&disk.read_file(&mark, MAX_MARK_BYTES)?) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} cannot be read", mark.display())));
    };
    // Kafka's log may have been removed once nobody wants to go back.
    Ok(KafkaMetadataEnd::of(disk, metadata_log_dir)?.is_some_and(|now| now != adopted))
}
