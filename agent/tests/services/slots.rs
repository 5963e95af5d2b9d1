//! Streams of a service: how many there may be.

use agent::services::slots::Slots;
use wire::NodeId;

#[test]
fn one_peer_takes_no_more_than_its_share_and_others_find_room() {
    let mut slots = Slots::new(5, 3);
    let taken = |slots: &mut Slots, peer| (0..10).filter(|_| slots.take(NodeId(peer))).count();
    assert_eq!(taken(&mut slots, 1), 3);
    assert_eq!(taken(&mut slots, 2), 2, "all together are bounded too");
    assert_eq!(taken(&mut slots, 3), 0);
    slots.give_back(NodeId(2));
    assert_eq!(taken(&mut slots, 1), 0);
    assert_eq!(taken(&mut slots, 3), 1);
    for peer in [1, 1, 1, 2, 3] {
        slots.give_back(NodeId(peer));
    }
    assert_eq!(taken(&mut slots, 3), 3);
}
