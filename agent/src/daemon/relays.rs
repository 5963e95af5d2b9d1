//! Which relays the node may use: those the operator has named, or the directory's list. Names become addresses here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::core::Core;
use super::sockets::Sockets;
use super::state::State;
use crate::config::values::HostPort;

/// Entries of a list that are looked at.
const RELAYS_MAX: usize = 64;
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// A list of which a name could not be resolved is tried again so soon.
const RETRY: Duration = Duration::from_secs(15);
/// Names may come to mean other addresses: they are looked up again so often.
const REFRESH: Duration = Duration::from_secs(300);

/// Which relays are to be used.
#[derive(Debug)]
pub struct Wanted {
    /// Those to begin with.
    pub first: Vec<HostPort>,
    /// And no others, whatever the directory lists.
    pub fixed: bool,
}

/// Gives the node the addresses of `first`, and of whatever list the directory sends, again whenever names have come to
/// mean others. `lost` says that no relay answers, which is when names are worth another look at once.
pub async fn follow(
    core: Rc<Core>,
    sockets: Rc<Sockets>,
    state: Rc<State>,
    wanted: Wanted,
    mut listed: mpsc::Receiver<Vec<String>>,
    lost: Rc<Notify>,
) {
    let mut places = wanted.first;
    let mut names = Names::default();
    let mut told = Vec::new();
    loop {
        let addresses = resolve(&places, &mut names, &sockets).await;
        if !addresses.is_empty() && addresses != told {
            tracing::debug!(relays = ?addresses, "relays");
            core.act(|node, now| node.set_relays(now, &addresses));
            told = addresses;
        }
        let tracing = tracing(&core.look(|node| node.relays_that_trace().to_vec()), &names);
        core.act(|node, _| node.set_trace_relays(&tracing));
        let claiming = claiming(&core.look(|node| node.relays_that_take_claims().to_vec()), &names);
        core.act(|node, now| node.set_claim_relays(now, &claiming));
        let has_names = places.iter().any(|place| place.address().is_none());
        let is_well = names.failing.is_empty() && core.look(|node| node.relay().is_some());
        let next = tokio::select! {
            next = listed.recv() => next,
            () = sleep(if is_well { REFRESH } else { RETRY }), if has_names => continue,
            () = lost.notified(), if has_names => continue,
        };
        let Some(texts) = next else { return };
        let known: Vec<HostPort> =
            texts.iter().take(RELAYS_MAX).filter_map(|text| HostPort::parse(text).ok()).collect();
        if known.is_empty() || wanted.fixed {
            // A directory without relays: what the node has is better than nothing. Who named relays wants these; the list
            // says what they understand.
            continue;
        }
        state.keep_relays(core.clock().now(), &texts).await;
        places = known;
        names.retain(&places);
    }
}

/// The addresses of relays that take trace messages.
fn tracing(texts: &[String], names: &Names) -> Vec<SocketAddr> {
    texts.iter().take(RELAYS_MAX).flat_map(|text| names.addresses(text)).collect()
}

/// The addresses of relays that take signed claims, with their keys.
fn claiming(relays: &[(String, [u8; 32])], names: &Names) -> Vec<(SocketAddr, [u8; 32])> {
    let keyed = |(text, key): &(String, [u8; 32])| {
        let key = *key;
        names.addresses(text).into_iter().map(move |address| (address, key))
    };
    relays.iter().take(RELAYS_MAX).flat_map(keyed).collect()
}

/// What names meant when they were last looked up.
#[derive(Debug, Default)]
struct Names {
    known: BTreeMap<String, Vec<SocketAddr>>,
    /// Those of which the last look-up failed.
    failing: BTreeSet<String>,
}

impl Names {
    /// What an entry of a list means now, as far as it is known.
    fn addresses(&self, text: &str) -> Vec<SocketAddr> {
        match HostPort::parse(text) {
            Ok(place) => match place.address() {
                Some(address) => vec![address],
                None => self.known.get(&place.to_string()).cloned().unwrap_or_default(),
            },
            Err(_) => Vec::new(),
        }
    }

    /// A name server may give the same addresses in another order each time: that is no news.
    fn learn(&mut self, name: String, found: Vec<SocketAddr>) -> &[SocketAddr] {
        self.failing.remove(&name);
        let known = self.known.entry(name).or_default();
        let is_same = known.len() == found.len() && found.iter().all(|address| known.contains(address));
        if !is_same {
            *known = found;
        }
        known
    }

    /// A name that cannot be resolved just now means what it meant. The operator hears of it once.
    fn fail(&mut self, name: String, reason: &str) -> &[SocketAddr] {
        if self.failing.insert(name.clone()) {
            tracing::warn!(relay = %name, %reason, "the relay's name cannot be resolved; trying on");
        }
        self.known.get(&name).map(Vec::as_slice).unwrap_or_default()
    }

    fn retain(&mut self, places: &[HostPort]) {
        let names: BTreeSet<String> = places.iter().map(ToString::to_string).collect();
        self.known.retain(|name, _| names.contains(name));
        self.failing.retain(|name| names.contains(name));
    }
}

/// The addresses that this host has a socket for, in the order of `places`.
async fn resolve(places: &[HostPort], names: &mut Names, sockets: &Sockets) -> Vec<SocketAddr> {
    let has_v4 = sockets.local_addresses().any(|local| local.is_ipv4());
    let has_v6 = sockets.local_addresses().any(|local| local.is_ipv6());
    let mut addresses = Vec::new();
    for place in places {
        let address = place.address();
        let found = match &address {
            Some(address) => std::slice::from_ref(address),
            None => match timeout(LOOKUP_TIMEOUT, lookup_host((place.host.as_str(), place.port))).await {
                Ok(Ok(found)) => names.learn(place.to_string(), found.collect()),
                Ok(Err(error)) => names.fail(place.to_string(), &error.to_string()),
                Err(_) => names.fail(place.to_string(), "the name server takes too long"),
            },
        };
        let usable = found.iter().copied().filter(|address| if address.is_ipv4() { has_v4 } else { has_v6 });
        for address in usable {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_what_it_meant_until_it_means_something_else() {
        let [a, b, c] = [1, 2, 3].map(|host| SocketAddr::from(([192, 0, 2, host], 9001)));
        let mut names = Names::default();
        let name = || "relay.example:9001".to_owned();
        assert_eq!(names.fail(name(), "no such name"), []);
        assert!(!names.failing.is_empty());
        assert_eq!(names.learn(name(), vec![a, b]), [a, b]);
        assert!(names.failing.is_empty());
        // The same in another order, and nothing at all, are no news.
        assert_eq!(names.learn(name(), vec![b, a]), [a, b]);
        assert_eq!(names.fail(name(), "no such name"), [a, b]);
        assert_eq!(names.learn(name(), vec![b, c]), [b, c]);
        // What is not listed any more is forgotten.
        names.fail(name(), "no such name");
        names.retain(&[]);
        assert!(names.failing.is_empty() && names.known.is_empty());
    }
}
