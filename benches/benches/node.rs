//! Two nodes of the agent in one process, with nothing between them but memory: what a megabyte costs in packets, seals,
//! streams and bookkeeping, the kernel left out. Beside it the seals alone, which nothing can avoid.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::Time;
use agent::aead::{Aead, Aes256Gcm, TAG_LEN};
use agent::identity::Identity;
use agent::node::{Config, DATAGRAM_MAX, Event, Node, StreamId};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wire::NodeId;
use wire::address::SocketAddress;
use wire::beacon::{Message, RELAY_HEADER_LEN};
use wire::codec::Writer;
use wire::registry::answer::{Answer, Found, Registered, Resolved, Visibility};
use wire::registry::request::Operation;

const MEGABYTE: usize = 1 << 20;
/// Payload of a full segment, and the packet it is in.
const SEGMENT: usize = 1152;
const PACKET: usize = SEGMENT + wire::packet::HEADER_LEN;
/// A step of time between exchanges: short enough for pacing not to matter.
const STEP: Duration = Duration::from_micros(50);

/// Two nodes, 1 dialling 2, and a relay and a directory that know just them.
struct Pair {
    now: Time,
    nodes: [Node; 2],
    endpoints: [SocketAddr; 2],
    relay: SocketAddr,
    buffer: Vec<u8>,
    out: Vec<u8>,
    relay_only: bool,
    dialled: Option<StreamId>,
    accepted: Option<StreamId>,
}

impl Pair {
    fn connected(relay_only: bool) -> Self {
        let now = Time(1_000_000_000);
        let relay = SocketAddr::from(([198, 18, 0, 2], 9001));
        let endpoints = [10, 11].map(|number| SocketAddr::from(([198, 18, 0, number], 4000)));
        let nodes = [1_u8, 2].map(|number| {
            let config =
                Config { public: true, relay_only, relays: vec![relay], relays_fixed: true, ..Config::default() };
            let mut node = Node::new(now, config, Arc::new(Identity::from_seed(&[number; 32])), &[number + 9; 32]);
            node.set_local_endpoints(now, &[endpoints[usize::from(number) - 1]]);
            node
        });
        let (buffer, out) = (vec![0; DATAGRAM_MAX], vec![0; 1 << 16]);
        let (dialled, accepted) = (None, None);
        let mut pair = Self { now, nodes, endpoints, relay, buffer, out, relay_only, dialled, accepted };
        pair.run_until(|pair| pair.nodes.iter().all(|node| node.id().is_some()));
        pair.nodes[1].bind(1000).expect("a fresh node has the port");
        let to = SocketAddress { address: NodeId(2).address(), port: 1000 };
        pair.dialled = Some(pair.nodes[0].dial(pair.now, to).expect("registered"));
        pair.run_until(|pair| {
            pair.accepted.is_some()
                && (relay_only || pair.nodes[0].peer(NodeId(2)).is_some_and(|peer| peer.direct.is_some()))
        });
        // Slow start is over when the first megabytes have passed.
        for _ in 0..8 {
            pair.carry(MEGABYTE);
        }
        pair
    }

    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..1_000_000 {
            self.step();
            if done(self) {
                return;
            }
        }
        panic!("the nodes do not get on");
    }

    /// One node writes, the other reads as many bytes.
    fn carry(&mut self, bytes: usize) {
        let (from, to) = (self.dialled.expect("connected"), self.accepted.expect("connected"));
        let data = vec![0x55; 64 << 10];
        let (mut written, mut read) = (0, 0);
        while read < bytes {
            while written < bytes {
                let count = self.nodes[0].write(self.now, from, &data[..data.len().min(bytes - written)]);
                written += count;
                if count == 0 {
                    break;
                }
            }
            self.step();
            loop {
                match self.nodes[1].read(self.now, to, &mut self.out) {
                    0 => break,
                    count => read += count,
                }
            }
        }
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        for index in 0..2 {
            if self.nodes[index].poll_timeout().is_some_and(|due| due <= self.now) {
                self.nodes[index].handle_timeout(self.now);
            }
            while let Some(transmit) = self.nodes[index].poll_transmit(self.now, &mut self.buffer) {
                self.deliver(index, transmit.to, transmit.len);
            }
            while let Some((ticket, request)) = self.nodes[index].poll_request() {
                let answer = self.answer(&request.operation);
                self.nodes[index].handle_answer(self.now, ticket, Ok(answer));
            }
            while let Some(event) = self.nodes[index].poll_event() {
                if let Event::Accepted { stream, .. } = event {
                    self.accepted = Some(stream);
                }
            }
        }
    }

    fn deliver(&mut self, from: usize, to: SocketAddr, len: usize) {
        let (now, relay) = (self.now, self.relay);
        if to != relay {
            let receiver = self.endpoints.iter().position(|endpoint| *endpoint == to);
            if let Some(receiver) = receiver.filter(|_| !self.relay_only) {
                self.nodes[receiver].handle_datagram(now, self.endpoints[from], &mut self.buffer[..len]);
            }
            return;
        }
        match Message::decode(&self.buffer[..len]) {
            Ok(Message::Discover { .. }) => {
                let mut reply = [0; 20];
                let mut writer = Writer::new(&mut reply);
                Message::DiscoverReply(self.endpoints[from]).encode(&mut writer);
                let len = writer.written().len();
                self.nodes[from].handle_datagram(now, relay, &mut reply[..len]);
            }
            Ok(Message::PunchRequest { .. }) => {
                for receiver in 0..2 {
                    let mut command = [0; 20];
                    let mut writer = Writer::new(&mut command);
                    Message::PunchCommand(self.endpoints[1 - receiver]).encode(&mut writer);
                    let len = writer.written().len();
                    self.nodes[receiver].handle_datagram(now, relay, &mut command[..len]);
                }
            }
            Ok(Message::Relay { dest, .. }) => {
                assert!(len > RELAY_HEADER_LEN, "a relayed frame");
                let part = wire::beacon::relay_into_deliver(&mut self.buffer[..len]);
                self.nodes[dest.0 as usize - 1].handle_datagram(now, relay, &mut self.buffer[part]);
            }
            _ => {}
        }
    }

    fn answer(&self, operation: &Operation) -> Answer {
        let key = |node: NodeId| {
            let seed = u8::try_from(node.0).expect("two nodes");
            wire::registry::Base64(Identity::from_seed(&[seed; 32]).public_key())
        };
        match operation {
            Operation::Register(register) => {
                let node = if register.public_key == key(NodeId(1)) { NodeId(1) } else { NodeId(2) };
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
            Operation::Lookup { node_id } => Answer::Lookup(Found {
                node_id: *node_id,
                address: node_id.address(),
                networks: Vec::new(),
                public_key: key(*node_id),
                public: true,
                polo_score: 0,
                hostname: None,
                tags: Vec::new(),
                task_exec: false,
                version: None,
                real_addr: None,
            }),
            Operation::Resolve { node_id, .. } => Answer::Resolve(Resolved {
                node_id: *node_id,
                real_addr: self.endpoints[node_id.0 as usize - 1].to_string(),
                lan_addrs: Vec::new(),
                key_age_days: None,
                public_key: None,
                relay_only: self.relay_only,
            }),
            Operation::SetVisibility { node_id, .. } => {
                Answer::SetVisibility { node_id: *node_id, visibility: Visibility::Public }
            }
            Operation::Heartbeat { .. } => Answer::Heartbeat { time: 0, bans: None },
            Operation::PollHandshakes { .. } => Answer::PollHandshakes { requests: Vec::new(), responses: Vec::new() },
            other => Answer::Error { error: format!("not found: {other:?}") },
        }
    }
}

fn megabyte(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a megabyte");
    group.throughput(Throughput::Bytes(MEGABYTE as u64)).sample_size(20);
    let cipher = Aes256Gcm::new(&[7; 32]);
    let (nonce, aad) = ([1; 12], [2; 4]);
    group.bench_function("floor: sealed and opened", |bencher| {
        let mut packet = vec![0x55; PACKET];
        bencher.iter(|| {
            for _ in 0..MEGABYTE / SEGMENT {
                let tag: [u8; TAG_LEN] = cipher.seal(&nonce, &aad, &mut packet);
                cipher.open(&nonce, &aad, black_box(&mut packet), &tag).expect("just sealed");
            }
        });
    });
    for (name, relay_only) in [("from node to node", false), ("through a relay", true)] {
        let mut pair = Pair::connected(relay_only);
        group.bench_function(name, |bencher| bencher.iter(|| pair.carry(MEGABYTE)));
    }
    group.finish();
}

criterion_group!(benches, megabyte);
criterion_main!(benches);
