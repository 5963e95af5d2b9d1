//! The relay's interface goes down and up, and its address is taken away and given back.

use std::time::Duration;

use lab::{Peer, RELAY_V4, RELAY_V6, RELAY_V6_SECOND, World, fault};

use crate::book::{Book, Pair};

const DOWN: Duration = Duration::from_secs(2);

#[test]
fn service_returns_with_the_interface_and_with_the_address() {
    let Some(world) = World::open() else { return };
    let appliance = world.appliance();
    let pair = Pair::join(&world);
    let over_v6 = Peer::join_over(&world.host("six"), "six", true);
    let mut book = Book::of(&world);
    book.write_many(5);
    let relay = world.relay_host();
    let relay = relay.namespace();

    relay.ip("link set eth0 down");
    assert!(!pair.one.reaches(&pair.other, b"into the void", DOWN), "it was not down at all");
    relay.ip("link set eth0 up");
    // The kernel keeps IPv4 addresses and forgets those of IPv6.
    for address in [RELAY_V6, RELAY_V6_SECOND] {
        relay.ip(&format!("addr add {address}/64 dev eth0 nodad"));
    }
    let recovery = pair.wait_speaking() + over_v6.wait_reaching(&pair.other, Duration::from_secs(30));
    let lost = book.lost();
    fault::row("interface down and up", "IPv4 and IPv6 served again", lost, recovery);
    assert_eq!(lost, 0);

    relay.ip(&format!("addr del {RELAY_V4}/24 dev eth0"));
    assert!(!pair.one.reaches(&pair.other, b"nobody there", DOWN), "the address was not gone at all");
    relay.ip(&format!("addr add {RELAY_V4}/24 dev eth0"));
    let recovery = pair.wait_speaking();
    book.write_many(2);
    let lost = book.lost();
    fault::row("address removed and added", "served again at the same address", lost, recovery);
    assert_eq!(lost, 0);
    assert!(appliance.is_healthy());
}
