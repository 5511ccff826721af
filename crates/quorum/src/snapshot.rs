//! Snapshots: an image and the place in the log it stands for, in one file.
//!
//! A file is written under another name, synced, renamed, and its directory synced; the one before is removed then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ottla_image::{MetadataImage, decode_records, encode_records};
use ottla_rt::Disk;

use crate::bytes_io::{Malformed, Reader, crc32c, put_membership, put_optional_log_id};
use crate::recovery::{RecoveryError, io_error};
use crate::types::{RaftLogId, RaftSnapshotMeta, RaftStoredMembership};

const FORMAT_VERSION: u16 = 1;
pub(crate) const MAGIC: &[u8; 8] = b"OttlaMdS";
const SUFFIX: &str = ".snapshot";
const MAX_FILE_SIZE: u64 = 4 << 30;

/// A snapshot as openraft passes it on: the bytes of its file.
pub(crate) type SnapshotBytes = Bytes;

/// Why bytes are not a snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("the snapshot has format version {0}, which a newer version of this program wrote")]
    NewerFormat(u16),
    #[error("the snapshot is damaged")]
    Damaged,
    #[error("the records of the snapshot cannot be read: {0}")]
    Records(#[from] ottla_image::DecodeError),
    #[error("the records of the snapshot do not fit together: {0}")]
    Image(#[from] ottla_image::ImageError),
}

impl From<Malformed> for SnapshotError {
    fn from(Malformed: Malformed) -> Self {
        SnapshotError::Damaged
    }
}

/// A snapshot that was read.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) meta: RaftSnapshotMeta,
    pub(crate) image: MetadataImage,
}

pub(crate) fn encode(meta: &RaftSnapshotMeta, image: &MetadataImage) -> SnapshotBytes {
    let mut output = Vec::new();
    output.extend(MAGIC);
    output.extend(FORMAT_VERSION.to_be_bytes());
    put_optional_log_id(meta.last_log_id, &mut output);
    put_optional_log_id(*meta.last_membership.log_id(), &mut output);
    put_membership(meta.last_membership.membership(), &mut output);
    encode_records(&image.to_records(), &mut output);
    let crc = crc32c(&[&output]);
    output.extend(crc.to_be_bytes());
    output.into()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    let mut reader = Reader::new(bytes);
    if reader.slice(MAGIC.len())? != MAGIC {
        return Err(SnapshotError::Damaged);
    }
    let version = reader.u16()?;
    if version > FORMAT_VERSION {
        return Err(SnapshotError::NewerFormat(version));
    }
    let (content, crc) = bytes.split_last_chunk::<4>().ok_or(SnapshotError::Damaged)?;
    if crc32c(&[content]) != u32::from_be_bytes(*crc) {
        return Err(SnapshotError::Damaged);
    }
    let last_log_id = reader.optional_log_id()?;
    let membership_log_id = reader.optional_log_id()?;
    let membership = reader.membership()?;
    let records_length = reader.remaining().checked_sub(4).ok_or(SnapshotError::Damaged)?;
    let records = decode_records(reader.slice(records_length)?)?;
    let image = MetadataImage::default().apply_all(&records)?;
    let last_membership = RaftStoredMembership::new(membership_log_id, membership);
    Ok(Snapshot { meta: RaftSnapshotMeta { last_log_id, last_membership }, image })
}

/// The snapshot files of a directory.
#[derive(Clone)]
pub(crate) struct SnapshotFiles {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: PathBuf,
}

impl SnapshotFiles {
    /// Makes a snapshot durable, and removes those before it.
    pub(crate) fn store(&self, meta: &RaftSnapshotMeta, bytes: &SnapshotBytes) -> std::io::Result<()> {
        let name = file_name(meta.last_log_id);
        self.disk.write_file_atomically(&self.directory.join(&name), bytes)?;
        for entry in self.disk.read_dir(&self.directory)? {
            if index_of(&entry.name).is_some() && entry.name < name {
                self.disk.remove_file(&self.directory.join(&entry.name))?;
            }
        }
        Ok(())
    }

    /// The latest snapshot, if there is one; whatever a crash has left half done is removed.
    pub(crate) fn load(&self) -> Result<Option<(PathBuf, Snapshot)>, RecoveryError> {
        if !self.disk.exists(&self.directory).map_err(io_error("look for", &self.directory))? {
            return Ok(None);
        }
        let mut latest = None;
        for entry in self.disk.read_dir(&self.directory).map_err(io_error("list", &self.directory))? {
            let path = self.directory.join(&entry.name);
            if entry.name.ends_with(".snapshot.tmp") {
                self.disk.remove_file(&path).map_err(io_error("remove", &path))?;
            } else if index_of(&entry.name).is_some() {
                // Sorted by name, which is the order of the indexes.
                latest = Some(path);
            }
        }
        let Some(path) = latest else { return Ok(None) };
        let snapshot = self.read(&path)?;
        Ok(Some((path, snapshot)))
    }

    /// The bytes of the snapshot that ends with this entry.
    pub(crate) fn read_bytes(&self, last_log_id: Option<RaftLogId>) -> std::io::Result<SnapshotBytes> {
        Ok(self.disk.read_file(&self.directory.join(file_name(last_log_id)), MAX_FILE_SIZE)?.into())
    }

    fn read(&self, path: &Path) -> Result<Snapshot, RecoveryError> {
        let bytes = self.disk.read_file(path, MAX_FILE_SIZE).map_err(io_error("read", path))?;
        decode(&bytes).map_err(|error| match error {
            SnapshotError::NewerFormat(version) => RecoveryError::NewerFormat { path: path.to_owned(), version },
            SnapshotError::Damaged | SnapshotError::Records(_) | SnapshotError::Image(_) => {
                tracing::error!(path = %path.display(), %error, "cannot read the snapshot of the metadata");
                RecoveryError::Damaged { path: path.to_owned(), position: 0 }
            }
        })
    }
}

fn file_name(last_log_id: Option<RaftLogId>) -> String {
    format!("{:020}{SUFFIX}", last_log_id.map_or(0, |log_id| log_id.index))
}

pub(crate) fn index_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}
