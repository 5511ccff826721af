//! What the logs must hold, kept beside them.

use bytes::Bytes;
use ottla_record::BatchHeader;
use ottla_types::TopicId;

use crate::history::Value;

/// What is known of a partition's existence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    Absent,
    /// Its creation was begun and not answered.
    PerhapsCreated(TopicId),
    Present(TopicId),
    /// Its deletion was begun and not answered.
    PerhapsDeleted(TopicId),
}

/// A batch as it was appended.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where it is.
    pub header: BatchHeader,
    /// As it was sent.
    pub bytes: Bytes,
    pub values: Vec<Value>,
}

/// One partition: the batches that are or were in it.
#[derive(Debug)]
pub struct PartitionModel {
    pub existence: Existence,
    pub batches: Vec<Batch>,
    /// Everything below it was acknowledged, or seen after a recovery.
    pub promised_end: i64,
    /// A truncation to this offset was begun and not answered.
    pub truncating_to: Option<i64>,
    /// What is below was deleted.
    pub start: i64,
    /// A deletion of what is below was begun, and is not known to be durable.
    pub deleting_to: Option<i64>,
    pub next_sequence: i32,
}

impl PartitionModel {
    pub fn new() -> PartitionModel {
        PartitionModel {
            existence: Existence::Absent,
            batches: Vec::new(),
            promised_end: 0,
            truncating_to: None,
            start: 0,
            deleting_to: None,
            next_sequence: 0,
        }
    }

    /// Forgets what was in it: it is another one now.
    pub fn reset(&mut self, existence: Existence) {
        *self = PartitionModel { existence, ..PartitionModel::new() };
    }

    pub fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.header.next_offset())
    }

    pub fn values(&self) -> impl Iterator<Item = (i64, Value)> {
        let with_offsets = |batch: &Batch| (batch.header.base_offset..).zip(batch.values.clone());
        self.batches.iter().flat_map(with_offsets).filter(|(offset, _)| *offset >= self.start)
    }

    /// The offsets where a batch begins, and the end; none of what was deleted.
    pub fn borders(&self) -> Vec<i64> {
        let bases = self.batches.iter().map(|batch| batch.header.base_offset);
        bases.filter(|base| *base >= self.start).chain([self.end()]).collect()
    }

    /// The last batch, unless it was deleted, in whole or in part.
    pub fn last_batch(&self) -> Option<&Batch> {
        self.batches.last().filter(|batch| batch.header.base_offset >= self.start)
    }

    /// Records below were deleted, and that is durable.
    pub fn deleted_to(&mut self, offset: i64) {
        self.start = self.start.max(offset);
        self.deleting_to = None;
    }

    pub fn cut(&mut self, end: i64) {
        self.batches.retain(|batch| batch.header.next_offset() <= end);
        self.promised_end = self.promised_end.min(end);
        self.next_sequence = self.batches.last().map_or(0, |batch| batch.header.last_sequence() + 1);
    }

    /// Compares with what a recovery found, which from then on is promised below `durable`. `log` has every value from
    /// `start` on with its offset; with `kept` everything that was appended has to be there.
    pub fn recovered(
        &mut self,
        log: &[(i64, Value)],
        start: i64,
        end: i64,
        durable: i64,
        kept: bool,
    ) -> Result<(), String> {
        let mut least = if kept { self.end() } else { self.promised_end };
        match self.deleting_to.take() {
            // As before, or deleted, or up to a segment in between.
            Some(offset) if (self.start..=offset).contains(&start) => self.start = start,
            _ if start == self.start => {}
            _ => return Err(format!("the log starts at {start}, records were deleted below {}", self.start)),
        }
        if let Some(offset) = self.truncating_to.take() {
            // Both are right: as before, or cut.
            self.promised_end = self.promised_end.min(offset);
            least = least.min(offset);
        }
        if end < least {
            return Err(format!("the log ends at {end}, {least} were promised"));
        }
        if !self.borders().contains(&end) {
            return Err(format!("the log ends at {end}, where nothing appended ends (of {})", self.end()));
        }
        let expected: Vec<(i64, Value)> = self.values().take_while(|(offset, _)| *offset < end).collect();
        if let Some((found, expected)) = log.iter().zip(&expected).find(|(found, expected)| found != expected) {
            return Err(format!("offset {} should have {}, found is {}@{}", expected.0, expected.1, found.1, found.0));
        }
        if log.len() != expected.len() {
            return Err(format!("{} records are read below {end}, {} were expected", log.len(), expected.len()));
        }
        self.cut(end);
        self.promised_end = self.promised_end.max(durable);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ottla_record::{BatchBuilder, Compression};
    use ottla_types::Uuid;

    use super::*;

    /// Three batches of one value each.
    fn model(promised_end: i64) -> PartitionModel {
        let batch = |offset: i64| {
            let value = Value { producer: 0, number: offset as u64 };
            let mut builder = BatchBuilder::new(Compression::NONE);
            builder.set_position(offset, 0);
            builder.append(0, None, Some(&value.encode(0)), &[]).unwrap();
            let bytes = builder.finish().unwrap();
            Batch { header: BatchHeader::parse(&bytes).unwrap(), bytes, values: vec![value] }
        };
        let existence = Existence::Present(Uuid([1; 16]));
        PartitionModel { batches: (0..3).map(batch).collect(), promised_end, existence, ..PartitionModel::new() }
    }

    #[test]
    fn a_recovery_may_have_lost_the_end_only_and_nothing_promised() {
        for (promised, kept, found, is_right) in [
            (0, false, &[0, 1, 2][..], true),
            (0, false, &[], true),
            (2, false, &[0, 1], true),
            (2, false, &[0], false),
            (0, false, &[0, 2], false),
            (0, false, &[1, 2], false),
            (0, true, &[0, 1, 2], true),
            (0, true, &[0, 1], false),
        ] {
            let values: Vec<(i64, Value)> =
                model(promised).values().filter(|(offset, _)| found.contains(offset)).collect();
            let end = found.last().map_or(0, |last| last + 1);
            for durable in [0, end] {
                let mut model = model(promised);
                let result = model.recovered(&values, 0, end, durable, kept);
                assert_eq!(result.is_ok(), is_right, "{promised} {kept} {found:?}: {result:?}");
                assert!(!is_right || (model.end(), model.promised_end) == (end, promised.max(durable)));
            }
        }
    }
}
