//! A sorted map that is cheap to clone and shares what has not changed.
//!
//! Entries sit in sorted chunks of at most [`CHUNK_MAX`]; the map is a list of chunks. A clone copies one pointer; the
//! first change after it copies the list of chunks and one chunk. So a change costs `O(n / CHUNK_MAX + CHUNK_MAX)`
//! pointer copies (a few microseconds at 10,000 entries), and two versions can be compared in the size of what differs,
//! because equal chunks are the same chunk. A balanced tree would grow slower beyond a million entries, and cost more
//! memory and code below that.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

/// The most entries of a chunk.
const CHUNK_MAX: usize = 64;
/// Two neighbours that have no more than this together become one.
const CHUNK_MERGE: usize = CHUNK_MAX / 2;

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// A sorted map; see the module's text for its costs.
#[derive(Clone, Debug)]
pub struct SharedMap<K, V> {
    /// No chunk is empty; keys ascend within and across chunks.
    chunks: Arc<Vec<Chunk<K, V>>>,
    len: usize,
}

/// One key on which two maps differ.
#[derive(Debug, PartialEq, Eq)]
pub enum Difference<'a, K, V> {
    Added(&'a K, &'a V),
    Removed(&'a K, &'a V),
    Changed(&'a K, &'a V, &'a V),
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { chunks: Arc::new(Vec::new()), len: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (chunk, position) = self.find(key);
        let (found, value) = self.chunks.get(chunk)?.get(position.ok()?)?;
        debug_assert!(found.borrow() == key);
        Some(value)
    }

    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get(key).is_some()
    }

    /// Every entry, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|(key, value)| (key, value))
    }

    /// The entries from this key on (inclusive).
    pub fn iter_from<Q>(&self, key: &Q) -> impl Iterator<Item = (&K, &V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (chunk, position) = self.find(key);
        let skip = match position {
            Ok(position) | Err(position) => position,
        };
        self.chunks[chunk.min(self.chunks.len())..]
            .iter()
            .flat_map(|chunk| chunk.iter())
            .skip(skip)
            .map(|(key, value)| (key, value))
    }

    /// Puts a value; returns the one it replaces.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (index, position) = self.find(&key);
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.is_empty() {
            chunks.push(Arc::new(vec![(key, value)]));
            self.len = 1;
            return None;
        }
        // A key after all others goes to the end of the last chunk.
        let (index, position) =
            if index == chunks.len() { (index - 1, Err(chunks[index - 1].len())) } else { (index, position) };
        let chunk = Arc::make_mut(&mut chunks[index]);
        match position {
            Ok(position) => Some(std::mem::replace(&mut chunk[position].1, value)),
            Err(position) => {
                chunk.insert(position, (key, value));
                self.len += 1;
                if chunk.len() > CHUNK_MAX {
                    let upper = chunk.split_off(CHUNK_MAX / 2);
                    chunks.insert(index + 1, Arc::new(upper));
                }
                None
            }
        }
    }

    /// The value in place; what other clones share is copied first.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (index, position) = self.find(key);
        let position = position.ok()?;
        let chunk = Arc::make_mut(&mut Arc::make_mut(&mut self.chunks)[index]);
        Some(&mut chunk[position].1)
    }

    /// Takes an entry out.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (index, position) = self.find(key);
        let position = position.ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let (_, value) = Arc::make_mut(&mut chunks[index]).remove(position);
        self.len -= 1;
        if chunks[index].is_empty() {
            chunks.remove(index);
        } else {
            let first = if index > 0 && chunks[index - 1].len() + chunks[index].len() <= CHUNK_MERGE {
                Some(index - 1)
            } else if index + 1 < chunks.len() && chunks[index].len() + chunks[index + 1].len() <= CHUNK_MERGE {
                Some(index)
            } else {
                None
            };
            if let Some(first) = first {
                let second = chunks.remove(first + 1);
                Arc::make_mut(&mut chunks[first]).extend(second.iter().cloned());
            }
        }
        Some(value)
    }

    /// The chunk that holds the key or would (one past the last for a key after all others), and the position in it.
    fn find<Q>(&self, key: &Q) -> (usize, Result<usize, usize>)
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let index = self.chunks.partition_point(|chunk| chunk.last().is_some_and(|(last, _)| last.borrow() < key));
        match self.chunks.get(index) {
            None => (index, Err(0)),
            Some(chunk) => (index, chunk.binary_search_by(|(candidate, _)| candidate.borrow().cmp(key))),
        }
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> SharedMap<K, V> {
    /// What must happen to `earlier` to become this map, in the order of the keys. Chunks both have are skipped.
    pub fn differences_from<'a>(&'a self, earlier: &'a Self) -> Vec<Difference<'a, K, V>> {
        let mut differences = Vec::new();
        if Arc::ptr_eq(&self.chunks, &earlier.chunks) {
            return differences;
        }
        let mut old = Cursor::new(&earlier.chunks);
        let mut new = Cursor::new(&self.chunks);
        loop {
            while old.skip_shared(&mut new) {}
            match (old.entry(), new.entry()) {
                (None, None) => return differences,
                (Some((key, value)), None) => {
                    differences.push(Difference::Removed(key, value));
                    old.advance();
                }
                (None, Some((key, value))) => {
                    differences.push(Difference::Added(key, value));
                    new.advance();
                }
                (Some((old_key, old_value)), Some((new_key, new_value))) => match old_key.cmp(new_key) {
                    Ordering::Less => {
                        differences.push(Difference::Removed(old_key, old_value));
                        old.advance();
                    }
                    Ordering::Greater => {
                        differences.push(Difference::Added(new_key, new_value));
                        new.advance();
                    }
                    Ordering::Equal => {
                        if old_value != new_value {
                            differences.push(Difference::Changed(new_key, old_value, new_value));
                        }
                        old.advance();
                        new.advance();
                    }
                },
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.differences_from(other).is_empty()
    }
}

impl<K: Ord + Clone, V: Clone + Eq> Eq for SharedMap<K, V> {}

/// A place in a list of chunks.
struct Cursor<'a, K, V> {
    chunks: &'a [Chunk<K, V>],
    position: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn new(chunks: &'a [Chunk<K, V>]) -> Self {
        Self { chunks, position: 0 }
    }

    fn entry(&self) -> Option<&'a (K, V)> {
        self.chunks.first()?.get(self.position)
    }

    fn advance(&mut self) {
        self.position += 1;
        if self.chunks.first().is_some_and(|chunk| self.position >= chunk.len()) {
            self.chunks = &self.chunks[1..];
            self.position = 0;
        }
    }

    /// Passes over a chunk both are at the start of.
    fn skip_shared(&mut self, other: &mut Self) -> bool {
        let shared = self.position == 0
            && other.position == 0
            && matches!((self.chunks.first(), other.chunks.first()), (Some(left), Some(right)) if Arc::ptr_eq(left, right));
        if shared {
            self.chunks = &self.chunks[1..];
            other.chunks = &other.chunks[1..];
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn check_invariants(map: &SharedMap<u16, u32>) {
        assert!(map.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_MAX));
        let keys: Vec<_> = map.iter().map(|(key, _)| *key).collect();
        assert!(keys.is_sorted_by(|left, right| left < right));
        assert_eq!(keys.len(), map.len());
    }

    proptest! {
        #[test]
        fn behaves_as_a_btree_map(steps in proptest::collection::vec((any::<bool>(), 0u16..600, any::<u32>()), 0..1500)) {
            let mut map = SharedMap::default();
            let mut model = BTreeMap::new();
            let mut earlier = map.clone();
            let mut earlier_model = model.clone();
            for (position, (put, key, value)) in steps.into_iter().enumerate() {
                if put {
                    prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(map.get(&key), model.get(&key));
                if position % 97 == 0 {
                    check_invariants(&map);
                    // The difference, applied to the earlier map, gives this one.
                    let mut rebuilt: BTreeMap<u16, u32> = earlier_model.clone();
                    for difference in map.differences_from(&earlier) {
                        match difference {
                            Difference::Added(key, value) => prop_assert_eq!(rebuilt.insert(*key, *value), None),
                            Difference::Removed(key, value) => prop_assert_eq!(rebuilt.remove(key), Some(*value)),
                            Difference::Changed(key, old, new) => {
                                prop_assert!(old != new);
                                prop_assert_eq!(rebuilt.insert(*key, *new), Some(*old));
                            }
                        }
                    }
                    prop_assert_eq!(&rebuilt, &model);
                    // What was cloned has not moved.
                    prop_assert!(earlier.iter().map(|(key, value)| (*key, *value)).eq(earlier_model.clone()));
                    earlier = map.clone();
                    earlier_model.clone_from(&model);
                }
            }
            check_invariants(&map);
            prop_assert!(map.iter().map(|(key, value)| (*key, *value)).eq(model.clone()));
            for start in [0u16, 1, 299, 600] {
                let from: Vec<_> = map.iter_from(&start).map(|(key, _)| *key).collect();
                let expected: Vec<_> = model.range(start..).map(|(key, _)| *key).collect();
                prop_assert_eq!(from, expected);
            }
        }
    }

    #[test]
    fn a_change_leaves_the_other_chunks_shared() {
        let mut map = SharedMap::default();
        for key in 0..10_000u16 {
            map.insert(key, u32::from(key));
        }
        let earlier = map.clone();
        map.insert(5_000, 1);
        let copied =
            map.chunks.iter().zip(earlier.chunks.iter()).filter(|(left, right)| !Arc::ptr_eq(left, right)).count();
        assert_eq!(copied, 1);
        assert_eq!(map.differences_from(&earlier), [Difference::Changed(&5_000, &5_000, &1)]);
    }
}
