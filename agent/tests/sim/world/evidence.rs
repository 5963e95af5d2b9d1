//! What stories ask of a world, and what holds in every one at its end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use wire::NodeId;

use super::{START, World};
use crate::flow::Flow;
use crate::host::{Host, HostId};
use crate::link::Faults;
use crate::relay::Relay;

impl World {
    /// Waits until all nodes have their id and a session at a relay.
    ///
    /// # Panics
    /// If that takes more than a minute and a half.
    pub fn await_ready(&mut self) {
        let is_ready = |host: &Host| host.node().is_none_or(|node| node.id().is_some() && node.relay().is_some());
        let ready = self.run_until(Duration::from_secs(90), |world| world.hosts.iter().all(is_ready));
        assert!(ready, "all nodes register and find a relay");
        self.run_for(Duration::from_secs(2));
    }

    /// The direct endpoint that `one` uses for `other`.
    pub fn direct(&self, one: HostId, other: HostId) -> Option<SocketAddr> {
        let peer: NodeId = self.hosts[other.0].id()?;
        self.hosts[one.0].node()?.peer(peer)?.direct
    }

    /// Both use a direct path.
    pub fn is_direct(&self, one: HostId, other: HostId) -> bool {
        self.direct(one, other).is_some() && self.direct(other, one).is_some()
    }

    /// All that went wrong on purpose.
    pub fn all_faults(&self) -> Faults {
        let mut sum = self.faults;
        let links = self.sites.iter().flat_map(|site| [&site.up, &site.down, &site.lan]);
        links.chain(self.relay_links.iter().flatten()).for_each(|link| sum.add(&link.faults));
        sum
    }

    /// What holds in every world at its end.
    ///
    /// # Panics
    /// If it does not.
    pub fn check(&mut self) {
        let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
        for host in &self.hosts {
            let Some(node) = host.node() else { continue };
            *totals.entry("sealed").or_default() += host.sealed_before + node.counters().sealed;
            *totals.entry("opened").or_default() += host.opened_before + node.counters().opened;
        }
        let (sealed, opened) = (totals.get("sealed"), totals.get("opened"));
        assert!(opened <= sealed, "more frames were opened than sealed: {totals:?}");
        assert!(self.relays.iter_mut().all(Relay::is_balanced), "relays account for every datagram");
    }

    /// One line of evidence.
    pub fn evidence(&self, story: &str) -> String {
        let Faults { lost, duplicated, reordered, overflowed, too_long, filtered, undeliverable } = self.all_faults();
        format!(
            "{story}: seed {}, {:.1} s, {} datagrams, {} bytes delivered; lost {lost}, duplicated {duplicated}, \
             reordered {reordered}, queue full {overflowed}, too long {too_long}, filtered {filtered}, \
             nobody there {undeliverable}",
            self.seed,
            self.now.since(START).as_secs_f64(),
            self.watch.datagrams,
            self.flows.iter().map(Flow::progress).sum::<u64>(),
        )
    }
}
