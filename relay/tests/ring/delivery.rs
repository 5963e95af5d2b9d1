//! One datagram at a time: families, addresses, sizes.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use relay::locals::Service;
use relay::metrics::{Counter, DropReason};
use wire::NodeId;
use wire::beacon::{Message, RELAY_HEADER_LEN};
use wire::stun::{Outcome, REQUEST_MAX, Request, Response, TransactionId};

use super::world::{LOOPBACK, Node, World, config, encode, everywhere};

/// UDP payload bytes IPv4 can carry.
const V4_PAYLOAD_MAX: usize = 65_507;
/// UDP payload bytes IPv6 can carry.
const V6_PAYLOAD_MAX: usize = 65_527;

#[test]
fn a_relayed_datagram_arrives_over_every_address_and_between_families() {
    let world = World::serving(everywhere(), 2);
    let places = world.places(Service::Beacon);
    let nodes: Vec<Node> = places.iter().zip(1..).map(|(place, id)| Node::new(*place, NodeId(id))).collect();
    for from in &nodes {
        for to in &nodes {
            from.relay(to.id, b"sealed");
            to.expect(Message::Deliver { sender: from.id, inner: b"sealed" });
        }
    }
    let total = world.total();
    assert_eq!(total.get(Counter::Forwarded), (nodes.len() * nodes.len()) as u64);
    assert_eq!(total.get(Counter::SendsFailed), 0);
    world.stop();
}

#[test]
fn a_wildcard_answers_from_the_address_that_was_asked() {
    let mut config = config(everywhere(), 2);
    config.stun = Some(everywhere());
    let world = World::bound(&config);
    world.relay.serve().unwrap();
    let binding = {
        let mut buffer = [0; REQUEST_MAX];
        let len = Request::new(TransactionId::new([7; 12])).encode(&mut buffer);
        buffer[..len].to_vec()
    };
    let discover = encode(Message::Discover { node: NodeId::UNSET, extended: false });
    for (service, question) in [(Service::Beacon, &discover), (Service::Beacon, &binding), (Service::Stun, &binding)] {
        for place in world.places(service) {
            let Node { socket, .. } = Node::silent(place, NodeId::UNSET);
            let seen_as = socket.local_addr().unwrap();
            // The connected socket would hide an answer from elsewhere; an open one at its address shows it.
            drop(socket);
            let socket = UdpSocket::bind(seen_as).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            socket.send_to(question, place).unwrap();
            let mut answer = [0; 512];
            let (len, from) = socket.recv_from(&mut answer).unwrap();
            assert_eq!(from, place);
            assert_eq!(told(&answer[..len]), Some(seen_as), "asked at {place} as {service:?}");
        }
    }
    world.stop();
}

/// The endpoint an answer names.
fn told(answer: &[u8]) -> Option<SocketAddr> {
    match (Message::decode(answer), Response::decode(answer)) {
        (Ok(Message::DiscoverReply(address)), _) => Some(address),
        (_, Ok(Response { outcome: Outcome::Success(success), .. })) => Some(success.mapped),
        _ => None,
    }
}

#[test]
fn datagrams_of_any_size_are_forwarded_or_counted() {
    let world = World::serving(LOOPBACK, 1);
    let (alice, bob) = (Node::new(world.place(), NodeId(1)), Node::new(world.place(), NodeId(2)));
    let header = encode(Message::Relay { sender: alice.id, dest: bob.id, inner: &[] });
    let before = world.total();
    let cut_short = [1, 4, 5, 8];
    for len in cut_short {
        alice.socket.send(&header[..len]).unwrap();
    }
    alice.socket.send(&[]).unwrap();
    for len in [RELAY_HEADER_LEN, 10, 1200, 4171, V4_PAYLOAD_MAX] {
        let inner: Vec<u8> = (0..len - RELAY_HEADER_LEN).map(|index| index as u8).collect();
        alice.relay(bob.id, &inner);
        bob.expect(Message::Deliver { sender: alice.id, inner: &inner });
    }
    let after = world.total();
    let more = |reason| after.dropped(reason) - before.dropped(reason);
    assert_eq!(more(DropReason::Malformed), cut_short.len() as u64);
    assert_eq!(more(DropReason::UnknownType), 1, "the empty datagram");
    assert_eq!(after.get(Counter::Forwarded), 5);
    assert!(bob.heard_all());
    world.stop();
}

#[test]
fn what_exceeds_the_interface_leaves_in_fragments() {
    if !relay::interfaces::has_ipv6() {
        eprintln!("SKIPPED: this host has no IPv6, and over IPv4 no datagram exceeds loopback's MTU");
        return;
    }
    let world = World::serving((Ipv6Addr::LOCALHOST, 0).into(), 1);
    let (alice, bob) = (Node::new(world.place(), NodeId(1)), Node::new(world.place(), NodeId(2)));
    let inner = vec![0xA5; V6_PAYLOAD_MAX - RELAY_HEADER_LEN];
    alice.relay(bob.id, &inner);
    bob.expect(Message::Deliver { sender: alice.id, inner: &inner });
    let total = world.total();
    assert_eq!((total.get(Counter::Fragmented), total.get(Counter::SendsFailed)), (1, 0));
    world.stop();
}
