//! The directory's side of the seam: what it knows goes to the shards, what they know comes back.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use directory::enrolment::Quota;
use directory::{Known, RelayLink};
use relay::locals::Service;
use relay::quota::{self, QUOTAS_MAX};
use relay::runtime::Relay;
use relay::server::Handoff;
use wire::NodeId;
use wire::registry::answer::{EXTENSION_CLAIM, EXTENSION_TRACE};

/// Connects the embedded directory with the relay in the same process.
#[derive(Debug)]
pub struct Link {
    relay: Arc<Relay>,
    /// `HOST:PORT` as given, or nothing.
    advertise: Vec<String>,
    /// Nodes may sign claims for the relay with this key.
    relay_key: Option<[u8; 32]>,
    warned: AtomicBool,
    /// Nodes with a quota of their own, as the shards were told.
    quotas: Mutex<HashMap<NodeId, Quota>>,
}

impl Link {
    /// A link to `relay` that hands out `advertise`, or the address a client has reached, and the relay's key where it
    /// takes signed claims.
    #[must_use]
    pub fn new(relay: Arc<Relay>, advertise: Vec<String>, relay_key: Option<[u8; 32]>) -> Self {
        let port = relay.beacon_port();
        let advertise = advertise.into_iter().filter_map(|text| with_port(text, port?)).collect();
        Self { relay, advertise, relay_key, warned: AtomicBool::new(false), quotas: Mutex::default() }
    }
}

impl Link {
    /// The beacon's address a client that has reached `local` should use: that one where it is served, else one of the
    /// same family, else any.
    fn beacon_near(&self, local: IpAddr) -> Option<IpAddr> {
        let locals = self.relay.locals();
        let beacons = locals.iter().filter(|(_, local)| local.service == Service::Beacon && local.present);
        let distance = |ip: &IpAddr| (*ip != local, ip.is_ipv4() != local.is_ipv4());
        beacons.map(|(_, local)| local.bound.ip()).min_by_key(distance)
    }
}

impl RelayLink for Link {
    fn publish(&self, node: NodeId, known: &Known) {
        self.relay.membership().publish(node, &known.proven, known.last);
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let before = quotas.get(&node).copied().unwrap_or_default();
        if known.quota != before {
            quotas.insert(node, known.quota);
            if quotas.len() > QUOTAS_MAX {
                tracing::warn!(%node, "{QUOTAS_MAX} nodes have a quota of their own, as many as can have; this one has none");
            }
            let Quota { packets_per_second, bytes_per_second } = known.quota;
            let quota = quota::Quota::new(packets_per_second, bytes_per_second);
            self.relay.hand_to_all(Handoff::Quota(node, quota));
        }
        if known.quota == Quota::DEFAULT {
            quotas.remove(&node);
        }
    }

    fn withdraw(&self, node: NodeId) {
        self.relay.membership().withdraw(node);
        let had_quota = self.quotas.lock().unwrap_or_else(PoisonError::into_inner).remove(&node).is_some();
        if had_quota {
            self.relay.hand_to_all(Handoff::Quota(node, quota::Quota::default()));
        }
        // Whoever was banned must not go on until the next sweep.
        self.relay.hand_surely(node, Handoff::Withdraw(node));
    }

    fn notify(&self, node: NodeId) {
        self.relay.hand(node, Handoff::Notify(node));
    }

    fn advertised(&self, local: IpAddr) -> Vec<String> {
        let Some(port) = self.relay.beacon_port() else { return Vec::new() };
        if !self.advertise.is_empty() {
            return self.advertise.clone();
        }
        let Some(local) = self.beacon_near(local.to_canonical()) else { return Vec::new() };
        if is_private(local) && !local.is_loopback() && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(%local, "handing out a private relay address; name the public one with --advertise");
        }
        vec![SocketAddr::new(local, port).to_string()]
    }

    fn extensions(&self) -> Vec<String> {
        let claim = self.relay_key.map(|_| EXTENSION_CLAIM.to_owned());
        std::iter::once(EXTENSION_TRACE.to_owned()).chain(claim).collect()
    }

    fn relay_key(&self) -> Option<[u8; 32]> {
        self.relay_key
    }
}

fn with_port(text: String, port: u16) -> Option<String> {
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, port).to_string());
    }
    Some(if text.contains(':') { text } else { format!("{text}:{port}") })
}

/// Addresses that mean nothing outside the local network.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}
