//! The producer state from the newest snapshot and the batches after it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_rt::{DirEntry, Disk};

use crate::names;
use crate::producers::{Producers, parse_snapshot};
use crate::scan::{Scanned, Scanner, Verify};
use crate::segment::{Segment, SegmentError};
use crate::transactions::CompletedTransaction;

/// A million producers and more; what is larger is not a snapshot.
const MAX_SNAPSHOT_BYTES: u64 = 256 * 1024 * 1024;

/// The producers as of `end_offset`, and the offset of the snapshot they were made from (the log start without one).
/// `snapshots` are those there may be.
pub(crate) fn rebuild_producers(
    disk: &dyn Disk,
    path: &Path,
    snapshots: Vec<i64>,
    segments: &[Arc<Segment>],
    log_start_offset: i64,
    end_offset: i64,
) -> Result<(Producers, i64), SegmentError> {
    let snapshots = usable_snapshots(snapshots, segments);
    let (producers, snapshot_offset) = load_snapshot(disk, path, snapshots, log_start_offset, end_offset)?;
    Ok((replay(producers, segments, end_offset, &mut |_, _| Ok(()))?, snapshot_offset))
}

/// The producers as of `end_offset`, from what they were, and the batches after that. `completed` is told of every
/// transaction that ended on the way, with the index of the segment that has its marker.
pub(super) fn replay(
    mut producers: Producers,
    segments: &[Arc<Segment>],
    end_offset: i64,
    completed: &mut dyn FnMut(usize, &CompletedTransaction) -> io::Result<()>,
) -> Result<Producers, SegmentError> {
    let begin = producers.end_offset();
    let first = segments.partition_point(|segment| segment.base_offset <= begin).saturating_sub(1);
    // A partition nobody wrote to costs no open file.
    let written = segments.iter().enumerate().skip(first).filter(|(_, segment)| segment.size() > 0);
    for (index, segment) in written.take_while(|(_, segment)| segment.base_offset < end_offset) {
        let Some(first) = segment.locate(begin, segment.size())? else { continue };
        let file = segment.file()?;
        let mut scanner = Scanner::new(&*file, first.position, segment.size());
        loop {
            match scanner.next(Verify::Headers)? {
                Scanned::Batch { header, .. } if header.next_offset() <= begin => {}
                Scanned::Batch { header, .. } if header.base_offset >= end_offset => break,
                Scanned::Batch { position, header } => {
                    let is_marker = header.attributes.is_control() && header.has_producer_id();
                    let marker = if is_marker { scanner.marker(position, &header)? } else { None };
                    if let Some(ended) = producers.replay(&header, marker) {
                        completed(index, &ended)?;
                    }
                }
                Scanned::End => break,
                Scanned::Invalid { position, reason } => return Err(SegmentError::Damaged { position, reason }),
            }
        }
    }
    producers.set_end_offset(end_offset);
    Ok(producers)
}

/// The producers as of the newest snapshot up to `end_offset`, and its offset.
pub(super) fn load_snapshot(
    disk: &dyn Disk,
    path: &Path,
    snapshots: Vec<i64>,
    log_start_offset: i64,
    end_offset: i64,
) -> io::Result<(Producers, i64)> {
    for offset in snapshots.into_iter().rev().filter(|offset| *offset <= end_offset) {
        let file = names::offset_file(path, offset, names::SNAPSHOT_SUFFIX);
        let parsed = match disk.read_file(&file, MAX_SNAPSHOT_BYTES) {
            Ok(bytes) => parse_snapshot(&bytes),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(path = %file.display(), %error, "producer snapshot is not used");
                continue;
            }
            // It went with its segment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match parsed {
            Ok(entries) => return Ok((Producers::new(offset, entries), offset)),
            Err(reason) => {
                tracing::warn!(path = %file.display(), %reason, "producer snapshot is not used");
                disk.remove_file(&file)?;
            }
        }
    }
    Ok((Producers::new(log_start_offset, BTreeMap::new()), log_start_offset))
}

/// Those from which all that follows can be read: below the first segment an end of a transaction may be missing. Retention
/// removes the others, but a power loss may bring one back, or take the first segment's own.
pub(super) fn usable_snapshots(mut snapshots: Vec<i64>, segments: &[Arc<Segment>]) -> Vec<i64> {
    let first = segments.first().map_or(0, |segment| segment.base_offset);
    snapshots.retain(|offset| *offset >= first);
    snapshots
}

/// Removes snapshots of an end the log no longer has.
pub(crate) fn remove_snapshots_above(
    disk: &dyn Disk,
    path: &Path,
    snapshots: &[i64],
    end_offset: i64,
) -> io::Result<()> {
    for offset in snapshots.iter().filter(|offset| **offset > end_offset) {
        match disk.remove_file(&names::offset_file(path, *offset, names::SNAPSHOT_SUFFIX)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The snapshots among the files of a partition, oldest first.
pub(crate) fn snapshot_offsets(entries: &[DirEntry]) -> Vec<i64> {
    entries.iter().filter_map(|entry| names::parse_offset_file(&entry.name, names::SNAPSHOT_SUFFIX)).collect()
}
