//! Exact percentiles of latencies: every one is kept.

#[derive(Debug, Default)]
pub struct Latencies {
    nanoseconds: Vec<u64>,
}

impl Latencies {
    pub fn with_capacity(records: usize) -> Self {
        Self { nanoseconds: Vec::with_capacity(records) }
    }

    pub fn add(&mut self, nanoseconds: u64) {
        self.nanoseconds.push(nanoseconds);
    }

    pub fn len(&self) -> usize {
        self.nanoseconds.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nanoseconds.is_empty()
    }

    /// The smallest latency that at least `share` of all stay at or below (nearest rank), in milliseconds.
    fn percentile_ms(sorted: &[u64], share: f64) -> f64 {
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted[rank.clamp(1, sorted.len()) - 1] as f64 / 1e6
    }

    /// The fields of a JSON object, without braces; nothing when there is no latency.
    pub fn json_fields(mut self) -> String {
        if self.nanoseconds.is_empty() {
            return String::new();
        }
        self.nanoseconds.sort_unstable();
        let at = |share| Self::percentile_ms(&self.nanoseconds, share);
        format!(
            ", \"p50_ms\": {:.4}, \"p99_ms\": {:.4}, \"p999_ms\": {:.4}, \"max_ms\": {:.4}",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Latencies;

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut latencies = Latencies::default();
        for millisecond in (1..=1000).rev() {
            latencies.add(millisecond * 1_000_000);
        }
        assert_eq!(
            latencies.json_fields(),
            ", \"p50_ms\": 500.0000, \"p99_ms\": 990.0000, \"p999_ms\": 999.0000, \"max_ms\": 1000.0000"
        );
    }

    #[test]
    fn one_latency_is_every_percentile() {
        let mut latencies = Latencies::default();
        latencies.add(2_000_000);
        assert!(latencies.json_fields().starts_with(", \"p50_ms\": 2.0000, \"p99_ms\": 2.0000"));
    }
}
