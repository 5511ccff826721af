//! Finding offsets by time, as ListOffsets asks for them.

use std::sync::Arc;

use bytes::Bytes;
use ottla_record::BatchHeader;

use super::PartitionLog;
use super::cold::Part;
use crate::error::ReadError;
use crate::records::{RecordTime, RecordTimesError};
use crate::scan::{Scanned, Scanner, Verify};
use crate::segment::{Segment, SegmentError};

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampAndOffset {
    pub timestamp: i64,
    pub offset: i64,
    pub leader_epoch: Option<i32>,
}

impl PartitionLog {
    /// The first record that is `timestamp` or younger. Blocks for the disk.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampAndOffset>, ReadError> {
        self.retry_replaced(|| self.offset_for_timestamp_once(timestamp))
    }

    fn offset_for_timestamp_once(&self, timestamp: i64) -> Result<Option<TimestampAndOffset>, ReadError> {
        self.check_readable()?;
        let log_start_offset = self.log_start_offset();
        for part in self.parts() {
            let found = self
                .find_by_timestamp(&part, timestamp, log_start_offset)
                .map_err(|error| self.read_failed(&part.segment, log_start_offset, error))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp of all. Blocks for the disk.
    pub fn offset_of_max_timestamp(&self) -> Result<Option<TimestampAndOffset>, ReadError> {
        self.retry_replaced(|| self.offset_of_max_timestamp_once())
    }

    fn offset_of_max_timestamp_once(&self) -> Result<Option<TimestampAndOffset>, ReadError> {
        self.check_readable()?;
        let mut best = None;
        for segment in self.segments() {
            let (timestamp, offset) = segment
                .max_timestamp()
                .map_err(|error| self.read_failed(&segment, segment.base_offset.max(self.log_start_offset()), error))?;
            if timestamp >= 0 && best.as_ref().is_none_or(|&(_, _, most)| timestamp > most) {
                best = Some((segment, offset, timestamp));
            }
        }
        let Some((segment, offset, timestamp)) = best else { return Ok(None) };
        // As it is now: what was found may have been appended just before.
        let part = self.parts().into_iter().find(|part| Arc::ptr_eq(&part.segment, &segment));
        let Some(part) = part else { return Ok(None) };
        let search = || -> Result<Option<TimestampAndOffset>, SegmentError> {
            let Some(located) = segment.locate(offset, part.size)? else { return Ok(None) };
            let file = segment.file()?;
            let epochs = self.epochs_from(located.header.last_offset());
            let next_position = located.position + located.header.size_in_bytes() as u64;
            part.surroundings(&*file, &epochs, self.log_start_offset())
                .check(&located.header, located.previous_end, next_position)?
                .map_err(|reason| SegmentError::Damaged { position: located.position, reason })?;
            segment.check_written_headers(&file, located.position, next_position)?;
            first_record_from(&segment, located.position, &located.header, timestamp, self.log_start_offset())
        };
        search().map_err(|error| self.read_failed(&segment, offset, error))
    }

    fn find_by_timestamp(
        &self,
        part: &Part,
        timestamp: i64,
        log_start_offset: i64,
    ) -> Result<Option<TimestampAndOffset>, SegmentError> {
        let Part { segment, size, .. } = part;
        if *size == 0 || segment.max_timestamp()?.0 < timestamp {
            return Ok(None);
        }
        let from = segment.offset_before_timestamp(timestamp, *size)?.max(log_start_offset);
        let Some(first) = segment.locate(from, *size)? else { return Ok(None) };
        let file = segment.file()?;
        let epochs = self.epochs_from(first.header.last_offset());
        let surroundings = part.surroundings(&*file, &epochs, log_start_offset);
        let mut scanner = Scanner::new(&*file, first.position, *size);
        let mut previous_end = first.previous_end;
        loop {
            // Checksums cover the times that decide.
            match scanner.next(Verify::Checksums)? {
                Scanned::Batch { position, header } => {
                    surroundings
                        .check(&header, previous_end, scanner.position())?
                        .map_err(|reason| SegmentError::Damaged { position, reason })?;
                    segment.check_written_headers(&file, position, scanner.position())?;
                    previous_end = header.next_offset();
                    if header.max_timestamp >= timestamp
                        && header.last_offset() >= log_start_offset
                        && let Some(found) = first_record_from(segment, position, &header, timestamp, log_start_offset)?
                    {
                        return Ok(Some(found));
                    }
                }
                Scanned::End => return Ok(None),
                Scanned::Invalid { position, reason } => return Err(SegmentError::Damaged { position, reason }),
            }
        }
    }
}

/// The first record of a batch that is `timestamp` or younger.
fn first_record_from(
    segment: &Segment,
    position: u64,
    header: &BatchHeader,
    timestamp: i64,
    log_start_offset: i64,
) -> Result<Option<TimestampAndOffset>, SegmentError> {
    let leader_epoch = (header.partition_leader_epoch >= 0).then_some(header.partition_leader_epoch);
    let mut bytes = vec![0; header.size_in_bytes()];
    segment.file()?.read_exact_at(&mut bytes, position)?;
    let found = match crate::records::timestamps(&Bytes::from(bytes)) {
        Ok(records) => {
            records.into_iter().find(|record| record.timestamp >= timestamp && record.offset >= log_start_offset)
        }
        Err(RecordTimesError::Batch(reason)) => {
            return Err(SegmentError::Damaged { position, reason: reason.into() });
        }
        Err(error @ (RecordTimesError::Decompress(_) | RecordTimesError::Record(_))) => {
            // The batch was checked when it was appended, and its CRC is right: answer by the batch.
            tracing::warn!(base_offset = header.base_offset, %error, "records of a batch cannot be read");
            Some(RecordTime { timestamp: header.max_timestamp, offset: header.last_offset() })
        }
    };
    Ok(found.map(|record| TimestampAndOffset { timestamp: record.timestamp, offset: record.offset, leader_epoch }))
}
