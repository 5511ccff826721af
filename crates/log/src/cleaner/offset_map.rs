//! The newest offset of every key in a stretch of the log, in memory of a fixed size.
//!
//! A slot has 24 bytes, as in Kafka: a hash of 16 bytes in place of the key, and the offset. Two keys with one hash would
//! count as one, and the older record would be lost: with 2^22 keys in a map the chance is 2^-85, if nobody can aim for
//! it. So the hash is SipHash under a random key of each map, where Kafka has MD5, for which colliding keys are published.
//! Open addressing, linear: a hash that is met again is its own key, any other goes to the next slot.

use siphasher::sip128::SipHasher13;

const SLOT_BYTES: usize = 24;

/// Hash, then the offset plus one; all zero is vacant, so that fresh memory need not be written.
type Slot = [u64; 3];

pub(super) struct OffsetMap {
    hasher: SipHasher13,
    slots: Vec<Slot>,
    entries: usize,
    max_entries: usize,
}

/// The map takes no further key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapFull;

impl OffsetMap {
    /// A map in at most `memory_bytes`, filled up to `load_factor`; smaller where no more than `keys` can come.
    pub(super) fn new(memory_bytes: u64, load_factor: f64, keys: u64, hash_key: [u8; 16]) -> OffsetMap {
        let load_factor = load_factor.clamp(0.01, 0.99);
        let affordable = memory_bytes / SLOT_BYTES as u64;
        let needed = (keys as f64 / load_factor).ceil() as u64;
        let count = affordable.min(needed.saturating_add(1)).max(2) as usize;
        let max_entries = ((count as f64 * load_factor) as usize).clamp(1, count - 1);
        OffsetMap { hasher: SipHasher13::new_with_key(&hash_key), slots: vec![[0; 3]; count], entries: 0, max_entries }
    }

    /// Notes the offset of a key. One that is known gets the greater offset, even in a full map.
    pub(super) fn put(&mut self, key: &[u8], offset: i64) -> Result<(), MapFull> {
        let (index, hash) = self.find(key);
        let slot = &mut self.slots[index];
        let stored = offset as u64 + 1;
        if slot[2] == 0 {
            if self.entries == self.max_entries {
                return Err(MapFull);
            }
            self.entries += 1;
            *slot = [hash[0], hash[1], stored];
        } else {
            slot[2] = slot[2].max(stored);
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<i64> {
        let (index, _) = self.find(key);
        self.slots[index][2].checked_sub(1).map(|offset| offset as i64)
    }

    /// The slot that has the key, or the vacant one where it belongs. There is always a vacant one.
    fn find(&self, key: &[u8]) -> (usize, [u64; 2]) {
        let hash = self.hasher.hash(key);
        let count = self.slots.len();
        let mut index = ((u128::from(hash.h1) * count as u128) >> 64) as usize;
        loop {
            let slot = &self.slots[index];
            if slot[2] == 0 || (slot[0] == hash.h1 && slot[1] == hash.h2) {
                return (index, [hash.h1, hash.h2]);
            }
            index = if index + 1 == count { 0 } else { index + 1 };
        }
    }

    /// How many keys are in it.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.len() * SLOT_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(puts in proptest::collection::vec((0..40_u8, 0..1_000_i64), 0..200), memory in 0..2_000_u64) {
            let mut map = OffsetMap::new(memory, 0.9, 40, [3; 16]);
            prop_assert!(map.memory_bytes() <= (memory as usize).max(2 * SLOT_BYTES));
            let mut model: BTreeMap<u8, i64> = BTreeMap::new();
            for (key, offset) in puts {
                let put = map.put(&[key], offset);
                let fits = model.contains_key(&key) || model.len() < map.max_entries;
                prop_assert_eq!(put.is_ok(), fits);
                if fits {
                    let newest = model.entry(key).or_insert(offset);
                    *newest = (*newest).max(offset);
                }
            }
            prop_assert_eq!(map.len(), model.len());
            for key in 0..=255_u8 {
                prop_assert_eq!(map.get(&[key]), model.get(&key).copied(), "key {}", key);
            }
        }
    }

    #[test]
    fn its_memory_follows_the_keys_and_never_passes_the_limit() {
        for (memory, keys, slots) in [(24_000, 90, 101), (24_000, 1_000_000, 1_000), (0, 10, 2), (u64::MAX, 0, 2)] {
            let map = OffsetMap::new(memory, 0.9, keys, [0; 16]);
            assert_eq!(map.memory_bytes(), slots * SLOT_BYTES, "{memory} bytes, {keys} keys");
        }
        // Whoever has room for all keys is told of none too many.
        let mut map = OffsetMap::new(1 << 20, 0.9, 1_000, [1; 16]);
        for key in 0..1_000_u32 {
            map.put(&key.to_be_bytes(), i64::from(key)).unwrap();
        }
        assert_eq!(map.len(), 1_000);
    }
}
