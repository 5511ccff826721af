//! Finding offsets by time, as ListOffsets asks for them.

use bytes::Bytes;
use ottla_record::BatchHeader;

use super::PartitionLog;
use crate::error::ReadError;
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
        for segment in self.segments() {
            let found = find_by_timestamp(&segment, timestamp, log_start_offset)
                .map_err(|error| self.read_failed(&segment, error))?;
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
            let (timestamp, offset) = segment.max_timestamp().map_err(|error| self.read_failed(&segment, error))?;
            if timestamp >= 0 && best.as_ref().is_none_or(|&(_, _, most)| timestamp > most) {
                best = Some((segment, offset, timestamp));
            }
        }
        let Some((segment, offset, timestamp)) = best else { return Ok(None) };
        let size = segment.size();
        let search = || -> Result<Option<TimestampAndOffset>, SegmentError> {
            let Some(located) = segment.locate(offset, size)? else { return Ok(None) };
            first_record_from(&segment, located.position, &located.header, timestamp, self.log_start_offset())
        };
        search().map_err(|error| self.read_failed(&segment, error))
    }
}

fn find_by_timestamp(
    segment: &Segment,
    timestamp: i64,
    log_start_offset: i64,
) -> Result<Option<TimestampAndOffset>, SegmentError> {
    let size = segment.size();
    if size == 0 || segment.max_timestamp()?.0 < timestamp {
        return Ok(None);
    }
    let from = segment.offset_before_timestamp(timestamp, size)?.max(log_start_offset);
    let start = segment.position_before(from)?;
    let file = segment.file()?;
    let mut scanner = Scanner::new(&*file, start, size);
    loop {
        match scanner.next(Verify::Headers)? {
            Scanned::Batch { position, header } => {
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
        Err(error) => {
            // The batch was checked when it was appended, and its CRC is not in doubt here: answer by the batch.
            tracing::warn!(base_offset = header.base_offset, %error, "records of a batch cannot be read");
            Some(crate::records::RecordTime { timestamp: header.max_timestamp, offset: header.last_offset() })
        }
    };
    Ok(found.map(|record| TimestampAndOffset { timestamp: record.timestamp, offset: record.offset, leader_epoch }))
}
