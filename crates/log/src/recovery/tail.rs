//! The end of the log: which batches are there, and where it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_record::{BATCH_OVERHEAD, BatchHeader, MAGIC_OFFSET};
use ottla_rt::DiskFile;

use super::epochs::TailEpochs;
use super::{Found, RecoveryInput, io_error, segment_error};
use crate::error::RecoveryError;
use crate::names;
use crate::scan::{InvalidBatchBytes, Scanned, Scanner, Verify};
use crate::segment::Segment;

/// How far behind a cut later batches are looked for: more than the largest default batch.
const EVIDENCE_BYTES: u64 = 2 * 1024 * 1024;

pub(super) struct Tail {
    pub(super) log_end_offset: i64,
    /// Segments that hold bytes not known to be durable.
    pub(super) unsynced: Vec<Arc<Segment>>,
    /// Epochs of the batches seen, with the first offset of each.
    pub(super) epochs: Vec<(i32, i64)>,
    /// The names in the directory are not known to be durable.
    pub(super) names_in_doubt: bool,
    /// What was cut may have held whole batches: should it come back, it must not follow on what is appended from now on.
    pub(super) batches_cut: bool,
}

/// How a segment's scan ended.
struct ScanEnd {
    next_offset: i64,
    invalid: Option<(u64, InvalidBatchBytes)>,
}

/// Scans the tail, cuts it where it is torn, and drops segments above a cut.
pub(super) fn recover(input: &RecoveryInput, found: &mut Vec<Found>) -> Result<Tail, RecoveryError> {
    let last = found.len() - 1;
    // The segment that ends at the recovery point is looked at too: its indexes may not have been synced.
    let first = if input.clean {
        last
    } else {
        found.partition_point(|found| found.segment.base_offset < input.recovery_point).saturating_sub(1)
    };
    if !input.clean {
        check_closed_segments(input, &found[..=first])?;
    }
    let mut tail = Tail {
        log_end_offset: found[first].segment.base_offset,
        unsynced: vec![],
        epochs: vec![],
        names_in_doubt: false,
        batches_cut: false,
    };
    let mut epochs = TailEpochs::default();
    let mut index = first;
    while index < found.len() {
        let Found { segment, len, cleaned } = &found[index];
        let (segment, len, cleaned) = (Arc::clone(segment), *len, *cleaned);
        let end = scan_segment(input, &segment, len, cleaned, &mut epochs)?;
        tail.log_end_offset = end.next_offset;
        let next_base = found.get(index + 1).map(|next| next.segment.base_offset);
        let hole = next_base.is_some_and(|base| {
            base != end.next_offset && (base < end.next_offset || !holes_allowed(input, cleaned, end.next_offset))
        });
        if end.invalid.is_none() && !hole {
            if next_base.is_some() {
                segment.close_indexes().map_err(|source| io_error("write indexes of", &input.path, source))?;
            }
            // A hole of the cleaner's: the log goes on at the next segment.
            tail.log_end_offset = next_base.unwrap_or(end.next_offset).max(end.next_offset);
            index += 1;
            continue;
        }
        if end.next_offset < input.recovery_point {
            return Err(damage(input, &segment, &end, next_base));
        }
        tail.batches_cut = cut(input, &segment, len, &end, &found[index + 1..])?;
        for later in found.drain(index + 1..).rev() {
            later.segment.remove().map_err(|source| io_error("remove", &input.path, source))?;
            tail.names_in_doubt = true;
        }
        tail.unsynced.extend(found[first..].iter().map(|found| Arc::clone(&found.segment)));
        tail.names_in_doubt = true;
        tail.epochs = epochs.finish();
        return Ok(tail);
    }
    tail.epochs = epochs.finish();
    if !input.clean {
        // A process that was killed may have made names, and removed some, in the page cache only. The first flush syncs
        // them, so before anything new is acknowledged.
        if let Some(found) = found.last() {
            found.segment.name_durable.store(false, Ordering::SeqCst);
        }
    }
    if !input.clean && (tail.log_end_offset > input.recovery_point || input.in_doubt_from.is_some()) {
        // A segment begun by a process that was killed may be known to the page cache only, name and bytes; and so may a cut
        // down to the recovery point, which would come undone after somebody has seen it.
        tail.names_in_doubt = true;
        tail.unsynced.extend(found[first..].iter().map(|found| Arc::clone(&found.segment)));
    }
    Ok(tail)
}

/// Segments below the tail are not read, but each must reach the next one.
fn check_closed_segments(input: &RecoveryInput, found: &[Found]) -> Result<(), RecoveryError> {
    for pair in found.windows(2) {
        let (segment, next_base) = (&pair[0].segment, pair[1].segment.base_offset);
        if holes_allowed(input, pair[0].cleaned, next_base - 1) {
            continue;
        }
        let path = segment.path(names::LOG_SUFFIX);
        let end = segment.end_offset(pair[0].len).map_err(|error| segment_error(input, &path, error))?;
        if end != next_base {
            return Err(RecoveryError::Gap { path, expected: next_base, found: end });
        }
    }
    Ok(())
}

fn holes_allowed(input: &RecoveryInput, cleaned: bool, offset: i64) -> bool {
    cleaned || input.config.cleanup_policy.compact || offset < input.cleaned_to
}

fn scan_segment(
    input: &RecoveryInput,
    segment: &Segment,
    len: u64,
    cleaned: bool,
    epochs: &mut TailEpochs,
) -> Result<ScanEnd, RecoveryError> {
    if len == 0 {
        segment.begin_empty();
        return Ok(ScanEnd { next_offset: segment.base_offset, invalid: None });
    }
    let path = segment.path(names::LOG_SUFFIX);
    let failed = |source| io_error("read", &path, source);
    let trusted_below = if input.clean { i64::MAX } else { input.recovery_point };
    let start = segment.recover_indexes(trusted_below, len).map_err(failed)?;
    let verify = if input.clean { Verify::Headers } else { Verify::Checksums };
    let interval_bytes = input.config.index_interval_bytes.max(0) as u64;
    let file = segment.file().map_err(failed)?;
    let mut scanner = Scanner::new(&*file, start, len);
    // Behind a trusted index entry the first batch is what that entry says.
    let mut expected = (start == 0).then_some(segment.base_offset);
    loop {
        let before = scanner.position();
        match scanner.next(verify).map_err(failed)? {
            Scanned::Batch { position, header } => {
                let next = expected.unwrap_or(header.base_offset);
                if header.base_offset > next && !holes_allowed(input, cleaned, next) {
                    // The offset is outside the checksum. No crash makes such a batch: it is damage, and not for us to
                    // say whether the batch or its offset is right.
                    return Err(RecoveryError::Gap { path, expected: next, found: header.base_offset });
                }
                let too_far = header.last_offset() - segment.base_offset > crate::segment::MAX_RELATIVE_OFFSET;
                if header.base_offset < next || too_far {
                    let reason = InvalidBatchBytes::Offsets {
                        base_offset: header.base_offset,
                        last_offset_delta: header.last_offset_delta,
                    };
                    segment.set_size(before);
                    return Ok(ScanEnd { next_offset: next, invalid: Some((position, reason)) });
                }
                segment.note_batch(position, &header, interval_bytes).map_err(failed)?;
                epochs.note(header.partition_leader_epoch, header.base_offset);
                expected = Some(header.next_offset());
            }
            Scanned::End => {
                segment.set_size(len);
                return Ok(ScanEnd { next_offset: expected.unwrap_or(segment.base_offset), invalid: None });
            }
            Scanned::Invalid { position, reason } => {
                segment.set_size(position);
                let next_offset = expected.unwrap_or(segment.base_offset);
                return Ok(ScanEnd { next_offset, invalid: Some((position, reason)) });
            }
        }
    }
}

fn damage(input: &RecoveryInput, segment: &Segment, end: &ScanEnd, next_base: Option<i64>) -> RecoveryError {
    let path = segment.path(names::LOG_SUFFIX);
    match end.invalid {
        Some((position, reason)) => {
            RecoveryError::DamageBelowRecoveryPoint { path, position, recovery_point: input.recovery_point, reason }
        }
        None => RecoveryError::Gap { path, expected: next_base.unwrap_or(end.next_offset), found: end.next_offset },
    }
}

/// Ends the log in this segment, and says what is given up. Whether there may have been whole batches in it.
fn cut(
    input: &RecoveryInput,
    segment: &Segment,
    len: u64,
    end: &ScanEnd,
    later: &[Found],
) -> Result<bool, RecoveryError> {
    let path = segment.path(names::LOG_SUFFIX);
    let failed = |source| io_error("truncate", &path, source);
    let file = segment.file().map_err(failed)?;
    let position = end.invalid.map_or(len, |(position, _)| position);
    let later_bytes: u64 = later.iter().map(|found| found.len).sum();
    let evidence = later_batch(&*file, position, len, end.next_offset).map_err(failed)?;
    let reason = end.invalid.map(|(_, reason)| reason.to_string()).unwrap_or_default();
    if evidence.is_some() || later_bytes > 0 {
        tracing::error!(
            topic_partition = %input.topic_partition, path = %path.display(), position, log_end_offset = end.next_offset,
            bytes = len - position, later_segments = later.len(), later_bytes, later_batch = ?evidence, reason,
            "the log is cut above its recovery point although valid batches follow: after a power loss these were \
             never acknowledged, otherwise the disk has lost data"
        );
    } else {
        tracing::warn!(
            topic_partition = %input.topic_partition, path = %path.display(), position, log_end_offset = end.next_offset,
            bytes = len - position, reason, "torn end of the log is cut"
        );
    }
    file.set_len(position).map_err(failed)?;
    Ok(evidence.is_some() || later_bytes > 0 || len - position > EVIDENCE_BYTES)
}

/// Position and base offset of a whole, valid batch of this log behind `position`.
fn later_batch(file: &dyn DiskFile, position: u64, len: u64, next_offset: i64) -> std::io::Result<Option<(u64, i64)>> {
    let window = (len - position).min(EVIDENCE_BYTES);
    let mut bytes = vec![0; window as usize];
    file.read_exact_at(&mut bytes, position)?;
    for (index, candidate) in bytes.windows(BATCH_OVERHEAD).enumerate().skip(1) {
        if candidate[MAGIC_OFFSET] != 2 {
            continue;
        }
        let Ok(header) = BatchHeader::parse(candidate) else { continue };
        let near = header.base_offset >= next_offset && header.base_offset - next_offset < 1 << 40;
        let start = position + index as u64;
        if near
            && start + header.size_in_bytes() as u64 <= len
            && let Scanned::Batch { header, .. } = Scanner::new(file, start, len).next(Verify::Checksums)?
        {
            return Ok(Some((start, header.base_offset)));
        }
    }
    Ok(None)
}
