//! Bounds: of what waits, of how many peers there are, of what one key seals.

use agent::tunnel::{DropReason, Limits, Sealed};
use wire::tunnel::Frame;

use super::world::{World, seconds};

#[test]
fn sixty_four_packets_wait_for_a_peer_and_two_hundred_and_fifty_six_peers_are_waited_for() {
    let mut world = World::new(2);
    world.link.loss = 100;
    let waits = |sealed: Sealed| sealed == Sealed::Waiting;
    assert_eq!((0..100u8).filter(|number| waits(world.send(1, 2, &[*number]))).count(), 64);
    assert_eq!(world.send(1, 2, b"x"), Sealed::Dropped(DropReason::QueueFull));
    assert_eq!((1000..2000).filter(|peer| waits(world.send(1, *peer, b"x"))).count(), 255);
    world.link.loss = 0;
    world.pass(seconds(5));
    let arrived: Vec<u8> = world.take_received(2).into_iter().map(|(_, payload)| payload[0]).collect();
    assert_eq!(arrived, (0..64).collect::<Vec<_>>(), "in order, the newest dropped");
}

#[test]
fn a_peer_too_many_is_refused_until_another_has_been_silent() {
    let limits = Limits { peers_max: 2, ..Limits::default() };
    let mut world = World::with_limits(4, limits);
    world.connect(1, 2);
    world.connect(1, 3);
    world.pass(seconds(2));
    assert_eq!(world.send(1, 4, b"x"), Sealed::Dropped(DropReason::TooManyPeers));
    world.connect(4, 1);
    world.pass(seconds(1));
    assert!(!world.is_connected(1, 4));
    world.nodes.remove(&3);
    world.pass(seconds(100));
    assert!(world.is_connected(1, 4) && world.is_connected(1, 2) && !world.is_connected(1, 3));
}

#[test]
fn a_key_that_has_sealed_enough_is_renewed_without_loss() {
    let limits = Limits { frames_per_key: 50, rekey_interval: None, ..Limits::default() };
    let mut world = World::with_limits(3, limits);
    world.connect(1, 3);
    world.send(1, 2, b"first");
    world.pass(seconds(2));
    for number in 0..=255u8 {
        assert_eq!(world.send(1, 2, &[number]), Sealed::Ready);
        world.pass(std::time::Duration::from_millis(20));
    }
    world.pass(seconds(1));
    let arrived: Vec<_> = world.take_received(2).into_iter().skip(1).map(|(_, payload)| payload[0]).collect();
    assert_eq!(arrived, (0..=255).collect::<Vec<_>>());
    let mut keys: Vec<_> = world
        .sent_by(1, b"PILA")
        .into_iter()
        .map(|sent| match Frame::decode(&sent.frame) {
            Ok(Frame::SignedKeyExchange(frame)) => *frame.x25519,
            other => panic!("{other:?}"),
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert!((5..=7).contains(&keys.len()), "{} keys for 257 frames, 50 each", keys.len());
    assert!(world.talks(1, 3), "other peers notice nothing");
}

#[test]
fn a_key_seals_twice_its_share_at_most() {
    let limits = Limits { frames_per_key: 100, rekey_interval: None, ..Limits::default() };
    let mut world = World::with_limits(2, limits);
    world.connect(1, 2);
    world.pass(seconds(2));
    world.link.loss = 100;
    let ready = (0..300).filter(|_| world.send(1, 2, b"x") == Sealed::Ready).count();
    assert_eq!(ready, 199, "and one keepalive");
    assert_eq!(world.send(1, 2, b"x"), Sealed::Dropped(DropReason::QueueFull), "the rest waits");
    world.link.loss = 0;
    world.pass(seconds(10));
    assert_eq!(world.take_received(2).len(), 64);
}

#[test]
fn what_is_forgotten_leaves_nothing_behind() {
    let mut world = World::connected();
    world.node(1).tunnels.forget(wire::NodeId(2));
    assert!(!world.is_connected(1, 2));
    assert_eq!(world.node(1).tunnels.poll_timeout(), None);
    assert_eq!(world.send(1, 2, b"again"), Sealed::Waiting);
    world.pass(seconds(9));
    assert!(world.talks(1, 2));
}
