//! Limits reached, and released.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use ottla_config::ServerConfig;
use ottla_rt::{BoxFuture, Listener, Net, Stream};

use super::*;

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

fn network(settings: &[(&str, &str)]) -> Network {
    let settings: Vec<_> = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ServerConfig::load(None, &settings, None, true).unwrap().config.network
}

fn quota(settings: &[(&str, &str)]) -> Arc<ConnectionQuota> {
    Arc::new(ConnectionQuota::new(&network(settings)))
}

fn listener(name: &str) -> Arc<str> {
    Arc::from(name)
}

fn waiting(quota: &Arc<ConnectionQuota>, name: &str, last: u8) -> tokio::task::JoinHandle<Admitted> {
    let (quota, name) = (Arc::clone(quota), listener(name));
    tokio::spawn(async move { quota.admit(&name, address(last)).await.expect("not refused") })
}

async fn admit(quota: &ConnectionQuota, name: &str, last: u8) -> Result<Admitted, Refused> {
    quota.admit(&listener(name), address(last)).await
}

const TWO_LISTENERS: (&str, &str) = ("listeners", "PLAINTEXT://:9092,OTHER://:9093");
const THEIR_PROTOCOLS: (&str, &str) =
    ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,OTHER:PLAINTEXT,CONTROLLER:PLAINTEXT");

#[tokio::test]
async fn an_address_has_a_limit_of_its_own() {
    let network = network(&[("max.connections.per.ip", "1"), ("max.connections.per.ip.overrides", "127.0.0.9:2")]);
    let quota = ConnectionQuota::new(&network);
    let first = admit(&quota, "PLAINTEXT", 1).await.unwrap();
    assert_eq!(admit(&quota, "PLAINTEXT", 1).await.err(), Some(Refused { limit: 1 }));
    let _other = admit(&quota, "PLAINTEXT", 2).await.unwrap();
    let _ninth = (admit(&quota, "PLAINTEXT", 9).await.unwrap(), admit(&quota, "PLAINTEXT", 9).await.unwrap());
    assert_eq!(admit(&quota, "PLAINTEXT", 9).await.err(), Some(Refused { limit: 2 }));
    drop(first);
    admit(&quota, "PLAINTEXT", 1).await.unwrap();
}

#[tokio::test]
async fn an_override_may_name_a_host() {
    let network = network(&[("max.connections.per.ip", "0"), ("max.connections.per.ip.overrides", "localhost:1")]);
    let quota = ConnectionQuota::new(&network);
    quota.resolve(&World::os()).await;
    let _first = admit(&quota, "PLAINTEXT", 1).await.expect("localhost is 127.0.0.1");
    assert_eq!(admit(&quota, "PLAINTEXT", 1).await.err(), Some(Refused { limit: 1 }));
    assert_eq!(admit(&quota, "PLAINTEXT", 2).await.err(), Some(Refused { limit: 0 }));
}

/// A network whose name server is silent.
struct Silent;

impl Net for Silent {
    fn bind(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(std::future::pending())
    }

    fn connect<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(std::future::pending())
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn many_hosts_that_are_not_found_hold_nobody_up_for_long() {
    let hosts: Vec<String> = (0..1_000).map(|host| format!("host{host}:1")).chain(["127.0.0.9:1".to_owned()]).collect();
    let network = network(&[("max.connections.per.ip.overrides", &hosts.join(","))]);
    let quota = ConnectionQuota::new(&network);
    let begun = Instant::now();
    quota.resolve(&World { net: Arc::new(Silent), ..World::os() }).await;
    assert_eq!(begun.elapsed(), RESOLVE);
    let _first = admit(&quota, "PLAINTEXT", 9).await.unwrap();
    assert_eq!(admit(&quota, "PLAINTEXT", 9).await.err(), Some(Refused { limit: 1 }));
}

/// A network whose name server answers once.
#[derive(Default)]
struct Forgetful(AtomicBool);

impl Net for Forgetful {
    fn bind(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(std::future::pending())
    }

    fn connect<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(std::future::pending())
    }

    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let answered = self.0.swap(true, Ordering::Relaxed);
        let answer = if answered { Err(io::ErrorKind::NotFound.into()) } else { Ok(vec![(address(7), 0).into()]) };
        Box::pin(std::future::ready(answer))
    }
}

#[tokio::test]
async fn a_host_that_is_not_found_again_keeps_its_limit() {
    let world = World { net: Arc::new(Forgetful::default()), ..World::os() };
    let overrides = |value| network(&[("max.connections.per.ip.overrides", value)]);
    let quota = ConnectionQuota::new(&overrides("seven:0"));
    assert!(quota.reconfigure(&overrides("seven:0")), "it is to be looked up");
    quota.resolve(&world).await;
    assert_eq!(admit(&quota, "PLAINTEXT", 7).await.err(), Some(Refused { limit: 0 }));
    assert!(!quota.reconfigure(&overrides("seven:0")), "it was found");
    quota.resolve(&world).await;
    assert_eq!(admit(&quota, "PLAINTEXT", 7).await.err(), Some(Refused { limit: 0 }));
    assert!(quota.reconfigure(&overrides("seven:1,eight:1")), "one of them is new");
    let _only = admit(&quota, "PLAINTEXT", 7).await.unwrap();
    assert_eq!(admit(&quota, "PLAINTEXT", 7).await.err(), Some(Refused { limit: 1 }));
    assert!(quota.reconfigure(&overrides("eight:1")));
    admit(&quota, "PLAINTEXT", 7).await.expect("without an override");
}

#[tokio::test(start_paused = true)]
async fn above_a_lowered_limit_the_quietest_connections_are_closed() {
    let settings = [TWO_LISTENERS, THEIR_PROTOCOLS];
    let quota = quota(&settings);
    let _broker = admit(&quota, "PLAINTEXT", 1).await.unwrap();
    let mut connections = Vec::new();
    for last in 2..5 {
        connections.push(admit(&quota, "OTHER", last).await.unwrap());
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    connections[0].active(Instant::now());
    tokio::time::advance(Duration::from_secs(1)).await;
    connections[2].active(Instant::now());
    let limited = |limit| network(&[&settings[..], &[("max.connections", limit)]].concat());
    quota.reconfigure(&limited("3"));
    connections[1].evicted().await;
    // It is on its way out, and counts no more.
    quota.reconfigure(&limited("3"));
    quota.reconfigure(&limited("2"));
    connections[0].evicted().await;
    let stays = tokio::time::timeout(Duration::from_secs(1), connections[2].evicted()).await;
    assert!(stays.is_err(), "two are left, one of them the brokers'");
}

#[tokio::test]
async fn at_the_limit_of_all_the_next_one_waits() {
    let quota = quota(&[("max.connections", "1")]);
    let first = admit(&quota, "PLAINTEXT", 1).await.unwrap();
    let second = waiting(&quota, "PLAINTEXT", 2);
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    drop(first);
    let _second = second.await.unwrap();
    let third = waiting(&quota, "PLAINTEXT", 3);
    tokio::task::yield_now().await;
    assert!(!third.is_finished());
    assert!(!quota.reconfigure(&network(&[("max.connections", "2")])), "no host is named");
    third.await.unwrap();
}

#[tokio::test]
async fn a_listener_has_a_limit_of_its_own() {
    let settings = [TWO_LISTENERS, THEIR_PROTOCOLS, ("listener.name.other.max.connections", "1")];
    let quota = quota(&settings);
    let first = admit(&quota, "OTHER", 1).await.unwrap();
    let second = waiting(&quota, "OTHER", 1);
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    let _elsewhere = admit(&quota, "PLAINTEXT", 1).await.unwrap();
    drop(first);
    second.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_brokers_listener_takes_the_place_of_the_quietest_connection_elsewhere() {
    let quota = quota(&[TWO_LISTENERS, THEIR_PROTOCOLS, ("max.connections", "2")]);
    let busy = admit(&quota, "OTHER", 1).await.unwrap();
    let quiet = admit(&quota, "OTHER", 2).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    busy.active(Instant::now());
    let further = waiting(&quota, "OTHER", 3);
    let _broker = admit(&quota, "PLAINTEXT", 4).await.expect("not held up");
    quiet.evicted().await;
    let _another = admit(&quota, "PLAINTEXT", 5).await.expect("not held up");
    busy.evicted().await;
    drop((quiet, busy));
    tokio::task::yield_now().await;
    assert!(!further.is_finished(), "the brokers' two connections are all there may be");
    further.abort();
}

#[tokio::test(start_paused = true)]
async fn the_only_listener_is_not_protected() {
    let quota = quota(&[("max.connections", "1")]);
    let first = admit(&quota, "PLAINTEXT", 1).await.unwrap();
    let second = waiting(&quota, "PLAINTEXT", 2);
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    drop(first);
    second.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn new_connections_wait_for_the_stricter_of_the_two_rates() {
    let rates = [("max.connection.creation.rate", "10"), ("listener.name.other.max.connection.creation.rate", "1")];
    let quota = quota(&[&[TWO_LISTENERS, THEIR_PROTOCOLS][..], &rates].concat());
    let (node, other) = (listener("PLAINTEXT"), listener("OTHER"));
    for _ in 0..10 {
        assert_eq!(quota.throttle(&other), Duration::ZERO);
    }
    assert_eq!(quota.throttle(&other), Duration::from_secs(1));
    // The brokers' listener is free of the node's rate.
    for _ in 0..200 {
        assert_eq!(quota.throttle(&node), Duration::ZERO);
    }
    let single = self::quota(&[("max.connection.creation.rate", "10")]);
    let waits = (0..101).map(|_| single.throttle(&node)).collect::<Vec<_>>();
    assert!(waits[..100].iter().all(Duration::is_zero) && !waits[100].is_zero());
}

#[tokio::test]
async fn nothing_is_kept_of_connections_that_are_gone() {
    let quota = quota(&[]);
    for round in 0..1000_u32 {
        let address = IpAddr::V4(Ipv4Addr::from_bits(round));
        drop(quota.admit(&listener("PLAINTEXT"), address).await.unwrap());
    }
    let state = quota.shared.state.lock();
    assert!(state.connections.is_empty() && state.by_address.is_empty());
    assert_eq!(state.by_listener.values().map(|listener| listener.connections).sum::<usize>(), 0);
}
