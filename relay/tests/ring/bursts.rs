//! Many datagrams at once: merged by the kernel on the way in, grouped by us on the way out, more than there are
//! buffers.

use std::collections::BTreeMap;

use relay::metrics::{Counter, Gauge};
use relay::uring::BUFFERS;
use wire::NodeId;
use wire::beacon::Message;

use super::world::{LOOPBACK, Node, World, config, encode};

/// Datagrams the kernel merges into one packet at most, on every kernel.
const MERGED_MAX: usize = 64;

fn relay(sender: NodeId, dest: NodeId, number: u32) -> Vec<u8> {
    encode(Message::Relay { sender, dest, inner: &number.to_be_bytes() })
}

#[test]
fn merged_bursts_arrive_in_order_and_leave_in_trains() {
    const BURSTS: u32 = 50;
    let world = World::serving(LOOPBACK, 1);
    let sender = Node::new(world.place(), NodeId(1));
    let others: Vec<Node> = (2..6).map(|id| Node::new(world.place(), NodeId(id))).collect();
    let before = world.total();
    let mut expected = 0;
    for _ in 0..BURSTS {
        let share = MERGED_MAX / others.len();
        let numbers = || (expected..).take(share);
        let burst = numbers().flat_map(|number| others.iter().map(move |to| relay(sender.id, to.id, number)));
        sender.send_merged(&burst.collect::<Vec<_>>());
        for other in &others {
            numbers().for_each(|number| assert_eq!(other.delivery(sender.id), number.to_be_bytes()));
        }
        expected += share as u32;
    }
    let total = world.total();
    let more = |counter| total.get(counter) - before.get(counter);
    let sent = u64::from(BURSTS) * MERGED_MAX as u64;
    assert_eq!(more(Counter::Forwarded), sent);
    assert!(more(Counter::Trains) >= u64::from(BURSTS), "{} trains", more(Counter::Trains));
    assert!(more(Counter::Receives) < sent / 2, "the kernel delivered merged: {} receives", more(Counter::Receives));
    assert!(others.iter().all(Node::heard_all));
    world.stop();
}

#[test]
fn nodes_that_share_a_socket_are_served_whichever_shard_gets_the_burst() {
    const ROUNDS: u32 = 20;
    let world = World::serving(LOOPBACK, 2);
    let left: Vec<NodeId> = (10..18).map(NodeId).collect();
    let right: Vec<NodeId> = (20..28).map(NodeId).collect();
    let sockets = [&left, &right].map(|ids| {
        let socket = Node::silent(world.place(), ids[0]);
        let discover = |node: &NodeId| encode(Message::Discover { node: *node, extended: true });
        socket.send_merged(&ids.iter().map(discover).collect::<Vec<_>>());
        ids.iter().for_each(|_| socket.expect(Message::DiscoverReply(socket.address())));
        socket
    });
    let sessions = |world: &World| world.relay.counters().iter().map(|shard| shard.gauge(Gauge::Sessions)).sum::<u64>();
    world.turn_until("a session for every node", |world| sessions(world) == 16);
    let spread = world.counters().iter().map(|shard| shard.gauge(Gauge::Sessions)).collect::<Vec<_>>();
    assert_eq!(spread, [8, 8], "each node's session is on its own shard, although one burst went to one shard");
    for round in 0..ROUNDS {
        // Which shard gets the burst is decided by its first datagram, so take turns.
        let mut senders = left.clone();
        senders.rotate_left(round as usize % left.len());
        let burst: Vec<_> = senders.iter().zip(&right).map(|(from, to)| relay(*from, *to, round)).collect();
        sockets[0].send_merged(&burst);
        let mut wanted: BTreeMap<_, _> = senders.iter().zip(&right).collect();
        for _ in &right {
            let received = sockets[1].receive();
            let Ok(Message::DeliverTo { sender, dest, inner }) = Message::decode(&received) else {
                panic!("{received:02x?} does not name the node it is for")
            };
            assert_eq!(inner, round.to_be_bytes());
            assert_eq!(wanted.remove(&sender), Some(&dest));
        }
    }
    let shards = world.counters();
    assert!(shards.iter().all(|shard| shard.get(Counter::Forwarded) > 0), "both shards took bursts");
    assert!(sockets.iter().all(Node::heard_all));
    world.stop();
}

#[test]
fn a_burst_beyond_the_receive_buffers_waits_in_the_socket() {
    const EACH: u32 = 50;
    let others: Vec<NodeId> = (2..10).map(NodeId).collect();
    let world = World::bound(&config(LOOPBACK, 1));
    // Everything is there before the first receive, from sources the kernel cannot merge.
    let nodes: Vec<Node> =
        std::iter::once(&NodeId(1)).chain(&others).map(|id| Node::silent(world.place(), *id)).collect();
    nodes.iter().for_each(|node| node.send(Message::Discover { node: node.id, extended: false }));
    for number in 0..EACH {
        others.iter().for_each(|other| nodes[0].socket.send(&relay(NodeId(1), *other, number)).map(drop).unwrap());
    }
    let sent = u64::from(EACH) * others.len() as u64;
    assert!(sent > 3 * u64::from(BUFFERS), "the burst exceeds the buffers");
    world.relay.serve().unwrap();
    nodes.iter().for_each(|node| node.expect(Message::DiscoverReply(node.address())));
    for node in &nodes[1..] {
        (0..EACH).for_each(|number| assert_eq!(node.delivery(NodeId(1)), number.to_be_bytes()));
    }
    let total = world.total();
    assert_eq!((total.get(Counter::Forwarded), total.get(Counter::KernelDrops)), (sent, 0));
    world.stop();
}
