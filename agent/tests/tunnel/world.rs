//! Nodes, a directory and the links between them, with a clock moved by hand. A seed replays exactly.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agent::Time;
use agent::identity::Identity;
use agent::tunnel::session::HEAD_LEN;
use agent::tunnel::{DropReason, Limits, Output, Received, Route, Sealed, Tunnels, Via};
use wire::NodeId;
use wire::address::SocketAddress;
use wire::codec::Writer;
use wire::packet::{Flags, HEADER_LEN, Packet, Protocol, VERSION};
use wire::tunnel::{Frame, SEALED_OVERHEAD};

/// What links and directory do to what they carry; chances in percent.
#[derive(Clone, Copy)]
pub struct Link {
    pub loss: u64,
    pub duplication: u64,
    pub delay: Duration,
    pub jitter: Duration,
}

pub const GOOD: Link = Link { loss: 0, duplication: 0, delay: Duration::from_millis(15), jitter: Duration::ZERO };

pub struct Node {
    pub tunnels: Tunnels,
    /// Payloads handed up, with who sent them.
    pub received: Vec<(u32, Vec<u8>)>,
    pub keepalives: usize,
    /// Control packets handed up.
    pub controls: usize,
    /// Sends control packets back, as daemons do.
    pub echoes: bool,
    pub drops: Vec<DropReason>,
    pub events: Vec<Output>,
    starts: u8,
}

/// A frame a node has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub at: Time,
    pub from: u32,
    pub to: u32,
    pub route: Route,
    pub frame: Vec<u8>,
}

enum Flight {
    Datagram { to: u32, via: Via, bytes: Vec<u8> },
    Answer { to: u32, about: u32 },
}

pub struct World {
    pub now: Time,
    pub link: Link,
    pub nodes: HashMap<u32, Node>,
    /// What the directory knows.
    pub directory: HashMap<u32, [u8; 32]>,
    /// Every frame sent, also what got lost.
    pub tap: Vec<Sent>,
    /// What gets through, besides what the link does.
    pub passes: Box<dyn FnMut(&Sent) -> bool>,
    limits: Limits,
    flights: BTreeMap<(Time, u64), Flight>,
    chance: u64,
    serial: u64,
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn identity(node: u32) -> Identity {
    Identity::from_seed(&[node as u8; 32])
}

/// Where a node's datagrams come from.
pub fn endpoint(node: u32) -> SocketAddr {
    (IpAddr::from(Ipv4Addr::from(0xC612_0000 + node)), 4000).into()
}

pub fn direct(node: u32) -> Via {
    Via::Direct(endpoint(node))
}

/// A frame to be sealed, with a datagram packet in it.
pub fn unsealed(from: u32, to: u32, payload: &[u8]) -> Vec<u8> {
    let at_port_7 = |node| SocketAddress { address: NodeId(node).address(), port: 7 };
    let packet = Packet {
        version: VERSION,
        flags: Flags::NONE,
        protocol: Protocol::DATAGRAM,
        source: at_port_7(from),
        destination: at_port_7(to),
        sequence: 0,
        acknowledgement: 0,
        window_segments: 0,
        payload,
    };
    let mut frame = vec![0; SEALED_OVERHEAD + HEADER_LEN + payload.len()];
    packet.encode(&mut Writer::new(&mut frame[HEAD_LEN..]));
    frame
}

impl World {
    pub fn new(nodes: u32) -> Self {
        Self::with_limits(nodes, Limits::default())
    }

    pub fn with_limits(nodes: u32, limits: Limits) -> Self {
        let mut world = Self {
            now: Time(1_000_000_000_000),
            link: GOOD,
            nodes: HashMap::new(),
            directory: HashMap::new(),
            tap: Vec::new(),
            passes: Box::new(|_| true),
            limits,
            flights: BTreeMap::new(),
            chance: 0,
            serial: 0,
        };
        for node in 1..=nodes {
            world.directory.insert(node, identity(node).public_key());
            world.start(node);
        }
        world
    }

    /// Nodes that have never heard of ephemeral keys.
    pub fn ordinary(nodes: u32) -> Self {
        Self::with_limits(nodes, Limits { rekey_interval: None, ..Limits::default() })
    }

    pub fn with_seed(nodes: u32, link: Link, seed: u64) -> Self {
        Self { link, chance: seed, ..Self::new(nodes) }
    }

    /// Two nodes with a session that both have heard the other in.
    pub fn connected() -> Self {
        Self::new(2).connect_both()
    }

    /// Lets nodes 1 and 2 have heard each other.
    pub fn connect_both(mut self) -> Self {
        self.send(1, 2, b"first");
        self.pass(seconds(2));
        assert_eq!(self.take_received(2), [(1, b"first".to_vec())]);
        self.nodes.values_mut().for_each(|node| node.events.clear());
        self.tap.clear();
        self
    }

    /// Starts a node, or starts it anew: all it knew is gone but its identity.
    pub fn start(&mut self, id: u32) {
        self.start_with(id, self.limits);
    }

    /// The same, with these limits.
    pub fn start_with(&mut self, id: u32, limits: Limits) {
        let starts = self.nodes.get(&id).map_or(0, |node| node.starts) + 1;
        let mut seed = [starts; 32];
        seed[0] = id as u8;
        let tunnels = Tunnels::new(NodeId(id), Arc::new(identity(id)), limits, &seed);
        let node = Node {
            tunnels,
            received: Vec::new(),
            keepalives: 0,
            controls: 0,
            echoes: false,
            drops: Vec::new(),
            events: Vec::new(),
            starts,
        };
        self.nodes.insert(id, node);
    }

    pub fn node(&mut self, id: u32) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub fn send(&mut self, from: u32, to: u32, payload: &[u8]) -> Sealed {
        let mut frame = unsealed(from, to, payload);
        let now = self.now;
        let sealed = self.node(from).tunnels.seal(now, NodeId(to), &mut frame);
        if sealed == Sealed::Ready {
            self.transmit(from, to, Route::InUse, frame);
        }
        self.settle(from);
        sealed
    }

    pub fn connect(&mut self, from: u32, to: u32) {
        let now = self.now;
        self.node(from).tunnels.connect(now, NodeId(to)).unwrap();
        self.settle(from);
    }

    /// Gives a node a datagram at once; why it was dropped, if it was.
    pub fn deliver(&mut self, to: u32, via: Via, bytes: &[u8]) -> Option<DropReason> {
        let now = self.now;
        let node = self.node(to);
        let mut bytes = bytes.to_vec();
        let reason = match node.tunnels.handle_datagram(now, via, &mut bytes) {
            Received::Packet { peer, packet } => {
                assert_eq!(packet.source.address.node, peer);
                if packet.protocol == Protocol::CONTROL {
                    node.controls += 1;
                    let echo = Packet {
                        flags: Flags::ACK,
                        source: packet.destination,
                        destination: packet.source,
                        acknowledgement: packet.sequence + 1,
                        ..packet
                    };
                    let mut frame = vec![0; SEALED_OVERHEAD + echo.encoded_len()];
                    echo.encode(&mut Writer::new(&mut frame[HEAD_LEN..]));
                    let is_answered = node.echoes && packet.destination.port == 0 && packet.flags == Flags::NONE;
                    if is_answered && node.tunnels.seal(now, peer, &mut frame) == Sealed::Ready {
                        self.transmit(to, peer.0, Route::InUse, frame);
                    }
                    self.settle(to);
                    return None;
                }
                node.received.push((peer.0, packet.payload.to_vec()));
                None
            }
            Received::Keepalive { .. } => {
                node.keepalives += 1;
                None
            }
            Received::Dropped(reason) => {
                node.drops.push(reason);
                Some(reason)
            }
            Received::Probe | Received::Taken => None,
        };
        self.settle(to);
        reason
    }

    /// Gives a node the same datagram so often.
    pub fn deliver_often(&mut self, times: usize, to: u32, bytes: &[u8]) {
        for _ in 0..times {
            self.deliver(to, direct(1), bytes);
        }
    }

    /// Moves the clock, doing what falls due on the way.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        loop {
            let flight = self.flights.first_key_value().map(|((at, _), _)| *at);
            let timers = self.nodes.iter().filter_map(|(id, node)| Some((node.tunnels.poll_timeout()?, *id)));
            let (timer, id) = timers.min().unzip();
            let Some(next) = flight.into_iter().chain(timer).min().filter(|next| *next <= end) else { break };
            self.now = next.max(self.now);
            if flight == Some(next) {
                let (_, flight) = self.flights.pop_first().unwrap();
                self.land(flight);
            } else if let Some(id) = id {
                let now = self.now;
                self.node(id).tunnels.handle_timeout(now);
                assert!(self.node(id).tunnels.poll_timeout().is_none_or(|due| due > now), "no timer fires twice");
                self.settle(id);
            }
            turns += 1;
            assert!(turns < 1_000_000, "the nodes never come to rest");
        }
        self.now = end;
    }

    pub fn take_received(&mut self, id: u32) -> Vec<(u32, Vec<u8>)> {
        std::mem::take(&mut self.node(id).received)
    }

    pub fn is_connected(&mut self, from: u32, to: u32) -> bool {
        self.node(from).tunnels.has_session(NodeId(to))
    }

    /// Sends one packet each way, and whether both arrive.
    pub fn talks(&mut self, a: u32, b: u32) -> bool {
        self.take_received(a);
        self.take_received(b);
        self.send(a, b, b"ping");
        self.send(b, a, b"pong");
        self.pass(seconds(1));
        let (at_b, at_a) = (self.take_received(b), self.take_received(a));
        at_b == [(a, b"ping".to_vec())] && at_a == [(b, b"pong".to_vec())]
    }

    /// Frames a node has sent, by the first four bytes.
    pub fn sent_by(&self, from: u32, magic: &[u8; 4]) -> Vec<&Sent> {
        self.tap.iter().filter(|sent| sent.from == from && sent.frame.starts_with(magic)).collect()
    }

    /// The signed key a node sends now.
    pub fn signed_key(&mut self, from: u32) -> Vec<u8> {
        let request = [b"PILK".as_slice(), &[0, 0, 0, 99], &[9; 32]].concat();
        let kept = self.tap.len();
        self.deliver(from, Via::Relay(NodeId(99)), &request);
        let frame = self.tap.drain(kept..).next().expect("a key request is answered").frame;
        assert!(matches!(Frame::decode(&frame), Ok(Frame::SignedKeyExchange(_))));
        frame
    }

    fn settle(&mut self, id: u32) {
        while let Some(output) = self.node(id).tunnels.poll_output() {
            match output {
                Output::Transmit { peer, route, frame } => self.transmit(id, peer.0, route, frame.into_vec()),
                Output::IdentityWanted(about) => {
                    let delay = Duration::from_millis(5);
                    self.launch(delay, Flight::Answer { to: id, about: about.0 });
                    self.node(id).events.push(output);
                }
                Output::Negotiated { .. } => {}
                event => self.node(id).events.push(event),
            }
        }
    }

    fn transmit(&mut self, from: u32, to: u32, route: Route, frame: Vec<u8>) {
        let sent = Sent { at: self.now, from, to, route, frame: frame.clone() };
        let passes = (self.passes)(&sent);
        self.tap.push(sent);
        if !passes {
            return;
        }
        let ways = match route {
            Route::InUse | Route::Back(Via::Direct(_)) => vec![direct(from)],
            Route::Back(Via::Relay(_)) => vec![Via::Relay(NodeId(from))],
            Route::Every => vec![direct(from), Via::Relay(NodeId(from))],
        };
        for via in ways {
            if self.draw(100) < self.link.loss {
                continue;
            }
            for _ in 0..=u64::from(self.draw(100) < self.link.duplication) {
                let delay = self.link.delay + Duration::from_micros(self.draw(self.link.jitter.as_micros() as u64 + 1));
                self.launch(delay, Flight::Datagram { to, via, bytes: frame.clone() });
            }
        }
    }

    fn launch(&mut self, delay: Duration, flight: Flight) {
        self.serial += 1;
        self.flights.insert((self.now + delay, self.serial), flight);
    }

    fn land(&mut self, flight: Flight) {
        match flight {
            Flight::Datagram { to, via, bytes } if self.nodes.contains_key(&to) => {
                self.deliver(to, via, &bytes);
            }
            Flight::Datagram { .. } => {}
            Flight::Answer { to, about } => {
                let (now, key) = (self.now, self.directory.get(&about).copied());
                self.node(to).tunnels.handle_identity(now, NodeId(about), key);
                self.settle(to);
            }
        }
    }

    /// A number below `bound` (SplitMix64).
    pub fn draw(&mut self, bound: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
