//! What goes wrong on purpose.

use directory::service::Effect;
use directory::service::enrolment::Act;

use super::{SiteId, World};
use crate::host::{self, HostId};
use crate::relay::Relay;

impl World {
    /// The directory goes away, with all connections.
    pub fn stop_directory(&mut self) {
        self.directory.up = false;
        (0..self.hosts.len()).for_each(|host| self.disconnect(HostId(host)));
    }

    /// It is back, and knows the facts it knew.
    pub fn start_directory(&mut self) {
        self.directory.up = true;
        self.directory.restart();
        let published = self.directory.registered().into_iter().map(Effect::Publish).collect();
        self.carry_out(published);
    }

    /// The administrator bans a node, or lifts its ban; the relays hear of it at once.
    pub fn administer(&mut self, host: HostId, act: &Act) {
        let node = self.hosts[host.0].id().expect("registered");
        let effects = self.directory.administer(self.now, host::unix_seconds(self.now), node, act);
        self.carry_out(effects);
    }

    /// The relay is a new process that knows of nodes what the directory says, and has no sessions.
    pub fn restart_relay(&mut self, relay: usize) {
        self.relays[relay] = Relay::new(self.relays[relay].ip);
        for node in self.directory.registered() {
            if let Some((key, proven, last)) = self.directory.known(node) {
                self.relays[relay].publish(node, key, &proven, last);
            }
        }
        self.sent_by_relay(relay, Vec::new());
    }

    /// The host moves to another network, where its address is the same by chance: nobody tells the node.
    pub fn roam_unnoticed(&mut self, host: HostId, site: SiteId) {
        self.hosts[host.0].site = site;
        self.disconnect(host);
    }

    /// The host moves to another network.
    pub fn roam(&mut self, host: HostId, site: SiteId) {
        let mut ip = self.address_in(site);
        if ip == self.hosts[host.0].ip {
            ip = self.address_in(site);
        }
        let this = &mut self.hosts[host.0];
        (this.site, this.ip) = (site, ip);
        let socket = this.socket();
        self.disconnect(host);
        self.with_node(host, |now, node| node.set_local_endpoints(now, &[socket]));
    }

    /// The node's process ends and begins anew, with the same identity.
    pub fn restart_process(&mut self, host: HostId) {
        self.disconnect(host);
        self.hosts[host.0].connection.pending.clear();
        let now = self.now;
        self.hosts[host.0].start(now);
        self.settle(host);
    }

    /// The lid is closed, or opened.
    pub fn suspend(&mut self, host: HostId, suspended: bool) {
        self.hosts[host.0].suspended = suspended;
        if !suspended {
            self.with_node(host, |now, node| node.handle_timeout(now));
        }
    }

    /// The internet carries nothing between two sites, or does so again.
    pub fn block(&mut self, one: SiteId, other: SiteId, blocked: bool) {
        let pair = (self.sites[one.0].outer(), self.sites[other.0].outer());
        if blocked {
            self.blocked.insert(pair);
        } else {
            self.blocked.remove(&pair);
        }
    }

    /// The internet carries nothing between a site and a relay, or does so again.
    pub fn block_relay(&mut self, site: SiteId, relay: usize, blocked: bool) {
        let pair = (self.sites[site.0].outer(), self.relays[relay].ip);
        if blocked {
            self.blocked.insert(pair);
        } else {
            self.blocked.remove(&pair);
        }
    }

    /// The provider gives a site another address.
    pub fn renumber(&mut self, site: SiteId) {
        let outer = self.outer_address();
        if let Some(nat) = &mut self.sites[site.0].nat {
            nat.renumber(outer);
            self.sites[site.0].outer = outer;
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].site == site {
                self.disconnect(HostId(host));
            }
        }
    }
}
