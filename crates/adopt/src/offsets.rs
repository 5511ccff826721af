//! Offsets that were committed in transactions: a partition of `__consumer_offsets` that holds some is not served yet.

use std::io;
use std::path::Path;

use ottla_record::{BATCH_OVERHEAD, BatchHeader};
use ottla_rt::{Disk, OpenMode};

/// Whether there is a batch of a transaction in the segments of a partition. Only heads are read, up to what is no batch.
pub(crate) fn has_transactions(disk: &dyn Disk, partition: &Path) -> io::Result<bool> {
    for entry in disk.read_dir(partition)? {
        if entry.is_dir || entry.name.strip_suffix(".log").is_none() {
            continue;
        }
        let file = disk.open(&partition.join(&entry.name), OpenMode::Read)?;
        let mut position = 0;
        while position + BATCH_OVERHEAD as u64 <= entry.len {
            let mut head = [0; BATCH_OVERHEAD];
            file.read_exact_at(&mut head, position)?;
            let Ok(header) = BatchHeader::parse(&head) else { break };
            if header.attributes.is_transactional() && !header.attributes.is_control() {
                return Ok(true);
            }
            position += header.size_in_bytes() as u64;
        }
    }
    Ok(false)
}
