//! Bounds on memory: byte budgets in separate pools.
//!
//! A pool is taken from before bytes are read and given back when they are no longer needed. The pools are separate so
//! that one kind of work that waits cannot starve the kind it waits for.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The smallest amount accounted for: below it, counting costs more than it protects.
const UNIT: usize = 1024;

/// A pool of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    capacity: u32,
}

/// Bytes taken from a pool; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Reserved {
    permit: OwnedSemaphorePermit,
}

impl Reserved {
    /// Takes over what another one of the same pool holds.
    pub(crate) fn merge(&mut self, other: Reserved) {
        self.permit.merge(other.permit);
    }

    /// Puts a reservation to those that are held already.
    pub(crate) fn add_to(self, held: &mut Option<Reserved>) {
        match held {
            Some(held) => held.merge(self),
            None => *held = Some(self),
        }
    }

    /// Gives back what is above this many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let kept = bytes.div_ceil(UNIT);
        let surplus = self.permit.num_permits().saturating_sub(kept);
        drop(self.permit.split(surplus));
    }
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Budget {
        let capacity = u32::try_from(bytes / UNIT as u64).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4);
        Budget { units: Arc::new(Semaphore::new(capacity as usize)), capacity }
    }

    /// Waits for this many bytes. A request larger than the pool takes the whole pool rather than waiting for ever.
    pub(crate) async fn reserve(&self, bytes: usize) -> Reserved {
        let units = self.units_of(bytes);
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        Reserved { permit: permit.expect("invariant: a budget's semaphore is never closed") }
    }

    /// Takes the bytes if they are there.
    pub(crate) fn try_reserve(&self, bytes: usize) -> Option<Reserved> {
        let permit = Arc::clone(&self.units).try_acquire_many_owned(self.units_of(bytes)).ok()?;
        Some(Reserved { permit })
    }

    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        let budget = Budget::new(10 * 1024);
        let half = budget.try_reserve(5 * 1024).unwrap();
        assert!(budget.try_reserve(6 * 1024).is_none());
        drop(half);
        let everything = budget.try_reserve(usize::MAX).unwrap();
        assert!(budget.try_reserve(1).is_none());
        drop(everything);
        let mut shrunk = budget.try_reserve(10 * 1024).unwrap();
        shrunk.shrink_to(1);
        assert!(budget.try_reserve(9 * 1024).is_some());
        shrunk.shrink_to(0);
        assert!(budget.try_reserve(10 * 1024).is_some());
    }
}
