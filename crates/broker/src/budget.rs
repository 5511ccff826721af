//! Bounds on memory: byte budgets in separate pools.
//!
//! A pool is taken from before bytes are read and given back when they are no longer needed. The pools are separate so
//! that one kind of work that waits cannot starve the kind it waits for. The pools of requests are divided once more, so
//! that whoever waits for bytes waits only for those who will give some back ([`RequestPool`]).

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

    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.units.available_permits() * UNIT
    }

    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.capacity)
    }
}

/// A frame up to this length is small: a connection reads as much ahead of any reservation.
pub(crate) const SMALL_FRAME: usize = 64 << 10;

/// A pool for the frames of one kind of requests, in three parts.
///
/// Frames take what they need as they come from `arriving`. Were that all, frames of which each is half there could
/// together hold everything, and wait for each other. So who finds it empty waits elsewhere, and nobody waits who holds
/// what the others there wait for: a large frame takes all of its rest at once from `completing`, first come, first
/// served, and then only its peer's bytes are missing, for which there are limits of time. A small frame is counted when
/// it is whole; it takes from `small`, which large ones never do: only requests that are handled hold bytes there.
#[derive(Debug)]
pub(crate) struct RequestPool {
    arriving: Budget,
    completing: Budget,
    small: Budget,
}

/// The bytes that one frame has taken.
#[derive(Debug, Default)]
pub(crate) struct FrameBytes {
    arrived: Option<Reserved>,
    /// Of one of the other parts; taken once, and for all that was still missing.
    granted: Option<Reserved>,
}

impl FrameBytes {
    pub(crate) fn grant(&mut self, reserved: Reserved) {
        self.granted = Some(reserved);
    }
}

impl RequestPool {
    pub(crate) fn new(bytes: u64) -> RequestPool {
        let (completing, small) = (bytes / 4, bytes / 8);
        RequestPool {
            arriving: Budget::new(bytes - completing - small),
            completing: Budget::new(completing),
            small: Budget::new(small),
        }
    }

    /// Adds so many bytes to what a frame holds, if they are there.
    pub(crate) fn try_add(&self, bytes: usize, held: &mut FrameBytes) -> bool {
        match self.arriving.try_reserve(bytes) {
            Some(reserved) => {
                reserved.add_to(&mut held.arrived);
                true
            }
            None => false,
        }
    }

    /// Waits for all of the rest of a frame. One that is larger than the part gets all of the part, and then is let in:
    /// what is more is bounded by the largest frame, one at a time.
    pub(crate) async fn complete(&self, length: usize, rest: usize) -> Reserved {
        if length <= SMALL_FRAME { self.small.reserve(rest).await } else { self.completing.reserve(rest).await }
    }

    /// Takes all that is there, but for so much of the first part.
    #[cfg(test)]
    pub(crate) fn take_all_but(&self, left: usize) -> Vec<Reserved> {
        let parts = [&self.arriving, &self.completing, &self.small];
        let [arriving, completing, small] = parts.map(Budget::free_bytes);
        let wanted = [arriving - left, completing, small];
        parts.into_iter().zip(wanted).filter_map(|(part, bytes)| part.try_reserve(bytes)).collect()
    }

    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        [&self.arriving, &self.completing, &self.small].map(Budget::free_bytes).iter().sum()
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

    #[test]
    fn a_pool_is_as_large_as_its_parts() {
        for bytes in [1 << 20, 128 << 20] {
            let pool = RequestPool::new(bytes);
            assert_eq!(pool.free_bytes() as u64, bytes);
            let mut held = FrameBytes::default();
            assert!(pool.try_add(100 << 10, &mut held) && pool.try_add(1, &mut held));
            assert_eq!(pool.free_bytes() as u64, bytes - (101 << 10));
            assert!(!pool.try_add(usize::MAX, &mut held), "what is under way is not all there is");
            drop(held);
            assert_eq!(pool.free_bytes() as u64, bytes);
        }
    }
}
