//! How many connections there may be: in all (`max.connections`) and from one address (`max.connections.per.ip`). Both
//! limits can change at run time; connections above a lowered limit stay.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ottla_config::Network;
use ottla_rt::World;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The longest a host named in `max.connections.per.ip.overrides` is looked for.
const RESOLVE: Duration = Duration::from_secs(5);

pub(crate) struct ConnectionQuota {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// A connection ended, or a limit changed.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    limits: Limits,
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

#[derive(Debug, Default)]
struct Limits {
    all: usize,
    per_address: usize,
    overrides: BTreeMap<IpAddr, usize>,
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
    shared: Arc<Shared>,
}

impl ConnectionQuota {
    /// Without overrides, until [`Self::reconfigure`] has resolved them.
    pub(crate) fn new(network: &Network) -> ConnectionQuota {
        let limits = Limits {
            all: network.max_connections,
            per_address: network.max_connections_per_ip,
            overrides: BTreeMap::new(),
        };
        let state = Mutex::new(State { limits, ..State::default() });
        ConnectionQuota { shared: Arc::new(Shared { state, changed: Notify::new() }) }
    }

    /// Takes over the limits of a configuration; hosts that its overrides name are resolved once.
    pub(crate) async fn reconfigure(&self, world: &World, network: &Network) {
        let mut overrides = BTreeMap::new();
        for (host, limit) in &network.max_connections_per_ip_overrides {
            if let Ok(address) = host.parse::<IpAddr>() {
                overrides.insert(address, *limit);
                continue;
            }
            match tokio::time::timeout(RESOLVE, world.net.resolve(host, 0)).await {
                Ok(Ok(addresses)) => overrides.extend(addresses.into_iter().map(|address| (address.ip(), *limit))),
                Ok(Err(error)) => {
                    tracing::warn!(host, %error, "max.connections.per.ip.overrides names an unknown host");
                }
                Err(_) => tracing::warn!(host, "a host of max.connections.per.ip.overrides is not found in time"),
            }
        }
        self.shared.state.lock().limits =
            Limits { all: network.max_connections, per_address: network.max_connections_per_ip, overrides };
        self.shared.changed.notify_waiters();
    }

    /// Waits for a place among all connections; refuses at once when the address has too many.
    pub(crate) async fn admit(&self, address: IpAddr) -> Result<Admitted, Refused> {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if let Some(admitted) = self.try_admit(address)? {
                return Ok(admitted);
            }
            changed.await;
        }
    }

    fn try_admit(&self, address: IpAddr) -> Result<Option<Admitted>, Refused> {
        let mut state = self.shared.state.lock();
        let limit = state.limits.overrides.get(&address).copied().unwrap_or(state.limits.per_address);
        if state.by_address.get(&address).copied().unwrap_or(0) >= limit {
            return Err(Refused { limit });
        }
        if state.all >= state.limits.all {
            return Ok(None);
        }
        state.all += 1;
        *state.by_address.entry(address).or_insert(0) += 1;
        Ok(Some(Admitted { address, shared: Arc::clone(&self.shared) }))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.all -= 1;
        if let Some(count) = state.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                state.by_address.remove(&self.address);
            }
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ottla_config::ServerConfig;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
    }

    fn network(settings: &[(&str, &str)]) -> Network {
        let settings: Vec<_> = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        ServerConfig::load(None, &settings, None, true).unwrap().config.network
    }

    #[tokio::test]
    async fn an_address_has_a_limit_of_its_own() {
        let network = network(&[("max.connections.per.ip", "1"), ("max.connections.per.ip.overrides", "127.0.0.9:2")]);
        let quota = ConnectionQuota::new(&network);
        quota.reconfigure(&World::os(), &network).await;
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
        let quota = Arc::new(ConnectionQuota::new(&network(&[("max.connections", "1")])));
        let wait = |last: u8| {
            let quota = Arc::clone(&quota);
            tokio::spawn(async move { quota.admit(address(last)).await.unwrap() })
        };
        let first = quota.admit(address(1)).await.unwrap();
        let waiting = wait(2);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        let _second = waiting.await.unwrap();
        let waiting = wait(3);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        quota.reconfigure(&World::os(), &network(&[("max.connections", "2")])).await;
        waiting.await.unwrap();
    }
}
