//! What stays of a batch: pure, Kafka's rules.
//!
//! - A record stays if no newer one has its key; a tombstone, besides, only until its batch's delete horizon. The horizon
//!   is set when a tombstone is first met in the clean part to be, `delete.retention.ms` from then.
//! - Records behind the last one that was mapped stay: it is not known yet whether they are the newest.
//! - A record without a key goes.
//! - Records of aborted transactions go; markers of transactions without batches go at their horizon, as tombstones do.
//! - The batch with the last sequence of an active producer stays, if need be empty, and so does the one that ends the
//!   cleaned part: otherwise nobody would know where that ended.

use bytes::Bytes;
use ottla_record::{
    BatchError, BatchHeader, BatchRewriter, BuildError, ControlType, DecompressionLimits, OpenBatch, OpenError, Record,
    RecordError, empty_batch,
};

use super::offset_map::OffsetMap;
use super::transactions::{CleanedTransactions, Control};
use crate::producers::LastRecord;
use crate::transactions::AbortedTransaction;

/// What holds for a whole run.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepRules {
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    /// The last offset the map knows of.
    pub(super) mapped_to: i64,
    /// The batch that ends here is kept.
    pub(super) end_offset: i64,
}

/// What the cleaner writes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Nothing,
    Original,
    Rewritten(Bytes),
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub(super) struct Cleaned {
    pub(super) kept: Kept,
    /// Goes into the transaction index of the new segment.
    pub(super) aborted: Option<AbortedTransaction>,
    pub(super) records_read: u64,
    pub(super) records_kept: u64,
    /// Records a compacted topic must not have.
    pub(super) without_key: u64,
}

/// Why a batch cannot be cleaned.
#[derive(Debug, thiserror::Error)]
pub(super) enum UncleanableBatch {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("it cannot be written anew: {0}")]
    Build(#[from] BuildError),
}

/// What is to become of a batch as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BatchFate {
    /// It stays even without records.
    retain_empty: bool,
    /// None of its records stays.
    discard_records: bool,
    /// It is a marker nobody needs: its horizon is set.
    needless_marker: bool,
}

/// Cleans one batch, whose CRC is right. They come in the order of the log.
pub(super) fn clean_batch(
    batch: &Bytes,
    header: &BatchHeader,
    rules: &KeepRules,
    map: &OffsetMap,
    transactions: &mut CleanedTransactions,
    last_of_producer: Option<LastRecord>,
) -> Result<Cleaned, UncleanableBatch> {
    let open = OpenBatch::open(batch, &DecompressionLimits::default())?;
    let (discardable, aborted) = if header.attributes.is_control() {
        let verdict = transactions.on_control(header, control(&open)?);
        (verdict.discardable, verdict.indexed)
    } else {
        (transactions.on_data(header), None)
    };
    let fate = fate(header, rules, discardable, last_of_producer);
    let mut cleaned = Cleaned {
        kept: Kept::Nothing,
        aborted,
        records_read: u64::try_from(header.record_count).unwrap_or(0),
        records_kept: 0,
        without_key: 0,
    };
    if fate.discard_records {
        if fate.retain_empty {
            cleaned.kept = emptied(header);
        }
        return Ok(cleaned);
    }

    let horizon_ms = header.delete_horizon_ms();
    let keeps = |record: &Record<'_>| {
        header.attributes.is_control()
            || keeps_record(
                record.offset,
                record.key.map(|key| map.get(key)),
                record.value.is_some(),
                horizon_ms,
                rules,
            )
    };
    let mut stays = Vec::new();
    let mut tombstones = false;
    for record in open.records() {
        let record = record?;
        let kept = keeps(&record);
        if kept {
            cleaned.records_kept += 1;
            tombstones |= record.value.is_none();
        } else {
            cleaned.without_key += u64::from(record.key.is_none());
        }
        stays.push(kept);
    }
    if cleaned.records_kept == 0 {
        if fate.retain_empty {
            cleaned.kept = emptied(header);
        }
        return Ok(cleaned);
    }
    let sets_horizon = (tombstones || fate.needless_marker) && horizon_ms.is_none();
    if cleaned.records_kept == cleaned.records_read && !sets_horizon {
        cleaned.kept = Kept::Original;
        return Ok(cleaned);
    }
    let new_horizon_ms = sets_horizon.then(|| rules.now_ms.saturating_add(rules.delete_retention_ms));
    let mut rewriter = BatchRewriter::new(header, horizon_ms.or(new_horizon_ms));
    for (record, _) in open.records().zip(stays).filter(|(_, stays)| *stays) {
        rewriter.keep(&record?)?;
    }
    cleaned.kept = Kept::Rewritten(rewriter.finish()?);
    Ok(cleaned)
}

/// A batch that is empty already stays as it is.
fn emptied(header: &BatchHeader) -> Kept {
    if header.record_count == 0 {
        return Kept::Original;
    }
    Kept::Rewritten(Bytes::copy_from_slice(&empty_batch(header)))
}

fn fate(header: &BatchHeader, rules: &KeepRules, discardable: bool, last: Option<LastRecord>) -> BatchFate {
    let is_control = header.attributes.is_control();
    let horizon_passed = header.delete_horizon_ms().is_some_and(|horizon_ms| horizon_ms <= rules.now_ms);
    let last_of_producer = header.has_producer_id()
        && last.is_some_and(|last| match last.last_data_offset {
            Some(offset) => header.last_offset() == offset,
            // Its last word was a marker, which has the epoch that fences.
            None => is_control && header.producer_epoch == last.producer_epoch,
        });
    BatchFate {
        retain_empty: last_of_producer || header.next_offset() == rules.end_offset,
        discard_records: discardable && (!is_control || horizon_passed),
        needless_marker: discardable && is_control,
    }
}

/// Whether a record stays. `newest` is what the map has for its key; absent: it has no key.
#[allow(clippy::option_option, reason = "no key, and a key the map does not have, are two things")]
fn keeps_record(
    offset: i64,
    newest: Option<Option<i64>>,
    has_value: bool,
    horizon_ms: Option<i64>,
    rules: &KeepRules,
) -> bool {
    if offset > rules.mapped_to {
        return true;
    }
    let Some(newest) = newest else { return false };
    let is_newest = newest.is_none_or(|newest| offset >= newest);
    is_newest && (has_value || horizon_ms.is_none_or(|horizon_ms| rules.now_ms < horizon_ms))
}

/// What the record of a control batch says.
pub(super) fn control(batch: &OpenBatch) -> Result<Control, RecordError> {
    match batch.records().next() {
        None => Ok(Control::Empty),
        Some(Err(error)) => Err(error),
        Some(Ok(record)) => Ok(ControlType::of(&record).map_or(Control::Other, Control::Marker)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: KeepRules = KeepRules { now_ms: 1_000, delete_retention_ms: 500, mapped_to: 100, end_offset: 101 };

    #[test]
    fn records() {
        for (name, offset, newest, has_value, horizon_ms, kept) in [
            ("the newest", 50, Some(Some(50)), true, None, true),
            ("no other in the map", 50, Some(None), true, None, true),
            ("an older one in the map", 50, Some(Some(40)), true, None, true),
            ("superseded", 50, Some(Some(51)), true, None, false),
            ("superseded, but behind the map", 101, Some(Some(102)), true, None, true),
            ("no key", 50, None, true, None, false),
            ("no key, behind the map", 101, None, true, None, true),
            ("a tombstone without a horizon", 50, Some(Some(50)), false, None, true),
            ("before its horizon", 50, Some(Some(50)), false, Some(1_001), true),
            ("at its horizon", 50, Some(Some(50)), false, Some(1_000), false),
            ("after it, behind the map", 101, Some(None), false, Some(1), true),
            ("a value in a batch past its horizon", 50, Some(Some(50)), true, Some(1), true),
        ] {
            assert_eq!(keeps_record(offset, newest, has_value, horizon_ms, &RULES), kept, "{name}");
        }
    }

    #[test]
    fn batches() {
        let header = |control: bool, horizon_ms: Option<i64>, base_offset: i64| {
            let mut header = crate::cleaner::tests::header(base_offset, 2);
            header.producer_id = 7;
            header.producer_epoch = 3;
            header.attributes = header.attributes.with_control(control).with_delete_horizon(horizon_ms.is_some());
            header.base_timestamp = horizon_ms.unwrap_or(0);
            header
        };
        let last = |last_data_offset, producer_epoch| Some(LastRecord { last_data_offset, producer_epoch });
        for (name, header, discardable, last, expected) in [
            ("data", header(false, None, 10), false, None, (false, false, false)),
            ("aborted data", header(false, None, 10), true, None, (false, true, false)),
            ("the last of its producer", header(false, None, 10), true, last(Some(11), 3), (true, true, false)),
            ("not the last", header(false, None, 10), false, last(Some(20), 3), (false, false, false)),
            ("the end of the round", header(false, None, 99), false, None, (true, false, false)),
            ("a marker that is needed", header(true, None, 10), false, None, (false, false, false)),
            ("a needless marker", header(true, None, 10), true, None, (false, false, true)),
            ("before its horizon", header(true, Some(1_001), 10), true, None, (false, false, true)),
            ("at its horizon", header(true, Some(1_000), 10), true, None, (false, true, true)),
            ("needed after its horizon", header(true, Some(1), 10), false, None, (false, false, false)),
            ("with its producer's epoch", header(true, Some(1), 10), true, last(None, 3), (true, true, true)),
            ("with an older epoch", header(true, Some(1), 10), true, last(None, 4), (false, true, true)),
        ] {
            let fate = fate(&header, &RULES, discardable, last);
            assert_eq!((fate.retain_empty, fate.discard_records, fate.needless_marker), expected, "{name}");
        }
    }
}
