//! How many connections there may be, and how fast they may come: Kafka's `max.connections`,
//! `max.connection.creation.rate`, both also of one listener (`listener.name.NAME.`), and `max.connections.per.ip` with
//! its overrides. All of them can change at run time; above a lowered `max.connections` the connections without traffic for
//! the longest are closed, as in Kafka, and those above another lowered limit stay.
//!
//! A listener at a limit stops accepting, so that clients wait in its backlog; one address's too many are accepted and
//! closed, as in Kafka. The brokers' own listener, where it is not the only one, is not held up by the node's limits:
//! a connection there takes the place of one elsewhere, the longest without traffic.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ottla_config::Network;
use ottla_rt::World;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connection_rate::ConnectionRate;

/// The longest a host named in `max.connections.per.ip.overrides` is looked for.
const RESOLVE: Duration = Duration::from_secs(5);

pub(crate) struct ConnectionQuota {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Instant,
    state: Mutex<State>,
    /// A connection ended, or a limit changed.
    changed: Notify,
}

#[derive(Default)]
struct State {
    limits: Limits,
    /// Every connection, by the number it got.
    connections: BTreeMap<u64, Arc<Connected>>,
    next: u64,
    rate: ConnectionRate,
    by_address: BTreeMap<IpAddr, usize>,
    by_listener: BTreeMap<Arc<str>, OfListener>,
}

#[derive(Default)]
struct OfListener {
    connections: usize,
    rate: ConnectionRate,
}

#[derive(Default)]
struct Limits {
    network: Option<Arc<Network>>,
    /// Where hosts that overrides name were last found.
    found: BTreeMap<String, Vec<IpAddr>>,
    /// The overrides by address.
    overrides: BTreeMap<IpAddr, usize>,
}

/// One connection that was let in.
struct Connected {
    listener: Arc<str>,
    /// When bytes last came, in milliseconds since the quota was made.
    active_ms: AtomicU64,
    leaving: AtomicBool,
    evicted: Notify,
}

/// The address has this many connections already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) limit: usize,
}

/// A place among the connections; dropping it gives it back.
pub(crate) struct Admitted {
    number: u64,
    address: IpAddr,
    connected: Arc<Connected>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Admitted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = (&self.connected.listener, &self.address);
        formatter.debug_struct("Admitted").field("number", &self.number).field("of", &of).finish_non_exhaustive()
    }
}

impl Admitted {
    /// Ends when the place is needed for a connection that matters more.
    pub(crate) async fn evicted(&self) {
        self.connected.evicted.notified().await;
    }

    /// Bytes came.
    pub(crate) fn active(&self, now: Instant) {
        self.connected.active_ms.store(self.shared.millis(now), Ordering::Relaxed);
    }
}

impl ConnectionQuota {
    /// Overrides that name hosts have no effect before [`Self::resolve`].
    pub(crate) fn new(network: &Network) -> ConnectionQuota {
        let mut state = State::default();
        state.limits.set_network(network);
        let shared = Shared { origin: Instant::now(), state: Mutex::new(state), changed: Notify::new() };
        ConnectionQuota { shared: Arc::new(shared) }
    }

    /// Takes over the limits of a configuration. True if hosts are to be looked up: the overrides name others than before,
    /// or some that were not found. Until then they keep their addresses.
    pub(crate) fn reconfigure(&self, network: &Network) -> bool {
        let mut state = self.shared.state.lock();
        let have_changed = state.limits.set_network(network);
        state.evict(state.excess());
        let limits = &state.limits;
        let to_be_found = limits.hosts().any(|host| have_changed || !limits.found.contains_key(host));
        drop(state);
        self.shared.changed.notify_waiters();
        to_be_found
    }

    /// Looks up the hosts that overrides name, in [`RESOLVE`] for all together. One that is not found keeps the addresses
    /// it had.
    pub(crate) async fn resolve(&self, world: &World) {
        let hosts: Vec<String> = self.shared.state.lock().limits.hosts().map(str::to_owned).collect();
        let deadline = Instant::now() + RESOLVE;
        for host in hosts {
            match tokio::time::timeout_at(deadline, world.net.resolve(&host, 0)).await {
                Ok(Ok(addresses)) => {
                    let addresses = addresses.into_iter().map(|address| address.ip()).collect();
                    self.shared.state.lock().limits.set_found(host, addresses);
                }
                Ok(Err(error)) => {
                    tracing::warn!(host, %error, "max.connections.per.ip.overrides names an unknown host");
                }
                Err(_) => tracing::warn!(host, "a host of max.connections.per.ip.overrides is not found in time"),
            }
        }
        self.shared.changed.notify_waiters();
    }

    /// Counts a connection of this listener, and tells how long it has to wait for the rates.
    pub(crate) fn throttle(&self, listener: &Arc<str>) -> Duration {
        let now = self.shared.origin.elapsed();
        let mut state = self.shared.state.lock();
        let (limit, protected) = (state.limits.rate(), state.limits.is_protected(listener));
        let own_limit = state.limits.rate_of(listener);
        let of_node = if protected { Duration::ZERO } else { state.rate.record(now, limit) };
        of_node.max(state.listener(listener).rate.record(now, own_limit))
    }

    /// Waits for a place; refuses when the address has too many.
    pub(crate) async fn admit(&self, listener: &Arc<str>, address: IpAddr) -> Result<Admitted, Refused> {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if let Some(admitted) = self.try_admit(listener, address)? {
                return Ok(admitted);
            }
            changed.await;
        }
    }

    fn try_admit(&self, listener: &Arc<str>, address: IpAddr) -> Result<Option<Admitted>, Refused> {
        let mut state = self.shared.state.lock();
        let (all, own) = (state.limits.connections(), state.limits.connections_of(listener));
        let protected = state.limits.is_protected(listener);
        if state.listener(listener).connections >= own || (!protected && state.connections.len() >= all) {
            return Ok(None);
        }
        let limit = state.limits.of_address(address);
        if state.by_address.get(&address).copied().unwrap_or(0) >= limit {
            return Err(Refused { limit });
        }
        let number = state.next;
        let connected = Arc::new(Connected {
            listener: Arc::clone(listener),
            active_ms: AtomicU64::new(self.shared.millis(Instant::now())),
            leaving: AtomicBool::new(false),
            evicted: Notify::new(),
        });
        state.next += 1;
        state.connections.insert(number, Arc::clone(&connected));
        state.listener(listener).connections += 1;
        *state.by_address.entry(address).or_insert(0) += 1;
        if state.connections.len() > all {
            state.evict(1);
        }
        Ok(Some(Admitted { number, address, connected, shared: Arc::clone(&self.shared) }))
    }
}

impl Shared {
    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_millis() as u64
    }
}

impl State {
    fn listener(&mut self, name: &Arc<str>) -> &mut OfListener {
        self.by_listener.entry(Arc::clone(name)).or_default()
    }

    /// How many connections there are above the limit of all, but for those that are being closed.
    fn excess(&self) -> usize {
        let leaving = self.connections.values().filter(|connected| connected.leaving.load(Ordering::Relaxed)).count();
        (self.connections.len() - leaving).saturating_sub(self.limits.connections())
    }

    /// Closes so many connections, those that have been quiet the longest, of those the brokers do not need.
    fn evict(&self, count: usize) {
        if count == 0 {
            return;
        }
        let may_go = |connected: &&Arc<Connected>| {
            !connected.leaving.load(Ordering::Relaxed) && !self.limits.is_protected(&connected.listener)
        };
        let mut candidates: Vec<_> = self.connections.values().filter(may_go).collect();
        candidates.sort_by_key(|connected| connected.active_ms.load(Ordering::Relaxed));
        for quietest in candidates.into_iter().take(count) {
            quietest.leaving.store(true, Ordering::Relaxed);
            quietest.evicted.notify_one();
        }
    }
}

impl Limits {
    /// True if the overrides are others than before.
    fn set_network(&mut self, network: &Network) -> bool {
        let before = self.network.replace(Arc::new(network.clone()));
        self.found.retain(|host, _| network.max_connections_per_ip_overrides.contains_key(host));
        self.place_overrides();
        before.is_none_or(|before| before.max_connections_per_ip_overrides != network.max_connections_per_ip_overrides)
    }

    fn set_found(&mut self, host: String, addresses: Vec<IpAddr>) {
        // They may have changed while it was looked for.
        if self.hosts().any(|named| named == host) {
            self.found.insert(host, addresses);
            self.place_overrides();
        }
    }

    /// The hosts that overrides name other than by their addresses.
    fn hosts(&self) -> impl Iterator<Item = &str> {
        let named = self.network.iter().flat_map(|network| network.max_connections_per_ip_overrides.keys());
        named.map(String::as_str).filter(|host| host.parse::<IpAddr>().is_err())
    }

    fn place_overrides(&mut self) {
        self.overrides.clear();
        let Some(network) = &self.network else { return };
        for (host, limit) in &network.max_connections_per_ip_overrides {
            if let Ok(address) = host.parse::<IpAddr>() {
                self.overrides.insert(address, *limit);
            } else {
                let found = self.found.get(host).into_iter().flatten();
                self.overrides.extend(found.map(|address| (*address, *limit)));
            }
        }
    }

    fn connections(&self) -> usize {
        self.network.as_ref().map_or(usize::MAX, |network| network.max_connections)
    }

    fn connections_of(&self, listener: &str) -> usize {
        let network = self.network.as_ref();
        network.and_then(|network| network.listeners.get(listener)?.max_connections).unwrap_or(usize::MAX)
    }

    fn rate(&self) -> u32 {
        self.network.as_ref().map_or(u32::MAX, |network| network.max_connection_creation_rate)
    }

    fn rate_of(&self, listener: &str) -> u32 {
        let network = self.network.as_ref();
        network.and_then(|network| network.listeners.get(listener)?.max_connection_creation_rate).unwrap_or(u32::MAX)
    }

    fn of_address(&self, address: IpAddr) -> usize {
        let default = self.network.as_ref().map_or(usize::MAX, |network| network.max_connections_per_ip);
        self.overrides.get(&address).copied().unwrap_or(default)
    }

    fn is_protected(&self, listener: &str) -> bool {
        let protected = |network: &Arc<Network>| network.protected_listener.as_deref() == Some(listener);
        self.network.as_ref().is_some_and(protected)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.connections.remove(&self.number);
        state.listener(&self.connected.listener).connections -= 1;
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
mod tests;
