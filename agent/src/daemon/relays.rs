//! Which relays the node may use: those the operator has named, or the directory's list. Names become addresses here.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::core::Core;
use super::sockets::Sockets;
use super::state::State;
use crate::config::values::HostPort;

/// Entries of a list that are looked at.
const RELAYS_MAX: usize = 64;
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// A list of which no name can be resolved is tried again so soon.
const RETRY: Duration = Duration::from_secs(15);

/// Gives the node the addresses of `first`, and of whatever list the directory sends.
pub async fn follow(
    core: Rc<Core>,
    sockets: Rc<Sockets>,
    state: Rc<State>,
    first: Vec<HostPort>,
    mut listed: mpsc::Receiver<Vec<String>>,
) {
    let mut places = first;
    loop {
        let addresses = resolve(&places, &sockets).await;
        let is_resolved = !addresses.is_empty() || places.is_empty();
        if !addresses.is_empty() {
            tracing::debug!(relays = ?addresses, "relays");
            core.act(|node, now| node.set_relays(now, &addresses));
        }
        let next = tokio::select! {
            next = listed.recv() => next,
            () = sleep(RETRY), if !is_resolved => continue,
        };
        let Some(texts) = next else { return };
        let known: Vec<HostPort> =
            texts.iter().take(RELAYS_MAX).filter_map(|text| HostPort::parse(text).ok()).collect();
        if known.is_empty() {
            // A directory without relays: what the node has is better than nothing.
            continue;
        }
        state.keep_relays(core.clock().now(), &texts).await;
        places = known;
    }
}

/// The addresses that this host has a socket for, in the order of `places`.
async fn resolve(places: &[HostPort], sockets: &Sockets) -> Vec<SocketAddr> {
    let has_v4 = sockets.local_addresses().any(|local| local.is_ipv4());
    let has_v6 = sockets.local_addresses().any(|local| local.is_ipv6());
    let mut addresses = Vec::new();
    for place in places {
        let found: Vec<SocketAddr> = match place.address() {
            Some(address) => vec![address],
            None => match timeout(LOOKUP_TIMEOUT, lookup_host((place.host.as_str(), place.port))).await {
                Ok(Ok(found)) => found.collect(),
                Ok(Err(error)) => {
                    tracing::warn!(relay = %place, %error, "the relay's name cannot be resolved");
                    Vec::new()
                }
                Err(_) => {
                    tracing::warn!(relay = %place, "the relay's name cannot be resolved in time");
                    Vec::new()
                }
            },
        };
        let usable = found.into_iter().filter(|address| if address.is_ipv4() { has_v4 } else { has_v6 });
        for address in usable {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    addresses
}
