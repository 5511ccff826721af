//! Which partition a record goes to: as Java's default partitioner decides, so that equal keys meet and records without
//! a key fill whole batches (KIP-794).

use std::collections::HashMap;
use std::fmt;

use parking_lot::Mutex;

use crate::metadata::TopicDescription;
use crate::producer::RecordRef;

/// Chooses partitions in place of the producer: `partitioner.class`.
pub trait Partitioner: fmt::Debug + Send + Sync {
    /// The partition of a record that names none; `None` leaves it to the producer. It is called with the producer
    /// locked, so it must not wait.
    fn partition(&self, record: &RecordRef<'_>, topic: &TopicDescription) -> Option<i32>;
}

/// One record for each partition in turn, whatever their keys.
#[derive(Debug, Default)]
pub struct RoundRobinPartitioner {
    next: Mutex<HashMap<String, usize>>,
}

impl Partitioner for RoundRobinPartitioner {
    fn partition(&self, record: &RecordRef<'_>, topic: &TopicDescription) -> Option<i32> {
        let led: Vec<i32> =
            topic.partitions.values().filter(|found| found.leader.is_some()).map(|found| found.partition).collect();
        let candidates = if led.is_empty() { topic.partitions.keys().copied().collect() } else { led };
        let mut next = self.next.lock();
        if !next.contains_key(record.topic) {
            next.insert(record.topic.to_owned(), 0);
        }
        let turn = next.get_mut(record.topic)?;
        let chosen = candidates.get(*turn % candidates.len().max(1)).copied();
        *turn = turn.wrapping_add(1);
        chosen
    }
}

/// Where records without a key go: to one partition until it has had a batch's worth, then to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sticky {
    /// `None` before the first record.
    position: Option<usize>,
    bytes: usize,
}

impl Sticky {
    /// Where a record of this size goes; `None` if another partition is to be chosen first. A batch that takes it
    /// (`joins`) is filled before that, so that changing makes no small batches, up to twice a batch's worth.
    pub(crate) fn place(self, size: usize, batch_size: usize, joins: impl FnOnce(usize) -> bool) -> Option<usize> {
        let position = self.position?;
        let bytes = self.bytes.saturating_add(size);
        let stays =
            self.bytes == 0 || bytes <= batch_size || (bytes <= batch_size.saturating_mul(2) && joins(position));
        stays.then_some(position)
    }

    pub(crate) fn choose(position: usize) -> Sticky {
        Sticky { position: Some(position), bytes: 0 }
    }

    /// Counts a record that this partition took, if it is the one: others come by their keys.
    pub(crate) fn took(&mut self, position: usize, size: usize) {
        if self.position == Some(position) {
            self.bytes = self.bytes.saturating_add(size);
        }
    }
}

/// Chooses among partitions, of which it is known how many batches wait for each, or `None` where nothing can be sent
/// now. With `adaptive`, those where fewer wait are chosen more often.
pub(crate) fn choose(waiting: &[Option<usize>], adaptive: bool, random: u64) -> usize {
    let Some(most) = waiting.iter().flatten().max() else {
        return (random % (waiting.len() as u64).max(1)) as usize;
    };
    let weight = |waiting: &Option<usize>| match waiting {
        None => 0,
        Some(waiting) if adaptive => (most - waiting) as u64 + 1,
        Some(_) => 1,
    };
    let mut ticket = random % waiting.iter().map(weight).sum::<u64>().max(1);
    for (position, waiting) in waiting.iter().enumerate() {
        let weight = weight(waiting);
        if ticket < weight {
            return position;
        }
        ticket -= weight;
    }
    0
}

/// MurmurHash2 as Kafka's Java clients compute it.
pub fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (position, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * position);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)).cast_signed()
}

/// The partition of a key among `partitions` of them, which is at least 1.
pub fn partition_for_key(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & i32::MAX) as usize % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by `org.apache.kafka.common.utils.Utils` of Apache Kafka 4.4.0.
    #[test]
    fn hashes_and_partitions_are_javas() {
        for (key, hash, partition_of_12) in [
            ("", 275_646_681, 9),
            ("a", -1_563_381_124, 4),
            ("ab", 316_155_434, 2),
            ("abc", 479_470_107, 3),
            ("abcd", -1_323_649_548, 8),
            ("21", -973_932_308, 0),
            ("foobar", -790_332_482, 6),
            ("a-little-bit-long-string", -985_981_536, 8),
            ("a-little-bit-longer-string", -1_486_304_829, 11),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971, 5),
            ("grüße", 1_943_707_148, 8),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
            assert_eq!(partition_for_key(key.as_bytes(), 12), partition_of_12, "{key}");
        }
        let every_byte: Vec<u8> = (0..=255).collect();
        assert_eq!(murmur2(&every_byte), -1_948_347_274);
    }

    #[test]
    fn a_partition_gets_a_batchs_worth() {
        let open = |_: usize| true;
        let none_open = |_: usize| false;
        assert_eq!(Sticky::default().place(10, 100, open), None, "none is chosen yet");
        let mut sticky = Sticky::choose(3);
        assert_eq!(sticky.place(500, 100, none_open), Some(3), "a record larger than a batch goes somewhere");
        sticky.took(3, 60);
        sticky.took(2, 1000);
        assert_eq!(sticky.place(40, 100, none_open), Some(3));
        assert_eq!(sticky.place(41, 100, open), Some(3), "the batch that is open is filled");
        assert_eq!(sticky.place(41, 100, none_open), None);
        sticky.took(3, 120);
        assert_eq!(sticky.place(20, 100, open), Some(3));
        assert_eq!(sticky.place(21, 100, open), None, "but not for ever");
    }

    #[test]
    fn partitions_that_keep_up_are_chosen_more_often() {
        let chosen = |waiting: &[Option<usize>], adaptive: bool| {
            let mut counts = vec![0; waiting.len()];
            for random in 0..600 {
                counts[choose(waiting, adaptive, random)] += 1;
            }
            counts
        };
        assert_eq!(chosen(&[Some(0), Some(0), Some(0)], true), [200, 200, 200]);
        assert_eq!(chosen(&[Some(0), Some(3), Some(4)], true), [375, 150, 75]);
        assert_eq!(chosen(&[Some(0), Some(3), Some(4)], false), [200, 200, 200]);
        assert_eq!(chosen(&[Some(1), None, Some(1)], true), [300, 0, 300], "no leader, no records");
        assert_eq!(chosen(&[None, None], true), [300, 300], "somewhere they have to go");
        assert_eq!(chosen(&[Some(usize::MAX - 1)], true), [600]);
    }
}
