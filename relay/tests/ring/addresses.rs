//! A wildcard follows the host's addresses. The host is a network namespace of the test's own, entered by its thread
//! alone; the relay's threads begin there.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use relay::locals::Service;
use relay::metrics::DropReason;
use wire::NodeId;
use wire::beacon::Message;

use super::world::{Node, World};

/// Outside every network that a host without this test would know.
const SECOND: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 77);

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments}");
}

#[test]
fn a_wildcard_follows_the_hosts_addresses() {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        eprintln!("SKIPPED: no network namespace of our own ({error}); run as root");
        return;
    }
    ip("link set lo up");
    let world = World::serving((Ipv4Addr::UNSPECIFIED, 0).into(), 2);
    let first = world.place();
    let second = SocketAddr::from((SECOND, first.port()));
    assert_eq!(world.places(Service::Beacon), [first]);

    ip(&format!("address add {SECOND}/32 dev lo"));
    world.turn_until("the new address", |world| world.places(Service::Beacon).contains(&second));
    let (alice, bob) = (Node::new(first, NodeId(1)), Node::new(second, NodeId(2)));
    alice.relay(bob.id, b"over the new address");
    bob.expect(Message::Deliver { sender: alice.id, inner: b"over the new address" });

    ip(&format!("address delete {SECOND}/32 dev lo"));
    world.turn_until("the address's end", |world| !world.places(Service::Beacon).contains(&second));
    world.turn_until("a delivery that finds its address gone", |world| {
        alice.relay(bob.id, b"to an address that has gone");
        world.total().dropped(DropReason::NoLocalAddress) > 0
    });

    ip(&format!("address add {SECOND}/32 dev lo"));
    world.turn_until("the address's return", |world| world.places(Service::Beacon).contains(&second));
    let carol = Node::new(second, NodeId(3));
    alice.relay(carol.id, b"and again");
    carol.expect(Message::Deliver { sender: alice.id, inner: b"and again" });
    world.stop();
}
