//! What may be in the system's cache only, and clean there, is written anew: so the next sync has it to do.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use ottla_rt::{Disk, DiskFile, OpenMode};

use super::{RecoveryInput, io_error};
use crate::error::RecoveryError;
use crate::names;
use crate::segment::Segment;

/// What is read and written at a time.
const CHUNK_BYTES: u64 = 1 << 20;

/// Writes the batches from `from` on to where they are. Indexes are left alone: what is lost of them is made again.
pub(super) fn write_log(input: &RecoveryInput, segments: &[Arc<Segment>], from: i64) -> Result<(), RecoveryError> {
    let first = segments.partition_point(|segment| segment.base_offset <= from).saturating_sub(1);
    let mut bytes = 0;
    for segment in &segments[first..] {
        let rewrite = || -> io::Result<u64> {
            let start = segment.position_before(from)?;
            write_range(&*segment.file()?, start, segment.size())
        };
        bytes += rewrite().map_err(|source| io_error("write anew", &segment.path(names::LOG_SUFFIX), source))?;
    }
    if bytes > 0 {
        tracing::warn!(
            topic_partition = %input.topic_partition, from, bytes,
            "a sync that covered the end of this log did not succeed before the last process ended: it is written anew"
        );
    }
    Ok(())
}

/// Writes a small file to where it is, and returns it, to be synced.
pub(crate) fn write_file(disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(path, OpenMode::ReadWrite)?;
    write_range(&*file, 0, file.len()?)?;
    Ok(file)
}

fn write_range(file: &dyn DiskFile, start: u64, end: u64) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK_BYTES.min(end.saturating_sub(start)) as usize];
    let mut position = start;
    while position < end {
        let chunk = &mut buffer[..CHUNK_BYTES.min(end - position) as usize];
        file.read_exact_at(chunk, position)?;
        file.write_all_at(&[IoSlice::new(chunk)], position)?;
        position += chunk.len() as u64;
    }
    Ok(end.saturating_sub(start))
}
