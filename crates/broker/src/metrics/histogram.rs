//! How values are distributed: counted in buckets whose width grows with the value.
//!
//! Eight buckets between two powers of two: a quantile is known to an eighth of its value, in 2 KiB and with two atomic
//! additions for each value. Values from 2^32 on are counted with the greatest.

use std::sync::atomic::{AtomicU64, Ordering};

const SUBDIVISION_BITS: u32 = 3;
const SUBDIVISIONS: u64 = 1 << SUBDIVISION_BITS;
const GREATEST: u64 = u32::MAX as u64;
pub(super) const BUCKETS: usize = ((32 - SUBDIVISION_BITS + 1) << SUBDIVISION_BITS) as usize;

#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub(crate) fn record(&self, value: u64) {
        self.buckets[bucket(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed))
    }
}

fn bucket(value: u64) -> usize {
    let value = value.min(GREATEST);
    if value < SUBDIVISIONS {
        return value as usize;
    }
    let exponent = value.ilog2();
    let within = (value >> (exponent - SUBDIVISION_BITS)) & (SUBDIVISIONS - 1);
    (u64::from(exponent - SUBDIVISION_BITS + 1) * SUBDIVISIONS + within) as usize
}

/// The greatest value that is counted in a bucket.
pub(super) fn upper_bound(bucket: usize) -> u64 {
    let (group, within) = (bucket as u64 / SUBDIVISIONS, bucket as u64 % SUBDIVISIONS);
    match group {
        0 => within,
        _ => ((SUBDIVISIONS + within + 1) << (group - 1)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_bound(BUCKETS - 1), GREATEST);
        for index in 0..BUCKETS {
            let upper = upper_bound(index);
            assert_eq!(bucket(upper), index);
            if index + 1 < BUCKETS {
                assert_eq!(bucket(upper + 1), index + 1);
            }
            let lower = if index == 0 { 0 } else { upper_bound(index - 1) + 1 };
            assert!(upper - lower <= lower / SUBDIVISIONS, "{lower}..={upper} is too wide");
        }
    }
}
