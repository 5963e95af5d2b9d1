//! The world: a virtual clock, hosts at sites behind NATs, relays and a directory, and one queue of all that happens.
//!
//! ```text
//!   host ──► NAT ──► link up ──► internet ──► link down ──► NAT ──► host
//!     └── LAN ──► host              └──► link ──► relay ──► link ──┘
//! ```
//!
//! Everything follows from the seed: what happens at the same instant happens in the order in which it was caused.

mod connections;
mod datagrams;
mod evidence;
mod faults;
mod nodes;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use agent::Time;
use agent::node::{Config, Ticket, Unanswered};
use directory::service::ConnectionId;
use wire::registry::Answer;

use crate::attacker::Recorder;
use crate::chance::Chance;
use crate::directory::Directory;
use crate::flow::Flow;
use crate::host::{self, Host, HostId, Process};
use crate::link::{Conditions, Faults, Link};
use crate::nat::{Behaviour, Nat};
use crate::relay::Relay;
use crate::watch::Watch;

/// The ports of flows begin here.
const FIRST_PORT: u16 = 5000;
/// Things that may happen at one instant; more is a loop that never ends.
const SAME_INSTANT_MAX: u32 = 200_000;
/// Datagrams that a host may send in a second; more is a storm, and no story sends that much.
const SENT_PER_SECOND_MAX: u32 = 4_000;
/// What the virtual clock shows in the beginning.
const START: Time = Time(1_000_000_000_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteId(pub usize);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

/// A network with one way to the internet.
pub struct Site {
    pub nat: Option<Nat>,
    pub up: Link,
    pub down: Link,
    pub lan: Link,
    /// Nothing goes in or out.
    pub cut: bool,
    /// Hosts do not see each other in the LAN.
    pub isolated: bool,
    next_host: u8,
    outer: IpAddr,
}

enum Happening {
    /// A datagram has left its site or relay.
    Routed(Datagram),
    AtSite(SiteId, Datagram),
    AtHost(SiteId, Datagram),
    AtRelay(usize, Datagram),
    HostDue(HostId),
    RelayDue(usize),
    Asked(HostId, ConnectionId, Ticket, Vec<u8>),
    Answered(HostId, Ticket, Result<Answer, Unanswered>),
}

struct Entry {
    at: Time,
    order: u64,
    what: Happening,
}

pub struct World {
    pub seed: u64,
    pub now: Time,
    pub hosts: Vec<Host>,
    pub sites: Vec<Site>,
    pub relays: Vec<Relay>,
    pub directory: Directory,
    pub flows: Vec<Flow>,
    pub watch: Watch,
    pub recorder: Recorder,
    /// Pairs of outer addresses between which the internet carries nothing.
    pub blocked: BTreeSet<(IpAddr, IpAddr)>,
    /// What the internet lost of its own.
    pub faults: Faults,
    /// What the directory has answered to hosts without a node.
    pub raw_answers: Vec<Result<Answer, Unanswered>>,
    relay_links: Vec<[Link; 2]>,
    queue: BinaryHeap<Reverse<Entry>>,
    order: u64,
    same_instant: u32,
    next_outer: u32,
    /// `SIM_TRACE` is set: every datagram is printed.
    traced: bool,
}

impl World {
    /// A world with so many relays, all known to the directory.
    pub fn new(seed: u64, relays: u8) -> Self {
        let chance = Chance::new(seed);
        let ips: Vec<IpAddr> = (1..=relays).map(|n| Ipv4Addr::new(198, 19, n, 1).into()).collect();
        let relays: Vec<Relay> = ips.iter().map(|ip| Relay::new(*ip)).collect();
        let advertised = relays.iter().map(|relay| relay.beacon().to_string()).collect();
        let link = |purpose| Link::new(data_centre(), chance.fork(purpose));
        let relay_links = (0..relays.len() as u64).map(|n| [link(100 + 2 * n), link(101 + 2 * n)]).collect();
        let mut this = Self {
            seed,
            now: START,
            hosts: Vec::new(),
            sites: Vec::new(),
            directory: Directory::new(host::unix_seconds(START), advertised),
            relays,
            flows: Vec::new(),
            watch: Watch::default(),
            recorder: Recorder::default(),
            blocked: BTreeSet::new(),
            faults: Faults::default(),
            raw_answers: Vec::new(),
            relay_links,
            queue: BinaryHeap::new(),
            order: 0,
            same_instant: 0,
            traced: std::env::var_os("SIM_TRACE").is_some(),
            next_outer: u32::from(Ipv4Addr::new(198, 18, 1, 1)),
        };
        (0..this.relays.len()).for_each(|relay| this.sent_by_relay(relay, Vec::new()));
        this
    }

    /// A network behind a NAT, or one whose hosts have addresses of the internet.
    pub fn site(&mut self, behaviour: Option<Behaviour>, conditions: Conditions) -> SiteId {
        let id = SiteId(self.sites.len());
        let outer = self.outer_address();
        let chance = |purpose: u64| Chance::new(self.seed).fork(1000 + 10 * id.0 as u64 + purpose);
        self.sites.push(Site {
            nat: behaviour.map(|behaviour| Nat::new(behaviour, outer, chance(0))),
            up: Link::new(conditions, chance(1)),
            down: Link::new(conditions, chance(2)),
            lan: Link::new(lan(), chance(3)),
            cut: false,
            isolated: false,
            next_host: 2,
            outer,
        });
        id
    }

    fn outer_address(&mut self) -> IpAddr {
        // Far apart, so that no site shares a prefix with another.
        self.next_outer += 256;
        Ipv4Addr::from(self.next_outer).into()
    }

    /// Where a host of this site is: all homes use the same private addresses.
    fn address_in(&mut self, site: SiteId) -> IpAddr {
        let site = &mut self.sites[site.0];
        let number = site.next_host;
        site.next_host += 1;
        match site.outer {
            IpAddr::V4(outer) if site.nat.is_none() => {
                let [a, b, c, _] = outer.octets();
                Ipv4Addr::new(a, b, c, number).into()
            }
            _ => Ipv4Addr::new(192, 168, 1, number).into(),
        }
    }

    /// A host with a node that runs.
    pub fn host(&mut self, site: SiteId) -> HostId {
        let config = self.config();
        self.host_with(site, config)
    }

    /// What a node is told unless a story wants otherwise.
    pub fn config(&self) -> Config {
        host::config(&self.relays.iter().map(Relay::beacon).collect::<Vec<_>>())
    }

    pub fn host_with(&mut self, site: SiteId, config: Config) -> HostId {
        let id = self.raw_host_with(site, config);
        let now = self.now;
        self.hosts[id.0].start(now);
        self.settle(id);
        id
    }

    /// A host for which the story speaks.
    pub fn raw_host(&mut self, site: SiteId) -> HostId {
        let config = self.config();
        self.raw_host_with(site, config)
    }

    fn raw_host_with(&mut self, site: SiteId, config: Config) -> HostId {
        let id = HostId(self.hosts.len());
        let ip = self.address_in(site);
        let chance = Chance::new(self.seed).fork(1_000_000 + id.0 as u64);
        self.hosts.push(Host::new(site, ip, config, Process::Raw([].into()), chance));
        id
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass until `is_reached`, or for `limit`. Whether it was reached.
    pub fn run_until(&mut self, limit: Duration, mut is_reached: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !is_reached(self) {
            match self.queue.peek() {
                Some(Reverse(next)) if next.at <= end => self.step(),
                _ => {
                    self.now = end;
                    return is_reached(self);
                }
            }
        }
        true
    }

    fn step(&mut self) {
        let Some(Reverse(Entry { at, what, .. })) = self.queue.pop() else { return };
        assert!(at >= self.now, "time does not go back");
        self.same_instant = if at > self.now { 0 } else { self.same_instant + 1 };
        assert!(self.same_instant < SAME_INSTANT_MAX, "something happens again and again without time passing");
        self.now = at;
        match what {
            Happening::Routed(datagram) => self.route(datagram),
            Happening::AtSite(site, datagram) => self.arrive(site, datagram),
            Happening::AtHost(site, datagram) => self.deliver(site, datagram),
            Happening::AtRelay(relay, datagram) => {
                self.trace("relay got", Some((datagram.from, datagram.to, &datagram.bytes)));
                if self.relays[relay].up {
                    let sent = self.relays[relay].handle_datagram(at, datagram);
                    self.sent_by_relay(relay, sent);
                } else {
                    self.faults.undeliverable += 1;
                }
            }
            Happening::RelayDue(relay) => {
                if self.relays[relay].wake_at == at {
                    let sent = self.relays[relay].handle_timeout(at);
                    self.sent_by_relay(relay, sent);
                }
            }
            Happening::HostDue(host) => {
                if self.hosts[host.0].wake_at == Some(at) && !self.hosts[host.0].suspended {
                    self.hosts[host.0].wake_at = None;
                    self.with_node(host, |now, node| node.handle_timeout(now));
                }
            }
            Happening::Asked(host, connection, ticket, request) => self.serve(host, connection, ticket, &request),
            Happening::Answered(host, ticket, answer) => {
                if self.hosts[host.0].suspended {
                    self.push(at + Duration::from_secs(1), Happening::Answered(host, ticket, answer));
                } else if self.hosts[host.0].connection.pending.remove(&ticket) {
                    match self.hosts[host.0].process {
                        Process::Raw(_) => self.raw_answers.push(answer),
                        Process::Node(_) => {
                            self.with_node(host, |now, node| node.handle_answer(now, ticket, answer));
                        }
                    }
                }
            }
        }
    }

    fn push(&mut self, at: Time, what: Happening) {
        self.order += 1;
        self.queue.push(Reverse(Entry { at, order: self.order, what }));
    }
}

impl Site {
    /// Its address in the internet, or the prefix of its hosts'.
    pub const fn outer(&self) -> IpAddr {
        self.outer
    }

    /// The address in the internet of one of its hosts.
    pub fn outer_of(&self, host: &Host) -> IpAddr {
        self.nat.as_ref().map_or(host.ip, Nat::outer)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

fn same_24(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.octets()[..3] == other.octets()[..3],
        _ => false,
    }
}

fn data_centre() -> Conditions {
    Conditions { bits_per_second: 10_000_000_000, queue_bytes: 10_000_000, ..Conditions::clean(Duration::ZERO) }
}

fn lan() -> Conditions {
    Conditions { bits_per_second: 1_000_000_000, queue_bytes: 1_000_000, ..Conditions::clean(Duration::from_millis(1)) }
}
