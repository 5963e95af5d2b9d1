//! A node: tunnels, paths, streams, trust and its place in the directory, joined to one plain value.
//!
//! ```text
//!   datagrams ──► handle_datagram ─┐              ┌─ poll_transmit ──► datagrams
//!   answers ────► handle_answer   ─┤              ├─ poll_request  ──► the directory
//!   the application: dial, write … ─┼──► Node ────┼─ poll_event    ──► the application
//!   time ───────► handle_timeout  ─┘              └─ poll_timeout
//! ```
//!
//! After every call the owner takes all three polls until they are empty, then waits for the next input or for
//! [`Node::poll_timeout`]. There is no I/O, clock or chance inside: a seed and the same calls give the same outputs.
//!
//! **Life of a dial.** [`Node::dial`] makes a stream and asks the directory for the peer's key and endpoints. Our keys
//! leave through the relay at once, a punch request beside them. The peer's keys come back; the SYN is sealed and
//! follows through the relay, and probes go to every endpoint at which the peer may be. The first that is answered
//! moves the traffic over: tunnel and stream notice nothing.
//!
//! | part | subject |
//! |---|---|
//! | `receive` | datagrams: which engine they are for; packets: which stream |
//! | `transmit` | frames and segments on their way out: sealed, wrapped for the relay |
//! | `attendance` | what the engines want done, after each call |
//! | `backbone` | answers of the directory |
//! | `handshakes` | messages about trust on port 444 |
//! | `application` | what the application may do and ask |
//! | `bans` | the end of what there is with nodes that the directory keeps out |
//! | `claims` | signatures that show relays where the node is |
//! | `capabilities` | what the node offers, and the keys by which it knows others |
//! | `connections`, `ports`, `peers`, `questions`, `admission` | the tables these work on |
//! | `follow`, `control`, `span` | what has happened, for people and collectors: control events, spans of traces |

mod about;
mod admission;
mod application;
mod attendance;
mod backbone;
mod bans;
mod bucket;
mod capabilities;
mod claims;
mod config;
mod connections;
mod control;
mod explain;
mod follow;
mod handshakes;
mod info;
mod outcome;
mod peers;
mod ports;
mod questions;
mod receive;
mod span;
mod transmit;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use secrets::{Locked, scrubbed};
use sha2::{Digest, Sha256};
use wire::NodeId;
use wire::registry::answer::Answer;
use wire::registry::request::Request;

use crate::Time;
use crate::capability::Publication;
use crate::identity::Identity;
use crate::nat;
use crate::registration::{Announcement, Registration};
use crate::relays::{Claims, Relays};
use crate::trust::Trust;
use crate::tunnel::{Limits, Tunnels};

pub use config::{Config, STUN_PORT};
pub use control::{ControlEvent, ControlKind, EVENTS_OF_ONE_MAX, PEERS_MAX, Question};
pub use explain::Explanation;
pub use follow::Delivery;
pub use info::{Counters, PeerInfo, StreamInfo};
pub use outcome::{BindError, DialError, Event, StreamId, Ticket, Transmit, Trouble, Unanswered};
pub use span::{Attributes, DialTrace, SpanRecord};

use admission::Admission;
use bucket::Bucket;
use connections::Connections;
use control::Journal;
use handshakes::Handshakes;
use peers::Peers;
use ports::Ports;
use questions::{Purpose, Questions};
use receive::{HeldPacket, Punches};
use span::Tracing;

/// Room for any datagram that [`Node::poll_transmit`] writes.
pub const DATAGRAM_MAX: usize = 65_535;

/// The relay is given this long to say where we are before a local endpoint is announced.
const ENDPOINT_WAIT: Duration = Duration::from_millis(1500);
/// The directory's list of relays is read this often (section 4.6).
const RELAYS_INTERVAL: Duration = Duration::from_mins(1);
/// Peers without tunnel and streams are forgotten this often.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// A datagram that is not a stream's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SmallDatagram {
    to: SocketAddr,
    bytes: Box<[u8]>,
}

/// A node.
pub struct Node {
    config: Config,
    identity: Arc<Identity>,
    seed: Locked<[u8; 32]>,
    incarnation: u32,

    registration: Registration,
    publication: Publication,
    relays: Relays,
    claims: Claims,
    nat: nat::Discovery,
    trust: Trust,
    /// None before the directory has given us an id.
    tunnels: Option<Tunnels>,
    peers: Peers,
    connections: Connections,
    ports: Ports,
    admission: Admission<HeldPacket>,
    questions: Questions,
    handshakes: Handshakes,
    punches: Punches,

    /// None before they were told the first time.
    local_endpoints: Option<Vec<SocketAddr>>,
    lookups: Bucket,
    punch_requests: Bucket,
    /// When a local endpoint is announced for want of a better one.
    endpoint_deadline: Option<Time>,
    relays_due: Option<Time>,
    relay_heard_at: Time,
    /// When the relays that are not in use are to hear of us again.
    standing_due: Option<Time>,
    sweep_due: Time,
    /// Segments sent in a row of the stream whose turn it is.
    burst: u32,

    datagrams: VecDeque<SmallDatagram>,
    /// Packets of this node to itself.
    loopback: VecDeque<Box<[u8]>>,
    events: VecDeque<Event>,
    counters: Counters,

    journal: Journal,
    tracing: Tracing,
    /// Relays that take trace messages.
    trace_relays: Vec<SocketAddr>,
    /// The same as the directory names them.
    trace_relay_names: Vec<String>,
    /// Relays that take signed claims, as the directory names them, and their keys.
    claim_relay_names: Vec<(String, [u8; 32])>,
}

impl Node {
    /// A node that knows nobody yet. `seed` is fresh chance at each start.
    #[must_use]
    pub fn new(now: Time, config: Config, identity: Arc<Identity>, seed: &[u8; 32]) -> Self {
        let announcement = Announcement {
            hostname: config.hostname.clone(),
            owner: config.owner.clone(),
            version: config.version.clone(),
            public: config.public,
            relay_only: config.relay_only,
        };
        let public_key = wire::registry::Base64(identity.public_key());
        let chance = scrubbed(|| derive(seed, "node", 0));
        let jitter = u64::from_be_bytes(*chance.first_chunk().expect("8 bytes of 32"));
        Self {
            registration: Registration::new(announcement, public_key, jitter),
            publication: Publication::new(public_key),
            relays: Relays::new(now, &config.relays),
            claims: Claims::default(),
            nat: scrubbed(|| nat::Discovery::new(&derive(seed, "nat", 0))),
            trust: Trust::new(Arc::clone(&identity), config.trust_auto_approve),
            tunnels: None,
            peers: Peers::default(),
            connections: Connections::default(),
            ports: Ports::new(u16::from_be_bytes([chance[8], chance[9]])),
            admission: Admission::default(),
            questions: Questions::default(),
            handshakes: Handshakes::default(),
            punches: Punches::default(),
            local_endpoints: None,
            lookups: Bucket::default(),
            punch_requests: Bucket::default(),
            endpoint_deadline: Some(now + ENDPOINT_WAIT),
            relays_due: None,
            relay_heard_at: now,
            standing_due: None,
            sweep_due: now + SWEEP_INTERVAL,
            burst: 0,
            datagrams: VecDeque::new(),
            loopback: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            journal: Journal::default(),
            tracing: scrubbed(|| Tracing::new(derive(seed, "traces", 0))),
            trace_relays: Vec::new(),
            trace_relay_names: Vec::new(),
            claim_relay_names: Vec::new(),
            seed: scrubbed(|| Locked::new(*seed)),
            incarnation: 0,
            config,
            identity,
        }
    }

    /// Unix seconds, which trust messages carry. To be told now and then: once a turn of the owner's loop.
    pub fn set_wall_clock(&mut self, unix_seconds: u64) {
        self.trust.set_wall_clock(unix_seconds);
        self.publication.set_wall_clock(unix_seconds);
    }

    /// The endpoints of the tunnel socket in the host's own networks: at the start, and whenever they change.
    pub fn set_local_endpoints(&mut self, now: Time, endpoints: &[SocketAddr]) {
        if self.local_endpoints.as_deref() == Some(endpoints) {
            return;
        }
        let is_change = self.local_endpoints.replace(endpoints.to_vec()).is_some();
        if is_change {
            // The relay has to know first: it drops what comes from elsewhere.
            self.relays.refresh(now);
            self.attend(now);
            let nodes: Vec<_> = self.peers.iter().map(|(node, _)| node).collect();
            for node in nodes {
                self.with_path(now, node, |path| path.handle_network_change(now));
            }
        }
        self.announce_endpoint(now);
        self.attend(now);
    }

    /// Relays, the best first.
    pub fn set_relays(&mut self, now: Time, relays: &[SocketAddr]) {
        self.relays.set_list(now, relays);
        self.attend(now);
    }

    /// Takes a datagram of the tunnel socket. What is sealed is opened in place.
    pub fn handle_datagram(&mut self, now: Time, source: SocketAddr, datagram: &mut [u8]) {
        self.counters.datagrams_received += 1;
        self.counters.bytes_received += datagram.len() as u64;
        if !self.receive(now, source, datagram) {
            self.counters.dropped += 1;
        }
        self.attend(now);
    }

    /// The network reports that datagrams to `destination` do not arrive (ICMP).
    pub fn handle_unreachable(&mut self, now: Time, destination: SocketAddr) {
        self.relays.suspect(now, destination);
        let nodes: Vec<_> =
            self.peers.iter().filter(|(_, peer)| peer.path.knows(destination)).map(|(node, _)| node).collect();
        for node in nodes {
            self.with_path(now, node, |path| path.handle_unreachable(now, destination));
        }
        self.attend(now);
    }

    /// The directory's answer to one of [`Node::poll_request`].
    pub fn handle_answer(&mut self, now: Time, ticket: Ticket, answer: Result<Answer, Unanswered>) {
        if let Some(purpose) = self.questions.take(ticket) {
            self.take_answer(now, purpose, answer);
            self.attend(now);
        }
    }

    /// Does what has fallen due. Early and late calls do no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.endpoint_deadline.is_some_and(|due| due <= now) {
            self.announce_endpoint(now);
        }
        if self.relays_due.is_some_and(|due| due <= now) {
            self.relays_due = Some(now + RELAYS_INTERVAL);
            self.questions.ask(&self.identity, Purpose::Relays, wire::registry::Operation::BeaconList);
        }
        if self.standing_due.is_some_and(|due| due <= now) {
            self.stand_by(now);
        }
        if self.sweep_due <= now {
            self.sweep_due = now + SWEEP_INTERVAL;
            self.sweep();
        }
        self.relays.handle_timeout(now);
        self.nat.handle_timeout(now);
        self.trust.handle_timeout(now);
        if let Some(tunnels) = &mut self.tunnels {
            tunnels.handle_timeout(now);
        }
        while let Some(node) = self.peers.pop_due(now) {
            self.with_path(now, node, |path| path.handle_timeout(now));
            self.follow_rest(now, node);
        }
        while let Some(id) = self.connections.pop_due(now) {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.stream.handle_timeout(now);
            }
            self.settle(now, id);
        }
        self.close_handshakes(now);
        self.attend(now);
    }

    /// When [`Node::handle_timeout`] is to be called, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let engines = [
            self.endpoint_deadline,
            self.relays_due,
            Some(self.sweep_due),
            self.standing_due,
            self.registration.poll_timeout(),
            self.publication.poll_timeout(),
            self.relays.poll_timeout(),
            self.nat.poll_timeout(),
            self.trust.poll_timeout(),
            self.tunnels.as_ref().and_then(Tunnels::poll_timeout),
            self.peers.poll_timeout(),
            self.connections.poll_timeout(),
            self.handshakes.poll_timeout(),
        ];
        engines.into_iter().flatten().min()
    }

    /// Writes the next datagram to be sent into `out`, which has room for [`DATAGRAM_MAX`]. Datagrams of one stream come
    /// in a row, of one size but the last, so that the owner can send them as one.
    pub fn poll_transmit(&mut self, now: Time, out: &mut [u8]) -> Option<Transmit> {
        let transmit = self.next_transmit(now, out)?;
        self.counters.datagrams_sent += 1;
        self.counters.bytes_sent += transmit.len as u64;
        match out[..transmit.len].first() {
            Some(&wire::beacon::kind::RELAY) => self.counters.bytes_sent_relayed += transmit.len as u64,
            Some(b'P') => self.counters.bytes_sent_direct += transmit.len as u64,
            _ => {}
        }
        Some(transmit)
    }

    /// The next question to the directory, signed where it has to be. Each must be answered by [`Node::handle_answer`], if
    /// only by [`Unanswered`].
    pub fn poll_request(&mut self) -> Option<(Ticket, Request)> {
        self.questions.poll_request()
    }

    /// The next thing the application should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The node's id, once it is registered.
    #[must_use]
    pub fn id(&self) -> Option<NodeId> {
        self.registration.node()
    }

    /// Begins as the node that the directory says we are: nothing of another id's is of use any more.
    fn become_node(&mut self, now: Time, node: NodeId) {
        self.tunnels = Some(scrubbed(|| {
            let seed = derive(&self.seed, "tunnels", self.incarnation);
            // Ephemeral keys come from that seed and must not be had again.
            *self.seed = derive(&self.seed, "next", 0);
            Tunnels::new(node, Arc::clone(&self.identity), Limits::default(), &seed)
        }));
        self.incarnation += 1;
        self.peers = Peers::default();
        let streams: Vec<_> = self.connections.iter().map(|(id, _)| id).collect();
        for id in streams {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.stream.abort();
            }
            self.settle(now, id);
        }
        self.trust.set_own(now, node);
    }

    fn local_endpoints(&self) -> &[SocketAddr] {
        self.local_endpoints.as_deref().unwrap_or_default()
    }

    fn sweep(&mut self) {
        let (tunnels, connections) = (&self.tunnels, &self.connections);
        let busy: std::collections::HashSet<_> =
            connections.iter().map(|(_, connection)| connection.key.peer).collect();
        self.peers.retain(|node| busy.contains(&node) || tunnels.as_ref().is_some_and(|tunnels| tunnels.knows(node)));
    }
}

/// A seed of its own for each use of chance; a secret as long as the first is one.
fn derive(seed: &[u8; 32], purpose: &str, number: u32) -> [u8; 32] {
    Sha256::new().chain_update(seed).chain_update(purpose).chain_update(number.to_be_bytes()).finalize().into()
}
