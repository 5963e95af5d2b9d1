//! The world: a virtual clock, hosts at sites behind NATs, relays and a directory, and one queue of all that happens.
//!
//! ```text
//!   host ──► NAT ──► link up ──► internet ──► link down ──► NAT ──► host
//!     └── LAN ──► host              └──► link ──► relay ──► link ──┘
//! ```
//!
//! Everything follows from the seed: what happens at the same instant happens in the order in which it was caused.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use agent::Time;
use agent::node::{Config, Event, Node, Ticket, Unanswered};
use directory::service::{ConnectionId, Effect};
use wire::NodeId;
use wire::address::SocketAddress;
use wire::beacon::Message;
use wire::registry::Answer;

use crate::attacker::Recorder;
use crate::chance::Chance;
use crate::directory::{Directory, encode};
use crate::flow::{Flow, Side};
use crate::host::{self, Host, HostId, PathChange, Process, QUESTION_TIMEOUT, Wish};
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

    // --- building ---

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

    // --- time ---

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

    // --- datagrams ---

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

    fn push_copies(&mut self, at: [Option<Time>; 2], datagram: Datagram, what: impl Fn(Datagram) -> Happening) {
        for at in at.into_iter().flatten() {
            self.push(at, what(datagram.clone()));
        }
    }

    fn route(&mut self, datagram: Datagram) {
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

    fn arrive(&mut self, site: SiteId, datagram: Datagram) {
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

    fn deliver(&mut self, site: SiteId, Datagram { from, to, mut bytes }: Datagram) {
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

    fn sent_by_relay(&mut self, relay: usize, sent: Vec<Datagram>) {
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

    // --- nodes ---

    /// Calls the node of a host, then does all that it wants done.
    pub fn with_node<T>(&mut self, host: HostId, call: impl FnOnce(Time, &mut Node) -> T) -> T {
        let now = self.now;
        let this = &mut self.hosts[host.0];
        let unix_seconds = this.unix_seconds(now);
        let node = this.node_mut();
        node.set_wall_clock(unix_seconds);
        let result = call(now, node);
        self.settle(host);
        result
    }

    fn settle(&mut self, host: HostId) {
        let mut buffer = vec![0; agent::node::DATAGRAM_MAX];
        loop {
            let now = self.now;
            let node = self.hosts[host.0].node_mut();
            let wish = if let Some(transmit) = node.poll_transmit(now, &mut buffer) {
                Wish::Transmit(transmit.to, buffer[..transmit.len].to_vec())
            } else if let Some((ticket, request)) = node.poll_request() {
                Wish::Ask(ticket, encode(&request))
            } else if let Some(event) = node.poll_event() {
                Wish::Tell(event)
            } else {
                break;
            };
            match wish {
                Wish::Transmit(to, bytes) => self.send(host, to, bytes),
                Wish::Ask(ticket, request) => self.ask(host, ticket, request),
                Wish::Tell(event) => self.tell(host, event),
            }
        }
        let due = self.hosts[host.0].node().and_then(Node::poll_timeout).map(|due| due.max(self.now));
        if self.hosts[host.0].wake_at != due {
            self.hosts[host.0].wake_at = due;
            if let Some(due) = due {
                self.push(due, Happening::HostDue(host));
            }
        }
    }

    fn tell(&mut self, host: HostId, event: Event) {
        let now = self.now;
        match event {
            Event::Registered { node, .. } => self.hosts[host.0].known_as = Some(node),
            Event::TrustChanged
            | Event::TrustRequested { .. }
            | Event::DirectoryLost(_)
            | Event::DirectoryBack
            | Event::RelayChanged(_) => {}
            Event::Complaint(text) => self.hosts[host.0].complaints.push(text),
            Event::PathChanged { peer, direct } => {
                self.hosts[host.0].path_changes.push(PathChange { at: now, peer, direct });
            }
            Event::RelaysListed(list) => {
                let relays: Vec<SocketAddr> = list.iter().filter_map(|relay| relay.parse().ok()).collect();
                self.hosts[host.0].node_mut().set_relays(now, &relays);
            }
            Event::Datagram { source, port, data } => {
                let expected = self.hosts.iter().any(|host| host.known_as == Some(source.address.node));
                assert!(expected, "a datagram has come from nobody: {source}");
                self.hosts[host.0].datagrams.push((source.address.node, port, data));
            }
            Event::Accepted { port, stream, remote } => {
                let index = usize::from(port.wrapping_sub(FIRST_PORT));
                let dialler = self.flows.get(index).map(|flow| flow.hosts[0]);
                let dialled_by = dialler.and_then(|dialler| self.hosts[dialler.0].known_as);
                assert_eq!(dialled_by, Some(remote.address.node), "nobody else dialled port {port}");
                self.flows[index].half(Side::Acceptor).stream = Some(stream);
                self.hosts[host.0].streams.insert(stream, (index, Side::Acceptor));
                self.read(host, index, Side::Acceptor);
            }
            Event::Opened(stream) => {
                if let Some(&(index, side)) = self.hosts[host.0].streams.get(&stream) {
                    self.flows[index].opened_at = Some(now);
                    self.flows[index].write(now, side, self.hosts[host.0].node_mut());
                }
            }
            Event::Readable(stream) => {
                if let Some(&(index, side)) = self.hosts[host.0].streams.get(&stream) {
                    self.read(host, index, side);
                }
            }
            Event::Writable(stream) => {
                if let Some(&(index, side)) = self.hosts[host.0].streams.get(&stream) {
                    self.flows[index].write(now, side, self.hosts[host.0].node_mut());
                }
            }
        }
    }

    fn read(&mut self, host: HostId, index: usize, side: Side) {
        let now = self.now;
        self.flows[index].read(now, side, self.hosts[host.0].node_mut());
        // What is left to be written may have waited for this.
        self.flows[index].write(now, side, self.hosts[host.0].node_mut());
    }

    /// Dials from one host to another and sends so many bytes each way. The number of the flow.
    ///
    /// # Panics
    /// If it cannot even be tried.
    pub fn dial(&mut self, from: HostId, to: HostId, bytes: [u64; 2]) -> usize {
        let index = self.flows.len();
        let port = FIRST_PORT + u16::try_from(index).expect("few flows");
        self.flows.push(Flow::new(self.now, [from, to], port, bytes));
        let address = self.hosts[to.0].id().expect("registered").address();
        self.with_node(to, |_, node| node.bind(port)).expect("a port of its own");
        let dialled = self.with_node_unsettled(from, |now, node| node.dial(now, SocketAddress { address, port }));
        let stream = dialled.expect("a registered node may dial another");
        self.hosts[from.0].streams.insert(stream, (index, Side::Dialler));
        self.flows[index].half(Side::Dialler).stream = Some(stream);
        self.settle(from);
        index
    }

    fn with_node_unsettled<T>(&mut self, host: HostId, call: impl FnOnce(Time, &mut Node) -> T) -> T {
        let now = self.now;
        call(now, self.hosts[host.0].node_mut())
    }

    // --- the directory ---

    /// How long a byte takes from a host to the directory.
    fn directory_delay(&self, host: HostId) -> Duration {
        self.sites[self.hosts[host.0].site.0].up.conditions.delay
    }

    fn outer_ip(&self, host: HostId) -> IpAddr {
        let host = &self.hosts[host.0];
        self.sites[host.site.0].outer_of(host)
    }

    /// Asks the directory from a host without a node; the answer is in [`World::raw_answers`] then.
    pub fn ask_raw(&mut self, host: HostId, ticket: Ticket, request: Vec<u8>) {
        self.ask(host, ticket, request);
    }

    fn ask(&mut self, host: HostId, ticket: Ticket, request: Vec<u8>) {
        let delay = self.directory_delay(host);
        let is_cut = self.sites[self.hosts[host.0].site.0].cut;
        self.hosts[host.0].connection.pending.insert(ticket);
        if !self.directory.up || is_cut {
            let after = if is_cut { QUESTION_TIMEOUT } else { delay * 2 };
            return self.unanswered(host, ticket, after);
        }
        let now = self.now;
        let connection = &mut self.hosts[host.0].connection;
        let id = *connection.id.get_or_insert_with(|| {
            connection.ready_at = now + delay * 2;
            self.directory.accept()
        });
        let at = connection.ready_at.max(now) + delay;
        self.push(at, Happening::Asked(host, id, ticket, request));
    }

    fn unanswered(&mut self, host: HostId, ticket: Ticket, after: Duration) {
        let answer = Err(Unanswered::Unreachable("connection lost".into()));
        self.push(self.now + after, Happening::Answered(host, ticket, answer));
    }

    fn serve(&mut self, host: HostId, connection: ConnectionId, ticket: Ticket, request: &[u8]) {
        let delay = self.directory_delay(host);
        if self.hosts[host.0].connection.id != Some(connection) || !self.directory.up {
            return self.unanswered(host, ticket, delay);
        }
        if self.sites[self.hosts[host.0].site.0].cut {
            return self.unanswered(host, ticket, QUESTION_TIMEOUT);
        }
        let ip = self.outer_ip(host);
        let (answer, effects) = self.directory.serve(self.now, host::unix_seconds(self.now), (connection, ip), request);
        self.carry_out(effects);
        self.push(self.now + delay, Happening::Answered(host, ticket, Ok(answer)));
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            for index in 0..self.relays.len() {
                let now = self.now;
                let relay = &mut self.relays[index];
                let sent = match effect {
                    Effect::Publish(node) => match self.directory.known(node) {
                        Some((proven, last)) => {
                            relay.publish(node, &proven, last);
                            Vec::new()
                        }
                        None => relay.withdraw(now, node),
                    },
                    Effect::Notify(node) => relay.notify(now, node),
                };
                self.sent_by_relay(index, sent);
            }
        }
    }

    /// The connection to the directory breaks.
    pub fn disconnect(&mut self, host: HostId) {
        let delay = self.directory_delay(host);
        let connection = std::mem::take(&mut self.hosts[host.0].connection);
        for ticket in &connection.pending {
            self.unanswered(host, *ticket, delay);
        }
        self.hosts[host.0].connection.pending = connection.pending;
        if let Some(id) = connection.id
            && self.directory.up
        {
            let effects = self.directory.close(id);
            self.carry_out(effects);
        }
    }

    // --- faults ---

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

    /// The relay is a new process that knows of nodes what the directory says, and has no sessions.
    pub fn restart_relay(&mut self, relay: usize) {
        self.relays[relay] = Relay::new(self.relays[relay].ip);
        for node in self.directory.registered() {
            if let Some((proven, last)) = self.directory.known(node) {
                self.relays[relay].publish(node, &proven, last);
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

    // --- what stories ask ---

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
