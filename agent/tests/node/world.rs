//! A network without faults: nodes, a relay and a directory that do as section 4 and 6 say, and a clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::Time;
use agent::identity::Identity;
use agent::node::{Config, ControlEvent, DATAGRAM_MAX, Event, Node, SpanRecord, StreamId, Ticket, Unanswered};
use wire::NodeId;
use wire::address::SocketAddress;
use wire::beacon::{self, Message};
use wire::codec::Writer;
use wire::registry::answer::{Answer, Found, Registered, Resolved};
use wire::registry::bans::{Cursor, Listed, OVERLAP_SECONDS};
use wire::registry::request::{Operation, Report};
use wire::registry::{PublicKey, Request};
use wire::trace::TraceContext;

/// One way.
pub const DELAY: Duration = Duration::from_millis(10);
const STEPS_MAX: usize = 2_000_000;
/// Datagrams of hosts that are remembered.
const RECORDED_MAX: usize = 64;

enum Parcel {
    Datagram { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    Question { host: usize, ticket: Ticket, request: Request },
    Answer { host: usize, ticket: Ticket, answer: Result<Answer, Unanswered> },
}

pub struct Host {
    pub node: Node,
    pub endpoint: SocketAddr,
    pub events: Vec<Event>,
    pub control: Vec<ControlEvent>,
    pub spans: Vec<SpanRecord>,
}

impl Host {
    fn new(node: Node, endpoint: SocketAddr) -> Self {
        Self { node, endpoint, events: Vec::new(), control: Vec::new(), spans: Vec::new() }
    }
}

struct Entry {
    key: PublicKey,
    endpoint: String,
    public: bool,
    hostname: String,
}

pub struct World {
    pub now: Time,
    pub hosts: Vec<Host>,
    pub relay: SocketAddr,
    pub directory_is_away: bool,
    /// Whom the administrator keeps out, and since when.
    pub banned: BTreeMap<NodeId, u64>,
    /// It lists whoever asks, and nodes that there are not.
    pub directory_errs: bool,
    /// It does not know what nodes ask of bans.
    pub directory_is_old: bool,
    /// How much later than others an answer comes.
    pub slowness: Box<dyn Fn(&Operation) -> Duration>,
    /// What every lookup is answered with.
    pub lookup_error: Option<&'static str>,
    /// Keys the directory names that are not those its nodes registered.
    pub false_keys: BTreeMap<NodeId, PublicKey>,
    pub trusted: BTreeSet<(NodeId, NodeId)>,
    /// Whether a datagram arrives.
    pub passes: Box<dyn Fn(SocketAddr, SocketAddr) -> bool>,
    /// The latest datagrams of hosts: from where, to where, and what.
    pub recorded: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// Datagrams between two hosts, and those the relay has passed on.
    pub direct: u64,
    pub relayed: u64,
    /// Traces the relay was told of: by whom, about whom.
    pub traces: Vec<(NodeId, NodeId, TraceContext)>,
    /// What the nodes have told of themselves.
    pub reports: Vec<(NodeId, Report)>,
    entries: BTreeMap<NodeId, Entry>,
    at_relay: HashMap<NodeId, SocketAddr>,
    parcels: BTreeMap<(Time, u64), Parcel>,
    sequence: u64,
}

impl World {
    pub fn new() -> Self {
        Self {
            now: Time(1_000_000_000),
            hosts: Vec::new(),
            relay: "198.18.0.2:9001".parse().unwrap(),
            directory_is_away: false,
            banned: BTreeMap::new(),
            directory_errs: false,
            directory_is_old: false,
            slowness: Box::new(|_| Duration::ZERO),
            lookup_error: None,
            false_keys: BTreeMap::new(),
            trusted: BTreeSet::new(),
            passes: Box::new(|_, _| true),
            recorded: VecDeque::new(),
            direct: 0,
            relayed: 0,
            traces: Vec::new(),
            reports: Vec::new(),
            entries: BTreeMap::new(),
            at_relay: HashMap::new(),
            parcels: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Starts a node; the number of its host.
    pub fn start(&mut self, config: Config) -> usize {
        let number = u8::try_from(self.hosts.len()).unwrap() + 10;
        let endpoint = SocketAddr::new([198, 18, 0, number].into(), 4000);
        let node = self.node(config, endpoint, number, number + 100);
        self.hosts.push(Host::new(node, endpoint));
        self.hosts.len() - 1
    }

    /// Ends a node without a word and starts it again, with the same identity.
    pub fn restart(&mut self, host: usize, config: Config) {
        let number = u8::try_from(host).unwrap() + 10;
        let endpoint = self.hosts[host].endpoint;
        self.hosts[host] = Host::new(self.node(config, endpoint, number, number + 200), endpoint);
    }

    fn node(&self, config: Config, endpoint: SocketAddr, identity: u8, seed: u8) -> Node {
        let config = Config { relays: vec![self.relay], relays_fixed: true, ..config };
        let mut node = Node::new(self.now, config, Arc::new(Identity::from_seed(&[identity; 32])), &[seed; 32]);
        node.set_wall_clock(1_800_000_000);
        node.set_local_endpoints(self.now, &[endpoint]);
        node
    }

    /// Starts nodes that anyone may reach, and waits until they are registered.
    pub fn with_public_nodes(count: usize) -> Self {
        let mut world = Self::new();
        for _ in 0..count {
            world.start(Config { public: true, ..Config::default() });
        }
        for host in 0..count {
            world.run_until(Duration::from_secs(5), |world| world.hosts[host].node.id().is_some());
        }
        world
    }

    pub fn id(&self, host: usize) -> NodeId {
        self.hosts[host].node.id().expect("registered")
    }

    pub fn address(&self, host: usize, port: u16) -> SocketAddress {
        SocketAddress { address: self.id(host).address(), port }
    }

    /// Runs until `done`, or panics after `within`.
    #[track_caller]
    pub fn run_until(&mut self, within: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = self.now + within;
        for _ in 0..STEPS_MAX {
            self.pump();
            if done(self) {
                return;
            }
            assert!(self.step(deadline), "not within {within:?}");
        }
        panic!("time does not go on: {:?}", self.now);
    }

    pub fn run_for(&mut self, time: Duration) {
        let deadline = self.now + time;
        for _ in 0..STEPS_MAX {
            self.pump();
            if !self.step(deadline) {
                return;
            }
        }
        panic!("time does not go on: {:?}", self.now);
    }

    /// Goes on to the next thing that happens; false if that is later than `deadline`.
    fn step(&mut self, deadline: Time) -> bool {
        let timeouts = self.hosts.iter().filter_map(|host| host.node.poll_timeout());
        let next = timeouts.chain(self.parcels.keys().next().map(|(due, _)| *due)).min().unwrap_or(deadline);
        if next > deadline {
            self.now = deadline;
            return false;
        }
        self.now = self.now.max(next);
        while let Some(entry) = self.parcels.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let parcel = entry.remove();
            self.deliver(parcel);
        }
        for host in &mut self.hosts {
            if host.node.poll_timeout().is_some_and(|due| due <= self.now) {
                host.node.handle_timeout(self.now);
            }
        }
        true
    }

    fn post(&mut self, parcel: Parcel) {
        self.sequence += 1;
        self.parcels.insert((self.now + DELAY, self.sequence), parcel);
    }

    fn pump(&mut self) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        for index in 0..self.hosts.len() {
            let now = self.now;
            while let Some(transmit) = self.hosts[index].node.poll_transmit(now, &mut buffer) {
                let bytes = buffer[..transmit.len].to_vec();
                assert!(!bytes.starts_with(b"PILT"), "a packet in clear");
                let from = self.hosts[index].endpoint;
                if self.recorded.len() == RECORDED_MAX {
                    self.recorded.pop_front();
                }
                self.recorded.push_back((from, transmit.to, bytes.clone()));
                if (self.passes)(from, transmit.to) {
                    self.direct += u64::from(transmit.to != self.relay);
                    self.post(Parcel::Datagram { from, to: transmit.to, bytes });
                }
            }
            while let Some((ticket, request)) = self.hosts[index].node.poll_request() {
                self.post(Parcel::Question { host: index, ticket, request });
            }
            let host = &mut self.hosts[index];
            while let Some(event) = host.node.poll_event() {
                host.events.push(event);
            }
            host.control.extend(std::iter::from_fn(|| host.node.poll_control_event()));
            host.spans.extend(std::iter::from_fn(|| host.node.poll_span()));
        }
    }

    fn deliver(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Datagram { from, to, bytes } if to == self.relay => self.pass_on(from, &bytes),
            Parcel::Datagram { from, to, mut bytes } => {
                if let Some(host) = self.hosts.iter_mut().find(|host| host.endpoint == to) {
                    host.node.handle_datagram(self.now, from, &mut bytes);
                }
            }
            Parcel::Question { host, ticket, request } => {
                let answer = if self.directory_is_away {
                    Err(Unanswered::Unreachable("away".to_owned()))
                } else {
                    Ok(self.answer(&request.operation))
                };
                self.sequence += 1;
                let due = self.now + DELAY + (self.slowness)(&request.operation);
                self.parcels.insert((due, self.sequence), Parcel::Answer { host, ticket, answer });
            }
            Parcel::Answer { host, ticket, answer } => self.hosts[host].node.handle_answer(self.now, ticket, answer),
        }
    }

    fn pass_on(&mut self, from: SocketAddr, bytes: &[u8]) {
        let mut send = |to, message: Message<'_>| {
            let mut buffer = vec![0; bytes.len() + 32];
            let mut writer = Writer::new(&mut buffer);
            message.encode(&mut writer);
            let len = writer.written().len();
            buffer.truncate(len);
            self.sequence += 1;
            let parcel = Parcel::Datagram { from: self.relay, to, bytes: buffer };
            if (self.passes)(self.relay, to) {
                self.parcels.insert((self.now + DELAY, self.sequence), parcel);
            }
        };
        match Message::decode(bytes) {
            Ok(Message::Discover { node, .. }) => {
                if node.is_node() {
                    self.at_relay.insert(node, from);
                }
                send(from, Message::DiscoverReply(from));
            }
            Ok(Message::Relay { sender, dest, .. } | Message::PunchRequest { requester: sender, target: dest })
                if self.banned.contains_key(&sender) || self.banned.contains_key(&dest) => {}
            Ok(Message::PunchRequest { requester, target }) => {
                let (Some(this), Some(that)) = (self.at_relay.get(&requester), self.at_relay.get(&target)) else {
                    return;
                };
                send(*this, Message::PunchCommand(*that));
                send(*that, Message::PunchCommand(*this));
            }
            Ok(Message::Trace { sender, dest, context }) => self.traces.push((sender, dest, context)),
            Ok(Message::Relay { sender, dest, inner }) => {
                let is_known = self.at_relay.get(&sender) == Some(&from);
                if let Some(to) = self.at_relay.get(&dest).filter(|_| is_known) {
                    self.relayed += 1;
                    send(*to, Message::Deliver { sender, inner });
                }
            }
            _ => assert!(bytes[0] > beacon::kind::LAST || bytes[0] == 0, "a relay gets no such message: {bytes:?}"),
        }
    }

    fn answer(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::Register(register) => {
                let known = self.entries.iter().find(|(_, entry)| entry.key == register.public_key).map(|(id, _)| *id);
                let node = known.unwrap_or(NodeId(self.entries.len() as u32 + 1));
                let public = self.entries.get(&node).is_some_and(|entry| entry.public);
                self.entries.insert(
                    node,
                    Entry {
                        key: register.public_key,
                        endpoint: register.listen_addr.clone(),
                        public,
                        hostname: register.hostname.clone(),
                    },
                );
                Answer::Register(Registered {
                    node_id: node,
                    network_id: 0,
                    address: node.address(),
                    public_key: register.public_key,
                    hostname: None,
                    hostname_error: None,
                    observed_addr: None,
                    protocol_version: None,
                })
            }
            Operation::Heartbeat { node_id, .. } if self.banned.contains_key(node_id) => {
                Answer::Error { error: format!("node {} is banned: pardon of the administrator required", node_id.0) }
            }
            Operation::Heartbeat { node_id, report, bans_since } => {
                self.reports.extend(report.map(|report| (*node_id, report)));
                let time = self.unix_seconds();
                let bans = bans_since.filter(|_| !self.directory_is_old).map(|since| self.bans_since(*node_id, since));
                Answer::Heartbeat { time, bans }
            }
            Operation::SetVisibility { node_id, public } => {
                self.entries.get_mut(node_id).unwrap().public = *public;
                Answer::SetVisibility { node_id: *node_id, visibility: wire::registry::answer::Visibility::Public }
            }
            Operation::Lookup { .. } if self.lookup_error.is_some() => {
                Answer::Error { error: self.lookup_error.unwrap_or_default().to_owned() }
            }
            Operation::Lookup { node_id } | Operation::Resolve { node_id, .. } if self.banned.contains_key(node_id) => {
                Answer::Error { error: format!("node {}: node not found", node_id.0) }
            }
            Operation::Lookup { node_id } => match self.entries.get(node_id) {
                Some(entry) => Answer::Lookup(Found {
                    node_id: *node_id,
                    address: node_id.address(),
                    networks: vec![0],
                    public_key: *self.false_keys.get(node_id).unwrap_or(&entry.key),
                    public: entry.public,
                    polo_score: 0,
                    hostname: Some(entry.hostname.clone()),
                    tags: Vec::new(),
                    task_exec: false,
                    version: None,
                    real_addr: None,
                }),
                None => Answer::Error { error: format!("node {}: node not found", node_id.0) },
            },
            Operation::Resolve { node_id, requester_id } => match self.entries.get(node_id) {
                Some(entry) if entry.public || self.trusted.contains(&(*node_id, *requester_id)) => {
                    Answer::Resolve(Resolved {
                        node_id: *node_id,
                        real_addr: entry.endpoint.clone(),
                        lan_addrs: Vec::new(),
                        key_age_days: None,
                        public_key: None,
                        relay_only: false,
                    })
                }
                _ => Answer::Error { error: "resolve requires trust".to_owned() },
            },
            Operation::CheckTrust { node_id, peer_id } => {
                Answer::CheckTrust { trusted: self.trusted.contains(&(*node_id, *peer_id)) }
            }
            Operation::ReportTrust { node_id, peer_id } => {
                self.trusted.insert((*node_id, *peer_id));
                Answer::ReportTrust
            }
            Operation::PollHandshakes { .. } => Answer::PollHandshakes { requests: Vec::new(), responses: Vec::new() },
            other => Answer::Error { error: format!("not found: {other:?}") },
        }
    }

    fn unix_seconds(&self) -> u64 {
        1_800_000_000 + self.now.0 / 1_000_000_000
    }

    fn bans_since(&self, asker: NodeId, since: Cursor) -> Listed {
        let settled = self.unix_seconds() - OVERLAP_SECONDS;
        let from = if since == Cursor::PRESENT { settled } else { since.at };
        let banned = self.banned.iter().filter(|(_, at)| **at >= from).map(|(node, _)| *node);
        let besides = [asker, NodeId::UNSET, NodeId::BROADCAST, NodeId(77)].into_iter().filter(|_| self.directory_errs);
        let node_ids = banned.chain(besides).collect();
        Listed { node_ids, next: Cursor { at: settled, after: NodeId::UNSET } }
    }

    /// The administrator keeps a node out.
    pub fn ban(&mut self, host: usize) {
        self.banned.insert(self.id(host), self.unix_seconds());
    }

    // --- what tests look for ---

    pub fn has_session(&self, host: usize, peer: usize) -> bool {
        self.hosts[host].node.peer(self.id(peer)).is_some_and(|peer| peer.has_session)
    }

    pub fn accepted(&self, host: usize) -> Option<StreamId> {
        self.hosts[host].events.iter().find_map(|event| match event {
            Event::Accepted { stream, .. } => Some(*stream),
            _ => None,
        })
    }

    pub fn is_open(&self, host: usize, stream: StreamId) -> bool {
        self.hosts[host].events.contains(&Event::Opened(stream))
    }

    pub fn is_direct(&self, host: usize, peer: usize) -> bool {
        self.hosts[host].node.peer(self.id(peer)).is_some_and(|peer| peer.direct.is_some())
    }

    pub fn read_all(&mut self, host: usize, stream: StreamId) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut piece = vec![0; 65536];
        loop {
            match self.hosts[host].node.read(self.now, stream, &mut piece) {
                0 => return bytes,
                count => bytes.extend(&piece[..count]),
            }
        }
    }
}
