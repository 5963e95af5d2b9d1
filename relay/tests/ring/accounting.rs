//! Every datagram is in exactly one sum, also those nobody wants.

use relay::metrics::{Counter, DropReason};
use wire::NodeId;
use wire::beacon::Message;

use super::world::{LOOPBACK, Node, World};

/// Datagrams of chance, the same in every run.
fn noise(count: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..count).map(move |_| {
        let len = usize::from(next()) % 48;
        let kind = next() % 16;
        std::iter::once(kind).chain(std::iter::repeat_with(&mut next).take(len)).collect()
    })
}

#[test]
fn the_sums_hold_after_good_bad_and_hostile_traffic() {
    let world = World::serving(LOOPBACK, 2);
    let (alice, bob, mallory) = (
        Node::new(world.place(), NodeId(1)),
        Node::new(world.place(), NodeId(2)),
        Node::silent(world.place(), NodeId(9)),
    );
    let before = world.total();
    for number in 0..100u32 {
        alice.relay(bob.id, &number.to_be_bytes());
        assert_eq!(bob.delivery(alice.id), number.to_be_bytes());
        mallory.relay(bob.id, b"from nobody the relay has met");
        alice.relay(NodeId(4_000_000), b"to nobody");
        alice.send(Message::PunchRequest { requester: alice.id, target: bob.id });
        alice.expect(Message::PunchCommand(bob.address()));
        bob.expect(Message::PunchCommand(alice.address()));
    }
    for datagram in noise(5000) {
        mallory.socket.send(&datagram).unwrap();
    }
    // What a stranger's noise makes of sessions is the rules' affair; here it counts.
    let after = world.total();
    let more = |counter| after.get(counter) - before.get(counter);
    assert!(after.dropped(DropReason::SourceMismatch) >= 100);
    assert!(after.dropped(DropReason::UnknownDestination) >= 100);
    let questions = 2;
    assert_eq!(more(Counter::Received), 100 * 4 + 5000 + questions);
    // Sends: deliveries, answers, and the second message of a punch.
    assert!(more(Counter::Sends) >= more(Counter::Forwarded) + more(Counter::Answered) + 100);
    assert_eq!(more(Counter::KernelDrops), 0);
    world.stop();
}
