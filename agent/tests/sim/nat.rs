//! A network address translator as RFC 4787 describes them: how it maps, what it lets in, for how long.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use agent::Time;

use crate::chance::Chance;

/// Which destinations share a mapping, or which sources may use it (RFC 4787, 4.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependence {
    /// All.
    EndpointIndependent,
    /// Those of one address.
    AddressDependent,
    /// One address and port.
    AddressAndPortDependent,
}

/// How a NAT behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    pub mapping: Dependence,
    pub filtering: Dependence,
    /// Silence from inside after which a mapping, or a permission to come in, ends. Datagrams from outside refresh
    /// nothing (REQ-6).
    pub lifetime: Duration,
    /// The outer port is the inner one where that is free.
    pub preserves_port: bool,
    /// Hosts behind it reach each other through its outer address.
    pub hairpins: bool,
}

impl Behaviour {
    pub const fn new(mapping: Dependence, filtering: Dependence) -> Self {
        Self { mapping, filtering, lifetime: Duration::from_secs(60), preserves_port: false, hairpins: false }
    }

    pub const FULL_CONE: Self = Self::new(Dependence::EndpointIndependent, Dependence::EndpointIndependent);
    pub const ADDRESS_RESTRICTED: Self = Self::new(Dependence::EndpointIndependent, Dependence::AddressDependent);
    pub const PORT_RESTRICTED: Self = Self::new(Dependence::EndpointIndependent, Dependence::AddressAndPortDependent);
    pub const SYMMETRIC: Self = Self::new(Dependence::AddressAndPortDependent, Dependence::AddressAndPortDependent);
}

/// What of a remote endpoint matters to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    All,
    Address(IpAddr),
    Endpoint(SocketAddr),
}

impl Dependence {
    const fn scope(self, remote: SocketAddr) -> Scope {
        match self {
            Self::EndpointIndependent => Scope::All,
            Self::AddressDependent => Scope::Address(remote.ip()),
            Self::AddressAndPortDependent => Scope::Endpoint(remote),
        }
    }
}

#[derive(Debug)]
struct Mapping {
    inner: SocketAddr,
    scope: Scope,
    used_at: Time,
    /// Who may come in, and when something was last sent there.
    permissions: BTreeMap<Scope, Time>,
}

/// The translator and its mappings by outer port.
#[derive(Debug)]
pub struct Nat {
    pub behaviour: Behaviour,
    outer: IpAddr,
    chance: Chance,
    mappings: BTreeMap<u16, Mapping>,
}

impl Nat {
    pub const fn new(behaviour: Behaviour, outer: IpAddr, chance: Chance) -> Self {
        Self { behaviour, outer, chance, mappings: BTreeMap::new() }
    }

    pub const fn outer(&self) -> IpAddr {
        self.outer
    }

    /// The outer source of a datagram from `inner` to `remote`.
    pub fn outbound(&mut self, now: Time, inner: SocketAddr, remote: SocketAddr) -> SocketAddr {
        let lifetime = self.behaviour.lifetime;
        self.mappings.retain(|_, mapping| now.since(mapping.used_at) <= lifetime);
        let scope = self.behaviour.mapping.scope(remote);
        let known = self.mappings.iter().find(|(_, mapping)| mapping.inner == inner && mapping.scope == scope);
        let port = known.map(|(port, _)| *port).unwrap_or_else(|| self.free_port(inner.port()));
        let mapping = self.mappings.entry(port).or_insert_with(|| Mapping {
            inner,
            scope,
            used_at: now,
            permissions: BTreeMap::new(),
        });
        mapping.used_at = now;
        mapping.permissions.insert(self.behaviour.filtering.scope(remote), now);
        SocketAddr::new(self.outer, port)
    }

    /// Whom a datagram from `remote` to our outer `port` reaches.
    pub fn inbound(&self, now: Time, remote: SocketAddr, port: u16) -> Option<SocketAddr> {
        let mapping = self.mappings.get(&port)?;
        let is_live = |at: Time| now.since(at) <= self.behaviour.lifetime;
        let permitted = mapping.permissions.get(&self.behaviour.filtering.scope(remote));
        (is_live(mapping.used_at) && permitted.is_some_and(|at| is_live(*at))).then_some(mapping.inner)
    }

    /// Forgets everything, as after a loss of power.
    pub fn reboot(&mut self) {
        self.mappings.clear();
    }

    /// The provider gives another outer address; old mappings are of no use.
    pub fn renumber(&mut self, outer: IpAddr) {
        self.outer = outer;
        self.reboot();
    }

    fn free_port(&mut self, wanted: u16) -> u16 {
        if self.behaviour.preserves_port && !self.mappings.contains_key(&wanted) {
            return wanted;
        }
        loop {
            let port = self.chance.between(1024, 65_535) as u16;
            if !self.mappings.contains_key(&port) {
                return port;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time(1_000_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn nat(behaviour: Behaviour) -> Nat {
        Nat::new(behaviour, "198.18.9.9".parse().unwrap(), Chance::new(5))
    }

    #[test]
    fn mappings_are_shared_as_far_as_the_behaviour_says() {
        let remotes = ["198.18.0.1:9001", "198.18.0.1:3478", "198.18.0.2:9001"].map(at);
        for (mapping, ports) in [
            (Dependence::EndpointIndependent, 1),
            (Dependence::AddressDependent, 2),
            (Dependence::AddressAndPortDependent, 3),
        ] {
            let mut nat = nat(Behaviour::new(mapping, Dependence::EndpointIndependent));
            let mut outer: Vec<_> = remotes.map(|remote| nat.outbound(START, at("10.0.0.2:4000"), remote)).to_vec();
            let again: Vec<_> = remotes.map(|remote| nat.outbound(START, at("10.0.0.2:4000"), remote)).to_vec();
            assert_eq!(outer, again);
            outer.sort();
            outer.dedup();
            assert_eq!(outer.len(), ports, "{mapping:?}");
            let other = nat.outbound(START, at("10.0.0.3:4000"), remotes[0]);
            assert!(!outer.contains(&other), "two hosts never share a port");
        }
    }

    #[test]
    fn filters_let_in_whom_the_behaviour_says() {
        let (sent_to, same_ip, other) = (at("198.18.0.1:9001"), at("198.18.0.1:1"), at("198.18.0.2:9001"));
        for (filtering, admitted) in [
            (Dependence::EndpointIndependent, [true, true, true]),
            (Dependence::AddressDependent, [true, true, false]),
            (Dependence::AddressAndPortDependent, [true, false, false]),
        ] {
            let mut nat = nat(Behaviour::new(Dependence::EndpointIndependent, filtering));
            let outer = nat.outbound(START, at("10.0.0.2:4000"), sent_to);
            let passes = [sent_to, same_ip, other].map(|remote| nat.inbound(START, remote, outer.port()).is_some());
            assert_eq!(passes, admitted, "{filtering:?}");
            assert_eq!(nat.inbound(START, sent_to, outer.port().wrapping_add(1)), None);
        }
    }

    #[test]
    fn only_traffic_from_inside_keeps_a_mapping() {
        let (inner, remote) = (at("10.0.0.2:4000"), at("198.18.0.1:9001"));
        let mut nat = nat(Behaviour { lifetime: SECOND * 30, ..Behaviour::FULL_CONE });
        let port = nat.outbound(START, inner, remote).port();
        assert!(nat.inbound(START + SECOND * 29, remote, port).is_some());
        assert!(nat.inbound(START + SECOND * 31, remote, port).is_none(), "inbound did not refresh it");
        assert_ne!(nat.outbound(START + SECOND * 31, inner, remote).port(), port);
    }

    #[test]
    fn a_permission_ends_by_itself_while_the_mapping_lives() {
        let (inner, relay, peer) = (at("10.0.0.2:4000"), at("198.18.0.1:9001"), at("198.18.0.2:4000"));
        let mut nat = nat(Behaviour { lifetime: SECOND * 30, ..Behaviour::PORT_RESTRICTED });
        let port = nat.outbound(START, inner, peer).port();
        assert_eq!(nat.outbound(START + SECOND * 20, inner, relay).port(), port);
        assert_eq!(nat.inbound(START + SECOND * 40, relay, port), Some(inner));
        assert_eq!(nat.inbound(START + SECOND * 40, peer, port), None);
    }

    #[test]
    fn ports_are_preserved_where_they_are_free() {
        let remote = at("198.18.0.1:9001");
        let mut nat = nat(Behaviour { preserves_port: true, ..Behaviour::PORT_RESTRICTED });
        assert_eq!(nat.outbound(START, at("10.0.0.2:4000"), remote).port(), 4000);
        assert_ne!(nat.outbound(START, at("10.0.0.3:4000"), remote).port(), 4000);
    }

    #[test]
    fn a_reboot_and_another_address_forget_everything() {
        let (inner, remote) = (at("10.0.0.2:4000"), at("198.18.0.1:9001"));
        let mut nat = nat(Behaviour::FULL_CONE);
        let port = nat.outbound(START, inner, remote).port();
        nat.reboot();
        assert_eq!(nat.inbound(START, remote, port), None);
        nat.outbound(START, inner, remote);
        nat.renumber("198.18.9.10".parse().unwrap());
        assert_eq!(nat.outbound(START, inner, remote).ip(), nat.outer());
    }
}
