//! Where a node listens and which addresses it tells its clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::ListenerError;
use crate::settings::Settings;

/// The addresses of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// Every interface, IPv4 and IPv6.
    AllInterfaces,
    /// 127.0.0.1, and ::1 where the machine has IPv6.
    Loopback,
    Ip(IpAddr),
    /// A name to be resolved when the socket is opened.
    Name(String),
}

impl BindAddress {
    fn parse(host: &str) -> Self {
        if host.is_empty() {
            return Self::AllInterfaces;
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Self::Loopback;
        }
        match host.parse() {
            // One dual-stack socket serves both in Java, so `::` means every interface there.
            Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Self::AllInterfaces,
            Ok(address) => Self::Ip(address),
            Err(_) => Self::Name(host.to_owned()),
        }
    }
}

/// A socket that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Upper case, as Kafka normalises it.
    pub name: String,
    pub bind: BindAddress,
    /// 0: the system chooses.
    pub port: u16,
    /// Named by `controller.listener.names`: never advertised to clients.
    pub is_controller: bool,
}

/// What clients are told about one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedListener {
    pub name: String,
    /// Absent: this machine's own name.
    pub host: Option<String>,
    /// 0: the port the system chose for the listener.
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listeners {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) advertised: Vec<AdvertisedListener>,
}

#[derive(Clone, Debug)]
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

impl Listeners {
    pub(crate) fn resolve(settings: &Settings) -> Result<Self, ListenerError> {
        let controller_names: Vec<String> =
            settings.list("controller.listener.names").iter().map(|name| name.to_uppercase()).collect();
        let endpoints = parse_endpoints("listeners", &settings.list("listeners"))?;
        check_ports(&endpoints)?;
        check_protocols(settings, &endpoints, &controller_names)?;

        let is_controller = |name: &str| controller_names.iter().any(|controller| controller == name);
        if !controller_names.is_empty() && !endpoints.iter().any(|endpoint| is_controller(&endpoint.name)) {
            return Err(ListenerError::NoControllerListener);
        }
        let advertised = advertised(settings, &endpoints, is_controller)?;
        check_inter_broker(settings, &advertised)?;
        let listeners = endpoints.into_iter().map(|endpoint| Listener {
            bind: BindAddress::parse(&endpoint.host),
            port: endpoint.port,
            is_controller: is_controller(&endpoint.name),
            name: endpoint.name,
        });
        Ok(Self { listeners: listeners.collect(), advertised })
    }
}

fn parse_endpoints(key: &'static str, entries: &[String]) -> Result<Vec<Endpoint>, ListenerError> {
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(entries.len());
    for entry in entries {
        let endpoint = parse_endpoint(key, entry)?;
        if endpoints.iter().any(|other| other.name == endpoint.name) {
            return Err(ListenerError::DuplicateName { key, name: endpoint.name });
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

fn parse_endpoint(key: &'static str, entry: &str) -> Result<Endpoint, ListenerError> {
    let malformed = || ListenerError::Malformed { key, entry: entry.to_owned() };
    let (name, address) = entry.split_once("://").ok_or_else(malformed)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    let port: i64 = port.parse().map_err(|_| malformed())?;
    let port = u16::try_from(port).map_err(|_| ListenerError::Port { key, port })?;
    let bracketed = host.strip_prefix('[').map(|host| host.strip_suffix(']').ok_or_else(malformed)).transpose()?;
    let host = bracketed.unwrap_or(host);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
    // An address with colons stands in brackets, so that a forgotten port is not taken from its last group.
    if name.is_empty() || !host.chars().all(allowed) || (bracketed.is_none() && host.contains(':')) {
        return Err(malformed());
    }
    Ok(Endpoint { name: name.to_uppercase(), host: host.to_owned(), port })
}

/// Two listeners share a port only if one is an IPv4 and the other an IPv6 address.
fn check_ports(endpoints: &[Endpoint]) -> Result<(), ListenerError> {
    let family = |endpoint: &Endpoint| endpoint.host.parse::<IpAddr>().ok().map(|address| address.is_ipv4());
    for (index, second) in endpoints.iter().enumerate() {
        for first in &endpoints[..index] {
            let apart = matches!((family(first), family(second)), (Some(a), Some(b)) if a != b);
            if first.port == second.port && first.port != 0 && !apart {
                let names = (first.name.clone(), second.name.clone());
                return Err(ListenerError::DuplicatePort { first: names.0, second: names.1, port: first.port });
            }
        }
    }
    Ok(())
}

fn check_protocols(settings: &Settings, endpoints: &[Endpoint], controllers: &[String]) -> Result<(), ListenerError> {
    const PROTOCOLS: &[&str] = &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
    const MAP: &str = "listener.security.protocol.map";
    let mut protocols: BTreeMap<String, &'static str> = BTreeMap::new();
    let text = settings.text(MAP).unwrap_or_default();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let malformed = || ListenerError::MalformedProtocol { entry: entry.to_owned() };
        let (name, protocol) = entry.rsplit_once(':').ok_or_else(malformed)?;
        let known = PROTOCOLS.iter().find(|known| known.eq_ignore_ascii_case(protocol.trim()));
        let protocol = known.ok_or_else(|| ListenerError::UnknownProtocol { protocol: protocol.trim().to_owned() })?;
        protocols.insert(name.trim().to_uppercase(), protocol);
    }
    if !settings.is_set(MAP) {
        for name in controllers {
            protocols.entry(name.clone()).or_insert("PLAINTEXT");
        }
    }
    for Endpoint { name, .. } in endpoints {
        match protocols.get(name) {
            Some(&"PLAINTEXT") => {}
            Some(protocol) => return Err(ListenerError::ProtocolNotServed { name: name.clone(), protocol }),
            None => return Err(ListenerError::NoProtocol { name: name.clone() }),
        }
    }
    Ok(())
}

fn advertised(
    settings: &Settings,
    endpoints: &[Endpoint],
    is_controller: impl Fn(&str) -> bool,
) -> Result<Vec<AdvertisedListener>, ListenerError> {
    const KEY: &str = "advertised.listeners";
    let named = settings.set_value(KEY).map(|_| parse_endpoints(KEY, &settings.list(KEY))).transpose()?;
    let (key, source) = match &named {
        Some(named) => (KEY, named.as_slice()),
        None => ("listeners", endpoints),
    };
    let mut advertised = Vec::new();
    for endpoint in source {
        let Some(listener) = endpoints.iter().find(|listener| listener.name == endpoint.name) else {
            return Err(ListenerError::AdvertisedUnknown { name: endpoint.name.clone() });
        };
        if is_controller(&listener.name) {
            continue;
        }
        let host = match endpoint.host.parse() {
            Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => {
                return Err(ListenerError::NotRoutable { key, address: endpoint.host.clone() });
            }
            Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => None,
            _ => Some(endpoint.host.clone()).filter(|host| !host.is_empty()),
        };
        advertised.push(AdvertisedListener { name: endpoint.name.clone(), host, port: endpoint.port });
    }
    if advertised.is_empty() { Err(ListenerError::NoClientListener) } else { Ok(advertised) }
}

/// The listener for other nodes must be one that could be advertised to them, though there are none yet.
fn check_inter_broker(settings: &Settings, advertised: &[AdvertisedListener]) -> Result<(), ListenerError> {
    const KEY: &str = "inter.broker.listener.name";
    let Some(name) = settings.set_value(KEY).map(|value| value.canonical().to_uppercase()) else { return Ok(()) };
    if settings.is_set("security.inter.broker.protocol") {
        return Err(ListenerError::InterBrokerTwice);
    }
    if advertised.iter().any(|listener| listener.name == name) {
        return Ok(());
    }
    let allowed = advertised.iter().map(|listener| listener.name.clone()).collect();
    Err(ListenerError::InterBroker { name, allowed })
}
