//! What interrupted work leaves behind in a partition's directory.

use std::ops::Range;
use std::path::Path;

use ottla_rt::{DirEntry, Disk, OpenMode};

use super::io_error;
use crate::error::RecoveryError;
use crate::names;
use crate::scan::{Scanned, Scanner, Verify};

/// Removes temporary files, finishes an interrupted swap of the cleaner as Kafka does, and lists what is there then.
pub(super) fn clean_up(disk: &dyn Disk, path: &Path) -> Result<Vec<DirEntry>, RecoveryError> {
    let list = || disk.read_dir(path).map_err(|source| io_error("list", path, source));
    let entries = list()?;
    let remove = |name: &str| {
        let file = path.join(name);
        disk.remove_file(&file).map_err(|source| io_error("remove", &file, source))
    };
    let mut changed = false;
    let mut first_cleaned = i64::MAX;
    for entry in &entries {
        if let Some(rest) = entry.name.strip_suffix(names::CLEANED_SUFFIX) {
            first_cleaned = first_cleaned.min(offset_of(rest).unwrap_or(i64::MAX));
        }
    }
    let mut swaps: Vec<&DirEntry> = Vec::new();
    for entry in &entries {
        let name = entry.name.as_str();
        if let Some(rest) = name.strip_suffix(names::SWAP_SUFFIX) {
            // A swap above a file still being cleaned belongs to the same unfinished work.
            if offset_of(rest).is_some_and(|base| base < first_cleaned) {
                swaps.push(entry);
                continue;
            }
        } else if ![names::DELETED_SUFFIX, names::CLEANED_SUFFIX, names::TEMPORARY_SUFFIX]
            .iter()
            .any(|suffix| name.ends_with(suffix))
        {
            continue;
        }
        tracing::debug!(path = %path.display(), name, "removing what interrupted work left");
        remove(name)?;
        changed = true;
    }
    if !swaps.is_empty() {
        finish_swap(disk, path, &entries, &swaps)?;
        changed = true;
    }
    if changed {
        disk.sync_dir(path).map_err(|source| io_error("sync", path, source))?;
        return list();
    }
    Ok(entries)
}

/// The swapped files are complete: they take the place of every segment they were made from.
fn finish_swap(disk: &dyn Disk, path: &Path, entries: &[DirEntry], swaps: &[&DirEntry]) -> Result<(), RecoveryError> {
    let mut from = i64::MAX;
    let mut to = i64::MIN;
    for swap in swaps {
        let Some(rest) = swap.name.strip_suffix(names::SWAP_SUFFIX) else { continue };
        let Some(base) = names::parse_offset_file(rest, names::LOG_SUFFIX) else { continue };
        let file_path = path.join(&swap.name);
        let file = disk.open(&file_path, OpenMode::Read).map_err(|source| io_error("open", &file_path, source))?;
        let mut scanner = Scanner::new(&*file, 0, swap.len);
        let mut next_offset = base;
        loop {
            match scanner.next(Verify::Headers).map_err(|source| io_error("read", &file_path, source))? {
                Scanned::Batch { header, .. } => next_offset = header.next_offset(),
                Scanned::End => break,
                Scanned::Invalid { position, reason } => {
                    return Err(RecoveryError::DamageBelowRecoveryPoint {
                        path: file_path,
                        position,
                        recovery_point: next_offset,
                        reason,
                    });
                }
            }
        }
        from = from.min(base);
        to = to.max(next_offset);
    }
    remove_replaced(disk, path, entries, from..to)?;
    take_names(disk, path, swaps)
}

/// The segments that the swapped ones were made from go, durably: none of them may come back behind the new ones.
fn remove_replaced(disk: &dyn Disk, path: &Path, entries: &[DirEntry], range: Range<i64>) -> Result<(), RecoveryError> {
    let within = |name: &str, suffix: &str| names::parse_offset_file(name, suffix).filter(|base| range.contains(base));
    for entry in entries {
        let is_of_segment = [
            names::LOG_SUFFIX,
            names::OFFSET_INDEX_SUFFIX,
            names::TIME_INDEX_SUFFIX,
            names::TRANSACTION_INDEX_SUFFIX,
            names::TRANSACTION_SUM_SUFFIX,
            names::HEADER_SUM_SUFFIX,
        ]
        .iter()
        .any(|suffix| within(&entry.name, suffix).is_some());
        // The one at the first base is that of the new segment as well.
        let is_snapshot = within(&entry.name, names::SNAPSHOT_SUFFIX).is_some_and(|base| base > range.start);
        if is_of_segment || is_snapshot {
            let file = path.join(&entry.name);
            disk.remove_file(&file).map_err(|source| io_error("remove", &file, source))?;
        }
    }
    disk.sync_dir(path).map_err(|source| io_error("sync", path, source))
}

/// The new files get their own names, the logs last: they tell what is replaced.
fn take_names(disk: &dyn Disk, path: &Path, swaps: &[&DirEntry]) -> Result<(), RecoveryError> {
    let targets = swaps.iter().filter_map(|swap| Some((&swap.name, swap.name.strip_suffix(names::SWAP_SUFFIX)?)));
    let (logs, others): (Vec<_>, Vec<_>) = targets.partition(|(_, target)| target.ends_with(names::LOG_SUFFIX));
    for (name, target) in others.into_iter().chain(logs) {
        tracing::info!(path = %path.display(), name = target, "finishing an interrupted cleaning");
        let file = path.join(name);
        disk.rename(&file, &path.join(target)).map_err(|source| io_error("rename", &file, source))?;
    }
    Ok(())
}

/// The offset any file of a segment begins with.
fn offset_of(name: &str) -> Option<i64> {
    let (digits, _) = name.split_once('.')?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}
