//! Randomness.

/// A source of random bytes: the system's, or a seeded one.
pub trait Entropy: Send + Sync {
    fn fill(&self, bytes: &mut [u8]);
}

/// A uniformly distributed number.
pub fn random_u64(entropy: &dyn Entropy) -> u64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// A uniformly distributed number ≥ 0, as session ids and the like want it.
pub fn random_i32(entropy: &dyn Entropy) -> i32 {
    (random_u64(entropy) >> 33) as i32
}
