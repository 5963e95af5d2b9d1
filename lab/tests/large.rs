//! Datagrams larger than the interface's MTU, as older clients send them, arrive in pieces and whole.

use std::time::Duration;

use lab::{Peer, World, evidence};

/// A 4096-byte segment, sealed and wrapped for the relay.
const DATAGRAM_BYTES: usize = 4171;
/// Type, sender and destination in front of the payload.
const RELAY_HEADER_BYTES: usize = 9;
const DATAGRAMS: u8 = 50;
const DELIVERED_WITHIN: Duration = Duration::from_secs(2);
/// What a datagram of this size takes at 1500 bytes a packet.
const PACKETS_PER_DATAGRAM: u64 = 3;

#[test]
fn a_relayed_datagram_of_4171_bytes_arrives() {
    let Some(world) = World::open() else { return };
    let _appliance = world.appliance();
    for (name, sender_v6, receiver_v6) in
        [("v4 to v4", false, false), ("v6 to v6", true, true), ("v4 to v6", false, true), ("v6 to v4", true, false)]
    {
        let sender = Peer::join_over(&world.host("sender"), &format!("sender {name}"), sender_v6);
        let receiver = Peer::join_over(&world.host("receiver"), &format!("receiver {name}"), receiver_v6);
        let before = world.relay_traffic();
        let arrived =
            (0..DATAGRAMS).filter(|&number| sender.reaches(&receiver, &payload(number), DELIVERED_WITHIN)).count();
        let carried = world.relay_traffic() - before;
        evidence(format!("{name}: {arrived} of {DATAGRAMS} datagrams in {} packets", carried.sent_packets));
        assert_eq!(arrived, usize::from(DATAGRAMS), "{name}");
        let expected_packets = PACKETS_PER_DATAGRAM * u64::from(DATAGRAMS);
        assert!(carried.sent_packets >= expected_packets, "{name}: {carried:?}: nothing was fragmented at this MTU");
    }
}

/// Every datagram differs from its neighbours in every byte.
fn payload(number: u8) -> Vec<u8> {
    (0..DATAGRAM_BYTES - RELAY_HEADER_BYTES).map(|position| (position % 251) as u8 ^ number).collect()
}
