//! Changed keys: a peer that starts anew is followed at once, and no recording leads away from one that has not.

use std::time::Duration;

use agent::tunnel::{DropReason, Output};
use wire::NodeId;

use super::world::{World, direct, identity, seconds};

#[test]
fn a_restarted_peer_is_followed_within_a_second() {
    for restarted in [1, 2] {
        let mut world = World::connected();
        world.pass(seconds(90));
        world.start(restarted);
        world.send(3 - restarted, restarted, b"lost, but it tells");
        world.pass(seconds(1));
        assert!(world.talks(1, 2), "{restarted} has restarted");
    }
}

#[test]
fn a_peer_that_restarts_and_speaks_first_is_heard_at_once() {
    let mut world = World::connected();
    world.start(1);
    world.send(1, 2, b"back");
    world.pass(Duration::from_millis(100));
    assert_eq!(world.take_received(2), [(1, b"back".to_vec())]);
    assert!(world.talks(1, 2));
}

#[test]
fn frames_of_before_the_change_still_arrive() {
    let mut world = World::connected();
    let mut late = super::world::unsealed(1, 2, b"late");
    let now = world.now;
    let _ = world.node(1).tunnels.seal(now, NodeId(2), &mut late);
    world.start(1);
    world.send(1, 2, b"back");
    world.pass(Duration::from_millis(100));
    world.take_received(2);
    assert_eq!(world.deliver(2, direct(1), &late), None);
    assert_eq!(world.take_received(2), [(1, b"late".to_vec())]);
    assert!(world.talks(1, 2), "and they do not lead back");
}

#[test]
fn a_recorded_key_of_an_earlier_start_is_refused_while_the_session_works() {
    let mut world = World::connected();
    let recorded = world.signed_key(1);
    world.start(1);
    world.send(1, 2, b"back");
    world.pass(seconds(5));
    assert!(world.talks(1, 2));
    world.tap.clear();
    for _ in 0..5 {
        assert_eq!(world.deliver(2, direct(66), &recorded), Some(DropReason::StaleKey));
        world.pass(seconds(1));
    }
    assert_eq!(world.sent_by(2, b"PILA").len(), 0);
    assert!(world.talks(1, 2));
    world.pass(seconds(300));
    assert_eq!(world.deliver(2, direct(66), &recorded), Some(DropReason::StaleKey), "nor later");
}

/// Whoever has recorded many starts, and keeps node 1 from being asked.
#[test]
fn many_recordings_at_once_do_not_drive_out_the_session_that_works() {
    let mut world = World::new(2);
    let recorded: Vec<_> = (0..5)
        .map(|_| {
            let key = world.signed_key(1);
            world.start(1);
            key
        })
        .collect();
    world.connect(1, 2);
    world.pass(seconds(5));
    world.link.loss = 100;
    for key in &recorded {
        assert_eq!(world.deliver(2, direct(66), key), None);
        world.pass(seconds(1));
    }
    world.link.loss = 0;
    world.send(1, 2, b"still here");
    world.pass(Duration::from_millis(100));
    assert_eq!(world.take_received(2), [(1, b"still here".to_vec())]);
    assert!(world.talks(1, 2), "what opens decides");
}

/// The recording is of a start that node 2 never met, so it looks like a restart; frames tell that it is none.
#[test]
fn a_recorded_key_never_seen_before_costs_a_second_at_most() {
    let mut world = World::ordinary(2);
    let recorded = world.signed_key(1);
    world.start(1);
    world.connect(1, 2);
    world.pass(seconds(5));
    assert!(world.talks(1, 2));
    world.pass(seconds(5));

    assert_eq!(world.deliver(2, direct(66), &recorded), None);
    world.pass(seconds(1));
    world.send(1, 2, b"still here");
    world.pass(Duration::from_millis(100));
    assert_eq!(world.take_received(2), [(1, b"still here".to_vec())]);
    assert!(world.talks(1, 2), "what opens decides");
    world.pass(seconds(5));
    assert_eq!(world.deliver(2, direct(66), &recorded), Some(DropReason::StaleKey), "only once");
    assert!(world.talks(1, 2));
}

#[test]
fn the_same_with_a_peer_that_only_listens() {
    let mut world = World::new(2);
    let recorded = world.signed_key(1);
    world.start(1);
    world.connect(1, 2);
    world.pass(seconds(90));
    world.deliver(2, direct(66), &recorded);
    world.send(2, 1, b"sealed for nobody");
    world.pass(seconds(1));
    assert!(world.talks(1, 2), "node 1 has asked for the key, and with that told its own");
}

#[test]
fn an_identity_that_was_rotated_is_asked_for_again() {
    let mut world = World::ordinary(2).connect_both();
    let (old, new) = (identity(2), identity(77));
    world.directory.insert(2, new.public_key());
    let key = signed_by(&new, 2, &[5; 32]);
    assert_eq!(world.deliver(1, direct(2), &key), Some(DropReason::ForeignIdentity), "the old one is fresh");
    world.pass(seconds(61));
    world.node(1).events.clear();
    assert_eq!(world.deliver(1, direct(2), &key), None);
    world.pass(seconds(1));
    let established = Output::Established { peer: NodeId(2), via: direct(2) };
    assert_eq!(world.node(1).events, [Output::IdentityWanted(NodeId(2)), established]);
    let key = signed_by(&old, 2, &[6; 32]);
    assert_eq!(world.deliver(1, direct(2), &key), Some(DropReason::ForeignIdentity));
}

/// Whoever asks with whom it talks must not be told what the directory has said since.
#[test]
fn the_key_of_a_session_is_the_one_that_was_proved_whatever_the_directory_says_later() {
    for mut world in [World::ordinary(2).connect_both(), World::connected()] {
        let (proved, other) = (identity(2).public_key(), identity(77).public_key());
        let now = world.now;
        assert_eq!(world.node(1).tunnels.proven_key(NodeId(2)), Some(proved));
        world.node(1).tunnels.handle_identity(now, NodeId(2), Some(other));
        assert_eq!(world.node(1).tunnels.proven_key(NodeId(2)), Some(proved));
        assert!(world.talks(1, 2), "the session is still that of the first key");
    }
    // A session of another key is another's.
    let mut world = World::ordinary(2).connect_both();
    let new = identity(77);
    world.pass(seconds(61));
    world.directory.insert(2, new.public_key());
    assert_eq!(world.deliver(1, direct(2), &signed_by(&new, 2, &[5; 32])), None);
    world.pass(seconds(1));
    assert_eq!(world.node(1).tunnels.proven_key(NodeId(2)), Some(new.public_key()));
}

fn signed_by(identity: &agent::identity::Identity, node: u32, secret: &[u8; 32]) -> Vec<u8> {
    let key = agent::tunnel::keys::ExchangeKey::from_bytes(secret);
    let signature = identity.sign(&wire::tunnel::key_exchange_text(NodeId(node), key.public()));
    [b"PILA".as_slice(), &node.to_be_bytes(), key.public(), &identity.public_key(), &signature].concat()
}
