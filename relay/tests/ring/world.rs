//! A relay at work on loopback, and nodes that are sockets.
//!
//! Nothing here waits for time to pass: a question that every shard answers stands behind whatever was sent before it,
//! so its answer says that all of that has been decided and counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use relay::admission::Budget;
use relay::config::Config;
use relay::locals::Service;
use relay::membership::Membership;
use relay::metrics::Counters;
use relay::runtime::{Relay, StartError};
use relay::server::{Admission, Rules};
use wire::NodeId;
use wire::beacon::Message;
use wire::codec::Writer;

/// How long an answer may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Questions asked while waiting for something that no answer announces.
const QUESTIONS_MAX: usize = 100_000;
/// The largest datagram there is.
const DATAGRAM_MAX: usize = 1 << 16;
const STARTS_MAX: usize = 5;

/// Settings for a relay at `beacon` without budgets and without a directory.
pub fn config(beacon: SocketAddr, shards: usize) -> Config {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Config {
        beacon: Some(beacon),
        stun: None,
        advertise: Vec::new(),
        cpus: (0..shards).map(|shard| shard % cpus).collect(),
        sessions_max: 4096,
        spin: Duration::ZERO,
        rules: Rules {
            admission: Admission::Grace,
            sender_packets: Budget::unlimited(),
            sender_bytes: Budget::unlimited(),
            prefix_control: Budget::unlimited(),
            prefix_packets: Budget::unlimited(),
            prefix_bytes: Budget::unlimited(),
            ..Rules::default()
        },
    }
}

/// Any free port of IPv4's loopback address.
pub const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Any free port of every address of this host.
pub fn everywhere() -> SocketAddr {
    if relay::interfaces::has_ipv6() {
        return (Ipv6Addr::UNSPECIFIED, 0).into();
    }
    eprintln!("SKIPPED in part: this host has no IPv6");
    (Ipv4Addr::UNSPECIFIED, 0).into()
}

pub struct World {
    pub relay: Relay,
}

impl World {
    /// A relay that serves `beacon`.
    pub fn serving(beacon: SocketAddr, shards: usize) -> Self {
        let world = Self::bound(&config(beacon, shards));
        world.relay.serve().unwrap();
        world
    }

    /// A relay whose sockets are bound and not yet read.
    pub fn bound(config: &Config) -> Self {
        // A port free on one address may be taken on the next by a client of another test.
        let start = || match Relay::start(config, Arc::new(Membership::default())) {
            Err(StartError::Busy(..)) => None,
            started => Some(started.unwrap()),
        };
        let relay = (0..STARTS_MAX).find_map(|_| start()).expect("a port is free on every address");
        Self { relay }
    }

    /// Every address that is served.
    pub fn places(&self, service: Service) -> Vec<SocketAddr> {
        let locals = self.relay.locals();
        locals.iter().filter(|(_, local)| local.present && local.service == service).map(|(_, l)| l.bound).collect()
    }

    /// The first address.
    pub fn place(&self) -> SocketAddr {
        self.places(Service::Beacon)[0]
    }

    /// Returns when every shard has decided and counted what was sent to `place` before.
    fn settle_at(&self, place: SocketAddr) {
        let shards = self.relay.counters().len();
        // Ids that nobody has reach every shard, are answered, and leave nothing behind.
        let nobody = [NodeId::UNSET, NodeId::BROADCAST];
        assert!((0..shards).all(|shard| nobody.iter().any(|node| node.0 as usize % shards == shard)));
        nobody.into_iter().for_each(|node| drop(Node::new(place, node)));
    }

    /// Lets the shards turn until `condition` holds.
    pub fn turn_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let met = (0..QUESTIONS_MAX).any(|_| {
            self.settle_at(self.place());
            condition(self)
        });
        assert!(met, "{what} did not come about");
    }

    /// All shards' counters once settled; each of them has to balance.
    pub fn counters(&self) -> Vec<Counters> {
        self.places(Service::Beacon).into_iter().for_each(|place| self.settle_at(place));
        let shards = self.relay.counters();
        assert!(
            shards.iter().all(Counters::balanced),
            "received = forwarded + answered + deferred + dropped: {shards:?}"
        );
        shards
    }

    /// The sum over all shards.
    pub fn total(&self) -> Counters {
        let mut total = Counters::default();
        self.counters().iter().for_each(|counters| total.merge(counters));
        total
    }

    /// Ends the relay; no shard may have failed or panicked.
    pub fn stop(self) {
        let shards = self.relay.counters().len();
        self.relay.stop();
        for _ in 0..shards {
            let ended = self.relay.wait_ended().expect("every shard reports its end");
            ended.result.unwrap_or_else(|error| panic!("shard {}: {error}", ended.shard));
        }
    }
}

/// A node: an id and a socket that hears the relay's address alone.
pub struct Node {
    pub id: NodeId,
    pub socket: UdpSocket,
}

impl Node {
    /// A node that has asked the relay at `place` where it is, and was told right.
    pub fn new(place: SocketAddr, id: NodeId) -> Self {
        let node = Self::silent(place, id);
        node.send(Message::Discover { node: id, extended: false });
        node.expect(Message::DiscoverReply(node.address()));
        node
    }

    /// A node that has not said anything yet.
    pub fn silent(place: SocketAddr, id: NodeId) -> Self {
        let any: IpAddr = if place.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect(place).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { id, socket }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub fn send(&self, message: Message<'_>) {
        self.socket.send(&encode(message)).unwrap();
    }

    pub fn relay(&self, dest: NodeId, inner: &[u8]) {
        self.send(Message::Relay { sender: self.id, dest, inner });
    }

    /// Sends all of `datagrams`, which have one size, at once: the kernel carries them as one packet (`UDP_SEGMENT`).
    pub fn send_merged(&self, datagrams: &[Vec<u8>]) {
        let segment = datagrams[0].len();
        assert!(datagrams.iter().all(|datagram| datagram.len() == segment));
        setsockopt(&self.socket, UdpGsoSegment, &i32::try_from(segment).unwrap()).unwrap();
        assert_eq!(self.socket.send(&datagrams.concat()).unwrap(), segment * datagrams.len());
        setsockopt(&self.socket, UdpGsoSegment, &0).unwrap();
    }

    /// The next datagram.
    pub fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; DATAGRAM_MAX];
        let len = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{:?} heard nothing: {error}", self.id));
        buffer.truncate(len);
        buffer
    }

    pub fn expect(&self, message: Message<'_>) {
        let (received, expected) = (self.receive(), encode(message));
        assert!(received == expected, "{:?}, {} bytes, is not {message:?}", Message::decode(&received), received.len());
    }

    /// Takes a delivery and returns what was carried.
    pub fn delivery(&self, from: NodeId) -> Vec<u8> {
        let received = self.receive();
        match Message::decode(&received) {
            Ok(Message::Deliver { sender, inner }) if sender == from => inner.to_vec(),
            other => panic!("{other:?} is no delivery from {from:?}"),
        }
    }

    /// Whether nothing has come beyond what was taken. Ask for the counters first, so that all has been sent.
    pub fn heard_all(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let error = self.socket.recv(&mut [0; 16]).map_err(|error| error.kind());
        self.socket.set_nonblocking(false).unwrap();
        error == Err(std::io::ErrorKind::WouldBlock)
    }
}

pub fn encode(message: Message<'_>) -> Vec<u8> {
    let mut buffer = vec![0; DATAGRAM_MAX + 16];
    let mut writer = Writer::new(&mut buffer);
    message.encode(&mut writer);
    let len = writer.len();
    buffer.truncate(len);
    buffer
}
