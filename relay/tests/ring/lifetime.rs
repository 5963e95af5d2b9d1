//! Beginning, end, and beginning again on the same port.

use std::net::SocketAddr;
use std::sync::Arc;

use relay::membership::Membership;
use relay::runtime::{Relay, StartError};
use wire::NodeId;
use wire::beacon::Message;

use super::world::{LOOPBACK, Node, World, config};

fn serves(place: SocketAddr) {
    let (alice, bob) = (Node::new(place, NodeId(1)), Node::new(place, NodeId(2)));
    alice.relay(bob.id, b"again");
    bob.expect(Message::Deliver { sender: alice.id, inner: b"again" });
}

#[test]
fn a_stopped_relays_port_is_free_for_the_next_one_at_once() {
    let mut place = LOOPBACK;
    for _ in 0..3 {
        let world = World::serving(place, 2);
        place = world.place();
        serves(place);
        world.stop();
    }
}

#[test]
fn a_port_in_use_is_refused_by_name() {
    let world = World::serving(LOOPBACK, 1);
    let refused = Relay::start(&config(world.place(), 1), Arc::new(Membership::default())).unwrap_err();
    assert!(matches!(refused, StartError::Busy(place, "--beacon") if place == world.place()), "{refused:?}");
    assert!(refused.to_string().contains(&world.place().to_string()));
    serves(world.place());
    world.stop();
}
