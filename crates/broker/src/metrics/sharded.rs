//! One metric in several places, so that threads that count at the same time do not share a cache line.

use std::sync::OnceLock;

const SHARDS: usize = 8;

/// Copies of `T`, each made when the first thread that belongs to it counts something.
#[derive(Debug, Default)]
pub(crate) struct Sharded<T>([OnceLock<Box<T>>; SHARDS]);

impl<T: Default> Sharded<T> {
    /// The copy of this thread, and perhaps of a few others.
    pub(crate) fn here(&self) -> &T {
        self.0[shard()].get_or_init(Box::default)
    }

    /// Those that were made.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(OnceLock::get).map(Box::as_ref)
    }
}

/// Which shard this thread uses: by where its thread-local memory is, which needs no counter that nodes would share.
fn shard() -> usize {
    thread_local! {
        static PLACE: u8 = const { 0 };
    }
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let address = PLACE.with(|place| std::ptr::from_ref(place).addr()) as u64;
    // Thread-local memory of two threads is pages apart; the product's top bits depend on all of the address.
    ((address >> 12).wrapping_mul(SPREAD) >> (u64::BITS - SHARDS.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::super::Counter;
    use super::*;

    #[test]
    fn nothing_is_lost_between_threads() {
        let sharded = Sharded::<Counter>::default();
        assert_eq!(sharded.all().count(), 0, "made when first used");
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| (0..1000).for_each(|_| sharded.here().add(1)));
            }
        });
        assert_eq!(sharded.all().map(Counter::count).sum::<u64>(), 16_000);
    }
}
