//! How two nodes come to a session, and what keeps it.

use std::collections::HashSet;
use std::time::Duration;

use agent::tunnel::{DropReason, Output, Route, Sealed, Via};
use wire::NodeId;
use wire::tunnel::Frame;

use super::world::{World, direct, seconds};

#[test]
fn the_first_packet_waits_for_the_exchange_and_nothing_travels_in_clear() {
    let mut world = World::new(2);
    assert_eq!(world.send(1, 2, b"attack at dawn"), Sealed::Waiting);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.take_received(2), [(1, b"attack at dawn".to_vec())]);
    assert_eq!(world.send(2, 1, b"understood"), Sealed::Ready);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.take_received(1), [(2, b"understood".to_vec())]);
    for sent in &world.tap {
        assert!(matches!(&sent.frame[..4], b"PILA" | b"PILS"));
        assert!(!sent.frame.windows(6).any(|bytes| bytes == b"attack" || bytes == b"unders"));
    }
    let established = |peer| Output::Established { peer: NodeId(peer), via: direct(peer) };
    assert_eq!(world.node(1).events, [Output::IdentityWanted(NodeId(2)), established(2)]);
    assert_eq!(world.node(2).events, [Output::IdentityWanted(NodeId(1)), established(1)]);
}

#[test]
fn a_key_that_comes_on_both_paths_is_answered_once() {
    let mut world = World::new(2);
    world.connect(1, 2);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.sent_by(1, b"PILA").len(), 1);
    assert_eq!(world.sent_by(2, b"PILA").len(), 1);
}

#[test]
fn what_came_through_the_relay_is_answered_through_it() {
    let mut world = World::new(2);
    let key = world.signed_key(1);
    world.deliver(2, Via::Relay(NodeId(1)), &key);
    world.pass(Duration::from_millis(10));
    assert_eq!(world.sent_by(2, b"PILA")[0].route, Route::Back(Via::Relay(NodeId(1))));
    assert_eq!(world.node(2).events[1], Output::Established { peer: NodeId(1), via: Via::Relay(NodeId(1)) });
}

#[test]
fn both_may_begin_at_once() {
    let mut world = World::new(2);
    world.send(1, 2, b"a");
    world.send(2, 1, b"b");
    world.pass(seconds(3));
    assert_eq!((world.take_received(1), world.take_received(2)), (vec![(2, b"b".into())], vec![(1, b"a".into())]));
    assert_eq!(world.sent_by(1, b"PILA").len() + world.sent_by(2, b"PILA").len(), 2, "neither has to answer");
}

#[test]
fn a_silent_peer_is_asked_eight_times_then_there_is_a_rest() {
    let mut world = World::new(1);
    let start = world.now;
    world.send(1, 2, b"x");
    world.send(1, 2, b"y");
    world.pass(Duration::from_millis(23_499));
    let times = |world: &World, magic| -> Vec<u128> {
        world.sent_by(1, magic).iter().map(|sent| sent.at.since(start).as_millis()).collect()
    };
    assert_eq!(times(&world, b"PILA"), [0, 500, 1500, 3500, 7500, 11500, 15500, 19500]);
    assert_eq!(times(&world, b"PILK"), [1500, 3500, 7500, 11500, 15500, 19500]);
    assert!(world.tap.iter().all(|sent| sent.route == Route::Every));
    let gave_up = Output::Unreachable { peer: NodeId(2), dropped: 2 };
    assert!(!world.node(1).events.contains(&gave_up));
    world.pass(seconds(2));
    assert!(world.node(1).events.contains(&gave_up));

    assert_eq!(world.send(1, 2, b"z"), Sealed::Waiting);
    assert_eq!(world.sent_by(1, b"PILA").len(), 8, "not during the rest");
    world.pass(seconds(4));
    assert_eq!(times(&world, b"PILA").last(), Some(&29_000));
    world.pass(seconds(40));
    assert_eq!(world.node(1).tunnels.poll_timeout(), None, "nothing is left of a peer nobody wants");
}

/// A peer that has our key but lost its one answer to us, and does not answer the same key again.
#[test]
fn a_key_request_cures_the_lost_answer() {
    let mut world = World::new(2);
    let answer = world.signed_key(2);
    world.nodes.remove(&2);
    world.send(1, 2, b"x");
    world.pass(Duration::from_millis(1_499));
    assert_eq!(world.sent_by(1, b"PILK").len(), 0);
    world.pass(Duration::from_millis(1));
    let request = world.sent_by(1, b"PILK")[0].frame.clone();
    assert!(matches!(Frame::decode(&request), Ok(Frame::KeyExchange { sender: NodeId(1), .. })));
    assert_eq!(world.deliver(1, direct(2), &answer), None, "this is what the request is answered with");
    assert!(world.is_connected(1, 2));
    assert_eq!(world.sent_by(1, b"PILS").len(), 1, "the packet has gone");
}

#[test]
fn a_session_believed_in_by_one_side_only_is_cured_by_the_other_asking() {
    let mut world = World::connected();
    let key = world.signed_key(1);
    world.pass(seconds(10));
    world.deliver(2, direct(1), &key);
    assert_eq!(world.sent_by(2, b"PILA").len(), 1, "the same key, and our last answer is old");
    world.pass(seconds(5));
    world.deliver(2, direct(1), &key);
    assert_eq!(world.sent_by(2, b"PILA").len(), 1, "not yet again");
    assert_eq!(world.node(2).events, [], "the session goes on");
    assert!(world.talks(1, 2));
}

#[test]
fn an_answer_that_was_lost_goes_again_within_two_seconds() {
    let mut world = World::new(2);
    world.connect(1, 2);
    world.pass(Duration::from_millis(16));
    world.link.loss = 100;
    world.pass(Duration::from_millis(10));
    world.link.loss = 0;
    assert!(world.is_connected(2, 1) && !world.is_connected(1, 2));
    world.send(2, 1, b"x");
    world.pass(seconds(2));
    assert!(world.is_connected(1, 2));
    assert!(world.talks(1, 2));
}

#[test]
fn a_quiet_tunnel_keeps_itself_open_until_the_peer_is_gone() {
    let mut world = World::connected();
    let before = world.node(2).keepalives;
    world.pass(seconds(100));
    assert_eq!(world.sent_by(1, b"PILS").len(), 4);
    assert_eq!(world.node(2).keepalives - before, 4);
    assert_eq!(world.take_received(2), [], "keepalives are not handed up");

    world.nodes.remove(&2);
    world.pass(seconds(3600));
    assert!(world.sent_by(1, b"PILS").len() <= 4 + 10 * 60 / 25);
    assert_eq!(world.node(1).tunnels.poll_timeout(), None);
}

#[test]
fn no_nonce_is_used_twice_and_the_two_directions_share_no_prefix() {
    let mut world = World::connected();
    for _ in 0..5 {
        world.talks(1, 2);
        world.start(1);
        world.send(1, 2, b"again");
        world.pass(seconds(1));
        world.start(2);
        world.pass(seconds(1));
    }
    let (mut nonces, mut prefixes) = (HashSet::new(), [HashSet::new(), HashSet::new()]);
    for sent in &world.tap {
        if let Ok(Frame::Sealed { sender, nonce, .. }) = Frame::decode(&sent.frame) {
            assert!(nonces.insert((sender, nonce)), "{nonce:?} of {sender}");
            prefixes[sender.0 as usize - 1].insert(nonce.prefix);
        }
    }
    assert!(prefixes.iter().all(|prefixes| prefixes.len() > 5));
    let marked = |at: usize, mark| prefixes[at].iter().all(|[.., last]| last & 1 == mark);
    assert!(marked(0, 0) && marked(1, 1), "disjoint by the order of the ids, not by luck");
}

#[test]
fn asking_for_nobody_or_oneself_is_refused() {
    let mut world = World::new(1);
    for node in [0, 1, u32::MAX] {
        assert_eq!(world.send(1, node, b"x"), Sealed::Dropped(DropReason::ForgedSender));
    }
    assert_eq!(world.tap, []);
}
