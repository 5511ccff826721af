//! What readers get from files is checked before: batches whose bytes changed on the disk are not served.
//!
//! A checksum covers a batch from its attributes on, and is computed once for each range of an open file. What stands
//! before (base offset, length, epoch, magic) is checked each time, since no reader can: a batch follows on the one
//! before it, and where it does not (a cleaned log has holes) it must at least end where the next one begins, or before;
//! its epoch is the one the log's leader epochs give. Segments that the cleaner wrote have sums of all that besides.

use std::io;
use std::sync::Arc;

use ottla_record::{BatchError, BatchHeader};
use ottla_rt::DiskFile;

use super::{PartitionLog, log_path};
use crate::epochs::KnownEpochs;
use crate::scan::{InvalidBatchBytes, Scanned, Scanner, Verify};
use crate::segment::{Located, Segment, SegmentError, out_of_place};
use crate::verified::Ranges;

/// What is to be read of a segment, from a batch that was located.
pub(crate) struct ColdRange<'a> {
    pub(crate) segment: &'a Segment,
    /// What is known of it is remembered.
    pub(crate) file: &'a Arc<dyn DiskFile>,
    pub(crate) surroundings: Surroundings<'a>,
    pub(crate) first: Located,
    /// No byte from here on is wanted.
    pub(crate) end: u64,
    /// No offset from here on is wanted.
    pub(crate) upper_bound_offset: i64,
}

/// Where the good batches of a range end.
pub(crate) struct GoodBatches {
    pub(crate) end: u64,
    pub(crate) end_offset: i64,
}

impl ColdRange<'_> {
    /// The good batches at the start of the range. Damage is an error only when it is the first batch's: what comes before
    /// it can be read.
    pub(crate) fn verify(&self) -> Result<GoodBatches, SegmentError> {
        let known = self.segment.with_verified(|verified| verified.ranges_of(self.file));
        let (mut good, mut damage) = self.walk(&known)?;
        if damage.is_some() && known.contain(self.first.position, self.first.position + 1) {
            // A batch whose length has changed leads astray: its checksum tells.
            (good, damage) = self.walk(&Ranges::default())?;
        }
        if good.end > self.first.position {
            self.segment.with_verified(|verified| {
                verified.insert(self.file, self.first.position, good.end);
                if self.first.header.base_offset == self.first.previous_end {
                    verified.mark(self.file, self.first.previous_end, self.first.position);
                }
                verified.mark(self.file, good.end_offset, good.end);
            });
        } else if let Some(reason) = damage {
            return Err(SegmentError::Damaged { position: self.first.position, reason });
        }
        Ok(good)
    }

    /// The good batches, and what is wrong with the one behind them, if something is. In known ranges checksums are not
    /// computed.
    fn walk(&self, known: &Ranges) -> Result<(GoodBatches, Option<InvalidBatchBytes>), SegmentError> {
        let start = self.first.position;
        let mut good = GoodBatches { end: start, end_offset: self.first.previous_end };
        let mut next = Scanned::Batch { position: start, header: self.first.header };
        let mut scanner = Scanner::behind(self.surroundings.file, start, &self.first.header, self.surroundings.size);
        while good.end < self.end {
            let (header, end) = match next {
                Scanned::Batch { position, header } => (header, position + header.size_in_bytes() as u64),
                Scanned::End => break,
                Scanned::Invalid { reason, .. } => return Ok((good, Some(reason))),
            };
            if let Err(reason) = self.surroundings.check(&header, good.end_offset, end)? {
                return Ok((good, Some(reason)));
            }
            if end > self.end || header.next_offset() > self.upper_bound_offset {
                break;
            }
            // Ranges begin and end with batches.
            if !known.contain(good.end, end) {
                return self.walk_unknown(good);
            }
            good = GoodBatches { end, end_offset: header.next_offset() };
            if end < self.end {
                next = scanner.next(Verify::Headers)?;
            }
        }
        Ok((good, None))
    }

    /// The same of batches whose checksums are computed.
    fn walk_unknown(&self, mut good: GoodBatches) -> Result<(GoodBatches, Option<InvalidBatchBytes>), SegmentError> {
        let begun = good.end;
        let mut scanner = Scanner::new(self.surroundings.file, begun, self.end);
        loop {
            match scanner.next(Verify::Checksums)? {
                Scanned::Batch { header, .. } => {
                    if let Err(reason) = self.surroundings.check(&header, good.end_offset, scanner.position())? {
                        return Ok((good, Some(reason)));
                    }
                    if header.next_offset() > self.upper_bound_offset {
                        return Ok((good, None));
                    }
                    good = GoodBatches { end: scanner.position(), end_offset: header.next_offset() };
                }
                Scanned::End => return Ok((good, None)),
                // Cut off by the reader's limit, or else found by the read that begins there.
                Scanned::Invalid { reason: InvalidBatchBytes::Batch(BatchError::Truncated { .. }), .. }
                    if good.end > self.first.position =>
                {
                    return Ok((good, None));
                }
                Scanned::Invalid { reason, .. } => return Ok((good, Some(reason))),
            }
        }
    }
}

/// A segment as it was at one moment.
pub(crate) struct Part {
    pub(crate) segment: Arc<Segment>,
    pub(crate) size: u64,
    /// Where its offsets end.
    pub(crate) end_offset: i64,
}

impl Part {
    pub(crate) fn surroundings<'a>(
        &self,
        file: &'a dyn DiskFile,
        epochs: &'a KnownEpochs,
        epochs_from: i64,
    ) -> Surroundings<'a> {
        Surroundings { file, size: self.size, end_offset: self.end_offset, epochs, epochs_from }
    }
}

/// What is known of a segment's batches without their bytes.
pub(crate) struct Surroundings<'a> {
    /// What is read.
    pub(crate) file: &'a dyn DiskFile,
    /// Bytes of the segment.
    pub(crate) size: u64,
    /// Where its offsets end.
    pub(crate) end_offset: i64,
    /// The epochs of batches that end here or later are known.
    pub(crate) epochs: &'a KnownEpochs,
    pub(crate) epochs_from: i64,
}

impl Surroundings<'_> {
    /// Whether a batch is in its place, and of its epoch. The offsets before it end at `previous_end`, its bytes at
    /// `next_position`.
    pub(crate) fn check(
        &self,
        header: &BatchHeader,
        previous_end: i64,
        next_position: u64,
    ) -> io::Result<Result<(), InvalidBatchBytes>> {
        let bound = if header.base_offset > previous_end {
            // Behind a hole its own neighbour tells: one that was moved up overlaps it.
            self.base_offset_at(next_position)?.unwrap_or(self.end_offset).min(self.end_offset)
        } else {
            self.end_offset
        };
        if header.base_offset < previous_end || header.next_offset() > bound {
            return Ok(Err(out_of_place(header, previous_end, bound)));
        }
        if header.last_offset() < self.epochs_from {
            return Ok(Ok(()));
        }
        Ok(self.epochs.check(header))
    }

    /// Whether a batch, or nothing, stands at this position.
    pub(crate) fn goes_on_at(&self, position: u64) -> io::Result<bool> {
        Ok(position >= self.size || self.base_offset_at(position)?.is_some())
    }

    /// The base offset of the batch at this position, if there is one.
    fn base_offset_at(&self, position: u64) -> io::Result<Option<i64>> {
        match Scanner::for_lookup(self.file, position, self.size).next(Verify::Headers)? {
            Scanned::Batch { header, .. } => Ok(Some(header.base_offset)),
            Scanned::End | Scanned::Invalid { .. } => Ok(None),
        }
    }
}

impl PartitionLog {
    /// All segments as they are now.
    pub(crate) fn parts(&self) -> Vec<Part> {
        self.parts_from(&self.view.read(), i64::MIN, usize::MAX)
    }

    /// The segments that are no longer written to, and where their offsets end.
    pub(crate) fn closed_segments(&self) -> Vec<(Arc<Segment>, i64)> {
        let view = self.view.read();
        view.segments.windows(2).map(|pair| (Arc::clone(&pair[0]), pair[1].base_offset)).collect()
    }

    /// Whether this segment is part of the log, and not another one of its name.
    pub(crate) fn has_segment(&self, segment: &Segment) -> bool {
        self.view.read().segments.iter().any(|other| std::ptr::eq(Arc::as_ptr(other), segment))
    }

    /// The leader epochs of this offset and those after it.
    pub(crate) fn epochs_from(&self, offset: i64) -> KnownEpochs {
        KnownEpochs {
            entries: self.epochs.read().epochs.entries_from(offset).to_vec(),
            forgotten: Arc::clone(&self.forgotten_epochs),
        }
    }

    /// Says once that a segment is damaged: whoever meets it meets it again.
    pub(crate) fn tell_damage(&self, segment: &Segment, position: u64, offset: i64, reason: InvalidBatchBytes) {
        if segment.with_verified(|verified| verified.is_news(position)) {
            tracing::error!(
                topic_partition = %self.topic_partition, path = %log_path(segment).display(), position, offset, %reason,
                "log is damaged: readers that need these bytes are refused"
            );
        }
    }
}
