//! How many connections there may be: in all (`max.connections`) and from one address (`max.connections.per.ip`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) struct ConnectionQuota {
    all: Arc<Semaphore>,
    per_address: usize,
    overrides: BTreeMap<IpAddr, usize>,
    by_address: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// The address has this many connections already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) limit: usize,
}

/// A place among the connections; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Admitted {
    address: IpAddr,
    by_address: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    _place: OwnedSemaphorePermit,
}

impl ConnectionQuota {
    /// Overrides that name a host rather than an address must have been resolved.
    pub(crate) fn new(all: usize, per_address: usize, overrides: BTreeMap<IpAddr, usize>) -> ConnectionQuota {
        ConnectionQuota {
            all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            per_address,
            overrides,
            by_address: Arc::default(),
        }
    }

    /// Waits for a place among all connections; refuses at once when the address has too many.
    pub(crate) async fn admit(&self, address: IpAddr) -> Result<Admitted, Refused> {
        let limit = self.overrides.get(&address).copied().unwrap_or(self.per_address);
        if self.by_address.lock().get(&address).copied().unwrap_or(0) >= limit {
            return Err(Refused { limit });
        }
        let place = Arc::clone(&self.all).acquire_owned().await;
        let place = place.expect("invariant: the semaphore of connections is never closed");
        *self.by_address.lock().entry(address).or_insert(0) += 1;
        Ok(Admitted { address, by_address: Arc::clone(&self.by_address), _place: place })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut by_address = self.by_address.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
    }

    #[tokio::test]
    async fn an_address_has_a_limit_of_its_own() {
        let quota = ConnectionQuota::new(100, 1, BTreeMap::from([(address(9), 2)]));
        let first = quota.admit(address(1)).await.unwrap();
        assert_eq!(quota.admit(address(1)).await.unwrap_err(), Refused { limit: 1 });
        let _other = quota.admit(address(2)).await.unwrap();
        let _ninth = (quota.admit(address(9)).await.unwrap(), quota.admit(address(9)).await.unwrap());
        assert_eq!(quota.admit(address(9)).await.unwrap_err(), Refused { limit: 2 });
        drop(first);
        quota.admit(address(1)).await.unwrap();
    }

    #[tokio::test]
    async fn at_the_limit_of_all_the_next_one_waits() {
        let quota = Arc::new(ConnectionQuota::new(1, 100, BTreeMap::new()));
        let first = quota.admit(address(1)).await.unwrap();
        let waiting = tokio::spawn({
            let quota = Arc::clone(&quota);
            async move { quota.admit(address(2)).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap().unwrap();
    }
}
