//! A relay without sockets: the rules of every shard, a clock moved by hand, and daemons that are addresses.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use relay::Time;
use relay::authority::{Authority, Judge, Question};
use relay::contests::Board;
use relay::cookie::Cookies;
use relay::endpoint::{Endpoint, LocalId, Path};
use relay::events::What;
use relay::locals::{Local, Locals, Service};
use relay::membership::Membership;
use relay::metrics::Counters;
use relay::server::{Action, Admission, Handoff, REPLY_MAX, Rules, Server, Shared};
use relay::sessions::{Session, Table, shard_of};
use relay::usage::Usage;
use wire::NodeId;
use wire::beacon::{Message, claim_text};
use wire::codec::Writer;

/// The beacon port of the first address.
pub const BEACON: LocalId = LocalId(0);
/// The STUN port of the first address.
pub const STUN: LocalId = LocalId(1);
/// The beacon port of the second address.
pub const BEACON_2: LocalId = LocalId(2);
/// The STUN port of the second address.
pub const STUN_2: LocalId = LocalId(3);
/// The beacon port of the IPv6 address, which has no second one.
pub const BEACON_V6: LocalId = LocalId(4);

/// A datagram the relay sent: to whom, from which of its addresses, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub to: SocketAddr,
    pub via: LocalId,
    pub bytes: Vec<u8>,
}

/// The key the relay is known by.
pub const RELAY_KEY: [u8; 32] = [0x4B; 32];

/// What the directory knows: every node's key, and who would be told of whom.
#[derive(Debug, Default)]
pub struct Directory {
    pub introduces: BTreeSet<(u32, u32)>,
    /// How often it was asked for a key.
    pub keys_asked: std::sync::atomic::AtomicU32,
}

impl Authority for Directory {
    fn public_key(&self, node: NodeId) -> Option<[u8; 32]> {
        self.keys_asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(key(node.0).verifying_key().to_bytes())
    }

    fn lets_resolve(&self, requester: NodeId, target: NodeId) -> bool {
        self.introduces.contains(&(requester.0, target.0))
    }
}

/// The key of a node.
pub fn key(node: u32) -> SigningKey {
    SigningKey::from_bytes(&[node as u8; 32])
}

pub struct World {
    pub now: Time,
    pub directory: Directory,
    /// Questions to the directory wait for [`World::answer`].
    pub holds_questions: bool,
    held: Vec<(usize, Question)>,
    judge: Judge,
    pub membership: Arc<Membership>,
    pub shards: Vec<Server>,
    table: Arc<Table>,
    outbox: VecDeque<Sent>,
}

impl World {
    pub fn new(admission: Admission, shards: usize) -> Self {
        let cookies = Some(Arc::new(Cookies::new(RELAY_KEY, &[0x5E; 32])));
        Self::with_rules(Rules { admission, cookies, ..Rules::default() }, shards, 1024)
    }

    /// A relay that knows the nodes 1 to 9 through its directory.
    pub fn with_directory(shards: usize) -> Self {
        Self::admitting(Admission::Grace, shards)
    }

    /// The same relay, which lets in what is proven alone.
    pub fn strict(shards: usize) -> Self {
        Self::admitting(Admission::Strict, shards)
    }

    fn admitting(admission: Admission, shards: usize) -> Self {
        let world = Self::new(admission, shards);
        world.membership.set_authority(true);
        (1..10).for_each(|node| world.membership.publish(NodeId(node), &[], None));
        world
    }

    pub fn with_rules(rules: Rules, shards: usize, sessions_max: usize) -> Self {
        let membership = Arc::new(Membership::default());
        let shared = Shared {
            table: Table::new(shards, sessions_max),
            membership: Arc::clone(&membership),
            board: Board::new(shards),
        };
        let locals = Arc::new(locals());
        let server = |index| Server::new(rules.clone(), index, &shared, Arc::clone(&locals));
        Self {
            now: Time(1_000_000_000_000),
            directory: Directory::default(),
            holds_questions: false,
            held: Vec::new(),
            judge: Judge::new(RELAY_KEY),
            membership,
            shards: (0..shards).map(server).collect(),
            table: shared.table,
            outbox: VecDeque::new(),
        }
    }

    pub fn prove(&self, node: u32, ips: &[&str]) {
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        self.membership.publish(NodeId(node), &ips, None);
    }

    /// The node has registered with a signature, naming this endpoint.
    pub fn registered_at(&self, node: u32, endpoint: &str) {
        let endpoint: SocketAddr = endpoint.parse().unwrap();
        self.membership.publish(NodeId(node), &[endpoint.ip()], Some(endpoint));
    }

    /// Delivers a datagram to the shard the steering program would choose.
    pub fn receive(&mut self, from: &str, datagram: &[u8]) -> Action {
        let shard = match datagram {
            [0x01..=wire::beacon::kind::LAST, a, b, c, d, ..] => {
                shard_of(NodeId(u32::from_be_bytes([*a, *b, *c, *d])), self.shards.len())
            }
            _ => 0,
        };
        self.receive_on(shard, BEACON, from, datagram)
    }

    /// Delivers a datagram to a shard and local address of the test's choice.
    pub fn receive_on(&mut self, shard: usize, local: LocalId, from: &str, datagram: &[u8]) -> Action {
        let mut buffer = datagram.to_vec();
        let mut reply = [0; REPLY_MAX];
        let from = Path { remote: from.parse::<SocketAddr>().unwrap().into(), local };
        let action = self.shards[shard].handle_datagram(self.now, from, &mut buffer, &mut reply);
        match &action {
            Action::Forward { to, part } => self.sent(*to, &buffer[part.clone()]),
            Action::Reply { len, via } => self.sent(Path { local: *via, ..from }, &reply[..*len]),
            Action::ReplyAndSend { len, send } => {
                self.sent(from, &reply[..*len]);
                self.sent(send.to, send.bytes());
            }
            Action::Defer | Action::Drop(_) => {}
        }
        self.settle();
        action
    }

    pub fn message(&mut self, from: &str, message: Message<'_>) -> Action {
        self.receive(from, &encode(message))
    }

    pub fn discover(&mut self, from: &str, node: u32) -> Action {
        self.message(from, Message::Discover { node: NodeId(node), extended: false })
    }

    pub fn relay(&mut self, from: &str, sender: u32, dest: u32, inner: &[u8]) -> Action {
        self.message(from, Message::Relay { sender: NodeId(sender), dest: NodeId(dest), inner })
    }

    /// A claim of zeros from `from`; the cookie of the challenge it is answered with.
    pub fn challenge(&mut self, from: &str, node: u32) -> Option<[u8; 16]> {
        self.take_sent();
        self.message(from, Message::Claim { node: NodeId(node), cookie: &[0; 16], signature: &[0; 64] });
        self.take_sent().into_iter().find_map(|sent| match Message::decode(&sent.bytes) {
            Ok(Message::Challenge { relay_key, cookie }) => {
                assert_eq!((relay_key, sent.to), (&RELAY_KEY, from.parse().unwrap()));
                Some(*cookie)
            }
            _ => None,
        })
    }

    /// A claim with this cookie, signed by the key of `signer`.
    pub fn sign(&mut self, from: &str, node: u32, cookie: &[u8; 16], signer: u32) -> Action {
        let signature = key(signer).sign(&claim_text(&RELAY_KEY, NodeId(node), cookie)).to_bytes();
        self.message(from, Message::Claim { node: NodeId(node), cookie, signature: &signature })
    }

    /// What the agent does beside its discover.
    pub fn claim(&mut self, from: &str, node: u32) {
        if let Some(cookie) = self.challenge(from, node) {
            assert_eq!(self.sign(from, node, &cookie, node), Action::Defer);
        }
    }

    /// Has the questions that wait answered.
    pub fn answer(&mut self) {
        self.holds_questions = false;
        self.settle();
    }

    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    pub fn hand(&mut self, handoff: Handoff, node: u32) {
        let shard = shard_of(NodeId(node), self.shards.len());
        self.shards[shard].handle_handoff(self.now, handoff);
        self.settle();
    }

    /// Moves the clock, doing what falls due on the way.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = self.shards.iter().map(Server::poll_timeout).min().unwrap();
            if next > end {
                break;
            }
            self.now = next.max(self.now);
            let now = self.now;
            self.shards.iter_mut().for_each(|shard| shard.handle_timeout(now));
            self.settle();
        }
        self.now = end;
    }

    /// What the relay has sent since the last look.
    pub fn take_sent(&mut self) -> Vec<Sent> {
        self.outbox.drain(..).collect()
    }

    /// The control events since the last look, with the time each is dated, shard by shard.
    pub fn take_events_at(&mut self) -> Vec<(Time, NodeId, What)> {
        let of = |shard: &mut Server| std::iter::from_fn(|| shard.poll_event()).collect::<Vec<_>>();
        let mut events: Vec<_> = self.shards.iter_mut().flat_map(of).collect();
        // What happened at once on several shards is told in the order of the nodes.
        events.sort_by_key(|event| (event.at, event.node));
        events.into_iter().map(|event| (event.at, event.node, event.what)).collect()
    }

    /// The control events since the last look, in order.
    pub fn take_events(&mut self) -> Vec<(NodeId, What)> {
        self.take_events_at().into_iter().map(|(_, node, what)| (node, what)).collect()
    }

    /// Where the relay believes a node to be.
    pub fn session(&self, node: u32) -> Option<Session> {
        self.table.find(NodeId(node))
    }

    /// What a node has sent, as anybody may read.
    pub fn usage(&self, node: u32) -> Usage {
        self.table.usage().of(NodeId(node))
    }

    pub fn place(&self, node: u32) -> Option<String> {
        self.session(node).map(|session| session.path.remote.to_string())
    }

    /// How long ago anybody may read that the node was heard.
    pub fn heard_ago(&self, node: u32) -> Option<Duration> {
        self.table.heard(NodeId(node)).map(|heard| self.now.since(heard))
    }

    /// All shards' counters; every one has to balance.
    pub fn counters(&mut self) -> Counters {
        let mut total = Counters::default();
        for shard in &mut self.shards {
            assert!(shard.counters().balanced(), "received = forwarded + answered + deferred + dropped");
            total.merge(shard.counters());
        }
        total
    }

    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for index in 0..self.shards.len() {
                while let Some(send) = self.shards[index].poll_send() {
                    self.sent(send.to, send.bytes());
                }
                self.held.extend(std::iter::from_fn(|| self.shards[index].poll_question()).map(|asked| (index, asked)));
                while let Some((to, handoff)) = self.shards[index].poll_handoff() {
                    self.shards[to].handle_handoff(self.now, handoff);
                    moved = true;
                }
            }
            if !self.holds_questions {
                for (asking, question) in std::mem::take(&mut self.held) {
                    let answer = self.judge.judge(self.now, &self.directory, &question);
                    let to = match &answer {
                        Handoff::Claimed(claim, _) => shard_of(claim.node, self.shards.len()),
                        _ => asking,
                    };
                    self.shards[to].handle_handoff(self.now, answer);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn sent(&mut self, to: Path, bytes: &[u8]) {
        self.outbox.push_back(Sent { to: to.remote.socket_addr(), via: to.local, bytes: bytes.to_vec() });
    }
}

pub fn endpoint(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

pub fn encode(message: Message<'_>) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let mut writer = Writer::new(&mut buffer);
    message.encode(&mut writer);
    let len = writer.len();
    buffer.truncate(len);
    buffer
}

pub fn sent(to: &str, via: LocalId, message: Message<'_>) -> Sent {
    Sent { to: to.parse().unwrap(), via, bytes: encode(message) }
}

fn locals() -> Locals {
    let local = |address: &str, service| {
        let bound: SocketAddr = address.parse().unwrap();
        Local { bound, seen_as: bound, service, payload_max: 1472, present: true }
    };
    Locals::new(vec![
        local("198.18.0.2:9001", Service::Beacon),
        local("198.18.0.2:3478", Service::Stun),
        local("198.18.0.3:9001", Service::Beacon),
        local("198.18.0.3:3478", Service::Stun),
        local("[2001:db8::2]:9001", Service::Beacon),
        local("[2001:db8::2]:3478", Service::Stun),
    ])
}
