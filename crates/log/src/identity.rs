//! What a log directory and a partition's directory say they are: `meta.properties`, `partition.metadata`, and the mark
//! a clean stop leaves.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use ottla_rt::{Disk, OpenMode};
use ottla_types::{TopicId, Uuid};

use crate::names;

/// The largest identity file that is read.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Whose data a log directory holds (`meta.properties`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: i32,
    /// Kafka writes one since 3.7; older directories get one.
    pub directory_id: Option<Uuid>,
}

/// Why a file is not a `meta.properties`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedMetaProperties {
    #[error("it is not UTF-8")]
    NotText,
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("its version is '{0}', only version 1 can be read")]
    UnknownVersion(String),
    #[error("its {key} is '{value}'")]
    Value { key: &'static str, value: String },
}

impl MetaProperties {
    pub fn parse(bytes: &[u8]) -> Result<MetaProperties, MalformedMetaProperties> {
        let text = std::str::from_utf8(bytes).map_err(|_| MalformedMetaProperties::NotText)?;
        let mut version = None;
        let mut cluster_id = None;
        let mut node_id = None;
        let mut directory_id = None;
        for line in text.lines().map(str::trim) {
            if line.starts_with(['#', '!']) {
                continue;
            }
            let Some((key, value)) = line.split_once(['=', ':']) else { continue };
            let value = value.trim();
            match key.trim() {
                "version" => version = Some(value),
                "cluster.id" => cluster_id = Some(value),
                "node.id" => node_id = Some(value),
                "directory.id" => directory_id = Some(value),
                _ => {}
            }
        }
        let invalid = |key: &'static str, value: &str| MalformedMetaProperties::Value {
            key,
            value: value.chars().take(64).collect(),
        };
        match version {
            Some("1") => {}
            other => {
                let found = other.unwrap_or("0").chars().take(64).collect();
                return Err(MalformedMetaProperties::UnknownVersion(found));
            }
        }
        let cluster_id = cluster_id.ok_or(MalformedMetaProperties::Missing("cluster.id"))?;
        if cluster_id.is_empty() {
            return Err(invalid("cluster.id", cluster_id));
        }
        let node_id = node_id.ok_or(MalformedMetaProperties::Missing("node.id"))?;
        let parsed_node_id: i32 = node_id.parse().map_err(|_| invalid("node.id", node_id))?;
        let directory_id = match directory_id {
            Some(text) => Some(text.parse().map_err(|_| invalid("directory.id", text))?),
            None => None,
        };
        Ok(MetaProperties { cluster_id: cluster_id.to_owned(), node_id: parsed_node_id, directory_id })
    }

    pub fn format(&self) -> String {
        let mut text = format!("#\ncluster.id={}\n", self.cluster_id);
        if let Some(directory_id) = self.directory_id {
            let _ = writeln!(text, "directory.id={directory_id}");
        }
        let _ = write!(text, "node.id={}\nversion=1\n", self.node_id);
        text
    }

    /// `None` when the directory, or the file in it, does not exist.
    pub(crate) fn read(
        disk: &dyn Disk,
        directory: &Path,
    ) -> io::Result<Option<Result<MetaProperties, MalformedMetaProperties>>> {
        Ok(read_if_there(disk, &directory.join(names::META_PROPERTIES))?.map(|bytes| MetaProperties::parse(&bytes)))
    }

    pub(crate) fn write(&self, disk: &dyn Disk, directory: &Path) -> io::Result<()> {
        disk.write_file_atomically(&directory.join(names::META_PROPERTIES), self.format().as_bytes())
    }
}

/// Why a file is not a `partition.metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not the two lines 'version: 0' and 'topic_id: <id>'")]
pub struct MalformedPartitionMetadata;

pub(crate) fn format_partition_metadata(topic_id: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

pub(crate) fn parse_partition_metadata(bytes: &[u8]) -> Result<TopicId, MalformedPartitionMetadata> {
    let text = std::str::from_utf8(bytes).map_err(|_| MalformedPartitionMetadata)?;
    let mut lines = text.lines();
    let (Some(version), Some(id), None) = (lines.next(), lines.next(), lines.next()) else {
        return Err(MalformedPartitionMetadata);
    };
    let value = |line: &'_ str, key: &str| line.strip_prefix(key).map(|rest| rest.trim().to_owned());
    if value(version, "version:").as_deref() != Some("0") {
        return Err(MalformedPartitionMetadata);
    }
    let id: TopicId = value(id, "topic_id:").and_then(|text| text.parse().ok()).ok_or(MalformedPartitionMetadata)?;
    if id.is_zero() { Err(MalformedPartitionMetadata) } else { Ok(id) }
}

/// `None` when there is no file: a directory from before topics had ids.
pub(crate) fn read_partition_metadata(
    disk: &dyn Disk,
    directory: &Path,
) -> io::Result<Option<Result<TopicId, MalformedPartitionMetadata>>> {
    Ok(read_if_there(disk, &directory.join(names::PARTITION_METADATA))?.map(|bytes| parse_partition_metadata(&bytes)))
}

/// Removes the mark of a clean stop, durably: what follows may end in a crash. Whether it was there.
pub(crate) fn take_clean_shutdown(disk: &dyn Disk, directory: &Path) -> io::Result<bool> {
    let path = directory.join(names::CLEAN_SHUTDOWN);
    if !disk.exists(&path)? {
        return Ok(false);
    }
    disk.remove_file(&path)?;
    disk.sync_dir(directory)?;
    Ok(true)
}

/// Leaves the mark of a clean stop: everything else in the directory must be durable before.
pub(crate) fn leave_clean_shutdown(disk: &dyn Disk, directory: &Path, broker_epoch: i64) -> io::Result<()> {
    let text = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    disk.write_file_atomically(&directory.join(names::CLEAN_SHUTDOWN), text.as_bytes())
}

fn read_if_there(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match disk.open(path, OpenMode::Read) {
        Ok(_) => disk.read_file(path, MAX_FILE_BYTES).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_properties_as_kafka_writes_them() {
        let id: Uuid = "tT4AADv8QQWLhAVVEOMBvQ".parse().unwrap();
        let text = b"#\n#Sat Nov 21 12:00:00 UTC 2026\ncluster.id=vPeOCWypqUOSepEvx0cbog\ndirectory.id=tT4AADv8QQWLhAVVEOMBvQ\nnode.id=7\nversion=1\n";
        let expected =
            MetaProperties { cluster_id: "vPeOCWypqUOSepEvx0cbog".to_owned(), node_id: 7, directory_id: Some(id) };
        assert_eq!(MetaProperties::parse(text), Ok(expected.clone()));
        assert_eq!(MetaProperties::parse(expected.format().as_bytes()), Ok(expected));
    }

    #[test]
    fn hostile_meta_properties() {
        use MalformedMetaProperties::{Missing, NotText, UnknownVersion, Value};
        for (text, expected) in [
            (&b""[..], UnknownVersion("0".to_owned())),
            (b"\xff", NotText),
            (b"version=2\nnode.id=1\ncluster.id=a\n", UnknownVersion("2".to_owned())),
            (b"version=1\nnode.id=1\n", Missing("cluster.id")),
            (b"version=1\ncluster.id=a\n", Missing("node.id")),
            (b"version=1\ncluster.id=a\nnode.id=x\n", Value { key: "node.id", value: "x".to_owned() }),
            (
                b"version=1\ncluster.id=a\nnode.id=1\ndirectory.id=z\n",
                Value { key: "directory.id", value: "z".to_owned() },
            ),
        ] {
            assert_eq!(MetaProperties::parse(text), Err(expected), "{:?}", text.escape_ascii());
        }
    }

    #[test]
    fn partition_metadata() {
        let id: TopicId = "tT4AADv8QQWLhAVVEOMBvQ".parse().unwrap();
        assert_eq!(format_partition_metadata(id), "version: 0\ntopic_id: tT4AADv8QQWLhAVVEOMBvQ");
        for (text, expected) in [
            ("version: 0\ntopic_id: tT4AADv8QQWLhAVVEOMBvQ", Ok(id)),
            ("version: 0\ntopic_id: tT4AADv8QQWLhAVVEOMBvQ\n", Ok(id)),
            ("", Err(MalformedPartitionMetadata)),
            ("version: 0", Err(MalformedPartitionMetadata)),
            ("version: 1\ntopic_id: tT4AADv8QQWLhAVVEOMBvQ", Err(MalformedPartitionMetadata)),
            ("version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA", Err(MalformedPartitionMetadata)),
            ("version: 0\ntopic_id: tT4AADv8QQWL", Err(MalformedPartitionMetadata)),
        ] {
            assert_eq!(parse_partition_metadata(text.as_bytes()), expected, "{text:?}");
        }
    }
}
