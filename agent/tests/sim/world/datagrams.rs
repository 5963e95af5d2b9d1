//! How datagrams travel: out through a NAT, over the internet, in through another.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use agent::Time;
use wire::beacon::Message;

use super::{Datagram, Happening, SENT_PER_SECOND_MAX, START, Site, SiteId, World, same_24};
use crate::host::{Host, HostId, Process};

impl World {
    /// Sends a datagram from a host's socket.
    pub fn send(&mut self, host: HostId, to: SocketAddr, bytes: Vec<u8>) {
        if !self.hosts[host.0].is_raw() {
            self.watch.see(self.now.0, &bytes);
        }
        let sent = self.hosts[host.0].count_sent(self.now);
        assert!(sent < SENT_PER_SECOND_MAX, "{host:?} sends {sent} datagrams in a second; seed {}", self.seed);
        let Host { site, .. } = self.hosts[host.0];
        let from = self.hosts[host.0].socket();
        if !self.hosts[host.0].is_raw() {
            self.recorder.record(from, to, &bytes);
        }
        self.trace(&format!("h{} sent", host.0), Some((from, to, &bytes)));
        let now = self.now;
        if let Some(racer) = self.recorder.racer.filter(|racer| *racer != host) {
            // Somebody on the way sends a copy ahead, from an address of its own.
            let copy = Datagram { from: self.hosts[racer.0].socket(), to, bytes: bytes.clone() };
            self.push(now, Happening::Routed(copy));
        }
        let Site { nat, up, lan, cut, isolated, outer, .. } = &mut self.sites[site.0];
        let is_near = match (to.ip(), &nat) {
            (IpAddr::V4(to), Some(_)) => to.is_private(),
            (to, None) => same_24(to, *outer),
            _ => false,
        };
        if is_near && *isolated {
            self.faults.undeliverable += 1;
            return;
        }
        if is_near {
            let arrivals = lan.carry(now, bytes.len());
            return self.push_copies(arrivals, Datagram { from, to, bytes }, |d| Happening::AtHost(site, d));
        }
        if *cut {
            self.faults.undeliverable += 1;
            return;
        }
        let Some(nat) = nat else {
            let arrivals = up.carry(now, bytes.len());
            return self.push_copies(arrivals, Datagram { from, to, bytes }, Happening::Routed);
        };
        let from = nat.outbound(now, from, to);
        if to.ip() == nat.outer() {
            match nat.inbound(now, from, to.port()).filter(|_| nat.behaviour.hairpins) {
                Some(inner) => {
                    let arrivals = lan.carry(now, bytes.len());
                    let datagram = Datagram { from, to: inner, bytes };
                    self.push_copies(arrivals, datagram, |d| Happening::AtHost(site, d));
                }
                None => self.faults.filtered += 1,
            }
            return;
        }
        let arrivals = up.carry(now, bytes.len());
        self.push_copies(arrivals, Datagram { from, to, bytes }, Happening::Routed);
    }

    /// Puts a datagram on the internet whose sender lies about its address.
    pub fn forge(&mut self, datagram: Datagram) {
        self.push(self.now + Duration::from_millis(5), Happening::Routed(datagram));
    }

    pub(super) fn push_copies(
        &mut self,
        at: [Option<Time>; 2],
        datagram: Datagram,
        what: impl Fn(Datagram) -> Happening,
    ) {
        for at in at.into_iter().flatten() {
            self.push(at, what(datagram.clone()));
        }
    }

    pub(super) fn route(&mut self, datagram: Datagram) {
        let (from, to, bytes) = (datagram.from.ip(), datagram.to.ip(), datagram.bytes.len());
        let joins = |&(one, other): &(IpAddr, IpAddr)| same_24(one, from) && same_24(other, to);
        let is_blocked = self.blocked.iter().any(|&(one, other)| joins(&(one, other)) || joins(&(other, one)));
        let now = self.now;
        let site = self.sites.iter().position(|site| match &site.nat {
            Some(nat) => nat.outer() == to,
            None => same_24(to, site.outer),
        });
        let relay = self.relays.iter().position(|relay| relay.ip == to);
        match (site, relay) {
            (Some(site), _) if !is_blocked && !self.sites[site].cut => {
                let arrivals = self.sites[site].down.carry(now, bytes);
                self.push_copies(arrivals, datagram, |d| Happening::AtSite(SiteId(site), d));
            }
            (_, Some(relay)) if !is_blocked => {
                let arrivals = self.relay_links[relay][0].carry(now, bytes);
                self.push_copies(arrivals, datagram, |d| Happening::AtRelay(relay, d));
            }
            _ => self.faults.undeliverable += 1,
        }
    }

    pub(super) fn arrive(&mut self, site: SiteId, datagram: Datagram) {
        let inner = match &self.sites[site.0].nat {
            None => Some(datagram.to),
            Some(nat) if nat.outer() == datagram.to.ip() => nat.inbound(self.now, datagram.from, datagram.to.port()),
            Some(_) => None,
        };
        match inner {
            Some(to) => self.deliver(site, Datagram { to, ..datagram }),
            None => {
                self.trace("filtered", Some((datagram.from, datagram.to, &datagram.bytes)));
                self.faults.filtered += 1;
            }
        }
    }

    pub(super) fn deliver(&mut self, site: SiteId, Datagram { from, to, mut bytes }: Datagram) {
        let host = self.hosts.iter().position(|host| host.site == site && host.socket() == to && !host.suspended);
        let Some(host) = host else {
            self.faults.undeliverable += 1;
            return;
        };
        self.trace(&format!("h{host} got"), Some((from, to, &bytes)));
        match &mut self.hosts[host].process {
            Process::Raw(inbox) => inbox.push_back((from, bytes)),
            Process::Node(_) => self.with_node(HostId(host), |now, node| node.handle_datagram(now, from, &mut bytes)),
        }
    }

    pub(super) fn sent_by_relay(&mut self, relay: usize, sent: Vec<Datagram>) {
        for datagram in sent {
            self.watch.see(self.now.0, &datagram.bytes);
            self.trace("relay sent", Some((datagram.from, datagram.to, &datagram.bytes)));
            let arrivals = self.relay_links[relay][1].carry(self.now, datagram.bytes.len());
            self.push_copies(arrivals, datagram, Happening::Routed);
        }
        let due = self.relays[relay].poll_timeout().max(self.now);
        if self.relays[relay].wake_at != due {
            self.relays[relay].wake_at = due;
            self.push(due, Happening::RelayDue(relay));
        }
    }

    /// Prints what happens to a datagram, or what else happens, where that is wanted.
    pub fn trace(&self, what: &str, datagram: Option<(SocketAddr, SocketAddr, &[u8])>) {
        if !self.traced {
            return;
        }
        let at = self.now.since(START).as_secs_f64();
        match datagram {
            Some((from, to, bytes)) => println!("{at:10.6} {what:12} {from} > {to} {}", shown(bytes)),
            None => println!("{at:10.6} {what}"),
        }
    }
}

/// A datagram in a few words.
fn shown(bytes: &[u8]) -> String {
    let frame = |bytes: &[u8]| match bytes.get(..4) {
        Some(magic) if magic.is_ascii() => format!("{} ({} bytes)", String::from_utf8_lossy(magic), bytes.len()),
        _ => format!("{} bytes", bytes.len()),
    };
    match Message::decode(bytes) {
        Ok(Message::Relay { sender, dest, inner }) => format!("relay {} > {}: {}", sender.0, dest.0, frame(inner)),
        Ok(Message::Deliver { sender, inner }) => format!("deliver from {}: {}", sender.0, frame(inner)),
        Ok(Message::DeliverTo { sender, dest, inner }) => {
            format!("deliver {} > {}: {}", sender.0, dest.0, frame(inner))
        }
        Ok(message) => format!("{message:?}"),
        Err(_) => frame(bytes),
    }
}
