//! Offsets that were committed in transactions which have not ended.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use ottla_record::{BATCH_OVERHEAD, BatchHeader};
use ottla_rt::{Disk, OpenMode};

/// Whether a transaction has not ended in a partition. Only heads are read, up to what is no batch.
pub(crate) fn has_open_transactions(disk: &dyn Disk, partition: &Path) -> io::Result<bool> {
    let mut segments = disk.read_dir(partition)?;
    segments.retain(|entry| !entry.is_dir && entry.name.strip_suffix(".log").is_some());
    // The names are offsets, all of one length.
    segments.sort_by(|left, right| left.name.cmp(&right.name));
    let mut open_producers = BTreeSet::new();
    for entry in segments {
        let file = disk.open(&partition.join(&entry.name), OpenMode::Read)?;
        let mut position = 0;
        while position + BATCH_OVERHEAD as u64 <= entry.len {
            let mut head = [0; BATCH_OVERHEAD];
            file.read_exact_at(&mut head, position)?;
            let Ok(header) = BatchHeader::parse(&head) else { break };
            if header.attributes.is_control() {
                open_producers.remove(&header.producer_id);
            } else if header.attributes.is_transactional() {
                open_producers.insert(header.producer_id);
            }
            position += header.size_in_bytes() as u64;
        }
    }
    Ok(!open_producers.is_empty())
}
