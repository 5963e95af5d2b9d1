//! The rules: one datagram in, one decision out, with a thousand to a million sessions.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use benches::{Ids, Random, path};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use relay::Time;
use relay::admission::Budget;
use relay::contests::Board;
use relay::endpoint::Path;
use relay::locals::{Local, Locals, Service};
use relay::membership::Membership;
use relay::server::{Action, REPLY_MAX, Rules, Server, Shared};
use relay::sessions::Table;
use wire::NodeId;
use wire::beacon::Message;
use wire::codec::Writer;
use wire::stun::{Request, TransactionId};

const COUNTS: [u32; 3] = [1_000, 100_000, 1_000_000];
/// Different datagrams before their order repeats.
const DATAGRAMS: u32 = 1 << 16;
const INNER: [u8; 247] = [0xA5; 247];

/// A relay of one shard that knows `count` nodes, each in place, and datagrams of chance.
struct World {
    server: Server,
    count: u32,
    random: Random,
}

impl World {
    fn new(count: u32) -> Self {
        let membership = Arc::new(Membership::default());
        membership.set_authority(true);
        let shared =
            Shared { table: Table::new(1, count as usize), membership: Arc::clone(&membership), board: Board::new(1) };
        // The accounts are kept as ever; without a limit the bench need not keep to one.
        let unlimited = Budget::unlimited();
        let rules = Rules {
            sender_packets: unlimited,
            sender_bytes: unlimited,
            prefix_control: unlimited,
            prefix_packets: unlimited,
            prefix_bytes: unlimited,
            ..Rules::default()
        };
        let mut server = Server::new(rules, 0, &shared, Arc::new(locals()));
        let mut reply = [0; REPLY_MAX];
        for node in (0..count).map(|index| Ids::Dense.node(index)) {
            membership.publish(node, &[path(node).remote.ip()], None);
            let mut discover = encode(Message::Discover { node, extended: false });
            server.handle_datagram(Time::default(), path(node), &mut discover, &mut reply);
        }
        Self { server, count, random: Random::new(u64::from(count)) }
    }

    fn any_node(&mut self) -> NodeId {
        Ids::Dense.node(self.random.below(self.count))
    }

    /// A node that does not exist, at an address that no node has.
    fn nobody(&mut self) -> NodeId {
        Ids::Dense.node(self.count + self.random.below(1 << 20))
    }

    fn datagrams(&mut self, mut make: impl FnMut(&mut Self) -> (Path, Vec<u8>)) -> Vec<(Path, Vec<u8>)> {
        (0..DATAGRAMS).map(|_| make(self)).collect()
    }
}

fn locals() -> Locals {
    let local = |address: &str, service| {
        let bound: SocketAddr = address.parse().expect("an address");
        Local { bound, seen_as: bound, service, payload_max: 1472, present: true }
    };
    // In the order of their numbers: the beacon is `LOCAL`.
    Locals::new(vec![local("198.51.100.1:9001", Service::Beacon), local("198.51.100.1:3478", Service::Stun)])
}

fn encode(message: Message<'_>) -> Vec<u8> {
    let mut buffer = [0; INNER.len() + 16];
    let mut writer = Writer::new(&mut buffer);
    message.encode(&mut writer);
    writer.written().to_vec()
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    group.throughput(Throughput::Elements(1));
    for count in COUNTS {
        let mut world = World::new(count);
        let relayed = world.datagrams(|world| {
            let (sender, dest) = (world.any_node(), world.any_node());
            (path(sender), encode(Message::Relay { sender, dest, inner: &INNER }))
        });
        let strangers = world.datagrams(|world| {
            let (sender, dest) = (world.any_node(), world.any_node());
            (path(world.nobody()), encode(Message::Relay { sender, dest, inner: &INNER }))
        });
        let nowhere = world.datagrams(|world| {
            let (sender, dest) = (world.any_node(), world.nobody());
            (path(sender), encode(Message::Relay { sender, dest, inner: &INNER }))
        });
        let discovers = world.datagrams(|world| {
            let node = world.any_node();
            (path(node), encode(Message::Discover { node, extended: false }))
        });
        let punches = world.datagrams(|world| {
            let (requester, target) = (world.any_node(), world.any_node());
            (path(requester), encode(Message::PunchRequest { requester, target }))
        });
        let bindings = world.datagrams(|world| {
            let mut buffer = [0; wire::stun::REQUEST_MAX];
            let len = Request::new(TransactionId::new([7; 12])).encode(&mut buffer);
            (path(world.any_node()), buffer[..len].to_vec())
        });
        for (name, datagrams, is_expected) in [
            ("forward", &relayed, (|action| matches!(action, Action::Forward { .. })) as fn(&Action) -> bool),
            ("unknown source", &strangers, |action| matches!(action, Action::Drop(_))),
            ("unknown destination", &nowhere, |action| matches!(action, Action::Drop(_))),
            ("discover", &discovers, |action| matches!(action, Action::Reply { .. })),
            ("punch", &punches, |action| matches!(action, Action::ReplyAndSend { .. })),
            ("STUN", &bindings, |action| matches!(action, Action::Reply { .. })),
        ] {
            let mut reply = [0; REPLY_MAX];
            let mut buffer = [0; INNER.len() + 16];
            let mut now = Time::default();
            let mut at = 0;
            let server = &mut world.server;
            let mut decide = || {
                at = (at + 1) % datagrams.len();
                let (from, datagram) = &datagrams[at];
                now = now + Duration::from_micros(1);
                // A decision may rewrite the header; the shard would have it from the kernel.
                let header = datagram.len().min(48);
                buffer[..header].copy_from_slice(&datagram[..header]);
                server.handle_datagram(now, *from, black_box(&mut buffer[..datagram.len()]), &mut reply)
            };
            assert!(is_expected(&decide()), "{name}");
            group.bench_function(BenchmarkId::new(name, count), |bencher| bencher.iter(&mut decide));
        }
    }
    group.finish();
}

/// What a shard does with what has come meanwhile: all of it is foreseen before the first is decided on.
fn batches(criterion: &mut Criterion) {
    const BATCH: usize = 64;
    let mut group = criterion.benchmark_group("decide a batch");
    group.throughput(Throughput::Elements(BATCH as u64));
    for count in COUNTS {
        let mut world = World::new(count);
        let datagrams = world.datagrams(|world| {
            let (sender, dest) = (world.any_node(), world.any_node());
            (path(sender), encode(Message::Relay { sender, dest, inner: &INNER }))
        });
        for (name, foreseen) in [("forward, foreseen", true), ("forward, not foreseen", false)] {
            let mut reply = [0; REPLY_MAX];
            let mut buffers = vec![[0; INNER.len() + 16]; BATCH];
            let mut now = Time::default();
            let mut batches = datagrams.chunks_exact(BATCH).cycle();
            let server = &mut world.server;
            let mut decide = || {
                let batch = batches.next().expect("it repeats for ever");
                for (buffer, (_, datagram)) in buffers.iter_mut().zip(batch) {
                    buffer[..48].copy_from_slice(&datagram[..48]);
                    if foreseen {
                        server.foresee(&buffer[..datagram.len()]);
                    }
                }
                let mut forwarded = 0;
                for (buffer, (from, datagram)) in buffers.iter_mut().zip(batch) {
                    now = now + Duration::from_micros(1);
                    let action =
                        server.handle_datagram(now, *from, black_box(&mut buffer[..datagram.len()]), &mut reply);
                    forwarded += usize::from(matches!(action, Action::Forward { .. }));
                }
                forwarded
            };
            assert_eq!(decide(), BATCH, "{name}");
            group.bench_function(BenchmarkId::new(name, count), |bencher| bencher.iter(&mut decide));
        }
    }
    group.finish();
}

criterion_group!(benches, decisions, batches);
criterion_main!(benches);
