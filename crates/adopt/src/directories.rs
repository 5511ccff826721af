//! The directories of a node of Apache Kafka's: which there are, whose they are, which of them has the metadata.

use std::io;
use std::path::{Path, PathBuf};

use ottla_image::ImageError;
use ottla_log::{DirectorySurvey, KAFKA_METADATA_DIRECTORY, LogError, MetaProperties};
use ottla_quorum::{ImportError, METADATA_DIRECTORY};
use ottla_rt::Disk;
use ottla_types::NodeId;

use crate::metadata_log::MetadataLogError;

/// Why a directory cannot even be judged. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    #[error("cannot {operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("there is no directory {}", .0.display())]
    NoDirectory(PathBuf),
    #[error("no directory is given")]
    NoDirectories,
    #[error("{} is given twice", .0.display())]
    GivenTwice(PathBuf),
    #[error("{} is no log directory of Apache Kafka: it has no meta.properties", .0.display())]
    NotKafka(PathBuf),
    #[error("{} is Ottla's own: there is nothing of Apache Kafka in it to adopt", .0.display())]
    Ours(PathBuf),
    #[error(
        "there is no {KAFKA_METADATA_DIRECTORY} in {}: name every log directory of the node, and --metadata-log-dir if \
         Kafka's configuration has metadata.log.dir", paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoMetadata { paths: Vec<PathBuf> },
    #[error("both {} and {} hold a metadata log: which one Kafka uses, its configuration says (metadata.log.dir)", first.display(), second.display())]
    TwoMetadataLogs { first: PathBuf, second: PathBuf },
    #[error("{} belongs to cluster {found}, {} to cluster {expected}", path.display(), first.display())]
    OtherCluster { first: PathBuf, expected: String, path: PathBuf, found: String },
    #[error("{} belongs to node {found}, {} to node {expected}", path.display(), first.display())]
    OtherNode { first: PathBuf, expected: i32, path: PathBuf, found: i32 },
    #[error("{} and {} have the same directory id: one is a copy of the other", first.display(), second.display())]
    Copy { first: PathBuf, second: PathBuf },
    #[error(transparent)]
    MetadataLog(#[from] MetadataLogError),
    #[error("Kafka's metadata does not make sense as a whole: {0}")]
    Metadata(#[from] ImageError),
    #[error("our metadata cannot be written: {0}")]
    Import(#[from] ImportError),
}

/// The directories as they were given.
#[derive(Clone, Copy)]
pub(crate) struct KafkaDirectories<'a> {
    pub(crate) log_dirs: &'a [PathBuf],
    pub(crate) metadata_log_dir: Option<&'a Path>,
}

impl KafkaDirectories<'_> {
    /// Every directory there is to look at, the one of the metadata last if it is apart.
    pub(crate) fn all(self, disk: &dyn Disk) -> Result<Vec<PathBuf>, AdoptError> {
        if self.log_dirs.is_empty() {
            return Err(AdoptError::NoDirectories);
        }
        let mut paths: Vec<PathBuf> = Vec::new();
        for path in self.log_dirs {
            if paths.contains(path) {
                return Err(AdoptError::GivenTwice(path.clone()));
            }
            paths.push(path.clone());
        }
        if let Some(path) = self.metadata_log_dir
            && !paths.iter().any(|other| other == path)
        {
            paths.push(path.to_path_buf());
        }
        for path in &paths {
            if !disk.exists(path).map_err(io_error("look for", path))? {
                return Err(AdoptError::NoDirectory(path.clone()));
            }
        }
        Ok(paths)
    }

    /// Which of the directories has Kafka's metadata log.
    pub(crate) fn with_metadata(self, disk: &dyn Disk, surveys: &[DirectorySurvey]) -> Result<usize, AdoptError> {
        let with_log = |survey: &DirectorySurvey| match self.metadata_log_dir {
            Some(path) => survey.path == path && survey.has_kafka_metadata,
            None => survey.has_kafka_metadata,
        };
        let mut found = surveys.iter().enumerate().filter(|(_, survey)| with_log(survey));
        match (found.next(), found.next()) {
            (Some((_, first)), Some((_, second))) => {
                Err(AdoptError::TwoMetadataLogs { first: first.path.clone(), second: second.path.clone() })
            }
            (Some((place, _)), None) => Ok(place),
            (None, _) => {
                for survey in surveys {
                    let ours = survey.path.join(METADATA_DIRECTORY);
                    if disk.exists(&ours).map_err(io_error("look for", &ours))? {
                        return Err(AdoptError::Ours(survey.path.clone()));
                    }
                }
                Err(AdoptError::NoMetadata { paths: surveys.iter().map(|survey| survey.path.clone()).collect() })
            }
        }
    }
}

/// The cluster and node that all directories belong to.
pub(crate) fn whose(surveys: &[DirectorySurvey]) -> Result<(String, NodeId), AdoptError> {
    let mut first: Option<(&DirectorySurvey, &MetaProperties)> = None;
    for (place, survey) in surveys.iter().enumerate() {
        let meta = survey.meta.as_ref().ok_or_else(|| AdoptError::NotKafka(survey.path.clone()))?;
        for other in &surveys[..place] {
            let id = other.meta.as_ref().and_then(|other| other.directory_id);
            if id.is_some() && id == meta.directory_id {
                return Err(AdoptError::Copy { first: other.path.clone(), second: survey.path.clone() });
            }
        }
        let Some((other, expected)) = first else {
            first = Some((survey, meta));
            continue;
        };
        let (first, path) = (other.path.clone(), survey.path.clone());
        if expected.cluster_id != meta.cluster_id {
            let (expected, found) = (expected.cluster_id.clone(), meta.cluster_id.clone());
            return Err(AdoptError::OtherCluster { first, expected, path, found });
        }
        if expected.node_id != meta.node_id {
            let (expected, found) = (expected.node_id, meta.node_id);
            return Err(AdoptError::OtherNode { first, expected, path, found });
        }
    }
    let (_, meta) = first.ok_or(AdoptError::NoDirectories)?;
    Ok((meta.cluster_id.clone(), NodeId(meta.node_id)))
}

pub(crate) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AdoptError {
    let path = path.to_path_buf();
    move |source| AdoptError::Io { operation, path, source }
}
