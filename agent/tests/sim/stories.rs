//! What nodes have to bring about. Each story prints one line of evidence.

mod bans;
mod claims;
mod hostile;
mod links;
mod nats;
mod outages;
mod paths;
mod random;
mod traces;

use std::time::Duration;

use crate::flow::Flow;
use crate::host::HostId;
use crate::link::Conditions;
use crate::nat::Behaviour;
use crate::seed;
use crate::world::{SiteId, World};

const SECOND: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_millis(20);

/// Two nodes at sites of their own, registered and at rest.
struct Pair {
    world: World,
    a: HostId,
    b: HostId,
    sites: [SiteId; 2],
}

impl Pair {
    fn new(own_seed: u64, nats: [Option<Behaviour>; 2]) -> Self {
        Self::with(World::new(seed(own_seed), 1), nats, Conditions::clean(DELAY))
    }

    fn with(mut world: World, nats: [Option<Behaviour>; 2], conditions: Conditions) -> Self {
        let sites = nats.map(|nat| world.site(nat, conditions));
        let [a, b] = sites.map(|site| world.host(site));
        world.await_ready();
        Self { world, a, b, sites }
    }

    /// A link slow enough for something to happen during a transfer.
    fn slow(own_seed: u64, nats: [Option<Behaviour>; 2]) -> Self {
        Self::with(World::new(seed(own_seed), 1), nats, slow(DELAY))
    }

    /// Lets a short exchange bring about the direct path.
    fn go_direct(&mut self) {
        let flow = self.world.dial(self.a, self.b, [100, 100]);
        self.world.delivered(flow, SECOND * 10);
        let (a, b) = (self.a, self.b);
        let direct = self.world.run_until(SECOND * 10, |world| world.is_direct(a, b));
        assert!(direct, "a direct path is found:\n{}", self.world.describe(flow));
    }
}

/// Four megabits a second.
fn slow(delay: Duration) -> Conditions {
    Conditions { bits_per_second: 4_000_000, queue_bytes: 60_000, ..Conditions::clean(delay) }
}

impl World {
    /// Awaits that a flow is delivered.
    fn delivered(&mut self, flow: usize, limit: Duration) {
        let delivered = self.run_until(limit, |world| {
            let flow = &world.flows[flow];
            flow.is_delivered() || flow.has_failed()
        });
        let is_delivered = self.flows[flow].is_delivered();
        assert!(delivered && is_delivered, "not delivered in {limit:?}:\n{}", self.describe(flow));
    }

    /// Awaits that so many bytes of a flow have arrived, of both directions together.
    fn progressed(&mut self, flow: usize, bytes: u64) {
        let progressed = self.run_until(SECOND * 60, |world| world.flows[flow].progress() >= bytes);
        assert!(progressed && !self.flows[flow].is_delivered(), "it is under way:\n{}", self.describe(flow));
    }

    /// Dials until something is delivered, as an application would that wants it. How many attempts it took.
    fn dial_until_delivered(&mut self, from: HostId, to: HostId, limit: Duration) -> u32 {
        let end = self.now + limit;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let flow = self.dial(from, to, [1000, 1000]);
            let left = end.since(self.now);
            self.run_until(left, |world| world.flows[flow].is_delivered() || world.flows[flow].has_failed());
            if self.flows[flow].is_delivered() {
                return attempts;
            }
            assert!(self.now < end, "not delivered in {limit:?} by {attempts} dials:\n{}", self.describe(flow));
            self.run_for(SECOND);
        }
    }

    /// What is known of a flow and its hosts, for whoever has to find a fault.
    fn describe(&self, flow: usize) -> String {
        let Flow { hosts, bytes, halves, dialled_at, opened_at, .. } = &self.flows[flow];
        let mut text = format!(
            "  seed {}, now {:?} after the dial, opened after {:?}, bytes {bytes:?}\n",
            self.seed,
            self.now.since(*dialled_at),
            opened_at.map(|at| at.since(*dialled_at)),
        );
        for (host, half) in hosts.iter().zip(halves) {
            let this = &self.hosts[host.0];
            let node = this.node();
            let changes: Vec<_> = this
                .path_changes
                .iter()
                .map(|change| (change.at.since(*dialled_at), change.peer.0, change.direct))
                .collect();
            text += &format!(
                "  {host:?} node {:?}: written {} read {} ended {:?}\n    relay {:?} mapped {:?} {:?}\n    peers {:?}\n    \
                 paths {changes:?}\n",
                this.id(),
                half.written,
                half.read,
                half.ended,
                node.and_then(|node| node.relay()),
                node.and_then(|node| node.mapped_endpoint()),
                node.map(|node| node.counters()),
                node.map(|node| node.peers().collect::<Vec<_>>()),
            );
            let others = hosts.iter().filter_map(|host| self.hosts[host.0].id()).filter(|id| Some(*id) != this.id());
            for explanation in others.filter_map(|other| node?.explain(self.now, other)) {
                text += &format!("    {explanation:#?}\n");
            }
            if let (Some(node), Some(stream)) = (node, half.stream) {
                text += &format!("    stream {:?}\n", node.streams().find(|info| info.id == stream));
            }
        }
        text + &format!("  {:?}\n", self.all_faults())
    }
}
