//! Reading Kafka's metadata log: its newest snapshot, and the records after it.
//!
//! How far the log is believed: every whole batch in it. A quorum of one voter has nobody else to ask, so what is
//! in its log is what its next leader commits; so does Kafka itself at its next start. With several voters the end may
//! never have been committed; who takes over such a log is told so. The end of the last segment may be a torn write
//! when Kafka was killed; anything else that is not a batch is damage, and nothing is taken over.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ottla_record::{
    BatchError, BatchHeader, DecompressionLimits, OpenBatch, OpenError, RecordError as BatchRecordError,
};
use ottla_rt::Disk;

use crate::batch_file::{BadBatch, BatchFile};
use crate::metadata::{KafkaMetadata, Misfit, Replay};
use crate::record::{ControlRecord, KafkaRecord, RecordError};

/// Why a metadata log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MetadataLogError {
    #[error("cannot {operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged at byte {position}, where offset {offset} belongs: {reason}", path.display())]
    Damaged { path: PathBuf, position: u64, offset: i64, reason: BadBatch },
    #[error("the batch at offset {offset} of {} cannot be opened: {reason}", path.display())]
    Batch { path: PathBuf, offset: i64, reason: OpenError },
    #[error("the batch at offset {offset} of {} does not hold what it says: {reason}", path.display())]
    Records { path: PathBuf, offset: i64, reason: BatchRecordError },
    #[error("the record at offset {offset} of {}: {reason}", path.display())]
    Record { path: PathBuf, offset: i64, reason: RecordError },
    #[error("the record at offset {offset} of {} ({record}) does not fit those before it: {reason}", path.display())]
    Misfit { path: PathBuf, offset: i64, record: &'static str, reason: Misfit },
    #[error("{} ends without a footer: the snapshot is not whole", .0.display())]
    NoFooter(PathBuf),
    #[error("the log in {} begins at offset {found}, and {} needs it from {expected} on", path.display(), before.display())]
    Gap { path: PathBuf, before: PathBuf, expected: i64, found: i64 },
    #[error("the log in {} begins at offset {found}, and there is no snapshot of what was before", path.display())]
    NoSnapshot { path: PathBuf, found: i64 },
    #[error("there is neither a segment nor a snapshot in {}", .0.display())]
    Empty(PathBuf),
}

/// What was read.
#[derive(Debug)]
pub struct MetadataLog {
    pub metadata: KafkaMetadata,
    /// The name of the snapshot's file.
    pub snapshot: Option<String>,
    pub segments: usize,
    /// Metadata records, those of the snapshot included.
    pub records: u64,
    /// The offset after the last one.
    pub end_offset: i64,
    /// Bytes at the end that are no batch.
    pub torn_bytes: u64,
    pub tail: Tail,
    /// Whether the last records are left out, being of a transaction that did not end.
    pub unfinished_transaction: bool,
    /// Who votes in the quorum, as far as the log tells.
    pub voters: BTreeSet<i32>,
}

/// Where a writer goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The name of the last segment; `None` without one.
    pub segment: Option<String>,
    /// Bytes of it that are batches.
    pub length: u64,
    /// The offset after the last batch in it. A snapshot may be ahead of it.
    pub offset: i64,
    /// The epoch of the quorum's leader that wrote last.
    pub epoch: i32,
}

/// Reads the log in `directory`. `may_be_torn`: whoever wrote it has not stopped in order.
pub fn read_metadata_log(
    disk: &dyn Disk,
    directory: &Path,
    may_be_torn: bool,
) -> Result<MetadataLog, MetadataLogError> {
    let files = Files::of(disk, directory)?;
    if files.snapshot.is_none() && files.segments.is_empty() {
        return Err(MetadataLogError::Empty(directory.to_path_buf()));
    }
    let mut reader = Reader {
        disk,
        replay: Replay::default(),
        records: 0,
        voters: BTreeSet::new(),
        footer: false,
        tail: Tail { segment: None, length: 0, offset: 0, epoch: 0 },
    };
    let mut end_offset = 0;
    if let Some(snapshot) = &files.snapshot {
        reader.read_snapshot(&directory.join(&snapshot.name))?;
        end_offset = snapshot.end_offset;
        (reader.tail.offset, reader.tail.epoch) = (snapshot.end_offset, snapshot.epoch);
    }
    let torn_bytes = reader.read_segments(directory, &files, &mut end_offset, may_be_torn)?;
    if let Some((base_offset, name)) = files.begun {
        reader.tail = Tail { segment: Some(name), length: 0, offset: base_offset, ..reader.tail };
    }
    let (metadata, unfinished_transaction) = reader.replay.finish();
    Ok(MetadataLog {
        metadata,
        snapshot: files.snapshot.map(|snapshot| snapshot.name),
        segments: files.segments.len(),
        records: reader.records,
        end_offset,
        torn_bytes,
        tail: reader.tail,
        unfinished_transaction,
        voters: reader.voters,
    })
}

/// The files of a metadata log that count.
struct Files {
    /// The newest.
    snapshot: Option<SnapshotFile>,
    /// By base offset. Empty ones at the end are left out.
    segments: Vec<(i64, String)>,
    /// The last one, if it is such an empty one.
    begun: Option<(i64, String)>,
}

struct SnapshotFile {
    name: String,
    end_offset: i64,
    epoch: i32,
}

impl Files {
    fn of(disk: &dyn Disk, directory: &Path) -> Result<Files, MetadataLogError> {
        let mut snapshot: Option<((i64, i64), String)> = None;
        let mut segments = Vec::new();
        for entry in disk.read_dir(directory).map_err(io_error("list", directory))? {
            if entry.is_dir {
                continue;
            }
            if let Some(id) = snapshot_id(&entry.name) {
                if snapshot.as_ref().is_none_or(|(newest, _)| *newest < id) {
                    snapshot = Some((id, entry.name));
                }
            } else if let Some(base_offset) = digits(&entry.name, ".log", 20) {
                segments.push((base_offset, entry.name, entry.len));
            }
        }
        segments.sort();
        // A roll makes the next file before anything is in it.
        let mut begun = None;
        while segments.len() > 1
            && let Some((base_offset, name, _)) = segments.pop_if(|(_, _, length)| *length == 0)
        {
            begun.get_or_insert((base_offset, name));
        }
        Ok(Files {
            snapshot: snapshot.map(|((end_offset, epoch), name)| SnapshotFile {
                name,
                end_offset,
                epoch: i32::try_from(epoch).unwrap_or(i32::MAX),
            }),
            begun,
            segments: segments.into_iter().map(|(base_offset, name, _)| (base_offset, name)).collect(),
        })
    }
}

/// The end offset and epoch in a snapshot's name. Files that are still being written, or about to go, have longer names.
fn snapshot_id(name: &str) -> Option<(i64, i64)> {
    let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
    Some((digits(offset, "", 20)?, digits(epoch, "", 10)?))
}

fn digits(name: &str, suffix: &str, width: usize) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == width && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

struct Reader<'a> {
    disk: &'a dyn Disk,
    replay: Replay,
    records: u64,
    voters: BTreeSet<i32>,
    /// Whether a snapshot's footer was read.
    footer: bool,
    tail: Tail,
}

impl Reader<'_> {
    fn read_snapshot(&mut self, path: &Path) -> Result<(), MetadataLogError> {
        let mut file = BatchFile::open(self.disk, path).map_err(io_error("open", path))?;
        let mut offset = 0;
        loop {
            let position = file.position();
            let Some(batch) = file.next().map_err(io_error("read", path))? else { break };
            let damaged = |reason| MetadataLogError::Damaged { path: path.to_path_buf(), position, offset, reason };
            let (header, batch) = batch.map_err(damaged)?;
            if header.base_offset != offset {
                return Err(damaged(BadBatch::Offset { expected: offset, found: header.base_offset }));
            }
            self.footer = false;
            self.read_batch(path, &batch, 0)?;
            offset = header.next_offset();
        }
        if self.footer { Ok(()) } else { Err(MetadataLogError::NoFooter(path.to_path_buf())) }
    }

    /// Applies the records from `end_offset` on, and moves it to their end; the bytes at the end that were torn.
    fn read_segments(
        &mut self,
        directory: &Path,
        files: &Files,
        end_offset: &mut i64,
        may_be_torn: bool,
    ) -> Result<u64, MetadataLogError> {
        let Some((first, _)) = files.segments.first() else { return Ok(0) };
        let applied = *end_offset;
        if *first > applied {
            let (path, found) = (directory.to_path_buf(), *first);
            return Err(match &files.snapshot {
                Some(snapshot) => {
                    MetadataLogError::Gap { path, before: directory.join(&snapshot.name), expected: applied, found }
                }
                None => MetadataLogError::NoSnapshot { path, found },
            });
        }
        let mut offset = *first;
        for (place, (base_offset, name)) in files.segments.iter().enumerate() {
            let path = directory.join(name);
            let mut file = BatchFile::open(self.disk, &path).map_err(io_error("open", &path))?;
            if *base_offset != offset {
                let reason = BadBatch::Offset { expected: offset, found: *base_offset };
                return Err(MetadataLogError::Damaged { path, position: 0, offset, reason });
            }
            let is_last = place + 1 == files.segments.len();
            self.tail = Tail { segment: Some(name.clone()), length: 0, offset, ..self.tail };
            loop {
                let position = file.position();
                let Some(batch) = file.next().map_err(io_error("read", &path))? else { break };
                let damaged = |reason| MetadataLogError::Damaged { path: path.clone(), position, offset, reason };
                let (header, batch) = match batch {
                    Ok(batch) => batch,
                    Err(reason) => {
                        let is_torn = is_last
                            && may_be_torn
                            && !file.good_batch_follows(offset).map_err(io_error("read", &path))?;
                        if is_torn {
                            *end_offset = applied.max(offset);
                            return Ok(file.remaining());
                        }
                        return Err(damaged(reason));
                    }
                };
                if header.base_offset != offset || header.last_offset_delta < 0 {
                    return Err(damaged(BadBatch::Offset { expected: offset, found: header.base_offset }));
                }
                if header.next_offset() > applied {
                    self.read_batch(&path, &batch, applied)?;
                }
                offset = header.next_offset();
                self.tail.length = file.position();
                self.tail.offset = offset;
                self.tail.epoch = self.tail.epoch.max(header.partition_leader_epoch);
            }
        }
        *end_offset = applied.max(offset);
        Ok(0)
    }

    /// Applies the records of a batch from the offset `applied` on.
    fn read_batch(&mut self, path: &Path, bytes: &Bytes, applied: i64) -> Result<(), MetadataLogError> {
        let opened = OpenBatch::open(bytes, &DecompressionLimits::default());
        let batch = opened.map_err(|reason| MetadataLogError::Batch {
            path: path.to_path_buf(),
            offset: BatchHeader::parse(bytes).map_or(0, |header| header.base_offset),
            reason,
        })?;
        let base_offset = batch.header().base_offset;
        let is_control = batch.header().attributes.is_control();
        for record in batch.records() {
            let records = |reason| MetadataLogError::Records { path: path.to_path_buf(), offset: base_offset, reason };
            let record = record.map_err(records)?;
            let offset = record.offset;
            if offset < applied {
                continue;
            }
            let at = |reason| MetadataLogError::Record { path: path.to_path_buf(), offset, reason };
            let value = record.value.map(|value| batch.share(value));
            if is_control {
                self.control(&ControlRecord::decode(record.key, value).map_err(at)?);
                continue;
            }
            let record = KafkaRecord::decode(value.ok_or_else(|| at(RecordError::NoValue))?).map_err(at)?;
            let name = record.name();
            self.records += 1;
            self.replay.apply(record).map_err(|reason| MetadataLogError::Misfit {
                path: path.to_path_buf(),
                offset,
                record: name,
                reason,
            })?;
        }
        Ok(())
    }

    fn control(&mut self, record: &ControlRecord) {
        match record {
            ControlRecord::LeaderChange { voters } | ControlRecord::Voters(voters) => {
                self.voters = voters.iter().copied().collect();
            }
            ControlRecord::SnapshotFooter => self.footer = true,
            ControlRecord::SnapshotHeader | ControlRecord::KRaftVersion(_) => {}
        }
    }
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MetadataLogError {
    let path = path.to_path_buf();
    move |source| MetadataLogError::Io { operation, path, source }
}

impl MetadataLogError {
    /// Whether a batch was cut off where the file ends.
    pub fn is_cut_off(&self) -> bool {
        matches!(self, MetadataLogError::Damaged { reason: BadBatch::Batch(BatchError::Truncated { .. }), .. })
    }
}
