//! Stands in for the crate `base2histogram` under openraft (`[patch.crates-io]` in the workspace).
//!
//! At its first use the original computes tables for all 16 of its resolutions: 25 MiB and some 20 ms, for a histogram
//! of batch sizes that openraft keeps and that nobody reads. This one has the interface openraft uses, and one
//! resolution of four buckets for each power of two. It can go when the original computes what it uses only.

use std::fmt;
use std::marker::PhantomData;

/// The lowest values have a bucket each.
const EXACT: u64 = 4;
const BUCKETS: usize = 4 * 63;

/// Counts values in buckets that are at most a quarter of their value wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    /// As long as the highest bucket that was hit.
    buckets: Vec<u64>,
    data: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    pub fn new() -> Self {
        Self { buckets: Vec::new(), data: PhantomData }
    }

    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = bucket_of(value);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] = self.buckets[bucket].saturating_add(count);
    }

    pub fn total(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.value_at(1),
            p1: self.value_at(10),
            p5: self.value_at(50),
            p10: self.value_at(100),
            p50: self.value_at(500),
            p90: self.value_at(900),
            p99: self.value_at(990),
            p99_9: self.value_at(999),
        }
    }

    /// The lower end of the bucket that holds this share of the values.
    fn value_at(&self, permille: u64) -> u64 {
        let wanted = u128::from(self.total()) * u128::from(permille);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u128::from(*count) * 1000;
            if seen > 0 && seen >= wanted {
                return lower_end(bucket);
            }
        }
        0
    }
}

fn bucket_of(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    let power = value.ilog2();
    let quarter = (value >> (power - 2)) & 3;
    ((u64::from(power) - 1) * 4 + quarter) as usize
}

fn lower_end(bucket: usize) -> u64 {
    debug_assert!(bucket < BUCKETS);
    if (bucket as u64) < EXACT {
        return bucket as u64;
    }
    (4 + bucket as u64 % 4) << (bucket / 4 - 1)
}

/// What a histogram comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, p99_9, .. } = self;
        write!(formatter, "{samples} samples, p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}")
    }
}

/// Histograms by name; shown as a line each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    series: Vec<(String, Histogram)>,
}

impl AsciiChart {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.series.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.series {
            writeln!(formatter, "{name}: {}", histogram.percentile_stats())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_a_quarter_wide_at_most() {
        let values = (0..5_000).chain((13..64).flat_map(|power| [(1 << power) - 1, 1 << power])).chain([u64::MAX]);
        let mut previous = 0;
        for value in values {
            let bucket = bucket_of(value);
            let lower = lower_end(bucket);
            assert!(lower <= value && value - lower <= lower / 4, "{value} in {bucket} from {lower}");
            assert!(bucket >= previous && bucket < BUCKETS, "{value} in {bucket} after {previous}");
            previous = bucket;
        }
    }

    #[test]
    fn percentiles() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        histogram.record_n(1, 98);
        histogram.record(64);
        histogram.record(1 << 40);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p50, stats.p99, stats.p99_9), (100, 1, 64, 1 << 40));
    }
}
