//! Seeded choices of a scenario.

use std::ops::Range;
use std::time::Duration;

use ottla_rt::memory::SeededEntropy;
use ottla_rt::random_u64;

/// A stream of choices. Each purpose has its own, so that asking one more question there changes nothing here.
pub struct Choice(SeededEntropy);

impl Choice {
    pub fn new(seed: u64, purpose: &str) -> Choice {
        // FNV-1a: any mixing will do that is the same everywhere.
        let mixed = purpose
            .bytes()
            .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Choice(SeededEntropy::new(mixed))
    }

    pub fn number(&self) -> u64 {
        random_u64(&self.0)
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    pub fn within(&self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    pub fn duration_ms(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// True once in so many times.
    pub fn one_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn of<'a, T>(&self, options: &'a [T]) -> &'a T {
        &options[self.below(options.len() as u64) as usize]
    }
}
