//! Which partition a record goes to: as Java's default partitioner decides, so that equal keys meet.

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
}
