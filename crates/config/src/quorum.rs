//! Which nodes are controllers. One voter is supported so far, and it is this node.

use crate::error::{ConfigWarning, QuorumError};
use crate::listeners::{AdvertisedListener, BindAddress, Listener};
use crate::settings::{Findings, Settings};

/// Refuses every quorum but that of this node alone.
pub(crate) fn check(
    settings: &Settings,
    node_id: i32,
    listeners: &[Listener],
    advertised: &[AdvertisedListener],
    findings: &mut Findings,
) {
    let mut roles = settings.list("process.roles");
    roles.sort_unstable();
    if roles != ["broker", "controller"] {
        findings.error(QuorumError::Roles { roles: roles.join(",") });
        return;
    }
    if let Err(error) = check_voters(settings, node_id) {
        findings.error(error);
    }
    match check_servers(settings, listeners, advertised) {
        Ok(warning) => findings.warnings.extend(warning),
        Err(error) => findings.error(error),
    }
}

fn check_voters(settings: &Settings, node_id: i32) -> Result<(), QuorumError> {
    let voters = settings.list("controller.quorum.voters");
    let mut ids = Vec::with_capacity(voters.len());
    for entry in &voters {
        let malformed = || QuorumError::MalformedVoter { entry: entry.clone() };
        let (id, address) = entry.split_once('@').ok_or_else(malformed)?;
        split_address(address).ok_or_else(malformed)?;
        ids.push(id.parse::<i32>().map_err(|_| malformed())?);
    }
    if ids.iter().all(|&id| id == node_id) && ids.len() <= 1 {
        Ok(())
    } else {
        Err(QuorumError::Voters { node_id, voters: voters.join(",") })
    }
}

fn check_servers(
    settings: &Settings,
    listeners: &[Listener],
    advertised: &[AdvertisedListener],
) -> Result<Option<ConfigWarning>, QuorumError> {
    let servers = settings.list("controller.quorum.bootstrap.servers");
    let [server] = servers.as_slice() else {
        return if servers.is_empty() { Ok(None) } else { Err(QuorumError::Servers { servers: servers.join(",") }) };
    };
    let malformed = || QuorumError::MalformedServer { entry: server.clone() };
    let (host, port) = split_address(server).ok_or_else(malformed)?;
    let controllers = || listeners.iter().filter(|listener| listener.is_controller);
    if controllers().next().is_some() && !controllers().any(|listener| listener.port == port || listener.port == 0) {
        let ports = controllers().map(|listener| listener.port).collect();
        return Err(QuorumError::AnotherPort { server: server.clone(), ports });
    }
    let bound = |listener: &Listener| match &listener.bind {
        BindAddress::AllInterfaces | BindAddress::Loopback => false,
        BindAddress::Ip(address) => address.to_string() == host,
        BindAddress::Name(name) => name == host,
    };
    let this_node = matches!(host, "localhost" | "127.0.0.1" | "::1")
        || listeners.iter().any(bound)
        || advertised.iter().any(|listener| listener.host.as_deref() == Some(host));
    Ok((!this_node).then(|| ConfigWarning::TakenForThisNode { server: server.clone() }))
}

/// `host:port`, where an IPv6 address stands in brackets.
fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').map_or(Some(host), |rest| rest.strip_suffix(']'))?;
    if host.is_empty() { None } else { Some((host, port.parse().ok()?)) }
}
